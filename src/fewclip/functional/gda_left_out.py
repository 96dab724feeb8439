"""Gaussian discriminant analysis of rows that are left out, without fitting it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewclip.functional.gda import class_means, inverted, is_nothing, ridge_of, scatter, text_gaps

_FEW = 24  # parts; an eigendecomposition costs as much as some 27 Cholesky factors
_SAFELY_LEFT = 1e-6  # share of the scatter below which what is left is no more than rounding


def gda_left_out(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    parts: Sequence[Tensor],
    *,
    text_features: Tensor | None = None,
    text_scatter: float = 0.0,
) -> list[tuple[Tensor, Tensor]]:
    """What GDA says of rows that it was not fitted on: equal to a fit on the rest.

    Leaving rows Y_F out takes Y_Fᵀ C Y_F from W, C = I + 11ᵀ/n′ on the rows of a class of which n′ remain.
    A few parts get a Cholesky factor of what is left; for many, or fewer rows than channels, one
    eigendecomposition of W serves them all, by Woodbury's identity.

    Args:
        features: Rows X, (m, d).
        labels: Class index of each row, (m,), int64.
        n_classes: c.
        parts: Indices of the rows to leave out together, (n_i,) each.
        text_features, text_scatter: As in ``gda_head``.

    Returns:
        For each part its scores, (n_i, c), in the type of ``features``, and which classes still have
        rows, (c,) bool; the scores of the others are 0.
    """
    rows = _Rows(features, labels, n_classes, text_features, text_scatter)
    rows.few = len(parts) <= _FEW
    return [rows.without(part) for part in parts]


class _Rows:
    """The rows of a fit, and the spectra of their scatters by the weight τ of the gaps to their text."""

    def __init__(
        self, features: Tensor, labels: Tensor, n_classes: int, text: Tensor | None, text_scatter: float
    ) -> None:
        self.features, self.labels, self.text, self.few = features, labels, text, False
        self.text_scatter = 0.0 if text is None else text_scatter
        self.means, self.counts = class_means(features, labels, n_classes)
        self.deviations = features.double() - self.means[labels]
        self.squares = float(self.deviations.square().sum())
        self.gaps = torch.zeros_like(self.deviations)
        if text is not None:
            self.gaps = text_gaps(features, labels, text)
        self.gap_squares = float(self.gaps.square().sum())
        self.spectra: dict[float, _Spectrum | _Scatter] = {}

    def without(self, part: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the rows of a part, fitted without them, and which classes are left."""
        labels, m = self.labels[part], len(self.labels) - len(part)
        counts = self.counts - torch.bincount(labels, minlength=len(self.counts))
        present, Y = counts > 0, self.deviations[part]
        sums = torch.zeros_like(self.means).index_add_(0, labels, Y)
        squares = self.squares - float(Y.square().sum() + sums.square().sum(1) @ inverted(counts))
        inverse = self._inverse(part, squares, m)
        rows, means = inverse.of.rows[part], inverse.of.means
        shift = torch.zeros_like(means).index_add_(0, labels, rows - means[labels])
        means = (means - shift * inverted(counts)[:, None]) * present[:, None]
        scores = (inverse(rows, means) - 0.5 * inverse.diagonal(means)) * present
        return scores.to(self.features), present

    def _inverse(self, part: Tensor, squares: float, m: int) -> _Inverse | _Factor:
        """P of the m rows that remain, whose squared deviations are ``squares``."""
        gap, text_scatter = self.gaps[part], self.text_scatter
        gap_squares = self.gap_squares - float(gap.square().sum() + gap.sum(0).square().sum() / max(1, m))
        within = squares > _SAFELY_LEFT * self.squares and not is_nothing(squares, m)
        if not within and self.text is not None:
            text_scatter = text_scatter or 1.0
        ridge = ridge_of(squares * within + text_scatter * gap_squares, m)
        if ridge == 0:
            return _identity(_Spectrum(self.gaps[:0], self.features.double(), self.means))
        key = text_scatter if within else -text_scatter
        if key not in self.spectra:
            Y = [self.deviations] * within + [text_scatter**0.5 * self.gaps] * (text_scatter > 0)
            deviations = torch.cat(Y)
            kind = _Scatter if self.few and len(deviations) >= deviations.shape[1] else _Spectrum
            self.spectra[key] = kind(deviations, self.features.double(), self.means)
        blocks = []
        if within:
            blocks.append(_inverse_weights(self.labels[part], self.counts))
        if text_scatter > 0:
            one = self.counts.new_full((1,), len(self.labels))
            blocks.append(_inverse_weights(torch.zeros_like(part), one))
        places = torch.cat([part + k * len(self.labels) for k in range(len(blocks))])
        return self.spectra[key].without(places, torch.block_diag(*blocks), ridge)


