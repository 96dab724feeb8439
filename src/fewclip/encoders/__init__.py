"""Encoders: frozen two-tower models that put images and texts into one space."""

from __future__ import annotations

import importlib
from typing import Final

from fewclip.encoders.base import Encoder, TokenEncoder
from fewclip.errors import EncoderError

# name -> "module:class", imported when the encoder is asked for.
ENCODERS: Final[dict[str, str]] = {"pocket": "fewclip.encoders.pocket:PocketEncoder"}

_PARTS = ("name", "dim", "logit_scale", "fingerprint", "encode_images", "encode_texts")
_OWN = (
    'Use "pocket", or wrap your model in an object with the attributes and methods of '
    "fewclip.encoders.Encoder (name, dim, logit_scale, fingerprint, encode_images, encode_texts) and pass it."
)


def load_encoder(name: str | Encoder) -> Encoder:
    """The encoder of this name; an encoder object is returned as it is.

    Raises:
        EncoderError: No such encoder, or an object that lacks a part of the Encoder protocol.
    """
    if not isinstance(name, str):
        missing = [part for part in _PARTS if not hasattr(name, part)]
        if missing:
            raise EncoderError(
                f"encoder of type {type(name).__name__}",
                expected=f"an object with {', '.join(_PARTS)}",
                got=f"one without {', '.join(missing)}",
                fix="Add what is missing, or use a name: " + ", ".join(ENCODERS) + ".",
            )
        return name
    if name in ENCODERS:
        module, _, class_name = ENCODERS[name].partition(":")
        return getattr(importlib.import_module(module), class_name)()
    if name.startswith(("hf:", "onnx:")):
        raise EncoderError(
            f"encoder {name!r}",
            expected="one that this version of fewclip holds: " + ", ".join(ENCODERS),
            got=f"the prefix {name.partition(':')[0]}:, which it cannot open",
            fix=_OWN,
        )
    raise EncoderError(
        f"encoder {name!r}", expected=f"one of: {', '.join(ENCODERS)}", got="an unknown name", fix=_OWN
    )


__all__ = ["ENCODERS", "Encoder", "TokenEncoder", "load_encoder"]
