"""What encoders share besides their towers: parts opened once, optional packages, sessions, unit rows."""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from fewclip.errors import EncoderError, MissingExtraError

_SHOWN = 80  # characters of a sentence in a warning
_CUTS: ContextVar[list[str] | None] = ContextVar("fewclip_cut_sentences", default=None)


class OpenedOnce:
    """Parts by key, each opened on first use by one thread only."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._parts: dict[str, Any] = {}

    def get(self, key: str, opener: Callable[[], Any]) -> Any:
        """The part of this key; ``opener`` makes it the first time."""
        with self._lock:
            if key not in self._parts:
                self._parts[key] = opener()
            return self._parts[key]


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """An optional package.

    Args:
        module: Its name.
        extra: The extra of fewclip that installs it.
        purpose: What it is needed for, such as "the pocket encoder".

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_extra(module, extra=extra, purpose=purpose, got=str(error)) from error


def missing_extra(package: str, *, extra: str, purpose: str, got: str = "nothing") -> MissingExtraError:
    """The error that says how to install a package."""
    return MissingExtraError(
        f"package {package}",
        expected=f"it installed, for {purpose}",
        got=got,
        fix=f'Install it with: pip install "fewclip[{extra}]"',
    )


def onnx_session(runtime: Any, path: Path, threads: int | None) -> Any:
    """A tower on the CPU; ``threads`` None: as many as there are processors."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or n_processors()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def n_processors() -> int:
    """At least 1."""
    return os.cpu_count() or 1


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows of Euclidean norm 1 along the last axis, float32."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32, copy=False)


@contextmanager
def noting_cuts() -> Iterator[list[str]]:
    """The sentences that ``warn_of_cut`` warns of inside, in this thread."""
    noted: list[str] = []
    token = _CUTS.set(noted)
    try:
        yield noted
    finally:
        _CUTS.reset(token)


def warn_of_cut(texts: Sequence[str], long: Sequence[bool], max_tokens: int) -> None:
    """Warns of sentences that the text tower sees only the beginning of."""
    cut = [text for text, is_long in zip(texts, long, strict=True) if is_long]
    if cut:
        noted = _CUTS.get()
        if noted is not None:
            noted += cut
        first = cut[0] if len(cut[0]) <= _SHOWN else f"{cut[0][:_SHOWN]}…"
        warnings.warn(
            f"{len(cut)} of {len(texts)} sentences have more than {max_tokens} tokens "
            f"and are cut, the first: {first!r}",
            stacklevel=3,
        )


def wrong_shape(encoder: Any, name: str, shape: str, features: np.ndarray) -> EncoderError:
    """What to raise for features of another shape than the encoder promises."""
    return EncoderError(
        f"encoder {encoder.name!r}",
        expected=f"features of shape {shape}",
        got=f"{features.shape}",
        fix=f"This is a fault of the encoder: its {name} must give this.",
    )
