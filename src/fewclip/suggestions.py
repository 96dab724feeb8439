"""Which images of a pool to label next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fewclip.functional import unit
from fewclip.functional.suggestion import doubt, spokesmen
from fewclip.methods import FewShotMethod


@dataclass(frozen=True)
class Suggestion:
    """An image to label.

    Attributes:
        name: The image, safe to print.
        guess: The class that it would get.
        doubt: How unsure that is, 0–1: one minus the margin between the two most probable classes.
    """

    name: str
    guess: str
    doubt: float


def suggest(
    method: FewShotMethod,
    features: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    n: int,
) -> list[Suggestion]:
    """n images in the order in which to label them: those that many others resemble, but no labelled one.

    Args:
        method: The fitted method; what it has learnt need not be labelled again.
        features: Of the pool, (p, d).
        probabilities: Of the pool, (p, c).
        names: Of the pool's images.
        n: How many, at least 1.
    """
    pool = unit(torch.as_tensor(features if features.ndim == 2 else features[:, 0], dtype=torch.float32))
    unsure = doubt(torch.as_tensor(probabilities))
    # All weigh alike: weighing by doubt lost 3 points on groceries, where a few labels say little of it.
    order = [int(i) for i in spokesmen(pool, method.support_features_.cpu(), torch.ones(len(pool)), n)]
    guesses = method.classes_[probabilities.argmax(1)]
    return [Suggestion(names[i], str(guesses[i]), float(unsure[i])) for i in order]


def as_rows(suggestions: Iterable[Suggestion]) -> list[list[str]]:
    """``path, guess, doubt`` of each, as text."""
    return [[item.name, item.guess, f"{item.doubt:.4f}"] for item in suggestions]
