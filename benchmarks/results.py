"""All methods on photos of groceries and on real CLIP features of Caltech-101; tables as Markdown.

    python benchmarks/results.py --data ../shared/data -o bench-output/results
    python benchmarks/results.py --data ../shared/data -o small --shots 1,2 --seeds 1 --methods zero-shot,ape

- grocery, names and grocery, sentences: the pocket encoder; 81 classes, called by their names or described by
  the sentences of classes.csv; settings by leave-one-out.
- caltech101: ready features of CLIP ViT-B/32; settings by leave-one-out, and chosen on one half of the
  validation images and judged on the other (``full``).

Everything is judged on the validation split; the test split stays closed. The run goes on where it was
stopped and shows the time left; the report (report.md, report.html, …) is written after each of the
two, and with ``--report`` alone from what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fewclip.data import read_prompts
from fewclip.evaluation.bench import BenchSet, Plan, run_bench, write_bench_report
from fewclip.methods import METHODS

TITLE = "Few-shot methods on the validation images of groceries and Caltech-101"


def plans(
    data: Path, *, methods: Sequence[str], shots: Sequence[int], seeds: Sequence[int]
) -> dict[str, Plan]:
    """What to run, by the names of ``--only``."""
    grocery, caltech = data / "grocery", str(data / "clip_vitb32_caltech101.npz")
    train, val = str(grocery / "train"), str(grocery / "val")
    common = {"methods": methods, "shots": shots, "seeds": seeds}
    features = BenchSet(
        "caltech101", caltech, caltech, split="val", val="halves", encoder_name="CLIP ViT-B/32"
    )
    photos = [
        BenchSet("grocery, names", train, val),
        BenchSet("grocery, sentences", train, val, prompts=read_prompts(grocery / "classes.csv")),
    ]
    return {
        "caltech": Plan([features], selections=("loo", "full"), **common),
        "grocery": Plan(photos, selections=("loo",), **common),
    }


def numbers(text: str) -> list[int]:
    """``1,4,16`` as a list."""
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Run what is missing, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for cells and report")
    parser.add_argument("--only", choices=("caltech", "grocery"), help="default: both")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--shots", type=numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=numbers, default=[1, 2, 3, 4, 5])
    parser.add_argument("--retry-failed", action="store_true", help="run the cells again that hold an error")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    chosen = plans(args.data, methods=args.methods.split(","), shots=args.shots, seeds=args.seeds)
    failed = 0
    for name, plan in chosen.items():
        if args.report or args.only not in (None, name):
            continue
        outcome = run_bench(
            plan,
            args.output / "runs",
            retry_failed=args.retry_failed,
            say=lambda text: print(text, flush=True),
        )
        failed += outcome.failed
        print(
            f"{name}: {outcome.done} cells done, {outcome.failed} failed, {outcome.known} known", flush=True
        )
        write_bench_report(args.output / "runs", args.output, title=TITLE)
    if args.report:
        write_bench_report(args.output / "runs", args.output, title=TITLE)
    print(args.output / "report.md")
    sys.exit(3 if failed else 0)


if __name__ == "__main__":
    main()
