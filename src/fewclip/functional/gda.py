"""Gaussian discriminant analysis: one mean a class, one covariance for all, in closed form.

The precision P = d·(W + ε I)⁻¹, W = Σ (x − μ_y)(x − μ_y)ᵀ and ε = tr(W)/(m − 1), is never formed: it is
applied by a Cholesky factor of d × d, or of m × m where there are fewer rows than channels. Everything is
float64, but for many rows, whose sums and whose factor are float32: ε bounds the condition by m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewclip.functional.zero_shot import zero_shot_logits

_MANY_ROWS, _TILE_ROWS = 1024, 1024
_STRIP = 256  # channels
_NOTHING = 1e-10  # mean squared deviation of a row that is no more than rounding


@dataclass(frozen=True)
class GDAHead:
    """Scores f·w_c + b_c of classes.

    Attributes:
        weights: w_c = P μ_c, (c, d), float64; 0 for a class without rows.
        bias: b_c = −½ μ_cᵀ P μ_c, (c,), float64.
    """

    weights: Tensor
    bias: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        """(n, c), in the type of the queries (n, d)."""
        return queries @ self.weights.T.to(queries) + self.bias.to(queries)


def class_means(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Means of the rows of each class, (c, d) float64, not renormalised, and their numbers, (c,) float64."""
    counts = torch.bincount(labels, minlength=n_classes).double()
    exact = features if len(features) >= _MANY_ROWS else features.double()
    sums = exact.new_zeros(n_classes, features.shape[1]).index_add_(0, labels, exact).double()
    return sums / counts.clamp(min=1)[:, None], counts


def precision(deviations: Tensor, n_rows: int) -> Callable[[Tensor], Tensor]:
    """Gives rows v, (n, d), times P = d·(YᵀY + ε I)⁻¹, ε = ‖Y‖²_F/(n_rows − 1).

    Args:
        deviations: Y, (m, d). If they are no more than rounding, P = d·I.
        n_rows: Rows whose deviations they are.
    """
    Y = deviations if len(deviations) >= _MANY_ROWS else deviations.double()
    m, d = Y.shape
    ridge = ridge_of(float(torch.linalg.vector_norm(Y)) ** 2, n_rows)
    if ridge == 0:
        return lambda rows: d * rows
    if m >= d:
        W = scatter(Y)
        W.diagonal().add_(ridge)
        factor = torch.linalg.cholesky(W)
        return lambda rows: d * torch.cholesky_solve(rows.T.to(factor), factor).T.double()
    Y = Y.double()
    gram = Y @ Y.T  # the dual: (YᵀY + ε)⁻¹ = (I − Yᵀ(YYᵀ + ε)⁻¹Y)/ε
    factor = torch.linalg.cholesky(gram + ridge * torch.eye(m, dtype=Y.dtype, device=Y.device))
    return lambda rows: d / ridge * (rows - torch.cholesky_solve(Y @ rows.T, factor).T @ Y)


def scatter(deviations: Tensor) -> Tensor:
    """YᵀY, (d, d), in float64; of many rows, which average rounding out, in float32, twice as fast.

    Strip by strip from the diagonal down: what lies above is the same.
    """
    if len(deviations) < _MANY_ROWS:
        return deviations.T @ deviations
    d = deviations.shape[1]
    total = deviations.new_zeros(d, d, dtype=torch.float32)
    strips = [slice(start, min(start + _STRIP, d)) for start in range(0, d, _STRIP)]
    for tile in deviations.split(_TILE_ROWS):
        tile = tile.float()
        for strip in strips:
            total[strip.start :, strip] += tile[:, strip.start :].T @ tile[:, strip]
    for strip in strips:
        total[strip, strip.stop :] = total[strip.stop :, strip].T
    return total


