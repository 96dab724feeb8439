"""Paths and messages as text that any terminal, table or log can hold."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

# Control, surrogate, line and paragraph separators; the bidirectional marks among the format characters
# could make one path look like another.
_UNSAFE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
_BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def display_path(path: str | Path) -> str:
    r"""A path as given, with ``/`` separators; undecodable bytes and control characters as ``\xNN``."""
    text = os.fspath(path)
    return escape(text if os.sep == "/" else text.replace(os.sep, "/"))


def escape(text: str) -> str:
    r"""Text whose undecodable bytes and control characters are written ``\xNN`` (or ``\uNNNN``)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate escape for an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES and character not in _BIDI:
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
