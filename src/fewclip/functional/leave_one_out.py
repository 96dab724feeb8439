"""Corrections of the cache's class sums: unequal shots, classes without images, an image left out."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.cache import class_sums


def shots_per_class(labels: Tensor, n_classes: int) -> Tensor:
    """Images of each class, (c,), int64."""
    return torch.bincount(labels, minlength=n_classes)


def balance_factors(labels: Tensor, n_classes: int) -> Tensor:
    """Factor k̄/k_c of each class's cache sum, (c,), k̄ the mean over classes with images.

    The identity for equal shots. Without it a class with more images outvotes the others. A class without
    images has 1.
    """
    shots = shots_per_class(labels, n_classes).double()
    mean = shots[shots > 0].mean()
    return torch.where(shots > 0, mean / shots.clamp(min=1), 1.0).float()


def fill_absent(sums: Tensor, present: Tensor) -> Tensor:
    """Class sums in which a class without images gets the row's largest sum, (n, c).

    Adding a positive sum to every other class would kill the classes that live on their text alone.

    Args:
        sums: Class sums, (n, c).
        present: Which classes have images, (c,) or for each row (n, c), bool. A row without any gets zeros.
    """
    if bool(present.all()):
        return sums
    largest = sums.masked_fill(~present, -torch.inf).amax(1, keepdim=True)
    return torch.where(present, sums, largest.masked_fill(largest == -torch.inf, 0))


def leave_one_out_sums(
    values: Tensor, labels: Tensor, n_classes: int, *, own: Tensor, key_weights: Tensor
) -> Tensor:
    """Class sums of rows that are themselves in the cache, each without its own key.

    The own key counts zero, and the sum of its class is scaled by Σw/(Σw − w_own), as if the class still
    had all its keys. Classes of one key keep the sum 0: nothing is left to scale.

    Args:
        values: Weighted affinities of the rows to the keys, (n, m).
        labels: Class index of each key, (m,), int64.
        n_classes: c.
        own: Index of the key that each row is a view of, (n,), int64.
        key_weights: Weight w > 0 of each key, (m,).

    Returns:
        (n, c).
    """
    sums = class_sums(values.scatter(1, own[:, None], 0.0), labels, n_classes)
    total = class_sums(key_weights[None], labels, n_classes)[0][labels[own]]
    rest = total - key_weights[own]
    rest = torch.where(shots_per_class(labels, n_classes)[labels[own]] > 1, rest, total)
    column = labels[own][:, None]
    return sums.scatter(1, column, sums.gather(1, column) * (total / rest)[:, None])
