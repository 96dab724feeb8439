"""What an encoder is: two towers that put images and texts into one space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image


@runtime_checkable
class Encoder(Protocol):
    """A frozen vision-language model.

    Attributes:
        name: The name that opens it again, as in ``load_encoder(name)``.
        dim: Number of channels d of its features.
        logit_scale: Factor on cosines that makes its zero-shot softmax meaningful (100 for OpenAI CLIP).
        fingerprint: Changes whenever the same image or text would give other features: weights,
            preprocessing, pooling, text handling. Stored with features and adapters.

    An encoder whose text tower knows other languages than English says so with ``multilingual = True``; with
    any other, class names that do not look English cause a warning.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def logit_scale(self) -> float: ...

    @property
    def fingerprint(self) -> str: ...

    def encode_images(self, images: Sequence[Image.Image | str | Path]) -> np.ndarray:
        """Unit-norm float32 features, (n, d), of PIL images or paths.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm float32 features, (n, d), of sentences."""
        ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also says what it sees where; optional, used by CALIP and by heat maps.

    Where its tokens cover a part of the image only, a method ``crop`` gives that part, PIL in and out.
    """

    def encode_image_tokens(self, images: Sequence[Image.Image | str | Path]) -> np.ndarray:
        """Unit-norm float32 features, (n, 1 + L, d), of PIL images or paths.

        Row 0 of an image is its feature, as ``encode_images`` gives it; then L spatial tokens in the same
        space, row by row from the upper left.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
        """
        ...
