"""Key-value caches: affinities of queries to labelled images, summed per class.

The value matrix L of the papers is one-hot, so the product with it is a segment sum over labels: it is
never built. Affinities are computed in tiles, so memory does not grow with queries × keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.zero_shot import zero_shot_logits

_TILE, _TILE_ROWS = 2**23, 512  # affinities (float32: 32 MiB) and queries held at once


def class_sums(values: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Sums of the columns that share a label: V L for a one-hot L that is never built.

    Args:
        values: (n, m), one column per key.
        labels: Class index of each key, (m,), int64.
        n_classes: c.

    Returns:
        (n, c); a class without keys has 0.
    """
    # Along the first axis index_add_ adds whole contiguous rows, which is many times faster than along
    # the last one.
    sums = values.new_zeros(n_classes, values.shape[0])
    return sums.index_add(0, labels, values.T).T


def affinity(cosines: Tensor, *, beta: float) -> Tensor:
    """Affinity of queries to keys, exp(−β(1 − f Xᵀ)), in (0, 1], of their cosines f Xᵀ, (n, m).

    Reference: Zhang et al. 2022, Tip-Adapter, arXiv:2207.09519, equation 3.
    """
    return torch.exp(beta * (cosines - 1))


def cache_logits(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    n_classes: int,
    *,
    beta: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Class sums of the weighted affinities, B = exp(−β(1 − f Xᵀ)) diag(w) L.

    Args:
        queries: Unit-norm features f, (n, d).
        keys: Unit-norm cache keys X, (m, d).
        labels: Class index of each key, (m,), int64.
        n_classes: c.
        beta: Sharpness β ≥ 0 of the affinity.
        weights: Weight w of each key, (m,); None: 1.

    Returns:
        B, (n, c). Neither the one-hot L nor all n × m affinities exist at any time.

    Reference: Zhang et al. 2022, Tip-Adapter, arXiv:2207.09519, equation 4.
    """
    if len(queries) == 0:
        return queries.new_zeros(0, n_classes)
    learns = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (queries, keys, weights)
    )
    if learns:  # gradients need every value: no tiles, nothing in place
        values = affinity(queries @ keys.T, beta=beta)
        return class_sums(values if weights is None else values * weights, labels, n_classes)
    exponents = queries.new_full((len(keys), 1), -beta)
    if weights is not None and bool((weights > 0).all()):  # exp(log w + β(cos − 1)): no pass of its own
        exponents, weights = weights[:, None].log() - beta, None
    rows = min(_TILE_ROWS, max(1, _TILE // max(1, len(keys))))
    out, held = queries.new_empty(len(queries), n_classes), queries.new_empty(len(keys), rows)
    for tile, part in zip(queries.split(rows), out.split(rows), strict=True):
        # Keys along the first axis: index_add_ then adds whole contiguous rows, several times faster. One
        # tile of memory for all: fresh pages cost as much as the exponentials.
        values = torch.addmm(exponents, keys, tile.T, alpha=beta, out=held[:, : len(tile)]).exp_()
        if weights is not None:
            values *= weights[:, None]
        part.copy_(values.new_zeros(n_classes, len(tile)).index_add_(0, labels, values).T)
    return out


def tip_adapter_logits(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    alpha: float,
    beta: float,
    logit_scale: float,
) -> Tensor:
    """Logits of Tip-Adapter, z = s·f Tᵀ + α · exp(−β(1 − f Xᵀ)) L.

    Args:
        queries: Unit-norm features f, (n, d).
        keys: Unit-norm cache keys X, (m, d).
        labels: Class index of each key, (m,), int64.
        text_features: Unit-norm text features T, (c, d).
        alpha: Weight α ≥ 0 of the cache.
        beta: Sharpness β ≥ 0 of the affinity.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Zhang et al. 2022, Tip-Adapter, arXiv:2207.09519, equation 4.
    """
    text_logits = zero_shot_logits(queries, text_features, logit_scale=logit_scale)
    return text_logits + alpha * cache_logits(queries, keys, labels, len(text_features), beta=beta)
