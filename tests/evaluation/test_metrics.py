"""Metrics: against scikit-learn, against cases worked by hand, and their error messages."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from fewclip.errors import FeatureError, LabelError
from fewclip.evaluation import Evaluation

CLASSES = ["ant", "bee", "cat"]
LABELS = ["ant", "ant", "ant", "bee", "bee"]
# Predicted: ant, bee, bee, bee, cat.
PROBABILITIES = [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.9, 0.0], [0.0, 0.6, 0.4], [0.25, 0.25, 0.5]]


@pytest.fixture
def small() -> Evaluation:
    return Evaluation.from_predictions(LABELS, PROBABILITIES, CLASSES)


def random_evaluation(n: int, c: int, seed: int = 0) -> Evaluation:
    rng = np.random.default_rng(seed)
    classes = np.array([f"class {k:03}" for k in range(c)])
    labels = classes[rng.integers(0, c, n)]
    return Evaluation.from_predictions(labels, rng.dirichlet(np.ones(c), n), classes)


def test_a_case_worked_by_hand(small):
    assert small.predictions.tolist() == ["ant", "bee", "bee", "bee", "cat"]
    assert small.scores.tolist() == pytest.approx([0.8, 0.5, 0.9, 0.6, 0.5])
    assert small.accuracy == pytest.approx(2 / 5)
    assert small.balanced_accuracy == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert small.top5 == 1.0
    assert small.nll == pytest.approx(-np.log([0.8, 0.2, 0.1, 0.6, 0.25]).mean())
    assert small.confusion.tolist() == [[1, 2, 0], [0, 1, 1], [0, 0, 0]]
    assert small.most_confused() == [("ant", "bee", 2), ("bee", "cat", 1)]
    assert small.most_confused(1) == [("ant", "bee", 2)]
    assert small.interval == pytest.approx((0.1176, 0.7693), abs=1e-4)


def test_the_table_says_none_where_there_is_nothing_to_say(small):
    ant, bee, cat = small.table
    assert ant == {
        "class": "ant",
        "images": 3,
        "right": 1,
        "recall": pytest.approx(1 / 3),
        "precision": 1.0,
        "most_confused_with": "bee",
    }
    assert (bee["recall"], bee["precision"]) == (0.5, pytest.approx(1 / 3))
    assert (cat["images"], cat["recall"], cat["precision"], cat["most_confused_with"]) == (0, None, 0.0, None)
    never = Evaluation.from_predictions(["a"], [[0.1, 0.9]], ["a", "b"])
    assert never.table[0]["precision"] is None
    assert [row["class"] for row in small.worst_first()] == ["ant", "bee", "cat"]


@given(st.integers(1, 60), st.integers(6, 12), st.integers(0, 5))
def test_metrics_agree_with_scikit_learn(n, c, seed):
    evaluation = random_evaluation(n, c, seed)
    present, labels = np.unique(evaluation.labels, return_inverse=True)
    assert evaluation.accuracy == pytest.approx((evaluation.predictions == evaluation.labels).mean())
    assert evaluation.nll == pytest.approx(
        log_loss(evaluation.labels, evaluation.probabilities, labels=evaluation.classes)
    )
    top5 = top_k_accuracy_score(evaluation.labels, evaluation.probabilities, k=5, labels=evaluation.classes)
    assert evaluation.top5 == pytest.approx(top5)
    if len(present) > 1 and np.isin(evaluation.predictions, present).all():  # else scikit-learn warns
        predicted = np.searchsorted(present, evaluation.predictions)
        assert evaluation.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert evaluation.confusion.sum() == n
    assert sum(row["right"] for row in evaluation.table) == np.trace(evaluation.confusion)


def test_numbers_may_be_labels_and_float32_rows_are_fine():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(30), 30).astype(np.float32)
    evaluation = Evaluation.from_predictions(np.arange(30), probabilities, np.arange(30))
    assert evaluation.nll > 0
    assert json.loads(json.dumps(evaluation.to_json()))["classes"] == list(range(30))


def test_what_calibration_did_is_known_where_the_bare_scores_are(small):
    sure = [[0.98, 0.01, 0.01], [0.0, 0.9, 0.1], [0.0, 1.0, 0.0], [0.0, 0.9, 0.1], [0.0, 0.1, 0.9]]
    both = Evaluation.from_predictions(LABELS, PROBABILITIES, CLASSES, bare=sure)
    assert small.ece_before is None
    assert small.to_json()["ece_before_calibration"] is None
    assert both.ece == small.ece
    assert both.ece_before == Evaluation.from_predictions(LABELS, sure, CLASSES).ece
    assert sum(bin.n for bin in both.reliability_before) == 5
    with pytest.raises(FeatureError, match="probabilities"):
        Evaluation.from_predictions(LABELS, PROBABILITIES, CLASSES, bare=[[1.0, 0.0, 0.0]])


def test_one_class_is_certain():
    evaluation = Evaluation.from_predictions(["a", "a"], [[1.0], [1.0]], ["a"])
    assert (evaluation.accuracy, evaluation.nll, evaluation.top5) == (1.0, 0.0, 1.0)
    assert evaluation.confusion.tolist() == [[2]]


def test_json_holds_everything_but_single_predictions(small):
    found = json.loads(json.dumps(small.to_json(), allow_nan=False))
    assert found["images"] == 5
    assert found["accuracy"] == small.accuracy
    assert found["interval"] == list(small.interval)
    assert found["most_confused"][0] == ["ant", "bee", 2]
    assert found["table"] == small.table


def test_the_text_is_short_and_starts_with_the_worst(small):
    lines = str(small).splitlines()
    assert lines[0] == "Accuracy 40.0 % (95 % interval 11.8 to 76.9 %) on 5 images of 3 classes."
    assert lines[1] == "Balanced accuracy 41.7 %, negative log-likelihood 1.21."
    assert [line.split()[0] for line in lines[4:7]] == ["ant", "bee", "cat"]
    many = str(random_evaluation(200, 100)).splitlines()
    assert len(many) <= 20
    assert many[-1] == "… and 86 more classes in .table"


def test_class_names_cannot_break_text_or_html():
    names = sorted(["<b>x</b>", "two\nlines", "a" * 200])
    evaluation = Evaluation.from_predictions(names, np.eye(3), names)
    assert len(str(evaluation).splitlines()) == 7
    assert max(map(len, str(evaluation).splitlines())) < 120
    page = evaluation._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["ant", "dog"], CLASSES, "labels: 'dog': expected one of the 3 classes"),
        ([1, 2], CLASSES, "outside them"),
        ([], CLASSES, "at least one labelled image"),
        (["ant"], ["bee", "ant"], "sorted distinct labels"),
        (["ant"], ["ant", "ant"], "sorted distinct labels"),
    ],
)
def test_labels_that_do_not_fit(labels, classes, message):
    probabilities = np.full((len(labels), len(classes)), 1 / len(classes))
    with pytest.raises(LabelError, match=message):
        Evaluation.from_predictions(labels, probabilities, classes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5, 0.5], "NaN or infinity in row 1"),
        ([3.0, -1.0, -1.0], "no probabilities"),
        ([0.9, 0.9, 0.9], "no probabilities"),
    ],
)
def test_probabilities_that_are_none(row, message):
    with pytest.raises(FeatureError, match=message):
        Evaluation.from_predictions(["ant", "bee"], [[1, 0, 0], row], CLASSES)


def test_shapes_that_do_not_fit():
    with pytest.raises(FeatureError, match=r"shape \(1, 3\), got shape \(1, 2\)"):
        Evaluation.from_predictions(["ant"], [[0.5, 0.5]], CLASSES)
    with pytest.raises(LabelError, match="one for each of the 1 labels"):
        Evaluation.from_predictions(["ant"], [[1, 0, 0]], CLASSES, names=["a.jpg", "b.jpg"])
    named = Evaluation.from_predictions(["ant"], [[1, 0, 0]], CLASSES, names=["a.jpg"])
    assert named.names == ("a.jpg",)
