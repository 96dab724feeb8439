"""Heads that are linear in the feature and start at the text: one base for the family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import cross_entropy

from fewclip.errors import ParameterError
from fewclip.functional import balance_factors, fill_absent
from fewclip.methods.base import FewShotMethod
from fewclip.methods.cache import is_auto, is_number, one_or
from fewclip.methods.judged_heads import judged_heads
from fewclip.methods.solvers import Parameters, lbfgs
from fewclip.methods.ss_text import check_text_norm
from fewclip.methods.support import Rows, Support
from fewclip.selection import SelectionResult, Setting

_DOUBLE = 2**22  # products of one pass up to which float64 costs nothing that is noticed
_ROUGH, _FINE, _EXACT = (
    1e-3,
    1e-4,
    1e-7,
)  # largest gradient to stop at, in s/c: of folds, of all images, in float64
_ROUGH_STEPS = 40  # at most, for heads that only judge
_LEFT_OUT = 200  # images that are enough to judge by: no further fold is trained


class LinearHeadMethod(FewShotMethod):
    """A head whose parameters minimise cross-entropy plus a pull back to where they start.

    All views of an image are learnt at once, each with 1/V of its weight; classes weigh alike. How strong the
    pull is, ``penalty="auto"``, is chosen together with the safe mix from a short path: on validation labels
    if given, else on folds that leave one shot of every class out. Classes without images keep their text:
    nobody speaks for them, so they take no part in the loss, and get the row's largest gain.

    Args:
        penalty: Factor on the pull, or ``"auto"``.
        text_norm: R, the norm of text features as the encoder gives them; the pull is measured at that scale.
        max_steps: Steps of the minimisation at most.

    Attributes:
        penalty_: The factor in use.
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.
    """

    _PATH: ClassVar[tuple[float, ...]] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    """Factors that are tried, falling: each starts where the last one ended."""
    _DEFAULT: ClassVar[float] = 0.1
    """Factor where nothing can be judged; of those that are hardly worse than the best, the nearest wins."""

    penalty_: float
    present_: Tensor
    n_parameters_: int

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        penalty: float | str = "auto",
        text_norm: float = 9.0,
        max_steps: int = 100,
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
        self.penalty = penalty
        self.text_norm = text_norm
        self.max_steps = max_steps

    # ---- what a method implements ----

    @abstractmethod
    def _start(self, text: Tensor) -> Parameters:
        """First values of what is learnt, by name; ``text``: T, (c, d)."""

    @abstractmethod
    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        """Logits (n, c) of queries (n, d)."""

    @abstractmethod
    def _pull(self, parameters: Parameters, text: Tensor, holds: Tensor) -> Tensor:
        """Penalty of parameters that have left their start, a scalar; ``holds``: see ``_holds``."""

    def _holds(self, support: Support, text: Tensor) -> Tensor:
        """How strongly each class is held by its text, (c,)."""
        return text.new_ones(len(text))

    # ---- shared ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        self.present_ = support.shots > 0
        path, default = one_or(self.penalty, self._PATH), one_or(self.penalty, (self._default(support),))[0]
        head = LinearHead(self, support)
        most = -(-_LEFT_OUT // max(1, int((support.shots > 1).sum())))
        rows = judged_heads(
            self,
            support,
            validation,
            head,
            lambda rest, _: LinearHead(self, rest, rough=True),
            max_folds=most,
        )
        if rows is None:
            note = "A fixed pull towards the text; no further label was used."
            result = SelectionResult("none", {"penalty": default}, note=note)
        else:
            logits: dict[float, Tensor] = {}

            def at(setting: Setting) -> Tensor:
                penalty = setting["penalty"]
                if penalty not in logits:
                    logits[penalty] = rows.each(lambda head, x: head.logits(x, penalty))
                return logits[penalty]

            result = rows.mix(at, safe=self.safe, space={"penalty": path}, start={"penalty": default})
        self.penalty_ = float(result.settings["penalty"])
        self.mix_ = float(result.settings.get("mix", 1.0))
        self._adopt(head.at(self.penalty_))
        return result

    def _default(self, support: Support) -> float:
        return self._DEFAULT

    def _adopt(self, parameters: Parameters) -> None:
        self.n_parameters_ = sum(value.numel() for value in parameters.values())
        for name, value in parameters.items():
            setattr(self, f"{name}_", value.float())

    def _logits(self, queries: Tensor) -> Tensor:
        learnt = {name: getattr(self, f"{name}_") for name in self._start(self.text_features_[:1])}
        logits = self._formula(queries, self.text_features_, learnt)
        return self._filled(logits, self._text_logits(queries), self.present_)

    def _filled(self, logits: Tensor, text_logits: Tensor, present: Tensor) -> Tensor:
        """Classes without images get zero-shot's logit plus the row's largest gain over it."""
        if not self.class_balance or bool(present.all()):
            return logits
        return text_logits + fill_absent(logits - text_logits, present)

    def _check_settings(self) -> None:
        check_text_norm(self)
        penalty, steps = self.penalty, self.max_steps
        for name, good, expected in (
            ("penalty", is_auto(penalty) or _within(penalty, 0, 1e12), "'auto' or a number ≥ 0"),
            (
                "max_steps",
                isinstance(steps, Integral) and not isinstance(steps, bool) and steps >= 0,
                "an int ≥ 0",
            ),
        ):
            if not good:
                raise ParameterError(
                    f"The {name!r} parameter of {type(self).__name__}",
                    expected=expected,
                    got=repr(getattr(self, name)),
                    fix="Leave it at its default unless you reproduce a published setting.",
                )


class LinearHead:
    """What one set of labelled images teaches a method, at any penalty, each minimised once.

    Args:
        method: The method.
        support: The images to learn.
        rough: Whether the head only serves to compare penalties: fewer steps tell them apart as well.
    """

    def __init__(self, method: LinearHeadMethod, support: Support, *, rough: bool = False) -> None:
        self.method, self.text, self.scale = method, method._text_in(support), method.logit_scale
        self.present = support.shots > 0
        n, (c, d) = len(support.features), self.text.shape
        self._dtype = torch.float64 if n * c * d <= _DOUBLE else torch.float32
        # In an order of content, so that rounding does not depend on the order of rows.
        order = torch.argsort(support.features.sum(1), stable=True)
        self._features, self._labels = support.features[order].to(self._dtype), support.labels[order]
        self._weights = row_weights(support, balanced=method.class_balance)[order].to(self._dtype)
        self._text = self.text.to(self._dtype)
        self._holds = method._holds(support, self.text).to(self._dtype)
        self._steps = min(_ROUGH_STEPS, int(method.max_steps)) if rough else int(method.max_steps)
        tolerance = _ROUGH if rough else _EXACT if self._dtype == torch.float64 else _FINE
        self._tolerance = tolerance * self.scale / c
        self._solved: dict[float, Parameters] = {}

    def logits(self, queries: Tensor, penalty: float) -> Tensor:
        """Logits (n, c) of the head that is fitted with this penalty."""
        with torch.no_grad():
            learnt = {name: value.float() for name, value in self.at(penalty).items()}
            logits = self.method._formula(queries, self.text, learnt)
            return self.method._filled(logits, self.scale * (queries @ self.text.T), self.present)

    def at(self, penalty: float) -> Parameters:
        """What is learnt with this penalty; started at the next stronger one that is known."""
        if penalty not in self._solved:
            stronger = [known for known in self._solved if known > penalty]
            start = self._solved[min(stronger)] if stronger else self.method._start(self._text)
            self._solved[penalty] = lbfgs(
                start,
                lambda p: self._loss(p, penalty),
                max_steps=self._steps,
                tolerance=self._tolerance,
                what="penalty=",
            )
        return self._solved[penalty]

    def _loss(self, parameters: Parameters, penalty: float) -> Tensor:
        logits = self.method._formula(self._features, self._text, parameters)
        if self.method.class_balance and not bool(self.present.all()):
            # A class that nobody shows would only be pushed away from every image.
            logits = logits.masked_fill(~self.present, -torch.inf)
        loss = self._weights @ cross_entropy(logits, self._labels, reduction="none")
        return loss + penalty * self.method._pull(parameters, self._text, self._holds)


def row_weights(support: Support, *, balanced: bool) -> Tensor:
    """Weight of each row in the loss, (r,), 1 in sum: 1/V of its image's, and classes alike if balanced."""
    views = torch.bincount(support.images, minlength=len(support.keys))
    weights = 1.0 / views[support.images].float()
    if balanced:
        weights = weights * balance_factors(support.key_labels, support.n_classes)[support.labels]
    return weights / weights.sum()


def _within(value: object, low: float, high: float) -> bool:
    return is_number(value) and low <= float(value) <= high  # type: ignore[arg-type]
