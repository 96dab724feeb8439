"""Labelled images that deserve a second look: wrong labels, and the same picture twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fewclip.data._display import escape
from fewclip.explanation.support import SupportImage

_GRID = 16  # pixels a side of the pictures that are compared
_SAME_PICTURE = 0.9  # correlation of these
_CLOSE = 0.25  # of the usual distance to the nearest image of the class
_FAR_BEHIND = 5  # classes that are more probable than the label


@dataclass(frozen=True)
class Suspect:
    """A labelled image whose label may be wrong.

    Attributes:
        image: The image with its label.
        suggested: The class that the others make of it.
        score: Its probability by a fit without the image.
        own_score: The probability of the label.
    """

    image: SupportImage
    suggested: Any
    score: float
    own_score: float


@dataclass(frozen=True)
class Twins:
    """Two labelled images that look nearly the same.

    Attributes:
        first, second: The images.
        cosine: Of their features.
        identical: Whether they are one file.
    """

    first: SupportImage
    second: SupportImage
    cosine: float
    identical: bool

    @property
    def at_odds(self) -> bool:
        """Whether their labels differ."""
        return self.first.label != self.second.label


@dataclass(frozen=True)
class SupportCheck:
    """What to look at in the labelled images.

    Attributes:
        suspects: Images whose label may be wrong, the likeliest first.
        twins: Pairs that look nearly the same, those with two labels first.
        n_images: Labelled images in all.
        n_judged: How many could be judged without themselves.
    """

    suspects: tuple[Suspect, ...]
    twins: tuple[Twins, ...]
    n_images: int
    n_judged: int

    def __str__(self) -> str:
        lines = [
            f"{len(self.suspects)} of {self.n_judged} judged labelled images may have a wrong label, "
            f"{len(self.twins)} pairs look nearly the same."
        ]
        lines += [
            f"  {entry.image.name}: labelled {escape(str(entry.image.label))}, looks like "
            f"{escape(str(entry.suggested))} ({entry.score:.0%} against {entry.own_score:.0%})"
            for entry in self.suspects
        ]
        lines += [
            f"  {pair.first.name} and {pair.second.name}: "
            f"{'the same file' if pair.identical else 'nearly the same'}"
            f"{', with two labels' if pair.at_odds else ''}"
            for pair in self.twins
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return {
            "images": self.n_images,
            "judged": self.n_judged,
            "suspects": [
                {"name": s.image.name, "label": s.image.label, "suggested": s.suggested, "score": s.score,
                 "own_score": s.own_score}
                for s in self.suspects
            ],
            "twins": [
                {"first": t.first.name, "second": t.second.name, "cosine": t.cosine, "identical": t.identical}
                for t in self.twins
            ],
        }  # fmt: skip


def check_support(
    features: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[Any],
    support: Sequence[SupportImage],
) -> SupportCheck:
    """Looks for wrong labels and for pictures that occur twice.

    Args:
        features: Unit-norm features of the labelled images, (m, d).
        labels: Class index of each, (m,).
        probabilities: By fits that have not seen the image, (m, c); NaN where there is none.
        classes: Labels of the columns.
        support: The images, in the same order.
    """
    suspects = tuple(
        Suspect(support[i], classes[probabilities[i].argmax()], float(probabilities[i].max()),
                float(probabilities[i, labels[i]]))
        for i in suspicious(probabilities, labels)
    )  # fmt: skip
    twins = [
        Twins(support[i], support[j], float(features[i] @ features[j]), _one_file(support[i], support[j]))
        for i, j in near_duplicates(features, labels, support)
    ]
    twins.sort(key=lambda pair: (not pair.at_odds, not pair.identical, -pair.cosine))
    judged = int(np.isfinite(probabilities[:, 0]).sum())
    return SupportCheck(suspects, tuple(twins), len(labels), judged)


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


def _one_file(a: SupportImage, b: SupportImage) -> bool:
    return bool(a.sha256) and a.sha256 == b.sha256
