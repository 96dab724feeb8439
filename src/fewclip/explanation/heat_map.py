"""Where in the image a classifier saw its class."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fewclip.data import Source, load_image
from fewclip.data.ready_features import FeatureRow
from fewclip.encoders.base import TokenEncoder
from fewclip.methods import FewShotMethod

SIDE = 320  # px of the pictures
_WINNER, _RUNNER_UP = (20, 170, 150), (225, 120, 25)  # RGB
_STRONGEST = 0.72  # opacity


@dataclass(frozen=True)
class HeatMap:
    """What the classifier would say to every place of an image if it saw nothing else.

    Attributes:
        winner, runner_up: The two most probable classes of the whole image.
        values: The winner's logit above the runner-up's at each place, rows from the upper left.
        picture: JPEG of the part of the image that the encoder sees.
    """

    winner: Any
    runner_up: Any
    values: tuple[tuple[float, ...], ...]
    picture: bytes

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON; without the picture."""
        return {"winner": self.winner, "runner_up": self.runner_up, "values": [list(v) for v in self.values]}

    def image(self) -> Image.Image:
        """The picture in grey, places of the winner in green and of the runner-up in orange."""
        picture = load_image(self.picture, name="heat map")
        values = np.asarray(self.values, dtype=np.float32)
        grown = Image.fromarray(values / max(float(np.abs(values).max()), 1e-12))
        heat = np.asarray(grown.resize(picture.size, Image.Resampling.BICUBIC)).clip(-1, 1)[..., None]
        grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32) * 0.8 + 40
        colour = np.where(heat > 0, np.array(_WINNER, np.float32), np.array(_RUNNER_UP, np.float32))
        opacity = _STRONGEST * np.abs(heat)
        return Image.fromarray((grey * (1 - opacity) + colour * opacity).clip(0, 255).astype(np.uint8))


def heat_map_of(method: FewShotMethod, encoder: Any, source: Source, a: int, b: int) -> HeatMap | None:
    """The heat map of two classes, for an encoder with spatial tokens on a square grid.

    Args:
        method: A fitted method; each token is a query of its own.
        encoder: What the features come from. Where it has ``crop``, that gives the part of an image that its
            tokens cover; otherwise they cover all of it.
        source: The image.
        a, b: Columns of the winner and of the runner-up.

    Returns:
        None where the encoder has no tokens, or they lie on no square grid, or there is no image.
    """
    if not isinstance(encoder, TokenEncoder) or isinstance(source, FeatureRow):
        return None
    image = load_image(source)
    tokens = encoder.encode_image_tokens([image])[0, 1:]
    side = math.isqrt(len(tokens))
    if side * side != len(tokens) or side < 2:
        return None
    logits = method.predict_logits(tokens)
    values = (logits[:, a] - logits[:, b]).reshape(side, side)
    crop: Callable[[Image.Image], Image.Image] | None = getattr(encoder, "crop", None)
    shown = image if crop is None else crop(image)
    shown.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=85)
    labels = method.classes_.tolist()
    return HeatMap(labels[a], labels[b], tuple(map(tuple, values.tolist())), buffer.getvalue())
