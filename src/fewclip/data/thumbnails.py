"""Small pictures of images, made once and kept beside their features."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from fewclip.data.feature_store import FeatureStore
from fewclip.data.images import load_image
from fewclip.data.stored import StoredImage

THUMBNAIL = 64  # px, longer side
KIND = f"thumbnails-{THUMBNAIL}-px"


def make_thumbnails(
    sources: Sequence[Image.Image | str | Path | StoredImage],
    keys: Sequence[str],
    *,
    store: FeatureStore | None = None,
) -> list[bytes]:
    """A JPEG of at most 64 px for each image, in order.

    Args:
        sources: The images.
        keys: sha256 of each, as ``image_key`` gives it.
        store: Where they are kept between runs; None: nowhere.

    Raises:
        ImageError: An image that is not in the store cannot be decoded.
    """
    known = {} if store is None else store.get_bytes(keys, kind=KIND)
    missing = {key: source for key, source in zip(keys, sources, strict=True) if key not in known}
    with ThreadPoolExecutor(thread_name_prefix="fewclip-thumbnail") as pool:
        # PIL images load without a lock, so not in the pool.
        made = {k: _thumbnail(source) for k, source in missing.items() if isinstance(source, Image.Image)}
        paths = {key: source for key, source in missing.items() if key not in made}
        made |= zip(paths, pool.map(_thumbnail, paths.values()), strict=True)
    if store is not None:
        store.put_bytes(made, kind=KIND)
    known |= made
    return [known[key] for key in keys]


def _thumbnail(source: Image.Image | str | Path | StoredImage) -> bytes:
    image = load_image(source)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
