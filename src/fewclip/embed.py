"""Features of many images as a file: computed once, used by every command and by other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from fewclip.data import FeatureStore, display_path, find_images, labelled_sources
from fewclip.data._files import written_aside
from fewclip.data._parquet import load_pyarrow
from fewclip.encoders import load_encoder
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import encode_sources
from fewclip.errors import DataError, ParameterError

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes:
        n_images: Rows with features.
        n_encoded: Of them, those that the encoder had to see; the others came from the store.
        errors: (name, what is wrong) of images without features; they are rows of the file as well.
    """

    n_images: int
    n_encoded: int
    errors: tuple[tuple[str, str], ...]


def embed(
    images: str | Path,
    target: str | Path,
    *,
    encoder: str | Encoder = "pocket",
    store: FeatureStore | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Embedded:
    """Writes the features of a labelled folder, a table, or plain images.

    ``.npz`` holds features (n, d), paths, labels if there are any, failed and errors (the images that cannot
    be read and why), encoder, fingerprint and logit_scale; ``.parquet`` one row an image, in order, with
    path, label, features and error. Both are read by every command. The store remembers each batch: an
    interrupted run goes on where it was.

    Args:
        images: A folder of class folders or a table (then with labels); else a folder or glob of images.
        target: A .npz or .parquet file.
        encoder: A name or an encoder.
        store: Where features are kept between runs; None: the user's cache folder.
        batch_size: Images handed to the encoder at once.
        progress: Show a bar on stderr.

    Raises:
        ParameterError: Another suffix.
        DataError: No images, or the file cannot be written.
    """
    target = Path(target)
    check_target(target)
    sources, names, labels = _sources(images)
    opened = load_encoder(encoder)
    encoded = encode_sources(
        sources, opened, store=store or FeatureStore(), batch_size=batch_size, progress=progress
    )
    errors = {i: str(error) for i, error in encoded.errors.items()}
    facts = {
        "encoder": opened.name, "fingerprint": opened.fingerprint, "logit_scale": str(opened.logit_scale)
    }  # fmt: skip
    write = _npz if target.suffix.lower() == ".npz" else _parquet
    with written_aside(target) as file:
        write(file, encoded.features, encoded.images, names, labels, errors, facts)
    failed = tuple((names[i], error) for i, error in errors.items())
    return Embedded(len(encoded.features), encoded.n_encoded, failed)


def check_target(target: Path) -> None:
    """Raises ParameterError unless the suffix names a format, before hours of work."""
    if target.suffix.lower() not in SUFFIXES:
        raise ParameterError(
            f"--output {display_path(target)}",
            expected=f"a name that ends in {' or '.join(SUFFIXES)}",
            got=target.suffix or "no suffix",
            fix="Give the file one of these suffixes.",
        )
    if target.suffix.lower() == ".parquet":
        load_pyarrow()


def _sources(images: str | Path) -> tuple[Sequence[Any], Sequence[str], Sequence[Any] | None]:
    """Images, names, and labels where the folder or table has them."""
    try:
        data = labelled_sources(images, None)
    except DataError:
        if not Path(images).exists() and not set(str(images)) & set("*?["):
            raise
        found = find_images([images])  # raises with its own words if there is nothing at all
        return [image.path for image in found], [image.name for image in found], None
    return data.sources, data.names, data.labels


def _npz(
    file: IO[bytes],
    features: np.ndarray,
    images: np.ndarray,
    names: Sequence[str],
    labels: Any,
    errors: Any,
    facts: Any,
) -> None:
    arrays: dict[str, np.ndarray] = {
        "features": features,
        "paths": np.array([names[i] for i in images], dtype=str),
        "failed": np.array([names[i] for i in errors], dtype=str),
        "errors": np.array(list(errors.values()), dtype=str),
        **{name: np.array(value) for name, value in facts.items()},
    }
    arrays["logit_scale"] = np.array(float(facts["logit_scale"]))
    if labels is not None:
        arrays["labels"] = np.array([labels[i] for i in images])
    np.savez(file, allow_pickle=False, **arrays)


def _parquet(
    file: IO[bytes],
    features: np.ndarray,
    images: np.ndarray,
    names: Sequence[str],
    labels: Any,
    errors: Any,
    facts: Any,
) -> None:
    arrow, parquet = load_pyarrow()
    rows = dict(zip(images.tolist(), features, strict=True))
    columns = {
        "path": arrow.array(list(names), arrow.string()),
        "features": arrow.array(
            [rows[i].tolist() if i in rows else None for i in range(len(names))], arrow.list_(arrow.float32())
        ),
        "error": arrow.array([errors.get(i) for i in range(len(names))], arrow.string()),
    }
    if labels is not None:
        columns["label"] = arrow.array([str(label) for label in labels], arrow.string())
    parquet.write_table(arrow.table(columns).replace_schema_metadata(facts), file)
