"""Random views of an image: what augments the few images there are, the same for the same seed."""

from __future__ import annotations

import hashlib
import math
import random

from PIL import Image

_SCALE = (0.5, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def random_view(image: Image.Image, *, seed: int) -> Image.Image:
    """A random crop, mirrored in half of the cases, at the original resolution.

    The crop covers 50–100 % of the area with an aspect ratio of 3/4–4/3 (log-uniform); where none fits,
    as in a narrow strip, it is the largest central one with the nearest such ratio.

    Args:
        image: The image; left unchanged.
        seed: Any integer, for example from ``view_seed``.
    """
    draw = random.Random(seed)  # its random() is the same in every version of Python
    left, top, width, height = _crop_box(image.size, draw)
    # The same pixels as Image.crop, which warns about large images that load_image accepts.
    box = (left, top, left + width, top + height)
    view = image.resize((width, height), Image.Resampling.NEAREST, box=box)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else view


def view_seed(image_key: str, view: int, random_state: int) -> int:
    """A seed, 0 … 2⁶⁴−1, for the view with the number ``view`` of the image with this key."""
    digest = hashlib.sha256(f"{image_key}\0{view}\0{random_state}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _crop_box(size: tuple[int, int], draw: random.Random) -> tuple[int, int, int, int]:
    image_width, image_height = size
    for _ in range(_ATTEMPTS):
        area = image_width * image_height * _between(_SCALE[0], _SCALE[1], draw)
        aspect = math.exp(_between(math.log(_ASPECT[0]), math.log(_ASPECT[1]), draw))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image_width and 0 < height <= image_height:
            left = math.floor(draw.random() * (image_width - width + 1))
            top = math.floor(draw.random() * (image_height - height + 1))
            return left, top, width, height
    width = min(image_width, max(1, round(image_height * _ASPECT[1])))
    height = min(image_height, max(1, round(image_width / _ASPECT[0])))
    return (image_width - width) // 2, (image_height - height) // 2, width, height


def _between(low: float, high: float, draw: random.Random) -> float:
    return low + (high - low) * draw.random()
