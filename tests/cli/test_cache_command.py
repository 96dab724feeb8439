"""`fewclip cache`: info, prune, clear; questions, JSON and errors."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from helpers import Ran, fewclip
from typer.testing import CliRunner

from fewclip.cli.app import app
from fewclip.data import FeatureStore, feature_store

pytestmark = pytest.mark.usefixtures("own_cache")
DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def _no_limit_of_the_user(monkeypatch):
    monkeypatch.delenv("FEWCLIP_CACHE_LIMIT", raising=False)


@pytest.fixture
def file(own_cache, monkeypatch) -> Path:
    """500 features of encoder "old", last used on 2020-09-13, and as many of "new", used 40 days later."""
    now = [1.6e9]
    with monkeypatch.context() as patch, FeatureStore() as store:
        patch.setattr(feature_store.time, "time", lambda: now[0])
        for name in ("old", "new"):
            items = {f"{name}-{i}": np.full(256, i, dtype=np.float32) for i in range(500)}
            store.put_many(items, fingerprint=name)
            now[0] += 40 * DAY
    return own_cache / "features.sqlite"


def rows(file: Path) -> dict[str, int]:
    connection = sqlite3.connect(file)
    found = dict(connection.execute("SELECT fingerprint, COUNT(*) FROM features GROUP BY fingerprint"))
    connection.close()
    return found


def assert_is_one_error(ran: Ran, *parts: str) -> None:
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("command", ["info", "prune", "clear"])
def test_help(command):
    done = CliRunner().invoke(app, ["cache", command, "-h"])
    assert done.exit_code == 0
    assert "--json" in done.output


def test_info(file):
    ran = fewclip("cache", "info")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split(maxsplit=1) == ["path", str(file)]
    assert lines[1].endswith("MB of 2.0 GB")
    assert lines[2].split() == ["features", "1000"]
    assert lines[3] == "encoder   new: 500 images, 500 features, last used 2020-10-23T12:00+00:00"
    assert lines[4] == "encoder   old: 500 images, 500 features, last used 2020-09-13T12:00+00:00"


def test_info_as_json(file, monkeypatch):
    monkeypatch.setenv("FEWCLIP_CACHE_LIMIT", "none")
    ran = fewclip("cache", "info", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["path"] == str(file)
    assert found["bytes"] > 1000 * 256 * 4
    assert found["limit"] is None
    assert found["features"] == 1000
    assert found["encoders"][1] == {
        "fingerprint": "old", "images": 500, "features": 500, "last_used": "2020-09-13T12:00+00:00",
    }  # fmt: skip
    assert fewclip("cache", "info").out.splitlines()[1].endswith("of any")


def test_looking_creates_no_file(own_cache):
    for arguments in (("info",), ("prune", "--max-size", "1MB"), ("clear",)):
        ran = fewclip("cache", *arguments)
        assert (ran.code, ran.err) == (0, "")
    assert "0 B" in fewclip("cache", "info").out
    assert not own_cache.exists()


def test_prune_by_size(file):
    ran = fewclip("cache", "prune", "--max-size", "2 MB", "--json")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out)
    assert file.stat().st_size <= 2_000_000
    left = rows(file)
    assert left.keys() == {"new"}  # the old ones go first
    assert told["removed"] == 1000 - left["new"]
    assert told["path"] == str(file)


def test_prune_by_age(file, monkeypatch):
    monkeypatch.setattr(feature_store.time, "time", lambda: 1.6e9 + 50 * DAY)
    assert fewclip("cache", "prune", "--older-than", "60d").out.startswith("0 features removed; ")
    assert fewclip("cache", "prune", "--older-than", "2w").out.startswith("500 features removed; ")
    assert rows(file) == {"new": 500}
    assert fewclip("cache", "prune", "--older-than", "48h").out.startswith("500 features removed; ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("prune", "--max-size or --older-than", "neither")),
        (("--max-size", "big"), ("--max-size", "500MB", "'big'")),
        (("--max-size", "0"), ("--max-size", "'0'")),
        (("--max-size", "1MB", "--older-than", "soon"), ("--older-than", "30d", "'soon'")),
        (("--older-than", "-3d"), ("--older-than", "'-3d'")),
    ],
)
def test_prune_with_bad_values_changes_nothing(file, arguments, parts):
    assert_is_one_error(fewclip("cache", "prune", *arguments), *parts)
    assert rows(file) == {"old": 500, "new": 500}


def test_clear_one_encoder_and_then_all(file):
    ran = fewclip("cache", "clear", "--encoder", "old", "--yes")
    assert (ran.code, ran.out.split(";")[0]) == (0, "500 features removed")
    assert rows(file) == {"new": 500}
    ran = fewclip("cache", "clear", "--yes", "--json")
    assert (ran.code, json.loads(ran.out)["removed"]) == (0, 500)
    assert rows(file) == {}
    assert file.stat().st_size < 50_000


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, {}), ("n\n", 1, {"old": 500, "new": 500}), ("", 1, None)]
)
def test_clear_asks(file, answer, code, left):
    done = CliRunner().invoke(app, ["cache", "clear"], input=answer)
    assert done.exit_code == code
    assert "Remove all features from" in done.output
    assert rows(file) == ({"old": 500, "new": 500} if left is None else left)


def test_clear_of_an_unknown_encoder(file):
    ran = fewclip("cache", "clear", "--encoder", "other", "--yes")
    assert_is_one_error(ran, "--encoder", "one of new, old", "'other'", "fewclip cache info")
    fewclip("cache", "clear", "--yes")
    ran = fewclip("cache", "clear", "--encoder", "other", "--yes")
    assert_is_one_error(ran, "none, as the feature store is empty")


@pytest.mark.parametrize("arguments", [("info",), ("prune", "--max-size", "1MB"), ("clear", "--yes")])
def test_a_file_that_is_no_database(own_cache, arguments):
    own_cache.mkdir()
    content = b"this is not a database" * 100
    (own_cache / "features.sqlite").write_bytes(content)
    assert_is_one_error(fewclip("cache", *arguments), "features.sqlite", "not a database", "delete the file")
    assert (own_cache / "features.sqlite").read_bytes() == content


def test_a_bad_limit_in_the_environment(file, monkeypatch):
    monkeypatch.setenv("FEWCLIP_CACHE_LIMIT", "big")
    assert_is_one_error(fewclip("cache", "info"), "FEWCLIP_CACHE_LIMIT", "'big'")


def test_doctor_tells_a_bad_limit_as_one_of_its_findings(monkeypatch):
    monkeypatch.setenv("FEWCLIP_CACHE_LIMIT", "big")
    found = {check["name"]: check for check in json.loads(fewclip("doctor", "--json").out)}
    assert not found["feature store"]["ok"]
    assert "FEWCLIP_CACHE_LIMIT" in found["feature store"]["detail"]
