"""What a fit is tested on: the data set's own images, corrupted ones, and those of other data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewclip.data import clean_class_name
from fewclip.errors import DataError
from fewclip.evaluation._text import count
from fewclip.evaluation.bench.images import Images, SetImages

Place = tuple[str, str | None]
"""(name of the test images, corruption)"""

_NAMED = 5  # left-out classes that a note names


@dataclass(frozen=True, eq=False)
class Tested:
    """Images to test on.

    Attributes:
        images: Those of classes that can be told.
        labels: The label of each in the words of the data set that was learnt from, (n,).
        columns: Places of the tested classes among all sorted classes; None: all.
        shift: Corruption; None: as they are.
        note: What a reader must know; "" if nothing.
    """

    images: Images
    labels: np.ndarray
    columns: np.ndarray | None = None
    shift: str | None = None
    note: str = ""


def tested_places(images: SetImages, shifts: Iterable[str]) -> dict[Place, Tested]:
    """Everything that fits on a data set are tested on; ready features cannot be corrupted.

    Raises:
        DataError: A data set to transfer to that shares fewer than two classes.
    """
    name, own = images.spec.name, images.test
    found: dict[Place, Tested] = {(name, None): Tested(own, own.labels)}
    if not images.is_ready:
        found |= {(name, shift): Tested(own, own.labels, shift=shift) for shift in shifts}
    for other in images.spec.transfer:
        found[other, None] = _transferred(images, other)
    return found


def match_classes(source: Sequence[Any], target: Sequence[Any]) -> dict[Any, Any]:
    """Label of ``target`` → label of ``source`` of the same name.

    Names are the same as they stand, or else with underscores, hyphens and case ignored, if that is
    unambiguous on both sides.
    """
    exact = {label: label for label in target if label in set(source)}
    left = {str(label): label for label in source if label not in exact.values()}
    ours, theirs = (_by_words(labels) for labels in (left.values(), [t for t in target if t not in exact]))
    loose = {theirs[w][0]: ours[w][0] for w in theirs if len(theirs[w]) == 1 == len(ours.get(w, ()))}
    return exact | loose


def _transferred(images: SetImages, other: str) -> Tested:
    classes, target = images.train.data.classes, images.tests[other]
    match = match_classes(classes, target.data.classes)
    rows = [i for i, label in enumerate(target.data.labels) if label in match]
    kept = sorted({match[target.data.labels[i]] for i in rows})
    if len(kept) < 2:
        raise DataError(
            f"transfer from {images.spec.name} to {other}",
            expected="at least two classes of the same names that have images",
            got=f"{len(kept)} of {len(target.data.classes)}",
            fix="Rename the classes, or leave this data set out.",
        )
    mapped = np.array([match[target.data.labels[i]] for i in rows])
    columns = np.searchsorted(np.array(classes), np.array(kept))
    return Tested(
        target.take(rows), mapped, columns, note=_note(images.spec.name, other, classes, target, kept)
    )


def _note(name: str, other: str, classes: Sequence[Any], target: Images, kept: list[Any]) -> str:
    matched = match_classes(classes, target.data.classes)
    ours = [str(label) for label in classes if label not in kept]
    theirs = [str(label) for label in target.data.classes if label not in matched]
    parts = [
        f"{name} → {other}: {count(len(kept), 'class', 'classes')} in common, told apart from each other"
    ]
    for labels, where in ((ours, name), (theirs, other)):
        if labels:
            more = ", …" if len(labels) > _NAMED else ""
            parts.append(f"{len(labels)} of {where} left out ({', '.join(labels[:_NAMED])}{more})")
    return "; ".join(parts)


def _by_words(labels: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for label in labels:
        found.setdefault(clean_class_name(str(label)).casefold(), []).append(label)
    return found
