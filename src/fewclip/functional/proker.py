"""ProKeR: kernel regression of what the text leaves unexplained, and its whole path of ridges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewclip.functional.cache import affinity


def proker_residuals(features: Tensor, labels: Tensor, text_features: Tensor) -> Tensor:
    """L − X Tᵀ, (m, c) float64: what unscaled cosines to the text leave of the one-hot labels."""
    residuals = -(features.double() @ text_features.double().T)
    return residuals.scatter_add_(1, labels[:, None], residuals.new_ones(len(labels), 1))


def proker_kernel(queries: Tensor, features: Tensor, *, beta: float) -> Tensor:
    """k(f, X) = exp(−β(1 − f Xᵀ)), (n, m) float64."""
    return affinity(queries.double() @ features.double().T, beta=beta)


def proker_coefficients(
    features: Tensor, residuals: Tensor, *, beta: float, ridge: float, weights: Tensor | None = None
) -> Tensor:
    """a = (K/λ + I)⁻¹ (L − X Tᵀ), (m, c) float64, by a Cholesky factor.

    This is λ times ordinary kernel ridge regression: the ridge is also the strength of the images.

    Args:
        features: Unit-norm rows X, (m, d).
        residuals: L − X Tᵀ, (m, c).
        beta: Sharpness β ≥ 0 of the kernel.
        ridge: λ > 0.
        weights: w > 0 of each row, (m,): diag(1/w) stands for I; None: 1.

    Reference: Bendou et al. 2025, arXiv:2501.11175, equation 11.
    """
    K = proker_kernel(features, features, beta=beta) / ridge
    noise = K.new_ones(len(K)) if weights is None else 1 / weights.double()
    factor = torch.linalg.cholesky(K.diagonal_scatter(K.diagonal() + noise))
    return torch.cholesky_solve(residuals.double(), factor)


def proker_logits(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    beta: float,
    ridge: float,
    logit_scale: float,
) -> Tensor:
    """Logits of ProKeR, z = s·(f Tᵀ + k(f, X) (K/λ + I)⁻¹ (L − X Tᵀ)).

    Args:
        queries: Unit-norm features f, (n, d).
        features: Unit-norm rows X of labelled images, (m, d).
        labels: Class index of each row, (m,), int64.
        text_features: Unit-norm text features T, (c, d).
        beta: Sharpness β ≥ 0 of the kernel exp(−β(1 − cos)).
        ridge: λ > 0.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Bendou et al. 2025, arXiv:2501.11175, equation 12.
    """
    residuals = proker_residuals(features, labels, text_features)
    coefficients = proker_coefficients(features, residuals, beta=beta, ridge=ridge)
    correction = proker_kernel(queries, features, beta=beta) @ coefficients
    return logit_scale * (queries @ text_features.T + correction.to(queries))


class KernelPath:
    """All ridges λ of one β from one eigendecomposition, K W = U Λ Uᵀ in the metric of the weights W.

    Args:
        features: Unit-norm rows X, (m, d).
        beta: Sharpness β ≥ 0 of the kernel.
        weights: w > 0 of each row, (m,); None: 1.
    """

    def __init__(self, features: Tensor, *, beta: float, weights: Tensor | None = None) -> None:
        K = proker_kernel(features, features, beta=beta)
        root = K.new_ones(len(K)) if weights is None else weights.double().sqrt()
        self.values, vectors = torch.linalg.eigh(root[:, None] * K * root)
        self.basis = root[:, None] * vectors  # (K/λ + W⁻¹)⁻¹ = basis · diag(λ/(Λ + λ)) · basisᵀ

    def coefficients(self, residuals: Tensor, *, ridge: float) -> Tensor:
        """As ``proker_coefficients``, (m, c)."""
        return (self.basis * self._shrinkage(ridge)) @ (self.basis.T @ residuals)

    def left_out(self, residuals: Tensor, parts: Sequence[Tensor], *, ridge: float) -> list[Tensor]:
        """k(f, X) a of rows that are left out together, (n_i, c) each, without solving again.

        M = K/λ + W⁻¹ splits into the rows F of a part and the rest: k(F, rest) a_rest
        = λ (R_F − ((M⁻¹)_FF)⁻¹ (M⁻¹ R)_F). Equal to a fit on the rest, at the same weights.

        Args:
            residuals: R, (m, c); those of the part itself do not matter.
            parts: Indices of the rows to leave out together, (n_i,) each.
            ridge: λ > 0.
        """
        shrinkage = self._shrinkage(ridge)
        along = shrinkage[:, None] * (self.basis.T @ residuals)
        out = []
        for part in parts:
            rows = self.basis[part]
            block = torch.linalg.cholesky((rows * shrinkage) @ rows.T)
            out.append(ridge * (residuals[part] - torch.cholesky_solve(rows @ along, block)))
        return out

    def _shrinkage(self, ridge: float) -> Tensor:
        return ridge / (self.values.clamp(min=0) + ridge)
