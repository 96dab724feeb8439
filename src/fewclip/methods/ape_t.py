"""APE-T: a residual a class on the refined channels, and a weight a key."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor, nn

from fewclip.functional import add_residual, refine_channels, zero_shot_logits
from fewclip.methods.channels import channel_counts
from fewclip.methods.support import Support
from fewclip.methods.trained_cache import CacheHead, TrainedCacheMethod
from fewclip.methods.training import Plan
from fewclip.methods.validation import check_criterion_weights


class APET(TrainedCacheMethod):
    """APE-T: T and the keys of a class share a trained residual on Q channels: c·Q + m parameters.

    z = s·f T̃ᵀ + α · exp(−β(1 − f X̃ᵀ)) (L ∘ v), T̃ = T + scatter(R), X̃_i = X_i + scatter(R_{y_i}).

    Args:
        alpha: Weight α ≥ 0 of the cache while it learns, and after; ``"auto"``: from the spread of the
            logits, and chosen again on validation labels.
        beta: Sharpness β ≥ 0, or ``"auto"``: 1 while it learns, as published.
        n_channels: Q, an int 1 … d; a fraction of d in (0, 1] as float; ``"auto"``: 0.8 d.
        criterion_weights: (w₀, w₁) of similarity and variance in the criterion (text alone), each ≥ 0.
        epochs, learning_rate, weight_decay, batch_size: Of AdamW with a cosine schedule; ``batch_size=None``
            takes all images at once.
        early_stopping: Stop after the epoch with the smallest loss on ``X_val``, or on left-out shots.
        verbose: Whether a progress bar shows loss and accuracy.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Attributes:
        residual_channels_: The Q channels by falling criterion, (Q,).
        residual_: R, (c, Q); zero for a class without images.

    Differs from the published code, which cannot run: residual and channels have one size, the criterion
    is APE-T's own; nothing is chosen on the test set; an image that is learnt leaves its own key
    out of the cache; classes weigh alike in the loss.

    Reference: Zhu et al. 2023, arXiv:2304.01195, section 3.3.
    """

    _training_beta = 1.0
    _adapts_text = True

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        beta: float | str = "auto",
        n_channels: int | float | str = "auto",
        criterion_weights: tuple[float, float] = (0.2, 0.8),
        epochs: int = 20,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.1,
        batch_size: int | None = 256,
        early_stopping: bool = False,
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
        self.alpha = alpha
        self.beta = beta
        self.n_channels = n_channels
        self.criterion_weights = criterion_weights
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.verbose = verbose

    def _plan(self) -> Plan:
        return dataclasses.replace(super()._plan(), eps=1e-3)

    def _check_settings(self) -> None:
        super()._check_settings()
        check_criterion_weights(self)

    def _head(self, support: Support, of: Support | None = None) -> CacheHead:
        return _Head(self, support, of)

    def _adopt(self, head: Any) -> None:
        super()._adopt(head)
        self.residual_channels_, self.residual_ = head.channels, head.learnt_residual().detach()

    def _base_logits(self, queries: Tensor) -> Tensor:
        text = add_residual(self.text_features_, self.residual_, self.residual_channels_)
        return zero_shot_logits(queries, text, logit_scale=self.logit_scale)


class _Head(CacheHead):
    def __init__(self, method: APET, support: Support, of: Support | None) -> None:
        super().__init__(method, support, of)
        n_channels = channel_counts(method, (0.8,))[0]
        self.keys = support.keys
        self.channels = refine_channels(self.text, n_channels, weights=method.criterion_weights)
        self.present = (support.shots > 0).to(self.text.dtype)[:, None]
        self.residual = nn.Parameter(self.text.new_zeros(len(self.text), len(self.channels)))
        self.value_weights = nn.Parameter(self.text.new_ones(len(self.keys)))

    def learnt_residual(self) -> Tensor:
        """R with zeros for classes that no image speaks of, (c, Q)."""
        return self.residual * self.present

    def learnt_text(self) -> Tensor:
        return add_residual(self.text, self.learnt_residual(), self.channels)

    def learnt_keys(self) -> Tensor:
        return add_residual(self.keys, self.learnt_residual()[self.labels], self.channels)

    def learnt_weights(self) -> Tensor:
        return self.value_weights
