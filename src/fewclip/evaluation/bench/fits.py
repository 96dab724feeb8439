"""One fit and everything that it is tested on, as cells."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fewclip.errors import FewclipError
from fewclip.evaluation.bench.facts import PeakMemory, versions
from fewclip.evaluation.bench.places import Place
from fewclip.evaluation.bench.plan import SPENDS_LABELS, Fit
from fewclip.evaluation.bench.scores import figures
from fewclip.evaluation.bench.task import Prepared, Queries, Task
from fewclip.evaluation.metrics import Evaluation
from fewclip.methods import METHODS, FewShotMethod

_ROWS = 256  # with spatial tokens that are predicted at once
_TINY = 1e-200


def head(prepared: Prepared, fit: Fit, place: Place) -> dict[str, Any]:
    """The fields that name a cell."""
    test, shift = place
    return {
        "dataset": prepared.images.spec.name, "encoder": prepared.encoder_name,
        **fit._asdict(), "test": test, "shift": shift,
    }  # fmt: skip


def failed(start: dict[str, Any], error: Exception, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    """The cell of something that went wrong."""
    text = str(error) if isinstance(error, FewclipError) else f"{type(error).__name__}: {error}"
    return start | {"metrics": None, "labels_used": 0, "seconds": seconds, "error": text} | more | _stamp()


def run_fit(
    task: Task, fit: Fit, drawn: np.ndarray, places: dict[Place, Queries], *, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Fits once and tests on every place; an exception becomes a cell with an error.

    Args:
        task: Features of the data set.
        fit: Method, shots, seed and protocol.
        drawn: The images that the seed has drawn, as indices of the training images.
        places: What to test on.
        device: Where the method computes.

    Yields:
        One cell a place, in order.
    """
    begun = time.perf_counter()
    common = _common(task, fit, drawn)
    try:
        with PeakMemory() as memory:
            methods = _fitted(task, fit, drawn, device)
        seconds = time.perf_counter() - begun
    except Exception as error:
        seconds = time.perf_counter() - begun
        for place in places:
            yield failed(head(task.prepared, fit, place), error, seconds, **common)
        return
    for place, queries in places.items():
        start, begun = head(task.prepared, fit, place), time.perf_counter()
        try:
            with memory:
                probabilities = _probabilities(methods, queries, task)
                spent = seconds + time.perf_counter() - begun
                evaluation = _evaluation(task, queries, probabilities)
            outcome = _outcome(methods, figures(evaluation), spent)
        except Exception as error:
            yield failed(start, error, seconds + time.perf_counter() - begun, **common)
            continue
        facts = {"n_test": len(queries.labels), "n_classes_tested": len(evaluation.classes)}
        facts |= {"peak_memory_mb": memory.megabytes, "note": queries.note or None}
        fingerprints = task.prepared.fingerprints | {"test": queries.fingerprint}
        yield start | outcome | common | facts | {"fingerprints": fingerprints} | _stamp()


def _common(task: Task, fit: Fit, drawn: np.ndarray) -> dict[str, Any]:
    """What is the same wherever a fit is tested."""
    import torch

    images = task.prepared.images.train
    return {
        "n_classes": len(task.prepared.classes),
        "n_support": len(drawn) if fit.shots else 0,
        "images": [images.names[i] for i in drawn] if fit.shots else [],
        "logit_scale": task.prepared.encoder.logit_scale,
        "random_state": fit.seed,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "fingerprints": task.prepared.fingerprints,
    }


def _fitted(task: Task, fit: Fit, drawn: np.ndarray, device: str) -> list[FewShotMethod]:
    """The fitted method; two where the settings are chosen on halves of the test images."""
    X, y, groups = task.support(drawn)
    validations: Sequence[Any] = [task.val]
    if fit.selection not in (*SPENDS_LABELS, "auto"):
        validations = [None]
    elif task.halves is not None and fit.selection in SPENDS_LABELS:
        validations = [task.half(part) for part in (True, False)]
    methods = []
    for validation in validations:
        method = METHODS[fit.method](
            task.prepared.text, classes=task.prepared.classes, logit_scale=task.prepared.encoder.logit_scale,
            selection=fit.selection, device=device, random_state=fit.seed,
        )  # fmt: skip
        X_val, y_val = validation or (None, None)
        methods.append(method.fit(X, y, groups=groups, X_val=X_val, y_val=y_val))
    return methods


def _probabilities(methods: list[FewShotMethod], queries: Queries, task: Task) -> np.ndarray:
    """(n, c) over the classes that are tested; of two methods each judges the half that it has not seen."""
    if len(methods) == 1 or not queries.halved:
        return _of_one(methods[0], queries, slice(None))
    assert task.halves is not None
    out = np.empty((len(queries.labels), len(task.prepared.classes)))
    for method, chosen_on in zip(methods, (True, False), strict=True):
        judged = np.flatnonzero(task.halves != chosen_on)
        out[judged] = _of_one(method, queries, judged)
    return out


def _of_one(method: FewShotMethod, queries: Queries, rows: Any) -> np.ndarray:
    features = queries.features[rows]
    step = len(features) if features.ndim == 2 else _ROWS
    parts = [features[start : start + step] for start in range(0, len(features), step)]
    probabilities = np.concatenate([method.predict_proba(part) for part in parts])
    if queries.columns is None:
        return probabilities
    probabilities = probabilities[:, queries.columns]
    sums = probabilities.sum(axis=1, keepdims=True)
    if (sums > _TINY).all():
        return probabilities / sums
    from scipy.special import softmax

    # All of a few classes among many may have the probability zero; their logits still differ.
    logits = np.concatenate([method.predict_logits(part) for part in parts])[:, queries.columns]
    bare = softmax(logits.astype(np.float64) / method.temperature_, axis=1)
    return np.where(sums > _TINY, probabilities / np.maximum(sums, _TINY), bare)


def _evaluation(task: Task, queries: Queries, probabilities: np.ndarray) -> Evaluation:
    classes = task.prepared.classes
    classes = classes if queries.columns is None else classes[queries.columns]
    return Evaluation.from_predictions(queries.labels, probabilities, classes)


def _outcome(
    methods: list[FewShotMethod], metrics: dict[str, float | None], seconds: float
) -> dict[str, Any]:
    chosen = [method.selection_ for method in methods]
    settings = [{name: float(value) for name, value in one.settings.items()} for one in chosen]
    return {
        "metrics": metrics,
        "labels_used": max(one.labels_used for one in chosen),
        "seconds": seconds,
        "error": None,
        "settings": settings[0],
        "settings_other_half": settings[1] if len(settings) > 1 else None,
        "protocol": chosen[0].protocol,
        "mix": methods[0].mix_,
        "calibration": {
            name: float(getattr(methods[0], f"{name}_")) for name in ("temperature", "evenness", "spread")
        },
        "n_parameters": int(getattr(methods[0], "n_parameters_", 0)),
    }


def _stamp() -> dict[str, str]:
    return {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
