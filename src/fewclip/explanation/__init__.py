"""Why a classifier decided: text against image evidence, labelled images, channels, places."""

from fewclip.explanation.channels import ChannelEvidence, Channels
from fewclip.explanation.core import ClassEvidence, Explanation, Neighbour, explain
from fewclip.explanation.heat_map import HeatMap
from fewclip.explanation.support import SupportImage, make_support
from fewclip.explanation.support_check import PoorClass, SupportCheck, Suspect, Twins, check_support

__all__ = [
    "ChannelEvidence",
    "Channels",
    "ClassEvidence",
    "Explanation",
    "HeatMap",
    "Neighbour",
    "PoorClass",
    "SupportCheck",
    "SupportImage",
    "Suspect",
    "Twins",
    "check_support",
    "explain",
    "make_support",
]
