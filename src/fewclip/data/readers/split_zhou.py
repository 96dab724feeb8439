"""``split_zhou_*.json``, the splits of the few-shot data sets that CoOp published and others use.

``{"train": [[path, label, name], …], "val": […], "test": […]}``. A folder that holds such
a file is read by it.

Reference: arXiv 2109.01134 (CoOp), its DATASETS.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewclip.data._display import display_path, escape
from fewclip.data.readers._json import begins_with, is_json, load_json
from fewclip.data.readers._listing import SPLITS, Listing, Record, find_root, listing_reader
from fewclip.errors import DataError

_FILE = re.compile(r"split_zhou_(\w+)\.json", re.IGNORECASE)
# Some copies of the splits hold the names of the folders, which say little; CoOp calls the classes so.
_CALLED = {
    "eurosat": {
        "AnnualCrop": "Annual Crop Land",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "SeaLake": "Sea or Lake",
    },
    "caltech101": {
        "airplanes": "airplane",
        "Faces": "face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
    },
}


def _matches(path: Path) -> bool:
    if path.is_dir():
        return _file_in(path) is not None
    return is_json(path) and (
        bool(_FILE.fullmatch(path.name)) or begins_with(path, r'\s*\{\s*"(train|val|test)"\s*:\s*\[\s*\[')
    )


def _file_in(folder: Path) -> Path | None:
    try:
        return next(iter(sorted(p for p in folder.iterdir() if _FILE.fullmatch(p.name))), None)
    except OSError:
        return None


def _listing(path: Path) -> Listing:
    file = (_file_in(path) or path) if path.is_dir() else path
    name = display_path(path)
    document = load_json(file)
    if not isinstance(document, dict) or not any(key in SPLITS for key in document):
        got = ", ".join(map(repr, list(document)[:5])) if isinstance(document, dict) else "no object"
        raise DataError(
            display_path(file), expected='splits, {"train": [[path, label, name], …], …}', got=escape(got),
            fix="Check the file.",
        )  # fmt: skip
    records = [
        _record(row, f"{split} {i}", split, file)
        for split, rows in document.items()
        if split in SPLITS and isinstance(rows, list)
        for i, row in enumerate(rows)
    ]
    _check_names(document, file)
    data_set = _FILE.fullmatch(file.name)
    known = _CALLED.get(data_set[1].lower(), {}) if data_set else {}
    kind = f"split_zhou JSON{f' of {data_set[1]}' if data_set else ''}"
    root = find_root(file.parent, (record.path for record in records))
    return Listing(kind, name, root, records, called=called(records, known))


def called(records: list[Record], known: Mapping[str, str]) -> dict[str, str]:
    """The usual clean-up of names: ``_`` becomes a space, hyphens stay ("707-320"); some are known."""
    labels = dict.fromkeys(record.label for record in records)
    return {label: known.get(label, label.replace("_", " ").strip()) for label in labels if label}


def _record(row: Any, where: str, split: str, file: Path) -> Record:
    if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and isinstance(row[2], str)):
        raise DataError(
            f"{display_path(file)}, {where}", expected="[path, label, name]", got=escape(repr(row)[:80]),
            fix="Check the file.",
        )  # fmt: skip
    return Record(where, row[0], row[2].strip(), split)


def _check_names(document: dict[str, Any], file: Path) -> None:
    """One number, one name: two numbers with one name would silently become one class."""
    names: dict[Any, str] = {}
    numbers: dict[str, Any] = {}
    for split in (key for key in document if key in SPLITS):
        for _, number, name in document[split]:
            if names.setdefault(number, name) != name or numbers.setdefault(name, number) != number:
                pairs = f"{number} {name!r} and {numbers.get(name, number)} {names[number]!r}"
                raise DataError(
                    display_path(file), expected="one number for each name", got=escape(pairs),
                    fix="Correct the labels.",
                )  # fmt: skip


READER = listing_reader("split_zhou JSON", _matches, _listing)
