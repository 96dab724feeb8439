"""Checks of arrays at the boundary: what a user passes becomes clean NumPy, or one error that says why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from fewclip.errors import FeatureError, LabelError


def as_numpy(array: Any) -> Any:
    """A torch tensor as a NumPy array; anything else as it is."""
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array


@overload
def check_features(estimator: BaseEstimator, X: Any, *, reset: bool) -> np.ndarray: ...
@overload
def check_features(
    estimator: BaseEstimator, X: Any, y: Any, *, reset: bool
) -> tuple[np.ndarray, np.ndarray]: ...
def check_features(estimator: BaseEstimator, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
    """Features (n, d) as finite float32 without zero rows, and the labels beside them if given.

    Raises:
        FeatureError: With scikit-learn's own words for what is wrong.
    """
    try:
        checked: Any = validate_data(estimator, X, y, reset=reset, dtype=[np.float32, np.float64])
        if not isinstance(y, str):
            _check_targets(checked[1])
    except ValueError as error:
        raise FeatureError(
            f"{type(estimator).__name__} input",
            expected="features (n, d), finite numbers, with one label a row where labels are given",
            got=f"this: {error}",
            fix="Check where the features come from.",
        ) from error
    # Encoders give floating-point features. Integers come from scikit-learn's own checks, which hold that a
    # zero row of them is data; it gets the logits 0.
    if np.asarray(X).dtype.kind == "f":
        check_rows(checked if isinstance(y, str) else checked[0], "X")
    return checked


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
    row = np.atleast_2d(np.asarray(prompts, dtype=np.float32))
    if row.ndim != 2 or row.shape[1] != n_features or not len(row):
        raise FeatureError(
            f"text_features row {index}",
            expected=f"{n_features} channels, as X has",
            got=f"shape {np.shape(prompts)}",
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
    mean = (row / np.linalg.norm(row, axis=1, keepdims=True)).mean(0)
    check_rows(mean[None], f"text_features row {index}, mean of prompts:")
    return mean


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
    if text_features is not None and len(text_features) != len(known):
        raise LabelError(
            "text_features",
            expected=f"one row for each of the {len(known)} classes",
            got=f"{len(text_features)} rows",
            fix="Pass classes=, the label of each row, if some classes have no labelled image.",
        )
    strange = np.setdiff1d(y, known)
    if len(strange):
        raise LabelError(
            f"label {strange[0].item()!r} in y",
            expected="one of classes=",
            got=f"{len(strange)} labels outside it",
            fix="Add them to classes= with their text features, or remove their rows.",
        )
    return known, np.searchsorted(known, y)
