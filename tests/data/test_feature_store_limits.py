"""The feature store's size, its checksums, older files, full disks, and processes that are killed."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fewclip.data import _feature_table as table
from fewclip.data._sizes import parse_size, show_size
from fewclip.data.feature_store import FeatureStore
from fewclip.errors import ParameterError, StoreError

HOUR = 3600
FIRST_SCHEMA = """
CREATE TABLE features(
    key TEXT, fingerprint TEXT, view INTEGER, dim INTEGER, data BLOB,
    PRIMARY KEY(key, fingerprint, view)
) WITHOUT ROWID
"""


def value_of(key: str, dim: int = 256) -> np.ndarray:
    """Features that follow from the key, so that any process can tell whether they are intact."""
    return np.random.default_rng(zlib.crc32(key.encode())).normal(size=dim).astype(np.float32)


def items_of(name: str, n: int, dim: int = 256) -> dict[str, np.ndarray]:
    return {f"{name}-{i}": value_of(f"{name}-{i}", dim) for i in range(n)}


def assert_intact(got: dict[str, np.ndarray]) -> None:
    for key, value in got.items():
        np.testing.assert_array_equal(value, value_of(key, len(value)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "features.sqlite"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock with one number, the time in seconds."""
    now = [1_000_000.0 * HOUR]
    monkeypatch.setattr(table.time, "time", lambda: now[0])
    return now


# ---- sizes ----


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2_000_000_000),
        (" 500 mb ", 500_000_000),
        ("1.5k", 1500),
        ("1KiB", 1024),
        ("12", 12),
        ("7B", 7),
        ("0.5TiB", 2**39),
    ],
)
def test_sizes(text, size):
    assert parse_size(text, "limit") == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "0.1B", "1iB", "2 G B", "1e9", "٣GB", "9" * 400])
def test_what_is_no_size(text):
    with pytest.raises(ParameterError, match="--max-size: expected a size such as 500MB") as caught:
        parse_size(text, "--max-size")
    assert caught.value.got == repr(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (20_480, "20.5 kB"), (2 * 10**9, "2.0 GB"), (10**16, "10000.0 TB")],
)
def test_sizes_for_people(size, text):
    assert show_size(size) == text


# ---- the limit ----


def test_where_the_limit_comes_from(monkeypatch, file):
    monkeypatch.delenv("FEWCLIP_CACHE_LIMIT", raising=False)
    assert FeatureStore(file).limit == 2_000_000_000
    monkeypatch.setenv("FEWCLIP_CACHE_LIMIT", "500MB")
    assert FeatureStore(file).limit == 500_000_000
    assert FeatureStore(file, limit="1 GB").limit == 10**9
    assert FeatureStore(file, limit=12_345).limit == 12_345
    monkeypatch.setenv("FEWCLIP_CACHE_LIMIT", "None")
    assert FeatureStore(file).limit is None
    assert pickle.loads(pickle.dumps(FeatureStore(file, limit=7))).limit == 7  # noqa: S301 (our own bytes)
    assert FeatureStore.in_memory().limit is None


@pytest.mark.parametrize("bad", ["lots", "0", 0, -1, True, 1.5])
def test_a_bad_limit_is_an_error(file, bad):
    with pytest.raises(ParameterError, match="limit: expected") as caught:
        FeatureStore(file, limit=bad)
    assert caught.value.got == repr(bad)


def test_a_bad_limit_in_the_environment_is_an_error(monkeypatch, file):
    monkeypatch.setenv("FEWCLIP_CACHE_LIMIT", "2 elephants")
    with pytest.raises(ParameterError, match=r"FEWCLIP_CACHE_LIMIT: .*none.*, got '2 elephants'"):
        FeatureStore(file)


@pytest.mark.parametrize("dim", [8, 64, 512, 3000])
def test_the_file_stays_near_its_limit(file, clock, dim):
    limit = 1_000_000
    with FeatureStore(file, limit=limit) as store:
        for part in range(8 if dim > 64 else 40):
            clock[0] += HOUR
            store.put_many(items_of(str(part), 200, dim), fingerprint="f")
            assert table.used_bytes(store._open()) <= limit
        info = store.info()
    assert info["rows"] > 0.25 * limit / (4 * dim + 200)
    assert file.stat().st_size <= (4.5 if dim == 3000 else 1.3) * limit  # 200 of 3000 channels are 2.4 MB


