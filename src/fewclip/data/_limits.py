"""What an image may claim to be: bounds on pixels, shape and density, checked before anything is decoded."""

from __future__ import annotations

from PIL import Image

from fewclip.errors import ImageError

MAX_PIXELS = 178_956_970  # where Pillow itself refuses: two thirds of a gigabyte as RGB
MAX_ASPECT = 200  # the longer side over the shorter: beyond, an encoder's square shows next to nothing
LARGE_PIXELS = 16_000_000
# Pixels of a large image that one byte of its file may stand for. A white page as JPEG has twelve bytes for
# 1,000 pixels; deflate packs 8,256 pixels of one bit into a byte, LZW of GIF 2,560 pixels.
PIXELS_PER_BYTE = {
    **dict.fromkeys(("JPEG", "MPO", "WEBP", "AVIF", "HEIF"), 1_000),
    **dict.fromkeys(("PNG", "GIF", "BMP"), 10_000),
}
RESAVE = "Open it in an image viewer and save it again as JPEG or PNG, or leave it out."


def check_claim(image: Image.Image, label: str, n_bytes: int | None = None) -> None:
    """Raises ImageError for an image that is too large, too narrow, or larger than its file can hold.

    Decoders fill what the file lacks with grey, or leave what no frame covers empty: a header alone could
    cost a gigabyte. Above 16 megapixels the file must be large enough for what it claims.

    Args:
        image: Opened, not yet decoded.
        label: What to call it.
        n_bytes: Size of its file; None: it is no file.
    """
    width, height = image.size
    if width < 1 or height < 1:
        got = f"{width}×{height} pixels"
        raise ImageError(label, expected="at least one pixel", got=got, fix=RESAVE)
    if width * height > MAX_PIXELS:
        got = f"{width}×{height} = {width * height:,}"
        fix = "Scale the image down: an encoder looks at a few hundred pixels a side."
        raise ImageError(label, expected=f"at most {MAX_PIXELS:,} pixels", got=got, fix=fix)
    if max(width, height) > MAX_ASPECT * min(width, height):
        expected = f"one side at most {MAX_ASPECT} times the other"
        fix = "Cut out the part that matters."
        raise ImageError(label, expected=expected, got=f"{width}×{height} pixels", fix=fix)
    rate = PIXELS_PER_BYTE.get(image.format or "")
    if n_bytes is None or rate is None or width * height <= LARGE_PIXELS:
        return
    if n_bytes * rate < width * height:
        expected = f"at least {width * height // rate:,} bytes for {width}×{height} pixels"
        fix = "Copy it again: its header claims more than the file holds. If it is blank, scale it down."
        raise ImageError(label, expected=expected, got=f"{n_bytes:,} bytes", fix=fix)
