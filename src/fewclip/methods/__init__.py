"""The methods, by name. Each is a scikit-learn classifier on features."""

from fewclip.methods.ape import APE
from fewclip.methods.ape_t import APET
from fewclip.methods.auto import Auto
from fewclip.methods.base import FewShotMethod
from fewclip.methods.calip import CALIP
from fewclip.methods.clap import CLAP
from fewclip.methods.clip_adapter import CLIPAdapter
from fewclip.methods.cross_modal import CrossModalProbe
from fewclip.methods.ensemble import Ensemble
from fewclip.methods.gda import GDA
from fewclip.methods.linear_adapter import LinearAdapter
from fewclip.methods.linear_probe import LinearProbe
from fewclip.methods.lp_plus_plus import LPPlusPlus
from fewclip.methods.prior_refinement import PriorRefinement
from fewclip.methods.proker import ProKeR
from fewclip.methods.ss_text import SSText
from fewclip.methods.task_res import TaskRes
from fewclip.methods.timo import TIMO, TIMOS
from fewclip.methods.tip_adapter import TipAdapter
from fewclip.methods.tip_adapter_f import TipAdapterF
from fewclip.methods.tip_x import TipX
from fewclip.methods.zero_shot import ZeroShot

METHODS: dict[str, type[FewShotMethod]] = {
    "zero-shot": ZeroShot,
    "calip": CALIP,
    "clip-adapter": CLIPAdapter,
    "tip-adapter": TipAdapter,
    "tip-adapter-f": TipAdapterF,
    "tip-x": TipX,
    "ape": APE,
    "ape-t": APET,
    "gda": GDA,
    "proker": ProKeR,
    "ss-text": SSText,
    "timo": TIMO,
    "timo-s": TIMOS,
    "linear-probe": LinearProbe,
    "clap": CLAP,
    "task-res": TaskRes,
    "lp++": LPPlusPlus,
    "cross-modal": CrossModalProbe,
    "linear-adapter": LinearAdapter,
    "ensemble": Ensemble,
    "auto": Auto,
}


def method_name(method: FewShotMethod) -> str:
    """The method's name in ``METHODS``; of a class of one's own, its name."""
    return next((name for name, kind in METHODS.items() if type(method) is kind), type(method).__name__)


__all__ = [
    "APE",
    "APET",
    "CALIP",
    "CLAP",
    "GDA",
    "METHODS",
    "TIMO",
    "TIMOS",
    "Auto",
    "CLIPAdapter",
    "CrossModalProbe",
    "Ensemble",
    "FewShotMethod",
    "LPPlusPlus",
    "LinearAdapter",
    "LinearProbe",
    "PriorRefinement",
    "ProKeR",
    "SSText",
    "TaskRes",
    "TipAdapter",
    "TipAdapterF",
    "TipX",
    "ZeroShot",
    "method_name",
]
