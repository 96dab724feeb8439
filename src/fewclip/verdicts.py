"""What a prediction says beside its class: a set of classes, "unknown", or "unsure"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewclip.errors import ParameterError
from fewclip.methods import FewShotMethod
from fewclip.methods.trust import UNKNOWN, UNSURE


@dataclass(frozen=True)
class Verdict:
    """Of one image.

    Attributes:
        classes: The classes that it may be of; None: not asked for.
        label: "unknown" or "unsure" instead of a class; None: the class stands.
    """

    classes: tuple[str, ...] | None = None
    label: str | None = None

    def columns(self, guess: str) -> dict[str, Any]:
        """What it adds to a row of predictions."""
        row: dict[str, Any] = {}
        if self.classes is not None:
            row["set"] = json.dumps(self.classes, ensure_ascii=False)
        if self.label is not None:
            row |= {"label": self.label, "guess": guess}
        return row


@dataclass(frozen=True)
class Doubts:
    """What to ask of every image beside its class; see ``FewShotMethod``.

    Attributes:
        coverage: Of ``predict_set``; None: no sets.
        set_score, classwise, allow_empty: Of ``predict_set``.
        unknown: Score of ``is_unknown``, such as ``"auto"``; None: every image is of some class.
        keep: Of ``is_unknown``.
        answer_only: Accuracy of ``answers``; None: all images are answered.
        confidence: Of ``answers``.
    """

    coverage: float | None = None
    set_score: str = "lac"
    classwise: bool = False
    allow_empty: bool = True
    unknown: str | None = None
    keep: float = 0.95
    answer_only: float | None = None
    confidence: float = 0.9

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what it adds to a row of predictions."""
        return ("set",) * (self.coverage is not None) + ("guess",) * self.replaces

    @property
    def words(self) -> tuple[str, ...]:
        """What may stand in place of a class: "unknown", "unsure"."""
        asked = ((UNKNOWN, self.unknown), (UNSURE, self.answer_only))
        return tuple(word for word, value in asked if value is not None)

    @property
    def replaces(self) -> bool:
        """Whether labels may become "unknown" or "unsure"."""
        return bool(self.words)

    def check(self, method: FewShotMethod, *, test_views: int = 1) -> None:
        """Raises what ``of`` would raise, and ParameterError beside views; before hours of encoding."""
        if test_views > 1 and self.columns:
            raise ParameterError(
                "test_views",
                expected="1 beside coverage, unknown and answer_only: they hold for images as they are",
                got=str(test_views),
                fix="Leave it out, or ask for classes alone.",
            )
        list(self.of(method, method.support_features_[:1].cpu().numpy()))

    def of(self, method: FewShotMethod, features: np.ndarray) -> Iterator[Verdict]:
        """One verdict a row of features.

        Raises:
            ParameterError: More than the labels can promise.
            LabelError: A class that is called "unknown" or "unsure".
        """
        if not len(features):
            return
        sets = labels = None
        if self.coverage is not None:
            sets = method.predict_set(
                features,
                self.coverage,
                score=self.set_score,
                classwise=self.classwise,
                allow_empty=self.allow_empty,
            )
        if self.replaces:
            blank = np.full(len(features), None, dtype=object)
            labels = method.doubted(
                blank,
                features,
                unknown=self.unknown,
                keep=self.keep,
                answer_only=self.answer_only,
                confidence=self.confidence,
            )
        for i in range(len(features)):
            classes = None if sets is None else tuple(str(c) for c in method.classes_[sets[i]])
            yield Verdict(classes, None if labels is None else labels[i])

    def promise(self, method: FewShotMethod) -> str:
        """What the guarantees are worth, in a sentence; "" where none was asked for."""
        return method.promise() if self.coverage is not None or self.answer_only is not None else ""
