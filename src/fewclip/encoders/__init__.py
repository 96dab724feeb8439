"""Encoders: frozen two-tower models that put images and texts into one space."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Final, cast

from fewclip.encoders.base import Encoder, TokenEncoder
from fewclip.errors import EncoderError

# name -> "module:class", imported when the encoder is asked for.
ENCODERS: Final[dict[str, str]] = {"pocket": "fewclip.encoders.pocket:PocketEncoder"}

_PARTS = ("name", "dim", "logit_scale", "fingerprint", "encode_images", "encode_texts")
_KINDS = (
    'Use "pocket"; hf:ORG/NAME or a folder with config.json for a model of transformers; onnx:FOLDER for one '
    "that was exported; module:callable for your own: its result, or an object that you pass, has name, dim, "
    "logit_scale, fingerprint, encode_images and encode_texts, see fewclip.encoders.Encoder."
)


def opens_by_name(name: str) -> bool:
    """Whether a name that stands in a file may be opened: it imports no code of a user's."""
    return name in ENCODERS or name.startswith(("hf:", "onnx:"))


def load_encoder(name: str | Path | Encoder) -> Encoder:
    """The encoder of this name; an encoder object is returned as it is.

    Args:
        name: ``pocket``; ``hf:ORG/NAME[@REVISION]``, ``hf:FOLDER``, or just a folder with config.json;
            ``onnx:FOLDER``, written by ``export_encoder``; ``module:callable`` or
            ``path/to/file.py:callable``, called without arguments; or an encoder.

    Raises:
        EncoderError: No such encoder, or an object that lacks a part of the Encoder protocol.
        MissingExtraError: A package that it needs is not installed.
    """
    if not isinstance(name, str | Path):
        return _checked(name, f"encoder of type {type(name).__name__}")
    name = str(name)
    if name in ENCODERS:
        module, _, class_name = ENCODERS[name].partition(":")
        return getattr(importlib.import_module(module), class_name)()
    if name.startswith("hf:") or (Path(name).expanduser() / "config.json").is_file():
        from fewclip.encoders.hf_tokens import open_hf

        return open_hf(name.removeprefix("hf:"))
    if name.startswith("onnx:"):
        from fewclip.encoders.onnx import OnnxEncoder

        return OnnxEncoder(name.removeprefix("onnx:"))
    module, _, attribute = name.rpartition(":")
    if module and attribute.isidentifier():
        return _own(name, module, attribute)
    raise EncoderError(
        f"encoder {name!r}", expected=f"one of: {', '.join(ENCODERS)}, hf:…, onnx:FOLDER, module:callable",
        got="an unknown name", fix=_KINDS,
    )  # fmt: skip


def _own(name: str, module: str, attribute: str) -> Encoder:
    """What ``attribute`` of a module, or of a Python file, returns."""
    try:
        if module.endswith(".py"):
            found = runpy.run_path(module)[attribute]
        else:
            found = getattr(_module(module), attribute)
        made = found()
    except Exception as error:
        raise EncoderError(
            f"encoder {name!r}",
            expected="a module that can be imported, and in it something to call without arguments",
            got=f"{type(error).__name__}: {error}",
            fix="Check the name, and that the module lies in the working folder or is installed.",
        ) from error
    return _checked(made, f"what {name} returns")


def _module(name: str) -> ModuleType:
    """A module that is installed, or lies in the working folder: an installed program does not look there."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _checked(encoder: object, what: str) -> Encoder:
    missing = [part for part in _PARTS if not hasattr(encoder, part)]
    if missing:
        raise EncoderError(
            what,
            expected=f"an object with {', '.join(_PARTS)}",
            got=f"one without {', '.join(missing)}",
            fix="Add what is missing, or use a name: " + ", ".join(ENCODERS) + ", hf:ORG/NAME.",
        )
    return cast(Encoder, encoder)


__all__ = ["ENCODERS", "Encoder", "TokenEncoder", "load_encoder", "opens_by_name"]
