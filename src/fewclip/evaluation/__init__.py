"""How good is it: metrics of one classifier, the comparison of methods over shots and seeds, the report."""

from fewclip.evaluation.metrics import Evaluation
from fewclip.evaluation.protocol import Cell, Comparison, Data, check_methods, compare
from fewclip.evaluation.report import Example, Neighbour, write_report

__all__ = [
    "Cell",
    "Comparison",
    "Data",
    "Evaluation",
    "Example",
    "Neighbour",
    "check_methods",
    "compare",
    "write_report",
]
