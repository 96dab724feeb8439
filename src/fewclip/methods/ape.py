"""APE, training-free: Tip-Adapter on refined channels, with keys weighed by how little text knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import class_sums, key_divergence, refine_channels, unit
from fewclip.methods.cache import BETAS, CacheMethod, KeySet
from fewclip.methods.channels import channel_counts
from fewclip.methods.parameters import one_or
from fewclip.methods.support import Support
from fewclip.methods.validation import check_criterion_weights
from fewclip.selection import SelectionResult, Setting

_FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the channels, tried for n_channels="auto"
_GAMMAS = (0.0, 0.5, 1.0)


class APE(CacheMethod):
    """Adaptive prior refinement, z = s·f Tᵀ + α · exp(−β(1 − f′X′ᵀ)) (L ∘ exp(γ·KL)).

    Primes: the Q channels that tell classes apart best, renormalised. KL: the divergence of a key's label
    from what the text makes of it, in bits.

    Args:
        alpha: Weight α ≥ 0 of the cache, or ``"auto"``.
        beta: Sharpness β ≥ 0 of the affinity, or ``"auto"``.
        gamma: Weight γ ≥ 0 of the divergence, or ``"auto"``.
        n_channels: Q, an int 1 … d; a fraction of d in (0, 1] as float; or ``"auto"``.
        criterion_weights: (w₀, w₁) of similarity and variance in the criterion, each ≥ 0.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Attributes:
        gamma_, n_channels_: The settings in use; with ``alpha_`` and ``beta_`` they give the published
            formula.

    Differs from the published code: the similarity is a closed form instead of a loop over all pairs of
    images; settings are never chosen on the test set; unequal shots are balanced.

    Reference: Zhu et al. 2023, arXiv:2304.01195, equations 3–10.
    """

    _chooses_channels = True

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        beta: float | str = "auto",
        gamma: float | str = "auto",
        n_channels: int | float | str = "auto",
        criterion_weights: tuple[float, float] = (0.7, 0.3),
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
        self.n_channels = n_channels
        self.criterion_weights = criterion_weights

    def _key_set(self, support: Support, n_channels: int, seen: Tensor | None = None) -> KeySet:
        keys, labels = support.keys, support.key_labels
        if seen is not None:
            keys, labels = keys[seen], labels[seen]
        text = self.text_features_
        if self.text_features is None:  # class means stand in; they, too, only of what may be seen
            text = unit(class_sums(keys.T, labels, support.n_classes).T)
        channels = refine_channels(
            text,
            n_channels,
            weights=self.criterion_weights,
            support_features=keys,
            support_labels=labels,
        )
        keys = unit(support.keys[:, channels])
        divergence = key_divergence(keys, support.key_labels, unit(self.text_features_[:, channels]))
        return KeySet(keys, channels, divergence)

    def _search_space(self) -> dict[str, tuple[float, ...]]:
        return {
            "n_channels": channel_counts(self, _FRACTIONS),
            "gamma": one_or(self.gamma, _GAMMAS),
            "beta": one_or(self.beta, BETAS),
        }

    def _default_setting(self, support: Support) -> Setting:
        return {
            "n_channels": channel_counts(self, (0.5,))[0],
            "gamma": one_or(self.gamma, (0.0,))[0],
            "beta": one_or(self.beta, (1.0,))[0],
        }

    def _fit(self, support: Support, validation: Any) -> SelectionResult:
        result = super()._fit(support, validation)
        self.gamma_, self.n_channels_ = float(result.settings["gamma"]), int(result.settings["n_channels"])
        return result

    def _check_settings(self) -> None:
        super()._check_settings()
        check_criterion_weights(self)
