"""The labelled images of a fit, checked and on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewclip.errors import LabelError
from fewclip.functional import shots_per_class, unit


@dataclass(frozen=True)
class Support:
    """Labelled images on the device of the fit.

    Attributes:
        features: Unit-norm feature of every row (view), (r, d).
        labels: Class index of every row, (r,).
        images: Which image each row is a view of, (r,): an index of ``keys``.
        keys: One key an image: the normalised mean of its views, (m, d).
        key_labels: Class index of every key, (m,).
        n_classes: c.
    """

    features: Tensor
    labels: Tensor
    images: Tensor
    keys: Tensor
    key_labels: Tensor
    n_classes: int

    @property
    def shots(self) -> Tensor:
        """Images of each class, (c,)."""
        return shots_per_class(self.key_labels, self.n_classes)

    def by_class(self) -> tuple[Tensor, Tensor]:
        """Keys class by class, within a class in an order of content, not of rows.

        Returns:
            (order, place): key indices in that order, (m,), and the place of each of them in its class, (m,).
        """
        content = torch.argsort(self.keys.sum(1), stable=True)
        order = content[torch.argsort(self.key_labels[content], stable=True)]
        shots = self.shots
        first = (shots.cumsum(0) - shots)[self.key_labels[order]]
        return order, torch.arange(len(order), device=order.device) - first

    def places(self) -> Tensor:
        """Place of each key among those of its class, (m,), in that order."""
        order, place = self.by_class()
        return torch.empty_like(place).scatter_(0, order, place)


@dataclass(frozen=True)
class Rows:
    """Validation rows: unit-norm features (n, d) and class indices (n,)."""

    features: Tensor
    labels: Tensor


def group_views(features: Tensor, labels: Tensor, groups: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Image index of every row (r,), one key an image (m, d), and the keys' labels (m,)."""
    if groups is None:
        return torch.arange(len(features), device=features.device), features, labels
    groups = np.asarray(groups)
    if groups.shape != (len(features),):
        raise LabelError(
            "groups",
            expected=f"one value a row, shape ({len(features)},)",
            got=f"shape {groups.shape}",
            fix="Give rows that are views of one image the same value.",
        )
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # images keep the order in which they first appear
    images = torch.as_tensor(rank[inverse])
    key_labels = labels[torch.as_tensor(np.sort(first))]
    mixed = (labels != key_labels[images]).nonzero()
    if len(mixed):
        raise LabelError(
            f"group {groups.tolist()[int(mixed[0])]!r}",
            expected="one label for all views of an image",
            got="two",
            fix="Check groups and y: rows of one group are views of one image.",
        )
    images = images.to(features.device)
    sums = features.new_zeros(len(first), features.shape[1]).index_add(0, images, features)
    return images, unit(sums), key_labels
