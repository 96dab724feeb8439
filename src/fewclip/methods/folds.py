"""Folds that leave out one shot of every class: how methods that are refitted judge themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewclip.methods.leave_one_out import MAX_FOLDS
from fewclip.methods.support import Rows, Support


@dataclass(frozen=True)
class Fold:
    """The labelled images without some of them.

    Attributes:
        rest: What remains.
        rows: Rows of the whole support that are left out, (n,).
    """

    rest: Support
    rows: Tensor

    def out(self, support: Support) -> Rows:
        """What is left out of ``support``."""
        return Rows(support.features[self.rows], support.labels[self.rows])


def shot_folds(support: Support, *, at_most: int = MAX_FOLDS) -> list[Fold]:
    """One shot of every class with at least two images, up to four times; empty if there is no such class.

    Leaving out one image alone would starve its own class and no other, and tell the answer by that.
    """
    shots, places = support.shots, support.places()
    several = shots[support.key_labels] > 1
    n_folds = min(MAX_FOLDS, at_most, int(shots.max())) if bool(several.any()) else 0
    return [without(support, several & (places == fold)) for fold in range(n_folds)]


def fold_weights(support: Support, rows: Tensor) -> Tensor:
    """Weight of each left-out row, (n,): every class weighs 1 in sum, and so does every image within it."""
    images = support.images[rows]
    views = torch.bincount(images, minlength=len(support.keys))
    shots = torch.bincount(support.key_labels[images.unique()], minlength=support.n_classes)
    return 1.0 / (shots[support.labels[rows]] * views[images])


def without(support: Support, out: Tensor) -> Fold:
    """The fold that leaves some images out, (m,) bool."""
    rows_out = out[support.images]
    renumbered = (~out).cumsum(0) - 1
    rest = Support(
        support.features[~rows_out],
        support.labels[~rows_out],
        renumbered[support.images[~rows_out]],
        support.keys[~out],
        support.key_labels[~out],
        support.n_classes,
    )
    return Fold(rest, rows_out.nonzero()[:, 0])
