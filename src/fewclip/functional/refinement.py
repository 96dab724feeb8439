"""Prior refinement: which channels tell classes apart, and the training-free APE built on them."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.cache import cache_logits
from fewclip.functional.zero_shot import unit, zero_shot_logits

_EPSILON = 1e-6  # of the divergence, as published


def inter_class_similarity(
    text_features: Tensor, support_features: Tensor | None = None, support_labels: Tensor | None = None
) -> Tensor:
    """Mean similarity of rows of different classes, per channel.

    S_j = mean over pairs (a, b) of rows of different classes of x_aj · x_bj. The published code loops over
    the pairs; with class sums s_i and their total t the sum is t² − Σ_i s_i², in O(m d).

    Args:
        text_features: Unit-norm text features T, (c, d): one row of each class.
        support_features: Unit-norm features of labelled images, (m, d), further rows; None: text alone.
        support_labels: Class index of each image, (m,), int64.

    Returns:
        S, (d,). Every pair weighs the same, so classes with more rows count more; zeros if c = 1.

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, equation 3.
    """
    sums = text_features.double()
    counts = torch.ones(len(sums), dtype=torch.float64, device=sums.device)
    if support_features is not None and support_labels is not None:
        sums = sums.index_add(0, support_labels, support_features.double())
        counts = counts.index_add(0, support_labels, torch.ones_like(support_labels, dtype=torch.float64))
    n_pairs = counts.sum() ** 2 - (counts**2).sum()
    similarity = (sums.sum(0) ** 2 - (sums**2).sum(0)) / n_pairs.clamp(min=1)
    return similarity.to(text_features.dtype)


def inter_class_variance(text_features: Tensor) -> Tensor:
    """Unbiased variance over classes, V_j = var_c(T_cj), per channel.

    Args:
        text_features: Unit-norm text features T, (c, d).

    Returns:
        V, (d,); zeros if c = 1.

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, equation 5.
    """
    if len(text_features) < 2:
        return torch.zeros_like(text_features[0])
    return text_features.var(0, correction=1)


def refinement_criterion(
    text_features: Tensor,
    *,
    weights: tuple[float, float],
    support_features: Tensor | None = None,
    support_labels: Tensor | None = None,
) -> Tensor:
    """Criterion of prior refinement, J_j = −w₀ S_j + w₁ V_j, (d,): high where a channel tells classes apart.

    Args:
        text_features: Unit-norm text features T, (c, d).
        weights: (w₀, w₁), of similarity and variance.
        support_features: Unit-norm features of labelled images, (m, d), that join the similarity.
        support_labels: Class index of each image, (m,), int64.

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, equation 6.
    """
    similarity = inter_class_similarity(text_features, support_features, support_labels)
    return weights[1] * inter_class_variance(text_features) - weights[0] * similarity


def refine_channels(
    text_features: Tensor,
    n_channels: int,
    *,
    weights: tuple[float, float],
    support_features: Tensor | None = None,
    support_labels: Tensor | None = None,
) -> Tensor:
    """The Q channels of largest criterion, (n_channels,) int64, by falling criterion.

    Args:
        text_features: Unit-norm text features T, (c, d).
        n_channels: Q, 1 … d.
        weights: (w₀, w₁); the paper has (0.7, 0.3) for APE and (0.2, 0.8) for APE-T.
        support_features: Unit-norm features of labelled images, (m, d), that join the similarity.
        support_labels: Class index of each image, (m,), int64.

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, section 3.1.
    """
    criterion = refinement_criterion(
        text_features, weights=weights, support_features=support_features, support_labels=support_labels
    )
    return torch.argsort(criterion, descending=True, stable=True)[:n_channels]


def key_divergence(keys: Tensor, labels: Tensor, text_features: Tensor) -> Tensor:
    """How little the text recognises each key, KL(L_i ‖ p_i) in bits, (m,).

    p_i = softmax(X_i Tᵀ) without temperature; KL_i = Σ_c L_ic log₂((L_ic + 1e-6)/(p_ic + 1e-6)), of which
    only the key's own class remains, since L is one-hot.

    Args:
        keys: Unit-norm cache keys on the kept channels, X′, (m, q).
        labels: Class index of each key, (m,), int64.
        text_features: Unit-norm text features on the same channels, T′, (c, q).

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, equation 9.
    """
    probabilities = torch.softmax(keys @ text_features.T, dim=-1)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    return torch.log2((1 + _EPSILON) / (own + _EPSILON))


def ape_logits(
    queries: Tensor,
    keys: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    channels: Tensor,
    alpha: float,
    beta: float,
    gamma: float,
    logit_scale: float,
) -> Tensor:
    """Logits of training-free APE, z = s·f Tᵀ + α · exp(−β(1 − f′X′ᵀ)) (L ∘ exp(γ·KL)).

    Primes: the refined channels, renormalised. The text term keeps all channels.

    Args:
        queries: Unit-norm features f, (n, d).
        keys: Unit-norm cache keys X, (m, d).
        labels: Class index of each key, (m,), int64.
        text_features: Unit-norm text features T, (c, d).
        channels: Kept channels, (q,), int64.
        alpha: Weight α ≥ 0 of the cache.
        beta: Sharpness β ≥ 0 of the affinity.
        gamma: Weight γ ≥ 0 of the divergence that reweights keys.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Zhu et al. 2023, APE, arXiv:2304.01195, equations 7–10.
    """
    text_logits = zero_shot_logits(queries, text_features, logit_scale=logit_scale)
    keys = unit(keys[:, channels])
    weights = torch.exp(gamma * key_divergence(keys, labels, unit(text_features[:, channels])))
    cache = cache_logits(
        unit(queries[:, channels]), keys, labels, len(text_features), beta=beta, weights=weights
    )
    return text_logits + alpha * cache
