"""FGVC-Aircraft as it is published: ``images_variant_train.txt`` and so on beside ``images/``."""

from __future__ import annotations

from pathlib import Path

from fewclip.data._display import display_path
from fewclip.data.readers._listing import Listing, Record, listing_reader
from fewclip.data.readers.split_zhou import called

_FILES = {split: f"images_variant_{split}.txt" for split in ("train", "val", "test")}


def _folder(path: Path) -> Path | None:
    places = (path, path / "data") if path.is_dir() else ()
    return next((p for p in places if any((p / f).is_file() for f in _FILES.values())), None)


def _listing(path: Path) -> Listing:
    folder = _folder(path) or path
    records = []
    for split, name in _FILES.items():
        file = folder / name
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for number, line in enumerate(lines, start=1):
            image, _, variant = line.strip().partition(" ")
            if image:
                records.append(Record(f"{name}, line {number}", f"{image}.jpg", variant.strip(), split))
    variants = folder / "variants.txt"
    classes = variants.read_text(encoding="utf-8").splitlines() if variants.is_file() else []
    classes = tuple(name.strip() for name in classes if name.strip())
    return Listing(
        "FGVC-Aircraft, variants", display_path(path), folder / "images", records, (), classes,
        called=called(records, {}),
    )  # fmt: skip


READER = listing_reader("FGVC-Aircraft", lambda path: _folder(path) is not None, _listing)
