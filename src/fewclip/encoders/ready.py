"""What stands where an encoder would when features come ready-made from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from fewclip.errors import EncoderError

NAME = "features"


class ReadyEncoder:
    """Knows the space of some features, and cannot make any.

    Args:
        dim: Channels d.
        logit_scale: Factor on cosines.
        fingerprint: Of the encoder that made the features; "" if unknown: then only d is compared.
    """

    name = NAME

    def __init__(self, dim: int, *, logit_scale: float = 100.0, fingerprint: str = "") -> None:
        self.dim, self.logit_scale = dim, logit_scale
        self.fingerprint = fingerprint or f"features:{dim}"

    def encode_images(self, images: Sequence[Any]) -> NoReturn:
        """Raises EncoderError: features are needed."""
        raise self._error("images")

    def encode_texts(self, texts: Sequence[str]) -> NoReturn:
        """Raises EncoderError: text features are needed."""
        raise self._error("texts")

    def _error(self, what: str) -> EncoderError:
        return EncoderError(
            f"{what} for ready features",
            expected=f"features of the same {self.dim} channels, as a file",
            got=what,
            fix="Encode them as the others were, or name the encoder that made the features: encoder=.",
        )
