"""Choosing settings without the test set, and estimating accuracy without spending labels.

Protocols: ``none`` (fixed defaults), ``loo`` (leave-one-out over the support images), ``fewshot`` (at most
four validation labels a class), ``full`` (all validation labels). This module knows no method: it is handed
the pieces of logits, A and B(setting), of rows whose labels are known, and chooses setting and α of A + αB.

Two rules. ``full`` maximises accuracy exactly over all α. The others have few labels, where accuracy is
coarse and trusts the cache too much: they maximise the log-likelihood and then step back to the weakest
strength within one standard error. Temperatures are fitted along, so that
a strength neither wins for making logits large nor for making over-confident text less sure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from fewclip.functional import best_of_intervals, spread, winning_intervals

Setting = Mapping[str, float]
Protocol = Literal["none", "loo", "fewshot", "full"]
PROTOCOLS: tuple[str, ...] = ("auto", "none", "loo", "fewshot", "full")

# Strengths tried by the likelihood rule: 0, then 0.01 … 20.5 by factors of 2.
STRENGTHS: tuple[float, ...] = (0.0, *(0.01 * 2**i for i in range(12)))
# Temperatures at which A + αB is judged, the best for each strength: without them, a strength would win for
# making logits large where every image is right anyway.
TEMPERATURES: tuple[float, ...] = (0.25, 0.5, 1.0)
# And those of strength 0. Above 1, too: else a useless cache wins for making over-confident text less sure.
ZERO_SHOT_TEMPERATURES: tuple[float, ...] = tuple(0.25 * 2 ** (i / 2) for i in range(13))
_TILE = 2**22  # logits held at once (float32: 16 MiB)
MAX_FOLDS = 5  # of the cross-fitted estimate
FEWSHOT_LABELS = 4  # validation labels a class that ``fewshot`` spends at most


@dataclass(frozen=True)
class Estimate:
    """An accuracy with its 95 % Wilson interval, beside zero-shot on the same rows; all in 0–1."""

    accuracy: float
    low: float
    high: float
    zero_shot: float
    n_images: int
    kind: str  # "leave-one-out estimate", "validation estimate" or "estimate on the labelled images"


@dataclass(frozen=True)
class SelectionResult:
    """What was tried, what was chosen, and what it cost.

    Attributes:
        protocol: How the choice was made.
        settings: The chosen setting, ``alpha`` included.
        strength: Spread of αB over that of A at the choice; None if nothing was measured.
        labels_used: Labels that the choice has seen beyond the fit itself (0 for ``none`` and ``loo``).
        seconds: Time of the search.
        estimate: Cross-fitted accuracy; None if nothing could be judged.
        note: One sentence for the user: what the choice rests on.
        table: One row a setting: the setting, its best ``alpha``, ``strength``, ``score`` (mean
            log-likelihood at the nearest strength tried), ``accuracy``.
    """

    protocol: Protocol
    settings: dict[str, float]
    strength: float | None = None
    labels_used: int = 0
    seconds: float = 0.0
    estimate: Estimate | None = None
    note: str = ""
    table: list[dict[str, Any]] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Judge:
    """Rows that a protocol judges, and the pieces of their logits.

    Attributes:
        base_logits: A, (n, c).
        cache_logits: Gives B, (n, c), of a setting.
        labels: Class index of each row, (n,).
        images: Which image each row is a view of, (n,); views of one image count as one observation.
        weights: Weight of each row, (n,).
    """

    base_logits: Tensor
    cache_logits: Callable[[Setting], Tensor]
    labels: Tensor
    images: Tensor
    weights: Tensor

    def per_image(self, values: Tensor) -> Tensor:
        """Values of rows (n, s), weighted and summed over the rows of each image, (m, s), in float64."""
        sums = values.new_zeros(int(self.images.max()) + 1, values.shape[1], dtype=torch.float64)
        return sums.index_add_(0, self.images, values.double() * self.weights.double()[:, None])

    def folds(self) -> Tensor:
        """Fold of each image, (m,): the images of a class are dealt out in turn; −1 for one without rows."""
        fold = torch.full((int(self.images.max()) + 1,), -1, device=self.images.device)
        owners = [self.images[self.labels == label].unique() for label in self.labels.unique()]
        n_folds = max(2, min(MAX_FOLDS, max(len(images) for images in owners)))
        for images in owners:
            fold[images] = torch.arange(len(images), device=fold.device) % n_folds
        return fold


@dataclass(frozen=True)
class _Tried:
    """Outcome of one setting.

    ``likelihood`` is the log-likelihood at each of ``alphas``, weighted and summed over the rows of each
    image, (m, s). Row i is right for α in (lo_i, hi_i).
    """

    setting: Setting
    unit_alpha: float  # α of strength 1
    alphas: Tensor  # (s,)
    likelihood: Tensor
    lo: Tensor
    hi: Tensor

    def correct(self, alpha: float) -> Tensor:
        return (self.lo < alpha) & (alpha < self.hi)

    def strength(self, alpha: float) -> float:
        return alpha / self.unit_alpha if self.unit_alpha else 0.0


def _try(judge: Judge, setting: Setting, alpha: float | None, at_zero: Tensor) -> _Tried:
    """Judges one setting; ``at_zero`` takes the place of the likelihood at strength 0, (m,)."""
    a, b = judge.base_logits, judge.cache_logits(setting)
    size = spread(b)
    flat = size <= 1e-6 * float(b.abs().mean())  # rounding dust is no evidence
    unit_alpha = 0.0 if flat else spread(a) / size
    values = [alpha] if alpha is not None else [s * unit_alpha for s in STRENGTHS]
    alphas = torch.tensor(values, dtype=torch.float64)
    if alpha is None:
        likelihood = _at_best_temperature(judge, [(a / t, b / t) for t in TEMPERATURES], alphas)
        likelihood[:, 0] = at_zero
    else:
        likelihood = _at_best_temperature(judge, [(a, b)], alphas)
    return _Tried(setting, unit_alpha, alphas, likelihood, *winning_intervals(a, b, judge.labels))


def _at_best_temperature(judge: Judge, scaled: Sequence[tuple[Tensor, Tensor]], alphas: Tensor) -> Tensor:
    """Log-likelihood by image and α, (m, s), each α at the temperature with the largest sum."""
    tables = torch.stack(
        [judge.per_image(_log_likelihood(a, b, judge.labels, alphas.to(a))) for a, b in scaled]
    )  # (temperatures, m, s)
    best = tables.sum(1).argmax(0)  # (s,)
    return tables.gather(0, best.expand(1, tables.shape[1], -1))[0]


def _zero_shot_likelihood(judge: Judge) -> Tensor:
    """Log-likelihood of A at its best temperature, weighted and summed by image, (m,)."""
    a = judge.base_logits
    scaled = [(a / t, torch.zeros_like(a)) for t in ZERO_SHOT_TEMPERATURES]
    return _at_best_temperature(judge, scaled, torch.zeros(1))[:, 0]


def _log_likelihood(a: Tensor, b: Tensor, labels: Tensor, alphas: Tensor) -> Tensor:
    """log softmax(A + αB) of the true class, (n, s)."""
    own = labels[:, None]
    true = a.gather(1, own) + b.gather(1, own) * alphas
    # Few large operations: all α of a tile at once.
    tile = max(1, _TILE // max(1, a.shape[1] * len(alphas)))
    total = [
        torch.logsumexp(x[:, None] + y[:, None] * alphas[:, None], dim=2)  # (tile, s, c) → (tile, s)
        for x, y in zip(a.split(tile), b.split(tile), strict=True)
    ]
    return true - torch.cat(total)


def _pick_by_likelihood(tried: Sequence[_Tried], weights: Tensor, keep: Tensor) -> tuple[int, float]:
    """The weakest strength within one standard error of the best log-likelihood, and its best setting.

    Args:
        tried: The settings.
        weights: Weight of each image, (m,).
        keep: Which images count, (m,), bool.
    """
    table = torch.stack([t.likelihood for t in tried], dim=1)[keep]  # (m, settings, s)
    weights = weights[keep, None, None]
    mean = table.sum(0) / weights.sum()
    top = int(mean.argmax())
    # Paired differences to the best, image by image; their sum has the standard error of the mean gap.
    gap = table.flatten(1)[:, top, None, None] - table
    error = (gap - weights * (mean.flatten()[top] - mean)).square().sum(0).sqrt() / weights.sum()
    good = mean >= mean.flatten()[top] - error - 1e-12
    strength = int(good.any(0).int().argmax())
    setting = int(mean[:, strength].masked_fill(~good[:, strength], -math.inf).argmax())
    return setting, float(tried[setting].alphas[strength])


def _best_by_accuracy(tried: _Tried, weights: Tensor, alpha: float | None) -> float:
    """The fixed α, or the one at which most rows are right."""
    if alpha is not None:
        return alpha
    return best_of_intervals(tried.lo, tried.hi, unit_alpha=tried.unit_alpha, weights=weights)


def _pick_by_accuracy(tried: Sequence[_Tried], weights: Tensor, alpha: float | None) -> tuple[int, float]:
    """Most rows right over all settings and all α ≥ 0; ties go to the weaker strength."""
    best = [_best_by_accuracy(t, weights, alpha) for t in tried]
    right = [round(float(weights[t.correct(x)].sum()), 9) for t, x in zip(tried, best, strict=True)]
    k = max(range(len(tried)), key=lambda k: (right[k], -tried[k].strength(best[k])))
    return k, best[k]


def search(
    judge: Judge,
    settings: Sequence[Setting],
    *,
    protocol: Protocol,
    alpha: float | None = None,
    labels_used: int = 0,
    note: str = "",
) -> SelectionResult:
    """Chooses a setting and α of A + αB on the judged rows.

    Args:
        judge: The rows, and the pieces of their logits.
        settings: The settings to try, at least one.
        protocol: ``full`` maximises accuracy exactly, the others use the likelihood rule.
        alpha: A fixed α; None: chosen too.
        labels_used: Passed through to the result.
        note: Passed through to the result.
    """
    start = time.perf_counter()
    at_zero = _zero_shot_likelihood(judge)
    tried = [_try(judge, setting, alpha, at_zero) for setting in settings]
    image_weights = judge.per_image(torch.ones_like(judge.weights)[:, None])[:, 0]

    def pick(keep: Tensor) -> tuple[int, float]:
        if protocol == "full":
            return _pick_by_accuracy(tried, judge.weights * keep[judge.images], alpha)
        return _pick_by_likelihood(tried, image_weights, keep)

    def best_of(t: _Tried) -> float:
        if protocol == "full":
            return _best_by_accuracy(t, judge.weights, alpha)
        return float(t.alphas[t.likelihood.sum(0).argmax()])

    chosen, best = pick(image_weights > 0)
    winner = tried[chosen]
    kind = "leave-one-out estimate" if protocol == "loo" else "validation estimate"
    return SelectionResult(
        protocol=protocol,
        settings={**winner.setting, "alpha": best},
        strength=winner.strength(best),
        labels_used=labels_used,
        estimate=_cross_fit(judge, tried, pick, kind),
        note=note,
        table=[_row(t, judge.weights, best_of(t)) for t in tried],
        seconds=time.perf_counter() - start,
    )


def _row(tried: _Tried, weights: Tensor, alpha: float) -> dict[str, Any]:
    nearest = int((tried.alphas - alpha).abs().argmin())
    return {
        **tried.setting,
        "alpha": alpha,
        "strength": tried.strength(alpha),
        "score": float(tried.likelihood[:, nearest].sum() / weights.sum()),
        "accuracy": float(weights[tried.correct(alpha)].sum() / weights.sum()),
    }


def _cross_fit(
    judge: Judge, tried: Sequence[_Tried], pick: Callable[[Tensor], tuple[int, float]], kind: str
) -> Estimate | None:
    """Accuracy with every image judged under the setting that the other folds choose."""
    folds = judge.folds()
    right = torch.zeros_like(judge.weights, dtype=torch.bool)
    for fold in range(int(folds.max()) + 1):
        others = (folds != fold) & (folds >= 0)
        if not bool(others.any()):
            return None
        chosen, alpha = pick(others)
        rows = folds[judge.images] == fold
        right[rows] = tried[chosen].correct(alpha)[rows]
    return estimate_accuracy(right, tried[0].correct(0.0), judge.weights, judge.images, kind)


def estimate_accuracy(
    right: Tensor, zero_shot_right: Tensor, weights: Tensor, images: Tensor, kind: str
) -> Estimate:
    """Weighted accuracy with a 95 % Wilson interval on the effective number of images."""
    per_image = torch.zeros(int(images.max()) + 1, dtype=weights.dtype, device=weights.device)
    per_image = per_image.index_add(0, images, weights)
    n_effective = float(per_image.sum() ** 2 / per_image.square().sum())
    accuracy = float(weights[right].sum() / weights.sum())
    low, high = wilson_interval(accuracy, n_effective)
    zero_shot = float(weights[zero_shot_right].sum() / weights.sum())
    return Estimate(accuracy, low, high, zero_shot, len(images.unique()), kind)


def wilson_interval(accuracy: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share of n observations (Wilson 1927), within [0, 1]."""
    centre = accuracy + z * z / (2 * n)
    half = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))
