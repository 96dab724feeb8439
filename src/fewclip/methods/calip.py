"""CALIP: zero-shot that also looks at the places of an image."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import FeatureError, ParameterError
from fewclip.functional import calip_logits
from fewclip.methods.support import Rows, Support
from fewclip.methods.validation import as_numpy, check_features
from fewclip.methods.zero_shot import ZeroShot
from fewclip.selection import SelectionResult


class CALIP(ZeroShot):
    """Zero-shot CLIP with attention between the text and the spatial tokens of the image.

    z = s · (f Tᵀ + β₂ f t_aᵀ + β₃ f_a Tᵀ), see ``functional.calip_logits``. Nothing is learnt: the labelled
    images name the classes and estimate the accuracy.

    ``X`` is (n, d), and the result that of ``ZeroShot``, or (n, 1 + L, d): the feature and then L spatial
    tokens of each image, as ``encode_image_tokens`` of an encoder gives them.

    Args:
        beta2: β₂ ≥ 0, weight of the text that has looked at the image.
        beta3: β₃ ≥ 0, weight of the image that has looked at the text.

    Raises:
        ParameterError: A weight below 0.
        FeatureError: Tokens that are not finite, or have no direction.

    Reference: Guo et al. 2022, arXiv:2209.14169. Differs: the published code searches both weights on the
    test set; here they are fixed, there are no labels to choose them by.
    """

    uses_tokens = True

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        beta2: float = 0.1,
        beta3: float = 0.01,
        classes: ArrayLike | None = None,
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            text_features,
            classes=classes,
            logit_scale=logit_scale,
            selection=selection,
            class_balance=class_balance,
            safe=safe,
            calibration=calibration,
            device=device,
            random_state=random_state,
        )
        self.beta2 = beta2
        self.beta3 = beta3

    def fit(
        self,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        groups: ArrayLike | None = None,
        X_val: ArrayLike | Tensor | None = None,
        y_val: ArrayLike | Tensor | None = None,
    ) -> Self:
        """As every method; features are (r, d), or (r, 1 + L, d) with spatial tokens."""
        X, X_val = as_numpy(X), as_numpy(X_val)
        self._support_rows = X if _has_tokens(X) else None
        try:
            return super().fit(_features(X), y, groups=groups, X_val=_features(X_val), y_val=y_val)
        finally:
            del self._support_rows

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        for name in ("beta2", "beta3"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= float(value) < float("inf"):
                raise ParameterError(
                    f"The {name!r} parameter of CALIP",
                    expected="a number of at least 0",
                    got=repr(value),
                    fix="Leave it out for the default.",
                )
        return super()._fit(support, validation)

    def _logits(self, queries: Tensor) -> Tensor:
        if queries.ndim == 2:
            return self._text_logits(queries)
        return calip_logits(
            queries[:, 0],
            queries[:, 1:],
            self.text_features_,
            beta2=self.beta2,
            beta3=self.beta3,
            logit_scale=self.logit_scale,
        )

    def _text_logits(self, queries: Tensor) -> Tensor:
        return super()._text_logits(queries if queries.ndim == 2 else queries[:, 0])

    def _support_logits(self, support: Support, rows: Tensor | None = None) -> Tensor:
        # Class means that stand in for text have seen the images: their estimate leaves the image out, which
        # attention cannot.
        if self._support_rows is None or self.text_features is None:
            return super()._support_logits(support, rows)
        tokens = self._support_rows if rows is None else np.asarray(self._support_rows)[rows.cpu().numpy()]
        return torch.cat(list(self._tiles(self._checked_rows(tokens)))).to(support.features.device)

    def _checked_rows(self, X: Any) -> np.ndarray:
        if not _has_tokens(X):
            return super()._checked_rows(X)
        X = np.asarray(X)
        check_features(self, X[:, 0], reset=False)
        if X.shape[1] < 2:
            raise FeatureError(
                "X of CALIP",
                expected="the feature and at least one spatial token an image, (n, 1 + L, d)",
                got=f"shape {X.shape}",
                fix="Pass X[:, 0] for plain zero-shot, or encode_image_tokens of the encoder.",
            )
        for wrong, what in ((~np.isfinite(X).all(2), "NaN or infinity"), (~X.any(2), "all zeros")):
            if wrong.any():
                image, token = np.argwhere(wrong)[0]
                raise FeatureError(
                    f"X row {image}, token {token}",
                    expected="a finite feature vector with a direction",
                    got=f"{what} ({wrong.sum()} such tokens)",
                    fix="Check where the tokens come from.",
                )
        return X


def _has_tokens(X: Any) -> bool:
    return np.asarray(X).ndim == 3


def _features(X: Any) -> Any:
    """The features without their spatial tokens."""
    return np.asarray(X)[:, 0] if _has_tokens(X) else X
