"""Which files below a folder are images, with a reason for each that is not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fewclip.data._display import display_path, escape

_COMMON = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".apng",
    ".gif",
    ".webp",
    ".avif",
    ".heic",
    ".heif",
    ".hif",
}
_RARER = {".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".mpo"}
IMAGE_SUFFIXES = frozenset(_COMMON | _RARER)
_SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}

HIDDEN = "hidden or system file"
LINK_BACK = "a link back to a folder that was read already"


@dataclass
class Walk:
    """What lies below one folder.

    Attributes:
        root: The folder.
        files: Paths of images relative to it, in sorted order, with the platform's separators.
        skipped: (relative path, reason) of everything else, in sorted order.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def walk_images(root: Path) -> Walk:
    """Images below a folder at any depth; links are followed, but neither twice nor to a folder above it.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    found = Walk(root)
    visited = real_ancestry(root)
    pending = [("", list_folder(root))]
    while pending:
        prefix, entries = pending.pop()
        for entry in entries:
            relative = os.path.join(prefix, entry.name)
            if entry_is_folder(entry) and not is_hidden(entry.name):
                real = os.path.realpath(entry.path)
                if real in visited:
                    found.skipped.append((relative, LINK_BACK))
                    continue
                visited.add(real)
                try:
                    pending.append((relative, list_folder(Path(entry.path))))
                except OSError as error:
                    found.skipped.append((relative, f"cannot be read: {escape(error.strerror or '')}"))
            elif reason := why_not(entry):
                found.skipped.append((relative, reason))
            else:
                found.files.append(relative)
    found.files.sort(key=_parts)
    found.skipped.sort(key=lambda item: _parts(item[0]))
    return found


def real_ancestry(folder: Path) -> set[str]:
    """The real paths of a folder and of all above it, both as it is reached and as it lies on disk."""
    real = Path(os.path.realpath(folder))
    reached = Path(os.path.abspath(folder))
    return {str(path) for path in (real, *real.parents)} | {
        os.path.realpath(path) for path in reached.parents
    }


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of one folder, sorted by name, so that a walk meets links in the same order everywhere."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def entry_is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def why_not(entry: os.DirEntry[str]) -> str | None:
    """Why an entry that is not a folder is not taken for an image, or None if it is."""
    if is_hidden(entry.name):
        return HIDDEN
    if not is_image_name(entry.name):
        suffix = os.path.splitext(entry.name)[1]
        return f"not an image file ({escape(suffix)})" if suffix else "not an image file (no suffix)"
    try:
        if entry.is_file():
            return None
        return "a broken link" if entry.is_symlink() else "not a regular file"
    except OSError:
        return "a link that leads to itself"


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def shown(*parts: str) -> str:
    """Relative parts joined with ``/`` and safe to print."""
    return display_path(os.path.join(*parts))


def _parts(relative: str) -> list[str]:
    return relative.split(os.sep)
