"""Rules that find what deserves a second look among labelled images: arrays in, places out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from fewclip.explanation.support import SupportImage

_GRID = 16  # pixels a side of the pictures that are compared
_SAME_PICTURE = 0.9  # correlation of these
_CLOSE = 0.25  # of the usual distance to the nearest image of the class
_FAR_BEHIND = 5  # classes that are more probable than the label
_STRANGE = 3.5  # robust standard deviations; Iglewicz & Hoaglin 1993
_COMPANIONS = 3  # images of a class from which on one of them can stand out


class ClassRecord(NamedTuple):
    """How the images of a class fare when they are left out.

    Attributes:
        n: Images that were left out.
        right: How many of them got their class.
        taken_for: The class that the others got most often; None if all are right.
    """

    n: int
    right: int
    taken_for: int | None


def suspicious(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Rows whose label is probably wrong, the likeliest first.

    An image is suspicious if another class is at least as probable as it is for the images labelled so on
    the average (confident learning), and the label is not even among the next best classes.

    Args:
        probabilities: By fits that have not seen the image, (m, c); NaN where there is none.
        labels: Class index of each image, (m,).

    Reference: Northcutt et al. 2021, Confident learning, arXiv:1911.00068, equation 2; the second condition
    is ours: of 16 swapped labels among 324 groceries, 9 were among 20 suspects with it, 10 among 49 without.
    """
    judged = np.flatnonzero(np.isfinite(probabilities).all(1))
    if not len(judged):
        return []
    p, y, c = probabilities[judged], labels[judged], probabilities.shape[1]
    own, best, top = p[np.arange(len(y)), y], p.argmax(1), p.max(1)
    confidence = np.array([p[y == k, k].mean() if (y == k).any() else 1.0 for k in range(c)])
    behind = (p > own[:, None]).sum(1)
    flagged = (best != y) & (top >= confidence[best]) & (behind >= max(1, min(_FAR_BEHIND, c // 4)))
    ratio = np.log(top) - np.log(np.maximum(own, 1e-12))
    return judged[flagged][np.argsort(-ratio[flagged], kind="stable")].tolist()


def near_duplicates(
    features: np.ndarray, labels: np.ndarray, support: Sequence[SupportImage]
) -> list[tuple[int, int]]:
    """Pairs of images that are one file, or look the same to the eye or to the encoder.

    To the eye: grey pictures of 16×16 pixels correlate by 0.9. To the encoder: their distance 1 − cosine is
    below a quarter of the usual one between an image and the nearest of its class.
    """
    cosines = features @ features.T
    np.fill_diagonal(cosines, -1)
    nearest = np.where(labels[:, None] == labels, cosines, -1).max(1)
    several = np.bincount(labels)[labels] > 1
    usual = float(np.median(1 - nearest[several])) if several.any() else 0.0
    keys = np.array([image.sha256 or str(i) for i, image in enumerate(support)])
    alike = (1 - cosines < _CLOSE * usual) | (_correlations(support) > _SAME_PICTURE)
    pairs = np.nonzero(np.triu(alike | (keys[:, None] == keys), 1))
    return [(int(i), int(j)) for i, j in zip(*pairs, strict=True)]


def _correlations(support: Sequence[SupportImage]) -> np.ndarray:
    """Of small grey pictures, (m, m); 0 where there is no picture, or nothing on it."""
    rows = np.zeros((len(support), _GRID * _GRID))
    for row, image in zip(rows, support, strict=True):
        if image.thumbnail:
            small = image.image().convert("L").resize((_GRID, _GRID), Image.Resampling.BOX)
            row[:] = np.asarray(small, dtype=np.float64).ravel()
    rows -= rows.mean(1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(norms > _GRID, rows / np.maximum(norms, 1e-12), 0)  # a deviation of one grey level
    return rows @ rows.T


def outliers(features: np.ndarray, labels: np.ndarray) -> list[int]:
    """Images that are less like the others of their class than images are, the strangest first.

    An image's mean distance 1 − cosine to the others of its class, as a multiple of the median of its class,
    lies above those of all images by 3.5 robust standard deviations of logarithms (by the median absolute
    deviation). Classes of fewer than three images are not judged.

    Args:
        features: Unit-norm features, (m, d).
        labels: Class index of each, (m,).

    Reference: Iglewicz & Hoaglin 1993, How to detect and handle outliers, section 3.3.
    """
    gaps = np.full(len(labels), np.nan)
    for c in np.flatnonzero(np.bincount(labels) >= _COMPANIONS):
        rows = np.flatnonzero(labels == c)
        cosines = features[rows] @ features[rows].T
        distances = np.log(np.maximum((len(rows) - cosines.sum(1)) / (len(rows) - 1), 1e-6))
        gaps[rows] = distances - np.median(distances)
    judged = np.flatnonzero(np.isfinite(gaps))
    if not len(judged):
        return []
    spread = 1.4826 * float(np.median(np.abs(gaps[judged] - np.median(gaps[judged]))))
    strange = judged[gaps[judged] > _STRANGE * max(spread, 1e-6)]
    return strange[np.argsort(-gaps[strange], kind="stable")].tolist()


def class_records(guesses: np.ndarray, labels: np.ndarray, n_classes: int) -> list[ClassRecord]:
    """One for each class.

    Args:
        guesses: Class index that each image got, (m,); −1 where there is none.
        labels: Class index of each image, (m,).
        n_classes: c.
    """
    records = []
    for c in range(n_classes):
        got = guesses[(labels == c) & (guesses >= 0)]
        wrong = np.bincount(got[got != c], minlength=1)
        taken_for = int(wrong.argmax()) if wrong.any() else None
        records.append(ClassRecord(len(got), int((got == c).sum()), taken_for))
    return records


def misnamed(by_text: Sequence[ClassRecord], by_images: Sequence[ClassRecord]) -> list[int]:
    """Classes whose images the text takes for others, while other images know them; the worst first.

    The text is right on at least two images fewer, and on at least half of the images fewer.
    """
    gaps = {
        c: images.right - text.right
        for c, (text, images) in enumerate(zip(by_text, by_images, strict=True))
        if images.right - text.right >= max(2, images.n / 2)
    }
    return sorted(gaps, key=lambda c: (-gaps[c] / by_images[c].n, c))


def needy(records: Sequence[ClassRecord]) -> list[int]:
    """Classes that more images would help most: those that are worse than the mean, the worst first.

    The share that is wrong is drawn towards that of all classes by two images: one of one says little.
    """
    n, right = (sum(values) for values in zip(*((r.n, r.right) for r in records), strict=True))
    if not n:
        return []
    mean = 1 - right / n
    wrong = {c: (r.n - r.right + 2 * mean) / (r.n + 2) for c, r in enumerate(records) if r.n}
    return sorted((c for c in wrong if wrong[c] > mean + 1e-9), key=lambda c: (-wrong[c], c))
