"""Calibration error, Brier score and reliability bins, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from fewclip.evaluation import Evaluation
from fewclip.evaluation.reliability import brier_score, calibration_error, reliability


def test_a_case_worked_by_hand():
    bins = reliability(np.array([0.55, 0.6, 0.95, 1.0]), np.array([True, False, True, True]), n_bins=10)
    assert [bin.n for bin in bins] == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]  # 0.6 belongs to (0.5, 0.6]
    assert (bins[5].score, bins[5].accuracy) == (pytest.approx(0.575), 0.5)
    assert calibration_error(bins) == pytest.approx(0.5 * 0.075 + 0.5 * 0.025)


def test_the_error_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    scores, right = rng.uniform(0.2, 1, 500), rng.random(500) < 0.6
    total = 0.0
    for b in range(15):
        rows = [i for i in range(500) if b / 15 < scores[i] <= (b + 1) / 15]
        if rows:
            accuracy = sum(bool(right[i]) for i in rows) / len(rows)
            total += len(rows) / 500 * abs(accuracy - sum(scores[i] for i in rows) / len(rows))
    assert calibration_error(reliability(scores, right)) == pytest.approx(total)


def test_ends_of_the_scale_have_a_bin():
    bins = reliability(np.array([0.0, 1.0]), np.array([False, True]))
    assert (bins[0].n, bins[-1].n) == (1, 1)
    assert calibration_error(bins) == 0.0
    assert calibration_error(reliability(np.array([]), np.array([], dtype=bool))) == 0.0


def test_brier_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    probabilities, truth = rng.dirichlet(np.ones(7), 200), rng.integers(0, 7, 200)
    expected = brier_score_loss(truth, probabilities, labels=np.arange(7), scale_by_half=False)
    assert brier_score(probabilities, truth) == pytest.approx(expected)
    assert brier_score(np.eye(3), np.array([0, 1, 2])) == 0.0
    assert brier_score(np.eye(2), np.array([1, 0])) == 2.0


def test_an_evaluation_has_them():
    e = Evaluation.from_predictions(["a", "b"], [[0.8, 0.2], [0.8, 0.2]], ["a", "b"])
    assert e.ece == pytest.approx(0.3)
    assert e.brier == pytest.approx((2 * 0.2**2 + 2 * 0.8**2) / 2)
    assert (e.to_json()["ece"], e.to_json()["brier"]) == (e.ece, e.brier)
