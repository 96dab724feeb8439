"""Lists on the command line: values with commas."""

from __future__ import annotations

import typer


def names(text: str) -> list[str]:
    """``tip-adapter, ape`` as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str, *, least: int = 1) -> list[int]:
    """``1,4,16`` as a list of whole numbers of at least ``least``."""
    try:
        found = [int(name) for name in names(text)]
    except ValueError:
        found = []
    if not found or min(found) < least:
        raise typer.BadParameter(f"expected whole numbers separated by commas, such as 1,4,16; got {text!r}")
    return found