def test_what_was_not_used_for_longest_goes_first(file, clock):
    old, read, new = (items_of(name, 100) for name in ("old", "read", "new"))
    with FeatureStore(file, limit="none") as store:
        store.put_many(read, fingerprint="f")
        clock[0] += HOUR
        store.put_many(old, fingerprint="f")
        clock[0] += HOUR
        store.get_many(read, fingerprint="f")
        store.limit = int(table.used_bytes(store._open()) * 1.2)
        store.put_many(new, fingerprint="f")
        left = store.get_many([*old, *read, *new], fingerprint="f")
    assert_intact(left)
    assert {*read, *new} <= left.keys()
    assert 0 < len(left.keys() & old.keys()) < 100


def test_a_lowered_limit_gives_the_space_back(file):
    with FeatureStore(file, limit="none") as store:
        store.put_many(items_of("a", 1000), fingerprint="f")
    assert file.stat().st_size > 1_000_000
    with FeatureStore(file, limit=300_000) as store:
        store.put_many(items_of("b", 1), fingerprint="f")
        assert store.info()["rows"] > 50
    assert file.stat().st_size <= 300_000


def test_a_limit_below_an_empty_file_keeps_nothing_and_raises_nothing(file):
    with FeatureStore(file, limit=1) as store:
        store.put_many(items_of("a", 10), fingerprint="f")
        assert store.get_many(items_of("a", 10), fingerprint="f") == {}
        assert store.info()["path"] == file


def test_the_limit_holds_in_memory_too(tmp_path, caplog):
    (tmp_path / "file").touch()
    with FeatureStore(tmp_path / "file" / "features.sqlite", limit=300_000) as store:
        for part in range(10):
            store.put_many(items_of(str(part), 100), fingerprint="f")
        assert store.info()["bytes"] < 600_000
        assert store.info()["rows"] > 50
    assert len(caplog.records) == 1


def test_reading_writes_once_an_hour_at_most(file, clock):
    items = items_of("a", 1000, dim=8)
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
        statements: list[str] = []
        store._open().set_trace_callback(statements.append)
        store.get_many(items, fingerprint="f")
        assert not any("UPDATE" in sql for sql in statements)
        clock[0] += HOUR
        store.get_many(items, fingerprint="f")
        assert sum("UPDATE" in sql for sql in statements) == 2  # 500 keys a statement
        assert sum("BEGIN" in sql for sql in statements) == 1
        store.get_many(items, fingerprint="f")
        assert sum("UPDATE" in sql for sql in statements) == 2
        (use,) = store.encoders()
    assert use.last_used == clock[0]


def test_a_stamp_that_cannot_be_written_is_no_obstacle(file, clock, caplog):
    items = items_of("a", 10)
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
        clock[0] += HOUR
        store._open().execute("PRAGMA query_only = ON")
        got = store.get_many(items, fingerprint="f")
        assert store.path == file
    assert got.keys() == items.keys()
    assert_intact(got)
    assert caplog.records == []


# ---- checksums and older files ----


def test_a_changed_bit_makes_a_row_unknown(file):
    items = items_of("a", 3)
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
        data = bytearray(items["a-1"].astype("<f4").tobytes())
        data[100] ^= 1
        store._open().execute("UPDATE features SET data = ? WHERE key = 'a-1'", (bytes(data),))
        assert store.get_many(items, fingerprint="f").keys() == {"a-0", "a-2"}
        store.put_many({"a-1": items["a-1"]}, fingerprint="f")
        assert store.get_many(items, fingerprint="f").keys() == items.keys()


def test_the_data_of_another_image_make_a_row_unknown(file):
    items = items_of("a", 2)
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
        other = "(SELECT {0} FROM features WHERE key = 'a-0')"
        sql = f"UPDATE features SET data = {other.format('data')}, checksum = {other.format('checksum')}"
        store._open().execute(sql)
        assert store.get_many(items, fingerprint="f").keys() == {"a-0"}


