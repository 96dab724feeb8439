"""A linear map of the feature that starts at the identity and is pulled back to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import linear_adapter_logits, text_basis
from fewclip.methods.head_task import HeadTask
from fewclip.methods.linear_heads import PulledHeadMethod
from fewclip.methods.solvers import Parameters
from fewclip.methods.support import Support


class LinearAdapter(PulledHeadMethod):
    """Linear adapter: z = s · unit(f + f Δ) · T, Δ starts at 0.

    Minimises cross-entropy + λ ‖Δ‖²_F. With ``span`` Δ = A Qᵀ, Q an orthonormal basis of the centred texts:
    what lies across them tells no classes apart.

    Args:
        span: Whether Δ is restricted to the span of the centred texts (P0), as good and cheaper.
        penalty: λ ≥ 0, or ``"auto"``: chosen from a path from 1 to 0.0003. The paper has 1/k at k shots.
        max_steps: Steps of L-BFGS at most.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Nothing is drawn, so ``random_state`` changes nothing.

    Attributes:
        delta_: A, (d, rank of the centred texts), or Δ, (d, d).
        basis_: Q, (d, rank), or the identity's place holder, (0, 0).
        penalty_: λ in use.
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.

    Differs from the published code: it fine-tunes the last projection of CLIP's image tower, which needs its
    inside; here any feature will do. L-BFGS on all views instead of 300 steps of Adam on one view each.

    Reference: Fahes et al. 2024 (ProLIP), arXiv:2410.05270, equations 4–5.
    """

    _PATH: ClassVar[tuple[float, ...]] = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
    _NAMES: ClassVar[tuple[str, ...]] = ("delta", "basis")
    delta_: Tensor
    basis_: Tensor

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        span: bool = True,
        penalty: float | str = "auto",
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
            text_features, classes=classes, penalty=penalty, max_steps=max_steps, logit_scale=logit_scale,
            selection=selection, class_balance=class_balance, safe=safe, calibration=calibration,
            device=device, random_state=random_state,
        )  # fmt: skip
        del self.text_norm  # Δ has no scale of the text
        self.span = span

    def _start(self, text: Tensor) -> Parameters:
        d = text.shape[1]
        width = self._fixed(text)["basis"].shape[1] if self.span else d
        return {"delta": text.new_zeros(d, width)}

    def _fixed(self, text: Tensor) -> Parameters:
        return {"basis": text_basis(text) if self.span else text.new_zeros(0, 0)}

    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        basis = parameters["basis"] if self.span else None
        return linear_adapter_logits(
            queries, text, parameters["delta"], basis=basis, logit_scale=self.logit_scale
        )

    def _pull(self, learnt: Parameters, task: HeadTask) -> Tensor:
        return learnt["delta"].square().sum()

    def _default(self, support: Support) -> float:
        paper = int((support.shots > 0).sum()) / len(support.keys)  # 1/k
        return min(self._PATH, key=lambda penalty: abs(torch.tensor(penalty / paper).log().item()))

    def _check_settings(self) -> None:
        self._check_solver()
        self._require("span", isinstance(self.span, bool), "True or False")
