"""The README's marked examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- tested -->\n```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COLOURS = {"daisy": (240, 240, 235), "rose": (200, 20, 40), "sunflower": (230, 180, 10)}


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    """The folders that the README speaks of, with drawn flowers: a coloured disc on green."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]

    def draw(path, colour):
        pixels = np.full((96, 96, 3), (40, 110, 40)) + rng.normal(0, 12, (96, 96, 3))
        cx, cy = rng.uniform(38, 58, 2)
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < 28**2] = np.array(colour) + rng.normal(0, 8, 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    for split, n in (("train", 6), ("test", 4)):
        for name, colour in COLOURS.items():
            for i in range(n):
                draw(tmp_path / "flowers" / split / name / f"{i}.png", colour)
    draw(tmp_path / "new" / "a.jpg", COLOURS["rose"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{Path('/usr/bin')}:{Path('/bin')}")
    return tmp_path


def test_the_readme_has_tested_examples():
    assert [kind for kind, _ in BLOCKS] == ["bash", "python", "python", "python"]


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "bash"])
def test_command_line_examples(flowers, code):
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (flowers / "predictions.csv").read_text().splitlines()[1].startswith("new/a.jpg,rose,")
    assert (flowers / "report" / "index.html").exists()


def test_python_examples(flowers):
    scope: dict = {}
    for code in (code for kind, code in BLOCKS if kind == "python"):
        exec(compile(code, "README.md", "exec"), scope)
    assert scope["clf"].classes_.tolist() == sorted(COLOURS)
    assert scope["ape"].n_channels_ == 32
