"""Small made-up few-shot tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.naive import unit


@dataclass(frozen=True)
class Task:
    """Unit-norm text T, support X with label indices y, queries Xq, yq."""

    T: np.ndarray
    X: np.ndarray
    y: np.ndarray
    Xq: np.ndarray
    yq: np.ndarray

    @property
    def n_classes(self) -> int:
        return len(self.T)


def make_task(shots=(4, 4, 4, 4, 4), *, d=24, n_queries=40, noise=0.8, text_noise=0.8, seed=0) -> Task:
    """Classes around random directions; text is another noisy look at them. ``shots`` may hold zeros."""
    rng = np.random.default_rng(seed)

    def around(rows, scale):
        return unit(rows + scale * rng.normal(size=rows.shape) / np.sqrt(d))

    centres = unit(rng.normal(size=(len(shots), d)))
    y, yq = np.repeat(np.arange(len(shots)), shots), np.arange(n_queries) % len(shots)
    return Task(
        around(centres, text_noise).astype(np.float32),
        around(centres[y], noise).astype(np.float32),
        y,
        around(centres[yq], noise).astype(np.float32),
        yq,
    )
