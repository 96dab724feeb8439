"""Named ways in which a few-shot task goes wrong or turns out well: what a safe method must survive.

Each takes a ``StressTask`` and random numbers, and gives another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

_RARE, _COMMON = 1, 16
_FLIPPED, _ABSENT = 0.2, 3


@dataclass(frozen=True)
class StressTask:
    """Text and a pool of labelled images, and queries.

    Attributes:
        text: Text features T, (c, d).
        pool: Features that labelled images are drawn from, (p, d).
        pool_labels: Their class indices 0 … c − 1, (p,).
        queries: Features to predict, (n, d).
        query_labels: Their class indices, (n,).
        shots: Images that are drawn of each class, (c,).
    """

    text: np.ndarray
    pool: np.ndarray
    pool_labels: np.ndarray
    queries: np.ndarray
    query_labels: np.ndarray
    shots: np.ndarray

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Labelled images X, (m, d), and their classes, (m,)."""
        rows = [rng.permutation(np.flatnonzero(self.pool_labels == c))[:k] for c, k in enumerate(self.shots)]
        kept = np.concatenate(rows)
        return self.pool[kept], self.pool_labels[kept]


def made_up_task(
    seed: int, *, text_noise: float = 1.0, image_noise: float = 2.0, n_classes: int = 20, d: int = 64
) -> StressTask:
    """Classes around random directions, of which text, 40 images and 40 queries each are noisy looks."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, d))

    def around(labels: np.ndarray, noise: float) -> np.ndarray:
        rows = centres[labels] + noise * rng.normal(size=(len(labels), d))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    classes = np.arange(n_classes)
    labels = np.repeat(classes, 40)
    text, pool, queries = (
        around(classes, text_noise),
        around(labels, image_noise),
        around(labels, image_noise),
    )
    return StressTask(text, pool, labels, queries, labels, np.zeros(n_classes, int))


Stress = Callable[[StressTask, np.random.Generator], StressTask]


def as_it_is(task: StressTask, rng: np.random.Generator) -> StressTask:
    """The task itself."""
    return task


def useless_features(task: StressTask, rng: np.random.Generator) -> StressTask:
    """The labelled images are noise; text and queries are what they were."""
    noise = rng.normal(size=task.pool.shape).astype(np.float32)
    return replace(task, pool=noise / np.linalg.norm(noise, axis=1, keepdims=True))


def flipped_labels(task: StressTask, rng: np.random.Generator) -> StressTask:
    """A fifth of the labelled images carry another class's label."""
    c = len(task.text)
    flipped = rng.random(len(task.pool)) < _FLIPPED
    labels = (task.pool_labels + flipped * rng.integers(1, c, len(task.pool))) % c
    return replace(task, pool_labels=labels)


def imbalance(task: StressTask, rng: np.random.Generator) -> StressTask:
    """Every other class has one image, the others sixteen."""
    shots = np.where(rng.permutation(len(task.text)) % 2, _RARE, _COMMON)
    return replace(task, shots=shots)


def perfect_text(task: StressTask, rng: np.random.Generator) -> StressTask:
    """The text of a class is the mean of all its images, queries included: nothing is left to gain."""
    rows, labels = np.concatenate([task.pool, task.queries]), np.r_[task.pool_labels, task.query_labels]
    return replace(task, text=np.stack([rows[labels == c].mean(0) for c in range(len(task.text))]))


def useless_text(task: StressTask, rng: np.random.Generator) -> StressTask:
    """The text is noise; the labelled images are good."""
    return replace(task, text=rng.normal(size=task.text.shape).astype(np.float32))


def absent_classes(task: StressTask, rng: np.random.Generator) -> StressTask:
    """Three classes have no image."""
    shots = task.shots.copy()
    shots[rng.permutation(len(shots))[: min(_ABSENT, len(shots) - 2)]] = 0
    return replace(task, shots=shots)


STRESSES: dict[str, Stress] = {
    "as it is": as_it_is,
    "useless features": useless_features,
    "20 % flipped labels": flipped_labels,
    "16/1 imbalance": imbalance,
    "perfect text": perfect_text,
    "useless text": useless_text,
    "three absent classes": absent_classes,
}
HELPFUL = (
    "as it is",
    "20 % flipped labels",
    "16/1 imbalance",
    "useless text",
)  # where a cache has to gain from two shots on
