"""Files of prompts: sentences by class (JSON, CSV), or templates for all classes (text)."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewclip.data._display import display_path, escape
from fewclip.data.templates import PLACEHOLDER, resolve_templates
from fewclip.errors import DataError

_CLASS = ("class", "label", "class_name")
_SENTENCE = ("sentence", "prompt", "description", "name")
_FORMATS = (
    'JSON {"class": ["sentence", …], …}, CSV with the columns class,sentence, or text with one template a '
    "line that holds {}"
)


def read_prompts(
    path: str | Path, *, templates: str | Sequence[str] | None = None
) -> dict[str, list[str]] | list[str]:
    """What a file of prompts holds; pass it on as ``prompts``.

    - JSON ``{"class": ["sentence", …], …}``, as CuPL publishes it, or ``{"class": "sentence", …}``;
    - CSV (or TSV) with the columns ``class`` and ``sentence``, ``prompt``, ``description`` or ``name``, as
      many rows a class as you like;
    - text with one template a line, each with ``{}``: for all classes.

    The format is known by ``.json``, ``.csv`` and ``.tsv``; of any other name, by what the file holds.

    Args:
        path: The file, in UTF-8.
        templates: What names, in a column ``name``, are put into; sentences stay as they are.

    Returns:
        Class → at least one sentence; of a text file the templates.

    Raises:
        DataError: It cannot be read, or holds something else; names the file and the line.
    """
    name = display_path(path)
    text = _read(Path(path), name)
    suffix = Path(path).suffix.lower()
    if suffix == ".json" or (suffix not in (".csv", ".tsv") and _looks_like_json(text)):
        return _from_json(text, name)
    if suffix in (".csv", ".tsv") or _looks_like_csv(text):
        return _from_csv(text, name, resolve_templates(templates))
    return _from_text(text, name)


def _read(path: Path, name: str) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        got = escape(error.strerror or str(error))
        raise DataError(name, expected="a file of prompts", got=got, fix=f"Write {_FORMATS}.") from error
    except ValueError as error:
        got = f"bytes that are none: {error}"
        raise DataError(name, expected="text in UTF-8", got=got, fix="Save it in UTF-8.") from error
    if not text.strip():
        raise DataError(name, expected="prompts", got="an empty file", fix=f"Write {_FORMATS}.")
    return text


def _looks_like_json(text: str) -> bool:
    start = "".join(text.split())[:2]  # a template may begin with {}
    return start == '{"'


def _looks_like_csv(text: str) -> bool:
    head = text.lstrip().splitlines()[0]
    return PLACEHOLDER not in head and bool(set(_cells(head)) & set(_CLASS))


def _from_text(text: str, name: str) -> list[str]:
    templates = []
    for number, line in enumerate(text.splitlines(), start=1):
        if PLACEHOLDER in line:
            templates.append(line.strip())
        elif line.strip():
            raise DataError(
                f"{name}, line {number}",
                expected="a template, with {} where the class name goes",
                got=repr(escape(line.strip()[:60])),
                fix="Sentences for single classes go into a JSON file or a CSV table.",
            )
    return templates


# ---- JSON ----


def _from_json(text: str, name: str) -> dict[str, list[str]]:
    fix = 'Write {"class": ["sentence", …], …}.'
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        item = f"{name}, line {error.lineno}"
        raise DataError(item, expected="a JSON file", got=f"{error.msg}", fix=fix) from error
    except RecursionError as error:
        raise DataError(name, expected="a JSON file", got="one nested too deep", fix=fix) from error
    if not isinstance(pairs, _Pairs) or not pairs:
        got = "no class" if isinstance(pairs, _Pairs) else f"a {type(pairs).__name__}"
        raise DataError(name, expected="sentences by class", got=got, fix=fix)
    prompts: dict[str, list[str]] = {}
    for label, value in pairs:
        item = f"{name}{_line_of(label, text)}, class {escape(label)!r}"
        if label in prompts:
            fix = "Put all its sentences into one list."
            raise DataError(item, expected="every class once", got="this class again", fix=fix)
        sentences = [value] if isinstance(value, str) else value
        if not _are_sentences(sentences):
            got = repr(value)[:60]
            raise DataError(item, expected="a sentence, or a list of them", got=got, fix=fix)
        prompts[label] = sentences
    return prompts


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they come, repeated ones too."""


def _are_sentences(value: Any) -> bool:
    good = isinstance(value, list) and not isinstance(value, _Pairs) and value
    return bool(good) and all(isinstance(text, str) and text.strip() for text in value)


def _line_of(label: str, text: str) -> str:
    """Where a class stands last in a JSON file, ", line 3"; "" if it is spelled with escapes."""
    place = text.rfind(json.dumps(label, ensure_ascii=False))
    return f", line {text.count(chr(10), 0, place) + 1}" if place >= 0 else ""


# ---- CSV ----


def _from_csv(text: str, name: str, templates: list[str]) -> dict[str, list[str]]:
    lines = text.splitlines(keepends=True)
    columns = _cells(lines[0])
    label = next((columns.index(alias) for alias in _CLASS if alias in columns), None)
    kind = next((alias for alias in _SENTENCE if alias in columns), None)
    if label is None or kind is None:
        raise DataError(
            f"{name}, line 1",
            expected="the columns class and sentence",
            got=", ".join(repr(escape(column)) for column in columns[:20]),
            fix=f"Name the columns {', '.join(_CLASS)} and {', '.join(_SENTENCE)} (one of each).",
        )
    prompts: dict[str, list[str]] = {}
    reader = csv.reader(lines[1:], delimiter=_delimiter(lines[0]))
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            cells = [cell.strip() for cell in cells]
            if len(cells) != len(columns) or not cells[label] or not cells[columns.index(kind)]:
                raise DataError(
                    f"{name}, line {reader.line_num + 1}",
                    expected=f"a class and its {kind} in {len(columns)} cells",
                    got=f"{len(cells)} cells: {escape(' | '.join(cells))[:60]}",
                    fix='Put a sentence that holds a comma into quotes: "…, …".',
                )
            said = cells[columns.index(kind)]
            sentences = [t.replace(PLACEHOLDER, said) for t in templates] if kind == "name" else [said]
            prompts.setdefault(cells[label], []).extend(sentences)
    except csv.Error as error:
        item = f"{name}, line {reader.line_num + 1}"
        fix = "Save it as CSV in UTF-8 again."
        raise DataError(item, expected="a CSV table", got=escape(str(error)), fix=fix) from error
    if not prompts:
        fix = "Write one row a sentence."
        raise DataError(name, expected="rows of class and sentence", got="a header alone", fix=fix)
    return prompts


def _cells(head: str) -> list[str]:
    """The names of the columns, in small letters."""
    row = next(csv.reader([head.strip()], delimiter=_delimiter(head)), [])
    return [cell.strip().lower() for cell in row]


def _delimiter(head: str) -> str:
    """Tab, or the semicolon that spreadsheets write where the comma is decimal; else the comma."""
    return next((mark for mark in "\t;" if mark in head and "," not in head), ",")
