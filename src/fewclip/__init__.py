"""A folder with a few labelled images per class becomes an image classifier, in seconds, on a CPU.

Names are imported when they are used, so that ``import fewclip`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewclip.classifier import FewShotClassifier
    from fewclip.errors import FewclipError

__version__ = "0.1.0"
__all__ = ["FewShotClassifier", "FewclipError", "__version__"]

_HOMES = {"FewShotClassifier": "fewclip.classifier", "FewclipError": "fewclip.errors"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fewclip' has no attribute {name!r}")
