"""Features that were computed once are not computed again: image × encoder × view → float32, on disk.

The store is a cache: whatever goes wrong with it, a disk that is full or read-only, a file that is damaged,
costs time and never a result. Its size has a limit; what was not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fewclip.data._display import display_path
from fewclip.data._sizes import parse_size
from fewclip.errors import FeatureError, ParameterError, StoreError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FILE = "features.sqlite"
_BUSY_SECONDS = 30.0
_KEYS_PER_QUERY = 500  # below SQLite's limit of variables in all its releases
_DTYPE = np.dtype("<f4")
_DEFAULT_LIMIT = "2GB"
_LIMIT_VARIABLE = "FEWCLIP_CACHE_LIMIT"
_KEPT = 0.9  # of the limit, so that not every put has to make room
_VACUUM_ABOVE = 1.25  # of the limit: freed pages are used again, unless the limit was lowered
_WAL_BYTES = 4_000_000  # what the write-ahead log may keep on disk between transactions
_HOUR = 3600.0  # seconds; stamps are this coarse, so that reading seldom writes
_CREATE = """
CREATE TABLE IF NOT EXISTS features(
    key TEXT, fingerprint TEXT, view INTEGER, dim INTEGER,
    last_used INTEGER NOT NULL, checksum INTEGER, data BLOB,
    PRIMARY KEY(key, fingerprint, view)
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS features_last_used ON features(last_used)"
_FIRST_COLUMNS = {"key", "fingerprint", "view", "dim", "data"}  # of files before there was a limit
_COLUMNS = "key, fingerprint, view, dim, last_used, checksum, data"
_SELECT = "SELECT key, dim, last_used, checksum, data FROM features"
_INSERT = f"INSERT OR REPLACE INTO features({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_OLDEST = "SELECT key, fingerprint, view FROM features ORDER BY last_used LIMIT ?"
_DROP_OLDEST = f"DELETE FROM features WHERE (key, fingerprint, view) IN ({_OLDEST})"
_ENCODERS = """
SELECT fingerprint, COUNT(DISTINCT key), COUNT(*), MAX(last_used) FROM features
GROUP BY fingerprint ORDER BY MAX(last_used) DESC, fingerprint
"""
# Damaged pages, another kind of file, and a table with other columns.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
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
        decoded = ((key, _decode(dim, data)) for key, dim, data in self._intact(keys, fingerprint, view))
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
        self._put([(key, len(value), _encode(key, value)) for key, value in items.items()], fingerprint, view)

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
            return _count(connection), _bytes(connection)

        rows, size = self._run(query)
        size = size if self.path is None else _on_disk(self.path)
        return {"path": self.path, "rows": rows, "bytes": size, "limit": self.limit}

    def _intact(self, keys: Iterable[str], fingerprint: str, view: int) -> list[tuple[str, object, bytes]]:
        """Key, dimension and data of the rows that are there with the right checksum; they count as used."""
        wanted = list(dict.fromkeys(keys))

        def query(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = []
            for some, which in _parts(wanted):
                rows += connection.execute(f"{_SELECT} WHERE {which}", (fingerprint, view, *some))
            hour = _hour()
            _touch(connection, [key for key, _, used, *_ in rows if used != hour], fingerprint, view, hour)
            return rows

        return [
            (key, dim, data)
            for key, dim, _, checksum, data in self._run(query)
            if isinstance(data, bytes) and checksum in (None, _checksum(key, fingerprint, view, data))
        ]

    def _put(self, items: Sequence[tuple[str, int, bytes]], fingerprint: str, view: int) -> None:
        hour = _hour()
        rows = [
            (key, fingerprint, view, dim, hour, _checksum(key, fingerprint, view, data), data)
            for key, dim, data in items
        ]

        def insert(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                connection.executemany(_INSERT, rows)
            _evict(connection, self.limit)

        if rows:
            self._run(insert)

    # ---- by hand: errors are the user's to know ----

    def encoders(self) -> list[EncoderUse]:
        """What the file holds of which encoder, the last used first.

        Raises:
            StoreError: The file cannot be used.
        """
        rows = self._run_on_disk(lambda connection: connection.execute(_ENCODERS).fetchall())
        return [EncoderUse(name, images, features, hour * _HOUR) for name, images, features, hour in rows]

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
                oldest = math.floor((time.time() - max_age) / _HOUR)
                sql = "DELETE FROM features WHERE last_used < ?"
                dropped += connection.execute(sql, (oldest,)).rowcount
            _vacuum(connection)  # before sizes are compared: pages are seldom full
            while max_bytes is not None and (rows := _count(connection)):
                size = _bytes(connection)
                if size <= max_bytes:
                    break
                dropped += _drop_oldest(connection, math.ceil(rows * (1 - max_bytes / size)))
                _vacuum(connection)
            return dropped

        return self._run_on_disk(work)

    def clear(self, *, fingerprint: str | None = None) -> int:
        """Remove all features, or one encoder's, and give the space back; returns the number of features.

        Raises:
            StoreError: The file cannot be changed.
        """

        def work(connection: sqlite3.Connection) -> int:
            where, values = ("", ()) if fingerprint is None else (" WHERE fingerprint = ?", (fingerprint,))
            with _transaction(connection):
                dropped = connection.execute(f"DELETE FROM features{where}", values).rowcount
            _vacuum(connection)
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
                if not (_is_damage(error) and self._move_aside(error)):
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


def _prepare(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise  # Otherwise another process is switching it; SQLite does not wait here.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    connection.execute(_CREATE)
    if _columns(connection) == _FIRST_COLUMNS:
        _migrate(connection)
    # Whether it can be read and written is better known now than after an hour of encoding.
    connection.execute(f"SELECT {_COLUMNS} FROM features LIMIT 1").fetchall()
    connection.execute(_INDEX)
    with _transaction(connection):
        pass


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in connection.execute("PRAGMA table_info(features)")}


def _migrate(connection: sqlite3.Connection) -> None:
    """Add what the first files did not have, without a copy; their rows count as used now."""
    with _transaction(connection):
        if _columns(connection) == _FIRST_COLUMNS:  # and not migrated by another process meanwhile
            added = f"last_used INTEGER NOT NULL DEFAULT {_hour()}"
            connection.execute(f"ALTER TABLE features ADD COLUMN {added}")
            connection.execute("ALTER TABLE features ADD COLUMN checksum INTEGER")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _hour() -> int:
    return math.floor(time.time() / _HOUR)


def _parts(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Keys in parts that fit into a query, each with its condition on fingerprint, view and keys."""
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        yield some, f"fingerprint = ? AND view = ? AND key IN ({','.join('?' * len(some))})"


def _touch(
    connection: sqlite3.Connection, keys: Sequence[str], fingerprint: str, view: int, hour: int
) -> None:
    """Note that rows are used; what prevents it, such as a full disk, does not prevent reading."""
    if keys:
        with contextlib.suppress(sqlite3.OperationalError), _transaction(connection):
            for some, which in _parts(keys):
                sql = f"UPDATE features SET last_used = ? WHERE {which}"
                connection.execute(sql, (hour, fingerprint, view, *some))


# ---- size ----


def _bytes(connection: sqlite3.Connection) -> int:
    """Size of the file once the log is written back to it."""
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")


def _used_bytes(connection: sqlite3.Connection) -> int:
    """Of these, what holds rows; the rest waits to be used again."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT COUNT(*) FROM features").fetchone()[0]


def _on_disk(path: Path) -> int:
    """Bytes of the file and of its companions while it is open."""
    size = 0
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            size += os.stat(f"{path}{ending}").st_size
    return size


def _evict(connection: sqlite3.Connection, limit: int | None) -> None:
    """Above the limit, remove what was not used for longest; what prevents it is tried again with a put."""
    if limit is None or _used_bytes(connection) <= limit:
        return
    with contextlib.suppress(sqlite3.OperationalError):
        with _transaction(connection):
            while (used := _used_bytes(connection)) > _KEPT * limit and (rows := _count(connection)):
                _drop_oldest(connection, max(1, rows // 64, int(rows * (1 - _KEPT * limit / used))))
        if _bytes(connection) > _VACUUM_ABOVE * limit:
            connection.execute("VACUUM")


def _drop_oldest(connection: sqlite3.Connection, rows: int) -> int:
    return connection.execute(_DROP_OLDEST, (rows,)).rowcount


def _vacuum(connection: sqlite3.Connection) -> None:
    """Give freed space back to the disk."""
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


# ---- rows ----


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


def _checksum(key: str, fingerprint: str, view: int, data: bytes) -> int:
    """Of the data and of what they belong to."""
    return zlib.crc32(data, zlib.crc32(f"{key}\0{fingerprint}\0{view}".encode("utf-8", "surrogatepass")))


def _decode(dim: object, data: bytes) -> np.ndarray | None:
    if not data or not isinstance(dim, int) or len(data) != dim * _DTYPE.itemsize:
        return None
    features = np.frombuffer(data, dtype=_DTYPE).astype(np.float32)
    return features if np.isfinite(features).all() else None
