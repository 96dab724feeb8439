"""From images to features: through the store, in batches, with one row or one error for every image."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from tqdm import tqdm

from fewclip.data import FeatureStore, LabelledSources, image_key, load_image, random_view, view_seed
from fewclip.data.ready_features import FeatureRow
from fewclip.data.stored import StoredImage
from fewclip.encoders._runtime import unit_rows, wrong_shape
from fewclip.encoders.base import Encoder, TokenEncoder
from fewclip.encoders.ready import NAME as READY
from fewclip.errors import DataError, EncoderError, FeatureError, ImageError, ParameterError

Picture = Image.Image | str | Path | StoredImage
Source = Picture | FeatureRow
BATCH = 64  # images handed to the encoder at once, unless asked for otherwise


@dataclass(frozen=True)
class EncodedImages:
    """Features of many images.

    Attributes:
        features: Unit-norm float32 rows, (r, d), with spatial tokens (r, 1 + L, d): the readable images in
            order, their views together.
        images: Which source each row belongs to, (r,).
        keys: sha256 of each source, "" where it could not be read.
        errors: What is wrong with each source that has no row.
        n_encoded: How many sources the encoder had to see; the others came from the store.
    """

    features: np.ndarray
    images: np.ndarray
    keys: list[str]
    errors: dict[int, ImageError]
    n_encoded: int

    def require(self, origin: str, *, skip_unreadable: bool) -> None:
        """Raises the first error unless unreadable images may be left out, and then if nothing is left.

        Args:
            origin: Where the images come from.
            skip_unreadable: Whether errors are let through.
        """
        require_readable(self.errors, len(self.keys), origin, skip_unreadable=skip_unreadable)


def require_readable(
    errors: Mapping[int, ImageError], n_images: int, origin: str, *, skip_unreadable: bool
) -> None:
    """Raises the first of ``errors`` unless they may be left out, and then if none of the images is left."""
    if errors and not skip_unreadable:
        first = next(iter(errors.values()))
        count = f"{len(errors)} of {n_images} images cannot be read"
        fix = f"{first.fix} {count}; to leave them out: skip_unreadable=True (--skip-unreadable)."
        raise ImageError(first.item, expected=first.expected, got=first.got, fix=fix) from first
    if len(errors) == n_images:
        raise DataError(
            origin,
            expected="at least one readable image",
            got=f"{len(errors)} that cannot be read",
            fix="Check the files.",
        )


def mean_of_views(encoded: EncodedImages, rows: np.ndarray) -> tuple[EncodedImages, np.ndarray]:
    """One row for every image, the mean over its views; of the features, the first view's.

    Args:
        encoded: Images of which each has one or more rows, next to each other.
        rows: What belongs to each row, (r, …).
    """
    images, starts, counts = np.unique(encoded.images, return_index=True, return_counts=True)
    if len(images) == len(rows):
        return encoded, rows
    means = np.add.reduceat(rows, starts, axis=0) / counts.reshape(-1, *(1,) * (rows.ndim - 1))
    return replace(encoded, features=encoded.features[starts], images=images), means


def encode_sources(
    sources: Sequence[Source],
    encoder: Encoder,
    *,
    store: FeatureStore | None = None,
    views: int = 1,
    random_state: int = 0,
    batch_size: int = BATCH,
    tokens: bool = False,
    progress: bool | tqdm = True,
) -> EncodedImages:
    """Features of paths or PIL images; an image that cannot be read becomes an error of its own.

    Args:
        sources: Paths or PIL images.
        encoder: Gives the features.
        store: Where features are kept between runs; None: nowhere.
        views: 1: the image as it is. V > 1: V random views (crop of 50–100 % of the area, flip).
        random_state: Seed of the views; with it, a view depends on the image alone.
        batch_size: Images handed to the encoder at once.
        tokens: Spatial tokens as well, of an encoder that has them; too large to be kept in the store.
        progress: Show a bar on stderr; or a bar of the caller's, which is advanced.
    """
    if views < 1:
        raise ParameterError(
            "views", expected="at least 1", got=repr(views), fix="Use 1 for the image as it is."
        )
    if batch_size < 1:
        raise ParameterError("batch_size", expected="at least 1", got=repr(batch_size), fix="Use 64.")
    store = store or FeatureStore.in_memory()
    keys: list[str] = []
    errors: dict[int, ImageError] = {}
    rows: dict[int, np.ndarray] = {}  # source → (views, d)
    n_encoded = 0
    step = max(1, batch_size // views)
    with ThreadPoolExecutor(thread_name_prefix="fewclip-read") as pool, _bar(progress, len(sources)) as bar:
        for start in range(0, len(sources), step):
            part = sources[start : start + step]
            for i, key in enumerate(pool.map(_key_or_error, part), start):
                if isinstance(key, ImageError):
                    errors[i] = key
                keys.append("" if isinstance(key, ImageError) else key)
            wanted = [i for i in range(start, start + len(part)) if i not in errors]
            ready = {i: _ready(sources[i], encoder) for i in wanted if isinstance(sources[i], FeatureRow)}
            wanted = [i for i in wanted if i not in ready]
            rows |= ready
            known = (
                {} if tokens else _from_store(store, encoder, [keys[i] for i in wanted], views, random_state)
            )
            missing = {i: cast(Picture, sources[i]) for i in wanted if keys[i] not in known}
            fresh, failed = _encode(encoder, missing, keys, views, random_state, tokens)
            if not tokens:
                _to_store(store, encoder, {keys[i]: fresh[i] for i in fresh}, views, random_state)
            errors |= failed
            rows |= {i: known[keys[i]] for i in wanted if keys[i] in known} | fresh
            n_encoded += len(fresh)
            bar.update(len(part))
    order = sorted(rows)
    features = np.concatenate([rows[i] for i in order]) if order else np.empty((0, encoder.dim), np.float32)
    images = np.repeat(np.array(order, dtype=np.int64), [len(rows[i]) for i in order])
    return EncodedImages(features, images, keys, dict(sorted(errors.items())), n_encoded)


def readable(data: LabelledSources) -> LabelledSources:
    """The images that decode, with a warning that counts the others."""
    with ThreadPoolExecutor(thread_name_prefix="fewclip-read") as pool:
        errors = list(pool.map(_decode_error, data.sources))
    bad = [error for error in errors if error]
    if bad:
        warnings.warn(f"{len(bad)} images cannot be read and are left out, the first: {bad[0]}", stacklevel=2)
    return data.take(i for i, error in enumerate(errors) if error is None)


@contextmanager
def _bar(progress: bool | tqdm, total: int) -> Iterator[tqdm]:
    if isinstance(progress, tqdm):
        yield progress
        return
    with tqdm(total=total, desc="encode", unit="image", disable=not progress, delay=0.5) as bar:
        yield bar


def _ready(source: Source, encoder: Encoder) -> np.ndarray:
    """Features (v, d) that need no encoder, if they are of its kind."""
    assert isinstance(source, FeatureRow)
    unknown = f"{READY}:{encoder.dim}"  # features of which nobody knows the encoder: only d is compared
    if source.fingerprint and encoder.fingerprint not in (source.fingerprint, unknown):
        raise EncoderError(
            source.name,
            expected=f"features of {encoder.name} ({encoder.fingerprint})",
            got=f"features of {source.fingerprint}",
            fix="Encode the images again with the encoder of the others.",
        )
    if source.features.shape[1] != encoder.dim:
        raise FeatureError(
            source.name,
            expected=f"{encoder.dim} channels, as {encoder.name} has them",
            got=f"{source.features.shape[1]}",
            fix="Encode the images again with the encoder of the others.",
        )
    return unit_rows(source.features)


def _key_or_error(source: Source) -> str | ImageError:
    if isinstance(source, FeatureRow):
        return source.key
    try:
        return image_key(source)
    except ImageError as error:
        return error


def _view_name(encoder: Encoder, views: int, random_state: int) -> str:
    """Views of another seed are other images: their fingerprint says so. The image itself has none."""
    return encoder.fingerprint if views == 1 else f"{encoder.fingerprint}/views-seed-{random_state}"


def _from_store(
    store: FeatureStore, encoder: Encoder, keys: list[str], views: int, random_state: int
) -> dict[str, np.ndarray]:
    """Features (views, d) of the images of which every view is stored with the encoder's dimension."""
    name = _view_name(encoder, views, random_state)
    stored = [store.get_many(keys, fingerprint=name, view=view) for view in range(views)]
    complete = [key for key in keys if all(key in s and s[key].shape == (encoder.dim,) for s in stored)]
    return {key: np.stack([s[key] for s in stored]) for key in complete}


