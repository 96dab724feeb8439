"""A benchmark run: cells, once each, whatever interrupts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import FakeEncoder, FakeTokenEncoder, draw_folder
from reference.tasks import make_task

from fewclip.data import FeatureStore
from fewclip.errors import DataError, ParameterError
from fewclip.evaluation.bench import BenchSet, Plan, read_cells, read_plan, run_bench
from fewclip.evaluation.bench import run as run_module
from fewclip.evaluation.bench.cells import CellFile, key_of
from fewclip.methods import METHODS, TipAdapter

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")
NAMES = np.array(["ant", "bee", "cat"])
TASK = make_task((6, 5, 6), n_queries=30)


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "insects.npz"
    np.savez(
        path, train_features=TASK.X, train_labels=TASK.y, val_features=TASK.Xq, val_labels=TASK.yq,
        text_features=TASK.T, class_names=NAMES, logit_scale=np.array(20.0),
    )  # fmt: skip
    return str(path)


def plan_of(features: str, **more) -> Plan:
    one = BenchSet("insects", features, features, split="val", val=more.pop("val", None))
    given = {"methods": ["zero-shot", "tip-adapter", "ape"], "shots": [1, 3], "seeds": [0, 1]}
    given["selections"] = ["none"]  # quick; the protocols have a test of their own
    return Plan([one], **given | more)


def run(plan: Plan, folder, **options):
    return run_bench(plan, folder, progress=False, store=FeatureStore.in_memory(), **options)


def lasting(cells) -> dict:
    """Cells by name, without what differs from run to run."""
    fleeting = ("seconds", "finished", "peak_memory_mb", "threads")
    return {key_of(c): {k: v for k, v in c.items() if k not in fleeting} for c in cells}


def test_every_cell_once_with_all_that_belongs_into_it(features, tmp_path):
    outcome = run(plan_of(features), tmp_path / "runs")
    assert (outcome.done, outcome.failed, outcome.known) == (9, 0, 0)
    lines = [json.loads(line) for line in (tmp_path / "runs" / "cells.jsonl").read_text().splitlines()]
    assert len({key_of(line) for line in lines}) == len(lines) == 9
    assert [line["method"] for line in lines].count("zero-shot") == 1
    for line in lines:
        assert {"dataset", "encoder", "method", "shots", "seed", "selection", "metrics"} <= line.keys()
        assert {"labels_used", "seconds", "versions", "fingerprints", "images", "settings"} <= line.keys()
        assert line["error"] is None
        assert 0 <= line["metrics"]["acc1"] <= 1
        assert line["n_test"] == 30
        assert len(line["images"]) == line["n_support"] == 3 * line["shots"]
        assert line["versions"]["torch"]
        assert line["peak_memory_mb"] is None or line["peak_memory_mb"] > 10
    stored = {path.stem for path in (tmp_path / "runs" / "data").iterdir()}
    assert stored == {lines[0]["fingerprints"]["data"], lines[0]["fingerprints"]["test"]}


def test_a_cell_can_be_made_again_from_its_line(features, tmp_path):
    run(plan_of(features, methods=["ape"], shots=[3], seeds=[7], selections=["loo"]), tmp_path / "runs")
    (line,) = read_cells(tmp_path / "runs")
    rows = [int(name.removeprefix("row ")) for name in line["images"]]
    given = {"classes": NAMES, "logit_scale": line["logit_scale"], "random_state": line["random_state"]}
    chosen = {**line["settings"], "n_channels": int(line["settings"]["n_channels"])}
    method = METHODS[line["method"]](TASK.T, **given, **chosen).fit(TASK.X[rows], NAMES[TASK.y[rows]])
    assert method.score(TASK.Xq, NAMES[TASK.yq]) == pytest.approx(line["metrics"]["acc1"])
    method = METHODS[line["method"]](TASK.T, **given, selection=line["selection"])
    method.fit(TASK.X[rows], NAMES[TASK.y[rows]])
    assert method.selection_.settings == pytest.approx(line["settings"])
    assert method.temperature_ == pytest.approx(line["calibration"]["temperature"])
    probabilities = method.predict_proba(TASK.Xq)[np.arange(30), TASK.yq]
    assert -np.log(probabilities).mean() == pytest.approx(line["metrics"]["nll"], rel=1e-4)


def test_a_second_run_computes_nothing_and_a_larger_one_the_rest(features, tmp_path, monkeypatch):
    run(plan_of(features), tmp_path / "runs")
    before = (tmp_path / "runs" / "cells.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "open_task", None)
        assert run(plan_of(features), tmp_path / "runs").known == 9
    assert (tmp_path / "runs" / "cells.jsonl").read_bytes() == before
    outcome = run(plan_of(features, seeds=[0, 1, 2]), tmp_path / "runs")
    assert (outcome.done, outcome.known) == (4, 9)
    assert (tmp_path / "runs" / "cells.jsonl").read_bytes().startswith(before)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_the_middle_and_resumed(features, tmp_path):
    whole = plan_of(features, methods=["zero-shot", "tip-adapter", "ape", "tip-x"])
    command = f"""
