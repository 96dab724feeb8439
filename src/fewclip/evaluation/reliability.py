"""Whether probabilities can be believed: reliability of scores, expected calibration error, Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Predictions whose score lies in (low, high].

    Attributes:
        low, high: Its ends, 0–1.
        n: Number of predictions; 0 for an empty bin.
        score: Their mean score; the middle of an empty bin.
        accuracy: Share of them that is right; NaN for an empty bin.
    """

    low: float
    high: float
    n: int
    score: float
    accuracy: float


def reliability(scores: np.ndarray, right: np.ndarray, n_bins: int = N_BINS) -> list[Bin]:
    """Predictions by their score, in bins of equal width.

    Args:
        scores: Probability of the predicted class, (n,), 0–1.
        right: Whether the prediction is right, (n,) bool.
        n_bins: B, at least 1.

    Reference: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    edges = np.linspace(0, 1, n_bins + 1)
    places = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, n_bins - 1)
    out = []
    for b in range(n_bins):
        inside = places == b
        n = int(inside.sum())
        score = float(scores[inside].mean()) if n else float(edges[b] + edges[b + 1]) / 2
        accuracy = float(right[inside].mean()) if n else float("nan")
        out.append(Bin(float(edges[b]), float(edges[b + 1]), n, score, accuracy))
    return out


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error, Σ_b n_b/n |accuracy_b − score_b|, 0–1; 0 is perfect.

    Reference: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    n = sum(bin.n for bin in bins)
    return sum(bin.n * abs(bin.accuracy - bin.score) for bin in bins if bin.n) / n if n else 0.0


def brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean over images of Σ_c (p_c − [c is the truth])², 0–2; 0 is perfect.

    Args:
        probabilities: (n, c).
        truth: Class index of each image, (n,).
    """
    own = probabilities[np.arange(len(truth)), truth]
    return float(((probabilities**2).sum(1) - 2 * own + 1).mean())
