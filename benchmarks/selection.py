"""Choosing settings: the exact search against the published grid, in one run, on the same ranges.

    python benchmarks/selection.py --data ../shared/data [--all-points] [--json out.json]

The naive side is the published search for one number of channels: affinities computed once, then for each
of 200 β × 20 α × 20 γ an exponential and a dense product with one-hot labels. Its time is that of 60 random
points, extrapolated; ``--all-points`` runs all 80,000 on Caltech-101 and compares the best accuracy. Before
any timing both sides must agree on logits. Rows and labels are validation rows; no test split is opened.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fewclip.functional import inter_class_similarity, key_divergence, refine_channels, unit
from fewclip.functional.cache import affinity, class_sums
from fewclip.methods import APE
from fewclip.selection import Judge, search

BETAS = np.linspace(0.1, 12, 200)
ALPHAS = np.linspace(0.1, 5, 20)
GAMMAS = np.linspace(0.05, 1, 20)
POINTS = 60


class Problem:
    """APE on half of the channels: text logits of the judged rows, cosines to the keys, KL of the keys."""

    def __init__(self, T: Tensor, X: Tensor, y: Tensor, rows: Tensor, labels: Tensor) -> None:
        channels = refine_channels(
            T, T.shape[1] // 2, weights=(0.7, 0.3), support_features=X, support_labels=y
        )
        keys = unit(X[:, channels])
        self.labels, self.key_labels, self.n_classes = labels, y, len(T)
        self.base_logits = 100 * rows @ T.T
        self.cosines = unit(rows[:, channels]) @ keys.T
        self.divergence = key_divergence(keys, y, unit(T[:, channels]))
        self.one_hot = one_hot(y, len(T)).float()

    def dense(self, alpha: float, beta: float, gamma: float) -> Tensor:
        """Logits as published."""
        values = self.one_hot * (gamma * self.divergence).exp()[:, None]
        return self.base_logits + alpha * (((-1) * (beta - beta * self.cosines)).exp() @ values)

    def sums(self, setting: Any) -> Tensor:
        """B of a setting, by class sums."""
        values = affinity(self.cosines, beta=setting["beta"]) * torch.exp(setting["gamma"] * self.divergence)
        return class_sums(values, self.key_labels, self.n_classes)

    def naive_accuracy(self, alpha: float, beta: float, gamma: float) -> float:
        """Share of rows that are right at one point, 0–1."""
        return float((self.dense(alpha, beta, gamma).argmax(1) == self.labels).float().mean())

    def exact(self) -> tuple[float, dict[str, float]]:
        """Our accuracy and setting: β and γ over the same ranges, all α ≥ 0."""
        images = torch.arange(len(self.labels))
        judge = Judge(self.base_logits, self.sums, self.labels, images, torch.ones(len(images)))
        space = {
            "gamma": (0.05, 0.25, 0.5, 1.0),
            "beta": tuple(float(b) for b in np.geomspace(BETAS[0], BETAS[-1], 8)),
        }
        start = {"gamma": 0.05, "beta": space["beta"][4]}
        result = search(judge, space, start=start, protocol="full")
        right = judge.right(result.settings, result.settings["alpha"]).float().mean()
        return float(right), result.settings

    def check(self) -> None:
        """Both sides give the same logits and the same accuracy at random points."""
        rng = np.random.default_rng(1)
        for _ in range(3):
            alpha, beta, gamma = (float(rng.choice(v)) for v in (ALPHAS, BETAS, GAMMAS))
            ours = self.base_logits + alpha * self.sums({"beta": beta, "gamma": gamma})
            torch.testing.assert_close(ours, self.dense(alpha, beta, gamma), rtol=1e-4, atol=1e-3)


def compare(name: str, problem: Problem, required: float, runs: int = 3) -> dict[str, Any]:
    """Times both sides in turn."""
    problem.check()
    rng = np.random.default_rng(0)
    ours, naive, best = [], [], 0.0
    for _ in range(runs):
        start = time.perf_counter()
        accuracy, settings = problem.exact()
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(POINTS // runs):
            point = (float(rng.choice(values)) for values in (ALPHAS, BETAS, GAMMAS))
            best = max(best, problem.naive_accuracy(*point))
        naive.append((time.perf_counter() - start) / (POINTS // runs))
    grid = statistics.median(naive) * len(BETAS) * len(ALPHAS) * len(GAMMAS)
    ratio = grid / statistics.median(ours)
    return {
        "what": name, "ours_s": statistics.median(ours), "naive_s": grid, "ratio": ratio,
        "spread": max(ours) / min(ours), "required": required, "accuracy": accuracy,
        "settings": settings, "naive_best_of_timed": best,
    }  # fmt: skip


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def similarity(required: float) -> dict[str, Any]:
    """Inter-class similarity against loops over all pairs of rows of different classes, extrapolated."""
    rng, c, k, d = np.random.default_rng(0), 100, 16, 1280
    T, X = (unit(torch.tensor(rng.normal(size=(n, d)), dtype=torch.float32)) for n in (c, c * k))
    y = torch.arange(c).repeat_interleave(k)
    rows, labels = torch.cat([T, X]), torch.cat([torch.arange(c), y])
    n_pairs = sum(int((labels != label).sum()) for label in labels)

    def loops(first: int, last: int) -> tuple[Tensor, int]:
        total, n = torch.zeros(d, dtype=torch.float64), 0
        for i, j in itertools.product(range(first, last), range(len(rows))):
            if labels[i] != labels[j]:
                total += (rows[i] * rows[j]).double()
                n += 1
        return total, n

    small = unit(torch.tensor(rng.normal(size=(4, d)), dtype=torch.float32))
    by_hand = sum(small[i] * small[j] for i in range(4) for j in range(4) if i != j) / 12
    torch.testing.assert_close(inter_class_similarity(small), by_hand, rtol=1e-4, atol=1e-7)
    start = time.perf_counter()
    _, n = loops(0, 5)
    naive = (time.perf_counter() - start) / n * n_pairs
    ours = statistics.median(timed(lambda: inter_class_similarity(T, X, y)) for _ in range(20))
    return {
        "what": "similarity, c = 100, k = 16, d = 1280", "ours_s": ours, "naive_s": naive,
        "ratio": naive / ours, "required": required,
    }  # fmt: skip


def leave_one_out() -> dict[str, Any]:
    """A whole leave-one-out fit of APE, c = 1,000, k = 4, d = 512, and the peak memory of this process."""
    rng, c, k, d = np.random.default_rng(0), 1000, 4, 512
    centres = rng.normal(size=(c, d))
    y = np.repeat(np.arange(c), k)
    T, X = (centres + 3 * rng.normal(size=(c, d)), centres[y] + 3 * rng.normal(size=(c * k, d)))
    seconds = timed(lambda: APE(T.astype(np.float32)).fit(X.astype(np.float32), y))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "what": "leave-one-out fit of APE, c = 1,000, k = 4, d = 512",
        "ours_s": seconds,
        "peak_gib": peak,
    }


def caltech(data: Path) -> Problem:
    """16 shots, 1,302 validation rows."""
    names = ("text_features", "train_features", "train_labels", "val_features", "val_labels")
    with np.load(data / "clip_vitb32_caltech101.npz") as stored:
        arrays = [stored[name] for name in names]
    T, X, rows = (unit(torch.tensor(arrays[i], dtype=torch.float32)) for i in (0, 1, 3))
    return Problem(T, X, torch.tensor(arrays[2]).long(), rows, torch.tensor(arrays[4]).long())


def large() -> Problem:
    """c = 1,000, k = 16, d = 512, 2,000 random rows."""
    rng, c, k, d = np.random.default_rng(0), 1000, 16, 512
    centres = rng.normal(size=(c, d))
    y, labels = np.repeat(np.arange(c), k), rng.integers(0, c, 2000)
    parts = [centres + 4 * rng.normal(size=(c, d))]
    parts += [centres[i] + 4 * rng.normal(size=(len(i), d)) for i in (y, labels)]
    T, X, rows = (unit(torch.tensor(part, dtype=torch.float32)) for part in parts)
    return Problem(T, X, torch.tensor(y), rows, torch.tensor(labels))


def main() -> int:
    """Measure, print, write; 1 if something is slower than required."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of clip_vitb32_caltech101.npz")
    parser.add_argument("--all-points", action="store_true", help="run the whole naive grid on Caltech-101")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with torch.inference_mode():
        results = [leave_one_out()]  # first: its peak is that of the process
        problem = caltech(options.data)
        results.append(compare("Caltech-101, 16 shots, 1,302 rows", problem, 200))
        if options.all_points:
            grid = itertools.product(ALPHAS, BETAS, GAMMAS)
            best = max(problem.naive_accuracy(*map(float, point)) for point in grid)
            results[-1]["naive_best_of_all"] = best
        results.append(compare("c = 1,000, k = 16, d = 512, 2,000 rows", large(), 500))
        results.append(similarity(3000))
    for result in results:
        print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    slow = [r["what"] for r in results if r.get("ratio", 1e9) < r.get("required", 0)]
    print(f"torch threads: {torch.get_num_threads()}; slower than required: {', '.join(slow) or 'nothing'}")
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
