"""What one classifier does on labelled images: accuracy with its interval, and which classes it confuses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from fewclip.data._display import escape
from fewclip.errors import FeatureError, LabelError
from fewclip.evaluation._text import as_html, as_text, count
from fewclip.evaluation.reliability import Bin, brier_score, calibration_error, reliability
from fewclip.selection import wilson_interval


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions beside the truth. Build it with ``from_predictions``.

    Attributes:
        labels: True labels, (n,).
        probabilities: Probability of each class, (n, c), rows summing to 1.
        classes: Sorted class labels, the columns of ``probabilities``, (c,).
        names: What to call each image, (n,); None if unknown.
        bare: Probabilities before calibration, (n, c); None if unknown.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...] | None = None
    bare: np.ndarray | None = None

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        probabilities: ArrayLike,
        classes: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        bare: ArrayLike | None = None,
    ) -> Self:
        """Checks the arrays and puts them side by side.

        Args:
            labels: True labels, (n,), n ≥ 1.
            probabilities: As ``predict_proba`` gives them, (n, c), in [0, 1], rows summing to 1.
            classes: Sorted labels of the columns, (c,), as ``classes_``.
            names: Paths or other names of the images, (n,).
            bare: The softmax of ``predict_logits``, (n, c), to see what calibration does.

        Raises:
            LabelError: No labels, labels outside ``classes``, unsorted classes, another number of names.
            FeatureError: NaN, logits instead of probabilities, or a shape other than (n, c).
        """
        labels, classes = np.asarray(labels), np.asarray(classes)
        check_labels("labels", labels, classes)
        probabilities = _checked_probabilities(probabilities, (len(labels), len(classes)))
        if names is not None and len(names) != len(labels):
            raise LabelError(
                "names",
                expected=f"one for each of the {len(labels)} labels",
                got=f"{len(names)}",
                fix="Pass the names of the same images, in the same order.",
            )
        shape = probabilities.shape
        return cls(
            labels,
            probabilities,
            classes,
            None if names is None else tuple(map(str, names)),
            None if bare is None else _checked_probabilities(bare, shape),
        )

    @cached_property
    def predictions(self) -> np.ndarray:
        """Predicted labels, (n,)."""
        return self.classes[self._predicted]

    @cached_property
    def scores(self) -> np.ndarray:
        """Probability of the predicted class, (n,)."""
        return self.probabilities.max(axis=1)

    @cached_property
    def accuracy(self) -> float:
        """Share of images that are right, 0–1."""
        with _few_images():
            return float(accuracy_score(self._truth, self._predicted))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy, from the number of images alone."""
        return wilson_interval(self.accuracy, len(self.labels))

    @cached_property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images, 0–1."""
        return balanced_accuracy(self._truth, self._predicted)

    @cached_property
    def top5(self) -> float:
        """Share of images whose class is among the min(5, c) most probable, 0–1."""
        if len(self.classes) <= 5:
            return 1.0
        columns = np.arange(len(self.classes))
        with _few_images():
            return float(top_k_accuracy_score(self._truth, self.probabilities, k=5, labels=columns))

    @cached_property
    def nll(self) -> float:
        """Negative log-likelihood of the truth, nats an image; 0 is perfect."""
        if len(self.classes) == 1:
            return 0.0  # one class is certain, and scikit-learn refuses it
        with _few_images():
            return float(log_loss(self._truth, self.probabilities, labels=np.arange(len(self.classes))))

    @cached_property
    def brier(self) -> float:
        """Brier score over all classes, 0–2; 0 is perfect."""
        return brier_score(self.probabilities, self._truth)

    @cached_property
    def reliability(self) -> list[Bin]:
        """Predictions by their score: how often those of a score are right."""
        return reliability(self.scores, self._truth == self._predicted)

    @property
    def ece(self) -> float:
        """Expected calibration error in 15 bins of equal width, 0–1; 0 is perfect."""
        return calibration_error(self.reliability)

    @cached_property
    def reliability_before(self) -> list[Bin] | None:
        """``reliability`` before calibration; None if unknown."""
        return None if self.bare is None else reliability(self.bare.max(1), self._truth == self._predicted)

    @property
    def ece_before(self) -> float | None:
        """``ece`` before calibration; None if unknown."""
        return None if self.reliability_before is None else calibration_error(self.reliability_before)

    @cached_property
    def confusion(self) -> np.ndarray:
        """Number of images by true class (rows) and predicted class (columns), (c, c)."""
        columns = np.arange(len(self.classes))
        with _few_images():
            return confusion_matrix(self._truth, self._predicted, labels=columns)

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """One row a class, in the order of ``classes``.

        ``recall`` is None for a class without images, ``precision`` for one that was never predicted,
        ``most_confused_with`` (the class its images are most often taken for) for one without mistakes.
        """
        columns = np.arange(len(self.classes))
        options: dict[str, Any] = {"labels": columns, "average": None, "zero_division": np.nan}
        with _few_images():
            recalls = np.asarray(recall_score(self._truth, self._predicted, **options))
            precisions = np.asarray(precision_score(self._truth, self._predicted, **options))
        mistakes = self.confusion - np.diag(self.confusion.diagonal())
        names = self.classes.tolist()
        return [
            {
                "class": name,
                "images": int(self.confusion[k].sum()),
                "right": int(self.confusion[k, k]),
                "recall": _number(recalls[k]),
                "precision": _number(precisions[k]),
                "most_confused_with": names[mistakes[k].argmax()] if mistakes[k].any() else None,
            }
            for k, name in enumerate(names)
        ]

    def worst_first(self) -> list[dict[str, Any]]:
        """The rows of ``table``: lowest recall first, then the larger class; those without images last."""
        return sorted(
            self.table, key=lambda row: (row["recall"] is None, row["recall"] or 0.0, -row["images"])
        )

    def most_confused(self, n: int = 10) -> list[tuple[Any, Any, int]]:
        """The n most frequent mistakes as (true class, predicted class, images), most frequent first."""
        mistakes = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-mistakes, axis=None, kind="stable")[:n]
        names = self.classes.tolist()
        pairs = zip(*np.unravel_index(order, mistakes.shape), strict=True)
        return [(names[i], names[j], int(mistakes[i, j])) for i, j in pairs if mistakes[i, j]]

    def to_json(self) -> dict[str, Any]:
        """Everything but the single predictions, as plain Python."""
        return {
            "images": len(self.labels),
            "classes": self.classes.tolist(),
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "balanced_accuracy": self.balanced_accuracy,
            "top5": self.top5,
            "nll": self.nll,
            "brier": self.brier,
            "ece": self.ece,
            "ece_before_calibration": self.ece_before,
            "table": self.table,
            "most_confused": [list(pair) for pair in self.most_confused()],
            "confusion": self.confusion.tolist(),
        }

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    @cached_property
    def _truth(self) -> np.ndarray:
        return np.searchsorted(self.classes, self.labels)

    @cached_property
    def _predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)


def balanced_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean recall of the classes that have images, 0–1."""
    # Not balanced_accuracy_score: it warns when a class without images is predicted, which is no fault here.
    with _few_images():
        return float(recall_score(labels, predictions, labels=np.unique(labels), average="macro"))


