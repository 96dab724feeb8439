"""How time grows with each size, and how much memory a prediction on a million rows takes.

    python benchmarks/growth.py             # exponents of time in n, m, c, d
    python benchmarks/growth.py --memory    # predict on a memory map of 1,000,000 × 512

All settings are given, so nothing is searched, and nothing is calibrated; features are random unit rows.
One size varies over five
values, each 1.5 times the last, the others stay; the values take turns, the fastest of all runs counts, and
the exponent is the slope of log time over log size. A size that does not dominate the cost shows less than
the formula allows. Calls of the smallest sizes take 50 ms or more on one thread. Exponents may exceed those
of the formula by 0.15, memory may rise by 256 MiB; more is marked "!" and the exit status is 1.

The process starts itself again with an allocator that keeps its memory: else arrays above 32 MiB are mapped
and zeroed by the system on every use, those below are not, and the step between them bends the lines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewclip.methods import METHODS, FewShotMethod

Sizes = dict[str, int]
STEPS = tuple(1.5**i for i in range(5))
MARGIN = 0.15
LIMIT = 256  # MiB

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**40), "MALLOC_TRIM_THRESHOLD_": str(2**40)}  # of glibc

SETTINGS: dict[str, dict[str, Any]] = {
    "clip-adapter": {"epochs": 1, "batch_size": None},
    "tip-adapter": {"alpha": 1.0, "beta": 2.0},
    "tip-adapter-f": {"alpha": 1.0, "beta": 2.0, "epochs": 1, "batch_size": None},
    "tip-x": {"alpha": 1.0, "beta": 2.0, "gamma": 0.5},
    "ape": {"alpha": 1.0, "beta": 2.0, "gamma": 0.5, "n_channels": 0.5},
    "ape-t": {"alpha": 1.0, "beta": 2.0, "n_channels": 0.5, "epochs": 1, "batch_size": None},
}
PREDICT_SIZES: Sizes = {"n": 8192, "m": 1024, "c": 64, "d": 256}
FIT_SIZES: Sizes = {"n": 0, "m": 2048, "c": 64, "d": 256}
MORE: dict[tuple[str, str], Sizes] = {  # where a call would take less than 50 ms
    ("clip-adapter", "predict"): {"n": 32768},
    ("clip-adapter", "fit"): {"m": 16384},
    ("tip-adapter", "fit"): {"m": 98304},
    ("ape", "fit"): {"m": 32768},
}
# Exponents of the formulas that are not 1: all pairs of labelled images; a bottleneck of d/4 channels.
FORMULA: dict[tuple[str, str, str], int] = {
    ("clip-adapter", "predict", "d"): 2,
    ("clip-adapter", "fit", "d"): 2,
    ("tip-adapter-f", "fit", "m"): 2,
    ("tip-x", "fit", "m"): 2,
    ("ape-t", "fit", "m"): 2,
}


def unit_rows(n: int, d: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prepare(name: str, call: str, sizes: Sizes) -> Callable[[], object]:
    """The call to time."""
    X, y = unit_rows(sizes["m"], sizes["d"], 0), np.arange(sizes["m"]) % sizes["c"]
    method: FewShotMethod = METHODS[name](
        unit_rows(sizes["c"], sizes["d"], 1), selection="none", calibration="none", **SETTINGS[name]
    )
    if call == "fit":
        return lambda: method.fit(X, y)
    method.fit(X, y)
    queries = unit_rows(sizes["n"], sizes["d"], 2)
    return lambda: method.predict_logits(queries)


def exponent(name: str, call: str, size: str, runs: int) -> tuple[float, float]:
    """Slope of log time over log size, and the milliseconds of the smallest."""
    base = (PREDICT_SIZES if call == "predict" else FIT_SIZES) | MORE.get((name, call), {})
    values = [round(base[size] * step) for step in STEPS]
    calls = [prepare(name, call, base | {size: value}) for value in values]
    fastest = np.full(len(calls), np.inf)
    for _ in range(runs):
        for i, timed in enumerate(calls):  # in turn: all see the same load of the machine
            start = time.perf_counter()
            timed()
            fastest[i] = min(fastest[i], time.perf_counter() - start)
    return float(np.polyfit(np.log(values), np.log(fastest), 1)[0]), 1000 * float(fastest[0])


def growth(runs: int) -> bool:
    """Prints the table; whether all exponents are within the limits."""
    torch.set_num_threads(1)  # a second thread that others slow down would bend the lines
    columns = [("predict", size) for size in "nmcd"] + [("fit", size) for size in "mcd"]
    print("Exponents of time, in brackets those that the formulas allow\n")
    print("| method | " + " | ".join(f"{call} in {size}" for call, size in columns) + " | smallest calls |")
    print("|---" * (len(columns) + 2) + "|")
    good = True
    for name in SETTINGS:
        cells, smallest = [], {"predict": np.inf, "fit": np.inf}
        for call, size in columns:
            slope, milliseconds = exponent(name, call, size, runs)
            smallest[call] = min(smallest[call], milliseconds)
            allowed = FORMULA.get((name, call, size), 1)
            within = slope <= allowed + MARGIN
            good &= within
            cells.append(f"{slope:.2f} ({allowed})" + ("" if within else " **!**"))
        times = " / ".join(f"{value:.0f}" for value in smallest.values())
        print(f"| {name} | " + " | ".join(cells) + f" | {times} ms |", flush=True)
    return good


def anonymous_memory() -> float:
    """Resident memory that no file backs, in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def predict_map(name: str, path: Path) -> None:
    """Prints how far memory rises while ``path`` is predicted, in MiB, and the seconds it takes."""
    rows = np.load(path, mmap_mode="r")
    d, c, shots = rows.shape[1], 100, 16
    settings = SETTINGS.get(name, {})
    method = METHODS[name](unit_rows(c, d, 1), selection="none", **settings)
    method.fit(unit_rows(c * shots, d, 0), np.repeat(np.arange(c), shots))
    before, done, peak = anonymous_memory(), threading.Event(), 0.0

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    labels = method.predict(rows)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    assert labels.shape == (len(rows),)
    print(max(peak, anonymous_memory()) - before, seconds)


def memory(n: int) -> bool:
    """Prints the table; whether all methods stay below the limit."""
    print(f"predict on a memory map of {n:,} × 512, 100 classes, 16 shots; limit {LIMIT} MiB\n")
    print("| method | memory rises by | seconds |\n|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 512))
        for start in range(0, n, 65536):
            rows[start : start + 65536] = unit_rows(min(65536, n - start), 512, start)
        rows.flush()
        for name in METHODS:
            command = [sys.executable, __file__, "--predict-map", name, str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rise, seconds = map(float, done.stdout.split())
            good &= rise <= LIMIT
            print(
                f"| {name} | {rise:.0f} MiB{'' if rise <= LIMIT else ' **!**'} | {seconds:.0f} |", flush=True
            )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true", help="memory instead of time; Linux")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of every size (5)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the memory map (1,000,000)")
    parser.add_argument("--predict-map", nargs=2, help=argparse.SUPPRESS)  # one method, in its own process
    args = parser.parse_args()
    if args.predict_map:
        predict_map(args.predict_map[0], Path(args.predict_map[1]))
        return
    if not args.memory and not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    sys.exit(0 if (memory(args.rows) if args.memory else growth(args.runs)) else 1)


if __name__ == "__main__":
    main()
