"""Features that were computed once are not computed again: image × encoder × view → float32, on disk.

The store is a cache: whatever goes wrong with it, a disk that is full or read-only, a file that is damaged,
costs time and never a result.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fewclip.data._display import display_path
from fewclip.errors import FeatureError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FILE = "features.sqlite"
_BUSY_SECONDS = 30.0
_KEYS_PER_QUERY = 500  # below SQLite's limit of variables in all its releases
_DTYPE = np.dtype("<f4")
_CREATE = """
CREATE TABLE IF NOT EXISTS features(
    key TEXT, fingerprint TEXT, view INTEGER, dim INTEGER, data BLOB,
    PRIMARY KEY(key, fingerprint, view)
) WITHOUT ROWID
"""
_SELECT = "SELECT key, dim, data FROM features"
# Damaged pages, another kind of file, and a table with other columns.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
# A child process must neither use nor close what it inherited.
_INHERITED: list[sqlite3.Connection] = []


class FeatureStore:
    """Remembers features by image key, encoder fingerprint and view number.

    Threads may share one store, and processes one file. It is opened at first use, and opened again in a
    forked or unpickled copy.

    Args:
        path: The database, or a folder to keep it in; by default ``features.sqlite`` in the folder that
            the environment variable ``FEWCLIP_CACHE`` names, or else in the user's cache folder.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        chosen = default_path() if path is None else Path(path)
        self.path: Path | None = chosen / _FILE if chosen is not None and chosen.is_dir() else chosen
        self._reset()

    @classmethod
    def in_memory(cls) -> FeatureStore:
        """A store that forgets everything when it is closed."""
        store = cls.__new__(cls)
        store.path = None
        store._reset()
        return store

    def get_many(self, keys: Iterable[str], *, fingerprint: str, view: int = 0) -> dict[str, np.ndarray]:
        """The features (d,) that are known, by key; a row that is not intact counts as unknown.

        Args:
            keys: Image keys, as ``image_key`` makes them.
            fingerprint: The encoder's.
            view: Number of the random view; 0 is the image itself.
        """
        wanted = list(dict.fromkeys(keys))

        def query(connection: sqlite3.Connection) -> list[tuple[str, int, bytes]]:
            rows = []
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                some = wanted[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(some))
                select = f"{_SELECT} WHERE fingerprint = ? AND view = ? AND key IN ({marks})"
                rows += connection.execute(select, (fingerprint, view, *some)).fetchall()
            return rows

        decoded = ((key, _decode(dim, data)) for key, dim, data in self._run(query))
        return {key: features for key, features in decoded if features is not None}

    def put_many(self, items: Mapping[str, np.ndarray], *, fingerprint: str, view: int = 0) -> None:
        """Remember features (d,) by key, in one transaction; what is there already is replaced.

        Raises:
            FeatureError: Features are not a vector of finite numbers.
        """
        rows = [(key, fingerprint, view, len(value), _encode(key, value)) for key, value in items.items()]

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        if rows:
            self._run(insert)

    def info(self) -> dict[str, Any]:
        """``path`` (None: in memory), number of ``rows``, and size in ``bytes``."""

        def query(connection: sqlite3.Connection) -> tuple[int, int]:
            (rows,) = connection.execute("SELECT COUNT(*) FROM features").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            return rows, pages * page_size

        rows, size = self._run(query)
        return {"path": self.path, "rows": rows, "bytes": size}

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
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
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
                if not (_is_damage(error) and self._move_aside(error)):
                    self._forget_disk(error)
            try:
                return work(self._open())
            except (sqlite3.DatabaseError, OSError) as error:
                self._forget_disk(error)
            return work(self._open())

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
            _prepare(self._connection)
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


def _prepare(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise  # Otherwise another process is switching it; SQLite does not wait here.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(_CREATE)
    # Whether it can be read and written is better known now than after an hour of encoding.
    connection.execute("SELECT key, fingerprint, view, dim, data FROM features LIMIT 1").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _DAMAGE


def _encode(key: str, value: np.ndarray) -> bytes:
    features = np.asarray(value)
    if features.ndim != 1 or not features.size or not np.isfinite(features).all():
        got = f"shape {features.shape}" if features.ndim != 1 or not features.size else "NaN or infinity"
        fix = "This is a fault of the encoder: report it."
        raise FeatureError(f"features of {key}", expected="a vector of finite numbers", got=got, fix=fix)
    return features.astype(_DTYPE).tobytes()


def _decode(dim: object, data: object) -> np.ndarray | None:
    if (
        not isinstance(data, bytes)
        or not data
        or not isinstance(dim, int)
        or len(data) != dim * _DTYPE.itemsize
    ):
        return None
    features = np.frombuffer(data, dtype=_DTYPE).astype(np.float32)
    return features if np.isfinite(features).all() else None
