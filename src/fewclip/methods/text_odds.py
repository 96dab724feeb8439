"""How much the images weigh where nothing can be left out: the odds of the text to be wrong about them."""

from __future__ import annotations

from typing import Any

from fewclip.methods.leave_one_out import left_out_rows
from fewclip.methods.support import Support
from fewclip.selection import CAUTIOUS, default_strength


def text_odds(method: Any, support: Support) -> float:
    """The strength of what ``method`` has learnt of ``support``, by what the text thinks of the images."""
    if method.text_features is None:  # class means have seen the images
        return CAUTIOUS
    left_out = left_out_rows(support, min_shots=1)
    rows = left_out.rows
    logits = method._support_logits(support, rows)
    return default_strength(logits, support.labels[rows], support.images[rows], left_out.weights)


def why(strength: float) -> str:
    """A sentence for the user."""
    if strength == CAUTIOUS:
        return "They weigh little, for nothing shows how good the text is."
    return "Their weight is the odds of the text to be wrong about them."
