"""Leave-one-out over the support images: which rows are judged, how, and what their class sums are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewclip.functional import class_sums, fill_absent, leave_one_out_sums
from fewclip.methods.support import Support

_MOST = 2**27  # affinities of judged rows, or logits: half a GiB
MAX_FOLDS = 4  # that leave one shot of every class out


@dataclass(frozen=True)
class LeftOut:
    """Support rows to judge; the same row may occur up to three times, judged differently.

    Attributes:
        rows: Index of the support row, (n,).
        kept: What remains of the row's own class: −1 all other images, −2 none, else the index of the one
            key that remains, (n,).
        weights: (n,); each way to judge weighs as much as the share of classes that it speaks for.
    """

    rows: Tensor
    kept: Tensor
    weights: Tensor

    def take(self, index: Tensor) -> LeftOut:
        """Some of them, in the order of ``index``."""
        return LeftOut(self.rows[index], self.kept[index], self.weights[index])


def judged_images(support: Support) -> Tensor:
    """Which images are judged, (m,) bool: all, or as many as fit; one of every class, then another.

    In an order of content, not of rows.
    """
    m, r = len(support.keys), len(support.labels)
    most = max(1, _MOST * m // (max(m, support.n_classes) * r))
    judged = torch.ones(m, dtype=torch.bool, device=support.keys.device)
    if m > most:
        content = torch.argsort(support.keys.sum(1), stable=True)
        order = content[torch.argsort(support.places()[content], stable=True)]
        judged[order[most:]] = False
    return judged


def judged_rows(support: Support) -> Tensor:
    """Their rows, (n,)."""
    return judged_images(support)[support.images].nonzero()[:, 0]


def left_out_rows(support: Support, *, min_shots: int = 2) -> LeftOut:
    """The rows of classes with at least ``min_shots`` images, each weighing 1/(k_y · views).

    Of very many images as many as fit into memory are judged (``judged_images``).

    Classes with a single image, or with none, cannot be judged by their own rows. The others speak for
    them: judged once more with one image left of their class, and with none. Without it, strengths come
    out that such classes do not survive.
    """
    shots, some = support.shots, judged_images(support)
    views = torch.bincount(support.images, minlength=len(support.keys))
    counts = torch.bincount(support.key_labels[some], minlength=support.n_classes)
    weights = 1.0 / (counts[support.labels] * views[support.images])
    everyone = some[support.images].nonzero()[:, 0]
    judged = everyone[shots[support.labels[everyone]] >= min_shots]
    if min_shots < 2 or len(judged) == 0:
        return LeftOut(judged, torch.full_like(judged, -1), weights[judged])
    absent, single = float((shots == 0).float().mean()), float((shots == 1).float().mean())
    ways = [
        (judged, torch.full_like(judged, -1), 1 - absent - single),
        (judged, _partners(support)[support.images[judged]], single),
        (everyone, torch.full_like(everyone, -2), absent),
    ]
    ways = [way for way in ways if way[2] > 0]
    return LeftOut(
        torch.cat([rows for rows, _, _ in ways]),
        torch.cat([kept for _, kept, _ in ways]),
        torch.cat([share * weights[rows] / weights[rows].sum() for rows, _, share in ways]),
    )


def _partners(support: Support) -> Tensor:
    """The next key of the same class, cyclic, (m,); in an order of content, not of rows."""
    order, place = support.by_class()
    shots = support.shots[support.key_labels[order]]
    first = torch.arange(len(order), device=order.device) - place
    partners = torch.empty_like(order)
    partners[order] = order[first + (place + 1) % shots]
    return partners


def left_out_sums(
    left_out: LeftOut, support: Support, values: Tensor, *, factors: Tensor, fill: bool
) -> Tensor:
    """Balanced class sums (n, c) of the judged rows.

    The own class is scaled up by k/(k − 1), whatever its keys weigh: the weight of the one that is left out
    knows the answer, for it says how badly the text recognises this very label.

    Args:
        left_out: The rows and how each is judged.
        support: The labelled images.
        values: Weighted affinities of the judged rows to all keys, (n, m).
        factors: Balance factor of each class, (c,).
        fill: Whether a class without images gets the row's largest sum.
    """
    own = support.images[left_out.rows]
    labels, kept = support.labels[left_out.rows][:, None], left_out.kept
    alike = values.new_ones(len(support.keys))
    sums = leave_one_out_sums(values, support.key_labels, support.n_classes, own=own, key_weights=alike)
    one = values.gather(1, kept.clamp(min=0)[:, None]) * support.shots[labels]
    remaining = torch.where((kept >= 0)[:, None], one, sums.gather(1, labels))
    sums = sums.scatter(1, labels, remaining) * factors
    present = (support.shots > 0).expand_as(sums).scatter(1, labels, (kept > -2)[:, None])
    return fill_absent(sums, present) if fill else sums * present


def removed_class_sums(support: Support, values: Tensor, labels: Tensor, *, factors: Tensor) -> Tensor:
    """Balanced class sums (n, c) of support rows of classes ``labels``, each with its whole class removed."""
    labels = labels[:, None]
    sums = class_sums(values, support.key_labels, support.n_classes) * factors
    present = (support.shots > 0).expand_as(sums).scatter(1, labels, False)
    return fill_absent(sums, present)
