"""The metrics of a cell against scikit-learn, naive formulas and hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference

from fewclip.evaluation import Evaluation
from fewclip.evaluation.bench.scores import figures


def random_evaluation(n: int, c: int, seed: int) -> tuple[np.ndarray, np.ndarray, Evaluation]:
    """Class indices, probabilities, and the evaluation of them; every class has an image."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, c)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
    classes = np.array([f"class {k:02d}" for k in range(c)])
    return truth, probabilities, Evaluation.from_predictions(classes[truth], probabilities, classes)


def naive_ece(truth: np.ndarray, probabilities: np.ndarray, n_bins: int = 15) -> float:
    total = 0.0
    for b in range(n_bins):
        rows = [i for i, p in enumerate(probabilities) if b / n_bins < max(p) <= (b + 1) / n_bins]
        if rows:
            accuracy = np.mean([probabilities[i].argmax() == truth[i] for i in rows])
            confidence = np.mean([probabilities[i].max() for i in rows])
            total += len(rows) / len(truth) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize(("n", "c", "seed"), [(40, 3, 1), (200, 7, 2), (33, 20, 3)])
def test_against_independent_references(n, c, seed):
    truth, probabilities, evaluation = random_evaluation(n, c, seed)
    found, predicted, labels = figures(evaluation), probabilities.argmax(1), np.arange(c)
    assert found["acc1"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert found["mean_per_class_recall"] == pytest.approx(
        reference.balanced_accuracy_score(truth, predicted)
    )
    assert found["nll"] == pytest.approx(reference.log_loss(truth, probabilities, labels=labels))
    brier = ((probabilities - np.eye(c)[truth]) ** 2).sum(1).mean()
    assert found["brier"] == pytest.approx(brier)
    assert found["ece"] == pytest.approx(naive_ece(truth, probabilities))
    top = reference.top_k_accuracy_score(truth, probabilities, k=5, labels=labels) if c > 5 else None
    assert found["acc5"] == (None if top is None else pytest.approx(top))


def test_by_hand():
    # Scores 0.9 (right) and 0.6 (wrong) lie in different bins: (|1 − 0.9| + |0 − 0.6|)/2.
    found = figures(Evaluation.from_predictions(["a", "a"], [[0.9, 0.1], [0.4, 0.6]], ["a", "b"]))
    assert found["ece"] == pytest.approx(0.35)
    assert found["brier"] == pytest.approx(0.1**2 + 0.6**2)
    assert found["nll"] == pytest.approx(-(np.log(0.9) + np.log(0.4)) / 2)
    assert (found["acc1"], found["acc5"], found["mean_per_class_recall"]) == (0.5, None, 0.5)
