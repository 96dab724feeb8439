"""Data sets of Hugging Face's ``datasets``: anything with ``features`` and columns; it need not be installed.

Images are read row by row when they are needed, as the bytes of their file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewclip.data._display import escape
from fewclip.data.labelled import LabelledSources
from fewclip.data.readers._columns import ALIASES, label_cell, match_columns, notes
from fewclip.data.readers._listing import Listing, Reader, Record, pick
from fewclip.data.stored import RowImage
from fewclip.errors import DataError


def is_dataset(source: Any) -> bool:
    """A data set, or a mapping of splits to data sets."""
    if isinstance(source, Mapping):
        return bool(source) and all(_is_one(value) for value in source.values())
    return _is_one(source)


def _is_one(source: Any) -> bool:
    return hasattr(source, "features") and hasattr(source, "column_names")


def one_of(data: Any, prefer: str) -> Any:
    """The data set itself, or the wanted one of a mapping of splits.

    Raises:
        DataError: There is no such split.
    """
    return data[pick(list(data), prefer, type(data).__name__)] if isinstance(data, Mapping) else data


def dataset_listing(data: Any, *, label: bool = True, split: str = "") -> Listing:
    """All rows of one data set.

    Args:
        data: With ``features``, ``column_names``, ``data[column]``, ``data[i]``.
        label: Whether there must be a label.
        split: What to call the split.

    Raises:
        DataError: It streams, or a column is not there or not clear.
    """
    origin = f"{type(data).__name__}{f' {split}' if split else ''}"
    if not hasattr(data, "__len__"):
        fix = "Take the rows that you need: Dataset.from_list(list(data.take(1000)), features=data.features)."
        raise DataError(origin, expected="a data set whose rows can be asked for", got="a stream", fix=fix)
    columns = _columns(data, origin, label)
    origin = f"{origin} of {len(data)} rows"
    rows = _undecoded(data, columns["path"])
    labels = [""] * len(data) if not columns["label"] else _labels(data, columns["label"])
    splits = [""] * len(data) if not columns["split"] else [str(s or "") for s in data[columns["split"]]]
    records = [
        Record(f"row {i}", "", of, part, RowImage(rows, i, columns["path"], f"row {i}"))
        for i, (of, part) in enumerate(zip(labels, splits, strict=True))
    ]
    used = {"image" if what == "path" else what: name for what, name in columns.items()}
    names = _names(data, columns["label"]) if columns["label"] else []
    return Listing("a data set of Hugging Face", origin, Path(), records, notes(used), tuple(names))


def _columns(data: Any, origin: str, label: bool) -> dict[str, Any]:
    """By the kind of the features where that is clear, else by the names of the columns."""
    kinds = {name: type(feature).__name__ for name, feature in (data.features or {}).items()}
    found = {}
    for what, kind in (("path", "Image"), ("label", "ClassLabel")):
        some = [name for name, of in kinds.items() if of == kind]
        named = [alias for alias in ALIASES[what] if alias in some]
        if len(some) > 1 and not named:
            raise DataError(
                origin, expected=f"one column of {'images' if what == 'path' else 'labels'}",
                got=", ".join(map(escape, some)),
                fix=f'Name the right one: data.rename_column("{some[0]}", "{ALIASES[what][0]}").',
            )  # fmt: skip
        if some:
            found[what] = (named or some)[0]
    others = [name for name in data.column_names if name not in found.values()]
    named = match_columns([*(found and {ALIASES[k][0]: 0 for k in found}), *others], origin, label=label)
    return {**named, **found}


def _undecoded(data: Any, column: str) -> Any:
    """The data set with files as they are: hashed as files are, and decoded as every image is."""
    feature = (data.features or {}).get(column)
    if hasattr(data, "cast_column") and getattr(feature, "decode", False):
        kind: Any = type(feature)
        return data.cast_column(column, kind(decode=False))
    return data


def _names(data: Any, column: str) -> list[str]:
    return [str(name) for name in getattr((data.features or {}).get(column), "names", None) or []]


def _labels(data: Any, column: str) -> list[Any]:
    names = _names(data, column)
    if not names:
        return [label_cell(value) for value in data[column]]
    return [  # −1 stands for no label
        names[value] if isinstance(value, int) and 0 <= value < len(names) else "" for value in data[column]
    ]


def _splits(data: Any) -> list[str]:
    return list(data) if isinstance(data, Mapping) else dataset_listing(data).splits()


def _read(data: Any, split: str | None, prefer: str) -> LabelledSources:
    if not isinstance(data, Mapping):
        return dataset_listing(data).read(split, prefer)
    name = pick(list(data), split or prefer, type(data).__name__)
    listing = dataset_listing(data[name], split=name)
    records = [Record(r.where, r.path, r.label, name, r.source) for r in listing.records]
    return Listing(
        listing.kind, listing.origin, listing.root, records, listing.columns, listing.classes
    ).read(name, prefer)


READER = Reader("Hugging Face data set", is_dataset, _splits, _read)
