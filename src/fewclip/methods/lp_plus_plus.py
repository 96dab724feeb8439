"""LP++: class weights and a weight of each class's text, with step sizes from Lipschitz constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import lp_plus_plus_logits
from fewclip.methods.head_task import HeadTask
from fewclip.methods.linear_heads import LinearHeadMethod
from fewclip.methods.parameters import is_count
from fewclip.methods.solvers import Parameters, check_finite
from fewclip.methods.support import Support

_MOMENTUM = 0.9
_TEXT_EVERY = 10  # epochs
_TEXT_START = 2.5  # times the logit scale: the paper's 250 at CLIP's 100


class LPPlusPlus(LinearHeadMethod):
    """LP++: z = f · w_c + b_c + a_c · f · T_c.

    w_c starts at the sum of the features of class c, a_c at 2.5 s times the mean cosine of an image and its
    text. w and b descend with momentum at the step 4/λ_max(Xᵀ W X), W the weights of the rows; every tenth
    epoch a descends at the step 1/(4 max_c Σ_i W_i (x_i · T_c)²).

    Args:
        epochs: Steps on all images; the paper has 300.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Nothing is drawn, so ``random_state`` changes nothing.

    Attributes:
        weights_, bias_, text_weights_: w, (c, d), b, (c,), and a, (c,).
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.

    Differs from the published code: the gradient of a is computed afresh; there it is never set to zero, so
    that each step adds up all before. All views at once.

    Reference: Huang et al. 2024, arXiv:2404.02285, equations 3 and 8–12.
    """

    _NAMES: ClassVar[tuple[str, ...]] = ("weights", "bias", "text_weights")
    weights_: Tensor
    bias_: Tensor
    text_weights_: Tensor

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        epochs: int = 300,
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
        self.epochs = epochs

    def _start(self, text: Tensor) -> Parameters:
        c = len(text)
        return {
            "weights": torch.zeros_like(text),
            "bias": text.new_zeros(c),
            "text_weights": text.new_zeros(c),
        }

    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        return lp_plus_plus_logits(queries, text, **parameters)

    def _default(self, support: Support) -> float:
        return 0.0

    def _solve(self, task: HeadTask, start: Parameters, setting: float, *, rough: bool) -> Parameters:
        X, y, row_weights = task.features, task.labels, task.weights
        cosines = X @ task.text.T
        own = torch.zeros_like(cosines).scatter_(1, y[:, None], 1.0)
        n_images = task.shots * float(task.present.sum())
        w = n_images * (own * row_weights[:, None]).T @ X
        a = _TEXT_START * self.logit_scale * (row_weights @ (own * cosines).sum(1)) * torch.ones_like(w[:, 0])
        b = torch.zeros_like(a)
        moment = scatter(X, row_weights)
        step = 4.0 / float(torch.linalg.eigvalsh(moment)[-1])
        text_step = 1.0 / (4.0 * float((row_weights @ cosines.square()).max().clamp(min=1e-12)))
        velocity_w, velocity_b = torch.zeros_like(w), torch.zeros_like(b)
        for epoch in range(int(self.epochs)):
            error = self._error(task, own, {"weights": w, "bias": b, "text_weights": a})
            velocity_w = _MOMENTUM * velocity_w + error.T @ X
            velocity_b = _MOMENTUM * velocity_b + error.sum(0)
            w, b = w - step * velocity_w, b - step * velocity_b
            if (epoch + 1) % _TEXT_EVERY == 0:
                error = self._error(task, own, {"weights": w, "bias": b, "text_weights": a})
                a = a - text_step * (error * cosines).sum(0)
        learnt = {"weights": w, "bias": b, "text_weights": a}
        check_finite(task.loss(learnt), "epochs=")
        return learnt

    @staticmethod
    def _error(task: HeadTask, own: Tensor, learnt: Parameters) -> Tensor:
        """Derivative of the loss by the logits, (r, c)."""
        return task.weights[:, None] * (torch.softmax(task.logits(learnt), dim=1) - own)

    def _check_settings(self) -> None:
        self._require("epochs", is_count(self.epochs), "an int ≥ 0")


def scatter(rows: Tensor, weights: Tensor) -> Tensor:
    """Xᵀ W X, or the smaller W½ X Xᵀ W½ with the same largest eigenvalue."""
    weighted = weights.sqrt()[:, None] * rows
    return weighted.T @ weighted if rows.shape[1] <= len(rows) else weighted @ weighted.T
