"""Which column of a table holds what, and what a cell says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from fewclip.data._display import escape
from fewclip.data.labelled import Note
from fewclip.errors import DataError

ALIASES = {
    "path": ("path", "file", "filename", "file_name", "image", "img", "file_path", "filepath", "image_path"),
    "label": ("label", "class", "class_name", "labels", "category", "target"),
    "split": ("split",),
}


def match_columns(names: Iterable[Any], item: str, *, label: bool = True) -> dict[str, Any]:
    """For each of path, label and split the column that holds it; "" for one not there and not needed.

    Args:
        names: The columns, as they are written.
        item: The table, for the error.
        label: Whether there must be a label.

    Raises:
        DataError: There is no column of paths, or none of labels.
    """
    present: dict[str, Any] = {}
    for name in names:
        present.setdefault(str(name).strip().lower(), name)
    columns = {
        what: next((present[alias] for alias in aliases if alias in present), "")
        for what, aliases in ALIASES.items()
    }
    missing = [what for what in ("path", *(["label"] if label else [])) if columns[what] == ""]
    if missing:
        found = ", ".join(repr(escape(key)) for key in list(present)[:20] if key) or "no columns"
        raise DataError(
            item, got=found,
            expected="the columns path and label" if label else "a column of paths or images",
            fix=f"Name the column of the {missing[0]} one of: {', '.join(ALIASES[missing[0]])}.",
        )  # fmt: skip
    return columns


def notes(columns: dict[str, Any]) -> tuple[Note, ...]:
    """The columns that are used, for people."""
    return tuple((what, escape(str(name).strip())) for what, name in columns.items() if name != "")


def text_cell(value: object) -> str:
    """A cell of a text file: a label may be a number; true, null, 0.5 or a list are no names of a class."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return str(value).strip()


def label_cell(value: Any) -> Any:
    """A label of a data frame: text and whole numbers stay, "" stands for none."""
    value = getattr(value, "item", lambda: value)()  # NumPy scalars
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):  # pandas makes floats of whole numbers where one is absent
        return int(value) if value.is_integer() else "" if value != value else str(value)
    return value if isinstance(value, int) else ""


def path_cell(value: Any) -> str:
    """A path of a data frame; "" for none."""
    return os.fspath(value).strip() if isinstance(value, str | os.PathLike) else ""
