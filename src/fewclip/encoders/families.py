"""How each kind of two-tower model wants its text and images."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How one ``model_type`` treats text and images.

    Attributes:
        pad_to: Text is padded to this many tokens, as in training; None: to the longest of its batch.
        mask: Whether the text tower gets an attention mask.
        canonical: What happens to a sentence before the tokenizer.
        own_processor: Whether images need transformers' own Pillow processor.
        square: Whether a bare number as size means both sides.
        max_tokens: What the text tower sees at most.
        multilingual: Whether it was trained on text in many languages, or in Chinese.
    """

    pad_to: int | None = None
    mask: bool = True
    canonical: Callable[[str], str] = str
    own_processor: bool = False
    square: bool = False
    max_tokens: int = 77
    multilingual: bool = False


def _no_punctuation(text: str) -> str:
    """Lower case without punctuation, single spaces: what SigLIP was trained on."""
    return " ".join(text.translate(str.maketrans("", "", string.punctuation)).lower().split())


FAMILIES: dict[str, Family] = {
    "clip": Family(),
    "metaclip_2": Family(multilingual=True),
    "chinese_clip": Family(max_tokens=52, multilingual=True),
    "altclip": Family(multilingual=True),
    "align": Family(pad_to=64, max_tokens=64, own_processor=True),
    "siglip": Family(pad_to=64, max_tokens=64, mask=False, canonical=_no_punctuation, square=True),
    "siglip2": Family(
        pad_to=64, max_tokens=64, mask=False, canonical=str.lower, own_processor=True, multilingual=True
    ),
}
