"""Rows of path, label and split from CSV, TSV and JSON Lines files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewclip.data._display import display_path, escape
from fewclip.errors import DataError

TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson"}
_ALIASES = {
    "path": ("path", "file", "filename", "file_name", "image"),
    "label": ("label", "class", "class_name"),
    "split": ("split",),
}


@dataclass(frozen=True)
class Row:
    """One row: its line in the file, and its cells as text ("" where there is none)."""

    line: int
    path: str
    label: str
    split: str


def read_table(table: Path) -> list[Row]:
    """All rows of a table that has at least the columns path and label, or an alias of each.

    Raises:
        DataError: The file cannot be read, is no such table, or lacks a column.
    """
    name = display_path(table)
    is_csv = table.suffix.lower() in {".csv", ".tsv"}
    try:
        # Undecodable bytes survive: they may be part of a path.
        with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            records = list(_csv_records(stream, table) if is_csv else _json_records(stream, name))
    except OSError as error:
        got = escape(error.strerror or str(error))
        raise DataError(name, expected="a readable table", got=got, fix="Check the path.") from error
    except csv.Error as error:
        fix = "Save it as CSV in UTF-8 again."
        raise DataError(name, expected="a CSV table", got=escape(str(error)), fix=fix) from error
    columns = _match_columns([record for _, record in records], name)
    if records and {"score", "top2_label"} <= set(records[0][1]):
        fix = "Name a table of true labels; rename the columns if these have been checked."
        raise DataError(name, expected="labels", got="predictions, as fewclip predict writes them", fix=fix)
    if is_csv:
        records = records[1:]
    return [
        Row(line, *(_cell(record.get(columns[column])) for column in ("path", "label", "split")))
        for line, record in records
    ]


def _csv_records(stream: Iterable[str], table: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    lines = iter(stream)
    header = next(lines, "")
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    if delimiter not in header and ";" in header:  # what spreadsheets write where the comma is decimal
        delimiter = ";"
    names = next(csv.reader([header], delimiter=delimiter), [])
    names = [name.strip().lower() for name in names]
    yield 1, dict.fromkeys(names, None)  # stands for the header, so that an empty table has columns
    reader = csv.reader(lines, delimiter=delimiter)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num + 1, dict(zip(names, cells, strict=False))


def _json_records(stream: Iterable[str], name: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            record = error
        if not isinstance(record, dict):
            raise DataError(
                f"{name}, line {number}",
                expected='a JSON object such as {"path": "a.jpg", "label": "cat"}',
                got=escape(line.strip()[:60]),
                fix="Write one object a line.",
            )
        yield number, {str(key).strip().lower(): value for key, value in record.items()}


def _match_columns(records: list[Mapping[str, Any]], name: str) -> dict[str, str]:
    """For each of our columns the table's name of it; "" for a split column that is not there."""
    present = dict.fromkeys(key for record in records for key in record)
    columns = {
        column: next((alias for alias in aliases if alias in present), "")
        for column, aliases in _ALIASES.items()
    }
    missing = [column for column in ("path", "label") if not columns[column]]
    if missing:
        found = ", ".join(repr(escape(key)) for key in list(present)[:20] if key) or "no columns"
        raise DataError(
            name,
            expected="the columns path and label",
            got=found,
            fix=f"Name the column of the {missing[0]} one of: {', '.join(_ALIASES[missing[0]])}.",
        )
    return columns


def _cell(value: object) -> str:
    # A label may be a number; true, null, 0.5 or a list are no names of a class.
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    return str(value).strip()
