"""What sets, unknown images and safe answers cost beside a plain prediction, on photos.

    python benchmarks/doubt.py --data ../shared/data/grocery [--runs 3]

Four photos of every class are learnt; the validation photos are classified, plainly and with
``coverage``, ``unknown`` and ``answer_only`` asked for, in turn, without a store. 1 if that costs more than
5 % of the time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore

LIMIT = 1.05
DOUBTS = {"coverage": 0.9, "unknown": "auto", "answer_only": 0.95}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    clf = FewShotClassifier("pocket", progress=False).fit(options.data / "train", shots=4)
    photos = sorted((options.data / "val").rglob("*.jpg"))
    times: dict[str, list[float]] = {"plain": [], "with doubts": []}
    for _ in range(options.runs):
        for name, doubts in (("plain", {}), ("with doubts", DOUBTS)):
            clf.store = FeatureStore.in_memory()  # so that every run encodes
            start = time.perf_counter()
            rows = list(clf.classify(photos, **doubts))
            times[name].append(time.perf_counter() - start)
            assert not any(row.error for row in rows)
    plain, doubted = (statistics.median(times[name]) for name in times)
    print(f"{len(photos)} photos, {clf.summary_.method}: {plain:.2f} s, with doubts {doubted:.2f} s")
    print(f"ratio {doubted / plain:.3f}, at most {LIMIT}")
    return int(doubted / plain > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
