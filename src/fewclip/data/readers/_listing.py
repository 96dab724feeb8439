"""What most readers have in common: a list of (path or image, label, split), of which one split is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewclip.data._display import escape
from fewclip.data._walk import is_hidden, shown
from fewclip.data.labelled import LabelledSources, Note, Source, count
from fewclip.errors import DataError

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SAMPLED = 20  # paths that are looked up to find out which folder they are relative to


@dataclass(frozen=True)
class Reader:
    """One way in which labelled images are kept.

    Attributes:
        name: What users call it.
        matches: Whether something is of this kind; cheap.
        splits: Names of its splits; [] if it has none.
        read: The images of one split: ``read(source, split, prefer)``; see ``read_labelled``.
    """

    name: str
    matches: Callable[[Any], bool]
    splits: Callable[[Any], list[str]]
    read: Callable[[Any, str | None, str], LabelledSources]


@dataclass(frozen=True)
class Record:
    """One labelled image as it was listed.

    Attributes:
        where: Its place in the list, such as "line 3".
        path: The file as written; "" if none is.
        label: "" if there is none.
        split: "" if there is none.
        source: The image itself, where it is no file.
    """

    where: str
    path: str
    label: Any
    split: str = ""
    source: Source | None = None


@dataclass(frozen=True)
class Listing:
    """All that a source lists, of all splits.

    Attributes:
        kind: What it was read as.
        origin: Its name, safe to print.
        root: What paths are relative to.
        records: The images, in order.
        columns: (what, column), for people.
        classes: Labels that exist even where no record has them.
        skipped: What is no record, and why.
        called: What classes are called in prompts.
    """

    kind: str
    origin: str
    root: Path
    records: Sequence[Record]
    columns: tuple[Note, ...] = ()
    classes: tuple[Any, ...] = ()
    skipped: tuple[Note, ...] = ()
    called: Mapping[Any, str] = field(default_factory=dict)

    def splits(self) -> list[str]:
        """Names of the splits as they are written."""
        return sorted({record.split for record in self.records if record.split})

    def read(self, split: str | None, prefer: str) -> LabelledSources:
        """The images of one split.

        Raises:
            DataError: No such split, or no image in it.
        """
        records, available, skipped, wanted = self.records, self.splits(), list(self.skipped), ""
        if available or split is not None:
            name = pick(available or ["no split column"], split or prefer, self.origin)
            wanted = canonical(name)
            skipped += [(f"{r.where}: {shown(r.path)}", "no split") for r in records if not r.split]
            records = [record for record in records if canonical(record.split) == wanted]
        kept: list[tuple[Source, Any, str]] = []
        broken: list[Note] = []
        for record in records:
            source = self.root / record.path if record.source is None else record.source
            if reason := _why_not(record, source):
                broken.append((f"{record.where}: {shown(record.path)}", reason))
            else:
                kept.append((source, _shown_label(record.label), shown(record.path) or record.where))
        if not kept and broken:
            got = f"none in {count(len(broken), 'row')}; {broken[0][0]}: {broken[0][1]}"
            fix = f"Paths are relative to the folder {shown(str(self.root))}."
            raise DataError(self.origin, expected="rows with a label and an existing file", got=got, fix=fix)
        listed = {_shown_label(r.label) for r in records if r.label != ""} | set(self.classes)
        sources, labels, names = zip(*kept, strict=True) if kept else ((), (), ())
        return LabelledSources(
            sources, labels, names, tuple(sorted(listed)), (*skipped, *broken), self.origin,
            kind=self.kind, split=wanted, columns=self.columns, broken=tuple(broken),
            called={label: name for label, name in self.called.items() if label in listed},
        )  # fmt: skip


def listing_reader(name: str, matches: Callable[[Any], bool], listing: Callable[[Any], Listing]) -> Reader:
    """A reader that lists everything."""
    return Reader(
        name,
        matches,
        lambda source: listing(source).splits(),
        lambda source, split, prefer: listing(source).read(split, prefer),
    )


def _shown_label(label: Any) -> Any:
    return escape(label) if isinstance(label, str) else label


def _why_not(record: Record, source: Source) -> str | None:
    if record.source is None and not record.path:
        return "no path"
    if record.label == "":
        return "no label"
    if record.source is not None:
        return None
    try:
        return None if Path(source).is_file() else "no such file"  # type: ignore[arg-type]
    except (OSError, ValueError):
        return "not a path"


def find_root(folder: Path, paths: Iterable[str]) -> Path:
    """The folder that paths are relative to: this one, or the subfolder in which most of a sample exist."""
    sample = [path for path, _ in zip(paths, range(_SAMPLED), strict=False)]
    with os.scandir(folder) as entries:
        below = sorted(Path(e.path) for e in entries if e.is_dir() and not is_hidden(e.name))
    return max((folder, *below), key=lambda root: sum(_is_file(root, path) for path in sample))


def _is_file(root: Path, path: str) -> bool:
    try:
        return (root / path).is_file()
    except (OSError, ValueError):
        return False


def pick(available: Sequence[str], wanted: str, name: str) -> str:
    """The split of this name, or of another spelling of it.

    Raises:
        DataError: There is none.
    """
    exact = [option for option in available if option == wanted]
    alike = [option for option in available if canonical(option) == canonical(wanted)]
    if not alike:
        got = ", ".join(map(escape, available))
        raise DataError(name, expected=f"the split {wanted!r}", got=got, fix="Name one of these splits.")
    return (exact or alike)[0]


def canonical(split: str) -> str:
    """train, val or test for their usual spellings; another name in lower case."""
    return SPLITS.get(split.lower(), split.lower())