def write_first_format(file: Path, items: dict[str, np.ndarray]) -> None:
    file.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(FIRST_SCHEMA)
        rows = [(key, "f", 0, len(value), value.astype("<f4").tobytes()) for key, value in items.items()]
        connection.executemany("INSERT INTO features VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()


def test_an_older_file_keeps_its_rows(file, clock, caplog):
    old = items_of("old", 100)
    write_first_format(file, old)
    for _ in range(2):  # migrated, and opened again
        with FeatureStore(file) as store:
            got = store.get_many(old, fingerprint="f")
            assert got.keys() == old.keys()
            assert_intact(got)
            assert store.prune(max_age=30 * 24 * HOUR) == 0  # they count as used when they were migrated
            (use,) = store.encoders()
            assert (use.images, use.last_used) == (100, clock[0])
    assert caplog.records == []
    assert not Path(f"{file}.damaged").exists()


def test_an_older_file_takes_new_rows_and_loses_the_old_first(file, clock):
    old, new = items_of("old", 100), items_of("new", 100)
    write_first_format(file, old)
    with FeatureStore(file, limit="none") as store:
        store.get_many([], fingerprint="f")
        clock[0] += HOUR
        store.put_many(new, fingerprint="f")
        store.limit = int(0.8 * table.used_bytes(store._open()))
        store.put_many({"new-0": new["new-0"]}, fingerprint="f")
        left = store.get_many([*old, *new], fingerprint="f")
    assert_intact(left)
    assert new.keys() <= left.keys()
    assert 0 < len(left.keys() & old.keys()) < 100


def _open_and_count(file: Path) -> int:
    with FeatureStore(file) as store:
        return store.info()["rows"]


def test_processes_migrate_an_older_file_together(file):
    import multiprocessing

    write_first_format(file, items_of("old", 500))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_open_and_count, [file] * 6, chunksize=1) == [500] * 6
    assert not Path(f"{file}.damaged").exists()


# ---- by hand ----


def test_what_a_file_holds_by_encoder(file, clock):
    with FeatureStore(file) as store:
        assert store.encoders() == []
        for view in range(3):
            store.put_many(items_of("a", 5), fingerprint="first", view=view)
        clock[0] += 2 * HOUR + 1
        store.put_many(items_of("a", 4), fingerprint="second")
        second, first = store.encoders()
    assert (first.fingerprint, first.images, first.features) == ("first", 5, 15)
    assert first.last_used == clock[0] - 2 * HOUR - 1
    assert (second.fingerprint, second.images, second.features) == ("second", 4, 4)
    assert second.last_used == clock[0] - 1  # the hour it falls into


def test_prune_by_size(file, clock):
    old, new = items_of("old", 500), items_of("new", 500)
    with FeatureStore(file) as store:
        store.put_many(old, fingerprint="f")
        clock[0] += HOUR
        store.put_many(new, fingerprint="f")
        removed = store.prune(max_bytes=400_000)
        assert file.stat().st_size <= 400_000
        assert store.info()["rows"] == 1000 - removed > 60
        assert store.get_many(old, fingerprint="f") == {}
        assert_intact(store.get_many(new, fingerprint="f"))
        assert store.prune(max_bytes=400_000) == 0
        assert store.prune(max_bytes=1) == 1000 - removed


def test_prune_by_age(file, clock):
    with FeatureStore(file) as store:
        store.put_many(items_of("old", 5), fingerprint="f")
        clock[0] += 30 * 24 * HOUR
        store.put_many(items_of("new", 5), fingerprint="f")
        assert store.prune(max_age=31 * 24 * HOUR) == 0
        assert store.prune(max_age=30 * 24 * HOUR) == 0
        assert store.prune(max_age=29 * 24 * HOUR) == 5
        assert store.get_many(items_of("new", 5), fingerprint="f").keys() == items_of("new", 5).keys()


def test_clear_all_or_one_encoder(file):
    with FeatureStore(file) as store:
        store.put_many(items_of("a", 500), fingerprint="first")
        store.put_many(items_of("a", 5), fingerprint="second")
        assert store.clear(fingerprint="first") == 500
        assert file.stat().st_size < 100_000
        assert [use.fingerprint for use in store.encoders()] == ["second"]
        assert store.clear() == 5
        assert store.info()["rows"] == 0


def test_by_hand_an_unusable_file_is_an_error_and_stays(file):
    file.parent.mkdir()
    file.write_bytes(b"this is not a database" * 100)
    with FeatureStore(file) as store:
        for work in (store.encoders, store.clear, lambda: store.prune(max_bytes=1)):
            with pytest.raises(StoreError, match="expected a feature store that can be read and changed"):
                work()
    assert file.read_bytes() == b"this is not a database" * 100


