"""ImageNet, -V2, -Sketch, -A and -R, as CoOp lays them out: folders of WordNet ids beside ``classnames.txt``.

Reference: arXiv 2109.01134 (CoOp), its DATASETS.md.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from fewclip.data._display import display_path, escape
from fewclip.data._walk import entry_is_folder
from fewclip.data.labelled import LabelledSources
from fewclip.data.readers._listing import Reader, pick
from fewclip.data.readers.class_folders import read_class_folders
from fewclip.errors import DataError

_WNID = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"\d{1,3}")
_VARIANTS = {
    "imagenetv2-matched-frequency-format-val": "ImageNet-V2",
    "imagenetv2-threshold0.7-format-val": "ImageNet-V2 (threshold 0.7)",
    "imagenetv2-top-images-format-val": "ImageNet-V2 (top images)",
    "imagenet-a": "ImageNet-A",
    "imagenet-r": "ImageNet-R",
}


@dataclass(frozen=True)
class _Layout:
    name: str
    splits: dict[str, Path]
    numbered: bool = False  # folders are the places of ids in classnames.txt


def _layout(path: Path) -> _Layout | None:
    """What the folder is by its structure; the published validation images are what everybody tests on."""
    if not path.is_dir():
        return None
    for folder, name in _VARIANTS.items():
        numbered = name.startswith("ImageNet-V2")
        for place in (path / folder, *([path] if path.name == folder else [])):
            if _holds(place, _NUMBER if numbered else _WNID):
                return _Layout(name, {"test": place}, numbered)
    images = path / "images"
    if _holds(images / "train", _WNID):
        val = {"test": images / "val"} if _holds(images / "val", _WNID) else {}
        return _Layout("ImageNet", {"train": images / "train", **val})
    return _Layout("ImageNet-Sketch", {"test": images}) if _holds(images, _WNID) else None


def _holds(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Whether the first visible subfolder is called so."""
    try:
        with os.scandir(folder) as entries:
            first = min((e.name for e in entries if e.name[:1] != "." and entry_is_folder(e)), default="")
    except OSError:
        return False
    return pattern.fullmatch(first) is not None


def _class_names(path: Path) -> dict[str, str]:
    """WordNet id → name, in the order of the file; {} without one.

    Raises:
        DataError: A line is not an id and a name.
    """
    places = (path, path.parent, path.parent / "imagenet", path.parent.parent / "imagenet")
    file = next((p / "classnames.txt" for p in places if (p / "classnames.txt").is_file()), None)
    names: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines() if file else [], start=1):
        wnid, _, name = line.strip().partition(" ")
        if wnid and not (_WNID.fullmatch(wnid) and name.strip()):
            raise DataError(
                f"{display_path(file or path)}, line {number}", expected="a WordNet id and a name",
                got=escape(line[:60]), fix="Take the file from CoOp's DATASETS.md.",
            )  # fmt: skip
        if wnid:
            names[wnid] = name.strip()
    return names


def _labels(layout: _Layout, names: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Folder → (label, name). Two ids with one name stay two classes: the label then has the id as well."""
    counts = Counter(names.values())
    return {
        str(i) if layout.numbered else wnid: (name if counts[name] == 1 else f"{name} ({wnid})", name)
        for i, (wnid, name) in enumerate(names.items())
    }


def _read(path: Path, split: str | None, prefer: str) -> LabelledSources:
    layout, origin = _layout(path), display_path(path)
    assert layout is not None
    wanted = pick(list(layout.splits), split or prefer, origin)
    found = replace(read_class_folders(layout.splits[wanted], kind=layout.name, split=wanted), origin=origin)
    names = _class_names(path)
    if not names:
        if layout.numbered:
            raise DataError(
                origin, expected="classnames.txt, which says what the folders 0 to 999 are", got="none",
                fix="Put the file of CoOp's DATASETS.md beside them, or into imagenet/ beside this folder.",
            )  # fmt: skip
        return replace(found, kind=f"{layout.name}, no classnames.txt: labels are WordNet ids")
    labels = _labels(layout, names)
    kept = [i for i, label in enumerate(found.labels) if label in labels]
    other = [(found.names[i], "in no folder of classnames.txt") for i in set(range(len(found))) - set(kept)]
    part = found.take(kept)
    classes = sorted(labels[folder] for folder in found.classes if folder in labels)
    return replace(
        part,
        labels=tuple(labels[label][0] for label in part.labels),
        classes=tuple(label for label, _ in classes),
        called=dict(classes),
        skipped=(*part.skipped, *sorted(other)),
    )


def _splits(path: Path) -> list[str]:
    layout = _layout(path)
    return [] if layout is None else list(layout.splits)


READER = Reader("ImageNet and its variants", lambda path: _layout(path) is not None, _splits, _read)
