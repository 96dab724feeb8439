"""Ensemble: several methods, each mixed back towards zero-shot, and the mean of their probabilities."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from torch import Tensor
from torch.nn.functional import log_softmax

from fewclip.errors import ParameterError
from fewclip.functional import log_likelihood
from fewclip.methods.base import FewShotMethod
from fewclip.methods.parameters import is_number
from fewclip.methods.support import Rows, Support
from fewclip.selection import (
    Estimate,
    HeldOut,
    SelectionResult,
    effective_number,
    sum_by_image,
    wilson_interval,
)

DEFAULT_MEMBERS = ("gda", "proker", "linear-probe")


@dataclass(frozen=True)
class Trial:
    """One fitted method, and what it says about labelled images that it has not learnt (None: about none)."""

    name: str
    member: FewShotMethod
    held_out: HeldOut | None
    seconds: float


class Ensemble(FewShotMethod):
    """z = log Σ_i w_i p_i, p_i the calibrated probabilities of the i-th method, each of a safe mix.

    Heads err in different places, so their mean is better than picking one of them by few labels: in
    prototypes on three sets of real CLIP features its regret against the best single method in hindsight was
    0.26 points, that of picking 0.4 to 0.5.

    Args:
        methods: Names in ``METHODS``, or unfitted methods with settings of your own; text features, classes,
            logit scale, selection and seed are filled in here.
        weights: One number ≥ 0 a method, or ``"equal"``.
        verbose: Whether members that train show a progress bar.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
        random_state: See ``FewShotMethod``; passed on to the members.

    Attributes:
        members_: The fitted methods.
        weights_: Their weights, 1 in sum.

    Raises:
        ParameterError: An unknown or fitted-in name, no method, or weights that do not fit them.

    Reference: Averages of classifiers are as old as the field. Published few-shot ensembles learn gates on
    the test distribution; here weights are given, or equal.
    """

    # Its members are calibrated on the very images that would make their mean surer still, and those may
    # resemble each other: on groceries that raised the calibration error from 6 to 21 %.
    _least_temperature: ClassVar[float] = 1.0

    members_: list[FewShotMethod]
    weights_: list[float]

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        methods: Sequence[str | FewShotMethod] | None = DEFAULT_MEMBERS,
        weights: str | Sequence[float] = "equal",
        verbose: bool = False,
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            text_features, classes=classes, logit_scale=logit_scale, selection=selection,
            class_balance=class_balance, safe=safe, calibration=calibration, device=device,
            random_state=random_state,
        )  # fmt: skip
        self.methods = methods
        self.weights = weights
        self.verbose = verbose

    # ---- fit ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        begun = time.perf_counter()
        trials = [self._tried(*each, support, validation) for each in self._candidates(support)]
        weights = self._given_weights(len(trials))
        return self._take(trials, weights, "Equal weights." if self.weights == "equal" else "", begun)

    def _take(self, trials: list[Trial], weights: list[float], why: str, begun: float) -> SelectionResult:
        """Keeps the trials that have a weight, and says what was tried."""
        kept = [(trial, weight) for trial, weight in zip(trials, weights, strict=True) if weight > 0]
        self.members_ = [trial.member for trial, _ in kept]
        self.weights_ = [weight for _, weight in kept]
        results = [trial.member.selection_ for trial in trials]
        held_out = _mean(on_common_images([trial.held_out for trial, _ in kept]), self.weights_)
        what = f"{kept[0][0].name} alone." if len(kept) == 1 else f"The mean of what {len(kept)} methods say."
        return SelectionResult(
            protocol=results[0].protocol,
            settings={f"weight of {trial.name}": weight for trial, weight in kept},
            labels_used=max(result.labels_used for result in results),
            seconds=time.perf_counter() - begun,
            estimate=None if held_out is None else _estimate(held_out, kept),
            note=f"{what} {why}".strip(),
            table=[_row(trial, weight) for trial, weight in zip(trials, weights, strict=True)],
            held_out=held_out,
        )

    def _tried(self, name: str, method: FewShotMethod, support: Support, validation: Rows | None) -> Trial:
        """One member, fitted on the labelled images."""
        begun = time.perf_counter()
        member = cast(FewShotMethod, clone(method))
        shared = ("text_features", "classes", "logit_scale", "selection", "class_balance", "device")
        member.set_params(**{key: getattr(self, key) for key in (*shared, "safe", "random_state")})
        if "verbose" in member.get_params(deep=False):
            member.set_params(verbose=self.verbose)
        held_out = member.fit_part(self, support, validation)
        member.held_out_ = None  # guarantees are those of the whole
        return Trial(name, member, held_out, time.perf_counter() - begun)

    def _candidates(self, support: Support) -> Iterator[tuple[str, FewShotMethod]]:
        """Name and unfitted method of every member."""
        yield from self._named(self.methods)

    def _named(self, methods: Sequence[str | FewShotMethod] | None) -> list[tuple[str, FewShotMethod]]:
        from fewclip.methods import METHODS, method_name  # at import this module is one of them

        if methods is None or isinstance(methods, str) or not len(methods):
            raise self._bad("methods", f"at least one of {', '.join(METHODS)}", methods)
        named = []
        for method in methods:
            if isinstance(method, FewShotMethod):
                named.append((method_name(method), method))
            elif method in METHODS and not issubclass(METHODS[method], Ensemble):
                named.append((str(method), METHODS[method]()))
            else:
                raise self._bad("methods", f"names among {', '.join(METHODS)}, or method objects", method)
        return named

    def _given_weights(self, n: int) -> list[float]:
        if isinstance(self.weights, str):
            if self.weights != "equal":
                raise self._bad("weights", "'equal', or one number a method", self.weights)
            return [1 / n] * n
        weights = list(self.weights)
        good = len(weights) == n and all(is_number(w) and 0 <= w < float("inf") for w in weights)
        if not good or not sum(weights):
            raise self._bad("weights", f"{n} numbers ≥ 0 with a sum above 0", self.weights)
        return [float(weight) / sum(weights) for weight in weights]

    def _bad(self, name: str, expected: str, got: object) -> ParameterError:
        return ParameterError(
            f"The {name!r} parameter of {type(self).__name__}",
            expected=expected,
            got=repr(got),
            fix="`fewclip list` describes the methods.",
        )

    def chosen_parameters(self, names: Collection[str]) -> dict[str, Any]:
        """The members that have a say, with the settings that they have chosen, and their weights."""
        members = [cast(FewShotMethod, clone(member)) for member in self.members_]
        for copy, member in zip(members, self.members_, strict=True):
            copy.set_params(**member.chosen_parameters(names))
        return {"methods": tuple(members), "weights": tuple(self.weights_)}

    def _held_out(self, support: Support, result: SelectionResult) -> HeldOut | None:
        return result.held_out

    # ---- predict ----

    def _logits(self, queries: Tensor) -> Tensor:
        parts = zip(self.members_, self.weights_, strict=True)
        return mean_opinion([(member.calibrated_logits(queries), weight) for member, weight in parts])


def mean_opinion(parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Logarithm of the weighted mean of probabilities, (n, c), of logits (n, c) and their weights above 0.

    A mean of logits would be ruled by the member that is surest of itself.
    """
    opinions = [log_softmax(logits, dim=1) + math.log(weight) for logits, weight in parts]
    return torch.logsumexp(torch.stack(opinions), dim=0)


