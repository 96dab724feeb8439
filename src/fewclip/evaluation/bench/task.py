"""A data set as features of one encoder: encoded once, whatever is fitted on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from fewclip.data import FeatureStore, Source, build_prompts, load_image, warn_of_names
from fewclip.encoders import load_encoder, opens_by_name
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import encode_sources
from fewclip.encoders.ready import ReadyEncoder
from fewclip.encoders.text_features import encode_prompts
from fewclip.evaluation.bench.images import SetImages, fingerprint
from fewclip.evaluation.bench.places import Tested, tested_places
from fewclip.evaluation.bench.plan import HALVES
from fewclip.evaluation.bench.shifts import VERSION, corrupt
from fewclip.evaluation.metrics import check_labels

_TOKEN_CHUNK = 64  # images whose spatial tokens are in memory at once


@dataclass(frozen=True, eq=False)
class Queries:
    """Features to test on.

    Attributes:
        features: (n, d), or with spatial tokens (n, 1 + L, d).
        labels: In the words of the data set that was learnt from, (n,).
        fingerprint: Of the images.
        columns: Places of the classes that are tested, among the sorted classes; None: all.
        halved: Whether these are the test images that ``Task.halves`` deals into two.
        note: What a reader must know; "" if nothing.
    """

    features: np.ndarray
    labels: np.ndarray
    fingerprint: str
    columns: np.ndarray | None = None
    halved: bool = False
    note: str = ""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set with an encoder, nothing encoded yet but the text.

    Attributes:
        images: The images.
        encoder: Gives their features.
        encoder_name: What cells call it.
        text: Text features, c arrays; None: class means stand in.
        sentences: The prompts behind them, by class; empty for ready text features.
        fingerprints: ``encoder``, and ``data``: of all that may be learnt from.
    """

    images: SetImages
    encoder: Encoder
    encoder_name: str
    text: Any
    sentences: list[list[str]]
    fingerprints: dict[str, str]

    @property
    def classes(self) -> np.ndarray:
        """Sorted labels."""
        return np.array(self.images.train.data.classes)

    def manifest(self) -> dict[str, Any]:
        """What the fingerprint of the data stands for."""
        return {
            "dataset": self.images.spec.name,
            "classes": list(self.images.train.data.classes),
            "prompts": self.sentences,
            "train": self.images.train.listed(),
            "validation": self.images.val.listed() if self.images.val else None,
        }


@dataclass(frozen=True, eq=False)
class Task:
    """What fits need.

    Attributes:
        prepared: The data set and its text.
        features: Features of the images that are drawn, one row a view, (r, d).
        rows: Which training image each row belongs to, (r,).
        val: (features, labels) to choose settings on; None: there are none.
        halves: Which half of the test images each belongs to, (n,) bool; None: they are not halved.
        queries: The test images of the data set itself.
    """

    prepared: Prepared
    features: np.ndarray
    rows: np.ndarray
    val: tuple[np.ndarray, np.ndarray] | None
    halves: np.ndarray | None
    queries: Queries

    def half(self, part: bool) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of one half of the test images."""
        rows = np.flatnonzero(self.halves == part)
        return self.queries.features[rows], self.queries.labels[rows]

    def support(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, labels and image of each view of the drawn images."""
        kept = np.flatnonzero(np.isin(self.rows, drawn))
        return self.features[kept], self.prepared.images.train.labels[self.rows[kept]], self.rows[kept]


def prepare(images: SetImages, encoder: Encoder | None) -> Prepared:
    """Puts an encoder to a data set, and encodes its prompts.

    Args:
        images: The data set.
        encoder: None for ready features: theirs, or a stand-in that knows their space.
    """
    spec, ready = images.spec, images.train.data.ready
    name = ""
    if ready is not None:
        name = spec.encoder_name or ready.encoder or "features"
        scale = 100.0 if ready.logit_scale is None else ready.logit_scale
        encoder = ReadyEncoder(ready.features.shape[1], logit_scale=scale, fingerprint=ready.fingerprint)
        if ready.text_features is None and opens_by_name(ready.encoder):
            encoder = load_encoder(ready.encoder)
    assert encoder is not None
    sentences: list[list[str]] = []
    text: Any = None if ready is None else ready.text_by_class()
    if text is None and not isinstance(encoder, ReadyEncoder):
        classes, called = images.train.data.classes, images.train.data.called
        sentences = build_prompts(classes, templates=spec.templates, prompts=spec.prompts, called=called)
        warn_of_names(classes, sentences, called, multilingual=getattr(encoder, "multilingual", False))
        text = encode_prompts(encoder, sentences)
    said = sentences or (None if text is None else fingerprint(np.asarray(text).tolist()))
    val = images.val.fingerprint if images.val else spec.val
    learnt = fingerprint([images.train.fingerprint, images.train.data.classes, said, val])
    fingerprints = {"encoder": encoder.fingerprint, "data": learnt}
    return Prepared(images, encoder, name or encoder.name, text, sentences, fingerprints)