def check_labels(item: str, labels: np.ndarray, classes: np.ndarray) -> None:
    """Raises LabelError unless ``classes`` are sorted and distinct and hold all ``labels``, at least one."""
    if classes.ndim != 1 or not len(classes) or not np.array_equal(classes, np.unique(classes)):
        raise LabelError(
            "classes",
            expected="sorted distinct labels, one a column",
            got=_excerpt(classes.ravel().tolist()),
            fix="Pass the fitted method's classes_.",
        )
    if labels.ndim != 1 or not len(labels):
        raise LabelError(
            item,
            expected="labels, (n,)",
            got=f"shape {labels.shape}",
            fix="Pass at least one labelled image.",
        )
    strange = sorted(map(str, set(labels.tolist()) - set(classes.tolist())))
    if strange:
        raise LabelError(
            f"{item}: {escape(strange[0])!r}",
            expected=f"one of the {len(classes)} classes",
            got=f"{count(len(strange), 'label')} outside them",
            fix="Leave these images out, or fit with these classes, too.",
        )


def _checked_probabilities(probabilities: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    found = np.asarray(probabilities, dtype=np.float64)
    if found.shape != shape:
        got = f"shape {found.shape}"
    elif not np.isfinite(found).all():
        got = f"NaN or infinity in row {np.flatnonzero(~np.isfinite(found).all(axis=1))[0]}"
    elif (found < 0).any() or not np.allclose(found.sum(axis=1), 1, atol=1e-3):
        got = "rows that are no probabilities"
    else:
        return found / found.sum(axis=1, keepdims=True)  # float32 rows sum to 1 only roughly
    raise FeatureError(
        "probabilities",
        expected=f"rows in [0, 1] that sum to 1, shape {shape}",
        got=got,
        fix="Pass what predict_proba returns.",
    )


@contextmanager
def _few_images() -> Iterator[None]:
    """Without the warnings that many classes look like regression, and that one class is only one."""
    with warnings.catch_warnings():
        for message in ("The number of unique classes", "A single label was found"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _excerpt(values: list[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:4])
    return f"{shown}, …" if len(values) > 4 else shown or "none"
