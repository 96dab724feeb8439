"""Numbers of bytes as people write them."""

from __future__ import annotations

import math
import re

from fewclip.errors import ParameterError

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str, item: str, *, also: str = "") -> int:
    """Bytes in a text such as "500MB", "1.5 GiB" or "1000"; kB are 1000 bytes, KiB are 1024.

    Args:
        text: The text.
        item: What it is, for the error: an option or a variable.
        also: What else would have been right, for the error.

    Raises:
        ParameterError: It is no size above 0.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = (1024 if match[3] else 1000) ** _POWERS[(match[2] or "").lower()] if match else 0
    size = int(float(match[1]) * factor) if match else 0
    if size < 1:
        expected, fix = f"a size such as 500MB or 2GB{also}", "Use a number and one of B, kB, MB, GB, TB."
        raise ParameterError(item, expected=expected, got=repr(text), fix=fix)
    return size


def show_size(size: int) -> str:
    """A number of bytes for people: "20.5 kB"."""
    if size < 1000:
        return f"{size} B"
    power = min(4, int(math.log10(size)) // 3)
    return f"{size / 1000**power:.1f} {' kMGT'[power]}B"
