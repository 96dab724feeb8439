"""Rows whose labels are known, and the pieces of their logits under any setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from fewclip.functional import spread

Setting = Mapping[str, float]
MAX_FOLDS = 5  # of the cross-fitted estimate
_DUST = 1e-6  # relative; a smaller spread is rounding, not evidence


def is_flat(logits: Tensor) -> bool:
    """Whether the classes differ by no more than rounding."""
    return spread(logits) <= _DUST * float(logits.abs().mean())


@dataclass(frozen=True)
class Judge:
    """Rows that a protocol judges, and the pieces of their logits A + αB.

    Attributes:
        base_logits: A, (n, c).
        cache_logits: Gives B, (n, c), of a setting.
        labels: Class index of each row, (n,).
        images: Which image each row is a view of, (n,); views of one image count as one observation.
        weights: Weight of each row, (n,).
    """

    base_logits: Tensor
    cache_logits: Callable[[Setting], Tensor]
    labels: Tensor
    images: Tensor
    weights: Tensor
    shots: float | None = None
    """Mean images a class where rows judge each other by leave-one-out; None: they are independent."""
    _last: dict[tuple[tuple[str, float], ...], tuple[Tensor, float]] = field(
        default_factory=dict, init=False, repr=False
    )

    def term(self, setting: Setting) -> tuple[Tensor, float]:
        """B of a setting, (n, c), and the α of strength 1; 0 for a cache that says nothing."""
        key = tuple(setting.items())
        if key not in self._last:
            self._last.clear()
            b = self.cache_logits(setting)
            self._last[key] = b, 0.0 if is_flat(b) else self.base_spread / spread(b)
        return self._last[key]

    def right(self, setting: Setting, alpha: float) -> Tensor:
        """Which rows have their class strictly on top under A + αB, (n,), bool."""
        logits = self.base_logits + alpha * self.term(setting)[0] if alpha else self.base_logits
        own = logits.gather(1, self.labels[:, None])
        return logits.scatter(1, self.labels[:, None], -torch.inf).amax(1) < own[:, 0]

    def per_image(self, values: Tensor) -> Tensor:
        """Values of rows (n,), weighted and summed over the rows of each image, (m,), in float64."""
        sums = torch.zeros(len(self.image_weights), dtype=torch.float64, device=values.device)
        return sums.index_add_(0, self.images, values.double() * self.weights.double())

    @cached_property
    def base_spread(self) -> float:
        """Spread of A."""
        return spread(self.base_logits)

    @cached_property
    def image_weights(self) -> Tensor:
        """Weight of each image, (m,), float64; 0 for one that no row is a view of."""
        sums = torch.zeros(int(self.images.max()) + 1, dtype=torch.float64, device=self.images.device)
        return sums.index_add_(0, self.images, self.weights.double())

    def folds(self) -> Tensor:
        """Fold of each image, (m,): those of a class are dealt out in turn; −1 for one without rows.

        In an order of content, not of rows.
        """
        fold = torch.full_like(self.image_weights, -1, dtype=torch.int64)
        content = self.per_image(self.base_logits.sum(1))
        owners = [self.images[self.labels == label].unique() for label in self.labels.unique()]
        n_folds = max(2, min(MAX_FOLDS, max(len(images) for images in owners)))
        for images in owners:
            images = images[torch.argsort(content[images], stable=True)]
            fold[images] = torch.arange(len(images), device=fold.device) % n_folds
        return fold
