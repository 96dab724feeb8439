"""The one place that opens test splits: final figures, appended with date and commit to a log.

Nothing may be chosen by what this prints. Run: ``python benchmarks/final_figures.py --data ../shared/data``
"""

from __future__ import annotations

import argparse
import csv
import datetime
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pocket

from fewclip import FewShotClassifier
from fewclip.methods import METHODS, FewShotMethod

LOG = Path(__file__).with_name("final_figures.csv")
COLUMNS = ["date", "commit", "data", "shots", "method", "accuracy", "rare", "estimate", "seconds", "settings"]
RARE_SHOTS = {"16/1": 1, "16/4": 4, "3 classes absent": 0}


def shots_of(scenario: str, n_classes: int) -> list[int]:
    """Images of each class in a scenario."""
    if scenario in ("16/1", "16/4"):
        return [16 if c % 2 == 0 else RARE_SHOTS[scenario] for c in range(n_classes)]
    if scenario == "3 classes absent":
        return [0 if c in (0, n_classes // 3, 2 * n_classes // 3) else 16 for c in range(n_classes)]
    return [int(scenario)] * n_classes


def measure(method: FewShotMethod, data: dict[str, np.ndarray], scenario: str) -> dict[str, object]:
    """Test accuracy of one method in one scenario, on all classes and on the rare ones, in percent."""
    classes = np.arange(len(data["text_features"]))
    shots = shots_of(scenario, len(classes))
    rows = np.concatenate(
        [np.flatnonzero(data["train_labels"] == c)[:k] for c, k in zip(classes, shots, strict=True)]
    )
    start = time.perf_counter()
    method.fit(data["train_features"][rows], data["train_labels"][rows])
    seconds = time.perf_counter() - start
    right = method.predict(data["test_features"]) == data["test_labels"]
    rare = np.isin(data["test_labels"], classes[np.array(shots) == RARE_SHOTS.get(scenario, -1)])
    estimate = method.selection_.estimate
    return {
        "accuracy": round(100 * right.mean(), 2),
        "rare": round(100 * right[rare].mean(), 2) if rare.any() else "",
        "estimate": round(100 * estimate.accuracy, 2) if estimate else "",
        "seconds": round(seconds, 2),
        "settings": " ".join(f"{key}={value:.4g}" for key, value in method.selection_.settings.items()),
    }


def caltech(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Real CLIP features: methods over scenarios."""
    with np.load(args.data / "clip_vitb32_caltech101.npz") as stored:
        data = {key: stored[key] for key in stored.files}
    for scenario in args.scenarios.split(","):
        for name in args.methods.split(","):
            method = METHODS[name](data["text_features"], classes=np.arange(len(data["text_features"])))
            yield {
                "data": "caltech101 ViT-B/32",
                "shots": scenario,
                "method": name,
                **measure(method, data, scenario),
            }


def grocery(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """The pocket encoder on photos: zero-shot with three kinds of prompts, then methods over shots."""
    folder = args.data / "grocery"
    for prompts, figures in pocket.zero_shot(pocket.PocketEncoder(), folder, "test").items():
        yield {
            "data": f"grocery pocket, {prompts}",
            "shots": "0",
            "method": "zero-shot",
            "accuracy": round(100 * figures["accuracy"], 2),
        }
    for shots in (1, 4, 16):
        for name in args.methods.split(","):
            accuracies = []
            for seed in range(1 if name == "zero-shot" else 3):
                classifier = FewShotClassifier("pocket", name, progress=False)
                classifier.fit(folder / "train", shots=shots, seed=seed)
                accuracies.append(classifier.evaluate(folder / "test").accuracy)
            yield {
                "data": "grocery pocket, mean of 3 draws",
                "shots": str(shots),
                "method": name,
                "accuracy": round(100 * float(np.mean(accuracies)), 2),
            }


def main() -> None:
    """Measure, print, append to the log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("--only", choices=("caltech", "grocery"), help="default: both")
    parser.add_argument("--scenarios", default="1,2,4,8,16,16/1,16/4,3 classes absent")
    parser.add_argument("--methods", default=",".join(METHODS))
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    stamp = {"date": datetime.date.today().isoformat(), "commit": commit.stdout.strip()}
    new = not LOG.exists()
    parts = [part for part in (caltech, grocery) if args.only in (None, part.__name__)]
    with LOG.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        for part in parts:
            for row in part(args):
                writer.writerow(stamp | row)
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
