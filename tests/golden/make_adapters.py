"""Writes the golden adapter of each method that has none yet: ``python tests/golden/make_adapters.py``.

An existing one is never written again. It stands for the files that users keep: every later version must load
it and predict what it predicted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from helpers import FakeTokenEncoder, draw_folder, draw_list  # noqa: E402

from fewclip import FewShotClassifier  # noqa: E402
from fewclip.data import FeatureStore  # noqa: E402
from fewclip.methods import METHODS, FewShotMethod  # noqa: E402

# What an adapter holds most of: chosen channels, key weights, trained numbers.
SETTINGS = {
    "tip-x": {"alpha": 2.0, "beta": 4.0, "gamma": 0.5},
    "ape": {"alpha": 1.0, "beta": 4.0, "gamma": 0.3, "n_channels": 20},
    "ape-t": {"alpha": 1.0, "beta": 4.0, "n_channels": 20},
    "gda": {"alpha": 0.05},
    "proker": {"alpha": 1.0, "beta": 2.0, "ridge": 0.1},
    "timo": {"alpha": 0.05},
    "timo-s": {"alpha": 0.05},
}


def method_logits(method: FewShotMethod) -> np.ndarray:
    """Logits (9, 3) of the kept features, with their spatial tokens for a method that uses them."""
    queries = np.load(HERE / "queries.npy", allow_pickle=False)
    return method.predict_logits(queries if method.uses_tokens else queries[:, 0])


def main() -> None:
    """Fit on three drawn classes, save, and keep what is predicted for nine features."""
    encoder = FakeTokenEncoder()
    tokens = HERE / "queries.npy"  # (9, 1 + 4, d)
    if not tokens.exists():
        np.save(tokens, encoder.encode_image_tokens(draw_list(n=3, first=50)[0]))
    for name in METHODS:
        folder = HERE / f"{name}.adapter"
        if folder.exists():
            continue
        with tempfile.TemporaryDirectory() as photos:
            method = METHODS[name](device="cpu", random_state=0, **SETTINGS.get(name, {}))
            classifier = FewShotClassifier(
                encoder, method, store=FeatureStore.in_memory(), progress=False
            ).fit(draw_folder(Path(photos) / "photos", n=4))
        classifier.save_pretrained(folder)
        np.save(HERE / f"{name}.npy", method_logits(classifier.method_))
        print(folder.name)


if __name__ == "__main__":
    main()
