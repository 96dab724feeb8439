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
_FEW_IMAGES, _FINE_FOLDS = 400, 20  # of few images a fold takes so few that the others choose as all do
_DUST = 1e-6  # relative; a smaller spread is rounding, not evidence


def real_spread(logits: Tensor) -> float:
    """Spread of logits; 0 if the classes differ by no more than rounding."""
    size = spread(logits)
    return size if size > _DUST * float(logits.abs().mean()) else 0.0


def strength_of(alpha: float, unit_alpha: float) -> float:
    """α as a strength, ``unit_alpha`` being that of strength 1; 0 for a cache that says nothing."""
    return alpha / unit_alpha if unit_alpha else 0.0


def sum_by_image(values: Tensor, images: Tensor) -> Tensor:
    """Values of rows (n,) summed over the rows of each image, (m,), in float64."""
    sums = torch.zeros(int(images.max()) + 1, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, images, values.double())


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
    evened: bool = False
    """Whether a likelihood is that of evened rows: surer affinities are not more often right."""
    alone_logits: Callable[[Setting], Tensor] | None = None
    """Gives what the images say without the text, (n, c), where B corrects the text; None: B."""
    _last: dict[tuple[tuple[str, float], ...], tuple[Tensor, float]] = field(
        default_factory=dict, init=False, repr=False
    )

    def term(self, setting: Setting) -> tuple[Tensor, float]:
        """B of a setting, (n, c), and the α of strength 1; 0 for a cache that says nothing."""
        key = tuple(setting.items())
        if key not in self._last:
            self._last.clear()
            b = self.cache_logits(setting)
            size = real_spread(b)
            self._last[key] = b, self.base_spread / size if size else 0.0
        return self._last[key]

    def logits(self, setting: Setting, alpha: float) -> Tensor:
        """A + αB, (n, c)."""
        return self.base_logits + alpha * self.term(setting)[0] if alpha else self.base_logits

    def right(self, setting: Setting, alpha: float) -> Tensor:
        """Which rows have their class strictly on top under A + αB, (n,), bool."""
        logits = self.logits(setting, alpha)
        own = logits.gather(1, self.labels[:, None])
        return logits.scatter(1, self.labels[:, None], -torch.inf).amax(1) < own[:, 0]

    def per_image(self, values: Tensor) -> Tensor:
        """Values of rows (n,), weighted and summed over the rows of each image, (m,), in float64."""
        return sum_by_image(values.double() * self.weights.double(), self.images)

    @cached_property
    def base_spread(self) -> float:
        """Spread of A."""
        return spread(self.base_logits)

    @cached_property
    def image_weights(self) -> Tensor:
        """Weight of each image, (m,), float64; 0 for one that no row is a view of."""
        return sum_by_image(self.weights, self.images)

    def folds(self) -> Tensor:
        """Fold of each image, (m,): those of a class are dealt out in turn; −1 for one without rows.

        Up to 20 folds of few images: a fifth less of them would prove less than all of them do.

        In an order of content, not of rows.
        """
        fold = torch.full_like(self.image_weights, -1, dtype=torch.int64)
        content = self.per_image(self.base_logits.sum(1))
        owners = [self.images[self.labels == label].unique() for label in self.labels.unique()]
        total, start = sum(map(len, owners)), 0
        few = total <= _FEW_IMAGES
        n_folds = max(2, min(_FINE_FOLDS, total) if few else min(MAX_FOLDS, max(map(len, owners))))
        for images in owners:
            images = images[torch.argsort(content[images], stable=True)]
            fold[images] = torch.arange(start, start + len(images), device=fold.device) % n_folds
            start += len(images) * few
        return fold
