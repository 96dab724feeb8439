"""Corruptions of test images at five severities, always the same for the same image."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageFilter

from fewclip.errors import ParameterError

SEVERITIES = (1, 2, 3, 4, 5)
VERSION = 1  # of what the corruptions do; part of the name under which features are remembered
_SIDE = 256  # a larger image is reduced to this shorter side first: noise of single pixels would average out
_SCALE = 224  # shorter side that the radii of blur are meant for


def _noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64) / 255
    pixels = pixels + rng.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], pixels.shape)
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def _blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    sigma = (1, 2, 3, 4, 6)[severity - 1] * min(image.size) / _SCALE
    return image.filter(ImageFilter.GaussianBlur(sigma))


def _jpeg(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    return Image.open(stream).convert("RGB")


def _brightness(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    more = round(255 * (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1])
    bright = value.point([min(255, v + more) for v in range(256)])
    return Image.merge("HSV", (hue, saturation, bright)).convert("RGB")


KINDS: dict[str, Callable[[Image.Image, int, np.random.Generator], Image.Image]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
}


def corrupt(image: Image.Image, shift: str, *, key: str) -> Image.Image:
    """The image as a worse camera would show it.

    Gaussian noise, Gaussian blur, JPEG compression and brightness with the strengths of ImageNet-C. Differs:
    larger images are reduced to a shorter side of 256, not 224, and blur grows with the image.

    Args:
        image: An RGB image.
        shift: Kind and severity, such as ``blur-3``.
        key: Of the image; with it and the shift the noise is always the same.

    Reference: Hendrycks & Dietterich 2019, arXiv:1903.12261.
    """
    kind, severity = split_shift(shift)
    seed = hashlib.sha256(f"{key} {shift}".encode()).digest()[:8]
    if min(image.size) > _SIDE:
        factor = _SIDE / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return KINDS[kind](image, severity, np.random.default_rng(int.from_bytes(seed, "big")))


def split_shift(shift: str) -> tuple[str, int]:
    """``blur-3`` as ("blur", 3).

    Raises:
        ParameterError: An unknown kind or severity.
    """
    kind, _, severity = str(shift).rpartition("-")
    if kind not in KINDS or severity not in map(str, SEVERITIES):
        raise ParameterError(
            f"shift {shift!r}",
            expected=f"one of {', '.join(KINDS)} with a severity of 1 to 5, such as blur-3",
            got="an unknown one",
            fix="Correct it.",
        )
    return kind, int(severity)


def expand_shifts(names: Iterable[str], severities: Iterable[int] = SEVERITIES) -> tuple[str, ...]:
    """``blur`` as ``blur-1`` … ``blur-5``, ``all`` as every kind; what has a severity stays.

    Raises:
        ParameterError: An unknown kind or severity.
    """
    found: list[str] = []
    for name in names:
        kinds = list(KINDS) if name == "all" else [name]
        whole = name != "all" and name not in KINDS
        found += [name] if whole else [f"{kind}-{s}" for kind in kinds for s in severities]
    for shift in found:
        split_shift(shift)
    return tuple(dict.fromkeys(found))
