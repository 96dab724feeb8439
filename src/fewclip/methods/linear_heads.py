"""Heads that are linear in the feature and start at the text: one base for the family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import fill_absent, text_pull
from fewclip.methods.base import FewShotMethod
from fewclip.methods.head_task import HeadTask, LinearHead
from fewclip.methods.judged_heads import judged_heads
from fewclip.methods.parameters import is_auto, is_count, is_number, one_or
from fewclip.methods.solvers import Parameters, lbfgs
from fewclip.methods.ss_text import check_text_norm
from fewclip.methods.support import Rows, Support
from fewclip.selection import SelectionResult, Setting

# Largest gradient to stop at, in s/c: of folds, of all images, and of all images where float64 is used.
_ROUGH, _FINE, _EXACT = 1e-3, 1e-4, 1e-7
_ROUGH_STEPS = 40  # at most, for heads that only judge
_LEFT_OUT = 200  # images that are enough to judge by: no further fold is trained


class LinearHeadMethod(FewShotMethod):
    """A head whose parameters are fitted on all labelled images at once, from a start at the text.

    All views of an image are learnt at once, each with 1/V of its weight; classes weigh alike. A setting of
    the fit, in most methods the pull back to the start, is chosen together with the safe mix from a short
    path: on validation labels if given, else on folds that leave one shot of every class out. Classes without
    images keep their text: nobody speaks for them, so they take no part in the loss, and get the row's
    largest gain.

    Attributes:
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.
    """

    _SETTING: ClassVar[str | None] = None
    """The parameter that is chosen from a path; None: there is none."""
    _PATH: ClassVar[tuple[float, ...]] = ()
    """Its values, the strongest pull first."""
    _NAMES: ClassVar[tuple[str, ...]] = ("weights",)
    """What the formula needs; kept with a ``_`` behind."""

    present_: Tensor
    n_parameters_: int

    # ---- what a method implements ----

    @abstractmethod
    def _start(self, text: Tensor) -> Parameters:
        """First values of what is learnt, by name; ``text``: T, (c, d)."""

    @abstractmethod
    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        """Logits (n, c) of queries (n, d)."""

    @abstractmethod
    def _solve(self, task: HeadTask, start: Parameters, setting: float, *, rough: bool) -> Parameters:
        """What is learnt from ``start``; ``rough``: only to compare settings."""

    @abstractmethod
    def _default(self, support: Support) -> float:
        """The setting where nothing can be judged, and to which the choice leans."""

    def _fixed(self, text: Tensor) -> Parameters:
        """What the formula needs besides and is not learnt."""
        return {}

    def _finished(self, learnt: Parameters, text: Tensor) -> Parameters:
        """What is predicted with, of what was learnt."""
        return learnt

    def _holds(self, support: Support, text: Tensor) -> Tensor:
        """How strongly each class is held by its text, (c,)."""
        return text.new_ones(len(text))

    def _text_samples(self, support: Support) -> Rows | None:
        """Texts that are learnt like images, with half of the weight."""
        return None

    # ---- shared ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        self.present_ = support.shots > 0
        name, path, default = self._SETTING, self._PATH, self._default(support)
        if name is not None:
            given = getattr(self, name)
            path, default = one_or(given, path), one_or(given, (default,))[0]
        space = {} if name is None else {name: path}
        head = LinearHead(self, support)
        most = -(-_LEFT_OUT // max(1, int((support.shots > 1).sum())))

        def refitted(rest: Support, what: str) -> LinearHead:
            return LinearHead(self, rest, rough=True)

        rows = judged_heads(self, support, validation, head, refitted, max_folds=most)
        if rows is None:
            note = "Fixed defaults; no further label was used."
            result = SelectionResult("none", {} if name is None else {name: default}, note=note)
        else:
            logits: dict[float, Tensor] = {}

            def at(setting: Setting) -> Tensor:
                value = setting.get(name or "", default)
                if value not in logits:
                    logits[value] = rows.each(lambda head, x: head.logits(x, value))
                return logits[value]

            start = {key: default for key in space}
            result = rows.mix(at, safe=self.safe, space=space, start=start)
        self.mix_ = float(result.settings.get("mix", 1.0))
        chosen = float(result.settings.get(name or "", default))
        if name is not None:
            setattr(self, f"{name}_", chosen)
        self.n_parameters_ = sum(value.numel() for value in head.at(chosen).values())
        for key, value in head.predicts_with(chosen).items():
            setattr(self, f"{key}_", value.float())
        return result

    def _logits(self, queries: Tensor) -> Tensor:
        learnt = {name: getattr(self, f"{name}_") for name in self._NAMES}
        logits = self._formula(queries, self.text_features_, learnt)
        return self._filled(logits, self._text_logits(queries), self.present_)

    def _filled(self, logits: Tensor, text_logits: Tensor, present: Tensor) -> Tensor:
        """Classes without images get zero-shot's logit plus the row's largest gain over it."""
        if not self.class_balance or bool(present.all()):
            return logits
        return text_logits + fill_absent(logits - text_logits, present)

    @abstractmethod
    def _check_settings(self) -> None:
        """Raises ParameterError for a parameter out of range."""

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ParameterError(
                f"The {name!r} parameter of {type(self).__name__}",
                expected=expected,
                got=repr(getattr(self, name)),
                fix="Leave it at its default unless you reproduce a published setting.",
            )


class PulledHeadMethod(LinearHeadMethod):
    """Cross-entropy plus a pull back to the start, minimised by L-BFGS.

    Args:
        penalty: Factor on the pull, or ``"auto"``.
        text_norm: R, the norm of text features as the encoder gives them; the pull is measured at that scale.
        max_steps: Steps of the minimisation at most.

    Attributes:
        penalty_: The factor in use.
    """

    _SETTING: ClassVar[str | None] = "penalty"
    _PATH: ClassVar[tuple[float, ...]] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    _DEFAULT: ClassVar[float] = 0.1
    penalty_: float

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

    def _start(self, text: Tensor) -> Parameters:
        return {"weights": text}

    def _pull(self, learnt: Parameters, task: HeadTask) -> Tensor:
        """Penalty of parameters that have left their start, a scalar."""
        return (task.holds * text_pull(learnt["weights"], task.text, norm=self.text_norm)).mean()

    def _default(self, support: Support) -> float:
        return self._DEFAULT

    def _solve(self, task: HeadTask, start: Parameters, setting: float, *, rough: bool) -> Parameters:
        steps = min(_ROUGH_STEPS, int(self.max_steps)) if rough else int(self.max_steps)
        exact = task.features.dtype == torch.float64
        tolerance = (_ROUGH if rough else _EXACT if exact else _FINE) * self.logit_scale / len(task.text)
        return lbfgs(
            start,
            lambda p: task.loss(p) + setting * self._pull(p, task),
            max_steps=steps,
            tolerance=tolerance,
            what="penalty=",
        )

    def _check_settings(self) -> None:
        check_text_norm(self)
        self._check_solver()

    def _check_solver(self) -> None:
        good = is_auto(self.penalty) or (is_number(self.penalty) and 0 <= float(self.penalty) < 1e30)
        self._require("penalty", good, "'auto' or a number ≥ 0")
        self._require("max_steps", is_count(self.max_steps), "an int ≥ 0")
