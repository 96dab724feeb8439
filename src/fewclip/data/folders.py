"""What labelled or unlabelled images lie on disk."""

from __future__ import annotations

import glob
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewclip.data._display import display_path, escape
from fewclip.data._tables import TABLE_SUFFIXES, Row, read_table
from fewclip.data._walk import (
    HIDDEN,
    LINK_BACK,
    entry_is_folder,
    is_hidden,
    list_folder,
    real_ancestry,
    shown,
    walk_images,
    why_not,
)
from fewclip.errors import DataError

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_STRAY = "an image outside the class folders"


@dataclass(frozen=True)
class LabelledImages:
    """Images with the name of their class, in sorted path order (of a table: in its order).

    Attributes:
        paths: Where each image lies.
        labels: The class of each.
        names: Each path relative to the folder of classes or of the table, with ``/``, safe to print.
        classes: All class names, sorted, including those without an image.
        skipped: (name, reason) of everything that was not taken.
        source: The folder or table, safe to print.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    source: str

    def __len__(self) -> int:
        return len(self.paths)

    def summary(self) -> str:
        """One line: images, classes, the smallest and the largest class, what was skipped."""
        counts = Counter(self.labels)
        by_size = sorted(self.classes, key=lambda name: (counts[name], name))
        smallest, largest = by_size[0], by_size[-1]
        return (
            f"{_count(len(self), 'image')} of {_count(len(self.classes), 'class', 'classes')} "
            f"(smallest: {smallest} with {counts[smallest]}; largest: {largest} with {counts[largest]}), "
            f"{len(self.skipped)} skipped"
        )


@dataclass(frozen=True)
class FoundImage:
    """A file to classify, and what to call it in the results."""

    path: Path
    name: str


def read_labelled(source: str | Path, *, split: str | None = None, prefer: str = "train") -> LabelledImages:
    """Read a folder of class folders, a folder of splits, or a table.

    A folder of splits is one whose every subfolder is called train, val, valid, validation or test and
    holds only folders. A table is a CSV, TSV or JSON Lines file with the columns path, label and,
    optionally, split; its paths are relative to its own folder.

    Args:
        source: The folder or table.
        split: Which split to read; an error where there is none of that name. The three spellings of
            val mean the same.
        prefer: Which split to read where there are several and ``split`` names none.

    Returns:
        The images; with ``prefer="train"``, classes without one are named by a ``UserWarning``.

    Raises:
        DataError: There is nothing usable; the message says what was seen instead.
    """
    path, name = Path(source), display_path(source)
    if path.is_dir():
        found = _read_folder(path, name, split, prefer)
    elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        found = _read_table(path, name, split, prefer)
    else:
        got = "another kind of file" if path.exists() else "nothing at this path"
        expected = "a folder of class folders, or a .csv, .tsv or .jsonl table"
        raise DataError(name, expected=expected, got=got, fix="Check the path.")
    _check_classes(found)
    if prefer == "train":  # to learn from; in images to test on, a class without any says nothing
        _warn_of_empty(found)
    return found


def find_images(sources: Sequence[str | Path], *, ignored: list[str] | None = None) -> list[FoundImage]:
    """The files to classify: named ones, those in folders at any depth, and those that a glob matches.

    A file that is named is kept whatever its suffix and even if it is absent: its row tells. In folders
    only visible files with an image suffix count. One that two arguments lead to
    occurs twice: every argument gets its rows.

    Args:
        sources: Files, folders, or globs such as ``new/*.jpg`` (``**`` for any depth).
        ignored: Gets the visible files in folders that are no images.

    Returns:
        In the order of the arguments, sorted by path within one.

    Raises:
        DataError: No source at all, or one of them is a folder or a glob without images.
    """
    if isinstance(sources, (str, Path)):
        sources = [sources]
    if not sources:
        fix = "Name images, a folder or a glob."
        raise DataError("images", expected="at least one path", got="none", fix=fix)
    return [
        FoundImage(Path(path), display_path(name))
        for source in sources
        for path, name in _expand(os.fspath(source), [] if ignored is None else ignored)
    ]


def _expand(source: str, ignored: list[str]) -> Iterable[tuple[str, str]]:
    if os.path.isdir(source):
        return _images_in(source, ignored)
    if os.path.lexists(source) or not glob.has_magic(source):
        return [(source, source)]
    matches = sorted(glob.glob(source, recursive=True))
    pairs = [
        pair
        for match in matches
        for pair in (
            _images_in(match, ignored, may_be_empty=True) if os.path.isdir(match) else [(match, match)]
        )
    ]
    if not pairs:
        got = "a glob that matches none"
        raise DataError(display_path(source), expected="images", got=got, fix="Check the pattern.")
    return pairs


def _images_in(folder: str, ignored: list[str], *, may_be_empty: bool = False) -> list[tuple[str, str]]:
    name = display_path(folder)
    try:
        walk = walk_images(Path(folder))
    except OSError as error:
        raise _unreadable(name, error) from error
    if not walk.files and not may_be_empty:
        got = f"{_count(len(walk.skipped), 'other entry', 'other entries')}" if walk.skipped else "nothing"
        raise DataError(name, expected="a folder with images", got=got, fix="Check the path.")
    base = folder.rstrip("/" + os.sep)
    ignored += [f"{base}/{file} ({reason})" for file, reason in walk.skipped if reason != HIDDEN]
    return [(os.path.join(folder, file), f"{base}/{file}") for file in walk.files]


def _read_folder(path: Path, name: str, split: str | None, prefer: str) -> LabelledImages:
    try:
        root = _choose_split(path, name, split, prefer)
        entries = list_folder(root)
        above = real_ancestry(root)
        images: list[tuple[Path, str, str]] = []
        classes: list[str] = []
        skipped: list[tuple[str, str]] = []
        for entry in entries:
            if reason := _why_no_class(entry, above):
                skipped.append((shown(entry.name), reason))
                continue
            label = escape(entry.name)
            walk = walk_images(Path(entry.path))
            classes.append(label)
            images += [(walk.root / file, label, shown(entry.name, file)) for file in walk.files]
            skipped += [(shown(entry.name, file), reason) for file, reason in walk.skipped]
    except OSError as error:
        raise _unreadable(name, error) from error
    if not classes:
        strays = sum(reason == _STRAY for _, reason in skipped)
        seen = f"{_count(strays, 'image')} directly in the folder and no class folders"
        fix = "Put the images of each class in a subfolder with the name of the class."
        raise DataError(name, expected="one subfolder for each class", got=seen, fix=fix)
    paths, labels, names = zip(*images, strict=True) if images else ((), (), ())
    return LabelledImages(paths, labels, names, tuple(sorted(classes)), tuple(skipped), name)


def _why_no_class(entry: os.DirEntry[str], above: set[str]) -> str | None:
    if is_hidden(entry.name) or not entry_is_folder(entry):
        return why_not(entry) or _STRAY
    return LINK_BACK if os.path.realpath(entry.path) in above else None


def _unreadable(name: str, error: OSError) -> DataError:
    where = f" in {display_path(error.filename)}" if isinstance(error.filename, str) else ""
    got = f"{escape(error.strerror or str(error))}{where}"
    return DataError(name, expected="a readable folder", got=got, fix="Check its permissions.")


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
    return path / _pick(sorted([*with_classes, *empty]), split or prefer, name)


def _split_folders(path: Path) -> tuple[list[str], list[str]]:
    """(splits that hold class folders, other folders named like splits); nothing if it is no split layout."""
    folders = [entry for entry in list_folder(path) if not is_hidden(entry.name) and entry_is_folder(entry)]
    if not all(entry.name.lower() in _SPLITS for entry in folders):
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


def find_splits(source: str | Path) -> list[str]:
    """Names of the splits of a folder or table among train, val and test; empty if it has none."""
    path = Path(source)
    if path.is_dir():
        found = _split_folders(path)[0]
    elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        found = [row.split for row in read_table(path) if row.split]
    else:
        found = []
    return sorted({_canonical(name) for name in found})


def _pick(available: Sequence[str], wanted: str, name: str) -> str:
    exact = [option for option in available if option == wanted]
    alike = [option for option in available if _canonical(option) == _canonical(wanted)]
    if not alike:
        got = ", ".join(map(escape, available))
        raise DataError(name, expected=f"the split {wanted!r}", got=got, fix="Name one of these splits.")
    return (exact or alike)[0]


def _canonical(split: str) -> str:
    return _SPLITS.get(split.lower(), split.lower())


def _read_table(path: Path, name: str, split: str | None, prefer: str) -> LabelledImages:
    rows = read_table(path)
    available = sorted({row.split for row in rows if row.split})
    if available or split is not None:
        wanted = _canonical(_pick(available or ["no split column"], split or prefer, name))
        rows = [row for row in rows if _canonical(row.split) == wanted]
    kept: list[tuple[Path, str, str]] = []
    skipped: list[tuple[str, str]] = []
    classes: set[str] = set()
    for row in rows:
        file = path.parent / row.path
        reason = _why_not_row(row, file)
        classes |= {escape(row.label)} if row.label else set()
        if reason:
            skipped.append((f"line {row.line}: {shown(row.path)}", reason))
        else:
            kept.append((file, escape(row.label), shown(row.path)))
    if not kept and skipped:
        got = f"none in {_count(len(skipped), 'row')}; {skipped[0][0]}: {skipped[0][1]}"
        fix = "Paths are relative to the folder of the table."
        raise DataError(name, expected="rows with a label and an existing file", got=got, fix=fix)
    paths, labels, names = zip(*kept, strict=True) if kept else ((), (), ())
    return LabelledImages(paths, labels, names, tuple(sorted(classes)), tuple(skipped), name)


def _why_not_row(row: Row, file: Path) -> str | None:
    if not row.path:
        return "no path"
    if not row.label:
        return "no label"
    try:
        return None if file.is_file() else "no such file"
    except (OSError, ValueError):
        return "not a path"


def _check_classes(found: LabelledImages) -> None:
    by_folded: dict[str, str] = {}
    for name in found.classes:
        other = by_folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            got = f"{other!r} and {name!r}"
            fix = "They would be two classes with one name: merge or rename them."
            raise DataError(
                found.source, expected="class names that differ by more than case", got=got, fix=fix
            )
    if not found.paths:
        got = f"{_count(len(found.classes), 'class', 'classes')} and {len(found.skipped)} other entries"
        raise DataError(found.source, expected="at least one image", got=got, fix="Check the path.")


def _warn_of_empty(found: LabelledImages) -> None:
    empty = sorted(set(found.classes) - set(found.labels))
    if empty:
        names = ", ".join(empty[:10]) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
        message = f"{found.source}: no images of {names}; such a class is recognised by its name alone."
        warnings.warn(message, UserWarning, stacklevel=4)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
