"""All ways in which labelled images are kept: one reader, one file.

A reader says whether something is of its kind, which splits it has, and reads one of them. A new one is a
file here and its line below; the first that matches is taken.
"""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import Any

from fewclip.data._display import display_path
from fewclip.data.labelled import LabelledSources, count
from fewclip.data.readers import (
    class_folders,
    coco,
    features,
    fgvc_aircraft,
    frames,
    hf_dataset,
    imagenet,
    metadata,
    split_zhou,
    tables,
    webdataset,
)
from fewclip.data.readers._listing import Reader, canonical
from fewclip.errors import DataError

PATH_READERS: tuple[Reader, ...] = (
    features.READER,
    tables.READER,
    split_zhou.READER,
    coco.READER,
    fgvc_aircraft.READER,
    imagenet.READER,
    webdataset.READER,
    metadata.READER,
    class_folders.READER,
)
OBJECT_READERS: tuple[Reader, ...] = (hf_dataset.READER, frames.READER)


def find_reader(source: Any) -> Reader | None:
    """The reader of a path or object, or None."""
    if isinstance(source, str | Path):
        path = Path(source)
        return next((reader for reader in PATH_READERS if reader.matches(path)), None)
    return next((reader for reader in OBJECT_READERS if reader.matches(source)), None)


def read_labelled(source: Any, *, split: str | None = None, prefer: str = "train") -> LabelledSources:
    """Reads labelled images, wherever they lie.

    Args:
        source: A folder of class folders or of splits, a table, a JSON of splits or in COCO's form, a
            webdataset archive, a file of features, a data frame, or a data set of Hugging Face.
        split: Which split to read; an error where there is none of that name. The three spellings of
            val mean the same.
        prefer: Which split to read where there are several and ``split`` names none.

    Returns:
        The images; with ``prefer="train"``, classes without one are named by a ``UserWarning``.

    Raises:
        DataError: There is nothing usable; the message says what was seen instead.
    """
    reader = find_reader(source)
    if reader is None:
        path, name = Path(source), display_path(source)
        got = "another kind of file" if path.exists() else "nothing at this path"
        expected = (
            "a folder of class folders, a .csv, .tsv, .jsonl or .parquet table, a split_zhou or COCO-like "
            ".json, a webdataset .tar, or a file of features"
        )
        raise DataError(name, expected=expected, got=got, fix="Check the path.")
    found = reader.read(Path(source) if isinstance(source, str) else source, split, prefer)
    _check_classes(found)
    learning = prefer == "train" and found.split not in ("val", "test")
    if learning and found.ready is None:  # in images to test on, a class without any says nothing
        _warn_of_empty(found)
    return found


def find_splits(source: Any) -> list[str]:
    """Names of the splits among train, val and test (and others of a table); empty if there are none."""
    reader = find_reader(source)
    if reader is None:
        return []
    names = reader.splits(Path(source) if isinstance(source, str) else source)
    return sorted({canonical(name) for name in names})


def _check_classes(found: LabelledSources) -> None:
    by_folded: dict[str, str] = {}
    for name in found.classes if found.ready is None else ():
        if not isinstance(name, str):
            continue
        other = by_folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            got = f"{other!r} and {name!r}"
            fix = "They would be two classes with one name: merge or rename them."
            raise DataError(
                found.origin, expected="class names that differ by more than case", got=got, fix=fix
            )
    if not found.sources:
        got = f"{count(len(found.classes), 'class', 'classes')} and {len(found.skipped)} other entries"
        raise DataError(found.origin, expected="at least one image", got=got, fix="Check the path.")


def _warn_of_empty(found: LabelledSources) -> None:
    with_images = set(found.labels)
    empty = [str(label) for label in found.classes if label not in with_images]
    if empty:
        names = ", ".join(empty[:10]) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
        message = f"{found.origin}: no images of {names}; such a class is recognised by its name alone."
        warnings.warn(message, UserWarning, stacklevel=4)
