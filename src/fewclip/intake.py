"""What a classifier takes in: its method, its encoder, labelled images that are checked, and their text."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.base import clone

from fewclip.adapter import Adapter
from fewclip.data import (
    FeatureStore,
    LabelledSources,
    Names,
    Prompts,
    build_prompts,
    display_path,
    warn_of_names,
)
from fewclip.encoders import load_encoder, opens_by_name
from fewclip.encoders.base import Encoder, TokenEncoder
from fewclip.encoders.features import EncodedImages, require_readable
from fewclip.encoders.ready import NAME as READY
from fewclip.encoders.ready import ReadyEncoder
from fewclip.encoders.text_features import encode_prompts
from fewclip.errors import DataError, EncoderError, ParameterError
from fewclip.evaluation import Evaluation
from fewclip.methods import METHODS, FewShotMethod

_SHOWN = 3  # names in a warning

# ---- method ----


def new_method(
    method: str | FewShotMethod,
    *,
    selection: str,
    calibration: str,
    device: str,
    random_state: int | None,
    verbose: bool,
) -> FewShotMethod:
    """An unfitted method: a copy of the object, or one made by name with the classifier's settings.

    Raises:
        ParameterError: No method of that name.
    """
    if isinstance(method, FewShotMethod):
        return cast(FewShotMethod, clone(method))
    if method in METHODS:
        made = METHODS[method](selection=selection, device=device)
        made.calibration, made.random_state = calibration, random_state
        if "verbose" in made.get_params():
            made.set_params(verbose=verbose)
        return made
    raise ParameterError(
        "method",
        expected=f"one of {', '.join(METHODS)}, or a method object",
        got=repr(method),
        fix="`fewclip list` describes them.",
    )


def with_tokens(method: FewShotMethod | type[FewShotMethod], encoder: Encoder) -> bool:
    """Whether images are encoded with spatial tokens: the method uses them and the encoder has them."""
    return method.uses_tokens and isinstance(encoder, TokenEncoder)


# ---- encoder ----


def encoder_of(data: LabelledSources, encoder: str | Encoder) -> Encoder:
    """The encoder; for ready features the one that made them, or a stand-in that knows their space."""
    if data.ready is None:
        return load_encoder(encoder)
    ready, default = data.ready, isinstance(encoder, str) and encoder == "pocket"
    if not default or opens_by_name(ready.encoder):
        return load_encoder(ready.encoder if default else encoder)
    scale = 100.0 if ready.logit_scale is None else ready.logit_scale
    return ReadyEncoder(ready.features.shape[1], logit_scale=scale, fingerprint=ready.fingerprint)


def encoder_of_adapter(adapter: Adapter, encoder: str | Encoder | None, folder: str | Path) -> Encoder:
    """The encoder that an adapter was fitted with, opened by its name unless it is given.

    Raises:
        EncoderError: It does not open by name, or is not the one that the adapter was fitted with.
    """
    if encoder is None and adapter.encoder_name == READY:
        method = adapter.method
        encoder = ReadyEncoder(
            method.n_features_in_, logit_scale=method.logit_scale, fingerprint=adapter.fingerprint
        )
    if encoder is None and not opens_by_name(adapter.encoder_name):
        raise EncoderError(
            display_path(folder),
            expected="an encoder that opens by name",
            got=f"an adapter of the encoder object {adapter.encoder_name!r}",
            fix="Pass encoder=, the object that it was fitted with, or its --encoder module:callable.",
        )
    opened = load_encoder(adapter.encoder_name if encoder is None else encoder)
    if opened.fingerprint != adapter.fingerprint:
        raise EncoderError(
            display_path(folder),
            expected=f"the encoder it was fitted with, {adapter.encoder_name} ({adapter.fingerprint})",
            got=f"{opened.name} ({opened.fingerprint})",
            fix="Install the version of the encoder that it was fitted with, or fit again.",
        )
    return opened


# ---- text ----


def text_of(
    data: LabelledSources,
    encoder: Encoder,
    *,
    templates: str | Sequence[str] | None,
    prompts: Prompts | None,
    called: Names | None,
    store: FeatureStore | None = None,
) -> tuple[Any, list[list[str]]]:
    """Text features of the classes, c arrays, and the sentences; None where class means stand in."""
    given = None if data.ready is None else data.ready.text_by_class()
    if given is not None or isinstance(encoder, ReadyEncoder):
        return given, [[] for _ in data.classes]
    called = {**data.called, **(called or {})}
    sentences = build_prompts(data.classes, templates=templates, prompts=prompts, called=called)
    warn_of_names(data.classes, sentences, called, multilingual=getattr(encoder, "multilingual", False))
    return encode_prompts(encoder, sentences, store=store), sentences


# ---- labelled images ----


def warn_of_twins(data: LabelledSources, encoded: EncodedImages) -> None:
    """One image under two labels is a mistake that no method can mend."""
    first: dict[str, int] = {}
    pairs = []
    for i, key in enumerate(encoded.keys):
        other = first.setdefault(key, i) if key else i
        if data.labels[other] != data.labels[i]:
            pairs.append(f"{data.names[other]} ({data.labels[other]}) and {data.names[i]} ({data.labels[i]})")
    if pairs:
        more = f"; and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        warnings.warn(f"the same image has two labels: {'; '.join(pairs[:_SHOWN])}{more}", stacklevel=3)


def rows_not_in(known: Sequence[str], encoded: EncodedImages, data: LabelledSources) -> np.ndarray:
    """Which rows of the validation images are no training images; the others are named and left out.

    Settings chosen on images that the classifier learnt from would trust them too much.

    Args:
        known: sha256 of the training images.
        encoded: The validation images.
        data: The same, with their names.

    Returns:
        Indices of rows of ``encoded``.

    Raises:
        DataError: None is left.
    """
    seen = set(known) - {""}
    twice = [i for i, key in enumerate(encoded.keys) if key in seen]
    if len(twice) == len(encoded.keys):
        raise DataError(
            data.origin,
            expected="validation images that are not among the training images",
            got=f"{len(twice)} of them and no others",
            fix="Give other images, or none: settings are then chosen by leave-one-out.",
        )
    if twice:
        names = ", ".join(data.names[i] for i in twice[:_SHOWN]) + (", …" if len(twice) > _SHOWN else "")
        warnings.warn(
            f"{len(twice)} of {len(encoded.keys)} validation images are training images and are left out: "
            f"{names}",
            stacklevel=3,
        )
    return np.flatnonzero(~np.isin(encoded.images, twice))


def measure(
    chunks: Iterable[tuple[EncodedImages, np.ndarray]],
    data: LabelledSources,
    classes: np.ndarray,
    *,
    seen: set[str],
    skip_unreadable: bool,
) -> Evaluation:
    """The evaluation of classified images, without those that the classifier was fitted on.

    Args:
        chunks: Some images at a time, in order: what the encoder made of them, and probabilities before
            and after calibration, (r, 2, c).
        data: The images with their labels.
        classes: The labels of the columns, (c,).
        seen: sha256 of the images that the classifier was fitted on.
        skip_unreadable: Leave out images that cannot be read instead of raising.

    Raises:
        ImageError: An image cannot be read.
        DataError: No images but those that it was fitted on.
    """
    keys: list[str] = []
    images_read, parts, errors = [], [], {}
    for encoded, probabilities in chunks:
        images_read.append(encoded.images + len(keys))
        parts.append(probabilities)
        errors |= {i + len(keys): error for i, error in encoded.errors.items()}
        keys += encoded.keys
    require_readable(errors, len(keys), data.origin, skip_unreadable=skip_unreadable)
    read, probabilities = np.concatenate(images_read), np.concatenate(parts)
    unseen = np.array([keys[i] not in seen for i in read])
    if not unseen.any():
        raise DataError(
            data.origin,
            expected="images that the classifier was not fitted on",
            got=f"{len(read)} that it was fitted on",
            fix="Measure on other images; fit already printed a leave-one-out estimate for these.",
        )
    if not unseen.all():
        warnings.warn(
            f"{(~unseen).sum()} of {len(read)} images were used to fit the "
            f"classifier and are left out; measured on the other {unseen.sum()}.",
            stacklevel=3,
        )
    return Evaluation.from_predictions(
        np.array(data.labels)[read[unseen]],
        probabilities[unseen, 1],
        classes,
        bare=probabilities[unseen, 0],
        names=[data.names[i] for i in read[unseen]],
    )
