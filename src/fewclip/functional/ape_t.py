"""APE-T: the refined channels of text and keys learn one residual a class."""

from __future__ import annotations

from torch import Tensor

from fewclip.functional.cache import cache_logits
from fewclip.functional.zero_shot import zero_shot_logits


def add_residual(rows: Tensor, residual: Tensor, channels: Tensor) -> Tensor:
    """Rows plus a residual on some of their channels, (n, d), differentiable in the residual.

    Args:
        rows: (n, d).
        residual: (n, q).
        channels: Which channels it goes to, (q,), int64.
    """
    return rows.index_add(1, channels, residual.to(rows.dtype))


def ape_t_logits(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    channels: Tensor,
    residual: Tensor,
    value_weights: Tensor,
    alpha: float,
    beta: float,
    logit_scale: float,
) -> Tensor:
    """Logits of APE-T, z = s·f T̃ᵀ + α · exp(−β(1 − f X̃ᵀ)) (L ∘ v).

    T̃ = T + scatter(R) and X̃_i = X_i + scatter(R_{y_i}), not renormalised.

    Args:
        queries: Unit-norm features f, (n, d).
        keys: Unit-norm cache keys X, (m, d).
        labels: Class index of each key, (m,), int64.
        text_features: Unit-norm text features T, (c, d).
        channels: Channels that learn, (q,), int64.
        residual: R, (c, q).
        value_weights: v, one a key, (m,).
        alpha: Weight α ≥ 0 of the cache.
        beta: Sharpness β ≥ 0 of the affinity.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, section 3.3.
    """
    text = add_residual(text_features, residual, channels)
    moved = add_residual(keys, residual[labels], channels)
    cache = cache_logits(queries, moved, labels, len(text_features), beta=beta, weights=value_weights)
    return zero_shot_logits(queries, text, logit_scale=logit_scale) + alpha * cache
