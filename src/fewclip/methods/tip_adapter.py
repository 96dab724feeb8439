"""Tip-Adapter: the labelled images as a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.methods.cache import BETAS, CacheMethod, KeySet
from fewclip.methods.parameters import one_or
from fewclip.methods.support import Support
from fewclip.selection import Setting


class TipAdapter(CacheMethod):
    """Tip-Adapter, training-free: z = s·f Tᵀ + α · exp(−β(1 − f Xᵀ)) L.

    Args:
        alpha: Weight α ≥ 0 of the cache, or ``"auto"``. The paper starts at 1.
        beta: Sharpness β ≥ 0 of the affinity, or ``"auto"``. The paper starts at 5.5.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Differs from the published code: settings are never chosen on the test set; with unequal shots or
    classes without images the class sums are balanced (``class_balance=False`` gives the bare formula).

    Reference: Zhang et al. 2022, arXiv:2207.09519, equation 4.
    """

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        beta: float | str = "auto",
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
        self.alpha = alpha
        self.beta = beta

    def _key_set(self, support: Support, n_channels: int, seen: Tensor | None = None) -> KeySet:
        return KeySet(support.keys)

    def _search_space(self) -> dict[str, tuple[float, ...]]:
        return {"beta": one_or(self.beta, BETAS)}

    def _default_setting(self, support: Support) -> Setting:
        return {"beta": one_or(self.beta, (1.0,))[0]}
