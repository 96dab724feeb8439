"""The log-likelihood of a mix of two terms of logits, and the mix at which it is largest."""

from __future__ import annotations

import torch
from torch import Tensor

# Bounds of the factor on the first term. Where every row is right the likelihood grows with the scale for
# ever; where nothing is right it wants the scale 0.
SCALES = (1 / 32, 8.0)
_TILE = 2**20  # logits of a tile (float32: 4 MiB, a cache's size)
_STEPS = 30
_TOLERANCE = 1e-8  # nats a row that another step could still gain


def log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each row's class, log softmax(z)_y, (n,)."""
    rows = max(1, _TILE // max(1, logits.shape[1]))
    parts = [
        z.gather(1, y[:, None])[:, 0] - torch.logsumexp(z, dim=1)
        for z, y in zip(logits.split(rows), labels.split(rows), strict=True)
    ]
    return torch.cat(parts)


def best_scale(logits: Tensor, labels: Tensor, weights: Tensor, *, start: float = 1.0) -> float:
    """The factor u on logits z with the largest log-likelihood Σ w log softmax(u z)_y, within ``SCALES``.

    1/u is the temperature. The likelihood is concave in u: Newton's method, in a few passes.

    Args:
        logits: z, (n, c).
        labels: Class index of each row, (n,), int64.
        weights: Weight of each row, (n,).
        start: Where to begin.
    """
    logits = _centred(logits)
    low, high = SCALES
    total, u = float(weights.double().sum()), min(max(start, low), high)
    value, slope, curvature = _along(logits, labels, weights, u)
    for _ in range(_STEPS):
        target = u + slope / curvature if curvature > 0 else (high if slope > 0 else low)
        target = min(max(target, low), high)
        if (target - u) * slope <= 2 * _TOLERANCE * total:
            break
        before = u
        value, slope, curvature, u = _climb(logits, labels, weights, u, target, value)
        if u == before:  # nothing on the way is higher: rounding is all that is left
            break
    return u


def _centred(logits: Tensor) -> Tensor:
    """Rows of mean 0: an offset means nothing to a softmax, but would drown the variances in rounding."""
    return logits - logits.mean(1, keepdim=True)


def _climb(
    logits: Tensor, labels: Tensor, weights: Tensor, u: float, target: float, value: float
) -> tuple[float, float, float, float]:
    """The first point on the way from ``target`` back to ``u`` that is not lower."""
    for _ in range(_STEPS):
        found = _along(logits, labels, weights, target)
        if found[0] >= value:
            return *found, target
        target = (u + target) / 2
    return *_along(logits, labels, weights, u), u


def _along(logits: Tensor, labels: Tensor, weights: Tensor, u: float) -> tuple[float, float, float]:
    """Log-likelihood, its derivative in u, and minus its second one."""
    rows = max(1, _TILE // max(1, logits.shape[1]))
    total = torch.zeros(3, dtype=torch.float64, device=logits.device)
    for z, y, w in zip(logits.split(rows), labels.split(rows), weights.split(rows), strict=True):
        scaled = u * z
        own, log_sum = z.gather(1, y[:, None])[:, 0], torch.logsumexp(scaled, dim=1)
        p = torch.exp(scaled - log_sum[:, None])
        pz = p * z
        mean = pz.sum(1)
        variance = (pz * z).sum(1) - mean**2
        terms = torch.stack([u * own - log_sum, own - mean, variance.clamp(min=0)])
        total += (terms.double() * w.double()).sum(1)
    value, slope, curvature = total.tolist()
    return value, slope, curvature


def best_mix(
    base_logits: Tensor,
    cache_logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    start: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, float]:
    """(u, v) ≥ 0 with the largest log-likelihood Σ w log softmax(u A + v B)_y.

    The likelihood of this two-parameter logistic regression is concave, so one peak is the peak: Newton's
    method with the bounds ``SCALES`` on u, and 0 … 8,192 on v. α = v/u, the temperature is 1/u.

    Args:
        base_logits: A, (n, c).
        cache_logits: B, (n, c), of a spread like A's.
        labels: Class index of each row, (n,), int64.
        weights: Weight of each row, (n,).
        start: Where to begin.
    """
    base_logits, cache_logits = _centred(base_logits), _centred(cache_logits)
    low = torch.tensor([SCALES[0], 0.0], dtype=torch.float64)
    high = torch.tensor([SCALES[1], 1024 * SCALES[1]], dtype=torch.float64)
    total = float(weights.double().sum())
    point = torch.tensor(start, dtype=torch.float64).clamp(low, high)
    value, slope, curvature = _mixed(base_logits, cache_logits, labels, weights, point)
    for _ in range(_STEPS):
        step = _newton_step(point, slope, curvature, low, high)
        if float(step @ slope) <= 2 * _TOLERANCE * total:
            break
        for _ in range(_STEPS):
            target = point + step
            found = _mixed(base_logits, cache_logits, labels, weights, target)
            if found[0] >= value:
                break
            step = step / 2
        else:
            break
        point, (value, slope, curvature) = target, found
    return float(point[0]), float(point[1])


def _newton_step(point: Tensor, slope: Tensor, curvature: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The step to the peak of the quadratic model g·s − ½ sᵀHs within the bounds, (2,)."""
    h = curvature + torch.eye(2, dtype=curvature.dtype) * (1e-9 * float(curvature.diagonal().max()) + 1e-12)
    inside = torch.linalg.solve(h, slope)
    if bool(((point + inside >= low) & (point + inside <= high)).all()):
        return inside
    on_edges = []  # a concave model that peaks outside has its best point on an edge
    for i, bound in ((0, low), (0, high), (1, low), (1, high)):
        step, j = torch.zeros_like(point), 1 - i
        step[i] = bound[i] - point[i]
        best = point[j] + (slope[j] - h[i, j] * step[i]) / h[j, j]
        step[j] = best.clamp(low[j], high[j]) - point[j]
        on_edges.append(step)
    return max(on_edges, key=lambda s: float(slope @ s - s @ h @ s / 2))


def _mixed(
    base_logits: Tensor, cache_logits: Tensor, labels: Tensor, weights: Tensor, point: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Log-likelihood, gradient (2,) and minus the Hessian (2, 2), on the CPU in float64."""
    u, v = point.tolist()
    rows = max(1, _TILE // max(1, base_logits.shape[1]))
    total = torch.zeros(6, dtype=torch.float64, device=base_logits.device)
    for a, b, y, w in zip(
        *(x.split(rows) for x in (base_logits, cache_logits, labels, weights)), strict=True
    ):
        z = torch.add(u * a, b, alpha=v)
        log_sum = torch.logsumexp(z, dim=1)
        own_a, own_b = (x.gather(1, y[:, None])[:, 0] for x in (a, b))
        p = torch.exp(z - log_sum[:, None])
        pa, pb = p * a, p * b
        mean_a, mean_b = pa.sum(1), pb.sum(1)
        terms = torch.stack(
            [
                u * own_a + v * own_b - log_sum,
                own_a - mean_a,
                own_b - mean_b,
                ((pa * a).sum(1) - mean_a**2).clamp(min=0),
                (pa * b).sum(1) - mean_a * mean_b,
                ((pb * b).sum(1) - mean_b**2).clamp(min=0),
            ]
        )
        total += (terms.double() * w.double()).sum(1)
    value, slope_a, slope_b, aa, ab, bb = total.tolist()
    return (
        value,
        torch.tensor([slope_a, slope_b], dtype=torch.float64),
        torch.tensor([[aa, ab], [ab, bb]], dtype=torch.float64),
    )
