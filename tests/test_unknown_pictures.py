"""Pictures that show nothing: noise, black, white and text are of none of the classes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import grocery
from PIL import Image, ImageDraw

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore


def nothings() -> dict[str, Image.Image]:
    """Pictures that show nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    text = Image.new("RGB", (256, 256), "white")
    for line in range(12):
        ImageDraw.Draw(text).text((10, 20 * line), "The quick brown fox jumps over it", fill="black")
    return {
        "noise": Image.fromarray(noise),
        "black": Image.new("RGB", (256, 256), "black"),
        "white": Image.new("RGB", (256, 256), "white"),
        "text": text,
    }


def test_pictures_of_nothing_are_unknown(tmp_path, one_thread):
    pytest.importorskip("onnxruntime")
    folders = sorted(p for p in grocery("train").iterdir() if p.is_dir())[:8]
    photos = [(path, p.name) for p in folders for path in sorted(p.glob("*.jpg"))[:6]]
    clf = FewShotClassifier("pocket", "tip-adapter", store=FeatureStore(tmp_path / "s"), progress=False)
    clf.fit([path for path, _ in photos], [label for _, label in photos])
    pictures = nothings()
    found = dict(zip(pictures, clf.predict(list(pictures.values()), unknown="auto"), strict=True))
    assert found == dict.fromkeys(pictures, "unknown")
