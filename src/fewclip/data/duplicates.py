"""Images that occur more than once: under two classes, in two splits, or twice in one class.

Only the content counts, not the name. Files of different sizes differ; the others are hashed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewclip.data.images import image_key
from fewclip.data.labelled import LabelledSources, Source, count
from fewclip.data.ready_features import FeatureRow
from fewclip.data.stored import StoredImage
from fewclip.errors import ImageError

_SHOWN = 5


@dataclass(frozen=True)
class Place:
    """Where an image occurs; ``split`` is "" if there are no splits."""

    split: str
    name: str
    label: Any

    def __str__(self) -> str:
        return f"{self.split + ': ' if self.split else ''}{self.name} ({self.label})"


@dataclass(frozen=True)
class Duplicates:
    """Groups of two or more places that hold the same image; a group may be in two of the lists.

    Attributes:
        across_splits: In more than one split.
        across_classes: Under more than one label.
        within_class: Several times in one class of one split.
        unreadable: Places whose content could not be read, so that nothing is known of them.
    """

    across_splits: tuple[tuple[Place, ...], ...]
    across_classes: tuple[tuple[Place, ...], ...]
    within_class: tuple[tuple[Place, ...], ...]
    unreadable: tuple[Place, ...]

    def items(self) -> list[tuple[str, str]]:
        """(heading, text), each kind with its first groups."""
        kinds = (
            (self.across_splits, "in two splits (a test on images of the training says too much)"),
            (self.across_classes, "under two classes (one of the labels is wrong)"),
            (self.within_class, "twice in one class (it counts double)"),
        )
        rows = [("repeated", _groups(groups, what)) for groups, what in kinds if groups]
        if self.unreadable:
            rows.append(("unknown", f"{count(len(self.unreadable), 'image')} cannot be read"))
        return rows or [("repeated", "no image occurs twice")]


def _groups(groups: tuple[tuple[Place, ...], ...], what: str) -> str:
    shown = "; ".join(" = ".join(map(str, group[:3])) for group in groups[:_SHOWN])
    return f"{count(len(groups), 'image')} {what}: {shown}{'; …' if len(groups) > _SHOWN else ''}"


def find_duplicates(parts: Mapping[str, LabelledSources]) -> Duplicates:
    """Compares the content of all images of some splits.

    Args:
        parts: Split → its images; ``{"": images}`` where there are no splits.
    """
    by_size: dict[int | None, list[tuple[Place, Source]]] = {}
    unreadable: list[Place] = []
    for place, source in _places(parts):
        try:
            by_size.setdefault(_size(source), []).append((place, source))
        except OSError:
            unreadable.append(place)
    unsure = [entry for size, some in by_size.items() if size is None or len(some) > 1 for entry in some]
    by_key: dict[str, list[Place]] = {}
    with ThreadPoolExecutor(thread_name_prefix="fewclip-read") as pool:
        for (place, _), key in zip(unsure, pool.map(lambda entry: _key(entry[1]), unsure), strict=True):
            if key is None:
                unreadable.append(place)
            else:
                by_key.setdefault(key, []).append(place)
    groups = [tuple(group) for group in by_key.values() if len(group) > 1]
    return Duplicates(
        tuple(g for g in groups if len({place.split for place in g}) > 1),
        tuple(g for g in groups if len({place.label for place in g}) > 1),
        tuple(g for g in groups if len({(place.split, place.label) for place in g}) < len(g)),
        tuple(unreadable),
    )


def _places(parts: Mapping[str, LabelledSources]) -> Iterator[tuple[Place, Source]]:
    for split, data in parts.items():
        for source, label, name in zip(data.sources, data.labels, data.names, strict=True):
            yield Place(split, name, label), source


def _size(source: Source) -> int | None:
    if isinstance(source, str | Path):
        return os.stat(source).st_size
    return source.file_size() if isinstance(source, StoredImage) else None


def _key(source: Source) -> str | None:
    try:
        return source.key if isinstance(source, FeatureRow) else image_key(source)
    except ImageError:
        return None
