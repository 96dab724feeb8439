"""Shared small things: drawn photos, an encoder that needs no weights, and the command line in one call."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fewclip.data import load_image

ROOT = Path(__file__).resolve().parents[1]
GROCERY = ROOT.parent / "shared" / "data" / "grocery"
COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 180, 60),
    "blue": (40, 60, 200),
    "yellow": (220, 210, 50),
    "purple": (140, 40, 160),
    "grey": (128, 132, 130),
}


def grocery(split: str = "train") -> Path:
    """Real photos of groceries: absent, a test is skipped; in CI it fails. Never the test split."""
    assert split in ("train", "val")
    folder = GROCERY / split
    if not folder.is_dir():
        reason = "grocery photos are absent: they belong into ../shared/data/grocery beside the repository"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


# ---- drawn photos ----


def drawing(colour: str, number: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """A photo of the colour: uneven ground and a shape, another one for every number."""
    rng = np.random.default_rng([number, *colour.encode()])
    ground = np.array(COLOURS[colour]) + rng.normal(0, 45, size=(3, 4, 3))
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    x, y = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
    tone = tuple(int(v) for v in rng.integers(0, 256, 3))
    ImageDraw.Draw(image).ellipse((x, y, x + size[0] // 3, y + size[1] // 3), fill=tone)
    return image


def draw_folder(
    root: Path, classes: Iterable[str] = ("blue", "green", "red"), n: int = 4, *, first: int = 0
) -> Path:
    """A folder of class folders with n drawn photos each; the class is the first word of its name."""
    for label in classes:
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + n):
            drawing(label.split("_")[0], number).save(root / label / f"{number:02d}.png")
    return root


def draw_list(classes: Sequence[str] = ("blue", "green", "red"), n: int = 4, *, first: int = 0):
    """(images, labels): n drawn PIL images a class."""
    labels = [label for label in classes for _ in range(n)]
    return [drawing(label, first + i % n) for i, label in enumerate(labels)], labels


# ---- an encoder without weights ----


class FakeEncoder:
    """Coarse pixels as features; a text that names a colour lies near that colour.

    ``seen`` counts the images it was asked for, ``texts`` lists the sentences.
    """

    name = "fake"
    dim = 52
    logit_scale = 20.0

    def __init__(self, fingerprint: str = "fake-1", *, noise: float = 10.0) -> None:
        self._fingerprint = fingerprint
        self.noise = (
            noise  # of texts; the default confuses some colours, so that images have something to add
        )
        self.seen = 0
        self.texts: list[str] = []

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def encode_images(self, images: Sequence[Any]) -> np.ndarray:
        self.seen += len(images)
        rows = [self._feature(load_image(image)) for image in images]
        return np.array(rows, dtype=np.float32).reshape(-1, self.dim)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return np.array([self._text(text) for text in texts], dtype=np.float32).reshape(-1, self.dim)

    def _feature(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.resize((4, 4), Image.Resampling.BOX), dtype=np.float64) - 127.5
        row = np.concatenate([pixels.ravel(), [30.0, *pixels.mean((0, 1))]])
        return row / np.linalg.norm(row)

    def _text(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        row = self.noise * np.random.default_rng(seed).normal(size=self.dim) / np.sqrt(self.dim)
        for colour, rgb in COLOURS.items():
            if colour in text.lower().split(" ") or f"{colour}." in text.lower():
                row = row + self._feature(Image.new("RGB", (4, 4), rgb))
        return row / np.linalg.norm(row)


class FakeTokenEncoder(FakeEncoder):
    """The fake encoder with the features of the image's quarters as spatial tokens."""

    def encode_image_tokens(self, images: Sequence[Any]) -> np.ndarray:
        self.seen += len(images)
        rows = []
        for image in map(load_image, images):
            w, h = image.size
            quarters = [(x, y, x + w // 2, y + h // 2) for y in (0, h // 2) for x in (0, w // 2)]
            parts = [image, *(image.crop(box) for box in quarters)]
            rows.append([self._feature(part) for part in parts])
        return np.array(rows, dtype=np.float32).reshape(-1, 5, self.dim)


class BlindEncoder(FakeEncoder):
    """The fake encoder after its images are known: being shown one is an error."""

    def encode_images(self, images: Sequence[Any]) -> np.ndarray:
        raise AssertionError(f"{len(images)} images reached the encoder; their features are in the store")


# ---- the command line ----


def fetches(page: str) -> list[str]:
    """What a browser would fetch to show a page; [] for one that stands alone."""
    outside = r"""(?:src|href|action)\s*=\s*["'](?!data:|#)[^"']*|url\((?!["']?(?:data:|#))|@import|<script"""
    return re.findall(outside, page)


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


def fewclip(*arguments: object) -> Ran:
    """``fewclip ARGUMENTS`` through its entry point, in this process; a UserWarning is shown, not raised."""
    from fewclip.cli import main

    out, err = io.StringIO(), io.StringIO()
    argv, code = sys.argv, 0
    sys.argv = ["fewclip", *map(str, arguments)]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            warnings.simplefilter("default", UserWarning)
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        sys.argv = argv
    return Ran(code, out.getvalue(), err.getvalue())


def run_fewclip(*arguments: object, cwd: Path | None = None, **environment: str) -> Ran:
    """``fewclip ARGUMENTS`` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from fewclip.cli import main; main()", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode("utf-8", "backslashreplace"))