class _Scatter:
    """YᵀY itself."""

    def __init__(self, deviations: Tensor, rows: Tensor, means: Tensor) -> None:
        self.deviations, self.rows, self.means = deviations, rows, means
        self.scatter = scatter(deviations).double()

    def without(self, places: Tensor, C_inverse: Tensor, ridge: float) -> _Factor:
        """P without some of the deviations."""
        Y = self.deviations[places]
        rest = self.scatter - Y.T @ torch.linalg.solve(C_inverse, Y)
        return _Factor(self, torch.linalg.cholesky(rest.diagonal_scatter(rest.diagonal() + ridge)))


@dataclass(frozen=True)
class _Factor:
    """u P vᵀ by the Cholesky factor of P⁻¹·d, (d, d)."""

    of: _Scatter
    factor: Tensor

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        """(n, k) of u, (n, d), and v, (k, d)."""
        return self._whitened(u).T @ self._whitened(v) * u.shape[1]

    def diagonal(self, v: Tensor) -> Tensor:
        """v_k P v_kᵀ, (k,)."""
        return self._whitened(v).square().sum(0) * v.shape[1]

    def _whitened(self, rows: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.factor, rows.T, upper=False)


class _Spectrum:
    """Eigenvectors of YᵀY, by the smaller of its two Gram matrices, and rows in their coordinates.

    Where the eigenvectors do not span all channels a row stands beside its coordinates:
    v P v = d (v·v/ε + Σ (1/(λ + ε) − 1/ε) v̂²).
    """

    def __init__(self, deviations: Tensor, rows: Tensor, means: Tensor) -> None:
        Y, (m, self.d) = deviations, deviations.shape
        values, vectors = torch.linalg.eigh(Y.T @ Y if m >= self.d else Y @ Y.T)
        kept = values > 1e-12 * values[-1:].sum()
        self.values, vectors = values[kept], vectors[:, kept]
        self.basis = vectors if m >= self.d else Y.T @ vectors / self.values.sqrt()
        self.deviations = self._coordinates(Y)
        self.rows, self.means = self._coordinates(rows), self._coordinates(means)

    def without(self, places: Tensor, C_inverse: Tensor, ridge: float) -> _Inverse:
        """P without some of the deviations."""
        d = self.d
        weights = d / (self.values + ridge)
        if not self._complete:
            weights = torch.cat([self.values.new_full((d,), d / ridge), weights - d / ridge])
        out = self.deviations[places]
        core = torch.linalg.cholesky(d * C_inverse - (out * weights) @ out.T)
        return _Inverse(self, weights, out * weights, core)

    @property
    def _complete(self) -> bool:
        return len(self.values) == self.d

    def _coordinates(self, rows: Tensor) -> Tensor:
        coordinates = rows @ self.basis
        return coordinates if self._complete else torch.cat([rows, coordinates], dim=1)


@dataclass(frozen=True)
class _Inverse:
    """u P vᵀ of rows in the coordinates of a spectrum, P = d·(W + ε I − YᵀCY)⁻¹.

    Attributes:
        of: The spectrum of W.
        weights: Diagonal of d·(W + ε I)⁻¹.
        out: Y times these weights, (k, ·).
        core: Cholesky factor of d·C⁻¹ − Y d(W + ε I)⁻¹ Yᵀ, (k, k).
    """

    of: _Spectrum
    weights: Tensor
    out: Tensor
    core: Tensor

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        """(n, k) of u, (n, ·), and v, (k, ·)."""
        return (u * self.weights) @ v.T + (u @ self.out.T) @ torch.cholesky_solve(self.out @ v.T, self.core)

    def diagonal(self, v: Tensor) -> Tensor:
        """v_k P v_kᵀ, (k,)."""
        along = self.out @ v.T
        return v.square() @ self.weights + (along * torch.cholesky_solve(along, self.core)).sum(0)


def _identity(spectrum: _Spectrum) -> _Inverse:
    """P = d·I, in a spectrum without eigenvectors."""
    like, d = spectrum.means, spectrum.d
    return _Inverse(spectrum, like.new_full((d,), d), like.new_zeros(0, d), like.new_zeros(0, 0))


def _inverse_weights(labels: Tensor, counts: Tensor) -> Tensor:
    """C⁻¹ = I − 11ᵀ/n on the rows of each block of n; I for a block that leaves altogether."""
    left = counts > torch.bincount(labels, minlength=len(counts))
    alike = (labels[:, None] == labels) & left[labels]
    return torch.eye(len(labels), dtype=counts.dtype, device=counts.device) - alike / counts[labels]