import itertools, time
from fewclip.evaluation.bench import fits
from test_bench_run import plan_of, run
calls, figures = itertools.count(), fits.figures
fits.figures = lambda e: time.sleep(0 if next(calls) < 6 else 600) or figures(e)  # it never gets to the end
run(plan_of({features!r}, methods={list(whole.methods)!r}), {str(tmp_path / "runs")!r})
"""
    paths = os.pathsep.join([*sys.path, os.path.dirname(__file__)])
    process = subprocess.Popen([sys.executable, "-c", command], env={**os.environ, "PYTHONPATH": paths})
    file, deadline = tmp_path / "runs" / "cells.jsonl", time.monotonic() + 300
    while not (file.exists() and file.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n = file.read_bytes().count(b"\n")
    assert 4 <= n < 13
    with open(file, "ab") as torn:  # what a kill within the write itself leaves behind
        torn.write(b'{"dataset": "insects", "meth')
    with pytest.warns(UserWarning, match="torn"):
        outcome = run(whole, tmp_path / "runs")
    assert (outcome.known, outcome.done) == (n, 13 - n)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 13
    run(whole, tmp_path / "uninterrupted")
    assert lasting(lines) == lasting(read_cells(tmp_path / "uninterrupted"))


def test_a_line_without_its_end_is_kept(features, tmp_path):
    run(plan_of(features), tmp_path / "runs")
    file = tmp_path / "runs" / "cells.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert run(plan_of(features), tmp_path / "runs").known == 9
    assert file.read_bytes() == content


def test_a_damaged_line_is_named_and_nothing_is_overwritten(features, tmp_path):
    run(plan_of(features), tmp_path / "runs")
    file = tmp_path / "runs" / "cells.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"{oops}\n", *lines[1:]]))
    with pytest.raises(DataError, match="line 2"):
        run(plan_of(features), tmp_path / "runs")
    assert len(file.read_bytes().splitlines()) == 10


def test_one_run_at_a_time(features, tmp_path):
    with CellFile(tmp_path / "runs"), pytest.raises(DataError, match="another run"):
        run(plan_of(features), tmp_path / "runs")
    assert run(plan_of(features), tmp_path / "runs").done == 9


def test_a_failing_method_is_a_cell_with_an_error_and_can_be_retried(features, tmp_path, monkeypatch):
    class Broken(TipAdapter):
        def _fit(self, support, validation):
            raise ZeroDivisionError("by zero")

    monkeypatch.setitem(METHODS, "broken", Broken)
    plan = plan_of(features, methods=["broken", "tip-adapter"], seeds=[0])
    outcome = run(plan, tmp_path / "runs")
    assert (outcome.done, outcome.failed, outcome.first_error) == (2, 2, "ZeroDivisionError: by zero")
    bad = [line for line in read_cells(tmp_path / "runs") if line["error"]]
    assert [line["method"] for line in bad] == ["broken", "broken"]
    assert all(line["metrics"] is None and line["seconds"] >= 0 for line in bad)
    assert run(plan, tmp_path / "runs").known == 4
    monkeypatch.setitem(METHODS, "broken", TipAdapter)
    outcome = run(plan, tmp_path / "runs", retry_failed=True)
    assert (outcome.done, outcome.failed, outcome.known) == (2, 0, 2)
    assert all(line["error"] is None for line in read_cells(tmp_path / "runs"))


def test_other_images_under_the_same_name_are_refused(features, tmp_path):
    run(plan_of(features), tmp_path / "runs")
    with np.load(features) as stored:
        arrays = dict(stored)
    np.savez(features, **arrays | {"val_features": arrays["val_features"][:20], "val_labels": TASK.yq[:20]})
    with pytest.raises(DataError, match="other test images"):
        run(plan_of(features), tmp_path / "runs")
    np.savez(features, **arrays | {"text_features": arrays["text_features"][::-1]})
    with pytest.raises(DataError, match="other training images, prompts"):
        run(plan_of(features), tmp_path / "runs")


def test_halves_choose_on_one_and_judge_on_the_other(features, tmp_path):
    plan = plan_of(features, val="halves", methods=["ape"], shots=[3], seeds=[0], selections=["full", "loo"])
    run(plan, tmp_path / "runs")
    full, loo = read_cells(tmp_path / "runs")
    assert (full["selection"], full["protocol"], loo["protocol"]) == ("full", "full", "loo")
    assert (full["labels_used"], loo["labels_used"]) == (15, 0)
    assert full["settings_other_half"].keys() == full["settings"].keys()
    assert loo["settings_other_half"] is None
    # The same by hand, with the methods alone.
    half = np.empty(30, dtype=bool)
    for k in range(3):
        rows = np.flatnonzero(TASK.yq == k)
        half[rows] = (np.arange(len(rows)) + k) % 2 == 0
    rows = [int(name.removeprefix("row ")) for name in full["images"]]
    right = 0
    for chosen in (half, ~half):
        method = METHODS["ape"](TASK.T, classes=NAMES, logit_scale=20.0, selection="full")
        method.fit(TASK.X[rows], NAMES[TASK.y[rows]], X_val=TASK.Xq[chosen], y_val=NAMES[TASK.yq[chosen]])
        right += (method.predict(TASK.Xq[~chosen]) == NAMES[TASK.yq[~chosen]]).sum()
    assert full["metrics"]["acc1"] == pytest.approx(right / 30)


def test_protocols_that_spend_labels_need_some(features):
    with pytest.raises(ParameterError, match=r"validation images.*halves"):
        plan_of(features, selections=["full"])


def test_validation_images_among_the_test_images_are_refused(features, tmp_path):
    with pytest.raises(DataError, match="validation and test images"):
        run(plan_of(features, val=features), tmp_path / "runs")


def test_photos_are_encoded_once_and_twins_left_out(tmp_path, monkeypatch):
    train = draw_folder(tmp_path / "train", n=4)
    test = draw_folder(tmp_path / "test", n=4, first=3)  # the first of each class is in train, too
    encoder = FakeEncoder()
    monkeypatch.setattr(run_module, "load_encoder", lambda name: encoder)
    one = BenchSet("photos", str(train), str(test), templates=["a {} thing."])
    plan = Plan([one], methods=["zero-shot", "tip-adapter"], shots=[1, 2], seeds=[0, 1])
    store = FeatureStore.in_memory()
    with pytest.warns(UserWarning, match="3 of 12 test images can also be drawn"):
        run_bench(plan, tmp_path / "runs", progress=False, store=store)
    cells = read_cells(tmp_path / "runs")
    assert {(cell["n_test"], cell["encoder"], cell["dataset"]) for cell in cells} == {(9, "fake", "photos")}
    drawn = {name for cell in cells for name in cell["images"]}
    assert encoder.seen == len(drawn) + 9
    assert all(name.endswith(".png") and not name.startswith("/") for name in drawn)


def test_spatial_tokens_for_methods_that_use_them(tmp_path, monkeypatch):
    train, test = draw_folder(tmp_path / "train"), draw_folder(tmp_path / "test", first=9)
    monkeypatch.setattr(run_module, "load_encoder", lambda name: FakeTokenEncoder())
    plan = Plan(
        [BenchSet("photos", str(train), str(test))], methods=["calip", "zero-shot"], shots=[1], seeds=[0]
    )
    assert run(plan, tmp_path / "runs").failed == 0
    calip, text = sorted(read_cells(tmp_path / "runs"), key=lambda cell: cell["method"])
    assert calip["metrics"]["nll"] != text["metrics"]["nll"]


def test_images_that_fail_are_cells_of_their_data_set_alone(features, tmp_path, monkeypatch):
    train, test = draw_folder(tmp_path / "train"), draw_folder(tmp_path / "test", first=9)
    (test / "red" / "09.png").write_bytes(b"no image")
    monkeypatch.setattr(run_module, "load_encoder", lambda name: FakeEncoder())
    sets = [BenchSet("photos", str(train), str(test)), *plan_of(features).sets]
    plan = Plan(sets, methods=["tip-adapter"], shots=[1], seeds=[0])
    outcome = run(plan, tmp_path / "runs")
    assert (outcome.done, outcome.failed) == (1, 1)
    assert "09.png" in outcome.first_error
    with pytest.warns(UserWarning, match="cannot be read"):
        outcome = run(plan, tmp_path / "runs", retry_failed=True, skip_unreadable=True)
    assert (outcome.done, outcome.known) == (1, 1)


def test_zero_shot_without_text_is_an_error(tmp_path):
    np.savez(
        tmp_path / "a.npz", train_features=TASK.X, train_labels=TASK.y, val_features=TASK.Xq,
        val_labels=TASK.yq,
    )  # fmt: skip
    outcome = run(plan_of(str(tmp_path / "a.npz"), shots=[3], seeds=[0]), tmp_path / "runs")
    assert (outcome.done, outcome.failed) == (2, 1)
    assert "text features" in outcome.first_error


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"methods": []}, "methods"), ({"methods": ["nothing"]}, "'nothing'"), ({"shots": [0]}, "shots"),
        ({"seeds": [-1]}, "seeds"), ({"selections": ["best"]}, "selection"), ({"shots": "12"}, "shots"),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense(features, wrong, what):
    with pytest.raises(ParameterError, match=what):
        plan_of(features, **wrong)


def test_a_plan_as_a_file(features, tmp_path):
    (tmp_path / "plans").mkdir()
    file = tmp_path / "plans" / "two.toml"
    file.write_text(f"""
methods = ["ape"]
shots = [1]
[[dataset]]
name = "a"
train = "../insects.npz"
test = {features!r}
split = "val"
val = "halves"
[[dataset]]
train = "../photos/train"
test = "../photos/test"
templates = ["a {{}}."]
transfer = {{ sketches = "sketches" }}
""")
    found = read_plan(file)
    a, photos = found["sets"]
    assert (found["methods"], found["shots"], a.name, a.val) == (["ape"], [1], "a", "halves")
    assert run(Plan(**found | {"sets": [a], "seeds": [0]}), tmp_path / "runs").done == 1
    assert (photos.name, photos.templates) == ("photos", ["a {}."])
    assert photos.transfer == {"sketches": str(tmp_path / "plans" / "sketches")}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("methods = 3", "methods"), ("[[dataset]]\ntrain = 'a'", "test"), ("oops", "TOML"),
        ("[[dataset]]\ntrain = 'a'\ntest = 'b'\nshot = 1", "'shot'"), ("shots = [1]", "dataset"),
        ("[[dataset]]\ntrain = 'a'\ntest = 3", "test"), ("method = 1\n[[dataset]]", "'method'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, what):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(DataError, match=what):
        read_plan(tmp_path / "p.toml")
