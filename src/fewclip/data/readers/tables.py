"""CSV, TSV, JSON Lines and Parquet files with the columns path, label and, optionally, split."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fewclip.data._display import display_path, escape
from fewclip.data._parquet import load_pyarrow
from fewclip.data.readers._columns import match_columns, notes, text_cell
from fewclip.data.readers._listing import Listing, Record, listing_reader
from fewclip.data.stored import Held
from fewclip.errors import DataError

TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}


def is_table(path: Path) -> bool:
    """Whether it is a file with the suffix of a table."""
    return path.suffix.lower() in TABLE_SUFFIXES and path.is_file()


def read_table(path: Path, *, split: str = "") -> Listing:
    """All rows of a table; paths are relative to its own folder.

    Args:
        path: The file.
        split: The split of its rows, where the table itself has none.

    Raises:
        DataError: The file cannot be read, is no such table, or lacks a column.
    """
    name, suffix = display_path(path), path.suffix.lower()
    if suffix == ".parquet":
        found = _parquet(path, name)
    else:
        found = _text(path, name, is_csv=suffix in {".csv", ".tsv"})
    columns, records = found
    if split and not columns["split"]:
        records = [Record(r.where, r.path, r.label, split, r.source) for r in records]
    kinds = {".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet"}
    return Listing(f"{kinds.get(suffix, 'JSON Lines')} table", name, path.parent, records, notes(columns))


def _text(path: Path, name: str, *, is_csv: bool) -> tuple[dict[str, Any], list[Record]]:
    try:
        # Undecodable bytes survive: they may be part of a path.
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = list(_csv_rows(stream, path) if is_csv else _json_rows(stream, name))
    except OSError as error:
        got = escape(error.strerror or str(error))
        raise DataError(name, expected="a readable table", got=got, fix="Check the path.") from error
    except csv.Error as error:
        fix = "Save it as CSV in UTF-8 again."
        raise DataError(name, expected="a CSV table", got=escape(str(error)), fix=fix) from error
    columns = match_columns(dict.fromkeys(key for _, row in rows for key in row), name)
    if rows and {"score", "top2_label"} <= set(rows[0][1]):
        fix = "Name a table of true labels; rename the columns if these have been checked."
        raise DataError(name, expected="labels", got="predictions, as fewclip predict writes them", fix=fix)
    if is_csv:
        rows = rows[1:]
    cells = [(line, [text_cell(row.get(columns[what])) for what in columns]) for line, row in rows]
    return columns, [Record(f"line {line}", *three) for line, three in cells]


def _csv_rows(stream: Iterable[str], table: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
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


def _json_rows(stream: Iterable[str], name: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
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


def _parquet(path: Path, name: str) -> tuple[dict[str, Any], list[Record]]:
    parquet = load_pyarrow()[1]
    try:
        schema = parquet.read_schema(path)
        columns = match_columns(schema.names, name)
        wanted = [column for column in columns.values() if column]
        table = parquet.read_table(path, columns=wanted)
    except DataError:
        raise
    except Exception as error:  # pyarrow has errors of many kinds
        got = f"{type(error).__name__}: {escape(str(error))}"
        raise DataError(name, expected="a Parquet table", got=got, fix="Write it again.") from error
    cells = {what: table.column(column).to_pylist() for what, column in columns.items() if column}
    names = _class_label(schema.metadata, columns["label"])
    labels = [text_cell(value) for value in cells["label"]]
    if names:
        labels = [
            names[int(label)] if label.isdigit() and int(label) < len(names) else "" for label in labels
        ]
    splits = [text_cell(value) for value in cells["split"]] if columns["split"] else [""] * len(labels)
    rows = zip(cells["path"], labels, splits, strict=True)
    return columns, [_parquet_record(i, cell, label, split) for i, (cell, label, split) in enumerate(rows)]


def _parquet_record(i: int, cell: Any, label: str, split: str) -> Record:
    """A cell is a path, or what Hugging Face writes: {"bytes": …, "path": …}."""
    where = f"row {i}"
    if isinstance(cell, dict):
        shown = cell.get("path") or ""
        content = cell.get("bytes")
        source = Held(content, escape(shown) or where) if content else None
        return Record(where, shown, label, split, source)
    if isinstance(cell, bytes):
        return Record(where, "", label, split, Held(cell, where))
    return Record(where, text_cell(cell), label, split)


def _class_label(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str]:
    """The names of the numbers in a column, where Hugging Face's ``datasets`` wrote them into the schema."""
    try:
        document = json.loads((metadata or {})[b"huggingface"])
        return [str(name) for name in document["info"]["features"][column]["names"]]
    except (LookupError, TypeError, ValueError):
        return []


READER = listing_reader("table", is_table, read_table)
