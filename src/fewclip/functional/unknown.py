"""How well an image is known: scores that are low for images of none of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewclip.functional.cache import class_sums
from fewclip.functional.leave_one_out import shots_per_class
from fewclip.functional.zero_shot import zero_shot_logits

KNOWN_SCORES = ("mcm", "energy", "affinity", "mahalanobis")
SHRINKAGE = 0.9  # of both covariances towards a multiple of the identity


@dataclass(frozen=True)
class Knower:
    """What scores of queries need, from text and labelled images.

    Attributes:
        text: Unit-norm text features, (c, d).
        scale: s, the factor on cosines.
        keys: Unit-norm features of the labelled images, (m, d).
        means: Their class means, (c′, d), of the c′ classes with images.
        mean: Their mean, (d,).
        within, total: Lower triangles W with W Wᵀ = Σ⁻¹, of the shared covariance within the classes and of
            that around the mean, (d, d) each.
    """

    text: Tensor
    scale: float
    keys: Tensor
    means: Tensor
    mean: Tensor
    within: Tensor
    total: Tensor

    @classmethod
    def of(cls, keys: Tensor, labels: Tensor, text: Tensor, *, scale: float) -> Knower:
        """From keys (m, d) with class indices (m,)."""
        shots = shots_per_class(labels, len(text))
        sums = class_sums(keys.T, labels, len(text)).T
        means, mean = sums / shots.clamp(min=1)[:, None], keys.mean(0)
        residuals = keys - means[labels]
        freedom = max(1, len(keys) - int((shots > 0).sum()))
        total = whitening(keys - mean, max(1, len(keys) - 1))
        within = whitening(residuals, freedom) if freedom > 1 else total
        return cls(text, scale, keys, means[shots > 0], mean, within, total)

    def scores(self, queries: Tensor) -> Tensor:
        """``KNOWN_SCORES`` of unit-norm queries (n, d): the larger the better known, (n, 4).

        - mcm: log max softmax(s · f Tᵀ), in the encoder's own temperature.
        - energy: log Σ exp(s · f Tᵀ).
        - affinity: the largest cosine to a labelled image.
        - mahalanobis: ½ (‖f − x̄‖² in the total covariance − min_c ‖f − μ_c‖² in the shared one): how much
          nearer a class is than the middle of all images.

        Reference: Ming et al. 2022, arXiv:2211.13445 (MCM); Liu et al. 2020, arXiv:2010.03759 (energy);
        Lee et al. 2018, arXiv:1807.03888, and Ren et al. 2021, arXiv:2106.09022 (relative Mahalanobis).
        """
        text = zero_shot_logits(queries, self.text, logit_scale=self.scale).double()
        energy = torch.logsumexp(text, 1)
        affinity = (queries @ self.keys.T).amax(1)
        around = ((queries - self.mean) @ self.total).square().sum(1)
        nearest = torch.cdist(queries @ self.within, self.means @ self.within).amin(1).square()
        columns = text.amax(1) - energy, energy, affinity.double(), 0.5 * (around - nearest).double()
        return torch.stack(columns, 1)


def whitening(residuals: Tensor, freedom: int, *, shrinkage: float = SHRINKAGE) -> Tensor:
    """W (d, d) with W Wᵀ = Σ⁻¹, Σ = (1 − a) RᵀR/ν + a τ I, τ the mean variance of a channel.

    Args:
        residuals: R, (m, d).
        freedom: ν ≥ 1.
        shrinkage: a in (0, 1].
    """
    d = residuals.shape[1]
    covariance = residuals.double().T @ residuals.double() / freedom
    variance = float(covariance.diagonal().mean())
    if variance <= 0:
        return torch.eye(d, dtype=residuals.dtype, device=residuals.device)
    covariance = (1 - shrinkage) * covariance
    covariance.diagonal().add_(shrinkage * variance)
    lower = torch.linalg.cholesky(covariance)
    identity = torch.eye(d, dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False).T.to(residuals.dtype)
