"""Prediction sets: split conformal scores of probabilities, their quantile, and the sets that it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = 0.6180339887498949
_DIGITS = 2.0**12  # of a row's content that its random number depends on


@dataclass(frozen=True)
class Regularised:
    """RAPS: s = Σ_{p_j > p_y} p_j + u·p_y + λ·max(0, rank_y − k).

    Attributes:
        penalty: λ ≥ 0 for every class beyond the k most probable; 0: APS.
        free: k ≥ 0.

    Reference: Angelopoulos et al. 2021, arXiv:2009.14193, equation 4.
    """

    penalty: float = 0.01
    free: int = 5

    def score(self, own: Tensor, above: Tensor, rank: Tensor, u: Tensor) -> Tensor:
        """s of labels with probability ``own``, ``above`` the sum of larger ones, ``rank`` from 1."""
        return above + u * own + self.penalty * (rank - self.free).clamp(min=0)


def places(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the larger probabilities, and rank from 1, of every label of every row, (n, c) each."""
    ordered, order = torch.sort(probabilities, dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered
    rank = torch.arange(1, probabilities.shape[1] + 1, device=order.device).expand_as(order)
    above = torch.empty_like(probabilities).scatter_(1, order, before)
    return above, torch.empty_like(order).scatter_(1, order, rank)


def row_numbers(logits: Tensor) -> Tensor:
    """A number in [0, 1) for each row, (n,), as good as random, that its content alone decides."""
    steps = torch.arange(1, logits.shape[1] + 1, dtype=torch.float64, device=logits.device)
    mixed = ((logits.double() * _DIGITS).round() * ((steps * _GOLDEN) % 1.0)).sum(1)
    return (mixed * _GOLDEN * 9973).remainder(1.0)


def labels_needed(coverage: float) -> int:
    """Smallest n for which ⌈(n + 1)·coverage⌉ ≤ n: fewer labels cannot promise it (95 %: 19)."""
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def conformal_quantile(scores: Tensor, coverage: float) -> float:
    """The ⌈(n + 1)·coverage⌉-th smallest of n scores; infinity if there are too few.

    A new score of the same distribution is at most that large with probability ≥ coverage, and ≤ coverage +
    1/(n + 1) where no two are alike.

    Reference: Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173, section 2.
    """
    k = math.ceil(round((len(scores) + 1) * coverage, 9))
    return float(scores.sort().values[k - 1]) if k <= len(scores) else math.inf
