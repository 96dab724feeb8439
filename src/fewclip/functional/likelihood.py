"""The log-likelihood of logits, the scale at which it is largest, and rows that are all as sure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Bounds of the factor on the first term. Where every row is right the likelihood grows with the scale for
# ever; where nothing is right it wants the scale 0.
SCALES = (1 / 32, 8.0)
_TILE = 2**20  # logits of a tile (float32: 4 MiB, a cache's size)
_STEPS = 30
_TOLERANCE = 1e-8  # nats a row that another step could still gain
_NEAR = 1e-5  # relative; a smaller step is rounding


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each row's class, log softmax(z)_y, (n,)."""
    rows = max(1, _TILE // max(1, logits.shape[1]))
    parts = [
        z.gather(1, y[:, None])[:, 0] - torch.logsumexp(z, dim=1)
        for z, y in zip(logits.split(rows), labels.split(rows), strict=True)
    ]
    return torch.cat(parts)


def evened_rows(logits: Tensor, *, spread: float, power: float = 1.0) -> Tensor:
    """Rows of mean 0 that all have about the standard deviation ``spread``, (n, c).

    How sure a row is, compared with others, has no part in which of its classes wins; a likelihood with one
    temperature for all rows pays for it all the same. Of the c − 1 numbers of a centred row one is its size;
    it goes in the power 1 − 1/(c − 1). Two classes have nothing but that size: such rows stay as they are.

    Args:
        logits: (n, c).
        spread: > 0. Rows with less than a thousandth of it are not blown up beyond it.
        power: 0–1; below 1, rows keep a part of their differences.
    """
    logits, n_classes = centred(logits), logits.shape[1]
    if n_classes < 3:
        return logits
    size = logits.std(1, correction=0, keepdim=True).clamp(min=1e-3 * spread)
    return logits * (spread / size) ** (power * (1 - 1 / (n_classes - 1)))


def best_scale(logits: Tensor, labels: Tensor, weights: Tensor, *, start: float = 1.0) -> float:
    """The factor u on logits z with the largest log-likelihood Σ w log softmax(u z)_y, within ``SCALES``.

    1/u is the temperature. The likelihood is concave in u: Newton's method on
    its slope, between points whose slopes point at each other, in a few passes.

    Args:
        logits: z, (n, c).
        labels: Class index of each row, (n,), int64.
        weights: Weight of each row, (n,).
        start: Where to begin.
    """
    logits = centred(logits)
    (low, high), total = SCALES, float(weights.double().sum())
    u = min(max(start, low), high)
    for _ in range(_STEPS):
        slope, curvature = slopes_along(logits, labels, weights, u)
        low, high = (u, high) if slope > 0 else (low, u)
        target = u + slope / curvature if curvature > 0 else math.copysign(math.inf, slope)
        if not low < target < high:  # a bound that nobody has seen, or between two that point at each other
            edge = high if slope > 0 else low
            target = edge if edge in SCALES else math.sqrt(low * high)
        if (target - u) * slope <= 2 * _TOLERANCE * total or abs(target - u) <= _NEAR * u:
            break
        u = target
    return u


def centred(logits: Tensor) -> Tensor:
    """Rows of mean 0: an offset means nothing to a softmax, but would drown the variances in rounding."""
    return logits - logits.mean(1, keepdim=True)


def slopes_along(logits: Tensor, labels: Tensor, weights: Tensor, u: float) -> tuple[float, float]:
    """The derivative of the log-likelihood in u, and minus its second one."""
    rows = max(1, _TILE // max(1, logits.shape[1]))
    total = torch.zeros(2, dtype=torch.float64, device=logits.device)
    for z, y, w in zip(logits.split(rows), labels.split(rows), weights.split(rows), strict=True):
        scaled = u * z
        own, log_sum = z.gather(1, y[:, None])[:, 0], torch.logsumexp(scaled, dim=1)
        p = torch.exp(scaled - log_sum[:, None])
        pz = p * z
        mean = pz.sum(1)
        variance = (pz * z).sum(1) - mean**2
        terms = torch.stack([own - mean, variance.clamp(min=0)])
        total += (terms.double() * w.double()).sum(1)
    slope, curvature = total.tolist()
    return slope, curvature
