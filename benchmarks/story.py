"""The paper's story on real CLIP features, seen on the validation split: accuracy of all methods over shots.

    python benchmarks/story.py --data ../shared/data

Selection is leave-one-out, so no validation label is spent; the test split stays closed. Draws of 1, 2, 4 and
8 images a class out of the training images, and all 16. Prints a Markdown table: mean accuracy, the worst
difference to zero-shot over the draws, seconds of the slowest fit, and trained numbers at 16 shots.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from fewclip.methods import METHODS, FewShotMethod

SHOTS = (1, 2, 4, 8, 16)


def draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of clip_vitb32_caltech101.npz")
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    with np.load(args.data / "clip_vitb32_caltech101.npz") as data:
        T, X, y, X_val, y_val = (
            data[key]
            for key in ("text_features", "train_features", "train_labels", "val_features", "val_labels")
        )
    zero_shot = METHODS["zero-shot"](T).fit(X, y).score(X_val, y_val)
    print(f"Validation split of Caltech-101, {args.draws} draws (16 shots: one), zero-shot {zero_shot:.2%}\n")
    print("| method, shots: | " + " | ".join(map(str, SHOTS)) + " | slowest fit | trained numbers |")
    print("|---" * (len(SHOTS) + 3) + "|")
    for name, Method in METHODS.items():
        if name != "zero-shot":
            print(row(name, Method, (T, X, y, X_val, y_val), args.draws, zero_shot), flush=True)


def row(
    name: str, Method: type[FewShotMethod], data: tuple[np.ndarray, ...], draws: int, zero_shot: float
) -> str:
    T, X, y, X_val, y_val = data
    cells, slowest, clf = [], 0.0, None
    for shots in SHOTS:
        scores = []
        for seed in range(draws if shots < max(SHOTS) else 1):
            kept = draw(y, shots, seed)
            start = time.perf_counter()
            clf = Method(T).fit(X[kept], y[kept])
            slowest = max(slowest, time.perf_counter() - start)
            scores.append(clf.score(X_val, y_val))
        cells.append(f"{np.mean(scores):.2%} ({100 * (min(scores) - zero_shot):+.1f})")
    trained = getattr(clf, "n_parameters_", 0)
    return f"| {name} | " + " | ".join(cells) + f" | {slowest:.1f} s | {trained:,} |"


if __name__ == "__main__":
    main()
