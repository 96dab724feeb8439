"""Accuracy of methods under protocols on validation rows, and what ``auto`` loses to the best in hindsight.

    python benchmarks/quality.py FEATURES.npz --methods tip-adapter,ape --shots 1,2,4,8,16 --draws 5

``FEATURES.npz`` holds ``text_features``, ``train_features``, ``train_labels``, ``val_features``,
``val_labels``, and ``logit_scale`` if it is not 100. The test split stays closed. ``loo`` spends no label.
``full`` never reports on labels that it has chosen on: it is chosen on one half of the validation rows and
judged on the other, and the other way round. Methods are judged on the same draws; ``logistic-regression`` is
scikit-learn's, with C chosen by five folds (on the bare unit features, without text), the measure where text
is weak.

Prints a Markdown table a protocol: mean accuracy over draws in %, and in brackets the worst difference to
zero-shot over the draws, in points; then, for each method, its mean and worst regret against the best of the
others on each draw.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from story import Task, draw, halves, table
from tqdm import tqdm

from fewclip.methods import METHODS

RIVAL = "logistic-regression"


def read(path: Path, n_draws: int) -> tuple[Task, float]:
    """Features and the logit scale."""
    keys = ("text_features", "train_features", "train_labels", "val_features", "val_labels")
    with np.load(path) as data:
        scale = float(data["logit_scale"]) if "logit_scale" in data else 100.0
        arrays = [np.asarray(data[key]) for key in keys]
    return Task(*(a.astype(np.float32) if a.dtype.kind == "f" else a for a in arrays), n_draws=n_draws), scale


def fitted_right(name: str, task: Task, scale: float, selection: str, kept: np.ndarray, seed: int) -> Any:
    """(which validation rows are right, (n,) bool; seconds of the slowest fit)."""
    first, everything = halves(task.y_val, seed), np.ones(len(task.y_val), dtype=bool)
    splits = [(first, ~first), (~first, first)] if selection == "full" else [(None, everything)]
    right, slowest = ~everything, 0.0
    X, y = task.X[kept], task.y[kept]
    for chosen_on, judged_on in splits:
        start = time.perf_counter()
        if name == RIVAL:
            unit = X / np.linalg.norm(X, axis=1, keepdims=True)
            rows = task.X_val / np.linalg.norm(task.X_val, axis=1, keepdims=True)
            folds = min(5, int(np.bincount(y)[np.unique(y)].min()))
            C = np.logspace(-1, 4, 11)
            model = LogisticRegressionCV(
                Cs=C, cv=folds, max_iter=2000, l1_ratios=(0,), use_legacy_attributes=False
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(unit, y)
            predicted = model.predict(rows[judged_on])
        else:
            extra = (
                {} if chosen_on is None else {"X_val": task.X_val[chosen_on], "y_val": task.y_val[chosen_on]}
            )
            protocol = "auto" if selection == "loo" else selection
            classes = np.arange(len(task.T))
            method: Any = METHODS[name](
                task.T, classes=classes, logit_scale=scale, selection=protocol, random_state=0
            )
            predicted = method.fit(X, y, **extra).predict(task.X_val[judged_on])
        slowest = max(slowest, time.perf_counter() - start)
        right[judged_on] = predicted == task.y_val[judged_on]
    return right, slowest


def measure(
    task: Task, scale: float, methods: list[str], shots: list[int], selection: str
) -> dict[tuple[str, int, int], dict[str, float]]:
    """Accuracy in % and seconds by (method, shots, draw)."""
    out = {}
    cells = [(k, s) for k in shots for s in range(task.n_draws)]
    for k, seed in tqdm(cells, desc=selection, unit="draw"):
        kept = draw(task.y, k, seed)
        for name in ["zero-shot", *methods]:
            if name == RIVAL and (k < 2 or selection != "loo"):
                continue
            right, seconds = fitted_right(
                name, task, scale, selection if name != "zero-shot" else "none", kept, seed
            )
            out[name, k, seed] = {"accuracy": 100 * float(right.mean()), "seconds": seconds}
    return out


def report(done: dict[tuple[str, int, int], dict[str, float]], methods: list[str], shots: list[int]) -> None:
    """Both tables."""
    table("method, shots:", (*shots, "slowest fit"))
    for name in ["zero-shot", *methods]:
        cells, seconds = [], [v["seconds"] for (m, _, _), v in done.items() if m == name]
        for k in shots:
            gains = [
                (v["accuracy"], v["accuracy"] - done["zero-shot", k, s]["accuracy"])
                for (m, shot, s), v in done.items() if (m, shot) == (name, k)
            ]  # fmt: skip
            mean, worst = (
                (np.mean([g[0] for g in gains]), min(g[1] for g in gains)) if gains else (np.nan, 0.0)
            )
            cells.append(f"{mean:.2f} ({worst:+.1f})" if gains else "–")
        print(f"| {name} | " + " | ".join(cells) + f" | {max(seconds, default=0):.1f} s |")
    print()
    table("regret against the best other method", ("mean", "worst"))
    for name in methods:
        regrets = [
            max(done[m, k, s]["accuracy"] for m in methods if m != name and (m, k, s) in done) - v["accuracy"]
            for (n, k, s), v in done.items() if n == name and len(methods) > 1
        ]  # fmt: skip
        if regrets:
            print(f"| {name} | {np.mean(regrets):.2f} | {max(regrets):.2f} |")
    print(flush=True)


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--methods", default="tip-adapter,tip-x,ape")
    parser.add_argument("--shots", default="1,2,4,8,16")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--selections", default="loo")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args()
    task, scale = read(options.features, options.draws)
    methods, shots = options.methods.split(","), [int(k) for k in options.shots.split(",")]
    rows = []
    for selection in options.selections.split(","):
        done = measure(task, scale, methods, shots, selection)
        print(f"\n{options.features.stem}, {selection}, {options.draws} draws\n")
        report(done, methods, shots)
        rows += [
            {"selection": selection, "method": m, "shots": k, "seed": s, **v} for (m, k, s), v in done.items()
        ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
