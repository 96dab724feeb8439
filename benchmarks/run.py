"""All benchmarks in one run, within 15 minutes: JSON and a Markdown table.

    python benchmarks/run.py --data ../shared/data -o bench-output

Each benchmark is a process of its own, one after the other; its exit status says whether its bounds held. Its
output is kept beside the table. ``safety`` runs with few draws here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT = 15 * 60
PACKAGES = ("fewclip", "torch", "numpy", "scikit-learn", "onnxruntime", "pillow")


def commands(data: Path, out: Path) -> dict[str, list[str]]:
    """Name and arguments of every benchmark."""
    features, photos = ["--data", str(data)], ["--data", str(data / "grocery")]
    return {
        "selection": [*features, "--json", str(out / "selection.json")],
        "prediction": ["--json", str(out / "prediction.json")],
        "methods_speed": ["--json", str(out / "methods_speed.json")],
        "export": ["--json", str(out / "export.json"), "--runs", "3"],
        "pocket": [*photos, "--no-torch", "--json", str(out / "pocket.json")],
        "views": photos,
        "story": features,
        "safety": [*features, "--draws", "2", "--shots", "2,4", "--json", str(out / "safety.json")],
        "growth": ["--runs", "2"],
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def run(name: str, arguments: list[str], out: Path) -> dict[str, Any]:
    """One benchmark; its output goes to ``out/name.txt``."""
    print(f"{name} …", file=sys.stderr, flush=True)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), *arguments], capture_output=True, text=True, check=False
    )
    (out / f"{name}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    figures = out / f"{name}.json"
    return {
        "benchmark": name, "seconds": time.perf_counter() - start, "exit": done.returncode,
        "figures": json.loads(figures.read_text()) if figures.is_file() else None,
    }  # fmt: skip


def markdown(results: list[dict[str, Any]]) -> str:
    """Machine, one line a benchmark, one a timed comparison."""
    lines = ["| " + " | ".join(f"{k} {v}" for k, v in machine().items()) + " |", ""]
    lines += ["| benchmark | seconds | bounds |", "|---|---|---|"]
    lines += [
        f"| {r['benchmark']} | {r['seconds']:.0f} | {'kept' if r['exit'] == 0 else 'BROKEN'} |"
        for r in results
    ]
    lines += [
        "",
        "| comparison | ours | other side | ratio | required | spread of ours |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        for row in result["figures"] if isinstance(result["figures"], list) else []:
            if "ratio" not in row:
                continue
            other = row.get("naive_s", row.get("plain_s", 0.0))
            lines.append(
                f"| {row['what']} | {row['ours_s']:.3g} s | {other:.4g} s | {row['ratio']:,.2f} | "
                f"{row['required']} | {row.get('spread', 1.0):.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all; 1 if a bound is broken or the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("-o", "--out", type=Path, default=Path("bench-output"))
    parser.add_argument("--only", help="names of benchmarks, comma-separated")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    todo = commands(options.data, options.out)
    if options.only:
        todo = {name: todo[name] for name in options.only.split(",")}
    start = time.perf_counter()
    results = [run(name, arguments, options.out) for name, arguments in todo.items()]
    total = time.perf_counter() - start
    report = {"machine": machine(), "seconds": total, "results": results}
    (options.out / "bench.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "bench.md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
    print(f"{total:.0f} s of {LIMIT} s; everything in {options.out}/")
    return 1 if total > LIMIT or any(result["exit"] for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
