"""The images of a data set: read, told apart by content, and named by fingerprints."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fewclip.data import FeatureRow, LabelledSources, Source, image_key, labelled_sources
from fewclip.data.sources import check_rows, check_two_classes, portable_names
from fewclip.encoders.features import readable
from fewclip.errors import DataError
from fewclip.evaluation._text import count
from fewclip.evaluation.bench.plan import HALVES, BenchSet


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images whose content is known.

    Attributes:
        data: The images, or ready features.
        keys: The sha256 of each.
    """

    data: LabelledSources
    keys: tuple[str, ...]

    def take(self, rows: Iterable[int]) -> Images:
        """These images only."""
        rows = [int(i) for i in rows]
        return Images(self.data.take(rows), tuple(self.keys[i] for i in rows))

    @property
    def labels(self) -> np.ndarray:
        """The label of each, (n,)."""
        return np.array(self.data.labels)

    @cached_property
    def names(self) -> list[str]:
        """What each is called on any machine."""
        return portable_names(self.data.names)

    def listed(self) -> list[list[Any]]:
        """[label, name, sha256] of each."""
        return [list(entry) for entry in zip(self.data.labels, self.names, self.keys, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """Of labels and contents, in order."""
        return fingerprint([self.data.labels, self.keys])


@dataclass(frozen=True, eq=False)
class SetImages:
    """All images of a data set.

    Attributes:
        spec: Where they come from.
        train: To draw from.
        tests: To test on: the data set's own by its name, and the others that it is transferred to.
        val: To choose settings on; None: there are none, or halves of the test images.
    """

    spec: BenchSet
    train: Images
    tests: dict[str, Images]
    val: Images | None

    @property
    def test(self) -> Images:
        """The data set's own test images."""
        return self.tests[self.spec.name]

    @property
    def is_ready(self) -> bool:
        """Whether these are features, not images."""
        return self.train.data.ready is not None


def read_set(spec: BenchSet, *, skip_unreadable: bool = False) -> SetImages:
    """Reads the images of a data set; what could be tested on and drawn, too, is left out of the test.

    Args:
        spec: Where they lie.
        skip_unreadable: Leave out images that cannot be read, and say so.

    Raises:
        DataError: A folder, table or file that cannot be used, or validation images among the test images.
        ImageError: An image that cannot be read.
    """

    def read(where: str, prefer: str) -> Images:
        data = labelled_sources(where, None, prefer=prefer)
        check_rows(data, skip_unreadable)
        data = readable(data) if skip_unreadable and data.ready is None else data
        return Images(data, _keys(data.sources))

    train = read(spec.train, "train")
    check_two_classes(train.data)
    others = {name: read(where, "test") for name, where in spec.transfer.items()}
    tests = {
        name: _without(images, train.keys, "test images can also be drawn")
        for name, images in {spec.name: read(spec.test, spec.split), **others}.items()
    }
    val = None
    if spec.val is not None and spec.val != HALVES:
        val = _without(read(spec.val, "val"), train.keys, "validation images can also be drawn")
        _check_disjoint(spec, val, tests[spec.name])
    return SetImages(spec, train, tests, val)


def fingerprint(content: Any) -> str:
    """The first 16 hex digits of the sha256 of plain values."""
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keys(sources: Sequence[Source]) -> tuple[str, ...]:
    def key(source: Source) -> str:
        return source.key if isinstance(source, FeatureRow) else image_key(source)

    with ThreadPoolExecutor(thread_name_prefix="fewclip-hash") as pool:
        return tuple(pool.map(key, sources))


def _without(images: Images, seen: Iterable[str], what: str) -> Images:
    seen = set(seen)
    kept = [i for i, key in enumerate(images.keys) if key not in seen]
    if not kept:
        raise DataError(
            images.data.origin,
            expected="images that are not among those to draw from",
            got=f"all {len(images.keys)} are",
            fix="Name other images.",
        )
    if len(kept) < len(images.keys):
        n = len(images.keys)
        warnings.warn(
            f"{images.data.origin}: {n - len(kept)} of {n} {what}: left out, by content", stacklevel=4
        )
    return images.take(kept)


def _check_disjoint(spec: BenchSet, val: Images, test: Images) -> None:
    shared = len(set(val.keys) & set(test.keys))
    if shared:
        raise DataError(
            f"validation and test images of {spec.name}",
            expected="none in both",
            got=count(shared, "shared image"),
            fix="Figures on images that settings were chosen on are too good. Name other images, or use "
            "'halves': chosen on one half of the test images, judged on the other.",
        )
