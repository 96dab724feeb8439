"""One image of the command line: a picture, or a row of a file of features."""

from __future__ import annotations

from pathlib import Path

from fewclip.data import Source, display_path, is_features, named_sources
from fewclip.errors import ParameterError


def one_source(image: Path, row: int | None) -> Source:
    """The image, or the row of a file of features, counted from 0.

    Raises:
        ParameterError: A row of a picture, none of several features, or one that does not exist.
    """
    if not is_features(image):
        if row is not None:
            raise ParameterError(
                "--row", expected="a file of features", got=display_path(image), fix="Leave it out."
            )
        return image
    rows = named_sources(image)
    if row is None and len(rows) > 1:
        raise ParameterError(
            f"--row for {display_path(image)}",
            expected=f"which of its {len(rows)} rows to explain, 0 to {len(rows) - 1}",
            got="none",
            fix="Add --row 0 for the first.",
        )
    row = row or 0
    if not 0 <= row < len(rows):
        raise ParameterError(
            f"--row for {display_path(image)}",
            expected=f"0 to {len(rows) - 1}",
            got=str(row),
            fix="Rows count from 0.",
        )
    return rows[row].source
