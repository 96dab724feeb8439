"""pandas and polars data frames. Paths in them are relative to the folder that the program runs in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.data._display import escape
from fewclip.data.readers._columns import label_cell, match_columns, notes, path_cell
from fewclip.data.readers._listing import Listing, Record, listing_reader
from fewclip.data.stored import Held, image_of_cell


def is_frame(source: Any) -> bool:
    """Whether something has columns with names, as a data frame has."""
    return (hasattr(source, "columns") and hasattr(source, "__len__") and hasattr(source, "iloc")) or (
        hasattr(source, "columns") and hasattr(source, "get_column")
    )


def frame_listing(frame: Any, *, label: bool = True) -> Listing:
    """All rows of a data frame.

    Args:
        frame: It has a column of paths, PIL images, image bytes or ``{"bytes": …}``, and one of labels.
        label: Whether there must be a label.

    Raises:
        DataError: A column is not there.
    """
    origin = f"{type(frame).__name__} of {len(frame)} rows"
    columns = match_columns(list(frame.columns), origin, label=label)
    none = [""] * len(frame)
    cells = {what: none if name == "" else list(frame[name]) for what, name in columns.items()}
    records = [
        _record(i, image, label_cell(of), str(split) if isinstance(split, str) else "")
        for i, (image, of, split) in enumerate(zip(*cells.values(), strict=True))
    ]
    return Listing("a data frame", origin, Path(), records, notes(columns))


def _record(i: int, cell: Any, label: Any, split: str) -> Record:
    where = f"row {i}"
    if isinstance(cell, dict):
        cell = image_of_cell(cell, where)
    if isinstance(cell, bytes):
        return Record(where, "", label, split, Held(cell, where))
    if isinstance(cell, Image.Image):
        return Record(where, "", label, split, cell)
    path = path_cell(cell)
    return Record(where, path, escape(label) if isinstance(label, str) else label, split)


READER = listing_reader("pandas or polars data frame", is_frame, frame_listing)
