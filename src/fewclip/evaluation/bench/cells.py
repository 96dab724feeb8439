"""The cells of a run on disk: one JSON line each, never twice, whole or not at all."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from filelock import FileLock, Timeout

from fewclip.data import display_path
from fewclip.data._files import written_aside
from fewclip.errors import DataError
from fewclip.evaluation.bench.plan import Key

FILE = "cells.jsonl"
_LOCK = ".lock"


def key_of(line: dict[str, Any]) -> Key:
    """What names a cell."""
    return Key._make(line.get(name) for name in Key._fields)


def read_cells(folder: str | Path) -> list[dict[str, Any]]:
    """The cells of all ``*.jsonl`` files of a folder, each once.

    A torn last line is what a killed run leaves behind: it is no cell, and the next run repairs it. Of a cell
    that stands in two files the first counts, with a warning.

    Raises:
        DataError: No such folder, no cells, or a damaged line.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.jsonl"))
    cells: dict[Key, dict[str, Any]] = {}
    twice = 0
    for file in files:
        for line in _lines(file):
            twice += key_of(line) in cells
            cells.setdefault(key_of(line), line)
    if not cells:
        got = "none" if folder.is_dir() else "no such folder"
        fix = "Name the folder that `fewclip bench run -o` wrote."
        raise DataError(display_path(folder), expected="a .jsonl file with cells", got=got, fix=fix)
    if twice:
        warnings.warn(f"{twice} cells stand in {display_path(folder)} twice; the first counts", stacklevel=2)
    return list(cells.values())


class CellFile:
    """The open file of a run; one run at a time writes to a folder.

    Args:
        folder: Made if absent.
        retry_failed: Forget the cells that hold an error, so that they run again.

    Raises:
        DataError: Another run writes there, a damaged line, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, *, retry_failed: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / _LOCK)
            self._lock.acquire(timeout=0)
        except Timeout:
            got, fix = "another run that writes there", "Wait for it, or choose another folder."
            raise DataError(display_path(folder), expected="no other run", got=got, fix=fix) from None
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            _repair(self.path)
            self.cells = self._known(retry_failed)
            self._file: IO[bytes] = _opened(self.path)
        except BaseException:
            self._lock.release()
            raise

    def append(self, line: dict[str, Any]) -> None:
        """Writes a cell; when this returns, it is on disk.

        Raises:
            DataError: The cell is there already, or the disk is full.
        """
        key = key_of(line)
        if key in self.cells:
            got, fix = "a second line", "This is a fault of fewclip: please report it."
            raise DataError(f"cell {tuple(key)}", expected="one line", got=got, fix=fix)
        text, start = _as_line(line), self._file.tell()
        try:
            while text:
                text = text[self._file.write(text) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(start)
            raise _unwritable(self.path, error) from error
        self.cells[key] = line

    def close(self) -> None:
        """Lets the next run in."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known(self, retry_failed: bool) -> dict[Key, dict[str, Any]]:
        known: dict[Key, dict[str, Any]] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            lines = list(_lines(file))
            kept = [line for line in lines if not (retry_failed and line.get("error"))]
            if len(kept) < len(lines):
                with written_aside(file) as aside:
                    for line in kept:
                        aside.write(_as_line(line))
            for line in kept:
                known.setdefault(key_of(line), line)
        return known


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        content = file.read_bytes()
    except OSError as error:
        fix = "Check its permissions."
        raise DataError(
            display_path(file), expected="a readable file", got=str(error.strerror), fix=fix
        ) from error
    lines = content.split(b"\n")
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        line = _parsed(text)
        if line is not None:
            yield line
        elif number < len(lines):  # the last one is torn: its run was killed, or is writing it
            got = repr(text[:40].decode("utf-8", "replace"))
            raise DataError(
                f"{display_path(file)}, line {number}", expected="a cell as JSON", got=got,
                fix="Remove the line; the cell runs again.",
            )  # fmt: skip


def _as_line(line: dict[str, Any]) -> bytes:
    text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes JSON's own escape


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A cell, or None for what is none."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"dataset", "method", "metrics"} <= line.keys() else None


def _repair(path: Path) -> None:
    """Ends the file with a whole line: a torn one is cut off, a whole one gets its end."""
    if not path.exists():
        return
    content = path.read_bytes()
    rest = content.rpartition(b"\n")[2]
    if not rest:
        return
    with open(path, "r+b") as file:
        if _parsed(rest) is None:
            file.truncate(len(content) - len(rest))
            warnings.warn(
                f"{display_path(path)}: the last line was torn by a run that was killed; its cell runs again",
                stacklevel=3,
            )
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def _opened(path: Path) -> IO[bytes]:
    try:
        file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        if hasattr(os, "O_DIRECTORY"):  # that the new name is on disk, too
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        file.seek(0, os.SEEK_END)
        return file
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(
        display_path(path), expected="a folder that can be written", got=error.strerror or str(error),
        fix="Choose another folder, or free some space.",
    )  # fmt: skip
