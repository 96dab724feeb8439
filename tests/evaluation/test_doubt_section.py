"""The report's section on answers and sets."""

from __future__ import annotations

import numpy as np
from reference.tasks import make_task

from fewclip.evaluation import Evaluation
from fewclip.evaluation.plot import describe_risk
from fewclip.evaluation.sections import doubt_section
from fewclip.methods import TipAdapter


def test_figures_by_hand():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    evaluation = Evaluation.from_predictions(["a", "b", "a", "a"], p, ["a", "b"])
    section = doubt_section(evaluation, p >= 0.42, "as good as they are")
    figures = {name: value for name, value, _ in section.view["figures"]}
    assert figures["answered with 5 % wrong"].startswith("75")
    assert figures["classes in a 90 % set"] == "1.2"  # 5 classes in 4 sets
    assert figures["sets with the truth"].startswith("100")
    assert "as good as they are" in section.hint
    assert "<svg" in section.view["wide"]
    assert len(doubt_section(evaluation).view["figures"]) == 1


def test_risk_in_words():
    words = describe_risk(np.array([0.25, 0.5, 0.75, 1.0]), np.array([0.0, 0.0, 0.0, 0.25]))
    assert "surest 75% 0.0% are wrong" in words
    assert "surest 100% 25.0% are wrong" in words


def test_sets_of_probabilities_are_those_of_features():
    task = make_task((6,) * 4)
    clf = TipAdapter(task.T, selection="none").fit(task.X, task.y)
    np.testing.assert_array_equal(clf.sets_of(clf.predict_proba(task.Xq), 0.8), clf.predict_set(task.Xq, 0.8))
