"""From images to features: through the store, in batches, with one row or one error for every image."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fewclip.data import FeatureStore, LabelledSources, image_key, load_image, random_view, view_seed
from fewclip.encoders.base import Encoder
from fewclip.errors import DataError, EncoderError, ImageError, ParameterError

Source = Image.Image | str | Path
BATCH = 64  # images handed to the encoder at once, unless asked for otherwise


@dataclass(frozen=True)
class EncodedImages:
    """Features of many images.

    Attributes:
        features: Unit-norm float32 rows, (r, d): the readable images in order, their views together.
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
        if self.errors and not skip_unreadable:
            first = next(iter(self.errors.values()))
            count = f"{len(self.errors)} of {len(self.keys)} images cannot be read"
            fix = f"{first.fix} {count}; to leave them out: skip_unreadable=True (--skip-unreadable)."
            raise ImageError(first.item, expected=first.expected, got=first.got, fix=fix) from first
        if not len(self.features):
            raise DataError(
                origin,
                expected="at least one readable image",
                got=f"{len(self.errors)} that cannot be read",
                fix="Check the files.",
            )


def encode_sources(
    sources: Sequence[Source],
    encoder: Encoder,
    *,
    store: FeatureStore | None = None,
    views: int = 1,
    random_state: int = 0,
    batch_size: int = BATCH,
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
            known = _from_store(store, encoder, [keys[i] for i in wanted], views, random_state)
            missing = [i for i in wanted if keys[i] not in known]
            fresh, failed = _encode(encoder, {i: sources[i] for i in missing}, keys, views, random_state)
            _to_store(store, encoder, {keys[i]: fresh[i] for i in fresh}, views, random_state)
            errors |= failed
            rows |= {i: known[keys[i]] for i in wanted if keys[i] in known} | fresh
            n_encoded += len(fresh)
            bar.update(len(part))
    order = sorted(rows)
    features = np.concatenate([rows[i] for i in order]) if order else np.empty((0, encoder.dim), np.float32)
    images = np.repeat(np.array(order, dtype=np.int64), views)
    return EncodedImages(features, images, keys, dict(sorted(errors.items())), n_encoded)


def readable(data: LabelledSources) -> LabelledSources:
    """The images that decode, with a warning that counts the others."""
    with ThreadPoolExecutor(thread_name_prefix="fewclip-read") as pool:
        errors = list(pool.map(_decode_error, data.sources))
    bad = [error for error in errors if error]
    if bad:
        warnings.warn(f"{len(bad)} images cannot be read and are left out, the first: {bad[0]}", stacklevel=2)
    return data.take(i for i, error in enumerate(errors) if error is None)


def encode_prompts(encoder: Encoder, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Features of the prompts of each class, c arrays (p, d)."""
    features = encoder.encode_texts([text for texts in sentences for text in texts])
    return np.split(features, np.cumsum([len(texts) for texts in sentences])[:-1])


@contextmanager
def _bar(progress: bool | tqdm, total: int) -> Iterator[tqdm]:
    if isinstance(progress, tqdm):
        yield progress
        return
    with tqdm(total=total, desc="encode", unit="image", disable=not progress, delay=0.5) as bar:
        yield bar


def _key_or_error(source: Source) -> str | ImageError:
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
    encoder: Encoder, sources: dict[int, Source], keys: list[str], views: int, random_state: int
) -> tuple[dict[int, np.ndarray], dict[int, ImageError]]:
    """Features (views, d) by source, and the errors of those that do not decode."""
    if not sources:
        return {}, {}
    try:
        return _encode_views(encoder, sources, keys, views, random_state), {}
    except ImageError:
        # At least one does not decode. Find out which, and encode the others.
        errors = {i: error for i, source in sources.items() if (error := _decode_error(source))}
        if not errors:
            raise
        good = {i: source for i, source in sources.items() if i not in errors}
        return (_encode_views(encoder, good, keys, views, random_state) if good else {}), errors


def _encode_views(
    encoder: Encoder, sources: dict[int, Source], keys: list[str], views: int, random_state: int
) -> dict[int, np.ndarray]:
    images = list(sources.values()) if views == 1 else list(_views(sources, keys, views, random_state))
    features = np.asarray(encoder.encode_images(images), dtype=np.float32)
    if features.shape != (len(images), encoder.dim):
        raise EncoderError(
            f"encoder {encoder.name!r}",
            expected=f"features of shape ({len(images)}, {encoder.dim})",
            got=f"{features.shape}",
            fix="This is a fault of the encoder: its encode_images must give one row an image.",
        )
    return dict(zip(sources, features.reshape(len(sources), views, -1), strict=True))


def _views(
    sources: dict[int, Source], keys: list[str], views: int, random_state: int
) -> Iterator[Image.Image]:
    for i, source in sources.items():
        image = load_image(source)
        for view in range(views):
            yield random_view(image, seed=view_seed(keys[i], view, random_state))


def _decode_error(source: Source) -> ImageError | None:
    try:
        load_image(source)
    except ImageError as error:
        return error
    return None
