"""Images to label next, as ``fewclip suggest`` proposes them, against random ones.

    python benchmarks/suggest.py --grocery features.npz [--rounds 5] [--seeds 5] [--method tip-adapter]

Starts with one image of every class; every round labels as many images of the training pool as there are
classes. Accuracy on validation images (no test split is opened). 1 if the mean gain is below 1 point.
``features.npz``: see benchmarks/calibration.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from fewclip.functional.suggestion import spokesmen
from fewclip.functional.zero_shot import unit
from fewclip.methods import METHODS


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grocery", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--method", default="tip-adapter")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(options.grocery) as stored:
        data = {key: stored[key] for key in stored.files}
    X, y, text = data["train_features"], data["train_labels"], data["text_features"]
    pool, c = unit(torch.as_tensor(X, dtype=torch.float32)), len(text)

    def fitted(rows: np.ndarray):
        method = METHODS[options.method](text, classes=np.arange(c), logit_scale=20.0, random_state=0)
        return method.fit(X[rows], y[rows])

    gains = []
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        start = np.array([rng.permutation(np.flatnonzero(y == k))[0] for k in np.unique(y)])
        chosen = start
        for _ in range(options.rounds):
            rest = np.setdiff1d(np.arange(len(X)), chosen)
            chosen = np.concatenate(
                [chosen, rest[spokesmen(pool[rest], pool[chosen], torch.ones(len(rest)), c)]]
            )
        rest = np.setdiff1d(np.arange(len(X)), start)
        drawn = np.concatenate([start, rng.permutation(rest)[: c * options.rounds]])
        ours, random = (
            100 * fitted(rows).score(data["val_features"], data["val_labels"]) for rows in (chosen, drawn)
        )
        gains.append(ours - random)
        print(f"seed {seed}: suggested {ours:.1f} %, random {random:.1f} %", flush=True)
    print(f"mean gain {np.mean(gains):.2f} points")
    return 0 if np.mean(gains) >= 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
