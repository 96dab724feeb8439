"""Pages: one HTML file without scripts, fonts or addresses, to be read anywhere and passed on."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.data import display_path, load_image
from fewclip.data._display import escape
from fewclip.data._files import written_aside
from fewclip.errors import DataError


def render(template: str, **view: Any) -> str:
    """A template of ``evaluation/templates`` filled in.

    Args:
        template: Its file name; pages extend ``base.html.j2``, which wants ``title`` and ``lead``.
        view: What the template reads; all text is escaped, control characters are spelled out.
    """
    import jinja2  # takes a tenth of a second that other commands need not spend

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fewclip", "evaluation/templates"),
        autoescape=True,  # class names and paths are whatever a data set holds
        finalize=lambda value: escape(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(view)


def write_page(path: str | Path, page: str) -> Path:
    """Writes the file whole or not at all; its folder is made if absent, an older file is replaced.

    Raises:
        DataError: It cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            display_path(path.parent),
            expected=f"a folder to write {display_path(path.name)} into",
            got=error.strerror or type(error).__name__,
            fix="Choose another folder.",
        ) from error
    with written_aside(path) as file:
        file.write(page.encode("utf-8"))
    return path


def image_uri(image: Image.Image | bytes, side: int, name: str) -> str:
    """A JPEG of at most side × side pixels as a data URI.

    Args:
        image: A PIL image, or the bytes of an image file.
        side: Pixels of the longer side at most.
        name: What an error calls it.

    Raises:
        ImageError: The bytes cannot be decoded.
    """
    small = load_image(image, name=display_path(name))
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
