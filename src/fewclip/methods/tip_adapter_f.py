"""Tip-Adapter-F: the cache keys become parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor, nn

from fewclip.methods.support import Support
from fewclip.methods.trained_cache import CacheHead, TrainedCacheMethod


class TipAdapterF(TrainedCacheMethod):
    """Tip-Adapter-F: Tip-Adapter whose m·d key entries are trained.

    Args:
        alpha: Weight α ≥ 0 of the cache while it learns, and after; ``"auto"``: from the spread of the
            logits, and chosen again on validation labels.
        beta: Sharpness β ≥ 0, or ``"auto"``: 5.5 while it learns, as published.
        epochs, learning_rate, weight_decay, batch_size: Of AdamW with a cosine schedule; ``batch_size=None``
            takes all images at once.
        early_stopping: Stop after the epoch with the smallest loss on ``X_val``, or on left-out shots.
        verbose: Whether a progress bar shows loss and accuracy.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Differs from the published code: no epoch, α or β is chosen on the test set; an image that is learnt
    leaves its own key out of the cache; classes weigh alike in the loss (``class_balance=False``: images do).

    Reference: Zhang et al. 2022, arXiv:2207.09519, section 3.2.
    """

    _training_beta = 5.5

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        beta: float | str = "auto",
        epochs: int = 20,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
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
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.verbose = verbose

    def _head(self, support: Support, of: Support | None = None) -> CacheHead:
        return _Head(self, support, of)


class _Head(CacheHead):
    def __init__(self, method: TipAdapterF, support: Support, of: Support | None) -> None:
        super().__init__(method, support, of)
        self.keys = nn.Parameter(support.keys.clone())

    def learnt_keys(self) -> Tensor:
        return self.keys
