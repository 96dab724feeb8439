"""How sure logits should be: a temperature and an evenness, or zero-shot's range."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewclip.functional.likelihood import centred, evened_rows, log_likelihood, slopes_along

PRIOR_IMAGES = 4.0  # images that the encoder's own scale counts for
EVENNESS = (0.0, 0.25, 0.5, 0.75, 1.0)  # that are tried
_RANGE = 256.0  # largest temperature, and one over the smallest
_STEPS = 60
_TOLERANCE = 1e-6  # of log T
_MAX_ROWS = 8192  # of the held-out rows; more would not change a figure that is printed


@dataclass(frozen=True)
class Calibration:
    """p = softmax(z (a/σ)^ρ / T), σ the standard deviation of a row of logits.

    Attributes:
        temperature: T > 0.
        evenness: ρ, 0–1. 0: a row is as sure as its logits are large. 1: all rows have the same spread, and
            only the shape of a row makes it sure. Caches need it: affinities are exponentials, so the rows of
            near duplicates are far larger than the others, and no single temperature suits both.
        spread: a > 0, the mean σ of held-out rows.
    """

    temperature: float = 1.0
    evenness: float = 0.0
    spread: float = 1.0

    def scaled(self, logits: Tensor) -> Tensor:
        """Logits (n, c) whose softmax is calibrated; every row keeps its order."""
        if self.evenness:
            logits = evened_rows(logits, spread=self.spread, power=self.evenness)
        return logits / self.temperature


def best_calibration(
    logits: Tensor, labels: Tensor, weights: Tensor, *, n_images: float, prior: float = PRIOR_IMAGES
) -> Calibration:
    """The temperature and evenness that minimise −Σ w log p_y + ½ prior · (log² T + ρ²).

    Args:
        logits: z, (n, c).
        labels: Class index of each row, (n,), int64.
        weights: Weight ≥ 0 of each row, (n,); scaled to the sum ``n_images`` here.
        n_images: Images of equal weight that the rows are worth.
        prior: Images that T = 1 and ρ = 0 count for.
    """
    if len(logits) > _MAX_ROWS:
        kept = torch.linspace(0, len(logits) - 1, _MAX_ROWS, dtype=torch.float64).long().to(logits.device)
        logits, labels, weights = logits[kept], labels[kept], weights[kept]
    weights = weights.double() * (n_images / weights.double().sum())
    spread = max(float((logits.std(1, correction=0) * weights).sum() / n_images), 1e-12)
    best, least, start = Calibration(), math.inf, 1.0
    for evenness in EVENNESS if logits.shape[1] > 2 else (0.0,):
        z = evened_rows(logits, spread=spread, power=evenness) if evenness else logits
        start = best_temperature(z, labels, weights, prior=prior, start=start)
        likelihood = float((log_likelihood(z / start, labels).double() * weights).sum())
        loss = 0.5 * prior * (math.log(start) ** 2 + evenness**2) - likelihood
        if loss < least:
            best, least = Calibration(start, evenness, spread), loss
    return best


def best_temperature(
    logits: Tensor, labels: Tensor, weights: Tensor, *, prior: float = PRIOR_IMAGES, start: float = 1.0
) -> float:
    """The temperature T that minimises −Σ w log softmax(z/T)_y + ½ prior · log² T.

    A few labels that happen to be right, or wrong, do not make it extreme. Newton's method in log 1/T, held
    between bounds where the slope has either sign.

    Args:
        logits: z, (n, c).
        labels: Class index of each row, (n,), int64.
        weights: Weight ≥ 0 of each row, (n,); their sum is the number of images.
        prior: ≥ 0, the images that T = 1 counts for.
        start: Where to begin.

    Returns:
        T within 1/256 … 256.

    Reference: Guo et al. 2017, arXiv:1706.04599, section 4.2, without the prior.
    """
    if not len(logits):
        return 1.0
    logits = centred(logits.float())

    def slopes(v: float) -> tuple[float, float]:
        """Slope and curvature of the loss in v = log(1/T)."""
        u = math.exp(v)
        slope, curvature = slopes_along(logits, labels, weights, u)
        return prior * v - u * slope, prior - u * slope + u * u * curvature

    low, high, v = -math.log(_RANGE), math.log(_RANGE), -math.log(start)
    for _ in range(_STEPS):
        slope, curvature = slopes(v)
        low, high = (v, high) if slope < 0 else (low, v)
        step = v - slope / curvature if curvature > 0 else math.inf
        target = step if low < step < high else (low + high) / 2
        done, v = abs(target - v) < _TOLERANCE, target
        if done:
            break
    return math.exp(-v)


def held_to_range(logits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Each row stretched or shrunk to a range, (n, c): SaLS, with the range of zero-shot's logits.

    z′ = (z − min z) · (high − low)/(max z − min z) + low. The order of classes stays. A row whose logits are
    all alike becomes ``low``.

    Args:
        logits: z, (n, c).
        low: Smallest zero-shot logit of each row, (n,).
        high: Largest, (n,).

    Reference: Murugesan et al. 2024, arXiv:2407.13588 (sample-adaptive logit scaling).
    """
    smallest = logits.amin(1, keepdim=True)
    size = (logits.amax(1, keepdim=True) - smallest).clamp(min=1e-12)
    return (logits - smallest) * ((high - low)[:, None] / size) + low[:, None]
