"""Files of features and encoders of one's own in every command, and ``python -m fewclip``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, FakeEncoder, draw_folder, fewclip

from fewclip.encoders import load_encoder

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")
OWN = """
from helpers import FakeEncoder

class Mine(FakeEncoder):
    name = "mine"
"""


@pytest.fixture
def new(tmp_path):
    return draw_folder(tmp_path / "new", n=2, first=50)


@pytest.fixture
def files(photos, new, tmp_path, fake_encoder):
    """Features of the labelled and of the new images, and an adapter fitted on the former."""
    made = {}
    for name, folder in {"train": photos, "new": new}.items():
        made[name] = tmp_path / f"{name}.npz"
        assert fewclip("embed", folder, "-o", made[name], "--encoder", "fake", "-q").code == 0
    made["bare"] = tmp_path / "bare.npz"  # nothing says which encoder made them
    with np.load(made["train"]) as arrays:
        np.savez(made["bare"], features=arrays["features"], labels=arrays["labels"])
    made["adapter"] = tmp_path / "a.adapter"
    assert fewclip("fit", made["bare"], "-o", made["adapter"], "-q").code == 0
    return made


def test_features_are_classified_measured_and_explained(files):
    predicted = fewclip("predict", files["adapter"], files["new"], "--json", "-q")
    assert predicted.code == 0
    rows = [json.loads(line) for line in predicted.out.splitlines()]
    assert len(rows) == 6
    measured = json.loads(fewclip("evaluate", files["adapter"], files["new"], "--json", "-q").out)
    truth = np.load(files["new"])["labels"]
    hits = np.mean([row["label"] == label for row, label in zip(rows, truth, strict=True)])
    assert measured["accuracy"] == pytest.approx(hits)
    for row in (0, 5):
        ran = fewclip("explain", files["adapter"], files["new"], "--row", row, "--json")
        assert (ran.code, ran.err) == (0, "")
        assert json.loads(ran.out)["label"] == rows[row]["label"]
        assert json.loads(ran.out)["name"] == rows[row]["path"]


def test_features_of_another_encoder_are_refused_with_both_sides_named(files, tmp_path, fake_encoder):
    assert fewclip("fit", files["train"], "-o", tmp_path / "known.adapter", "-q").code == 0
    with np.load(files["new"]) as arrays:
        np.savez(tmp_path / "other.npz", **{**arrays, "fingerprint": "fake-2"})
    ran = fewclip("predict", tmp_path / "known.adapter", tmp_path / "other.npz")
    assert ran.code == 1
    assert "fake-1" in ran.err
    assert "fake-2" in ran.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [((), "which of its 6 rows to explain, 0 to 5"), (("--row", 6), "expected 0 to 5, got 6")],
)
def test_a_row_that_is_missing_is_asked_for(files, arguments, part):
    ran = fewclip("explain", files["adapter"], files["new"], *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert part in ran.err


def test_a_row_of_a_picture_is_refused(files, new):
    ran = fewclip("explain", files["adapter"], new / "red" / "50.png", "--row", 0)
    assert (ran.code, ran.out) == (1, "")
    assert "--row: expected a file of features" in ran.err


def test_a_file_of_one_row_needs_no_number(files, tmp_path):
    with np.load(files["new"]) as arrays:
        np.savez(tmp_path / "one.npz", features=arrays["features"][:1])
    assert fewclip("explain", files["adapter"], tmp_path / "one.npz").code == 0


def test_an_encoder_of_your_own_in_every_command(photos, new, tmp_path, monkeypatch):
    (tmp_path / "my_encoder.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    name, adapter = "my_encoder:Mine", tmp_path / "mine.adapter"
    monkeypatch.delitem(sys.modules, "my_encoder", raising=False)
    assert fewclip("fit", photos, "-o", adapter, "--encoder", name, "-q").code == 0
    image = new / "red" / "50.png"
    refused = fewclip("predict", adapter, new)
    assert refused.code == 1
    assert "--encoder module:callable" in refused.err
    predicted = fewclip("predict", adapter, new, "--encoder", name, "--json", "-q")
    assert (predicted.code, len(predicted.out.splitlines())) == (0, 6)
    assert (
        fewclip("evaluate", adapter, new, "--encoder", f"{tmp_path / 'my_encoder.py'}:Mine", "-q").code == 0
    )
    assert fewclip("explain", adapter, image, "--encoder", name).code == 0
    (tmp_path / "my_encoder.py").write_text(OWN + "    fingerprint = 'another'\n")
    other = fewclip("predict", adapter, new, "--encoder", f"{tmp_path / 'my_encoder.py'}:Mine")
    assert other.code == 1
    assert "fake-1" in other.err
    assert "another" in other.err


def test_an_installed_program_finds_a_module_in_the_working_folder(tmp_path):
    (tmp_path / "lying_here.py").write_text(OWN)
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; before = list(sys.path)\n"
        "from fewclip.encoders import load_encoder\n"
        "print(load_encoder('lying_here:Mine').name, sys.path == before)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["mine", "True"]


def test_a_module_of_the_working_folder_hides_no_installed_one(tmp_path, monkeypatch):
    (tmp_path / "helpers.py").write_text("raise AssertionError('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "helpers")
    monkeypatch.syspath_prepend(ROOT / "tests")
    assert load_encoder("helpers:FakeEncoder").name == FakeEncoder.name


def test_python_m_fewclip():
    command = [sys.executable, "-m", "fewclip", "--version"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("fewclip ")
