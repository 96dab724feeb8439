"""Images to classify: named files, folders, globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewclip.data._display import display_path
from fewclip.data._walk import HIDDEN, walk_images
from fewclip.data.labelled import count
from fewclip.data.readers.class_folders import unreadable
from fewclip.errors import DataError


@dataclass(frozen=True)
class FoundImage:
    """A file to classify, and what to call it in the results."""

    path: Path
    name: str


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
        raise unreadable(name, error) from error
    if not walk.files and not may_be_empty:
        got = f"{count(len(walk.skipped), 'other entry', 'other entries')}" if walk.skipped else "nothing"
        raise DataError(name, expected="a folder with images", got=got, fix="Check the path.")
    base = folder.rstrip("/" + os.sep)
    ignored += [f"{base}/{file} ({reason})" for file, reason in walk.skipped if reason != HIDDEN]
    return [(os.path.join(folder, file), f"{base}/{file}") for file in walk.files]
