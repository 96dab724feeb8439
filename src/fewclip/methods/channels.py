"""The parameter ``n_channels``: how many channels prior refinement keeps."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from fewclip.errors import ParameterError
from fewclip.methods.cache import is_auto, is_number


def channel_counts(method: Any, fractions: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers of channels to try: the fixed one, or for ``"auto"`` these fractions of all.

    Raises:
        ParameterError: Neither ``"auto"``, nor an int 1 … d, nor a fraction in (0, 1].
    """
    d: int = method.n_features_in_
    n_channels: Any = method.n_channels
    if is_auto(n_channels):
        return tuple(sorted({max(1, round(f * d)) for f in fractions}))
    if is_number(n_channels):
        whole = isinstance(n_channels, Integral)
        if whole and 1 <= int(n_channels) <= d:
            return (int(n_channels),)
        if not whole and 0 < float(n_channels) <= 1:
            return (max(1, round(float(n_channels) * d)),)
    raise ParameterError(
        f"The 'n_channels' parameter of {type(method).__name__}",
        expected=f"'auto', an int from 1 to {d}, or a fraction of the channels in (0, 1]",
        got=repr(n_channels),
        fix="Leave it at 'auto' unless you reproduce a published setting.",
    )
