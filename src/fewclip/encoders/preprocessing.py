"""From an RGB image to a tower's input, as a processor's configuration says; Pillow and NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from fewclip.errors import EncoderError

_RESAMPLE = {"bicubic": 3, "bilinear": 2, "lanczos": 1, "nearest": 0, "box": 4, "hamming": 5}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, scale, normalise; equal to transformers' Pillow processors to the last bit.

    Attributes:
        shortest_edge: The shorter side becomes this many pixels, the other follows, rounded down; or
        size: (height, width), whatever the shape was. Both None: no resizing.
        resample: Pillow's number of the filter; 3 is bicubic.
        crop: (height, width) cut from the centre; missing pixels are 0. None: no crop.
        crop_rounding: Where the centre lies between two pixels: ``floor`` as transformers has it, ``round``
            (half to even) as torchvision and so OpenAI's own code.
        scale: Factor on pixel values 0–255; None: none.
        mean, std: Of each channel after scaling; None: not normalised.
    """

    shortest_edge: int | None
    size: tuple[int, int] | None
    resample: int
    crop: tuple[int, int] | None
    scale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    crop_rounding: Literal["floor", "round"] = "floor"

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, square: bool = False) -> Preprocessing:
        """Reads a ``preprocessor_config.json`` of transformers.

        Args:
            config: Its content.
            square: Whether a bare number as size means both sides; else the shorter one.

        Raises:
            EncoderError: A value that this class does not know.
        """
        try:
            edge, size = (
                _size(config.get("size", 224), square) if config.get("do_resize", True) else (None,) * 2
            )
            crop = None
            if config.get("do_center_crop", "crop_size" in config):
                crop = _height_width(config.get("crop_size", 224))
            normalised = config.get("do_normalize", True)
            rounding = config.get("crop_rounding", "floor")
            if rounding not in ("floor", "round"):
                raise ValueError(f"crop_rounding {rounding!r}")
            return cls(
                shortest_edge=edge,
                size=size,
                resample=_resample(config.get("resample", 3)),
                crop=crop,
                scale=float(config.get("rescale_factor", 1 / 255))
                if config.get("do_rescale", True)
                else None,
                mean=_three(config["image_mean"]) if normalised else None,
                std=_three(config["image_std"]) if normalised else None,
                crop_rounding=rounding,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(
                "preprocessor_config.json",
                expected="size, crop_size, resample, rescale_factor, image_mean and image_std of a processor",
                got=f"{type(error).__name__}: {error}",
                fix="Copy the file again from where the model comes from.",
            ) from error

    def to_config(self) -> dict[str, Any]:
        """All of it, for a fingerprint or a file; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Preprocessing:
        """What ``to_config`` wrote."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config.items()
        }
        return cls(**values)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """The tower's input, (3, h, w) float32, of one RGB image."""
        size = self._resized(image.height, image.width)
        if size is not None:
            image = image.resize((size[1], size[0]), resample=self.resample)
        pixels = np.asarray(image).transpose(2, 0, 1)
        if self.crop is not None:
            pixels = self._cropped(pixels)
        if self.scale is not None:
            pixels = (pixels.astype(np.float64) * self.scale).astype(np.float32)
        pixels = pixels.astype(np.float32, copy=False)
        if self.mean is not None and self.std is not None:
            mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
            pixels = (pixels - mean) / std
        return np.ascontiguousarray(pixels)

    def seen(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that the tower sees, before scale and mean."""
        pixels = replace(self, scale=None, mean=None, std=None)(image)
        return Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))

    def _resized(self, height: int, width: int) -> tuple[int, int] | None:
        if self.shortest_edge is None:
            return self.size
        short, long = sorted((height, width))
        longer = int(self.shortest_edge * long / short)
        return (longer, self.shortest_edge) if height > width else (self.shortest_edge, longer)

    def _cropped(self, pixels: np.ndarray) -> np.ndarray:
        assert self.crop is not None
        (height, width), (rows, columns) = pixels.shape[1:], self.crop
        top, left = self._offset(height - rows), self._offset(width - columns)
        inside = pixels[:, max(top, 0) : max(top, 0) + rows, max(left, 0) : max(left, 0) + columns]
        if inside.shape[1:] == self.crop:
            return inside
        out = np.zeros((len(pixels), rows, columns), dtype=pixels.dtype)
        y, x = max(-top, 0), max(-left, 0)
        out[:, y : y + inside.shape[1], x : x + inside.shape[2]] = inside
        return out

    def _offset(self, spare: int) -> int:
        if self.crop_rounding == "round" and spare > 0:
            return round(spare / 2)
        return math.floor(spare / 2)


def _size(size: Any, square: bool) -> tuple[int | None, tuple[int, int] | None]:
    if isinstance(size, int):
        return (None, (size, size)) if square else (size, None)
    if set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"]), None
    return None, _height_width(size)


def _height_width(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping):
        if set(size) == {"shortest_edge"}:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    height, width = size
    return int(height), int(width)


def _resample(value: Any) -> int:
    if isinstance(value, str):
        return _RESAMPLE[value.lower()]
    return int(value)


def _three(values: Any) -> tuple[float, ...]:
    values = (values,) * 3 if isinstance(values, int | float) else values
    if len(values) != 3:
        raise ValueError(f"{len(values)} channels")
    return tuple(float(value) for value in values)
