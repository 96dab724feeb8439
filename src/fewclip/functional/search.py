"""The exact best weight of a cache: where each row is right, and the α at which most rows are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROUNDING = 1e-9  # relative; ends of plateaus closer than this are equal
_TILE = 2**22  # logits held in float64 at once (32 MiB a copy)


def spread(logits: Tensor) -> float:
    """Mean over rows of the standard deviation over classes: the size of a logit term."""
    if logits.numel() == 0:
        return 0.0
    rows = max(1, _TILE // logits.shape[1])
    return sum(t.double().std(1, correction=0).sum().item() for t in logits.split(rows)) / len(logits)


def winning_intervals(base_logits: Tensor, cache_logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The open interval of α in which each row is right under A + αB.

    Row i is right, strictly above every other class, exactly for lo_i < α < hi_i:
    lo_i = max over j with B_ij < B_iy, hi_i = min over j with B_ij > B_iy of −(A_ij − A_iy)/(B_ij − B_iy);
    where B_ij = B_iy, A_ij < A_iy must hold.

    Args:
        base_logits: A, (n, c).
        cache_logits: B, (n, c).
        labels: Class index y of each row, (n,), int64.

    Returns:
        (lo, hi), float64, (n,) each; (inf, −inf) for a row that is never right.
    """
    lows, highs = [], []
    rows = max(1, _TILE // max(1, base_logits.shape[1]))
    for a, b, y in zip(base_logits.split(rows), cache_logits.split(rows), labels.split(rows), strict=True):
        lo, hi = _intervals(a.double(), b.double(), y)
        lows.append(lo)
        highs.append(hi)
    return torch.cat(lows), torch.cat(highs)


def _intervals(a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    lead = a - a.gather(1, y[:, None])  # A_ij − A_iy
    gain = b.gather(1, y[:, None]) - b  # B_iy − B_ij
    crossing = lead / gain
    lo = crossing.masked_fill(gain <= 0, -math.inf).amax(1)
    hi = crossing.masked_fill(gain >= 0, math.inf).amin(1)
    blocked = (gain == 0) & (lead >= 0)
    blocked.scatter_(1, y[:, None], False)  # a row is not its own rival
    never = blocked.any(1) | (hi <= lo)
    return lo.masked_fill(never, math.inf), hi.masked_fill(never, -math.inf)


def best_of_intervals(lo: Tensor, hi: Tensor, *, unit_alpha: float, weights: Tensor | None = None) -> float:
    """The α ≥ 0 inside most of the open intervals (lo, hi).

    A best plateau that contains 0 gives 0. Else the widest in log α, its middle; one without an upper end
    ends at ``unit_alpha`` (strength 1), or gives twice its start if it starts beyond. Equal ones go to the
    smaller α.

    Args:
        lo: Lower ends, (n,), float64.
        hi: Upper ends, (n,).
        unit_alpha: The α at which cache and base logits have the same spread.
        weights: Weight of each row, (n,); None: 1.
    """
    weights = torch.ones_like(lo) if weights is None else weights.to(lo)
    usable = (hi > lo.clamp(min=0)) & (weights > 0)
    lo, hi, weights = lo[usable], hi[usable], weights[usable]
    ends = torch.unique(torch.cat([lo.clamp(min=0), hi, lo.new_zeros(1)]))
    ends = ends[torch.isfinite(ends)]  # segment k: ends[k] … ends[k + 1], the last without end
    counts = _weight_up_to(ends, lo, weights) - _weight_up_to(ends, hi, weights)
    best = counts.max() - 1e-9 * weights.sum()
    if weights[lo < 0].sum() >= best:
        return 0.0
    starts = ends[counts >= best].tolist()
    stops = torch.cat([ends[1:], ends.new_full((1,), math.inf)])[counts >= best].tolist()
    plateaus = [_plateau(a, b, unit_alpha) for a, b in zip(starts, stops, strict=True)]
    return -max((round(width, 9), -alpha) for width, alpha in plateaus)[1]


def _weight_up_to(points: Tensor, ends: Tensor, weights: Tensor) -> Tensor:
    """Total weight of the intervals whose end is ≤ each point."""
    order = torch.argsort(ends)
    total = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)])
    return total[torch.searchsorted(ends[order].contiguous(), points, right=True)]


def _plateau(start: float, stop: float, unit_alpha: float) -> tuple[float, float]:
    """(width in log α, α strictly inside) of an open plateau."""
    if math.isinf(stop):
        if start >= unit_alpha * (1 - _ROUNDING):
            return (math.log(2), 2 * start) if start else (math.inf, 1.0)
        stop = unit_alpha
    if start == 0:
        return math.inf, stop / 2
    middle = math.sqrt(start) * math.sqrt(stop)
    return math.log(stop / start), middle if start < middle < stop else start + (stop - start) / 2


def best_alpha(base_logits: Tensor, cache_logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """The α ≥ 0 at which A + αB classifies most rows correctly: exact, by sorting where rows turn.

    Args:
        base_logits: A, (n, c).
        cache_logits: B, (n, c).
        labels: Class index of each row, (n,), int64.

    Returns:
        (alpha, n_correct): the plateau's middle, see ``best_of_intervals``, and how many rows are strictly
        right there; (0.0, 0) if none ever is. Decided in float64, in O(n c + n log n).
    """
    lo, hi = winning_intervals(base_logits, cache_logits, labels)
    size = spread(cache_logits)
    alpha = best_of_intervals(lo, hi, unit_alpha=spread(base_logits) / size if size else 0.0)
    return alpha, int(((lo < alpha) & (alpha < hi)).sum())
