"""The one abstract class of all methods: validation, classes, devices, and scikit-learn's contract."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from fewclip.errors import FeatureError, LabelError, ParameterError
from fewclip.functional import Calibration, class_sums, held_to_range, unit, zero_shot_logits
from fewclip.methods.doubt import Doubting
from fewclip.methods.held_out import CALIBRATIONS, chosen_numbers, fitted_calibration, refitted_held_out
from fewclip.methods.support import Rows, Support, group_views
from fewclip.methods.trust import judged_columns, one_row_an_image
from fewclip.methods.validation import (
    as_numpy,
    check_features,
    check_labels,
    check_text_features,
    encode_labels,
    unit_rows,
)
from fewclip.selection import FEWSHOT_LABELS, PROTOCOLS, HeldOut, Protocol, SelectionResult

_LANES = 16  # float32 numbers of the widest register
_TILE_ROWS = 2048  # queries of one prediction that are on the device at once


class FewShotMethod(Doubting, ClassifierMixin, BaseEstimator, ABC):
    """A few-shot classifier on the features of a frozen vision-language model.

    A method implements ``_fit`` and ``_logits``; everything else stands here once.

    Args:
        text_features: Text features T, (c, d), or a list of c arrays (p, d) of several prompts a class,
            averaged where a method wants one row. None: the class means of the labelled images stand in
            (vision-only; every class then needs an image).
        classes: The labels of the rows of ``text_features``; None: the sorted labels of ``y``, whose number
            must then agree. A class without labelled images lives on its text alone.
        logit_scale: s, the factor on cosines; belongs to the encoder (100 for OpenAI CLIP).
        selection: How hyper-parameters set to ``"auto"`` are chosen: ``none`` (fixed defaults), ``loo``
            (leave-one-out on the labelled images), ``fewshot`` (at most 4 labels a class of ``X_val``),
            ``full`` (all of ``X_val``), ``auto`` (``full`` if ``X_val`` is given, else ``loo``, and
            ``none`` where no class has two images).
        class_balance: Scale the cache sum of each class by k̄/k_c, and let classes without images live on
            their text. False: the published sums.
        safe: Whether a method that learns more than a weight of the cache is mixed back towards zero-shot,
            z₀ + λ(z − z₀), as far as images that it has not learnt ask for (λ = 1: not at all). Cache
            methods are such mixes by their α. Nothing is mixed where α is a number, where nothing can be
            judged, or where ``full`` finds no gain on ``X_val``.
        calibration: How sure ``predict_proba`` is; the winner never changes. ``auto``: a temperature and an
            evenness of rows (``functional.Calibration``), from logits of labelled images that the head has
            not learnt (of ``X_val`` where that chooses), drawn towards the encoder's own scale where they are
            few; that scale where no class has two images. ``sals``: every row has the range of its zero-shot
            logits. ``none``: the bare softmax.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``, …
        random_state: Seed of methods that draw random numbers, an int or None.

    Attributes:
        classes_: Sorted labels, (c,). Columns of all outputs follow it.
        n_features_in_: d.
        text_features_: Unit-norm text features in the order of ``classes_``, (c, d).
        support_features_: One unit-norm key an image, (m, d); views of an image are averaged.
        support_labels_: Class index of each key, (m,).
        selection_: What was tried and chosen, a ``SelectionResult``.
        mix_: λ of the safe mix, 0–1; 1: the bare method.
        temperature_, evenness_, spread_: T, ρ and a of ``functional.Calibration`` in ``predict_proba``.
    """

    classes_: np.ndarray
    n_features_in_: int
    text_features_: Tensor
    support_features_: Tensor
    support_labels_: Tensor
    selection_: SelectionResult
    temperature_: float
    mix_: float = 1.0
    evenness_: float = 0.0
    spread_: float = 1.0

    _least_temperature: ClassVar[float] = 0.0
    """Scores that ask for a smaller temperature stay as they are."""
    uses_tokens: ClassVar[bool] = False
    """Whether ``X`` may hold spatial tokens, (n, 1 + L, d)."""

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        self.text_features = text_features
        self.classes = classes
        self.logit_scale = logit_scale
        self.selection = selection
        self.class_balance = class_balance
        self.safe = safe
        self.calibration = calibration
        self.device = device
        self.random_state = random_state

    # ---- what a method implements ----

    @abstractmethod
    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        """Learns the state of the method from ``support``; chooses settings on ``validation`` if given."""

    @abstractmethod
    def _logits(self, queries: Tensor) -> Tensor:
        """Logits (n, c) of unit-norm queries (n, d)."""

    def _key_contributions(self, queries: Tensor) -> Tensor | None:
        """What each labelled image adds to the logit of its class, (n, m); None: the method has no cache."""
        return None

    def chosen_parameters(self, names: Collection[str]) -> dict[str, Any]:
        """Those of these parameters that the fit has chosen, as what it chose, for ``set_params``."""
        return chosen_numbers(self, {k: v for k, v in self.selection_.settings.items() if k in names})

    def _held_out(self, support: Support, result: SelectionResult) -> HeldOut | None:
        """Logits of labelled rows by heads that have not learnt their image; None if there are none.

        Those that the settings were chosen on, else of refits on up to four folds.
        """
        return refitted_held_out(self, support, result) if result.held_out is None else result.held_out

    # ---- scikit-learn's contract ----

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        groups: ArrayLike | None = None,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> Self:
        """Adapts to labelled images.

        Args:
            X: Features, (r, d); normalised here.
            y: Labels, (r,).
            groups: Rows that share a value are views of one image, (r,); None: every row its own image.
            X_val: Features of validation images for ``selection="full"`` or ``"fewshot"``, (n, d).
            y_val: Their labels, (n,).

        Raises:
            FeatureError: NaN, infinity, a zero row, or a dimension other than the text features'.
            LabelError: A label without a class, or classes and text features that do not agree.
            ParameterError: A parameter outside its range.
        """
        if hasattr(self, "selection_"):
            del self.selection_  # not fitted until this fit has succeeded
        X = check_features(self, as_numpy(X), reset=True)
        y = check_labels(self, X, as_numpy(y))
        self._check_parameters(X_val, y_val)
        self.classes_, labels = encode_labels(self._class_labels(), self.text_features, y)
        features = self._tensor(X)
        images, keys, key_labels = group_views(features, torch.as_tensor(labels), groups)
        support = Support(
            features, self._index(labels), images, keys, key_labels.to(keys.device), len(self.classes_)
        )
        self._learn(support, self._validation_rows(X_val, y_val, X))
        return self

    def fit_part(self, whole: FewShotMethod, support: Support, validation: Rows | None) -> HeldOut | None:
        """Fits this method as a part of another, on the images that the other has checked.

        Args:
            whole: The other method, which shares its classes.
            support: Its labelled images.
            validation: Its validation rows.

        Returns:
            Calibrated logits of images that this method has not learnt; None if there are none.
        """
        self._check_parameters(validation, validation)
        self.classes_, self.n_features_in_ = whole.classes_, whole.n_features_in_
        return self._learn(support, validation)

    def _learn(self, support: Support, validation: Rows | None) -> HeldOut | None:
        self.support_features_, self.support_labels_ = support.keys, support.key_labels
        self.text_features_ = self._text_rows(support)
        self.temperature_ = self.spread_ = self.mix_ = 1.0
        self.evenness_, self.held_out_, self.known_scores_ = 0.0, None, None
        result = self._fit(support, validation)
        held_out = self._judge_itself(support, result, validation=validation is not None)
        self.selection_ = dataclasses.replace(result, held_out=None)
        return held_out

    def _judge_itself(self, support: Support, result: SelectionResult, *, validation: bool) -> HeldOut | None:
        """Calibrates, keeps what guarantees rest on, and gives calibrated logits of images not learnt."""
        wanted = self.calibration != "none"
        held_out = self._held_out(support, result) if wanted else result.held_out
        if held_out is None or not len(held_out.labels):
            return None
        if self.calibration == "auto":
            found = fitted_calibration(held_out)
            if found.temperature < self._least_temperature:
                found = Calibration()
            self.temperature_, self.evenness_, self.spread_ = found.temperature, found.evenness, found.spread
        held_out = dataclasses.replace(held_out, logits=self._calibration().scaled(held_out.logits.detach()))
        rows = one_row_an_image(held_out, support.shots)
        self.held_out_ = judged_columns(held_out.logits[rows], held_out.labels[rows])
        independent = "validation" if validation else "text"
        self.held_out_kind_ = independent if held_out.independent else "support"
        return held_out

    def predict_logits(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Logits, (n, c), float32, columns in the order of ``classes_``; never calibrated."""
        queries = self._checked_queries(X)
        out, start = np.empty((len(queries), len(self.classes_)), dtype=np.float32), 0
        for logits in self._tiles(queries):
            out[start : start + len(logits)] = logits.numpy()
            start += len(logits)
        return out

    def _tiles(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Logits of some thousand rows at a time, on the CPU: a memory map need not fit."""
        step = _TILE_ROWS if rows.ndim == 2 else max(1, _TILE_ROWS // rows.shape[1])
        for start in range(0, max(1, len(rows)), step):  # at least one tile
            with torch.inference_mode():
                yield self._tile_logits(self._tensor(rows[start : start + step])).cpu()

    def _tile_logits(self, queries: Tensor) -> Tensor:
        return self._mixed_logits(_full_registers(queries))[: len(queries)]

    def predict(
        self,
        X: ArrayLike | Tensor,
        *,
        unknown: str | None = None,
        keep: float = 0.95,
        answer_only: float | None = None,
        confidence: float = 0.9,
    ) -> np.ndarray:
        """Labels, (n,).

        Args:
            X: Features, (n, d).
            unknown: Images of none of the classes get the label "unknown", by this score (``is_unknown``;
                ``"auto"`` is a good one). None: every image gets a class.
            keep: Share of images of known classes that are to be kept.
            answer_only: 0.95: only answers of which 95 % are right (``answers``); the others are "unsure".
            confidence: Probability of that promise.
        """
        queries = self._checked_queries(X)
        labels = self._winners(queries)
        if unknown is None and answer_only is None:
            return labels
        return self.doubted(
            labels, queries, unknown=unknown, keep=keep, answer_only=answer_only, confidence=confidence
        )

    def _winners(self, queries: np.ndarray) -> np.ndarray:
        # Filled in place: small results kept between the large tiles would leave the heap in pieces.
        winners, start = np.empty(len(queries), dtype=np.int64), 0
        for logits in self._tiles(queries):
            winners[start : start + len(logits)] = logits.argmax(1).numpy()
            start += len(logits)
        return self.classes_[winners]

    def predict_proba(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Probabilities, (n, c): softmax of the calibrated logits; see ``calibration``."""
        return self._proba_of(torch.as_tensor(self.predict_logits(X)).double(), X)

    def proba_before_and_after(self, X: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities without calibration, the softmax of ``predict_logits``, and with it, (n, c) each."""
        logits = torch.as_tensor(self.predict_logits(X)).double()
        return torch.softmax(logits, dim=1).numpy(), self._proba_of(logits, X)

    def _proba_of(self, logits: Tensor, X: ArrayLike | Tensor) -> np.ndarray:
        if self.calibration == "sals":
            logits = held_to_range(logits, *self._text_range(self._checked_queries(X)))
        return torch.softmax(self._calibration().scaled(logits), dim=1).numpy()

    def _calibration(self) -> Calibration:
        if self.calibration != "auto":
            return Calibration()
        return Calibration(self.temperature_, self.evenness_, self.spread_)

    def _text_range(self, queries: np.ndarray) -> tuple[Tensor, Tensor]:
        """Smallest and largest zero-shot logit of every row, (n,) each."""
        with torch.inference_mode():
            texts = [self._text_logits(rows) for rows in self._tensor(queries).split(_TILE_ROWS)]
            low, high = (torch.cat([f(t, 1) for t in texts]) for f in (torch.amin, torch.amax))
        return low.cpu().double(), high.cpu().double()

    def decision_function(self, X: ArrayLike | Tensor) -> np.ndarray:
        """Logits as scikit-learn wants them: (n, c), or for two classes their difference, (n,)."""
        logits = self.predict_logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def evidence(self, X: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Splits the logits exactly into what text and what images say.

        Returns:
            (text, image, contributions): two (n, c) terms in float64 whose sum is ``predict_logits``, and
            what each of the m labelled images (in the order of ``support_labels_``) adds to the logit of its
            class, (n, m), zeros for a method without a cache.
        """
        with torch.inference_mode():
            queries = self._tensor(self._checked_queries(X))
            filled, n = _full_registers(queries), len(queries)
            logits, text = (f(filled)[:n].double() for f in (self._mixed_logits, self._text_logits))
            contributions = self._key_contributions(queries)
            if contributions is None:
                contributions = queries.new_zeros(len(queries), len(self.support_labels_))
            contributions = self.mix_ * contributions
            return text.cpu().numpy(), (logits - text).cpu().numpy(), contributions.cpu().numpy()

    # ---- shared pieces ----

    def calibrated_logits(self, queries: Tensor) -> Tensor:
        """Logits (n, c) of unit-norm queries (n, d) whose softmax is calibrated."""
        return self._calibration().scaled(self._mixed_logits(queries))

    def _mixed_logits(self, queries: Tensor) -> Tensor:
        logits = self._logits(queries)
        return logits if self.mix_ == 1 else torch.lerp(self._text_logits(queries), logits, self.mix_)

    def _text_logits(self, queries: Tensor) -> Tensor:
        return zero_shot_logits(queries, self.text_features_, logit_scale=self.logit_scale)

    def _support_logits(self, support: Support, rows: Tensor | None = None) -> Tensor:
        """Text logits of the support rows, or of some of them, (r, c).

        Class means that stand in for text leave the row's own image out: with it, they recognise it.
        """
        return self._text_logits_in(support, self.text_features_, rows)

    def _text_logits_in(self, support: Support, text: Tensor, rows: Tensor | None = None) -> Tensor:
        features, labels, images = support.features, support.labels, support.images
        if rows is not None:
            features, labels, images = features[rows], labels[rows], images[rows]
        logits = zero_shot_logits(features, text, logit_scale=self.logit_scale)
        if self.text_features is not None:
            return logits
        sums = class_sums(support.keys.T, support.key_labels, support.n_classes).T
        others = unit(sums[labels] - support.keys[images])
        own = self.logit_scale * (features * others).sum(1, keepdim=True)
        return logits.scatter(1, labels[:, None], own)

    def _checked_queries(self, X: ArrayLike | Tensor) -> np.ndarray:
        check_is_fitted(self, "selection_")
        return self._checked_rows(as_numpy(X))

    def _checked_rows(self, X: Any) -> np.ndarray:
        return check_features(self, X, reset=False)

    def _tensor(self, features: np.ndarray) -> Tensor:
        """Unit-norm rows on the method's device."""
        return torch.from_numpy(unit_rows(features)).to(self._device)

    def _index(self, labels: np.ndarray) -> Tensor:
        return torch.as_tensor(labels, dtype=torch.int64, device=self._device)

    def _class_labels(self) -> np.ndarray | None:
        return None if self.classes is None else np.asarray(self.classes)

    @property
    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ParameterError(
                f"The 'device' parameter of {type(self).__name__}",
                expected="auto, cpu, cuda or cuda:N, present on this machine",
                got=f"{self.device!r}: {str(error).splitlines()[0]}",
                fix="Use 'auto'.",
            ) from error
        return device

    def _check_parameters(self, X_val: Any, y_val: Any) -> None:
        if self.selection not in PROTOCOLS:
            raise ParameterError(
                f"The 'selection' parameter of {type(self).__name__}",
                expected=f"one of {', '.join(PROTOCOLS)}",
                got=repr(self.selection),
                fix="Choose one of these.",
            )
        if self.calibration not in CALIBRATIONS:
            raise ParameterError(
                f"The 'calibration' parameter of {type(self).__name__}",
                expected=f"one of {', '.join(CALIBRATIONS)}",
                got=repr(self.calibration),
                fix="Choose one of these.",
            )
        if (X_val is None) != (y_val is None) or (X_val is None and self.selection in ("full", "fewshot")):
            raise ParameterError(
                "X_val, y_val",
                expected="both, or neither and a selection that needs no validation labels",
                got=f"selection={self.selection!r} with {'only one' if X_val is not y_val else 'neither'}",
                fix="Pass X_val= and y_val= (images: val=, command line: --val), or selection='loo'.",
            )
        if not isinstance(self.logit_scale, Real) or not 0 < self.logit_scale < float("inf"):
            raise ParameterError(
                f"The 'logit_scale' parameter of {type(self).__name__}",
                expected="a number above 0",
                got=repr(self.logit_scale),
                fix="Pass the encoder's own, 100 for OpenAI CLIP.",
            )
        if not (self.random_state is None or isinstance(self.random_state, Integral)):
            raise ParameterError(
                f"The 'random_state' parameter of {type(self).__name__}",
                expected="an int or None",
                got=repr(self.random_state),
                fix="Pass the seed itself.",
            )

    def _text_rows(self, support: Support) -> Tensor:
        """Unit-norm text features in the order of ``classes_``, (c, d); class means if there are none."""
        if self.text_features is None:
            missing = [str(self.classes_[i]) for i in (support.shots == 0).nonzero()[:, 0].tolist()]
            if missing:
                raise LabelError(
                    f"class {missing[0]!r}",
                    expected="text features, or a labelled image of every class",
                    got="neither",
                    fix="Pass text_features=, or leave the class out of classes=.",
                )
            return self._text_in(support)
        rows = check_text_features(self.text_features, self.n_features_in_)
        if self.classes is not None:
            rows = rows[np.argsort(np.asarray(self.classes))]
        return self._tensor(rows)

    def _text_in(self, support: Support) -> Tensor:
        """Text features, (c, d); where there are none, the class means of ``support`` stand in."""
        if self.text_features is not None:
            return self.text_features_
        return unit(class_sums(support.keys.T, support.key_labels, support.n_classes).T)

    def _protocol(self, support: Support, validation: Rows | None) -> tuple[Protocol, str]:
        """The protocol in use and a sentence about it."""
        if self.selection in ("full", "fewshot"):
            return self.selection, f"Chosen on validation labels (protocol {self.selection!r})."  # type: ignore[return-value]
        if self.selection == "auto" and validation is not None:
            return "full", "Chosen on all validation labels."
        if self.selection == "none":
            return "none", "Fixed defaults, as asked for."
        if int(support.shots.max()) < 2:
            return "none", "Fixed defaults: with one image a class nothing can be left out."
        return "loo", "Chosen by leave-one-out on the labelled images; no further label was used."

    def _judged_rows(self, support: Support, validation: Rows, protocol: Protocol) -> Rows:
        """All validation rows; for ``fewshot`` min(k, 4) of every class, k the mean number of shots."""
        if protocol != "fewshot":
            return validation
        k = min(FEWSHOT_LABELS, max(1, round(len(support.keys) / int((support.shots > 0).sum()))))
        generator = torch.Generator().manual_seed(self.random_state or 0)
        content = torch.argsort(validation.features.sum(1), stable=True)  # not in the order of rows
        order = content[torch.randperm(len(content), generator=generator).to(content.device)]
        kept = [order[validation.labels[order] == label][:k] for label in validation.labels.unique()]
        rows = torch.cat(kept)
        return Rows(validation.features[rows], validation.labels[rows])

    def _validation_rows(self, X_val: Any, y_val: Any, X: np.ndarray) -> Rows | None:
        if X_val is None or y_val is None:
            return None
        features = check_features(self, as_numpy(X_val), reset=False, name="X_val")
        labels = check_labels(self, features, as_numpy(y_val), name="y_val")
        seen = {row.tobytes() for row in np.asarray(X, np.float32)}
        shared = [i for i, row in enumerate(np.asarray(features, np.float32)) if row.tobytes() in seen]
        if shared:
            raise FeatureError(
                f"X_val row {shared[0]}",
                expected="images that are not in X",
                got=f"{len(shared)} rows that are",
                fix="Keep the validation images out of the fit, or use selection='loo'.",
            )
        known = dict(zip(self.classes_.tolist(), range(len(self.classes_)), strict=True))
        strange = sorted({str(label) for label in labels.tolist() if label not in known})
        if strange:
            raise LabelError(
                f"y_val label {strange[0]!r}",
                expected="one of the fitted classes",
                got="a label that is none of them",
                fix="Remove these rows, or add the class with its images or its text.",
            )
        return Rows(self._tensor(features), self._index(np.array([known[v] for v in labels.tolist()])))


def _full_registers(queries: Tensor) -> Tensor:
    """The rows, filled up with the first of them to a multiple of 16.

    The rest of an odd number of rows would take another path and round differently, so that a row's result
    would depend on how many others come along.
    """
    missing = -len(queries) % _LANES
    if not missing:
        return queries
    return torch.cat([queries, queries[:1].expand(missing, *queries.shape[1:])])
