"""Ready features with labels, in the place of images."""

from __future__ import annotations

from pathlib import Path

from fewclip.data.labelled import LabelledSources
from fewclip.data.readers._listing import Reader
from fewclip.data.ready_features import is_features, read_features
from fewclip.errors import DataError


def _read(path: Path, split: str | None, prefer: str) -> LabelledSources:
    ready = read_features(path, prefer=split or prefer)
    if ready.labels is None:
        raise DataError(
            ready.origin,
            expected="features with labels",
            got="features alone",
            fix="Add an array labels, one a row.",
        )
    sources, labels = ready.rows(grouped=True)
    names = tuple(source.name for source in sources)
    kind = f"ready features, {ready.features.shape[1]} channels"
    return LabelledSources(sources, labels, names, ready.classes(), (), ready.origin, ready, kind=kind)


READER = Reader("file of features", is_features, lambda path: [], _read)
