"""What somebody new to the program asks it: what is there, what is missing, what went wrong."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from helpers import fewclip

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "fake_encoder")


def test_embed_names_what_it_could_not_read(photos, tmp_path):
    (photos / "red" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    ran = fewclip("embed", photos, "-o", tmp_path / "f.npz", "--encoder", "fake")
    assert ran.code == 3
    assert "unreadable: " in ran.err
    assert "cut.jpg: expected" in ran.err
    with np.load(tmp_path / "f.npz") as arrays:
        assert (len(arrays["features"]), arrays["failed"].tolist()) == (12, ["red/cut.jpg"])


def test_cache_info_tells_features_prompts_and_pictures_apart(photos, tmp_path):
    assert fewclip("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "-q").code == 0
    lines = fewclip("cache", "info").out.splitlines()
    assert any(line.startswith("encoder   fake-1: 12 images, 12 features") for line in lines)
    assert any(line.startswith("prompts   fake-1/texts: 1 lists") for line in lines)
    assert any(line.startswith("pictures  thumbnails-64-px: 12 images") for line in lines)


def test_list_has_every_kind_of_encoder():
    out = fewclip("list").out
    assert [
        kind for kind in ("pocket", "hf:ORG/NAME", "onnx:FOLDER", "module:callable") if kind not in out
    ] == []


def test_doctor_says_which_encoders_work():
    checks = {check["name"]: check for check in json.loads(fewclip("doctor", "--json").out)}
    for name in ("encoder pocket", "encoders hf:", "encoders onnx:", "export-encoder", "image formats"):
        assert checks[name]["ok"], name
    assert "JPEG, PNG" in checks["image formats"]["detail"]


def test_doctor_says_what_to_install_for_the_others(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "transformers" else found(name)
    )
    ran = fewclip("doctor")
    assert ran.code == 0  # it is optional
    lines = [line for line in ran.out.splitlines() if "encoders hf:" in line]
    assert lines[0].startswith("missing")
    assert 'no transformers: pip install "fewclip[hf]"' in lines[0]
    assert 'pip install "fewclip[hf,onnx]"' in ran.out


def test_doctor_tells_that_the_hub_is_switched_off(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in fewclip("doctor").out
