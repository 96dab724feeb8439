"""The feature store: remembers, survives damage, threads, processes and unusable places."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fewclip.data.feature_store import FeatureStore, default_path
from fewclip.errors import FeatureError


def features(*names: str, dim: int = 8) -> dict[str, np.ndarray]:
    keys = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return {key: np.arange(dim, dtype=np.float32) + index for index, key in enumerate(keys)}


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key].dtype == np.float32
        np.testing.assert_array_equal(got[key], value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "features.sqlite"


def test_features_come_back_bit_for_bit_after_reopening(file):
    items = features("a", "b")
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
    with FeatureStore(file) as store:
        assert_same(store.get_many([*items, "unknown"], fingerprint="f"), items)


def test_another_encoder_or_view_never_reads_them(file):
    items = features("a")
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f", view=1)
        assert store.get_many(items, fingerprint="g", view=1) == {}
        assert store.get_many(items, fingerprint="f") == {}
        assert_same(store.get_many(items, fingerprint="f", view=1), items)


def test_more_keys_than_a_query_holds_and_repeated_ones():
    items = features(*map(str, range(1201)))
    with FeatureStore.in_memory() as store:
        store.put_many(items, fingerprint="f")
        assert_same(store.get_many([*items, *items], fingerprint="f"), items)
        assert store.get_many([], fingerprint="f") == {}


def test_a_second_put_replaces_and_the_result_is_writable():
    items = features("a")
    (key,) = items
    with FeatureStore.in_memory() as store:
        store.put_many({key: np.ones(3)}, fingerprint="f")
        store.put_many(items, fingerprint="f")
        got = store.get_many(items, fingerprint="f")
        assert_same(got, items)
        got[key][0] = 7.0
        assert_same(store.get_many(items, fingerprint="f"), items)


@pytest.mark.parametrize("bad", [np.ones((2, 2)), np.array([]), np.array([1.0, np.nan])])
def test_what_is_no_feature_vector_is_refused(bad):
    with FeatureStore.in_memory() as store, pytest.raises(FeatureError, match="a vector of finite numbers"):
        store.put_many({"k": bad}, fingerprint="f")


@pytest.mark.parametrize(
    ("column", "value"), [("dim", 9), ("data", b"123"), ("data", b""), ("data", None), ("dim", "x")]
)
def test_broken_rows_count_as_unknown(file, column, value):
    items = features("a", "b")
    broken, intact = items
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(f"UPDATE features SET {column} = ? WHERE key = ?", (value, broken))
    connection.close()
    with FeatureStore(file) as store:
        assert store.get_many(items, fingerprint="f").keys() == {intact}


def test_rows_with_nan_count_as_unknown(file):
    (key,) = items = features("a")
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
        nan = np.full(8, np.nan, dtype="<f4").tobytes()
        store._open().execute("UPDATE features SET data = ? WHERE key = ?", (nan, key))
        assert store.get_many(items, fingerprint="f") == {}


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_moved_aside(file, caplog, content):
    file.parent.mkdir()
    file.write_bytes(content)
    items = features("a")
    with FeatureStore(file) as store:
        assert store.get_many(items, fingerprint="f") == {}
        store.put_many(items, fingerprint="f")
    assert Path(f"{file}.damaged").read_bytes() == content
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "damaged" in caplog.text
    with FeatureStore(file) as store:
        assert_same(store.get_many(items, fingerprint="f"), items)


def test_damage_in_the_middle_of_the_file_never_raises(file, caplog):
    items = features(*map(str, range(2000)), dim=64)
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
    content = bytearray(file.read_bytes())
    content[8192 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 8192)
    file.write_bytes(content)
    with FeatureStore(file) as store:
        got = store.get_many(items, fingerprint="f")
        store.put_many(items, fingerprint="f")
        assert_same(store.get_many(items, fingerprint="f"), items)
    assert all(np.array_equal(value, items[key]) for key, value in got.items())
    assert "damaged" in caplog.text


def test_a_table_of_another_schema_is_moved_aside(file):
    file.parent.mkdir()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE features(name TEXT)")
    connection.close()
    items = features("a")
    with FeatureStore(file) as store:
        store.put_many(items, fingerprint="f")
        assert_same(store.get_many(items, fingerprint="f"), items)
    assert Path(f"{file}.damaged").exists()


def test_an_unusable_place_is_named_once_and_memory_serves(tmp_path, caplog):
    (tmp_path / "file").touch()
    items = features("a")
    with FeatureStore(tmp_path / "file" / "features.sqlite") as store:
        assert store.get_many(items, fingerprint="f") == {}
        store.put_many(items, fingerprint="f")
        assert_same(store.get_many(items, fingerprint="f"), items)
        assert store.info()["path"] is None
    assert len(caplog.records) == 1
    assert "cannot be used" in caplog.text


def test_a_read_only_folder_is_no_obstacle(file, caplog):
    with FeatureStore(file) as store:
        store.put_many(features("a"), fingerprint="f")
    file.chmod(0o444)
    file.parent.chmod(0o555)
    try:
        if os.access(file, os.W_OK):
            pytest.skip("this user writes everywhere")
        with FeatureStore(file) as store:
            store.put_many(features("b"), fingerprint="f")
            assert_same(store.get_many(features("b"), fingerprint="f"), features("b"))
    finally:
        file.parent.chmod(0o755)
    assert len(caplog.records) == 1


def test_a_full_disk_is_no_obstacle(file, caplog):
    items = features(*map(str, range(200)), dim=256)
    with FeatureStore(file) as store:
        store._open().execute("PRAGMA max_page_count = 4")
        store.put_many(items, fingerprint="f")
        assert_same(store.get_many(items, fingerprint="f"), items)
    assert "full" in caplog.text


def test_info_counts_rows_and_bytes(file):
    with FeatureStore(file) as store:
        store.put_many(features("a", "b"), fingerprint="f")
        info = store.info()
    assert info["path"] == file
    assert info["rows"] == 2
    assert info["bytes"] > 0


def test_a_folder_as_path_holds_the_file(tmp_path):
    with FeatureStore(tmp_path) as store:
        store.put_many(features("a"), fingerprint="f")
    assert (tmp_path / "features.sqlite").is_file()


def test_a_closed_store_opens_again(file):
    store = FeatureStore(file)
    store.put_many(features("a"), fingerprint="f")
    store.close()
    store.close()
    assert_same(store.get_many(features("a"), fingerprint="f"), features("a"))
    store.close()


def test_a_pickled_store_reads_the_same_file(file):
    with FeatureStore(file) as store:
        store.put_many(features("a"), fingerprint="f")
        with pickle.loads(pickle.dumps(store)) as copy:  # noqa: S301 (our own bytes)
            assert_same(copy.get_many(features("a"), fingerprint="f"), features("a"))


def test_threads_share_a_store(file):
    parts = [features(*(f"{thread}-{index}" for index in range(50))) for thread in range(8)]
    with FeatureStore(file) as store, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: store.put_many(part, fingerprint="f"), parts))
        for part, got in zip(
            parts, pool.map(lambda p: store.get_many(p, fingerprint="f"), parts), strict=True
        ):
            assert_same(got, part)
        assert store.info()["rows"] == 400


def _write(file: Path, number: int) -> str | None:
    with FeatureStore(file) as store:
        for index in range(10):
            store.put_many(features(f"{number}-{index}"), fingerprint="f")
        return str(store.info()["path"])


def test_processes_share_a_new_file(file):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        paths = pool.starmap(_write, [(file, number) for number in range(6)])
    assert paths == [str(file)] * 6
    with FeatureStore(file) as store:
        assert store.info()["rows"] == 60
    assert not Path(f"{file}.damaged").exists()


FORK = """
import os, sys
import numpy as np
from fewclip.data.feature_store import FeatureStore
with FeatureStore(sys.argv[1]) as store:
    store.put_many({"a": np.ones(3)}, fingerprint="f")
    child = os.fork()
    if child == 0:
        store.put_many({"b": np.ones(3)}, fingerprint="f")
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get_many(["a", "b"], fingerprint="f").keys() == {"a", "b"}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_opens_its_own_connection(file):
    # A process of its own: forking is deprecated where other tests have left threads behind.
    subprocess.run([sys.executable, "-W", "error", "-c", FORK, str(file)], check=True, timeout=60)


@pytest.mark.parametrize("variable", ["FEWCLIP_CACHE", "XDG_CACHE_HOME"])
@pytest.mark.skipif(os.name == "nt", reason="Windows uses LOCALAPPDATA")
def test_the_environment_names_the_default_place(monkeypatch, tmp_path, variable):
    for name in ("FEWCLIP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".cache" / "fewclip" / "features.sqlite"
    monkeypatch.setenv(variable, str(tmp_path))
    parts = [] if variable == "FEWCLIP_CACHE" else ["fewclip"]
    assert default_path() == tmp_path.joinpath(*parts, "features.sqlite")
    assert FeatureStore().path == default_path()
