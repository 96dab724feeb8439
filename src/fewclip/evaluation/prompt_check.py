"""Which prompts disagree with the labelled images of their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewclip.errors import FeatureError, LabelError


@dataclass(frozen=True)
class ClassScore:
    """How the text of one class does on the images of that class.

    Attributes:
        index: The class.
        images: How many images it has.
        wrong: How many of them the text gives to another class; a tie counts as wrong.
        taken_by: The class that most of these go to; None if there are none.
    """

    index: int
    images: int
    wrong: int
    taken_by: int | None


@dataclass(frozen=True)
class PromptScore:
    """How one prompt does on the images of its class.

    Attributes:
        index: Its class.
        prompt: Its place among the prompts of the class.
        accuracy: Share of the class's images, 0–1, for which this prompt in place of its class's mean scores
            higher than the mean of every other class.
        nearest: The class whose images have the largest mean cosine with it.
    """

    index: int
    prompt: int
    accuracy: float
    nearest: int

    @property
    def elsewhere(self) -> bool:
        """Whether it is nearer to the images of another class than to those of its own."""
        return self.nearest != self.index


@dataclass(frozen=True)
class PromptCheck:
    """The outcome of ``check_prompts``.

    Attributes:
        classes: One entry a class, largest share of wrong images first, classes without images last.
        prompts: One entry for every prompt of a class with images, lowest accuracy first.
    """

    classes: tuple[ClassScore, ...]
    prompts: tuple[PromptScore, ...]


def check_prompts(features: np.ndarray, labels: np.ndarray, prompts: Sequence[np.ndarray]) -> PromptCheck:
    """Judges every class's text, and every prompt alone, by the labelled images.

    A class is represented by the unit mean of its unit prompts, as in a zero-shot classifier.

    Args:
        features: Image features, (n, d), n ≥ 1.
        labels: The class of each image, (n,), integers from 0 to c − 1.
        prompts: Text features of each class, c ≥ 2 arrays (p, d).

    Raises:
        FeatureError: Shapes that do not fit, or a class without prompts.
        LabelError: Not one label an image, or one outside 0 to c − 1.
    """
    _check(features, labels, prompts)
    images = _unit(features)
    texts = [_unit(rows) for rows in prompts]
    scores = images @ _unit(np.stack([rows.mean(0) for rows in texts])).T  # (n, c)
    own = np.arange(len(texts))[None] == labels[:, None]
    others = np.where(own, -np.inf, scores)
    rivals, best = others.argmax(1), others.max(1)  # (n,): the best other class, and its score
    wrong = scores[own] <= best
    present = np.unique(labels)
    centres = np.stack([images[labels == k].mean(0) for k in present])  # one a class with images
    classes = [_class_score(k, labels == k, wrong, rivals) for k in range(len(texts))]
    found = [
        PromptScore(int(k), p, float(share), int(present[nearest]))
        for k in present
        for p, (share, nearest) in enumerate(
            zip(
                (images[labels == k] @ texts[k].T > best[labels == k, None]).mean(0),
                (texts[k] @ centres.T).argmax(1),
                strict=True,
            )
        )
    ]
    return PromptCheck(
        tuple(sorted(classes, key=lambda score: -score.wrong / score.images if score.images else 1)),
        tuple(sorted(found, key=lambda score: (score.accuracy, not score.elsewhere))),
    )


def _class_score(index: int, its: np.ndarray, wrong: np.ndarray, rivals: np.ndarray) -> ClassScore:
    lost = rivals[its & wrong]
    taken_by = int(np.bincount(lost).argmax()) if len(lost) else None
    return ClassScore(index, int(its.sum()), len(lost), taken_by)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def _check(features: np.ndarray, labels: np.ndarray, prompts: Sequence[np.ndarray]) -> None:
    shapes = {np.shape(rows)[1:] for rows in prompts}
    filled = all(len(rows) for rows in prompts)
    if np.ndim(features) != 2 or not len(features) or len(prompts) < 2 or not filled:
        got = f"features {np.shape(features)} and prompts of {len(prompts)} classes"
    elif shapes != {np.shape(features)[1:]}:
        got = f"features {np.shape(features)} and prompts of {sorted(shapes)} channels"
    else:
        got = ""
    if got:
        raise FeatureError(
            "features and prompts",
            expected="(n, d) with n ≥ 1, and at least two classes with prompts (p, d) each",
            got=got,
            fix="Encode images and prompts with the same encoder.",
        )
    labels = np.asarray(labels)
    whole = labels.shape == (len(features),) and labels.dtype.kind in "iu"
    if not whole or labels.min() < 0 or labels.max() >= len(prompts):
        raise LabelError(
            "labels",
            expected=f"one integer from 0 to {len(prompts) - 1} for each of the {len(features)} images",
            got=f"{labels.dtype} of shape {labels.shape}" if not whole else f"up to {labels.max()}",
            fix="Number the classes in the order of the prompts.",
        )
