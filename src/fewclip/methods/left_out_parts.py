"""Which labelled rows leave a closed form together, and what remains."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.methods.folds import Fold, fold_weights, without
from fewclip.methods.support import Support

_SPREAD_PARTS = 8  # of images that are left out, at most one of a class, to measure the size of scores


def judged_parts(support: Support, folds: list[Fold]) -> tuple[list[Tensor], Tensor]:
    """Rows that leave together and are judged by the rest, and the weight of each, part by part.

    One shot of every class; and where classes have a single image, or none, others speak for them: classes
    of which one image is left, and classes that leave altogether. Each way weighs as much as the share of
    such classes.
    """
    shots = support.shots
    absent, single = float((shots == 0).float().mean()), float((shots == 1).float().mean())
    ways = [([fold.rows for fold in folds], 1 - absent - single)]
    order, place = support.by_class()
    first = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    first[order[place == 0]] = True
    if single:
        ways.append((_class_by_class(support, ~first[support.images]), single))
    if absent:
        ways.append((_class_by_class(support, torch.ones_like(support.labels, dtype=torch.bool)), absent))
    parts = [part for way, _ in ways for part in way]
    weights = [share * _in_sum_one(fold_weights(support, torch.cat(way))) for way, share in ways]
    return parts, torch.cat(weights) * len(shots)


def _class_by_class(support: Support, leaves: Tensor) -> list[Tensor]:
    parts = [((support.labels == label) & leaves).nonzero()[:, 0] for label in range(support.n_classes)]
    return [part for part in parts if len(part)]


def _in_sum_one(weights: Tensor) -> Tensor:
    return weights / weights.sum()


def spread_parts(support: Support) -> list[Tensor]:
    """Rows of some images, few together and, as far as it goes, of different classes; by content."""
    order, place = support.by_class()
    content = torch.argsort(support.keys[order].sum(1), stable=True)
    first = order[content][torch.argsort(place[content], stable=True)]  # one of every class, then another
    n = max(1, min(support.n_classes, len(first) // _SPREAD_PARTS))
    batches = list(first.split(n))[:_SPREAD_PARTS]
    return [torch.isin(support.images, batch).nonzero()[:, 0] for batch in batches]


def rest_of(support: Support, part: Tensor) -> Support:
    """The labelled images without those of some rows."""
    out = torch.zeros(len(support.keys), dtype=torch.bool, device=part.device)
    out[support.images[part]] = True
    return without(support, out).rest


def some_images(support: Support, n_rows: int) -> Support:
    """As many images of every class as make ``n_rows`` rows, at least two; by content. All, if they fit."""
    if len(support.labels) <= n_rows:
        return support
    views = len(support.labels) / len(support.keys)
    most = max(2, int(n_rows / views / int((support.shots > 0).sum())))
    return without(support, support.places() >= most).rest