def gda_head(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    *,
    text_features: Tensor | None = None,
    text_scatter: float = 0.0,
) -> GDAHead:
    """Class means and the common covariance of labelled rows.

    Args:
        features: Rows X, (m, d).
        labels: Class index of each row, (m,), int64.
        n_classes: c.
        text_features: Unit-norm T, (c, d); None: ``text_scatter`` is 0.
        text_scatter: τ ≥ 0: W + τ·Σ (g − ḡ)(g − ḡ)ᵀ with the gaps g = x − T_y stands for W, so that
            directions count less in which images and text disagree. Where no class has two different rows W
            is 0, and a τ of 0 becomes 1.

    Reference: Wang et al. 2024, arXiv:2402.04087, equations 4–8 (τ = 0).
    """
    means, counts = class_means(features, labels, n_classes)
    apply = _precision_of(features, labels, means, text_features, text_scatter)
    weights = apply(means) * (counts > 0)[:, None]
    return GDAHead(weights, -0.5 * (weights * means).sum(1))


def _precision_of(
    features: Tensor, labels: Tensor, means: Tensor, text_features: Tensor | None, text_scatter: float
) -> Callable[[Tensor], Tensor]:
    exact = features if len(features) >= _MANY_ROWS else features.double()
    deviations = exact - means.to(exact)[labels]
    if text_features is not None:
        if is_nothing(float(torch.linalg.vector_norm(deviations)) ** 2, len(features)):
            text_scatter = text_scatter or 1.0
        if text_scatter:
            gaps = text_gaps(features, labels, text_features)
            deviations = torch.cat([deviations, text_scatter**0.5 * gaps.to(deviations)])
    return precision(deviations, len(features))


def gda_noise(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    *,
    text_features: Tensor | None = None,
    text_scatter: float = 0.0,
) -> float:
    """tr(P Σ): (x − μ_y) P (x − μ_y)ᵀ summed over rows, by m − c; arguments as in ``gda_head``.

    By a k-th part of it the mean of k images makes μ P μᵀ too large; see ``shot_bias``.
    """
    means, counts = class_means(features, labels, n_classes)
    freedom = len(features) - int((counts > 0).sum())
    if freedom < 1:
        return 0.0
    apply = _precision_of(features, labels, means, text_features, text_scatter)
    Y = features.double() - means[labels]
    return float((apply(Y) * Y).sum()) / freedom


def shot_bias(noise: float, images: Tensor) -> Tensor:
    """What the scores of classes with few images lack beside those with many, (c,); 0 where all have as many.

    E[μ̂ P μ̂ᵀ] = μ P μᵀ + tr(P Σ)/k for the mean μ̂ of k images: −½ μ̂ P μ̂ᵀ pushes a class down, the more the
    fewer its images. Only differences between classes count, so the mean over classes is taken off.

    Args:
        noise: tr(P Σ), as ``gda_noise`` gives it.
        images: Images of each class, k, (c,); those without are left at 0.
    """
    present, inverse = images > 0, inverted(images.double())
    return 0.5 * noise * torch.where(present, inverse - inverse.sum() / present.sum().clamp(min=1), 0.0)


def inverted(counts: Tensor) -> Tensor:
    """1/n, and 0 for none."""
    return torch.where(counts > 0, 1 / counts.clamp(min=1), 0)


def text_gaps(features: Tensor, labels: Tensor, text_features: Tensor) -> Tensor:
    """x − T_y of every row, centred, (m, d) float64."""
    gaps = features.double() - text_features.double()[labels]
    return gaps - gaps.mean(0)


def ridge_of(squares: float, m: int) -> float:
    """ε = tr(W)/(m − 1); 0 for what is no more than rounding."""
    return 0.0 if m < 2 or is_nothing(squares, m) else squares / (m - 1)


def is_nothing(squares: float, m: int) -> bool:
    """Whether the squared deviations of m rows are no more than rounding."""
    return squares <= _NOTHING * m


def gda_logits(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    text_features: Tensor,
    *,
    alpha: float,
    logit_scale: float,
) -> Tensor:
    """Logits of GDA, z = s·f Tᵀ + α·(f P μ_cᵀ − ½ μ_c P μ_cᵀ).

    Args:
        queries: Unit-norm features f, (n, d).
        features: Unit-norm rows X of labelled images, (m, d), of every class.
        labels: Class index of each row, (m,), int64.
        text_features: Unit-norm text features T, (c, d).
        alpha: Weight α ≥ 0.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Wang et al. 2024, arXiv:2402.04087, equation 9.
    """
    head = gda_head(features, labels, len(text_features), text_features=text_features)
    text_logits = zero_shot_logits(queries, text_features, logit_scale=logit_scale)
    return text_logits + alpha * head(queries)
