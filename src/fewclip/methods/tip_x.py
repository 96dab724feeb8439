"""Tip-X: Tip-Adapter, and keys compared with queries by what the text makes of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import affinity, class_sums, tip_x_affinity, tip_x_divergence
from fewclip.functional.tip_x import divergence_of_opinions, text_opinions
from fewclip.methods.cache import BETAS, CacheMethod, KeySet
from fewclip.methods.parameters import is_auto, is_number, one_or
from fewclip.methods.support import Rows, Support
from fewclip.selection import SelectionResult, Setting

_TILE = 2**22  # affinities held at once in prediction (float32: 16 MiB)
_RATIOS = (0.0, 0.25, 0.5, 1.0, 2.0)  # γ/α, tried for gamma="auto"


@dataclass(frozen=True)
class _Keys(KeySet):
    """Keys with the text's opinions of them, and the two ranges that are frozen at fit."""

    text: Tensor | None = None
    opinions: Tensor | None = None
    temperature: float = 0.5
    source_range: tuple[float, float] = (0.0, 0.0)
    target_range: tuple[float, float] = (0.0, 0.0)

    def cosines(self, queries: Tensor) -> Tensor:
        """Cosines, and below them the Tip-X affinities −ψ(D), (n, 2, m)."""
        assert self.text is not None
        assert self.opinions is not None
        opinions = text_opinions(queries, self.text, temperature=self.temperature)
        divergence = divergence_of_opinions(opinions, self.opinions).to(queries.dtype)
        affinity = tip_x_affinity(divergence, source_range=self.source_range, target_range=self.target_range)
        return torch.stack([queries @ self.keys.T, affinity], dim=1)


class TipX(CacheMethod):
    """Tip-X, training-free: z = Tip-Adapter + γ · A L, A = −ψ(KL(p(f) ‖ p(X))), p(x) = softmax(x Tᵀ/τ).

    Args:
        alpha: Weight α ≥ 0 of the affinities, or ``"auto"``.
        beta: Sharpness β ≥ 0 of the affinities, or ``"auto"``.
        gamma: Weight γ ≥ 0 of the Tip-X term; needs ``alpha`` > 0 beside it. ``"auto"``: chosen as a
            multiple of α; at one and two images a class α/2, or 0 where they are worth more than the text.
        temperature: τ > 0, on cosines; the paper has 0.5.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Attributes:
        source_range_, target_range_: (low, high) of the divergences and of the cosines between different
            keys; ψ maps the first onto the second.
        gamma_: γ in use.

    Differs from the published code, which takes both ranges over the whole test batch: ours are frozen at
    fit, over pairs of different keys, so a prediction does not depend on its neighbours. With fewer than two
    keys, or divergences that do not vary, the term is 0.

    Reference: Udandarao et al. 2023, SuS-X, arXiv:2211.16198, section 3.2.
    """

    _not_judged_by_pairs: ClassVar[tuple[str, ...]] = ("beta", "ratio")

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        beta: float | str = "auto",
        gamma: float | str = "auto",
        temperature: float = 0.5,
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
        self.gamma = gamma
        self.temperature = temperature

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        result = super()._fit(support, validation)
        self.ratio_ = float(result.settings["ratio"])
        self.gamma_ = self.alpha_ * self.ratio_
        return result

    def _key_set(self, support: Support, n_channels: int, seen: Tensor | None = None) -> KeySet:
        keys, text = support.keys, self.text_features_
        self.source_range_ = self.target_range_ = (0.0, 0.0)
        if len(keys) > 1:
            others = ~torch.eye(len(keys), dtype=torch.bool, device=keys.device)
            divergence = tip_x_divergence(keys, keys, text, temperature=self.temperature)[others]
            cosines = (keys @ keys.T)[others]
            self.source_range_ = (float(divergence.min()), float(divergence.max()))
            self.target_range_ = (float(cosines.min()), float(cosines.max()))
        return self._keys(keys)

    def _keys(self, keys: Tensor) -> _Keys:
        low, high = self.source_range_
        start, stop = self.target_range_
        return _Keys(
            keys,
            text=self.text_features_,
            opinions=text_opinions(keys, self.text_features_, temperature=self.temperature),
            temperature=self.temperature,
            source_range=(low, high),
            target_range=(start, stop),
        )

    def _search_space(self) -> dict[str, tuple[float, ...]]:
        return {"ratio": self._ratios(_RATIOS), "beta": one_or(self.beta, BETAS)}

    def _default_setting(self, support: Support) -> Setting:
        # What the text thinks of two images makes them alike only where it is worth more than they are.
        ratio = 0.5 if self._default_strength(support) <= 1 else 0.0
        return {"ratio": self._ratios((ratio,))[0], "beta": one_or(self.beta, (1.0,))[0]}

    def _ratios(self, choices: tuple[float, ...]) -> tuple[float, ...]:
        """γ/α: of two numbers their quotient, else ``choices``."""
        if is_auto(self.gamma):
            return choices
        gamma = float(self.gamma)
        return (gamma / float(self.alpha) if gamma else 0.0,)

    def _values(self, key_set: KeySet, cosines: Tensor, setting: Setting) -> Tensor:
        return affinity(cosines[:, 0], beta=setting["beta"]) + setting["ratio"] * cosines[:, 1]

    def _fitted_keys(self) -> KeySet:
        return self._keys(self.keys_)

    def _sums(self, queries: Tensor) -> Tensor:
        key_set, tiles = self._fitted_keys(), queries.split(max(1, _TILE // len(self.keys_)))
        parts = [self._query_values(key_set, tile) for tile in tiles]
        return torch.cat([class_sums(values, self.support_labels_, len(self.classes_)) for values in parts])

    def _query_values(self, key_set: KeySet, queries: Tensor) -> Tensor:
        return self._values(key_set, key_set.cosines(queries), {"beta": self.beta_, "ratio": self.ratio_})

    def _check_settings(self) -> None:
        super()._check_settings()
        if not (is_number(self.temperature) and 0 < self.temperature < 1e30):
            raise ParameterError(
                "The 'temperature' parameter of TipX",
                expected="a number above 0",
                got=repr(self.temperature),
                fix="The paper has 0.5.",
            )
        if not is_auto(self.gamma) and float(self.gamma) and (is_auto(self.alpha) or not float(self.alpha)):
            raise ParameterError(
                "The 'gamma' parameter of TipX",
                expected="'auto', or a number beside an alpha above 0",
                got=f"gamma={self.gamma!r} with alpha={self.alpha!r}",
                fix="Give both numbers, or leave both at 'auto'.",
            )
