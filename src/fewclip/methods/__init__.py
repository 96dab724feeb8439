"""The methods, by name. Each is a scikit-learn classifier on features."""

from fewclip.methods.ape import APE
from fewclip.methods.base import FewShotMethod
from fewclip.methods.prior_refinement import PriorRefinement
from fewclip.methods.tip_adapter import TipAdapter
from fewclip.methods.zero_shot import ZeroShot

METHODS: dict[str, type[FewShotMethod]] = {
    "zero-shot": ZeroShot,
    "tip-adapter": TipAdapter,
    "ape": APE,
}

__all__ = ["APE", "METHODS", "FewShotMethod", "PriorRefinement", "TipAdapter", "ZeroShot"]
