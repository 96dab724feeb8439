"""The parameter ``n_channels``: how many channels prior refinement keeps."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from fewclip.errors import ParameterError
from fewclip.methods.parameters import is_auto, is_number


def channel_count(n_channels: Any, d: int) -> int | None:
    """Q of an int 1 … d or of a fraction of d in (0, 1]; None for anything else."""
    if not is_number(n_channels):
        return None
    if isinstance(n_channels, Integral):
        return int(n_channels) if 1 <= int(n_channels) <= d else None
    return max(1, round(float(n_channels) * d)) if 0 < float(n_channels) <= 1 else None


def channel_counts(method: Any, fractions: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers of channels to try: the fixed one, or for ``"auto"`` these fractions of all.

    Raises:
        ParameterError: Neither ``"auto"``, nor an int 1 … d, nor a fraction in (0, 1].
    """
    d: int = method.n_features_in_
    if is_auto(method.n_channels):
        return tuple(sorted({max(1, round(f * d)) for f in fractions}))
    count = channel_count(method.n_channels, d)
    if count is not None:
        return (count,)
    raise ParameterError(
        f"The 'n_channels' parameter of {type(method).__name__}",
        expected=f"'auto', an int from 1 to {d}, or a fraction of the channels in (0, 1]",
        got=repr(method.n_channels),
        fix="Leave it at 'auto' unless you reproduce a published setting.",
    )
