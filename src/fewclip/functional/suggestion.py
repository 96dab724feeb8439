"""Which unlabelled images to label next: those that speak for many others."""

from __future__ import annotations

import torch
from torch import Tensor

_SHARPNESS = 48.0  # β of exp(−β(1 − cos)): how near two images must be to speak for each other
_MOST = 8192  # images of the pool that are compared with one another


def doubt(probabilities: Tensor) -> Tensor:
    """How unsure rows are, (n,), 0–1: one minus the margin between the two most probable classes."""
    if probabilities.shape[1] < 2:
        return torch.zeros(len(probabilities), dtype=probabilities.dtype)
    top = probabilities.topk(2, dim=1).values
    return 1 - (top[:, 0] - top[:, 1])


def spokesmen(
    features: Tensor, labelled: Tensor, weights: Tensor, n: int, *, sharpness: float = _SHARPNESS
) -> Tensor:
    """n images of a pool, in the order in which to label them, (n,).

    Greedy: each raises Σ_j w_j · max_i k(i, j) most, i over labelled and chosen images, k = exp(−β(1 − cos)):
    every image is to have a labelled one near. The greedy value is at least 63 % of the best one.

    Args:
        features: Unit-norm features of the pool, (p, d).
        labelled: Of the labelled images, (m, d).
        weights: w ≥ 0 of the pool's images, (p,).
        n: How many; at most p.
        sharpness: β > 0.

    Reference: Nemhauser et al. 1978 (greedy facility location).
    """
    kept = torch.arange(len(features))
    if len(features) > _MOST:  # the heaviest of a pool that is too large to compare
        kept = weights.argsort(descending=True, stable=True)[: max(_MOST, n)].sort().values
    x, w = features[kept], weights[kept].to(features.dtype).clamp(min=1e-6)
    near = torch.exp(sharpness * (x @ x.T - 1))
    reached = torch.exp(sharpness * ((x @ labelled.T).amax(1) - 1)) if len(labelled) else x.new_zeros(len(x))
    gains = ((near - reached).clamp(min=0) * w).sum(1)
    chosen: list[int] = []
    for _ in range(min(n, len(x))):
        best = _best(near, reached, w, gains)
        chosen.append(best)
        reached = torch.maximum(reached, near[best])
        gains[best] = -torch.inf
    return kept[torch.tensor(chosen, dtype=torch.int64)]


def _best(near: Tensor, reached: Tensor, weights: Tensor, gains: Tensor) -> int:
    """The image that gains most; old gains are upper bounds, so few are computed anew (Minoux 1978)."""
    while True:
        best = int(gains.argmax())
        now = float(((near[best] - reached).clamp(min=0) * weights).sum())
        gains[best] = now
        if now >= float(gains.max()) - 1e-9:
            return best
