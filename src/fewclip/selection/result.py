"""What a choice of settings was, and how good it is estimated to be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Protocol = Literal["none", "loo", "fewshot", "full"]
PROTOCOLS: tuple[str, ...] = ("auto", "none", "loo", "fewshot", "full")


@dataclass(frozen=True)
class Estimate:
    """An accuracy with its 95 % Wilson interval, beside zero-shot on the same rows; all in 0–1."""

    accuracy: float
    low: float
    high: float
    zero_shot: float
    n_images: int
    kind: str  # "leave-one-out estimate", "validation estimate" or "estimate on the labelled images"


@dataclass(frozen=True)
class HeldOut:
    """Logits of rows whose labels are known, each by a head that has not learnt its image.

    Attributes:
        logits: (n, c).
        labels: Class index of each row, (n,).
        images: Which image each row is a view of, (n,).
        weights: Weight of each row, (n,).
        independent: Whether the rows are validation rows; else labelled images that judge each other, and a
            row may occur again, judged for classes that have none of their own.
    """

    logits: Tensor
    labels: Tensor
    images: Tensor
    weights: Tensor
    independent: bool = False


@dataclass(frozen=True)
class SelectionResult:
    """What was tried, what was chosen, and what it cost.

    Attributes:
        protocol: How the choice was made.
        settings: The chosen setting, ``alpha`` included.
        strength: Spread of αB over that of A at the choice; None if nothing was measured.
        labels_used: Labels that the choice has seen beyond the fit itself (0 for ``none`` and ``loo``).
        seconds: Time of the search.
        estimate: Cross-fitted accuracy; None if nothing could be judged.
        note: One sentence for the user: what the choice rests on.
        table: One row a setting that was tried: the setting, its best ``alpha``, ``strength``, ``score``
            (mean log-likelihood there, in nats), ``accuracy`` there.
        held_out: The judged rows under what was chosen; dropped when the method is fitted.
    """

    protocol: Protocol
    settings: dict[str, float]
    strength: float | None = None
    labels_used: int = 0
    seconds: float = 0.0
    estimate: Estimate | None = None
    note: str = ""
    table: list[dict[str, Any]] = field(default_factory=list, repr=False)
    held_out: HeldOut | None = field(default=None, repr=False, compare=False)

    def plot(self, axes: Any = None) -> Any:
        """Score against strength of what was tried, on matplotlib axes; see ``plot_selection``."""
        from fewclip.selection.plot import plot_selection

        return plot_selection(self, axes)


def estimate_accuracy(
    right: Tensor, zero_shot_right: Tensor, weights: Tensor, images: Tensor, kind: str
) -> Estimate:
    """Weighted accuracy with a 95 % Wilson interval on the effective number of images."""
    per_image = torch.zeros(int(images.max()) + 1, dtype=weights.dtype, device=weights.device)
    per_image = per_image.index_add(0, images, weights)
    n_effective = effective_number(per_image)
    accuracy = float(weights[right].sum() / weights.sum())
    low, high = wilson_interval(accuracy, n_effective)
    zero_shot = float(weights[zero_shot_right].sum() / weights.sum())
    return Estimate(accuracy, low, high, zero_shot, len(images.unique()), kind)


def effective_number(weights: Tensor) -> float:
    """How many observations of equal weight are worth as much: (Σw)²/Σw²."""
    return float(weights.sum() ** 2 / weights.square().sum())


def wilson_interval(accuracy: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share of n observations (Wilson 1927), within [0, 1]."""
    centre = accuracy + z * z / (2 * n)
    half = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))
