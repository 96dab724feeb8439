"""Checks of arrays at the boundary: what a user passes becomes clean NumPy, or one error that says why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from fewclip.errors import FeatureError, LabelError, ParameterError


def as_numpy(array: Any) -> Any:
    """A torch tensor as a NumPy array; anything else as it is."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        return (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    return array


_SAFE_NORMS = 1e-12, 1e12


def check_features(estimator: BaseEstimator, X: Any, *, reset: bool, name: str = "X") -> np.ndarray:
    """Features (n, d) as finite float32 or float64 without zero rows.

    Raises:
        FeatureError: With scikit-learn's own words for what is wrong.
    """
    if getattr(X, "ndim", 2) == 3:
        raise FeatureError(
            f"{name} of {type(estimator).__name__}",
            expected="features (n, d)",
            got=f"shape {tuple(X.shape)}",
            fix="Pass X[:, 0], the features without spatial tokens; calip alone takes tokens.",
        )
    try:
        checked: Any = validate_data(estimator, X, reset=reset, dtype=[np.float32, np.float64])
    except ValueError as error:
        raise FeatureError(
            f"{name} of {type(estimator).__name__}",
            expected="features (n, d), finite numbers",
            got=f"this: {str(error).rstrip('.')}",
            fix="Check where the features come from.",
        ) from error
    # Encoders give floating-point features. Integers come from scikit-learn's own checks, which hold that a
    # zero row of them is data; it gets the logits 0.
    if np.asarray(X).dtype.kind == "f":
        check_rows(checked, name)
    return checked


def check_labels(estimator: BaseEstimator, X: np.ndarray, y: Any, *, name: str = "y") -> np.ndarray:
    """Labels (n,), one for each row of ``X``.

    Raises:
        LabelError: With scikit-learn's own words for what is wrong.
    """
    try:
        rows: Any = X
        labels: Any = validate_data(estimator, rows, y, reset=False, dtype=None)[1]
        _check_targets(labels)
    except ValueError as error:
        raise LabelError(
            f"{name} of {type(estimator).__name__}",
            expected=f"one class label for each of the {len(X)} rows",
            got=f"this: {error}",
            fix="Check that labels and features belong together.",
        ) from error
    return labels


def _check_targets(y: np.ndarray) -> None:
    with warnings.catch_warnings():
        # One image a class is what this library is for, not a sign of regression.
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        check_classification_targets(y)


def check_rows(features: np.ndarray, name: str) -> None:
    """Raises FeatureError for a zero row, which has no direction."""
    zero = np.flatnonzero(~features.any(axis=1))
    if len(zero):
        raise FeatureError(
            f"{name} row {zero[0]}",
            expected="a feature vector with a direction",
            got=f"all zeros ({len(zero)} such rows)",
            fix="Encode the image again; a zero feature usually marks one that failed.",
        )


def count_text_rows(text_features: Any) -> int:
    """Number of classes that the text features speak of.

    Raises:
        FeatureError: They are no sequence of rows.
    """
    try:
        return len(text_features)
    except TypeError:
        raise FeatureError(
            "text_features",
            expected="one row a class, (c, d)",
            got=repr(text_features),
            fix="Pass text features, or None to use class means.",
        ) from None


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows of norm 1 as float32, at any scale; a zero row stays zero. Always a fresh, writable array.

    The last axis is that of channels.
    """
    if features.dtype == np.float32:
        norm = np.sqrt(np.einsum("...i,...i->...", features, features))
        if ((norm > _SAFE_NORMS[0]) & (norm < _SAFE_NORMS[1])).all():  # squares neither vanish nor overflow
            return np.ascontiguousarray(features / norm[..., None])
    largest = np.abs(features).max(axis=-1, keepdims=True, initial=0)
    scaled = (features / np.where(largest > 0, largest, 1)).astype(np.float32)
    norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return np.ascontiguousarray(scaled / np.where(norm > 0, norm, 1))


def check_text_features(text_features: Any, n_features: int) -> np.ndarray:
    """Text features as finite float32 rows, (c, d): several prompts of a class become their unit mean.

    Raises:
        FeatureError: A wrong shape or dimension, NaN, or a zero row.
    """
    rows = [_one_row(as_numpy(row), index, n_features) for index, row in enumerate(text_features)]
    if not rows:
        raise FeatureError(
            "text_features",
            expected=f"one row a class, (c, {n_features})",
            got="none",
            fix="Pass text features, or None to use class means.",
        )
    return np.stack(rows)


def _one_row(prompts: Any, index: int, n_features: int) -> np.ndarray:
    try:
        row = np.atleast_2d(np.asarray(prompts, dtype=np.float64))
    except (TypeError, ValueError):
        row = np.empty((0, 0))
    if row.ndim != 2 or row.shape[1] != n_features or not len(row):
        raise FeatureError(
            f"text_features row {index}",
            expected=f"{n_features} channels, as X has",
            got=f"shape {np.shape(prompts)}"
            if row.size
            else f"{type(prompts).__name__} {str(prompts)[:40]!r}",
            fix="Encode texts and images with the same encoder.",
        )
    if not np.isfinite(row).all():
        raise FeatureError(
            f"text_features row {index}",
            expected="finite numbers",
            got="NaN or infinity",
            fix="Encode the texts again.",
        )
    check_rows(row, f"text_features row {index}, prompt")
    if len(row) == 1:
        return row[0]
    mean = unit_rows(row).mean(0)
    check_rows(mean[None], f"text_features row {index}, mean of prompts:")
    return mean


def check_criterion_weights(estimator: Any) -> None:
    """Raises ParameterError unless ``criterion_weights`` is two finite numbers ≥ 0."""
    weights = estimator.criterion_weights
    try:
        good = len(weights) == 2 and all(0 <= float(w) < float("inf") for w in weights)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ParameterError(
            f"The 'criterion_weights' parameter of {type(estimator).__name__}",
            expected="two numbers ≥ 0, (similarity, variance)",
            got=repr(weights),
            fix="The paper has (0.7, 0.3) for APE and (0.2, 0.8) for APE-T.",
        )


def encode_labels(
    classes: np.ndarray | None, text_features: Sequence[Any] | Any | None, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(sorted classes, class index of every label).

    Raises:
        LabelError: Duplicate classes, labels outside ``classes``, or another number of text rows.
    """
    known = np.unique(y if classes is None else classes)
    if classes is not None and len(known) != len(classes):
        raise LabelError(
            "classes",
            expected="every label once",
            got=f"{len(classes)} labels, {len(known)} of them distinct",
            fix="Remove the duplicates, and their rows of text_features.",
        )
    if text_features is not None and count_text_rows(text_features) != len(known):
        raise LabelError(
            "text_features",
            expected=f"one row for each of the {len(known)} classes",
            got=f"{len(text_features)} rows",
            fix="Pass classes=, the label of each row, if some classes have no labelled image.",
        )
    strange = np.setdiff1d(y, known)
    if len(strange):
        raise LabelError(
            f"label {strange.tolist()[0]!r} in y",
            expected="one of classes=",
            got=f"{len(strange)} labels outside it",
            fix="Add them to classes= with their text features, or remove their rows.",
        )
    return known, np.searchsorted(known, y)
