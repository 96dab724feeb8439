"""From every mode that Pillow decodes to, to upright 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# ⌊v·255/65535⌉, the nearest 8-bit value: Pillow's own conversion clips to white instead.
_FROM_16_BIT = ((np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


class Unreadable(Exception):
    """Pixels without a meaning as grey or colour; ``load_image`` adds the name and makes it an ImageError."""

    def __init__(self, *, expected: str, got: str, fix: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got, self.fix = expected, got, fix


def to_rgb(image: Image.Image) -> Image.Image:
    """A new RGB image without metadata: upright, on white, 16 bits and floats scaled to 8."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith("I") or image.mode == "F":
        rgb = _grey_from_numbers(image).convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")  # a copy, if it is RGB already
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info.clear()  # an orientation left here would turn the image once more
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # Damaged metadata does not make the pixels unusable; viewers ignore it, too.
        return 1


def _grey_from_numbers(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        return Image.fromarray(_grey_from_floats(values))
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise Unreadable(
            expected="grey values in 0–65535",
            got=f"32-bit integers in {low}–{high}",
            fix="Scale them to 8 or 16 bits first.",
        )
    return Image.fromarray(_FROM_16_BIT[values])


def _grey_from_floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())  # NaN, if there is one
    if not (low >= 0 and high <= 255):
        raise Unreadable(
            expected="finite float grey values in 0–1 or 0–255",
            got=f"values in {low:g}–{high:g}",
            fix="Scale them to 8 bits first.",
        )
    scaled = values * 255.0 if high <= 1 else values
    return np.rint(scaled).astype(np.uint8)
