"""Calibration errors before and after, for every method, on validation images (no test split is opened).

    python benchmarks/calibration.py --data ../shared/data [--grocery features.npz] [--shots 4,16] [--draws 3]

``features.npz`` holds pocket features of the grocery photos: ``train_features``, ``train_labels``,
``val_features``, ``val_labels``, ``text_features``. Bounds: ECE at most the larger of half the bare one and
2.5 %, NLL at most the bare head's + 0.005, in the mean of the draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import log_loss

from fewclip.evaluation.reliability import calibration_error, reliability
from fewclip.functional import Calibration
from fewclip.methods import METHODS

Arrays = dict[str, np.ndarray]
NAMES = ("text_features", "train_features", "train_labels", "val_features", "val_labels")


def datasets(options: argparse.Namespace) -> Iterator[tuple[str, Arrays, float]]:
    """(name, arrays, logit scale)."""
    files = [("Caltech-101", options.data and options.data / "clip_vitb32_caltech101.npz", 100.0)]
    for name, path, scale in [*files, ("groceries", options.grocery, 20.0)]:
        if path:
            with np.load(path) as stored:
                yield name, {key: stored[key] for key in NAMES}, scale


def draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Indices of ``shots`` images of every class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])


def errors(logits: np.ndarray, calibration: Calibration, labels: np.ndarray) -> tuple[float, float]:
    """(ECE, NLL) of calibrated logits."""
    p = torch.softmax(calibration.scaled(torch.as_tensor(logits).double()), 1)
    bins = reliability(p.amax(1).numpy(), p.argmax(1).numpy() == labels)
    return calibration_error(bins), log_loss(labels, p.numpy(), labels=np.arange(p.shape[1]))


def measure(method: str, data: Arrays, scale: float, shots: int, seed: int) -> list[float]:
    """Raw ECE and NLL, calibrated ones, T, the best T on these rows."""
    rows = draw(data["train_labels"], shots, seed)
    model = METHODS[method](
        data["text_features"],
        classes=np.arange(len(data["text_features"])),
        logit_scale=scale,
        random_state=seed,
    )
    model.fit(data["train_features"][rows], data["train_labels"][rows])
    logits, labels = model.predict_logits(data["val_features"]), data["val_labels"]
    grid = np.geomspace(0.1, 10, 100)
    best = grid[np.argmin([errors(logits, Calibration(t), labels)[1] for t in grid])]
    accuracy = float((logits.argmax(1) == labels).mean())
    return [
        *errors(logits, Calibration(), labels),
        *errors(logits, Calibration(model.temperature_, model.evenness_, model.spread_), labels),
        model.temperature_,
        best,
        accuracy,
    ]


def main() -> int:
    """Measure and print; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--grocery", type=Path)
    parser.add_argument("--shots", default="4,16")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    broken = 0
    print("data method shots | raw ECE NLL | calibrated ECE NLL | T (best) | accuracy")
    for name, data, scale in datasets(options):
        for method in options.methods.split(","):
            for shots in map(int, options.shots.split(",")):
                draws = options.draws if shots < 16 else 1
                cells = np.array([measure(method, data, scale, shots, seed) for seed in range(draws)])
                ece, nll, ece2, nll2, t, best, accuracy = cells.mean(0)
                good = ece2 <= max(ece / 2, 0.025) and nll2 <= nll + 0.005
                broken += not good
                print(
                    f"{name} {method} {shots} | {100 * ece:.1f} {nll:.3f} | {100 * ece2:.1f} {nll2:.3f} | "
                    f"{t:.2f} ({best:.2f}) | {100 * accuracy:.1f}{'' if good else '  <- bound'}",
                    flush=True,
                )
    print(f"bounds broken: {broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
