"""A folder of everything that photo folders hold, through ``fewclip predict``: nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import draw_folder, drawing, fewclip
from PIL import Image

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread", "fake_encoder")


def png(width: int, height: int) -> bytes:
    """A PNG header that claims a size; behind it is next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def fill_zoo(zoo: Path) -> dict[str, str]:
    """Files as people have them; the text that belongs into the error of each, "" for a good one."""
    zoo.mkdir()
    red = drawing("red", 50, size=(96, 64))
    red.save(zoo / "good.jpg", quality=95)
    red.save(zoo / "GOOD.PNG")
    red.convert("CMYK").save(zoo / "cmyk.jpg", quality=95)
    grey = np.asarray(red.convert("L")).astype(np.uint16)
    Image.fromarray(grey * 257).save(zoo / "grey16.png")
    red.convert("L").save(zoo / "grey8.png")
    red.quantize(200).save(zoo / "palette.png", transparency=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    red.transpose(Image.Transpose.ROTATE_90).save(zoo / "turned.png", exif=exif)
    red.quantize(200).save(
        zoo / "moving.gif", save_all=True, append_images=[drawing("blue", 1, (96, 64)).quantize(200)]
    )
    red.quantize(200).save(zoo / "still.gif")
    Image.new("RGB", (100, 20_000), (200, 40, 40)).save(zoo / "strip.png")
    whole = (zoo / "good.jpg").read_bytes()
    (zoo / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (zoo / "empty.jpg").touch()
    (zoo / "text.jpg").write_text("This is no image, whatever its name says.")
    (zoo / "page.png").write_text("<!DOCTYPE html><html>404</html>")
    (zoo / "bomb.png").write_bytes(png(50_000, 50_000))
    (zoo / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    (zoo / ".hidden.jpg").write_bytes(whole)
    (zoo / "notes.txt").write_text("not asked for")
    return {
        **dict.fromkeys(("good.jpg", "GOOD.PNG", "cmyk.jpg", "grey16.png", "grey8.png", "palette.png"), ""),
        **dict.fromkeys(("turned.png", "moving.gif", "still.gif", "strip.png"), ""),
        "truncated.jpg": "intact image",
        "empty.jpg": "empty file",
        "text.jpg": "b'This is '",
        "page.png": "b'<!DOCTYP'",
        "bomb.png": "2,500,000,000",
        "phone.heic": "fewclip[heif]",
    }


@pytest.fixture
def adapter(tmp_path):
    draw_folder(tmp_path / "photos")
    assert fewclip("fit", tmp_path / "photos", "-o", tmp_path / "a", "--encoder", "fake").code == 0
    return tmp_path / "a"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_zoo(adapter, tmp_path, batch_size):
    expected = fill_zoo(tmp_path / "zoo")
    target = tmp_path / "p.csv"
    ran = fewclip("predict", adapter, tmp_path / "zoo", "-o", target, "--batch-size", batch_size)
    assert ran.code == 3
    assert "Traceback" not in ran.err
    assert "10 of 16 images classified, 6 unreadable" in ran.err
    rows = {Path(row["path"]).name: row for row in rows_of(target)}
    assert list(rows) == sorted(expected)
    for name, error in expected.items():
        if error:
            assert error in rows[name]["error"], name
            assert f"zoo/{name}" in rows[name]["error"], name
            assert rows[name]["label"] == ""
        else:
            assert rows[name]["error"] == "", name
            assert float(rows[name]["score"]) > 0
    for name in ("good.jpg", "GOOD.PNG", "cmyk.jpg", "turned.png", "moving.gif", "still.gif", "strip.png"):
        assert rows[name]["label"] == "red", name
    good = float(rows["GOOD.PNG"]["score"])
    for name, alike in (("turned.png", "GOOD.PNG"), ("moving.gif", "still.gif"), ("grey16.png", "grey8.png")):
        assert {k: v for k, v in rows[name].items() if k != "path"} == {
            k: v for k, v in rows[alike].items() if k != "path"
        }, name
    assert float(rows["cmyk.jpg"]["score"]) == pytest.approx(good, abs=0.05)


def test_the_zoo_is_the_same_the_second_time(adapter, tmp_path):
    fill_zoo(tmp_path / "zoo")
    first, second = (fewclip("predict", adapter, tmp_path / "zoo", "-q") for _ in range(2))
    assert first == second


def test_fit_on_the_zoo(tmp_path):
    draw_folder(tmp_path / "photos")
    expected = fill_zoo(tmp_path / "photos" / "zoo")
    arguments = ("fit", tmp_path / "photos", "-o", tmp_path / "a", "--encoder", "fake")
    ran = fewclip(*arguments)
    assert ran.code == 1
    assert any(name in ran.err for name, error in expected.items() if error)
    assert fewclip(*arguments, "--skip-unreadable", "--json", "-q").code == 0
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    kept = {Path(entry["name"]).name for entry in config["support"] if entry["label"] == "zoo"}
    assert kept == {name for name, error in expected.items() if not error}
    told = {Path(name).name for name, _ in config["fit"]["skipped"]}
    assert told == {*(name for name, error in expected.items() if error), ".hidden.jpg", "notes.txt"}


def test_duplicates_give_rows_each(adapter, tmp_path):
    drawing("red", 60).save(tmp_path / "a.png")
    target = tmp_path / "p.csv"
    path = tmp_path / "a.png"
    assert fewclip("predict", adapter, path, path, tmp_path / "gone.png", path, "-o", target).code == 3
    rows = rows_of(target)
    assert [row["label"] for row in rows] == ["red", "red", "", "red"]
    assert rows[0] == rows[1] == rows[3]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_a_name_that_is_not_utf8(adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    drawing("red", 60).save(tmp_path / "a.png")
    os.rename(b"a.png", b"new/caf\xe9.png")
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        assert fewclip("predict", adapter, "new", "-o", name).code == 0
    assert [row["path"] for row in rows_of(Path("p.csv"))] == ["new/caf\\xe9.png"]
    assert json.loads(Path("p.jsonl").read_text())["path"] == "new/caf\\xe9.png"
    ran = fewclip("predict", adapter, "new")
    assert (ran.code, ran.out.splitlines()[1].split(",")[0]) == (0, "new/caf\\xe9.png")
    assert fewclip("explain", adapter, os.fsdecode(b"new/caf\xe9.png")).out.startswith(
        "new/caf\\xe9.png: red"
    )


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_an_adapter_and_a_class_that_are_not_utf8(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "photos", ["red", "blue"])
    os.rename(b"photos/red", b"photos/caf\xe9")
    adapter = os.fsdecode(b"a\xe9.adapter")
    ran = fewclip("fit", "photos", "-o", adapter, "--encoder", "fake", "--json")
    assert ran.code == 0
    ran.out.encode("utf-8")  # what a terminal or file would be given
    assert sorted(json.loads(ran.out)["shots"]) == ["blue", "caf\\xe9"]
    ran = fewclip("predict", adapter, "photos", "-q")
    assert ran.code == 0
    assert "photos/caf\\xe9/00.png,caf\\xe9," in ran.out
    assert fewclip("info", adapter).code == 0


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_in_circles_and_hidden_files(adapter, tmp_path):
    new = draw_folder(tmp_path / "new", n=1, first=50)
    (new / "red" / "back").symlink_to(new, target_is_directory=True)
    (new / "self.png").symlink_to(new / "self.png")
    (new / ".DS_Store").touch()
    ran = fewclip("predict", adapter, new)
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 4


def test_a_pipe_is_an_error_in_its_row(adapter, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with a name here")
    os.mkfifo(tmp_path / "pipe.png")
    ran = fewclip("predict", adapter, tmp_path / "pipe.png", "-q")
    assert ran.code == 3
    assert "neither a file nor a folder" in ran.out


@pytest.mark.parametrize("pair", [("Red", "red")])
def test_class_names_that_differ_by_case_alone(tmp_path, pair):
    for name in pair:
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        drawing("red", 0).save(tmp_path / "photos" / name / "0.png")
    if len(list((tmp_path / "photos").iterdir())) < 2:
        pytest.skip("this file system does not tell Red from red")
    ran = fewclip("fit", tmp_path / "photos", "-o", tmp_path / "a", "--encoder", "fake")
    assert ran.code == 1
    assert "differ by more than case" in ran.err


def test_the_zoo_with_the_real_encoder(tmp_path):
    draw_folder(tmp_path / "photos", ["red", "blue"], n=2)
    expected = fill_zoo(tmp_path / "zoo")
    assert fewclip("fit", tmp_path / "photos", "-o", tmp_path / "a", "-q") == fewclip(
        "fit", tmp_path / "photos", "-o", tmp_path / "b", "-q"
    )
    ran = fewclip("predict", tmp_path / "a", tmp_path / "zoo", "-o", tmp_path / "p.csv")
    assert ran.code == 3
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "p.csv")}
    assert {name for name, row in rows.items() if row["error"]} == {n for n, e in expected.items() if e}
    scores = [float(rows[name]["score"]) for name in ("turned.png", "GOOD.PNG")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
