"""An adapter on disk: ``config.json``, ``adapter.safetensors``, a card, thumbnails. No pickle anywhere.

This module knows files, not classifiers: it writes and reads a configuration, named arrays and small files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fewclip.data import display_path
from fewclip.errors import AdapterError

FORMAT_VERSION = 1
CONFIG, TENSORS, CARD = "config.json", "adapter.safetensors", "README.md"
_KIND = "fewclip adapter"
_WRITERS = 8  # a disk synchronises several files at once: 600 took 2.3 s one by one, 0.3 s so


@dataclass(frozen=True)
class StoredAdapter:
    """What lies in an adapter's folder."""

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    folder: Path

    @contextmanager
    def well_formed(self) -> Iterator[None]:
        """Turns what goes wrong in taking the configuration apart into an AdapterError."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise AdapterError(
                display_path(self.folder),
                expected="a method and parameters that this version of fewclip knows",
                got=f"{type(error).__name__}: {error}",
                fix="Install the fewclip version that config.json names, or fit again.",
            ) from error

    def file(self, name: str) -> bytes:
        """A further file of the adapter.

        Raises:
            AdapterError: It is absent, or its name leads out of the folder.
        """
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise _damaged(path, "a name that leads out of the adapter's folder")
        try:
            return path.read_bytes()
        except OSError as error:
            raise _damaged(path, str(error)) from error


# ---- the folder ----


def write_adapter(
    folder: str | Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    files: Mapping[str, bytes],
    overwrite: bool = False,
) -> Path:
    """Writes an adapter: aside, synchronised to disk, then renamed; so there is never half of one.

    Args:
        folder: Where; its parent is created.
        config: What goes into ``config.json`` besides the format's own entries.
        tensors: What goes into ``adapter.safetensors``.
        files: Further files by relative path.
        overwrite: Whether an existing adapter may be replaced. Anything else at that path never is.

    Raises:
        AdapterError: The path is taken, or cannot be written.
    """
    target = Path(folder)
    check_target(target, overwrite)
    blob = save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    full = {
        "kind": _KIND,
        "format_version": FORMAT_VERSION,
        **config,
        "checksum": {TENSORS: hashlib.sha256(blob).hexdigest()},
    }
    text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            contents = {**files, TENSORS: blob, CONFIG: text.encode()}
            with ThreadPoolExecutor(_WRITERS, thread_name_prefix="fewclip-write") as pool:
                list(pool.map(_write_file, [aside / name for name in contents], contents.values()))
            aside.chmod(0o755)
            _replace(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise AdapterError(
            display_path(target),
            expected="a place to write the adapter",
            got=str(error),
            fix="Choose another folder, or free some space.",
        ) from error
    return target


def check_target(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    is_adapter = (target / CONFIG).is_file() and (target / TENSORS).is_file()
    if overwrite and is_adapter:
        return
    raise AdapterError(
        display_path(target),
        expected="a new path" if not overwrite else "a new path or an adapter",
        got="an adapter that exists" if is_adapter else "something else that exists",
        fix="Choose another path"
        + (", or pass overwrite=True (--overwrite)." if is_adapter else "; it is never overwritten."),
    )


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(aside: Path, target: Path) -> None:
    """Moves ``aside`` to ``target``; what was there is moved away first and comes back if that fails."""
    old = aside.with_name(aside.name + ".old")
    existed = target.exists()
    if existed:
        os.rename(target, old)
    try:
        os.rename(aside, target)
    except BaseException:  # an interrupt, too, must not leave the path empty
        if existed:
            os.rename(old, target)
        raise
    if existed:
        shutil.rmtree(old, ignore_errors=True)
    if hasattr(os, "O_DIRECTORY"):  # the rename itself survives a power cut
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(parent)
        os.close(parent)


def read_adapter(folder: str | Path) -> StoredAdapter:
    """Reads an adapter and checks that it is whole.

    Raises:
        AdapterError: Nothing there, not an adapter, of another format version, or damaged.
    """
    path = Path(folder)
    config = _read_config(path)
    try:
        blob = (path / TENSORS).read_bytes()
    except OSError as error:
        raise _damaged(path / TENSORS, str(error)) from error
    if config.get("checksum") != {TENSORS: hashlib.sha256(blob).hexdigest()}:
        raise _damaged(path / TENSORS, "another checksum than config.json names")
    try:
        return StoredAdapter(config, load(blob), path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path / TENSORS, str(error)) from error


def _read_config(path: Path) -> dict[str, Any]:
    name = display_path(path)
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        got = "a folder without one" if path.is_dir() else "nothing of the kind"
        raise AdapterError(
            name,
            expected=f"an adapter: a folder with {CONFIG} and {TENSORS}",
            got=got,
            fix="Make one with: fewclip fit IMAGES -o NAME.adapter",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path / CONFIG, str(error)) from error
    if not isinstance(config, dict) or config.get("kind") != _KIND:
        raise AdapterError(
            name, expected=f"a {_KIND}", got="the files of something else", fix="Check the path."
        )
    if config.get("format_version") != FORMAT_VERSION:
        raise AdapterError(
            name,
            expected=f"format version {FORMAT_VERSION}",
            got=repr(config.get("format_version")),
            fix="Install the fewclip version that wrote it, or fit again.",
        )
    return config


def _damaged(path: Path, got: str) -> AdapterError:
    return AdapterError(
        display_path(path),
        expected="a file as it was saved",
        got=got,
        fix="Copy the adapter again from where it was made, or fit again.",
    )
