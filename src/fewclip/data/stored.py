"""Images inside something larger, an archive, a table, a data set: read when they are needed, not before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.data._display import display_path, escape
from fewclip.errors import ImageError


class StoredImage(ABC):
    """An image that ``load_image`` and ``image_key`` read from where it lies.

    Attributes:
        name: What messages call it, safe to print.
    """

    name: str

    @abstractmethod
    def read(self) -> bytes | Image.Image | str:
        """The bytes of an image file, a decoded image, or the path of a file.

        Raises:
            ImageError: It cannot be read.
        """

    def file_size(self) -> int | None:
        """Bytes of the image's file; None if that is known only after reading."""
        return None


@dataclass(frozen=True)
class FileSlice(StoredImage):
    """Some bytes of a larger file, such as a member of an uncompressed archive.

    Attributes:
        file: The larger file.
        offset, size: Where its bytes lie.
        name: What messages call it.
    """

    file: Path
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        """The bytes, with one seek."""
        try:
            with open(self.file, "rb") as stream:
                stream.seek(self.offset)
                content = stream.read(self.size)
        except OSError as error:
            got, fix = escape(error.strerror or str(error)), f"Check {display_path(self.file)}."
            raise ImageError(self.name, expected="a readable archive", got=got, fix=fix) from error
        if len(content) < self.size:
            got, fix = f"{len(content)}", f"Copy {display_path(self.file)} again."
            raise ImageError(self.name, expected=f"{self.size} bytes", got=got, fix=fix)
        return content

    def file_size(self) -> int:
        """Its share of the larger file."""
        return self.size


@dataclass(frozen=True)
class Held(StoredImage):
    """An image file whose bytes are in memory already, as a column of a Parquet file has them."""

    content: bytes = field(repr=False)
    name: str

    def file_size(self) -> int:
        """Bytes of the file."""
        return len(self.content)

    def read(self) -> bytes:
        """The bytes."""
        return self.content


@dataclass(frozen=True)
class RowImage(StoredImage):
    """The image of a row of a data set that opens rows one at a time (Hugging Face ``datasets``).

    Attributes:
        rows: The data set; ``rows[i][column]`` is an image, ``{"bytes": …, "path": …}`` or a path.
        row, column: Where in it.
        name: What messages call it.
    """

    rows: Any = field(repr=False, compare=False)
    row: int
    column: str
    name: str

    def read(self) -> bytes | Image.Image | str:
        """The cell, whatever it holds."""
        try:
            cell = self.rows[self.row][self.column]
        except Exception as error:  # each data set has its own
            got, fix = f"{type(error).__name__}: {escape(str(error))}", "Check the data set."
            raise ImageError(self.name, expected="a row of the data set", got=got, fix=fix) from error
        return image_of_cell(cell, self.name)


def image_of_cell(cell: Any, name: str) -> bytes | Image.Image | str:
    """What a cell of a data set holds as an image: bytes, a decoded image, or a path.

    Raises:
        ImageError: Something else.
    """
    if isinstance(cell, dict) and ("bytes" in cell or "path" in cell):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, (bytes, Image.Image, str)):
        return cell
    got, fix = "nothing" if cell is None else type(cell).__name__, "Leave the row out."
    raise ImageError(name, expected="an image, its bytes or its path", got=got, fix=fix)