@dataclass(frozen=True, eq=False)
class Encoding:
    """How images become features: the store, the size of batches, the bars."""

    store: FeatureStore
    batch_size: int = 64
    progress: bool = True

    def rows(self, prepared: Prepared, sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        """Features (r, d) and the source of each row."""
        encoded = encode_sources(
            sources, prepared.encoder, store=self.store, batch_size=self.batch_size, progress=self.progress
        )
        encoded.require(prepared.images.train.data.origin, skip_unreadable=False)
        return encoded.features, encoded.images

    def images(self, prepared: Prepared, sources: Sequence[Source]) -> np.ndarray:
        """One row an image, (n, d): views of ready features are averaged."""
        features, images = self.rows(prepared, sources)
        if len(features) == len(sources):
            return features
        sums = np.zeros((len(sources), features.shape[1]))
        np.add.at(sums, images, features)
        return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)

    def tested(self, prepared: Prepared, tested: Tested) -> np.ndarray:
        """One row an image to test on, (n, d); features of corrupted images are remembered, too."""
        if tested.shift is None:
            return self.images(prepared, tested.images.data.sources)
        name = f"{prepared.encoder.fingerprint}/shift-{tested.shift}-{VERSION}"
        keys, d = tested.images.keys, prepared.encoder.dim
        known = {
            k: row for k, row in self.store.get_many(keys, fingerprint=name).items() if row.shape == (d,)
        }
        missing = [i for i, key in enumerate(keys) if key not in known]
        for start in range(0, len(missing), self.batch_size):
            rows = missing[start : start + self.batch_size]
            features = encode_sources(_pictures(tested, rows), prepared.encoder, progress=False).features
            new = {keys[i]: row for i, row in zip(rows, features, strict=True)}
            self.store.put_many(new, fingerprint=name)
            known |= new
        return np.stack([known[key] for key in keys])

    @contextmanager
    def tokens(self, prepared: Prepared, tested: Tested) -> Iterator[np.ndarray]:
        """Features with spatial tokens, (n, 1 + L, d), in a file of their own while they are needed."""
        n = len(tested.images.keys)
        with tempfile.TemporaryFile() as file:
            rows: Any = None
            for start in range(0, n, _TOKEN_CHUNK):
                part = range(start, min(n, start + _TOKEN_CHUNK))
                encoded = encode_sources(
                    _pictures(tested, part), prepared.encoder, tokens=True, batch_size=self.batch_size,
                    progress=False,
                )  # fmt: skip
                encoded.require(prepared.images.train.data.origin, skip_unreadable=False)
                if rows is None:
                    shape = (n, *encoded.features.shape[1:])
                    rows = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
                rows[start : start + len(part)] = encoded.features
            yield rows
            del rows


def _pictures(tested: Tested, rows: Sequence[int]) -> list[Any]:
    """Images of some rows, corrupted if they are to be."""
    sources, keys = tested.images.data.sources, tested.images.keys
    if tested.shift is None:
        return [sources[i] for i in rows]
    return [corrupt(load_image(cast(Any, sources[i])), tested.shift, key=keys[i]) for i in rows]


def open_task(prepared: Prepared, drawn: Iterable[int], encoding: Encoding) -> Task:
    """Encodes what is drawn, what settings are chosen on, and the test images.

    Raises:
        LabelError: Validation or test images of a class that has no training images.
        ImageError: An image that does not decode.
    """
    images = prepared.images
    drawn = np.array(sorted(set(drawn)), dtype=np.int64)
    features, rows = encoding.rows(prepared, images.train.take(drawn).data.sources)
    val = None
    if images.val is not None:
        check_labels("validation labels", images.val.labels, prepared.classes)
        val = encoding.images(prepared, images.val.data.sources), images.val.labels
    halves = deal(images.test.labels) if images.spec.val == HALVES else None
    own = tested_places(images, ())[images.spec.name, None]
    check_labels("test labels", own.labels, prepared.classes)
    queries = queries_of(own, encoding.tested(prepared, own), halved=halves is not None)
    return Task(prepared, features, drawn[rows], val, halves, queries)


def queries_of(tested: Tested, features: np.ndarray, *, halved: bool) -> Queries:
    """Images to test on with their features."""
    fingerprint = tested.images.fingerprint
    return Queries(features, tested.labels, fingerprint, tested.columns, halved, tested.note)


def deal(labels: np.ndarray) -> np.ndarray:
    """Which half each row belongs to, (n,) bool: the rows of a class in turn."""
    half = np.empty(len(labels), dtype=bool)
    for k, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        half[rows] = (np.arange(len(rows)) + k) % 2 == 0  # the odd row of a class goes to either in turn
    return half
