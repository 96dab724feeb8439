"""webdataset: tar files in which files that share a name up to the first dot are one sample.

``0001.jpg`` and ``0001.cls`` are an image and its class: a number, or a name. Numbers are named by the lines
of ``classnames.txt`` beside the archive or one folder above it, as CLIP_benchmark has it. Archives are read
in place: nothing is extracted, so that no member can be written anywhere.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fewclip.data._display import display_path, escape
from fewclip.data._walk import HIDDEN, entry_is_folder, is_hidden, is_image_name, list_folder, shown
from fewclip.data.labelled import Note
from fewclip.data.readers._listing import SPLITS, Listing, Record, listing_reader
from fewclip.data.stored import FileSlice
from fewclip.errors import DataError

_CLASS = (".cls", ".cls.txt")
_LABEL_BYTES = 4096
_SPLIT_NAME = re.compile(r"(?i)(?:^|[^a-z])(train|validation|valid|val|test)(?:[^a-z]|$)")


def is_archive(path: Path) -> bool:
    """Whether it is a .tar file or a folder of them."""
    return bool(_shards(path)) if path.is_dir() else path.suffix.lower() == ".tar" and path.is_file()


def _shards(folder: Path) -> list[Path]:
    """The archives of a folder, or of its split folders; none if it holds other folders or images."""
    shards: list[Path] = []
    folders: list[Path] = []
    try:
        for entry in list_folder(folder):
            if is_hidden(entry.name):
                continue
            if entry_is_folder(entry):
                if entry.name.lower() not in SPLITS:
                    return []
                folders.append(Path(entry.path))
            elif is_image_name(entry.name):
                return []
            elif entry.name.lower().endswith(".tar"):
                shards.append(Path(entry.path))
        return shards + [p for f in folders for p in sorted(f.iterdir()) if p.suffix.lower() == ".tar"]
    except OSError:
        return []


def read_archives(path: Path) -> Listing:
    """All samples of an archive, or of those of a folder.

    Raises:
        DataError: An archive cannot be read, or a number has no name.
    """
    name = display_path(path)
    shards = _shards(path) if path.is_dir() else [path]
    records: list[Record] = []
    skipped: list[Note] = []
    for shard in shards:
        split = _split_of(shard, path) if path.is_dir() else ""
        prefix = shown(os.path.relpath(shard, path)) + "/" if path.is_dir() else ""
        _read_shard(shard, prefix, split, records, skipped)
    names = _class_names(path)
    numbers = all(str(record.label).isdigit() for record in records if record.label != "")
    if names and numbers:
        records = [_named(record, names, name) for record in records]
    columns = (
        ("image", "image files"),
        ("label", ".cls, named by classnames.txt" if names and numbers else ".cls"),
    )
    kind = f"webdataset, {len(shards)} tar file{'s' if len(shards) > 1 else ''}"
    return Listing(kind, name, path.parent, records, columns, (), tuple(skipped))


def _split_of(shard: Path, folder: Path) -> str:
    if shard.parent != folder:
        return shard.parent.name.lower()
    found = _SPLIT_NAME.search(shard.stem)
    return found[1].lower() if found else ""


def _read_shard(shard: Path, prefix: str, split: str, records: list[Record], skipped: list[Note]) -> None:
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(shard, "r:") as archive, open(shard, "rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            for member in _members(archive):
                reason = _why_not(member, end)
                key, suffix = _key(member.name)
                if reason is None and suffix in samples.get(key, {}):
                    reason = "a second member of this name"
                if reason:
                    skipped.append((prefix + escape(member.name), reason))
                else:
                    samples.setdefault(key, {})[suffix] = member
            for key, parts in samples.items():
                records += _sample(shard, stream, prefix, split, key, parts, skipped)
    except (OSError, tarfile.TarError) as error:
        got = escape(str(error)) or type(error).__name__
        fix = "Copy it again; a compressed archive must be unpacked to a plain .tar first."
        raise DataError(display_path(shard), expected="an uncompressed tar file", got=got, fix=fix) from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one after the other, without keeping a list of all."""
    while (member := archive.next()) is not None:
        archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
        if not member.isdir():
            yield member


def _why_not(member: tarfile.TarInfo, end: int) -> str | None:
    if is_hidden(os.path.basename(member.name)):
        return HIDDEN
    if member.issym() or member.islnk():
        return "a link, which is not followed"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    return "cut off at the end of the archive" if member.offset_data + member.size > end else None


def _key(name: str) -> tuple[str, str]:
    """("folder/0001", ".seg.png"): the name up to the first dot of its last part, and the rest."""
    folder, file = os.path.split(name)
    stem, dot, suffix = file.partition(".")
    return os.path.join(folder, stem), (dot + suffix).lower()


def _sample(
    shard: Path, stream: IO[bytes], prefix: str, split: str, key: str, parts: dict[str, tarfile.TarInfo],
    skipped: list[Note],
) -> list[Record]:  # fmt: skip
    images = [
        member for suffix, member in parts.items() if suffix.count(".") == 1 and is_image_name("x" + suffix)
    ]
    classes = [parts[suffix] for suffix in _CLASS if suffix in parts]
    skipped += [
        (prefix + escape(member.name), "neither an image nor a class")
        for member in parts.values()
        if member not in images and member not in classes
    ]
    skipped += [(prefix + escape(m.name), "a second image of this sample") for m in images[1:]]
    if not images:
        skipped += [(prefix + escape(m.name), "a class without an image") for m in classes]
        return []
    member = images[0]
    label = ""
    if classes and classes[0].size <= _LABEL_BYTES:
        stream.seek(classes[0].offset_data)
        label = stream.read(classes[0].size).decode("utf-8", "surrogateescape").strip()
    name = prefix + escape(member.name)
    source = FileSlice(shard, member.offset_data, member.size, name)
    return [Record(f"sample {escape(key)}", name, label, split, source)]


def _class_names(path: Path) -> list[str]:
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder.parent):
        file = place / "classnames.txt"
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            return [line.strip() for line in lines if line.strip()]
    return []


def _named(record: Record, names: list[str], origin: str) -> Record:
    if record.label == "":
        return record
    if int(record.label) >= len(names):
        raise DataError(
            f"{origin}, {record.where}", expected=f"a class below {len(names)}, as classnames.txt has them",
            got=record.label, fix="Check classnames.txt.",
        )  # fmt: skip
    return Record(record.where, record.path, names[int(record.label)], record.split, record.source)


READER = listing_reader("webdataset tar", is_archive, read_archives)
