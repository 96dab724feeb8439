"""Which channels an affinity owes its size to."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-6  # β·cos below which the quotient is its limit


def affinity_by_channel(query: Tensor, keys: Tensor, *, beta: float) -> Tensor:
    """What each channel adds to the affinity of a query to each key, (m, q).

    A_ij = φ(c_i) · f_j X_ij, c_i = Σ_j f_j X_ij, φ(c) = (exp(−β(1 − c)) − exp(−β)) / c: the gradient
    integrated along t·f for t from 0 to 1. Rows add up exactly to exp(−β(1 − c_i)) − exp(−β), what the
    query has above one that resembles nothing.

    Args:
        query: f, (q,).
        keys: X, (m, q).
        beta: Sharpness β ≥ 0 of the affinity.

    Returns:
        A, (m, q), float64.

    Reference: Sundararajan et al. 2017, Axiomatic attribution, arXiv:1703.01365, equation 1.
    """
    parts = query.double() * keys.double()
    exponents = beta * parts.sum(1)
    small = exponents.abs() < _TINY
    quotient = torch.where(
        small, 1 + exponents / 2, torch.expm1(exponents) / torch.where(small, 1.0, exponents)
    )
    slope = beta * torch.exp(torch.tensor(-beta, dtype=torch.float64, device=parts.device)) * quotient
    return slope[:, None] * parts
