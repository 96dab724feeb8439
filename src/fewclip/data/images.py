"""The one image decoder: whatever lies on disk becomes an upright 8-bit RGB image, or an ImageError.

Everything that turns image files into pixels goes through ``load_image``, so that a file that cannot be
used is reported in one way, and so that training and prediction see the same pixels.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from PIL import Image

from fewclip.data._display import display_path, escape
from fewclip.data._limits import MAX_ASPECT, MAX_PIXELS, RESAVE, check_claim
from fewclip.data._pixels import Unreadable, to_rgb
from fewclip.data.stored import StoredImage
from fewclip.errors import ImageError, ParameterError

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_PIXELS",
    "display_path",
    "image_key",
    "load_image",
    "resize_center_crop",
]

# Pillow knows forty more formats, some of which start other programs (EPS) or are nearly untested.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "MPO", "AVIF", "HEIF")
EXACT_RESIZE_PIXELS = 16_000_000

_PLUGINS = ("Jpeg", "Png", "Gif", "Bmp", "Tiff", "WebP", "Ppm", "Mpo", "Avif")
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_END_OF_JPEG = b"\xff\xd9"
_TAKE_WHAT_IS_THERE = " In Python, load_image(path, allow_truncated=True) takes what is there."
_WARNINGS_LOCK = threading.Lock()


def load_image(
    source: str | Path | bytes | Image.Image | StoredImage,
    *,
    name: str | None = None,
    allow_truncated: bool = False,
) -> Image.Image:
    """Decode one image to mode RGB, upright and on a white ground.

    The first frame counts; EXIF orientation is applied; transparency is laid on white; 16-bit grey is
    scaled by value (65535 becomes 255); float grey must lie in 0–1 or in 0–255. Colour profiles are ignored.

    Args:
        source: A path, the bytes of an image file, a PIL image (which is left unchanged), or an image
            inside something larger.
        name: What errors call the image; by default the path as given.
        allow_truncated: Take a JPEG, PNG, GIF, BMP or PPM whose end is missing; what is missing is black or
            grey. Formats that are compressed as a whole cannot be read in part.

    Returns:
        A new image without metadata: loading it once more changes nothing.

    Raises:
        ImageError: The file is absent, unreadable, empty, truncated, not an image of an accepted format,
            larger than ``MAX_PIXELS``, narrower than 1 : ``MAX_ASPECT``, or of more pixels than its file
            can hold.
    """
    if isinstance(source, StoredImage):
        name, source = name or source.name, source.read()
    if isinstance(source, Image.Image):
        label = name or "image"
        with _as_image_error(label):
            check_claim(source, label)
            return to_rgb(source)
    label = name or _label(source)
    with _stream(source, label) as stream, _as_image_error(label):
        n_bytes = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        image = _open(stream, label)
        check_claim(image, label, n_bytes)
        if allow_truncated and image.format in ("JPEG", "MPO"):
            stream.seek(0)  # an early end mark makes libjpeg show the scans that there are
            image = _open(io.BytesIO(stream.read() + _END_OF_JPEG), label)
        with _without_bomb_warning(image.size):
            _decode(image, allow_truncated)
        return to_rgb(image)


def image_key(source: str | Path | bytes | Image.Image | StoredImage) -> str:
    """The sha256, in hex, of what identifies an image: its file's bytes, or a PIL image's RGB pixels.

    Raises:
        ImageError: The file cannot be read.
    """
    if isinstance(source, StoredImage):
        source = source.read()
    if isinstance(source, Image.Image):
        rgb = load_image(source)
        header = f"{rgb.mode} {rgb.width} {rgb.height} ".encode()
        return hashlib.sha256(header + rgb.tobytes()).hexdigest()
    label = _label(source)
    with _stream(source, label) as stream, _as_image_error(label):
        return hashlib.file_digest(stream, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def resize_center_crop(
    image: Image.Image,
    *,
    size: int,
    crop_ratio: float = 1.0,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Resize the shorter side to ``floor(size / crop_ratio)``, then cut out the central square.

    The longer side is ``floor(shorter × aspect ratio)`` and the crop's corner is rounded down, as in timm
    and transformers. Where the resized image would exceed 16 megapixels (a one-pixel-wide strip), only
    the part that survives the crop is resized.

    Args:
        image: An RGB image.
        size: Side of the result in pixels, at least 1.
        crop_ratio: Share of the shorter side that the crop keeps, in (0, 1].
        resample: Filter of the resize.

    Raises:
        ParameterError: ``size`` or ``crop_ratio`` is outside its range.
    """
    if size < 1:
        raise ParameterError(
            "size", expected="at least 1 pixel", got=str(size), fix="Use the encoder's side."
        )
    if not 0 < crop_ratio <= 1:
        fix = "Use 1.0 to crop a full square."
        raise ParameterError("crop_ratio", expected="a number in (0, 1]", got=str(crop_ratio), fix=fix)
    short = math.floor(size / crop_ratio)
    source_short = min(image.size)
    width, height = (side * short // source_short for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    if width * height <= EXACT_RESIZE_PIXELS:
        resized = image.resize((width, height), resample)
        return resized.crop((left, top, left + size, top + size))
    x, y = image.width / width, image.height / height
    box = (left * x, top * y, min((left + size) * x, image.width), min((top + size) * y, image.height))
    return image.resize((size, size), resample, box=box)


def _label(source: object) -> str:
    if isinstance(source, bytes):
        return "image bytes"
    if isinstance(source, (str, os.PathLike)):
        return display_path(os.fspath(source))
    raise ImageError(
        "image",
        expected="a path, the bytes of an image file, or a PIL image",
        got=type(source).__name__,
        fix="Convert arrays with PIL.Image.fromarray.",
    )


@contextmanager
def _stream(source: str | Path | bytes, label: str) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    fix = "Check the path."
    try:
        # A pipe or a device could block for ever or never end, so it is not even opened.
        mode = os.stat(source).st_mode
        if not stat.S_ISREG(mode):
            got = "a folder" if stat.S_ISDIR(mode) else "something that is neither a file nor a folder"
            raise ImageError(label, expected="an image file", got=got, fix=fix)
        stream = open(source, "rb")  # noqa: SIM115 (closed below, outside this try)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, ImageError):
            raise
        got = escape(getattr(error, "strerror", None) or str(error))
        raise ImageError(label, expected="a readable image file", got=got, fix=fix) from error
    with stream:
        yield stream


@contextmanager
def _as_image_error(label: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except Unreadable as error:
        raise ImageError(label, expected=error.expected, got=error.got, fix=error.fix) from error
    except MemoryError as error:
        fix = "Scale it down or free some memory."
        raise ImageError(
            label, expected="an image that fits in memory", got="no memory left", fix=fix
        ) from error
    except Exception as error:  # Damaged files make Pillow's decoders raise nearly everything there is.
        got = f"{type(error).__name__}: {escape(str(error))}"
        fix = RESAVE + (_TAKE_WHAT_IS_THERE if "truncated" in got else "")
        raise ImageError(label, expected="an intact image", got=got, fix=fix) from error


def _open(stream: IO[bytes], label: str) -> Image.Image:
    """The image behind its header, not decoded yet.

    This is ``Image.open`` with ``formats=``, except for two of its warnings: about images below our own
    limit of pixels, and about formats that did not fit. Warnings cannot be silenced thread by thread.
    """
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(
            label, expected="an image file", got="an empty file", fix="Copy it again or delete it."
        )
    _register_plugins(heif=_is_heif(prefix))
    reason: Exception | None = None
    for format_name in FORMATS:
        factory, accepts = Image.OPEN.get(format_name, (None, None))
        if factory is None or (accepts is not None and accepts(prefix) is not True):
            continue
        stream.seek(0)
        try:
            with _without_bomb_warning(_gif_size(prefix)):
                return factory(stream, "")
        except (SyntaxError, IndexError, TypeError) as error:
            reason = error
    if _is_heif(prefix):
        fix = 'Install the reader with: pip install "fewclip[heif]", or convert the image to JPEG.'
        raise ImageError(label, expected="a format this build reads", got="a HEIC image", fix=fix)
    if prefix[4:12] in (b"ftypavif", b"ftypavis") and "AVIF" not in Image.OPEN:
        fix = "Install Pillow 11.3 or later, or convert the image to JPEG."
        raise ImageError(label, expected="a format this build reads", got="an AVIF image", fix=fix)
    got = f"a damaged header ({escape(str(reason))})" if reason else f"a file that begins with {prefix[:8]!r}"
    expected = "a JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP or PPM image"
    raise ImageError(label, expected=expected, got=got, fix=RESAVE) from reason


def _is_heif(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS


def _gif_size(prefix: bytes) -> tuple[int, int]:
    if not prefix.startswith((b"GIF87a", b"GIF89a")):
        return (0, 0)
    return int.from_bytes(prefix[6:8], "little"), int.from_bytes(prefix[8:10], "little")


def _register_plugins(*, heif: bool) -> None:
    for plugin in _PLUGINS:
        try:
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
        except ImportError:  # Pillow before 11.3 has no AVIF.
            continue
    if heif and "HEIF" not in Image.OPEN:
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            return


def _decode(image: Image.Image, allow_truncated: bool) -> None:
    """Load the pixels; of a truncated file, where that is allowed, those that are there."""
    try:
        image.load()
    except OSError as error:
        # Pillow's own switch would hold for every thread. Its decoders have written what they had.
        if not allow_truncated or "truncated" not in str(error) or not hasattr(image, "tile"):
            raise
        image.tile = []  # pyright: ignore[reportAttributeAccessIssue]
        image.load()


def _without_bomb_warning(size: tuple[int, int]) -> AbstractContextManager[object]:
    # Some of Pillow's plugins warn above half of our limit. Filters are global to the process, so they are
    # touched for those giants only.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or size[0] * size[1] <= limit:
        return nullcontext()
    return _ignored_bomb_warning()


@contextmanager
def _ignored_bomb_warning() -> Iterator[None]:
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
