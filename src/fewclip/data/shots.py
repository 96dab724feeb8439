"""Which images of each class are used: few-shot draws and stratified hold-outs.

Members of a class are ranked by a hash of (seed, class, position in the class). The draw of one class thus
does not depend on the other classes, k shots are among the 2k shots of the same seed, and no release of a
random number generator can change published draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from fewclip.errors import ParameterError


def draw_shots(labels: Sequence[Hashable] | np.ndarray, shots: int, *, seed: int) -> np.ndarray:
    """Indices of ``shots`` examples of each class, sorted; a class with fewer gives all it has.

    Args:
        labels: The class of each example, (n,).
        shots: Examples a class, at least 1.
        seed: Any integer; the same gives the same draw.

    Returns:
        Indices into ``labels``, int64, ascending.

    Raises:
        ParameterError: ``shots`` is not a positive integer.
    """
    if isinstance(shots, bool) or not isinstance(shots, Integral) or shots < 1:
        fix = "Leave it out to use all images."
        raise ParameterError("shots", expected="an integer of at least 1", got=repr(shots), fix=fix)
    return _sorted(index for ranked in _ranked(labels, f"shots {seed}") for index in ranked[: int(shots)])


def holdout_split(
    labels: Sequence[Hashable] | np.ndarray, *, test_fraction: float = 0.3, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split into two disjoint parts with about the same share of every class in each.

    Of a class with n ≥ 2 examples, ``round(test_fraction · n)`` go to the test part, but at least one to
    each part; a single example is for training.

    Args:
        labels: The class of each example, (n,).
        test_fraction: Share of the test part, in (0, 1).
        seed: Any integer; the same gives the same split.

    Returns:
        Indices of the training and of the test part, int64, ascending.

    Raises:
        ParameterError: ``test_fraction`` is outside (0, 1).
    """
    if not 0 < test_fraction < 1:
        fix = "Use 0.3 to test on three images of ten."
        got = repr(test_fraction)
        raise ParameterError("test_fraction", expected="a number in (0, 1)", got=got, fix=fix)
    train: list[int] = []
    test: list[int] = []
    for ranked in _ranked(labels, f"holdout {seed}"):
        count = min(max(round(test_fraction * len(ranked)), 1), len(ranked) - 1)
        test += ranked[:count]
        train += ranked[count:]
    return _sorted(train), _sorted(test)


def _ranked(labels: Sequence[Hashable] | np.ndarray, salt: str) -> list[list[int]]:
    """For each class its indices in the order in which they are drawn."""
    members: dict[Any, list[int]] = {}
    for index, label in enumerate(np.asarray(labels).tolist() if len(labels) else []):
        members.setdefault(label, []).append(index)
    ranked = []
    for label, indices in members.items():
        keys = [_hash(f"{salt}\0{label}\0{position}") for position in range(len(indices))]
        ranked.append([index for _, index in sorted(zip(keys, indices, strict=True))])
    return ranked


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _sorted(indices: Any) -> np.ndarray:
    return np.array(sorted(indices), dtype=np.int64)
