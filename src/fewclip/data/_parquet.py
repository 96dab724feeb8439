"""pyarrow, imported where Parquet is read or written."""

from __future__ import annotations

from typing import Any

from fewclip.errors import MissingExtraError


def load_pyarrow(*, otherwise: str = "") -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Args:
        otherwise: What else a user can do, as the end of a sentence.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "package pyarrow",
            expected="it installed, for Parquet files",
            got=str(error),
            fix=f'Install it with: pip install "fewclip[data]"{otherwise}.',
        ) from error
    return pyarrow, pyarrow.parquet
