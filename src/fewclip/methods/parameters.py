"""What constructor arguments may hold: numbers, counts, or ``"auto"``."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any


def is_auto(value: object) -> bool:
    """Whether a setting is to be chosen."""
    return isinstance(value, str) and value == "auto"


def is_number(value: Any) -> bool:
    """A Python or NumPy number, no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def one_or(value: float | str, choices: tuple[float, ...]) -> tuple[float, ...]:
    """The values to try: the fixed one, or ``choices`` for ``"auto"``."""
    return choices if isinstance(value, str) else (float(value),)


def is_count(value: Any) -> bool:
    """An int ≥ 0, no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
