"""Prediction sets, unknown images and answers with a guarantee, as methods of every fitted method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import LabelError, ParameterError
from fewclip.functional.conformal import (
    Regularised,
    conformal_quantile,
    labels_needed,
    places,
    row_numbers,
)
from fewclip.functional.selective import answers_needed, safe_threshold
from fewclip.functional.unknown import KNOWN_SCORES
from fewclip.methods.support import Support
from fewclip.methods.trust import (
    UNKNOWN,
    UNSURE,
    Judged,
    check_share,
    combined,
    held_out_known_scores,
    judged_columns,
    knower_of,
    known_threshold,
    needs,
    stored,
)
from fewclip.methods.validation import as_numpy, check_labels

SET_SCORES = ("lac", "raps")


class Doubting:
    """What a fitted method knows about not knowing.

    Attributes:
        held_out_: Images whose labels are known, under a head that has not learnt them, (n, 6); see
            ``trust.Judged``. None: there are none.
        held_out_kind_: Where they come from.
        known_scores_: How well images of ``calibrate`` are known, (n, 4); None: the labelled images decide.
    """

    held_out_: Tensor | None = None
    held_out_kind_: str = "support"
    known_scores_: Tensor | None = None
    if TYPE_CHECKING:
        classes_: np.ndarray
        support_features_: Tensor
        support_labels_: Tensor

    def calibrate(self: Any, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Any:
        """Keeps labelled images that nothing was chosen by: guarantees then rest on them, and are exact.

        Neither labels nor probabilities change.

        Args:
            X: Features of images that the method has not seen, (n, d).
            y: Their labels, (n,).

        Raises:
            FeatureError, LabelError: As ``fit``; a label that it does not know.
        """
        queries = self._checked_queries(X)
        labels = check_labels(self, queries, as_numpy(y))
        strange = sorted({str(v) for v in labels.tolist()} - {str(v) for v in self.classes_.tolist()})
        if strange:
            raise LabelError(
                f"y label {strange[0]!r}",
                expected="one of the fitted classes",
                got="a label that is none of them",
                fix="Leave these rows out: guarantees are about images of known classes.",
            )
        index = torch.as_tensor(np.searchsorted(self.classes_, labels))
        logits = self._calibration().scaled(torch.as_tensor(self.predict_logits(queries)))
        self.held_out_, self.held_out_kind_ = judged_columns(logits, index), "calibration"
        self.known_scores_ = self._known_scores(queries)
        return self

    # ---- sets ----

    def predict_set(
        self: Any,
        X: ArrayLike | Tensor,
        coverage: float = 0.9,
        *,
        score: str = "lac",
        classwise: bool = False,
        allow_empty: bool = True,
    ) -> np.ndarray:
        """The classes that an image may be of, (n, c), bool: the true one is among them in ``coverage``.

        What that promises depends on the images it rests on: ``promise()`` says it.

        Args:
            X: Features, (n, d).
            coverage: Share of images whose class shall be in their set, in (0, 1).
            score: ``lac`` has the smallest sets in the mean; ``raps`` larger ones where an image is hard.
            classwise: The share holds for every class, not in the mean of the images alone.
            allow_empty: False: the most probable class is always in the set, which then covers more.

        Raises:
            ParameterError: More than the number of labels can promise (95 % needs 19, of every class where
                ``classwise``), or an unknown score.

        Reference: Sadinle et al. 2019, arXiv:1609.00451 (LAC); Angelopoulos et al. 2021, arXiv:2009.14193
        (RAPS).
        """
        coverage, rule = check_share("coverage", coverage), Regularised()
        if score not in SET_SCORES:
            raise ParameterError(
                "score", expected=f"one of {', '.join(SET_SCORES)}", got=repr(score), fix="Choose one."
            )
        judged = stored(self)
        scores = (
            1 - judged.own
            if score == "lac"
            else rule.score(judged.own, judged.above, judged.rank, judged.number)
        )
        limits = self._set_limits(scores, judged, coverage, classwise)
        queries = self._checked_queries(X)
        out, start = np.empty((len(queries), len(self.classes_)), dtype=bool), 0
        for logits in self._tiles(queries):
            z = self._calibration().scaled(logits)
            p = torch.softmax(z.double(), 1)
            if score == "lac":
                inside = 1 - p <= limits
            else:
                above, rank = places(p)
                inside = rule.score(p, above, rank.double(), row_numbers(z)[:, None]) <= limits
            if not allow_empty:
                inside.scatter_(1, logits.argmax(1, keepdim=True), True)
            out[start : start + len(logits)] = inside.numpy()
            start += len(logits)
        return out

    def sets_of(self: Any, probabilities: np.ndarray, coverage: float = 0.9) -> np.ndarray:
        """The ``lac`` sets of what ``predict_proba`` gave, (n, c), bool; see ``predict_set``.

        Raises:
            ParameterError: More than the labels can promise, or probabilities held to zero-shot's range.
        """
        if self.calibration == "sals":
            raise ParameterError(
                "sets_of", expected="calibration 'auto' or 'none'", got="'sals'", fix="Use predict_set."
            )
        judged = stored(self)
        limits = self._set_limits(1 - judged.own, judged, check_share("coverage", coverage), False)
        return 1 - probabilities <= limits.numpy()

    def _set_limits(self: Any, scores: Tensor, judged: Judged, coverage: float, classwise: bool) -> Tensor:
        """Largest score of a class in a set, (1,) or (c,), up by rounding."""
        needed, what = labels_needed(coverage), f"coverage={coverage}"
        if not classwise:
            needs(what, needed, len(judged))
            limits = torch.tensor([conformal_quantile(scores, coverage)], dtype=torch.float64)
        else:
            counts = torch.bincount(judged.label, minlength=len(self.classes_))
            least = int(counts.argmin())
            name = f"labelled images of every class (fewest of {str(self.classes_[least])!r})"
            needs(f"{what}, classwise", needed, int(counts[least]), name)
            limits = torch.tensor(
                [conformal_quantile(scores[judged.label == c], coverage) for c in range(len(counts))],
                dtype=torch.float64,
            )
        return limits + 1e-9

    def promise(self: Any) -> str:
        """What a guarantee of this method is worth, in one sentence."""
        return stored(self).promise

    def calibration_note(self: Any) -> str:
        """How sure ``predict_proba`` is, and what that rests on, in a few words."""
        judged = getattr(self, "held_out_", None)
        if self.calibration == "none":
            return "not calibrated, as asked for"
        if self.calibration == "sals":
            return "held to the range of the text's own"
        if judged is None or not len(judged):
            return "not calibrated, as no labelled image could be left out"
        n_images = len(judged)
        return (
            f"calibrated on {n_images} images that were not learnt, for images like them "
            f"(temperature {self.temperature_:.2f})"
        )

    # ---- answers ----

    def answers(
        self: Any, X: ArrayLike | Tensor, *, accuracy: float = 0.95, confidence: float = 0.9
    ) -> np.ndarray:
        """Which images to answer, (n,), bool, such that ``accuracy`` of the answers are right.

        With probability ``confidence`` over the images that it rests on; see ``promise``.

        Raises:
            ParameterError: More than the number of labels can promise.
        """
        queries = self._checked_queries(X)
        return self.predict_proba(queries).max(1) > self.answer_threshold(
            accuracy=accuracy, confidence=confidence
        )

    def answer_threshold(self: Any, *, accuracy: float = 0.95, confidence: float = 0.9) -> float:
        """The probability above which answers are right in ``accuracy`` of the cases; infinity: never."""
        risk, delta = 1 - check_share("answer_only", accuracy), 1 - check_share("confidence", confidence)
        judged = stored(self)
        needs(f"answer_only={accuracy}", answers_needed(risk, delta) + 1, len(judged))
        return safe_threshold(judged.top, judged.rank == 1, risk=risk, delta=delta)

    # ---- unknown images ----

    def known_scores(self: Any, X: ArrayLike | Tensor, score: str = "auto") -> np.ndarray:
        """How well images are known, (n,): low for images of none of the classes.

        Args:
            X: Features, (n, d).
            score: ``mcm`` and ``energy`` ask the text, ``affinity`` and ``mahalanobis`` the labelled images
                (see ``functional.unknown``); ``auto`` joins mcm, affinity and mahalanobis.
        """
        return combined(self._known_scores(self._checked_queries(X)), self._held_out_known(), score)[
            0
        ].numpy()

    def is_unknown(
        self: Any, X: ArrayLike | Tensor, *, score: str = "auto", keep: float = 0.95
    ) -> np.ndarray:
        """Which images are of none of the classes, (n,), bool.

        Args:
            X: Features, (n, d).
            score: See ``known_scores``.
            keep: Share of images of known classes that are to be kept, in (0, 1).

        Raises:
            ParameterError: More than the number of labelled images can promise, or an unknown score.
        """
        keep = check_share("keep", keep)
        scores, held_out = combined(
            self._known_scores(self._checked_queries(X)), self._held_out_known(), score
        )
        return (scores < known_threshold(held_out, keep)).numpy()

    def _support_keys(self: Any) -> Support:
        keys, labels = self.support_features_, self.support_labels_
        return Support(
            keys, labels, torch.arange(len(keys), device=keys.device), keys, labels, len(self.classes_)
        )

    def _known_scores(self: Any, queries: np.ndarray) -> Tensor:
        """(n, 4), on the CPU."""
        if queries.ndim == 3:
            queries = queries[:, 0]
        knower = getattr(self, "_knower", None)
        if knower is None or knower.keys is not self.support_features_:
            knower = self._knower = knower_of(self, self._support_keys())
            self._held_out_scores = None
        with torch.inference_mode():
            parts = [knower.scores(rows) for rows in self._tensor(queries).split(2048)]
        return torch.cat(parts).double().cpu() if parts else torch.empty(0, len(KNOWN_SCORES)).double()

    def _held_out_known(self: Any) -> Tensor:
        if self.known_scores_ is not None:
            return self.known_scores_.double().cpu()
        if getattr(self, "_held_out_scores", None) is None:
            with torch.inference_mode():
                self._held_out_scores = held_out_known_scores(self, self._support_keys()).double().cpu()
        return self._held_out_scores

    # ---- all of it in one word ----

    def doubted(
        self: Any,
        labels: np.ndarray,
        X: ArrayLike | Tensor,
        *,
        unknown: str | None = None,
        keep: float = 0.95,
        answer_only: float | None = None,
        confidence: float = 0.9,
    ) -> np.ndarray:
        """Labels (n,) with "unknown" and "unsure" in place of those that are not to be given."""
        for word, asked in ((UNKNOWN, unknown), (UNSURE, answer_only)):
            if asked is not None and word in self.classes_.tolist():
                raise LabelError(
                    f"class {word!r}",
                    expected="classes with other names",
                    got="one that is called as images without an answer are",
                    fix="Rename the class, or use is_unknown and answers.",
                )
        out = labels if labels.dtype.kind in "OU" else labels.astype(object)
        if answer_only is not None:
            out = np.where(
                self.answers(X, accuracy=answer_only, confidence=confidence),
                out,
                np.array(UNSURE, out.dtype.kind),
            )
        if unknown is not None:
            out = np.where(
                self.is_unknown(X, score=unknown, keep=keep), np.array(UNKNOWN, out.dtype.kind), out
            )
        return out
