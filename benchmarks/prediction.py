"""Prediction at the limit: time against the plain matrix products, and memory with many classes.

    python benchmarks/prediction.py [--json out.json]

The plain side is what nobody can go below: a product of queries and keys, and one of queries and text, of the
same sizes, dtype and threads, timed in turn with ``predict_logits``. The logits must equal the formula first.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewclip.evaluation.bench.facts import PeakMemory
from fewclip.methods import METHODS, FewShotMethod

SHOTS, CHANNELS, QUERIES, REQUIRED = 16, 512, 2048, 1.2
SETTINGS: dict[str, dict[str, Any]] = {
    "tip-adapter": {"alpha": 1.0, "beta": 5.5},
    "ape": {"alpha": 1.0, "beta": 5.5, "gamma": 0.5, "n_channels": 0.5},
}


def task(n_classes: int) -> tuple[np.ndarray, ...]:
    """T, X, y and queries around random directions."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(n_classes, CHANNELS)).astype(np.float32)
    y = np.repeat(np.arange(n_classes), SHOTS)
    X = text[y] + 3 * rng.normal(size=(len(y), CHANNELS)).astype(np.float32)
    return text, X, y, rng.normal(size=(QUERIES, CHANNELS)).astype(np.float32)


def fitted(method: str, n_classes: int) -> tuple[FewShotMethod, np.ndarray]:
    """The method on a task, and queries."""
    text, X, y, queries = task(n_classes)
    return METHODS[method](text, selection="none", **SETTINGS[method]).fit(X, y), queries


def by_formula(clf: Any, queries: np.ndarray) -> np.ndarray:
    """z = s·f Tᵀ + α·exp(−β(1 − f′Xᵀ)) L of some rows, in float64."""
    f = queries.astype(np.float64)
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    T, keys, weights = (a.double().numpy() for a in (clf.text_features_, clf.keys_, clf.key_weights_))
    kept = f if clf.channels_ is None else f[:, clf.channels_.numpy()]
    kept = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    one_hot = np.eye(len(T))[clf.support_labels_.numpy()]
    return (
        clf.logit_scale * f @ T.T + clf.alpha_ * (np.exp(clf.beta_ * (kept @ keys.T - 1)) * weights) @ one_hot
    )


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speed(method: str, n_classes: int, runs: int = 9) -> dict[str, Any]:
    """Times both sides in turn."""
    clf, queries = fitted(method, n_classes)
    np.testing.assert_allclose(
        clf.predict_logits(queries[:20]), by_formula(clf, queries[:20]), rtol=1e-3, atol=1e-2
    )
    f, T, keys = torch.from_numpy(queries), clf.text_features_, clf.support_features_
    clf.predict_logits(queries)
    ours, plain = [], []
    for _ in range(runs):
        ours.append(seconds(lambda: clf.predict_logits(queries)))
        plain.append(seconds(lambda: (f @ keys.T, f @ T.T)))
    return {
        "what": f"{method}, c = {n_classes:,}, k = {SHOTS}, d = {CHANNELS}, {QUERIES:,} rows",
        "ours_s": statistics.median(ours), "plain_s": statistics.median(plain),
        "ratio": statistics.median(ours) / statistics.median(plain), "required": REQUIRED,
        "spread": max(ours) / min(ours),
    }  # fmt: skip


def memory(n_classes: int) -> dict[str, Any]:
    """What a prediction adds to the memory of this process, and the peak of the fit before it."""
    clf, queries = fitted("tip-adapter", n_classes)
    fit_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before, peak = resident(), PeakMemory()
    with peak:
        clf.predict_logits(queries)
    added = ((peak.megabytes or fit_peak * 1024 / 1e6) * 1e6 - before) / 2**30
    return {
        "what": f"memory, tip-adapter, c = {n_classes:,}, {QUERIES:,} rows", "added_gib": added,
        "peak_gib": fit_peak / 2**20, "required_gib": 1.0,
    }  # fmt: skip


def resident() -> int:
    """Bytes of memory that the process has now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> int:
    """Measure, print, write; 1 if something is slower or larger than required."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    results = [speed(method, c) for method in SETTINGS for c in (100, 1000)] + [memory(10_000)]
    for result in results:
        print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    broken = [r["what"] for r in results if r.get("ratio", 0) > REQUIRED or r.get("added_gib", 0) > 1]
    print(f"torch threads: {torch.get_num_threads()}; over the limit: {', '.join(broken) or 'nothing'}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
