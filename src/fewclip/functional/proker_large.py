"""ProKeR for many rows: conjugate gradients, led by a Nyström approximation, to a stated error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewclip.functional.proker import proker_kernel

_TILE_ROWS = 1024
_JITTER = 1e-6


def proker_large(
    features: Tensor,
    residuals: Tensor,
    *,
    beta: float,
    ridge: float,
    weights: Tensor | None = None,
    n_landmarks: int = 1000,
    tolerance: float = 1e-3,
    max_steps: int = 100,
) -> tuple[Tensor, float]:
    """a = (K/λ + D)⁻¹ R, D = diag(1/w), and a bound of what is wrong with it.

    Conjugate gradients on K in tiles; K is never stored. The Nyström approximation C A⁻¹ Cᵀ ≈ K of some rows
    leads them: its inverse, by Woodbury's identity, is the preconditioner.

    The bound: with r = R − (K/λ + D) ã the coefficients are wrong by δ = (K/λ + D)⁻¹ r, and since
    k(f, f) = 1, |k(f, X) δ|² ≤ δᵀKδ ≤ max(w) λ/4 · ‖r‖² for every query f, by Cauchy and Schwarz in the
    space of the kernel.

    Args:
        features: Unit-norm rows X, (m, d).
        residuals: R = L − X Tᵀ, (m, c).
        beta: Sharpness β ≥ 0 of the kernel.
        ridge: λ > 0.
        weights: w > 0 of each row, (m,); None: 1.
        n_landmarks: Rows of the Nyström approximation, evenly spread over the rows as they come.
        tolerance: The bound that is asked for, of scores k(f, X) a.
        max_steps: Steps at most.

    Returns:
        a, (m, c) float64, and the bound: no score of any query is further from the exact one (but for the
            rounding of float32 affinities).

    Reference: Rudi et al. 2017, FALKON, arXiv:1705.10958, section 3 (the preconditioner's idea).
    """
    noise = features.new_ones(len(features), dtype=torch.float64)
    if weights is not None:
        noise = 1 / weights.double()
    R = residuals.double()
    inverse = _nystrom_inverse(features, beta, ridge, noise, n_landmarks)
    a, r = torch.zeros_like(R), R
    z = p = inverse(r)
    rz = (r * z).sum(0)
    bound = _bound(r, noise, ridge)
    for _ in range(max_steps):
        if bound <= tolerance:
            break
        Mp = _kernel_times(features, p, beta) / ridge + noise[:, None] * p
        step = rz / (p * Mp).sum(0).clamp(min=1e-300)
        a, r = a + step * p, r - step * Mp
        z = inverse(r)
        rz, before = (r * z).sum(0), rz
        p = z + (rz / before.clamp(min=1e-300)) * p
        bound = _bound(r, noise, ridge)
    true_residual = R - _kernel_times(features, a, beta) / ridge - noise[:, None] * a
    return a, _bound(true_residual, noise, ridge)


def _bound(r: Tensor, noise: Tensor, ridge: float) -> float:
    largest = float(r.square().sum(0).max())
    return (ridge / 4 / float(noise.min()) * largest) ** 0.5


def _kernel_times(features: Tensor, rows: Tensor, beta: float) -> Tensor:
    """K v, (m, c), in tiles of float32 affinities."""
    v = rows.to(features)
    out = [(torch.exp(beta * (tile @ features.T - 1)) @ v).double() for tile in features.split(_TILE_ROWS)]
    return torch.cat(out)


def _nystrom_inverse(
    features: Tensor, beta: float, ridge: float, noise: Tensor, n_landmarks: int
) -> Callable[[Tensor], Tensor]:
    m = len(features)
    n = min(n_landmarks, m)
    landmarks = features[torch.arange(n, device=features.device) * m // n]
    A = proker_kernel(landmarks, landmarks, beta=beta)
    C = proker_kernel(features, landmarks, beta=beta)
    scaled = C / noise[:, None]
    inner = ridge * A + C.T @ scaled
    jitter = _JITTER * inner.diagonal().mean()
    factor = torch.linalg.cholesky(inner.diagonal_scatter(inner.diagonal() + jitter))
    # (C A⁻¹ Cᵀ/λ + D)⁻¹ = D⁻¹ − D⁻¹C (λA + CᵀD⁻¹C)⁻¹ CᵀD⁻¹
    return lambda r: r / noise[:, None] - scaled @ torch.cholesky_solve(scaled.T @ r, factor)
