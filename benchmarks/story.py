"""The paper's story on real CLIP features, seen on the validation split: accuracy of its methods over shots.

    python benchmarks/story.py --data ../shared/data                    # settings by leave-one-out
    python benchmarks/story.py --data ../shared/data --selection full   # settings on validation labels
    python benchmarks/story.py --data ../shared/data --ablations        # what each part of APE contributes

The test split stays closed. Draws of 1, 2, 4 and 8 images a class out of the training images, and all 16.

``loo`` spends no validation label. ``full`` never reports on labels that it has chosen on: the validation
rows of each class are dealt into two halves (seeded); settings are chosen on one and judged on the other, and
the other way round, so that every row is judged once. Both print a Markdown table: mean accuracy, the worst
difference to zero-shot over the draws, seconds of the slowest fit, and trained numbers at 16 shots.

``--ablations`` changes one part of APE and APE-T at a time on the same draws, leave-one-out, and prints mean
accuracy and in brackets the mean difference to the whole method. Where the criterion changes, Q stays what
the whole method chose on the draw; since that may be nearly all, criteria are also compared at Q = d/4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from fewclip.functional import refine_channels, unit
from fewclip.methods import METHODS, FewShotMethod

SHOTS = (1, 2, 4, 8, 16)
METHODS_OF_THE_PAPER = ("clip-adapter", "tip-adapter", "tip-adapter-f", "tip-x", "ape", "ape-t")


@dataclass(frozen=True)
class Task:
    """Text features, training and validation images, and how many draws of the former."""

    T: np.ndarray
    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    n_draws: int

    def draws(self, shots: int) -> Iterator[tuple[int, np.ndarray]]:
        """(seed, rows) of each draw; of all images there is only one."""
        for seed in range(self.n_draws if shots < max(SHOTS) else 1):
            yield seed, draw(self.y, shots, seed)


def draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of ``shots`` images of every class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])


def halves(labels: np.ndarray, seed: int) -> np.ndarray:
    """Which half each row belongs to, (n,) bool; the rows of each class are dealt out in turn."""
    rng = np.random.default_rng(seed)
    half = np.empty(len(labels), dtype=bool)
    for k, c in enumerate(np.unique(labels)):
        rows = rng.permutation(np.flatnonzero(labels == c))
        half[rows] = (np.arange(len(rows)) + k) % 2 == 0  # the odd row of a class goes to either in turn
    return half


def table(corner: str, columns: tuple[Any, ...]) -> None:
    """Prints the head of a Markdown table."""
    print(f"| {corner} | " + " | ".join(map(str, columns)) + " |")
    print("|---" * (len(columns) + 1) + "|")


def judged(Method: type[FewShotMethod], task: Task, selection: str, kept: np.ndarray, seed: int) -> Any:
    """(validation accuracy, seconds of the slowest fit, trained numbers)."""
    first, everything = halves(task.y_val, seed), np.ones(len(task.y_val), dtype=bool)
    splits = [(first, ~first), (~first, first)] if selection == "full" else [(None, everything)]
    right, slowest, method = ~everything, 0.0, Method(task.T)  # loo is what a method does without X_val
    for chosen_on, judged_on in splits:
        extra = {} if chosen_on is None else {"X_val": task.X_val[chosen_on], "y_val": task.y_val[chosen_on]}
        start = time.perf_counter()
        method.fit(task.X[kept], task.y[kept], **extra)
        slowest = max(slowest, time.perf_counter() - start)
        right[judged_on] = method.predict(task.X_val[judged_on]) == task.y_val[judged_on]
    return right.mean(), slowest, getattr(method, "n_parameters_", 0)


def row(name: str, task: Task, selection: str, zero_shot: float) -> str:
    cells, slowest, trained = [], 0.0, (0,)
    for shots in SHOTS:
        done = [judged(METHODS[name], task, selection, kept, seed) for seed, kept in task.draws(shots)]
        scores, seconds, trained = zip(*done, strict=True)
        slowest = max(slowest, *seconds)
        cells.append(f"{np.mean(scores):.2%} ({100 * (min(scores) - zero_shot):+.1f})")
    return f"| {name} | " + " | ".join(cells) + f" | {slowest:.1f} s | {trained[-1]:,} |"


def story(task: Task, selection: str) -> None:
    zero_shot = METHODS["zero-shot"](task.T).fit(task.X, task.y).score(task.X_val, task.y_val)
    full = "chosen on one half of these rows, judged on the other, both ways round"
    print(f"Validation split of Caltech-101, {task.n_draws} draws (16 shots: one), zero-shot {zero_shot:.2%}")
    print(f"Settings: {full if selection == 'full' else 'leave-one-out'}\n")
    table("method, shots:", (*SHOTS, "slowest fit", "trained numbers"))
    for name in METHODS_OF_THE_PAPER:
        print(row(name, task, selection, zero_shot), flush=True)


Channels = Callable[..., Tensor]  # takes the place of functional.refine_channels


def at_random(seed: int, X: np.ndarray, y: np.ndarray) -> Channels:
    def channels(text: Tensor, n_channels: int, **_: Any) -> Tensor:
        return torch.randperm(text.shape[1], generator=torch.Generator().manual_seed(seed))[:n_channels]

    return channels


def of_text(seed: int, X: np.ndarray, y: np.ndarray) -> Channels:
    return lambda text, n, *, weights, **_: refine_channels(text, n, weights=weights)


def of_text_and_images(seed: int, X: np.ndarray, y: np.ndarray) -> Channels:
    images = {"support_features": unit(torch.tensor(X).float()), "support_labels": torch.tensor(y).long()}
    return lambda text, n, *, weights: refine_channels(text, n, weights=weights, **images)


Part = tuple[dict[str, Any], Callable[..., Channels] | None]  # settings, and another choice of channels
CRITERIA: dict[str, Part] = {
    "random channels": ({}, at_random),
    "similarity only": ({"criterion_weights": (1, 0)}, None),
    "variance only": ({"criterion_weights": (0, 1)}, None),
}
SOURCE: dict[str, dict[str, Part]] = {
    "ape": {"criterion of text only": ({}, of_text)},
    "ape-t": {"criterion of text and images": ({}, of_text_and_images)},
}
OTHERS: dict[str, dict[str, Part]] = {
    "ape": {
        "no refinement, Q = d": ({"n_channels": 1.0}, None),
        "no KL weight, γ = 0": ({"gamma": 0.0}, None),
    },
    "ape-t": {"no refinement, Q = d": ({"n_channels": 1.0}, None)},
}


def ablate(name: str, task: Task) -> None:
    criteria, quarter = CRITERIA | SOURCE[name], task.T.shape[1] // 4
    variants: dict[str, Part] = {name: ({}, None), **OTHERS[name], **criteria}
    for part, (settings, channels) in {name: variants[name], **criteria}.items():
        variants[f"{part}, Q = d/4"] = ({**settings, "n_channels": quarter}, channels)
    scores: dict[tuple[str, int], list[float]] = {}
    chosen: dict[int, list[int]] = {shots: [] for shots in SHOTS}
    for shots in SHOTS:
        for seed, kept in task.draws(shots):
            X, y = task.X[kept], task.y[kept]
            for variant, (settings, channels) in variants.items():
                if variant in criteria:
                    settings = {**settings, "n_channels": chosen[shots][-1]}
                method: Any = METHODS[name](task.T, **settings)
                choice = channels(seed, X, y) if channels else refine_channels
                with patch(f"{type(method).__module__}.refine_channels", choice):
                    method.fit(X, y)
                if variant == name:
                    chosen[shots].append(
                        int(method.n_channels_ if name == "ape" else method.residual_.shape[1])
                    )
                scores.setdefault((variant, shots), []).append(method.score(task.X_val, task.y_val))
    table(f"{name}, shots:", SHOTS)
    for variant in variants:
        base = f"{name}, Q = d/4" if variant.endswith("d/4") else name
        cells = []
        for shots in SHOTS:
            mean, reference = np.mean(scores[variant, shots]), np.mean(scores[base, shots])
            cells.append(f"{mean:.2%}" + ("" if variant == base else f" ({100 * (mean - reference):+.2f})"))
        print(f"| {variant} | " + " | ".join(cells) + " |")
    print("| Q chosen, mean | " + " | ".join(f"{np.mean(chosen[s]):.0f}" for s in SHOTS) + " |\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of clip_vitb32_caltech101.npz")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--selection", choices=("loo", "full"), default="loo")
    parser.add_argument("--ablations", action="store_true", help="of APE and APE-T; leave-one-out")
    args = parser.parse_args()
    keys = ("text_features", "train_features", "train_labels", "val_features", "val_labels")
    with np.load(args.data / "clip_vitb32_caltech101.npz") as data:
        task = Task(*(data[key] for key in keys), n_draws=args.draws)
    if not args.ablations:
        story(task, args.selection)
        return
    n = len(task.y_val)
    print(f"Validation split of Caltech-101, {n:,} images, {args.draws} draws (16 shots: one)\n")
    for name in OTHERS:
        ablate(name, task)


if __name__ == "__main__":
    main()
