"""``fewclip bench``: the command line of benchmarks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import draw_folder, fewclip
from reference.tasks import make_task

from fewclip.evaluation.bench import read_cells
from fewclip.methods import METHODS

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")
TASK = make_task((4, 3, 4), n_queries=15)


@pytest.fixture
def features(tmp_path):
    np.savez(
        tmp_path / "insects.npz", train_features=TASK.X, train_labels=TASK.y, val_features=TASK.Xq,
        val_labels=TASK.yq, text_features=TASK.T, class_names=np.array(["ant", "bee", "cat"]),
    )  # fmt: skip
    return tmp_path / "insects.npz"


def bench(features, runs, *more):
    given = ("--test", features, "--split", "val", "--shots", "1,2", "--seeds", "0,1", "-o", runs)
    more = more if "--selection" in more else (*more, "--selection", "none")  # the quick one
    return fewclip("bench", "run", features, *given, *more)


def test_run_prints_tables_and_goes_on(features, tmp_path):
    ran = bench(features, tmp_path / "runs", "--methods", "tip-adapter,ape")
    assert ran.code == 0, ran.err
    assert "insects, encoder features, settings by none" in ran.out
    assert "tip-adapter" in ran.out
    assert "8 cells to run" in ran.err
    cells = read_cells(tmp_path / "runs")
    assert {cell["method"] for cell in cells} == {"tip-adapter", "ape"}  # zero-shot was not asked for
    ran = bench(features, tmp_path / "runs", "--methods", "zero-shot,tip-adapter,ape", "--json", "-q")
    assert json.loads(ran.out)["done"] == 1
    assert json.loads(ran.out)["known"] == 8
    assert ran.err == ""


def test_photos_encoders_and_protocols(tmp_path, fake_encoder, photos):
    test = draw_folder(tmp_path / "test", n=6, first=20)
    ran = fewclip(
        "bench", "run", photos, "--test", test, "--encoder", "fake", "--methods", "ape", "--shots", "2",
        "--seeds", "1", "--selection", "none,full", "--val", "halves", "--name", "shapes",
        "--template", "a {} thing.", "-o", tmp_path / "runs", "-q",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    cells = read_cells(tmp_path / "runs")
    assert [(c["dataset"], c["encoder"], c["protocol"], c["labels_used"]) for c in cells] == [
        ("shapes", "fake", "none", 0), ("shapes", "fake", "full", 9),
    ]  # fmt: skip


def test_failed_cells_give_exit_code_3_and_the_first_error(features, tmp_path, monkeypatch):
    class Broken(METHODS["ape"]):
        def _fit(self, support, validation):
            raise RuntimeError("no luck")

    monkeypatch.setitem(METHODS, "ape", Broken)
    ran = bench(features, tmp_path / "runs", "--methods", "ape,tip-adapter")
    assert ran.code == 3
    assert "RuntimeError: no luck" in ran.err
    assert "--retry-failed" in ran.err
    assert len(read_cells(tmp_path / "runs")) == 8


def test_a_plan(features, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'selections = ["none"]\nmethods = ["tip-adapter"]\nshots = [1]\nseeds = [0]\n'
        '[[dataset]]\nname = "a"\ntrain = "insects.npz"\ntest = "insects.npz"\nsplit = "val"\n'
    )
    ran = fewclip("bench", "run", plan, "--seeds", "0,3", "-o", tmp_path / "runs")
    assert ran.code == 0, ran.err
    assert [cell["seed"] for cell in read_cells(tmp_path / "runs")] == [0, 3]
    ran = fewclip("bench", "run", plan, "--test", features, "-o", tmp_path / "runs")
    assert ran.code == 1
    assert "--test" in ran.err


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--methods", "nothing"), "'nothing'"),
        (("--selection", "full"), "halves"),
        (("--split", "test"), "val"),
    ],
)  # fmt: skip
def test_mistakes_end_before_anything_is_written(features, tmp_path, more, part):
    ran = bench(features, tmp_path / "runs", "--methods", "ape", *more)
    assert ran.code == 1
    assert part in ran.err
    assert not (tmp_path / "runs").exists()
    assert fewclip("bench", "run", features, "-o", tmp_path / "runs").code == 1  # no --test
    assert bench(features, tmp_path / "runs", "--shots", "1,x").code == 2


def test_corrupted_images_transfer_and_the_report(tmp_path, fake_encoder, photos):
    test, other = (
        draw_folder(tmp_path / "test", first=20),
        draw_folder(tmp_path / "other", ("red", "blue"), first=40),
    )
    ran = fewclip(
        "bench", "run", photos, "--test", test, "--encoder", "fake", "--methods", "zero-shot,tip-adapter",
        "--shots", "2", "--seeds", "1", "--selection", "none", "--shift", "blur,jpeg", "--severity", "2",
        "--transfer", f"sketches={other}", "-o", tmp_path / "runs",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "photos → sketches: 2 classes in common" in ran.err
    cells = read_cells(tmp_path / "runs")
    places = {(cell["test"], cell["shift"]) for cell in cells}
    assert places == {("photos", None), ("photos", "blur-2"), ("photos", "jpeg-2"), ("sketches", None)}
    ran = fewclip("bench", "report", tmp_path / "runs", "-o", tmp_path / "report", "--json")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert json.loads(ran.out) == {"report": str(tmp_path / "report" / "report.html")}
    assert "Corrupted test images" in page
    assert "Transfer" in page
    assert fewclip("bench", "report", tmp_path / "nothing", "-o", tmp_path / "report").code == 1
    ran = fewclip("bench", "run", photos, "--test", test, "--shift", "fog", "-o", tmp_path / "more")
    assert ran.code == 1
    assert "'fog'" in ran.err
