"""How far methods fall below zero-shot, and how much of the possible gain they find, on named stresses.

    python benchmarks/safety.py --data ../shared/data [--draws 20] [--shots 1,2,4,16] [--json out.json]

Each stress of ``fewclip.evaluation.stress`` on made-up tasks and, with ``--data``, on the training and
validation rows of Caltech-101 (no test split is opened). Gains are accuracy minus zero-shot's on the same
task, in points. ``full`` is chosen on one half of the queries; all are judged on the other half.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fewclip.evaluation.stress import HELPFUL, STRESSES, StressTask, made_up_task
from fewclip.methods import METHODS

CACHE = ("tip-adapter", "tip-x", "ape")
TRAINED = ("clip-adapter", "tip-adapter-f", "ape-t")


def caltech(folder: Path) -> tuple[StressTask, float]:
    """Training rows as the pool, validation rows as queries."""
    with np.load(folder / "clip_vitb32_caltech101.npz") as data:
        names = ("text_features", "train_features", "train_labels", "val_features", "val_labels")
        arrays = [np.asarray(data[name]) for name in names]
    return StressTask(*arrays, shots=np.zeros(len(arrays[0]), int)), 100.0


def gains(task: StressTask, scale: float, method: str, seed: int) -> tuple[float, float, float]:
    """Gain of the default protocol, gain of ``full``, and zero-shot's accuracy, in points."""
    X, y = task.draw(np.random.default_rng(seed))
    half = np.random.default_rng(seed).permutation(len(task.queries)) % 2 == 0
    V, v, Q, q = task.queries[half], task.query_labels[half], task.queries[~half], task.query_labels[~half]
    common = {"classes": range(len(task.text)), "logit_scale": scale, "random_state": seed}
    zero_shot = METHODS["zero-shot"](task.text, **common).fit(X, y).score(Q, q)
    ours = METHODS[method](task.text, **common).fit(X, y).score(Q, q)
    full = METHODS[method](task.text, **common).fit(X, y, X_val=V, y_val=v).score(Q, q)
    return 100 * (ours - zero_shot), 100 * (full - zero_shot), 100 * zero_shot


def main() -> int:
    """Measure, print, write; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of clip_vitb32_caltech101.npz")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shots", default="1,2,4,16")
    parser.add_argument("--methods", default=",".join(CACHE + TRAINED))
    parser.add_argument("--stresses", default=",".join(STRESSES))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    strong = {"text_noise": 1.0, "image_noise": 2.0}
    weak = {"text_noise": 3.0, "image_noise": 2.0}
    tasks = {
        "made up, strong text": lambda seed: (made_up_task(seed, **strong), 50.0),
        "made up, weak text": lambda seed: (made_up_task(seed, **weak), 50.0),
    }
    if options.data:
        stored = caltech(options.data)
        tasks["Caltech-101"] = lambda seed: stored
    cells = [
        (data, stress, method, shots)
        for data in tasks
        for stress in options.stresses.split(",")
        for method in options.methods.split(",")
        for shots in ([0] if "16/1" in stress else map(int, options.shots.split(",")))
        if shots != 1 or method in CACHE
    ]
    results: list[dict[str, Any]] = []
    for data, stress, method, shots in tqdm(cells):
        rows = []
        for seed in range(options.draws):
            task, scale = tasks[data](seed)
            task = StressTask(**{**vars(task), "shots": np.full(len(task.text), shots)})
            rows.append(gains(STRESSES[stress](task, np.random.default_rng([seed, 1])), scale, method, seed))
        ours, full, zero_shot = np.array(rows).T
        bounds = []
        if ours.mean() < -0.5:
            bounds.append("mean below −0.5")
        if method in TRAINED and ours.min() < -1:
            bounds.append("a draw below −1")
        if stress in HELPFUL and shots != 1 and full.mean() > 1 and ours.mean() < full.mean() / 2:
            bounds.append("less than half of full's gain")
        results.append(
            {
                "data": data, "stress": stress, "method": method, "shots": shots,
                "zero_shot": round(zero_shot.mean(), 2), "gain": round(ours.mean(), 2),
                "worst": round(ours.min(), 2), "full": round(full.mean(), 2), "broken": "; ".join(bounds),
            }
        )  # fmt: skip
        tqdm.write(" ".join(f"{value}" for value in results[-1].values()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    broken = [row for row in results if row["broken"]]
    print(f"{len(results)} cells of {options.draws} draws; bounds broken in {len(broken)}:")
    for row in broken:
        print(*row.values(), sep=" | ")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
