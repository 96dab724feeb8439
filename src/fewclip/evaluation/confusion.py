"""The confusion matrix in an order that puts together what is confused, and the groups in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

SMALL = 12  # classes up to which the order of their names is kept
MAX_CLASSES = 100  # shown at most: those with most mistakes
_WIDTH = 900  # pixels that the matrix should fit
_GROUP = 0.9  # 1 − mean mutual confusion below which classes belong together


@dataclass(frozen=True)
class Clustered:
    """Classes in an order for looking at their confusions.

    Attributes:
        order: Indices of the classes shown, (k,).
        groups: Indices of classes that are confused with one another, two at least, most mistakes first.
        mistakes: How many mistakes each group holds.
    """

    order: np.ndarray
    groups: tuple[tuple[int, ...], ...]
    mistakes: tuple[int, ...]


def cluster(confusion: np.ndarray, *, max_classes: int = MAX_CLASSES) -> Clustered:
    """Orders classes by average-linkage clustering of how often they are taken for one another.

    The distance of classes a and b is 1 − (R_ab + R_ba)/2, R the rows of the matrix over their sums.

    Args:
        confusion: Images by true (rows) and predicted class, (c, c).
        max_classes: Of more classes those are kept that take part in most mistakes; those without an image
            that were never predicted are left out.
    """
    mistakes = confusion - np.diag(confusion.diagonal())
    part = mistakes.sum(0) + mistakes.sum(1)
    there = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    kept = np.sort(there[np.argsort(-part[there], kind="stable")[:max_classes]])
    if len(kept) < 2:
        return Clustered(kept, (), ())
    rates = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    mutual = ((rates + rates.T) / 2)[np.ix_(kept, kept)]
    distances = 1 - mutual
    np.fill_diagonal(distances, 0)
    condensed = squareform(distances, checks=False)
    tree = linkage(condensed, method="average")
    order = kept if len(kept) <= SMALL else kept[leaves_list(optimal_leaf_ordering(tree, condensed))]
    found = []
    for name in np.unique(members := fcluster(tree, _GROUP, criterion="distance")):
        group = [int(i) for i in order if members[np.searchsorted(kept, i)] == name]
        n = int(mistakes[np.ix_(group, group)].sum())
        if len(group) > 1 and n:
            found.append((tuple(group), n))
    found.sort(key=lambda entry: -entry[1])
    return Clustered(order, tuple(group for group, _ in found), tuple(n for _, n in found))


def matrix_view(confusion: np.ndarray, order: np.ndarray, names: list[str]) -> dict[str, Any]:
    """The matrix as squares to draw, all lengths in pixels.

    Args:
        confusion: (c, c).
        order: Classes shown, (k,).
        names: Of all classes, (c,).
    """
    shown = confusion[np.ix_(order, order)]
    totals = confusion[order].sum(1)
    labels = [names[i] for i in order]
    short = [name if len(name) <= 26 else name[:25] + "…" for name in labels]
    k, size = len(order), 12.5 if len(order) <= 40 else 9
    margin = round(max(len(name) for name in short) * size * 0.62) + 12
    cell = min(40, max(9, (_WIDTH - margin) // max(k, 1)))
    cells = []
    for i, j in zip(*np.nonzero(shown), strict=True):
        share = float(shown[i, j] / totals[i])
        cells.append(
            {
                "x": margin + int(j) * cell,
                "y": margin + int(i) * cell,
                "kind": "hit" if i == j else "miss",
                "opacity": f"{0.15 + 0.85 * share:.2f}",
                "strong": share > 0.45,
                "n": int(shown[i, j]),
                "title": f"{labels[i]} taken for {labels[j]}: {shown[i, j]} of {totals[i]}"
                if i != j
                else f"{labels[i]}: {shown[i, j]} of {totals[i]} right",
            }
        )
    return {
        "cell": cell,
        "font": size,
        "margin": margin,
        "side": margin + k * cell + 8,
        "span": k * cell,
        "names": [{"at": margin + i * cell + cell / 2, "short": name} for i, name in enumerate(short)],
        "cells": cells,
        "counts": cell >= 20,
    }