def _to_store(
    store: FeatureStore, encoder: Encoder, rows: dict[str, np.ndarray], views: int, random_state: int
) -> None:
    name = _view_name(encoder, views, random_state)
    for view in range(views):
        store.put_many({key: row[view] for key, row in rows.items()}, fingerprint=name, view=view)


def _encode(
    encoder: Encoder,
    sources: dict[int, Picture],
    keys: list[str],
    views: int,
    random_state: int,
    tokens: bool,
) -> tuple[dict[int, np.ndarray], dict[int, ImageError]]:
    """Features (views, d) or (views, 1 + L, d) by source, and the errors of those that do not decode."""
    if not sources:
        return {}, {}

    def encoded(some: dict[int, Picture]) -> dict[int, np.ndarray]:
        images = _opened(some.values()) if views == 1 else list(_views(some, keys, views, random_state))
        features = _checked(encoder, images, tokens)
        return dict(zip(some, features.reshape(len(some), views, *features.shape[1:]), strict=True))

    try:
        return encoded(sources), {}
    except ImageError:
        # At least one does not decode. Find out which, and encode the others.
        errors = {i: error for i, source in sources.items() if (error := _decode_error(source))}
        if not errors:
            raise
        good = {i: source for i, source in sources.items() if i not in errors}
        return (encoded(good) if good else {}), errors