# ---- full disks ----


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB."""
    mount, folder = shutil.which("mount"), tmp_path / "disk"
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small file system takes Linux and root")
    folder.mkdir()
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("this root user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_file_system_is_no_obstacle(small_disk, caplog):
    parts = [items_of(str(part), 50) for part in range(20)]
    with FeatureStore(small_disk) as store:
        for part in parts:
            store.put_many(part, fingerprint="f")
            got = store.get_many(part, fingerprint="f")
            assert got.keys() == part.keys()
            assert_intact(got)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be used" in caplog.text
    with FeatureStore(small_disk) as store:  # what was written before is intact
        assert_intact(store.get_many([key for part in parts for key in part], fingerprint="f"))


def test_a_file_system_that_was_full_before(small_disk, caplog):
    (small_disk / "other").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    with FeatureStore(small_disk) as store:
        store.put_many(items_of("a", 5), fingerprint="f")
        assert store.get_many(items_of("a", 5), fingerprint="f").keys() == items_of("a", 5).keys()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_read_only_file_system_is_no_obstacle(small_disk, caplog):
    with FeatureStore(small_disk) as store:
        store.put_many(items_of("a", 5), fingerprint="f")
    if subprocess.run(["mount", "-o", "remount,ro", small_disk], capture_output=True).returncode:
        pytest.skip("this root user may not mount a file system read-only")
    with FeatureStore(small_disk) as store:
        store.put_many(items_of("b", 5), fingerprint="f")
        assert store.get_many(items_of("b", 5), fingerprint="f").keys() == items_of("b", 5).keys()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


FILE_TOO_LARGE = """
import resource, signal, sys
import numpy as np
from fewclip.data.feature_store import FeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
items = {str(i): np.full(256, i, dtype=np.float32) for i in range(2000)}
with FeatureStore(sys.argv[1]) as store:
    store.put_many(items, fingerprint="f")
    got = store.get_many(items, fingerprint="f")
    assert all(np.array_equal(got[key], value) for key, value in items.items())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file sizes")
def test_a_file_that_may_not_grow_is_no_obstacle(file):
    done = subprocess.run(
        [sys.executable, "-c", FILE_TOO_LARGE, str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be used") == 1


# ---- kill -9 ----

KILLS = """
import os, random, signal, sys, time, zlib
import numpy as np
from fewclip.data.feature_store import FeatureStore

path, told, limit, kills = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def value_of(key):
    return np.random.default_rng(zlib.crc32(key.encode())).normal(size=256).astype(np.float32)

def write(number):
    log = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with FeatureStore(path, limit=limit) as store:
        for part in range(10_000):
            keys = [f"{number}-{part}-{i}" for i in range(20)]
            store.put_many({key: value_of(key) for key in keys}, fingerprint="f")
            os.write(log, "".join(key + "\\n" for key in keys).encode())
            store.get_many(keys, fingerprint="f")

def start(number):
    child = os.fork()
    if child == 0:
        try:
            write(number)
        finally:
            os._exit(1)
    return child

random.seed(0)
running = [start(0), start(1)]
for kill in range(kills):
    time.sleep(random.uniform(0.005, 0.12))
    child = running.pop(random.randrange(2))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL  # and not ended by an error before
    running.append(start(kill + 2))
for child in running:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork and no SIGKILL on this system")
@pytest.mark.parametrize("limit", ["none", "600kB"])
def test_fifty_kills_of_two_writers_lose_nothing(file, tmp_path, limit):
    """A process that is killed has lost what it had not been told was written, and nothing else."""
    told = tmp_path / "told"
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(file), str(told), limit, "50"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    stored = [key for (key,) in connection.execute("SELECT key FROM features")]
    connection.close()
    acknowledged = told.read_text().split("\n")[:-1]
    assert len(acknowledged) > 200
    with FeatureStore(file, limit="none") as store:
        got = store.get_many(stored, fingerprint="f")
        assert store.path == file
    assert got.keys() == set(stored)
    assert_intact(got)
    assert not Path(f"{file}.damaged").exists()
    if limit == "none":
        assert set(acknowledged) <= got.keys()
    else:
        assert 0 < len(got) < len(acknowledged)
        assert file.stat().st_size < 2 * 600_000