def _mean(parts: list[HeldOut] | None, weights: list[float]) -> HeldOut | None:
    if parts is None:
        return None
    logits = [(part.logits, weight) for part, weight in zip(parts, weights, strict=True)]
    return dataclasses.replace(parts[0], logits=mean_opinion(logits))


def _estimate(held_out: HeldOut, kept: Sequence[tuple[Trial, float]]) -> Estimate | None:
    """Accuracy of the mean on images that its members have not learnt, beside zero-shot's.

    The members have chosen their settings on these images. By how much that flatters each, its cross-fitted
    estimate says; the mean of it is taken off. One member alone keeps its own estimate.
    """
    estimates = [trial.member.selection_.estimate for trial, _ in kept]
    known = [estimate for estimate in estimates if estimate is not None]
    if len(known) < len(kept):
        return None
    flattery = sum(
        weight * (_share_right(trial.held_out) - estimate.accuracy)
        for (trial, weight), estimate in zip(kept, known, strict=True)
        if trial.held_out is not None
    )
    accuracy = min(1.0, max(0.0, _share_right(held_out) - flattery))
    n_effective = effective_number(sum_by_image(held_out.weights, held_out.images))
    low, high = wilson_interval(accuracy, n_effective)
    n_images = len(held_out.images.unique())
    return Estimate(accuracy, low, high, known[0].zero_shot, n_images, known[0].kind)


def on_common_images(parts: Sequence[HeldOut | None]) -> list[HeldOut] | None:
    """One row an image that no member has learnt, the same images for all; None if there are none.

    Rows of one image (its views, or the same row judged twice) become their weighted mean.
    """
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    n = max(int(part.images.max()) + 1 for part in known)
    seen = torch.stack([torch.bincount(part.images, minlength=n) > 0 for part in known]).all(0)
    if not bool(seen.any()):
        return None
    return [_mean_row_an_image(part, n, seen) for part in known]


def _mean_row_an_image(part: HeldOut, n: int, seen: Tensor) -> HeldOut:
    weights = part.weights.new_zeros(n).index_add(0, part.images, part.weights)
    weighted = part.logits * part.weights[:, None]
    logits = weighted.new_zeros(n, part.logits.shape[1]).index_add(0, part.images, weighted)
    labels = part.labels.new_zeros(n).scatter(0, part.images, part.labels)
    logits = (logits / weights.clamp(min=1e-12)[:, None])[seen]
    images = torch.arange(int(seen.sum()), device=logits.device)
    return HeldOut(logits, labels[seen], images, weights[seen], part.independent)


def _row(trial: Trial, weight: float) -> dict[str, Any]:
    """A line of the table: what was tried, and how it is judged."""
    held_out = trial.held_out
    return {
        "method": trial.name,
        "weight": weight,
        "mix": trial.member.mix_,
        "accuracy": None if held_out is None else _share_right(held_out),
        "score": None if held_out is None else _score(held_out),
        "seconds": trial.seconds,
    }


def _share_right(held_out: HeldOut) -> float:
    """Weighted share of images that are right, 0–1."""
    right = held_out.logits.argmax(1) == held_out.labels
    return float(held_out.weights[right].sum() / held_out.weights.sum())


def _score(held_out: HeldOut) -> float:
    """Mean log-likelihood an image, in nats."""
    likelihood = log_likelihood(held_out.logits, held_out.labels).double() * held_out.weights
    return float(likelihood.sum() / held_out.weights.sum())
