"""Features that were computed once are not computed again: image × encoder × view → float32, on disk.

The store is a cache: whatever goes wrong with it, a disk that is full or read-only, a file that is damaged,
costs time and never a result. Its size has a limit; what was not used for longest goes first.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fewclip.data import _feature_table as table
from fewclip.data._display import display_path
from fewclip.data._sizes import parse_size
from fewclip.errors import ParameterError, StoreError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FILE = "features.sqlite"
_BUSY_SECONDS = 30.0
_DEFAULT_LIMIT = "2GB"
_LIMIT_VARIABLE = "FEWCLIP_CACHE_LIMIT"
# A child process must neither use nor close what it inherited.
_INHERITED: list[sqlite3.Connection] = []


@dataclass(frozen=True)
class EncoderUse:
    """What a feature store holds of one encoder.

    Attributes:
        fingerprint: The encoder's; random views of images have one of their own.
        images: Number of images.
        features: Number of features: images × views.
        last_used: Start of the hour of the last use, in seconds since 1970 (UTC).
    """

    fingerprint: str
    images: int
    features: int
    last_used: float


class FeatureStore:
    """Remembers features by image key, encoder fingerprint and view number.

    Threads may share one store, and processes one file. It is opened at first use, and opened again in a
    forked or unpickled copy. Every row has a checksum, which reading verifies; rows of files older than
    checksums have none, and are taken if their length fits.

    Args:
        path: The database, or a folder to keep it in; by default ``features.sqlite`` in the folder that
            the environment variable ``FEWCLIP_CACHE`` names, or else in the user's cache folder.
        limit: Size of the file in bytes, or as text such as "500MB", above which a put removes what was not
            used for longest; "none": no limit. By default what the environment variable
            ``FEWCLIP_CACHE_LIMIT`` says, or else 2 GB.

    Raises:
        ParameterError: The limit is no size.
    """

    def __init__(self, path: str | Path | None = None, *, limit: int | str | None = None) -> None:
        self.limit = _bytes_or_none(limit)
        chosen = default_path() if path is None else Path(path)
        self.path: Path | None = chosen / _FILE if chosen is not None and os.path.isdir(chosen) else chosen
        self._reset()

    @classmethod
    def in_memory(cls) -> FeatureStore:
        """A store that forgets everything when it is closed."""
        store = cls.__new__(cls)
        store.path = None
        store.limit = None
        store._reset()
        return store

    def get_many(self, keys: Iterable[str], *, fingerprint: str, view: int = 0) -> dict[str, np.ndarray]:
        """The features (d,) that are known, by key; a row that is not intact counts as unknown.

        Args:
            keys: Image keys, as ``image_key`` makes them.
            fingerprint: The encoder's.
            view: Number of the random view; 0 is the image itself.
        """
        decoded = ((key, table.decode(dim, data)) for key, dim, data in self._intact(keys, fingerprint, view))
        return {key: features for key, features in decoded if features is not None}

    def get_bytes(self, keys: Iterable[str], *, kind: str) -> dict[str, bytes]:
        """What ``put_bytes`` remembered of this kind, by key; what is not intact counts as unknown."""
        return {key: data for key, dim, data in self._intact(keys, kind, 0) if dim == 0}

    def put_many(self, items: Mapping[str, np.ndarray], *, fingerprint: str, view: int = 0) -> None:
        """Remember features (d,) by key, in one transaction; what is there already is replaced.

        If the file is larger than its limit then, what was not used for longest is removed, in a transaction.

        Raises:
            FeatureError: Features are not a vector of finite numbers.
        """
        rows = [(key, len(value), table.encode(key, value)) for key, value in items.items()]
        self._put(rows, fingerprint, view)

    def put_bytes(self, items: Mapping[str, bytes], *, kind: str) -> None:
        """Remember what else belongs to a key, such as a small picture; the limit holds for it as well.

        Args:
            items: Bytes by key.
            kind: What they are; it stands where features have the encoder's fingerprint.
        """
        self._put([(key, 0, data) for key, data in items.items()], kind, 0)

    def info(self) -> dict[str, Any]:
        """``path`` (None: in memory), number of ``rows``, size in ``bytes``, and ``limit`` (None: none)."""

        def query(connection: sqlite3.Connection) -> tuple[int, int]:
            return table.count(connection), table.size_in_bytes(connection)

        rows, size = self._run(query)
        size = size if self.path is None else table.size_on_disk(self.path)
        return {"path": self.path, "rows": rows, "bytes": size, "limit": self.limit}

    def _intact(self, keys: Iterable[str], fingerprint: str, view: int) -> list[tuple[str, object, bytes]]:
        """Key, dimension and data of the rows that are there with the right checksum; they count as used."""
        wanted = list(dict.fromkeys(keys))

        def query(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = []
            for some, which in table.parts(wanted):
                rows += connection.execute(f"{table.SELECT} WHERE {which}", (fingerprint, view, *some))
            hour = table.this_hour()
            unused = [key for key, _, used, *_ in rows if used != hour]
            table.touch(connection, unused, fingerprint, view, hour)
            return rows

        return [
            (key, dim, data)
            for key, dim, _, checksum, data in self._run(query)
            if isinstance(data, bytes) and checksum in (None, table.checksum_of(key, fingerprint, view, data))
        ]

    def _put(self, items: Sequence[tuple[str, int, bytes]], fingerprint: str, view: int) -> None:
        hour = table.this_hour()
        rows = [
            (key, fingerprint, view, dim, hour, table.checksum_of(key, fingerprint, view, data), data)
            for key, dim, data in items
        ]

        def insert(connection: sqlite3.Connection) -> None:
            with table.transaction(connection):
                connection.executemany(table.INSERT, rows)
            table.evict(connection, self.limit)

        if rows:
            self._run(insert)

    # ---- by hand: errors are the user's to know ----

    def encoders(self) -> list[EncoderUse]:
        """What the file holds of which encoder, the last used first.

        Raises:
            StoreError: The file cannot be used.
        """
        found = self._run_on_disk(lambda connection: connection.execute(table.ENCODERS).fetchall())
        return [EncoderUse(name, images, rows, hour * table.HOUR) for name, images, rows, hour in found]

    def prune(self, *, max_bytes: int | None = None, max_age: float | None = None) -> int:
        """Remove what was not used for longest, and give the space back; returns the number of features.

        Args:
            max_bytes: Size that the file may have afterwards; an empty one has some 20 kB.
            max_age: Seconds; what was not used since goes.

        Raises:
            StoreError: The file cannot be changed.
        """

        def work(connection: sqlite3.Connection) -> int:
            dropped = 0
            if max_age is not None:
                oldest = math.floor((time.time() - max_age) / table.HOUR)
                sql = "DELETE FROM features WHERE last_used < ?"
                dropped += connection.execute(sql, (oldest,)).rowcount
            table.vacuum(connection)  # before sizes are compared: pages are seldom full
            while max_bytes is not None and (rows := table.count(connection)):
                size = table.size_in_bytes(connection)
                if size <= max_bytes:
                    break
                dropped += table.drop_oldest(connection, math.ceil(rows * (1 - max_bytes / size)))
                table.vacuum(connection)
            return dropped

        return self._run_on_disk(work)

    def clear(self, *, fingerprint: str | None = None) -> int:
        """Remove all features, or one encoder's, and give the space back; returns the number of features.

        Raises:
            StoreError: The file cannot be changed.
        """

        def work(connection: sqlite3.Connection) -> int:
            where, values = ("", ()) if fingerprint is None else (" WHERE fingerprint = ?", (fingerprint,))
            with table.transaction(connection):
                dropped = connection.execute(f"DELETE FROM features{where}", values).rowcount
            table.vacuum(connection)
            return dropped

        return self._run_on_disk(work)

    def close(self) -> None:
        """Close the database; using the store again opens it again."""
        self._leave_to_parent()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.limit = state["limit"]
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None

    def _leave_to_parent(self) -> None:
        if self._pid != os.getpid():  # forked: the lock may be held by a thread that does not exist here
            if self._connection is not None:
                _INHERITED.append(self._connection)
            self._reset()

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do the work; if the file is damaged, on a fresh file; if it cannot be used, in memory."""
        self._leave_to_parent()
        with self._lock:
            try:
                return work(self._open())
            except (sqlite3.DatabaseError, OSError) as error:
                if self.path is None:
                    raise
                if not (table.is_damage(error) and self._move_aside(error)):
                    self._forget_disk(error)
            try:
                return work(self._open())
            except (sqlite3.DatabaseError, OSError) as error:
                self._forget_disk(error)
            return work(self._open())

    def _run_on_disk(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do the work, or say why not: there is no memory to fall back on."""
        self._leave_to_parent()
        with self._lock:
            try:
                return work(self._open())
            except (sqlite3.DatabaseError, OSError) as error:
                self.close()
                raise StoreError(
                    "the feature store" if self.path is None else display_path(self.path),
                    expected="a feature store that can be read and changed",
                    got=str(error),
                    fix="If it stays so, delete the file: features are computed again when they are needed.",
                ) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if self.path is None else self.path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            table.prepare(self._connection)
        return self._connection

    def _move_aside(self, error: Exception) -> bool:
        assert self.path is not None
        self.close()
        aside = Path(f"{self.path}.damaged")
        try:
            os.replace(self.path, aside)
            for ending in ("-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
        except OSError:
            return False
        shown = (display_path(self.path), display_path(aside))
        _log.warning("The feature store %s is damaged (%s); it is now %s.", shown[0], error, shown[1])
        return True

    def _forget_disk(self, error: Exception) -> None:
        self.close()
        if self.path is not None:
            shown = display_path(self.path)
            _log.warning(
                "The feature store %s cannot be used (%s); features are kept in memory.", shown, error
            )
        self.path = None


def default_path() -> Path | None:
    """Where the user's features are kept; None if there is no such place."""
    if folder := os.environ.get("FEWCLIP_CACHE"):
        return Path(folder) / _FILE
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "fewclip" / _FILE
    try:
        return Path.home() / ".cache" / "fewclip" / _FILE
    except RuntimeError:  # a user without a home
        _log.warning("There is no home folder for a feature store; features are kept in memory.")
        return None


def _bytes_or_none(limit: int | str | None) -> int | None:
    """A limit in bytes; None: no limit."""
    item = "limit"
    if limit is None:
        item, limit = _LIMIT_VARIABLE, os.environ.get(_LIMIT_VARIABLE) or _DEFAULT_LIMIT
    if isinstance(limit, str):
        return None if limit.strip().lower() == "none" else parse_size(limit, item, also=' or "none"')
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        expected, fix = "a number of bytes above 0", 'Use such as "2GB", or "none" for no limit.'
        raise ParameterError(item, expected=expected, got=repr(limit), fix=fix)
    return limit