def _checked(encoder: Encoder, images: Sequence[Image.Image | str | Path], tokens: bool) -> np.ndarray:
    """What the encoder gives for these images, of the shape that it promises."""
    if tokens:
        if not isinstance(encoder, TokenEncoder):
            raise EncoderError(
                f"encoder {encoder.name!r}",
                expected="one that gives spatial tokens, with encode_image_tokens",
                got="one without",
                fix="Use pocket, or leave the tokens out.",
            )
        name, shape = "encode_image_tokens", f"({len(images)}, 1 + L, {encoder.dim})"
        features = np.asarray(encoder.encode_image_tokens(images), dtype=np.float32)
        good = features.ndim == 3 and features.shape[1] > 1
    else:
        name, shape = "encode_images", f"({len(images)}, {encoder.dim})"
        features = np.asarray(encoder.encode_images(images), dtype=np.float32)
        good = features.ndim == 2
    if not good or (len(features), features.shape[-1]) != (len(images), encoder.dim):
        raise wrong_shape(encoder, name, shape, features)
    return features


def _opened(sources: Iterable[Picture]) -> list[Image.Image | str | Path]:
    """Encoders know paths and pictures; what lies inside something larger is decoded for them."""
    with ThreadPoolExecutor(thread_name_prefix="fewclip-read") as pool:
        return list(pool.map(lambda s: load_image(s) if isinstance(s, StoredImage) else s, sources))


def _views(
    sources: dict[int, Picture], keys: list[str], views: int, random_state: int
) -> Iterator[Image.Image]:
    for i, source in sources.items():
        image = load_image(source)
        for view in range(views):
            yield random_view(image, seed=view_seed(keys[i], view, random_state))


def _decode_error(source: Source | Picture) -> ImageError | None:
    if isinstance(source, FeatureRow):
        return None
    try:
        load_image(source)
    except ImageError as error:
        return error
    return None
