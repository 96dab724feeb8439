"""Linear heads that start at the text features."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.zero_shot import unit, zero_shot_logits


def cosine_head_logits(queries: Tensor, weights: Tensor, *, logit_scale: float) -> Tensor:
    """Logits of a head whose weights have norm 1, z = s · f · unit(u_c).

    Args:
        queries: Unit-norm features f, (n, d).
        weights: Weights u, (c, d), of any norm.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Silva-Rodríguez et al. 2024 (CLAP), arXiv:2312.12730, equation 1.
    """
    return zero_shot_logits(queries, unit(weights), logit_scale=logit_scale)


def text_pull(weights: Tensor, text_features: Tensor, *, norm: float) -> Tensor:
    """Squared distance of each class's weights from its text, R² ‖u_c − T_c‖², (c,).

    Args:
        weights: Weights u, (c, d), at the scale of the text features.
        text_features: Unit-norm text features T, (c, d).
        norm: R, the norm of text features as the encoder gives them; published heads live at that scale.

    Reference: Silva-Rodríguez et al. 2024 (CLAP), arXiv:2312.12730, equation 7.
    """
    return norm**2 * (weights - text_features).square().sum(1)


def clap_penalties(
    text_logits: Tensor, labels: Tensor, n_classes: int, *, weights: Tensor | None = None
) -> Tensor:
    """λ_c, the mean zero-shot probability of class c on its own rows, (c,); 0 without rows.

    A class whose name says what its images show is held by it; one whose name misleads is free.

    Args:
        text_logits: Zero-shot logits of the labelled rows, (r, c).
        labels: Class index of each row, (r,), int64.
        n_classes: c.
        weights: Weight of each row, (r,); None: alike.

    Reference: Silva-Rodríguez et al. 2024 (CLAP), arXiv:2312.12730, section 4.2.
    """
    own = torch.softmax(text_logits, dim=1).gather(1, labels[:, None])[:, 0]
    weights = torch.ones_like(own) if weights is None else weights.to(own)
    sums = own.new_zeros(2, n_classes).index_add(1, labels, torch.stack([weights * own, weights]))
    return torch.where(sums[1] > 0, sums[0] / sums[1].clamp(min=1e-30), 0.0)


def task_res_weights(text_features: Tensor, residual: Tensor, *, text_norm: float) -> Tensor:
    """Weights of TaskRes, unit(R·T_c + a·r_c), (c, d).

    Args:
        text_features: Unit-norm text features T, (c, d).
        residual: a·r, (c, d).
        text_norm: R, the norm of text features as the encoder gives them.

    Reference: Yu et al. 2023, arXiv:2211.10277, equation 5.
    """
    return unit(text_norm * text_features + residual)


def lp_plus_plus_logits(
    queries: Tensor, text_features: Tensor, *, weights: Tensor, bias: Tensor, text_weights: Tensor
) -> Tensor:
    """Logits of LP++, z = f · w_c + b_c + a_c · f · T_c, (n, c).

    Args:
        queries: Unit-norm features f, (n, d).
        text_features: Unit-norm text features T, (c, d).
        weights: w, (c, d).
        bias: b, (c,).
        text_weights: a, (c,).

    Reference: Huang et al. 2024, arXiv:2404.02285, equation 3.
    """
    return queries @ (weights + text_weights[:, None] * text_features).T + bias


def linear_adapter_logits(
    queries: Tensor, text_features: Tensor, delta: Tensor, *, basis: Tensor | None = None, logit_scale: float
) -> Tensor:
    """Logits of a linear adapter, z = s · unit(f + f Δ) · T, (n, c).

    Args:
        queries: Unit-norm features f, (n, d).
        text_features: Unit-norm text features T, (c, d).
        delta: Δ, (d, d), or with a basis A, (d, r): Δ = A Qᵀ.
        basis: Q, (d, r), orthonormal columns.
        logit_scale: s.

    Reference: Fahes et al. 2024 (ProLIP), arXiv:2410.05270, equation 4.
    """
    moved = queries @ delta
    adapted = queries + (moved if basis is None else moved @ basis.T)
    return zero_shot_logits(unit(adapted), text_features, logit_scale=logit_scale)


def text_basis(text_features: Tensor) -> Tensor:
    """Orthonormal basis Q of the centred text features, (d, r); r is their rank, at most c − 1."""
    centred = text_features - text_features.mean(0)
    _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
    least = 1e-5 * float(text_features.norm(dim=1).amax())
    return rows[sizes > least].T.contiguous()
