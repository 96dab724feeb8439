"""The few-shot protocol: methods × shots × seeds on features, every cell from the same draw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from fewclip.data import draw_shots
from fewclip.errors import FewclipError, LabelError, ParameterError
from fewclip.evaluation._text import count
from fewclip.evaluation.comparison import ZERO_SHOT, Cell, Comparison
from fewclip.evaluation.metrics import balanced_accuracy, check_labels
from fewclip.methods import METHODS, FewShotMethod

Draw = Callable[..., np.ndarray]

__all__ = ["Cell", "Comparison", "Data", "check_methods", "compare"]


@dataclass(frozen=True, eq=False)
class Data:
    """A labelled data set as features of one encoder.

    Attributes:
        features: Features that the shots are drawn from, (n, d); with spatial tokens, (n, 1 + L, d), which
            methods that do not use them are not given.
        labels: Their labels, (n,).
        test_features: Features of the test images, of the same kind.
        test_labels: Their labels, (t,).
        text_features: One array a class, (p, d) for p prompts or (d,), in the order of ``classes``.
        classes: Sorted labels, (c,).
        logit_scale: The encoder's factor on cosines.
        validation_features: For ``selection="full"`` or ``"fewshot"``, (v, d); None: there are none.
        validation_labels: Their labels, (v,).

    Raises:
        LabelError: Labels outside ``classes``, unsorted classes, or another number of rows.
    """

    features: np.ndarray
    labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    text_features: Sequence[np.ndarray] | np.ndarray
    classes: np.ndarray
    logit_scale: float = 100.0
    validation_features: np.ndarray | None = None
    validation_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "test_labels", "classes"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        for name, features in (("labels", self.features), ("test_labels", self.test_features)):
            check_labels(name, getattr(self, name), self.classes)
            _check_length(name, len(getattr(self, name)), len(features))
        _check_length("text_features", len(self.text_features), len(self.classes))


def compare(
    data: Data,
    *,
    methods: Sequence[str],
    shots: Sequence[int],
    seeds: Sequence[int],
    draw: Draw = draw_shots,
    selection: str = "auto",
    device: str = "auto",
    random_state: int | None = 0,
    progress: bool = True,
) -> Comparison:
    """Fits and tests every method on every draw; all methods see the same images of a draw.

    Zero-shot depends on neither shots nor seeds, so it is computed once, as a cell of 0 shots. A class with
    fewer images than ``shots`` gives all it has.

    Args:
        data: Features, labels and text features.
        methods: Names of ``METHODS``.
        shots: Images a class, each at least 1.
        seeds: Seeds of the draws.
        draw: ``draw(labels, shots, seed=seed)`` gives the indices of the support set.
        selection: How every method chooses its settings, see ``FewShotMethod``.
        device: ``auto``, ``cpu``, ``cuda``, …
        random_state: Seed of methods that draw random numbers themselves.
        progress: Whether to show a bar on stderr.

    Returns:
        One cell a method and draw. A method that raises a ``FewclipError`` leaves a cell with ``error``.

    Raises:
        ParameterError: An unknown method, or no methods, shots or seeds.
    """
    jobs = _jobs(methods, shots, seeds)
    options = {"selection": selection, "device": device, "random_state": random_state}
    draws = {(k, seed): draw(data.labels, k, seed=seed) for k in shots for seed in seeds}
    cells = []
    with tqdm(total=len(jobs), unit="fit", file=sys.stderr, disable=not progress) as bar:
        for method, k, seed in jobs:
            bar.set_description(f"{method}, {count(k, 'shot')}" if k else method, refresh=False)
            # Zero-shot learns nothing from the support set; any draw will do.
            support = draws[k, seed] if k else draws[shots[0], seeds[0]]
            cells.append(_cell(data, method, k, seed, support, options))
            bar.update()
    return Comparison(tuple(cells), len(data.test_labels), tuple(data.classes.tolist()))


def check_methods(methods: Sequence[str]) -> None:
    """Raises ParameterError for a name that no method has."""
    for method in methods:
        if method not in METHODS:
            known = ", ".join(METHODS)
            raise ParameterError(
                f"method {method!r}",
                expected=f"one of {known}",
                got="an unknown name",
                fix="Choose one of these.",
            )


def _jobs(methods: Sequence[str], shots: Sequence[int], seeds: Sequence[int]) -> list[tuple[str, int, int]]:
    """(method, shots, seed) of every cell, zero-shot first."""
    for name, given in (("methods", methods), ("shots", shots), ("seeds", seeds)):
        if isinstance(given, str) or not len(given):
            raise ParameterError(name, expected="a list of at least one", got=repr(given), fix="Pass a list.")
    check_methods(methods)
    names = list(dict.fromkeys(methods))
    once = [(ZERO_SHOT, 0, 0)] if ZERO_SHOT in names else []
    adapted = [name for name in names if name != ZERO_SHOT]
    draws = [(k, seed) for k in dict.fromkeys(shots) for seed in dict.fromkeys(seeds)]
    return once + [(name, k, seed) for k, seed in draws for name in adapted]


def _cell(data: Data, name: str, shots: int, seed: int, support: np.ndarray, options: dict[str, Any]) -> Cell:
    n_support = len(support) if shots else 0
    start = time.perf_counter()
    try:
        method = METHODS[name](
            data.text_features, classes=data.classes, logit_scale=data.logit_scale, **options
        )
        method.fit(
            _features_for(method, data.features[support]),
            data.labels[support],
            X_val=_features_for(method, data.validation_features),
            y_val=data.validation_labels,
        )
        predictions = method.predict(_features_for(method, data.test_features))
    except FewclipError as error:
        seconds = time.perf_counter() - start
        return Cell(name, shots, seed, None, None, n_support, 0, seconds, {}, str(error))
    return Cell(
        method=name,
        shots=shots,
        seed=seed,
        accuracy=float((predictions == data.test_labels).mean()),
        balanced_accuracy=balanced_accuracy(data.test_labels, predictions),
        n_support=n_support,
        labels_used=method.selection_.labels_used,
        seconds=time.perf_counter() - start,
        settings={key: float(value) for key, value in method.selection_.settings.items()},
        error=None,
    )


def _features_for(method: FewShotMethod, features: Any) -> Any:
    """Without the spatial tokens, if there are any, for a method that does not use them."""
    return features if features is None or method.uses_tokens or features.ndim == 2 else features[:, 0]


def _check_length(item: str, found: int, expected: int) -> None:
    if found != expected:
        raise LabelError(
            item, expected=f"{expected} of them", got=f"{found}", fix="Pass arrays that belong together."
        )
