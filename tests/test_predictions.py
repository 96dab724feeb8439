"""Predictions as files: rows out = images in, and never half a file."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from fewclip.errors import DataError, ImageError, MissingExtraError, ParameterError
from fewclip.predictions import Prediction, Written, check_target, write_predictions

ERROR = ImageError("b.jpg", expected="an image, whole", got='"nothing"', fix="Copy it again.")
ROWS = [
    Prediction("new/a.jpg", ("cat", "dog"), (0.75, 0.25)),
    Prediction("new/b.jpg", error=ERROR),
    Prediction("new/c, d.jpg", ('the "cat"', "dög\n"), (0.6666666666, 0.3333333333)),
    Prediction("caf\\xe9.jpg", ("cat",), (1.0,)),
]
COLUMNS = ["path", "label", "score", "top2_label", "top2_score", "error"]


def read(path: Path) -> list[dict]:
    """Rows with None where there is nothing, scores as numbers."""
    if path.suffix.lower() == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix.lower() == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
    return [{k: float(v) if v and k.endswith("score") else v for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet", "P.CSV", "P.Parquet"])
def test_every_format_holds_the_same_rows(tmp_path, name):
    written = write_predictions(iter(ROWS), tmp_path / name, top=2)
    assert written == Written(rows=4, errors=1)
    rows = read(tmp_path / name)
    assert [list(row) for row in rows] == [COLUMNS] * 4
    assert [row["path"] for row in rows] == [row.name for row in ROWS]
    assert rows[0] == dict(zip(COLUMNS, ["new/a.jpg", "cat", 0.75, "dog", 0.25, None], strict=True))
    assert rows[1] == dict(zip(COLUMNS, ["new/b.jpg", None, None, None, None, str(ERROR)], strict=True))
    assert (rows[2]["label"], rows[2]["top2_label"]) == ('the "cat"', "dög\n")
    assert rows[2]["score"] == pytest.approx(2 / 3, abs=1e-6)
    assert (rows[3]["label"], rows[3]["top2_label"]) == ("cat", None)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_columns_follow_top(tmp_path):
    write_predictions(ROWS[:1], tmp_path / "p.csv", top=1)
    assert (tmp_path / "p.csv").read_text() == "path,label,score,error\nnew/a.jpg,cat,0.75,\n"
    write_predictions(ROWS[:1], tmp_path / "p.csv", top=3)
    header = (tmp_path / "p.csv").read_text().splitlines()[0]
    assert header == "path,label,score,top2_label,top2_score,top3_label,top3_score,error"


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
def test_no_rows_are_a_file_too(tmp_path, name):
    assert write_predictions([], tmp_path / name, top=1) == Written(0, 0)
    assert read(tmp_path / name) == []
    assert (tmp_path / name).is_file()


def test_parquet_of_more_than_one_group(tmp_path, monkeypatch):
    monkeypatch.setattr("fewclip.predictions._ROWS", 3)
    write_predictions(ROWS * 2, tmp_path / "p.parquet", top=1)
    assert [row["path"] for row in read(tmp_path / "p.parquet")] == [row.name for row in ROWS * 2]


def test_stdout_as_csv_and_as_json_lines(capsys):
    write_predictions(ROWS[:2], None, top=1)
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["path,label,score,error", "new/a.jpg,cat,0.75,"]
    write_predictions(ROWS[:2], None, top=1, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"path": "new/a.jpg", "label": "cat", "score": 0.75, "error": None}
    assert "Copy it again" in rows[1]["error"]


def breaking(error: BaseException):
    yield ROWS[0]
    raise error


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
@pytest.mark.parametrize("error", [RuntimeError("fell"), KeyboardInterrupt()])
def test_a_fall_in_the_middle_leaves_nothing_new(tmp_path, name, error):
    with pytest.raises(type(error)):
        write_predictions(breaking(error), tmp_path / name, top=1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_bytes(b"yesterday's")
    with pytest.raises(type(error)):
        write_predictions(breaking(error), tmp_path / name, top=1)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"yesterday's"]


def test_the_file_is_not_there_before_it_is_whole(tmp_path):
    def rows():
        yield ROWS[0]
        assert not (tmp_path / "p.csv").exists()
        yield ROWS[1]

    assert write_predictions(rows(), tmp_path / "p.csv", top=1).rows == 2
    assert (tmp_path / "p.csv").is_file()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_fails_is_a_data_error(tmp_path, monkeypatch, function):
    def fail(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "p.csv").write_text("old")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(DataError, match=r"p\.csv.*No space left"):
        write_predictions(ROWS, tmp_path / "p.csv", top=1)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_file_that_cannot_be_made_is_found_before_any_work(tmp_path):
    def rows():
        raise AssertionError("classified before the file was opened")
        yield

    with pytest.raises(DataError, match="can be written"):
        write_predictions(rows(), tmp_path / f"{'p' * 300}.csv", top=1)


@pytest.mark.parametrize("name", ["p.txt", "p", "p.csv.gz", ".csv", "p.xlsx"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ParameterError, match=r"\.csv, \.jsonl, \.parquet"):
        check_target(tmp_path / name)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected a folder"):
        check_target(tmp_path / "nowhere" / "p.csv")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(DataError, match=r"p\.csv"):
        check_target(tmp_path / "p.csv")


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "fewclip\[data\]"'):
        check_target(tmp_path / "p.parquet")
    check_target(tmp_path / "p.csv")


@pytest.mark.skipif(os.name == "nt", reason="modes of Unix")
def test_the_file_is_readable_as_the_users_mask_says(tmp_path):
    before = os.umask(0o077)
    try:
        write_predictions(ROWS, tmp_path / "p.csv", top=1)
    finally:
        os.umask(before)
    assert (tmp_path / "p.csv").stat().st_mode & 0o777 == 0o600
