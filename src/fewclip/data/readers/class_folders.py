"""A folder with one subfolder a class, or with one such folder a split."""

from __future__ import annotations

import os
from pathlib import Path

from fewclip.data._display import display_path, escape
from fewclip.data._walk import (
    LINK_BACK,
    entry_is_folder,
    is_hidden,
    list_folder,
    real_ancestry,
    shown,
    walk_images,
    why_not,
)
from fewclip.data.labelled import LabelledSources, Source, count
from fewclip.data.readers._listing import SPLITS, Reader, canonical, pick
from fewclip.errors import DataError

_STRAY = "an image outside the class folders"


def read_class_folders(path: Path, *, kind: str = "class folders", split: str = "") -> LabelledSources:
    """The images of a folder of class folders.

    Raises:
        DataError: There is no class folder, or a folder cannot be read.
    """
    name = display_path(path)
    images: list[tuple[Source, str, str]] = []
    classes: list[str] = []
    skipped: list[tuple[str, str]] = []
    try:
        above = real_ancestry(path)
        for entry in list_folder(path):
            if reason := _why_no_class(entry, above):
                skipped.append((shown(entry.name), reason))
                continue
            label = escape(entry.name)
            walk = walk_images(Path(entry.path))
            classes.append(label)
            images += [(walk.root / file, label, shown(entry.name, file)) for file in walk.files]
            skipped += [(shown(entry.name, file), reason) for file, reason in walk.skipped]
    except OSError as error:
        raise unreadable(name, error) from error
    if not classes:
        strays = sum(reason == _STRAY for _, reason in skipped)
        seen = f"{count(strays, 'image')} directly in the folder and no class folders"
        fix = "Put the images of each class in a subfolder with the name of the class."
        raise DataError(name, expected="one subfolder for each class", got=seen, fix=fix)
    sources, labels, names = zip(*images, strict=True) if images else ((), (), ())
    return LabelledSources(
        sources, labels, names, tuple(sorted(classes)), tuple(skipped), name, kind=kind, split=split
    )


def _why_no_class(entry: os.DirEntry[str], above: set[str]) -> str | None:
    if is_hidden(entry.name) or not entry_is_folder(entry):
        return why_not(entry) or _STRAY
    return LINK_BACK if os.path.realpath(entry.path) in above else None


def unreadable(name: str, error: OSError) -> DataError:
    """The error of a folder that the system does not let us read."""
    where = f" in {display_path(error.filename)}" if isinstance(error.filename, str) else ""
    got = f"{escape(error.strerror or str(error))}{where}"
    return DataError(name, expected="a readable folder", got=got, fix="Check its permissions.")


def _read(path: Path, split: str | None, prefer: str) -> LabelledSources:
    name = display_path(path)
    try:
        root = _choose_split(path, name, split, prefer)
    except OSError as error:
        raise unreadable(name, error) from error
    if root == path:
        return read_class_folders(path)
    found = read_class_folders(root, kind="split folders", split=canonical(root.name))
    return LabelledSources(**{**vars(found), "origin": name})


def _choose_split(path: Path, name: str, split: str | None, prefer: str) -> Path:
    """The folder that holds the class folders: one of the splits, or the folder itself."""
    with_classes, unlabelled = _split_folders(path)
    if not with_classes:
        if split is not None:
            fix = "Leave out the split, or check the path."
            raise DataError(name, expected=f"a folder of splits with {split!r}", got="no splits", fix=fix)
        return path
    loose = [entry for entry in unlabelled if _has_files(path / entry)]
    if split is None and loose:  # Two classes called train and test? Too likely to be meant otherwise.
        raise DataError(
            name,
            expected="splits that hold only class folders",
            got=f"{loose[0]!r} with files directly in it beside {with_classes[0]!r} with class folders",
            fix=f"Name the split, or its folder: {name.rstrip('/')}/{with_classes[0]}.",
        )
    empty = [entry for entry in unlabelled if entry not in loose]
    return path / pick(sorted([*with_classes, *empty]), split or prefer, name)


def _split_folders(path: Path) -> tuple[list[str], list[str]]:
    """(splits that hold class folders, other folders named like splits); nothing if it is no split layout."""
    folders = [entry for entry in list_folder(path) if not is_hidden(entry.name) and entry_is_folder(entry)]
    if not all(entry.name.lower() in SPLITS for entry in folders):
        return [], []
    inside = {
        entry.name: [e for e in list_folder(Path(entry.path)) if not is_hidden(e.name)] for entry in folders
    }
    with_classes = [
        name for name, entries in inside.items() if entries and all(map(entry_is_folder, entries))
    ]
    return with_classes, [name for name in inside if name not in with_classes]


def _has_files(folder: Path) -> bool:
    return any(not is_hidden(e.name) and not entry_is_folder(e) for e in list_folder(folder))


READER = Reader("class folders", Path.is_dir, lambda path: _split_folders(path)[0], _read)
