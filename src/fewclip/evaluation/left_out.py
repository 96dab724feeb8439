"""What a method says about its own labelled images when they are left out, and how it gets on with fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sklearn.base import clone
from tqdm import tqdm

from fewclip.errors import DataError
from fewclip.evaluation._text import percent
from fewclip.methods import FewShotMethod
from fewclip.selection import wilson_interval

N_FOLDS = 4
_KEPT = ("beta", "gamma", "n_channels", "ridge", "text_scatter", "penalty")  # settings


@dataclass(frozen=True)
class LearningPoint:
    """Accuracy on left-out images with so many others a class.

    Attributes:
        shots: Labelled images a class at most.
        accuracy: Mean over the classes, 0–1.
        low, high: 95 % interval, from the number of images alone.
    """

    shots: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """How accuracy grows with shots, and how it may go on.

    Attributes:
        points: By shots.
        n_images: Labelled images that were left out in turn.
        forecast: (shots, accuracy) at more shots, if the error goes on falling by the same power of the
            shots; () where it does not fall.
    """

    points: tuple[LearningPoint, ...]
    n_images: int
    forecast: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        lines = [f"{self.n_images} labelled images, left out in turn:"]
        lines += [
            f"  {point.shots:>4} shots  {percent(point.accuracy)}  "
            f"(95 % interval {100 * point.low:.1f} to {percent(point.high)})"
            for point in self.points
        ]
        lines += [
            f"  {shots:>4} shots  about {100 * value:.0f} % (a guess)" for shots, value in self.forecast
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return {
            "points": [vars(point) for point in self.points],
            "images": self.n_images,
            "forecast": [list(entry) for entry in self.forecast],
        }


@dataclass(frozen=True, eq=False)
class LeftOutStudy:
    """A method on its own labelled images.

    Attributes:
        curve: Accuracy over the number of shots.
        probabilities: Of the labelled images by fits on all others, (m, c); rows of a class's only image are
            NaN.
    """

    curve: LearningCurve
    probabilities: np.ndarray


def study_left_out(method: FewShotMethod, *, n_folds: int = N_FOLDS, progress: bool = False) -> LeftOutStudy:
    """Fits the method anew on 1, 2, 4, … images a class and asks it about others of its own.

    Every fold of the labelled images is left out in turn; the others are added class by class. The weight of
    the images is chosen anew on what remains; other settings stay, see ``refit``.

    Args:
        method: A fitted method.
        n_folds: At most; a class of fewer images leaves one out at a time.
        progress: Show a bar on stderr.

    Raises:
        DataError: No class has two images.
    """
    labels = method.support_labels_.cpu().numpy()
    places, folds = _places(labels, n_folds)
    several = np.bincount(labels)[labels] > 1
    if not several.any():
        raise DataError(
            "the labelled images",
            expected="a class with two, one to learn from and one to ask about",
            got="one a class",
            fix="Add images; with one a class only other images can tell how good it is.",
        )
    folds = np.where(several, folds, -1)  # a class's only image is never left out
    most = max(
        int(((labels == c) & (folds != f)).sum()) for c in set(labels[several]) for f in set(folds) - {-1}
    )
    sizes = sorted({2**e for e in range(most.bit_length())} | {most})
    right = np.zeros((len(sizes), len(labels)))
    probabilities = np.full((len(labels), len(method.classes_)), np.nan)
    fits = [(f, row) for f in sorted(set(folds) - {-1}) for row in range(len(sizes))]
    for f, row in tqdm(fits, desc="leave out", unit="fit", disable=not progress, delay=0.5):
        asked, pool = folds == f, np.flatnonzero(folds != f)
        order = pool[np.argsort(places[pool], kind="stable")]
        seen = [order[labels[order] == c][: sizes[row]] for c in np.unique(labels)]
        fitted = refit(method, np.sort(np.concatenate(seen)))
        probabilities[asked] = _columns(fitted, method, asked)  # the last fit has all that remains
        right[row, asked] = probabilities[asked].argmax(1) == labels[asked]
    return LeftOutStudy(_curve(sizes, right[:, several], labels[several]), probabilities)


def refit(method: FewShotMethod, rows: np.ndarray) -> FewShotMethod:
    """The method fitted anew on some of its labelled images, rows of ``support_features_``.

    The weight of the images is chosen anew. What is slow to choose and hardly depends on single images
    stays: sharpness β, γ, the number of channels, how strongly a head is pulled, and which methods are
    averaged.
    """
    fresh = cast(FewShotMethod, clone(method))
    fresh.set_params(**method.chosen_parameters(_KEPT))
    if "verbose" in fresh.get_params(deep=False):
        fresh.set_params(verbose=False)
    if fresh.selection in ("full", "fewshot"):  # there are no validation images here
        fresh.set_params(selection="auto")
    labels = method.classes_[method.support_labels_.cpu().numpy()[rows]]
    if fresh.text_features is not None and fresh.classes is None:
        fresh.set_params(classes=method.classes_)
    return fresh.fit(method.support_features_.cpu().numpy()[rows], labels)


def _columns(fitted: FewShotMethod, method: FewShotMethod, asked: np.ndarray) -> np.ndarray:
    """Probabilities of some labelled images, in the columns of ``method``."""
    found = fitted.predict_proba(method.support_features_.cpu().numpy()[asked])
    out = np.zeros((len(found), len(method.classes_)))
    out[:, np.searchsorted(method.classes_, fitted.classes_)] = found
    return out


def _places(labels: np.ndarray, n_folds: int) -> tuple[np.ndarray, np.ndarray]:
    """The place of each image among those of its class, and its fold."""
    places = np.zeros(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        rows = np.flatnonzero(labels == c)
        places[rows] = np.arange(len(rows))
    return places, places % min(n_folds, max(2, int(places.max()) + 1))


def _curve(sizes: Sequence[int], right: np.ndarray, labels: np.ndarray) -> LearningCurve:
    weights = 1 / np.bincount(labels)[labels]
    weights /= weights.sum()
    n_effective = round(1 / float((weights**2).sum()))
    points = []
    for shots, row in zip(sizes, right, strict=True):
        accuracy = float(row @ weights)
        points.append(LearningPoint(shots, accuracy, *wilson_interval(accuracy, n_effective)))
    return LearningCurve(tuple(points), len(labels), forecast(points))


def forecast(points: Sequence[LearningPoint]) -> tuple[tuple[int, float], ...]:
    """Accuracy at twice and four times the largest number of shots, if error = b·shots^(−c) goes on.

    c by least squares on logarithms; from the last point on, so that the guess joins the curve.

    Reference: Hestness et al. 2017, arXiv:1712.00409, section 2.
    """
    errors = np.array([1 - point.accuracy for point in points])
    if len(points) < 2 or errors.min() <= 0:
        return ()
    x, y = np.log([point.shots for point in points]), np.log(errors)
    slope = float(np.polyfit(x, y, 1)[0])
    if slope >= 0:
        return ()
    last = points[-1].shots
    return tuple((f * last, float(1 - errors[-1] * f**slope)) for f in (2, 4))
