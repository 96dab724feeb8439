"""How good is it: metrics of one classifier, the comparison of methods over shots and seeds, the report."""

from fewclip.evaluation.metrics import Evaluation
from fewclip.evaluation.pictures import ConfusedPair, Example, Neighbour, Picture
from fewclip.evaluation.protocol import Cell, Comparison, Data, check_methods, compare
from fewclip.evaluation.report import write_report
from fewclip.evaluation.sections import Section

__all__ = [
    "Cell",
    "Comparison",
    "ConfusedPair",
    "Data",
    "Evaluation",
    "Example",
    "Neighbour",
    "Picture",
    "Section",
    "check_methods",
    "compare",
    "write_report",
]
