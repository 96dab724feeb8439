"""TaskRes: a residual on the text features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import task_res_weights, zero_shot_logits
from fewclip.methods.head_task import HeadTask
from fewclip.methods.linear_heads import LinearHeadMethod
from fewclip.methods.parameters import is_auto, is_count, is_number
from fewclip.methods.solvers import Parameters, adam
from fewclip.methods.ss_text import check_text_norm
from fewclip.methods.support import Support

_FEW, _MANY, _SHOTS = 100, 200, 4  # epochs up to four shots, and above
_ROUGH_EPOCHS = 50  # of heads that only judge, at a rate that leads as far


class TaskRes(LinearHeadMethod):
    """Task residual: z = s · f · unit(R·T_c + a·r_c), r starts at 0 and learns by Adam.

    Args:
        residual_scale: a > 0, or ``"auto"``: chosen from 2, 1 and 0.5. The paper has 0.5 (1 on one data set).
        epochs: Steps of Adam on all images; None: 100 up to four shots, else 200.
        learning_rate: Of Adam, falling along a cosine.
        text_norm: R, the norm of text features as the encoder gives them.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Nothing is drawn, so ``random_state`` changes nothing.

    Attributes:
        residual_: a·r, (c, d).
        residual_scale_: a in use.
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.

    Differs from the published code: all images and views in every step; Adam's eps is 1e-4, so that rounding
    is not amplified where nothing is left to learn; a is chosen. Minimised to its end it would be
    linear-probe.

    Reference: Yu et al. 2023, arXiv:2211.10277, equations 5–6.
    """

    _SETTING: ClassVar[str | None] = "residual_scale"
    _PATH: ClassVar[tuple[float, ...]] = (2.0, 1.0, 0.5)
    _NAMES: ClassVar[tuple[str, ...]] = ("residual",)
    residual_: Tensor
    residual_scale_: float

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        residual_scale: float | str = "auto",
        epochs: int | None = None,
        learning_rate: float = 2e-3,
        text_norm: float = 9.0,
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
        self.residual_scale = residual_scale
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.text_norm = text_norm

    def _start(self, text: Tensor) -> Parameters:
        return {"residual": text.new_zeros(text.shape)}

    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        weights = task_res_weights(text, parameters["residual"], text_norm=self.text_norm)
        return zero_shot_logits(queries, weights, logit_scale=self.logit_scale)

    def _default(self, support: Support) -> float:
        return 0.5

    def _solve(self, task: HeadTask, start: Parameters, setting: float, *, rough: bool) -> Parameters:
        epochs = self.epochs
        if epochs is None:
            epochs = _FEW if round(task.shots) <= _SHOTS else _MANY
        steps = min(epochs, _ROUGH_EPOCHS) if rough else epochs
        # Adam does not see the size of a gradient: a·r at the rate η is a residual at the rate a·η.
        rate = float(self.learning_rate) * setting * epochs / max(1, steps)
        return adam(self._start(task.text), task.loss, steps=steps, learning_rate=rate, what="learning_rate=")

    def _check_settings(self) -> None:
        check_text_norm(self)
        a, rate = self.residual_scale, self.learning_rate
        self._require(
            "residual_scale", is_auto(a) or (is_number(a) and 0 < float(a) < 1e6), "'auto' or a number > 0"
        )
        self._require("epochs", self.epochs is None or is_count(self.epochs), "an int ≥ 0, or None")
        self._require("learning_rate", is_number(rate) and 0 <= rate < float("inf"), "a number ≥ 0")
