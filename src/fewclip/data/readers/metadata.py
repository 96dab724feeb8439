"""A folder of images with ``metadata.csv`` (or .jsonl, .parquet), as Hugging Face's ``imagefolder`` reads it.

The table has the columns ``file_name`` and a label; it lies in the folder, or in each of its split folders.
"""

from __future__ import annotations

import os
from pathlib import Path

from fewclip.data._display import display_path
from fewclip.data._walk import is_hidden, shown
from fewclip.data.readers._listing import SPLITS, Listing, Record, listing_reader
from fewclip.data.readers.tables import read_table
from fewclip.errors import DataError

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def _tables(folder: Path) -> dict[str, Path]:
    """The tables by split, "" where the folder itself has one."""
    if not folder.is_dir():
        return {}
    own = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if own is not None:
        return {"": own}
    try:
        children = [p for p in sorted(folder.iterdir()) if p.name.lower() in SPLITS and not is_hidden(p.name)]
    except OSError:
        return {}
    return {child.name: table for child in children for table in _tables(child).values()}


def _matches(folder: Path) -> bool:
    tables = _tables(folder)
    try:
        return bool(tables) and all(read_table(table).columns for table in tables.values())
    except DataError as error:  # captions, boxes: a table of something else; the folders may be classes
        return error.expected != "the columns path and label"


def _listing(folder: Path) -> Listing:
    parts = [(split, read_table(table, split=split)) for split, table in _tables(folder).items()]
    records = [
        _moved(r, split, os.path.relpath(part.root, folder)) for split, part in parts for r in part.records
    ]
    first = parts[0][1]
    kind = f"folder with metadata, a {first.kind}"
    return Listing(kind, display_path(folder), folder, records, first.columns)


def _moved(record: Record, split: str, below: str) -> Record:
    """A record of a split's own table, seen from the folder above."""
    if not split:
        return record
    path = os.path.join(below, record.path) if record.path else ""
    return Record(f"{shown(split)}, {record.where}", path, record.label, record.split, record.source)


READER = listing_reader("folder with metadata.csv", _matches, _listing)
