"""JSON documents, read whole, with errors of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fewclip.data._display import display_path, escape
from fewclip.errors import DataError

_HEAD = 4096


def is_json(path: Path) -> bool:
    """Whether it is a file called .json."""
    return path.suffix.lower() == ".json" and path.is_file()


def begins_with(path: Path, pattern: str) -> bool:
    """Whether the first bytes of a file match."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as stream:
            return re.match(pattern, stream.read(_HEAD)) is not None
    except OSError:
        return False


def load_json(path: Path) -> Any:
    """The document.

    Raises:
        DataError: It cannot be read, or is no JSON.
    """
    name = display_path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        got = escape(error.strerror or str(error))
        raise DataError(name, expected="a readable file", got=got, fix="Check the path.") from error
    except (ValueError, RecursionError) as error:
        got = escape(str(error)) or type(error).__name__
        raise DataError(name, expected="a JSON document in UTF-8", got=got, fix="Write it again.") from error
