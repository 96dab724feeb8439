"""SS-Text+: class weights from text and images in one step, without anything to choose."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.zero_shot import unit, zero_shot_logits


def ss_text_weights(
    features: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    logit_scale: float,
    text_norm: float,
    factors: Tensor | None = None,
) -> Tensor:
    """Class weights w_c = v_c − unit(2 v_c − v̄), v_c = R·T_c + (s k_c/m) Σ_{i∈c} X_i.

    Args:
        features: Unit-norm rows X, (m, d).
        labels: Class index of each row, (m,), int64.
        text_features: Unit-norm T, (c, d).
        logit_scale: s.
        text_norm: R, the mean norm of text features before they are normalised.
        factors: Balance factor of each class, (c,), k̄/k_c: with them v_c = R·T_c + (s/c′)·(k̄/k_c) Σ X_i, c′
            the number of classes with rows, which is the same for equal shots; None: the formula.

    Returns:
        Unit-norm weights, (c, d).

    Reference: Silva-Rodríguez et al. 2025, arXiv:2506.17500, SS-Text+.
    """
    counts = torch.bincount(labels, minlength=len(text_features)).to(features)
    sums = torch.zeros_like(text_features).index_add_(0, labels, features)
    shares = counts / len(labels) if factors is None else factors.to(features) / (counts > 0).sum()
    v = text_norm * text_features + logit_scale * shares[:, None] * sums
    return unit(v - unit(2 * v - v.mean(0)))


def ss_text_logits(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    logit_scale: float,
    text_norm: float,
) -> Tensor:
    """Logits of SS-Text+, z = s·cos(f, w_c); see ``ss_text_weights``.

    Args:
        queries: Unit-norm features f, (n, d).
        features, labels, text_features, logit_scale, text_norm: As in ``ss_text_weights``.

    Returns:
        Logits, (n, c).
    """
    weights = ss_text_weights(features, labels, text_features, logit_scale=logit_scale, text_norm=text_norm)
    return zero_shot_logits(queries, weights, logit_scale=logit_scale)
