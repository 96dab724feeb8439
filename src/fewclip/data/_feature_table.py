"""The SQLite table that features lie in: its columns, its size, and rows as bytes."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fewclip.errors import FeatureError

_KEYS_PER_QUERY = 500  # below SQLite's limit of variables in all its releases
_DTYPE = np.dtype("<f4")
_KEPT = 0.9  # of the limit, so that not every put has to make room
_VACUUM_ABOVE = 1.25  # of the limit: freed pages are used again, unless the limit was lowered
_WAL_BYTES = 4_000_000  # what the write-ahead log may keep on disk between transactions
HOUR = 3600.0  # seconds; stamps are this coarse, so that reading seldom writes
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
SELECT = "SELECT key, dim, last_used, checksum, data FROM features"
INSERT = f"INSERT OR REPLACE INTO features({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_OLDEST = "SELECT key, fingerprint, view FROM features ORDER BY last_used LIMIT ?"
_DROP_OLDEST = f"DELETE FROM features WHERE (key, fingerprint, view) IN ({_OLDEST})"
ENCODERS = """
SELECT fingerprint, COUNT(DISTINCT key), COUNT(*), MAX(last_used) FROM features
GROUP BY fingerprint ORDER BY MAX(last_used) DESC, fingerprint
"""
# Damaged pages, another kind of file, and a table with other columns.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table where it is missing, or what it lacks, and see that it can be read and written."""
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
    with transaction(connection):
        pass


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {name for _, name, *_ in connection.execute("PRAGMA table_info(features)")}


def _migrate(connection: sqlite3.Connection) -> None:
    """Add what the first files did not have, without a copy; their rows count as used now."""
    with transaction(connection):
        if _columns(connection) == _FIRST_COLUMNS:  # and not migrated by another process meanwhile
            added = f"last_used INTEGER NOT NULL DEFAULT {this_hour()}"
            connection.execute(f"ALTER TABLE features ADD COLUMN {added}")
            connection.execute("ALTER TABLE features ADD COLUMN checksum INTEGER")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def this_hour() -> int:
    """Hours since 1970, as rows are stamped."""
    return math.floor(time.time() / HOUR)


def parts(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Keys in parts that fit into a query, each with its condition on fingerprint, view and keys."""
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        yield some, f"fingerprint = ? AND view = ? AND key IN ({','.join('?' * len(some))})"


def touch(
    connection: sqlite3.Connection, keys: Sequence[str], fingerprint: str, view: int, hour: int
) -> None:
    """Note that rows are used; what prevents it, such as a full disk, does not prevent reading."""
    if keys:
        with contextlib.suppress(sqlite3.OperationalError), transaction(connection):
            for some, which in parts(keys):
                sql = f"UPDATE features SET last_used = ? WHERE {which}"
                connection.execute(sql, (hour, fingerprint, view, *some))


# ---- size ----


def size_in_bytes(connection: sqlite3.Connection) -> int:
    """Size of the file once the log is written back to it."""
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")


def used_bytes(connection: sqlite3.Connection) -> int:
    """Of these, what holds rows; the rest waits to be used again."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def count(connection: sqlite3.Connection) -> int:
    """Number of rows."""
    return connection.execute("SELECT COUNT(*) FROM features").fetchone()[0]


def size_on_disk(path: Path) -> int:
    """Bytes of the file and of its companions while it is open."""
    size = 0
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            size += os.stat(f"{path}{ending}").st_size
    return size


def evict(connection: sqlite3.Connection, limit: int | None) -> None:
    """Above the limit, remove what was not used for longest; what prevents it is tried again with a put."""
    if limit is None or used_bytes(connection) <= limit:
        return
    with contextlib.suppress(sqlite3.OperationalError):
        with transaction(connection):
            while (used := used_bytes(connection)) > _KEPT * limit and (rows := count(connection)):
                drop_oldest(connection, max(1, rows // 64, int(rows * (1 - _KEPT * limit / used))))
        if size_in_bytes(connection) > _VACUUM_ABOVE * limit:
            connection.execute("VACUUM")


def drop_oldest(connection: sqlite3.Connection, rows: int) -> int:
    """Remove the rows that were not used for longest; returns how many there were."""
    return connection.execute(_DROP_OLDEST, (rows,)).rowcount


def vacuum(connection: sqlite3.Connection) -> None:
    """Give freed space back to the disk."""
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


# ---- rows ----


def is_damage(error: Exception) -> bool:
    """Whether the file is no database, or another, rather than out of reach."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _DAMAGE


def encode(key: str, value: np.ndarray) -> bytes:
    """A row's data.

    Raises:
        FeatureError: No vector of finite numbers.
    """
    features = np.asarray(value)
    if features.ndim != 1 or not features.size or not np.isfinite(features).all():
        got = f"shape {features.shape}" if features.ndim != 1 or not features.size else "NaN or infinity"
        fix = "This is a fault of the encoder: report it."
        raise FeatureError(f"features of {key}", expected="a vector of finite numbers", got=got, fix=fix)
    return features.astype(_DTYPE).tobytes()


def checksum_of(key: str, fingerprint: str, view: int, data: bytes) -> int:
    """Of the data and of what they belong to."""
    return zlib.crc32(data, zlib.crc32(f"{key}\0{fingerprint}\0{view}".encode("utf-8", "surrogatepass")))


def decode(dim: object, data: bytes) -> np.ndarray | None:
    """Features of a row's data; None where it is not intact."""
    if not data or not isinstance(dim, int) or len(data) != dim * _DTYPE.itemsize:
        return None
    features = np.frombuffer(data, dtype=_DTYPE).astype(np.float32)
    return features if np.isfinite(features).all() else None
