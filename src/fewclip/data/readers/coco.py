"""COCO-like JSON: images, annotations and categories; one category an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewclip.data._display import display_path, escape
from fewclip.data.readers._json import is_json, load_json
from fewclip.data.readers._listing import Listing, Record, find_root, listing_reader
from fewclip.errors import DataError

_PARTS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}


def _listing(path: Path) -> Listing:
    name = display_path(path)
    images, annotations, categories = _parts(load_json(path), name)
    names = _unique(categories, "name", f"{name}, categories")
    files = _unique(images, "file_name", f"{name}, images")
    doubled = sorted(str(n) for n in names.values() if list(names.values()).count(n) > 1)
    if doubled:
        raise DataError(
            f"{name}, categories", expected="a name of its own for each", got=f"{doubled[0]!r} twice",
            fix="Rename or merge them.",
        )  # fmt: skip
    labels: dict[Any, str] = {}
    for i, annotation in enumerate(annotations):
        image, category = annotation["image_id"], annotation["category_id"]
        if image not in files or category not in names:
            what = f"image {image}" if image not in files else f"category {category}"
            raise DataError(
                f"{name}, annotations {i}", expected="an image and a category of this file",
                got=f"{escape(what)}, which is neither listed nor known", fix="Correct the file.",
            )  # fmt: skip
        first = labels.setdefault(image, names[category])
        if first != names[category]:
            raise DataError(
                f"{name}, {escape(str(files[image]))}", expected="one category an image",
                got=f"{first!r} and {names[category]!r}",
                fix="Cut the objects out as images of their own, or keep one category.",
            )  # fmt: skip
    records = [Record(f"image {i}", str(file), labels[i]) for i, file in files.items() if i in labels]
    skipped = tuple((escape(str(file)), "no annotation") for i, file in files.items() if i not in labels)
    root = find_root(path.parent, (record.path for record in records))
    columns = (("path", "images.file_name"), ("label", "categories.name"))
    return Listing("COCO-like JSON", name, root, records, columns, tuple(names.values()), skipped)


def _parts(document: Any, name: str) -> tuple[list[dict], list[dict], list[dict]]:
    for part, keys in _PARTS.items():
        rows = document.get(part) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise DataError(
                name, expected="a COCO-like document with images, annotations and categories, or splits of "
                "[path, label, name]", got=f"none with a list of {part}", fix="Check the file.",
            )  # fmt: skip
        for i, row in enumerate(rows):
            if not isinstance(row, dict) or any(not isinstance(row.get(key), int | str) for key in keys):
                raise DataError(
                    f"{name}, {part} {i}", expected=f"an object with {' and '.join(keys)}",
                    got=escape(repr(row)[:80]), fix="Correct the file.",
                )  # fmt: skip
    return document["images"], document["annotations"], document["categories"]


def _unique(rows: list[dict], value: str, item: str) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for row in rows:
        if row["id"] in found:
            raise DataError(
                item,
                expected="an id of its own for each",
                got=f"{row['id']!r} twice",
                fix="Correct the file.",
            )
        found[row["id"]] = str(row[value])
    return found


READER = listing_reader("COCO-like JSON", is_json, _listing)
