"""The labelled images of a classifier as small pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fewclip.data import FeatureStore, Source, load_image
from fewclip.data.ready_features import FeatureRow
from fewclip.data.thumbnails import make_thumbnails


@dataclass(frozen=True)
class SupportImage:
    """A labelled image that a classifier was fitted on, as it travels with the adapter."""

    name: str
    label: Any
    sha256: str
    thumbnail: bytes  # JPEG; b"" where there were ready features instead of an image

    def image(self) -> Image.Image:
        """The thumbnail, at most 64 px."""
        return load_image(self.thumbnail, name=self.name)


def make_support(
    sources: Sequence[Source],
    names: Sequence[str],
    labels: Sequence[Any],
    keys: Sequence[str],
    *,
    store: FeatureStore | None = None,
) -> tuple[SupportImage, ...]:
    """The labelled images as thumbnails with name, label and sha256; ready features have no picture."""
    pictures = {i: source for i, source in enumerate(sources) if not isinstance(source, FeatureRow)}
    made = make_thumbnails(list(pictures.values()), [keys[i] for i in pictures], store=store)
    thumbnails = dict(zip(pictures, made, strict=True))
    return tuple(
        SupportImage(name, label, key, thumbnails.get(i, b""))
        for i, (name, label, key) in enumerate(zip(names, labels, keys, strict=True))
    )


def small_jpeg(source: Source, side: int) -> bytes:
    """A JPEG of at most side × side pixels; b"" where there is no picture."""
    if isinstance(source, FeatureRow):
        return b""
    image = load_image(source)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
