"""Benchmarks: methods × shots × seeds × encoders × data sets × protocols, resumable, and their report."""

from fewclip.evaluation.bench.cells import read_cells
from fewclip.evaluation.bench.plan import BenchSet, Plan
from fewclip.evaluation.bench.plan_file import name_of, read_plan
from fewclip.evaluation.bench.report import write_bench_report
from fewclip.evaluation.bench.run import Outcome, run_bench
from fewclip.evaluation.bench.shifts import expand_shifts
from fewclip.evaluation.bench.summary import comparison_of, groups

__all__ = [
    "BenchSet",
    "Outcome",
    "Plan",
    "comparison_of",
    "expand_shifts",
    "groups",
    "name_of",
    "read_cells",
    "read_plan",
    "run_bench",
    "write_bench_report",
]
