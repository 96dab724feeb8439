"""Tip-X: keys compared with queries by what the text makes of both."""

from __future__ import annotations

import torch
from torch import Tensor


def tip_x_divergence(queries: Tensor, keys: Tensor, text_features: Tensor, *, temperature: float) -> Tensor:
    """D_ij = KL(p(f_i) ‖ p(X_j)) of the text's opinions p(x) = softmax(x Tᵀ / τ), (n, m), in nats.

    Two products instead of n × m × c terms: D = (Σ p log p)_i − p (log P_X)ᵀ; in float64, since the smallest
    divergences drown in float32.

    Args:
        queries: Unit-norm features f, (n, d).
        keys: Unit-norm cache keys X, (m, d).
        text_features: Unit-norm text features T, (c, d).
        temperature: τ > 0, on cosines; 0.5 in the paper.

    Reference: Udandarao et al. 2023, SuS-X, arXiv:2211.16198, section 3.2.
    """
    opinions = text_opinions(keys, text_features, temperature=temperature)
    return divergence_of_opinions(
        text_opinions(queries, text_features, temperature=temperature), opinions
    ).to(queries.dtype)


def text_opinions(features: Tensor, text_features: Tensor, *, temperature: float) -> Tensor:
    """log p(x), p(x) = softmax(x Tᵀ / τ), (n, c), float64."""
    return torch.log_softmax(features.double() @ text_features.double().T / temperature, dim=1)


def divergence_of_opinions(queries: Tensor, keys: Tensor) -> Tensor:
    """KL(p_i ‖ q_j) of opinions log p (n, c) and log q (m, c), (n, m), never below 0."""
    p = queries.exp()
    return ((p * queries).sum(1, keepdim=True) - p @ keys.T).clamp(min=0)


def tip_x_affinity(
    divergence: Tensor, *, source_range: tuple[float, float], target_range: tuple[float, float]
) -> Tensor:
    """Affinity −ψ(D), ψ the affine map of ``source_range`` onto ``target_range``; nothing is clipped.

    Args:
        divergence: D, (n, m).
        source_range: (low, high) of divergences.
        target_range: (low, high) of cosines that they are mapped onto.

    Returns:
        (n, m); zeros where the source range is narrower than 1e-12.

    Reference: Udandarao et al. 2023, SuS-X, arXiv:2211.16198, section 3.2.
    """
    low, high = source_range
    if high - low < 1e-12:
        return torch.zeros_like(divergence)
    start, stop = target_range
    return -(start + (divergence - low) * ((stop - start) / (high - low)))
