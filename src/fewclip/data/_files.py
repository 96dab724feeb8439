"""Files that are never half written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fewclip.data._display import display_path
from fewclip.errors import DataError


@contextmanager
def written_aside(target: Path) -> Iterator[IO[bytes]]:
    """A new file beside ``target``, synchronised to disk and renamed to it at the end; else it never was.

    Raises:
        DataError: The file cannot be written.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(aside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except OSError as error:
        raise DataError(
            display_path(target),
            expected="a file that can be written",
            got=str(error),
            fix="Choose another path, or free some space.",
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(aside)
