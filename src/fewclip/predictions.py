"""Predictions as rows of a file: one for every image, in order, written aside and renamed at the end."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from fewclip.data import display_path
from fewclip.data._files import written_aside
from fewclip.data._parquet import load_pyarrow
from fewclip.errors import DataError, FewclipError, ParameterError

SUFFIXES = (".csv", ".jsonl", ".parquet")
_OTHERWISE = ", or write .csv or .jsonl"
_ROWS = 4096  # rows of a Parquet row group


@dataclass(frozen=True)
class Prediction:
    """One image: the classes by falling probability, or an error.

    Attributes:
        name: The image, safe to print.
        labels: Classes by falling probability; empty if the image could not be read.
        scores: Their probabilities.
        error: What is wrong with the image; None if nothing.
        extra: Further columns, or others than the above would be: ``set``, ``guess``, ``label``.
    """

    name: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: FewclipError | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def row(self, top: int, columns: Sequence[str] = ()) -> dict[str, Any]:
        """``path, label, score, top2_label, …, COLUMNS, error`` with None where there is nothing."""
        row: dict[str, Any] = {"path": self.name}
        for k in range(top):
            prefix = "" if k == 0 else f"top{k + 1}_"
            row[f"{prefix}label"] = self.labels[k] if k < len(self.labels) else None
            row[f"{prefix}score"] = round(self.scores[k], 6) if k < len(self.scores) else None
        row |= {**dict.fromkeys(columns), **self.extra}
        row["error"] = str(self.error) if self.error else None
        return row


@dataclass
class Written:
    """How many rows were written, and how many of them are errors."""

    rows: int = 0
    errors: int = 0


def write_predictions(
    predictions: Iterable[Prediction],
    target: Path | None,
    *,
    top: int,
    columns: Sequence[str] = (),
    as_json: bool = False,
) -> Written:
    """Writes one row a prediction.

    Args:
        predictions: The rows, in order.
        target: A .csv, .jsonl or .parquet file; None: stdout, as CSV or JSON Lines.
        top: Classes a row.
        columns: Further columns, which ``Prediction.extra`` may fill.
        as_json: JSON Lines on stdout.

    Raises:
        ParameterError: Another suffix.
        DataError: The file cannot be written.
    """
    if target is None:
        write = _write_jsonl if as_json else _write_csv
        return write(predictions, sys.stdout, top, columns)
    check_target(target)
    with written_aside(target) as file:
        return _write(predictions, file, target.suffix.lower(), top, columns)


def check_target(target: Path) -> None:
    """Raises ParameterError unless the suffix names a format; before hours of work, not after."""
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ParameterError(
            f"--output {display_path(target)}",
            expected=f"a name that ends in {', '.join(SUFFIXES)}",
            got=f"{suffix or 'no suffix'}",
            fix="Give the file one of these suffixes.",
        )
    if suffix == ".parquet":
        load_pyarrow(otherwise=_OTHERWISE)
    if os.path.isdir(target):
        raise DataError(
            display_path(target), expected="a file", got="a folder", fix="Name a file, in it or beside it."
        )
    if not target.parent.is_dir():
        raise DataError(
            display_path(target.parent), expected="a folder", got="none", fix="Create it, or change --output."
        )


def _write(
    predictions: Iterable[Prediction], file: Any, suffix: str, top: int, more: Sequence[str]
) -> Written:
    if suffix == ".parquet":
        return _write_parquet(predictions, file, top, more)
    with open(file.fileno(), "w", encoding="utf-8", newline="", closefd=False) as text:
        return (_write_csv if suffix == ".csv" else _write_jsonl)(predictions, text, top, more)


def _write_csv(predictions: Iterable[Prediction], file: TextIO, top: int, more: Sequence[str]) -> Written:
    written = Written()
    writer = csv.DictWriter(file, list(Prediction("").row(top, more)), lineterminator="\n")
    writer.writeheader()
    for prediction in predictions:
        writer.writerow(prediction.row(top, more))
        _count(written, prediction)
    return written


def _write_jsonl(predictions: Iterable[Prediction], file: TextIO, top: int, more: Sequence[str]) -> Written:
    written = Written()
    for prediction in predictions:
        file.write(json.dumps(prediction.row(top, more), ensure_ascii=False) + "\n")
        _count(written, prediction)
    return written


def _write_parquet(predictions: Iterable[Prediction], file: Any, top: int, more: Sequence[str]) -> Written:
    arrow, parquet = load_pyarrow(otherwise=_OTHERWISE)
    columns = list(Prediction("").row(top, more))
    schema = arrow.schema([(c, arrow.float64() if c.endswith("score") else arrow.string()) for c in columns])
    written, rows = Written(), []
    with parquet.ParquetWriter(file, schema) as writer:
        for prediction in predictions:
            rows.append(prediction.row(top, more))
            _count(written, prediction)
            if len(rows) == _ROWS:
                writer.write_table(arrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(arrow.Table.from_pylist(rows, schema))
    return written


def _count(written: Written, prediction: Prediction) -> None:
    written.rows += 1
    written.errors += prediction.error is not None
