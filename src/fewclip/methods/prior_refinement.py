"""Prior refinement alone: a feature selector that keeps the channels which tell classes apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from fewclip.errors import LabelError, ParameterError
from fewclip.functional import class_sums, refinement_criterion
from fewclip.methods.channels import channel_count
from fewclip.methods.validation import (
    as_numpy,
    check_criterion_weights,
    check_features,
    check_labels,
    check_text_features,
    encode_labels,
    unit_rows,
)


class PriorRefinement(SelectorMixin, BaseEstimator):
    """Keeps the Q channels of largest criterion J_j = −w₀ S_j + w₁ V_j, before any classifier.

    S: mean inter-class similarity, V: inter-class variance of the text features. ``transform`` keeps the
    channels in their own order and does not renormalise.

    Args:
        text_features: Text features T, (c, d), or a list of c arrays (p, d), averaged. None: the class means
            of the images stand in.
        classes: The labels of the rows of ``text_features``; None: the sorted labels of ``y``.
        n_channels: Q, an int 1 … d, or a fraction of d in (0, 1] as float.
        criterion_weights: (w₀, w₁), each ≥ 0; the paper has (0.7, 0.3) for APE, (0.2, 0.8) for APE-T.
        use_support: Whether the images join the similarity (the paper's APE), or text alone speaks (APE-T).

    Attributes:
        scores_: J of every channel, (d,).
        channels_: The kept channels by falling criterion, (Q,).
        classes_: Sorted labels, (c,).

    Differs from the published code: the similarity is a closed form instead of a loop over pairs.

    Reference: Zhu et al. 2023, arXiv:2304.01195, section 3.1.
    """

    n_features_in_: int

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        n_channels: int | float = 0.5,
        criterion_weights: tuple[float, float] = (0.7, 0.3),
        use_support: bool = True,
    ) -> None:
        self.text_features = text_features
        self.classes = classes
        self.n_channels = n_channels
        self.criterion_weights = criterion_weights
        self.use_support = use_support

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Self:
        """Scores the channels.

        Args:
            X: Features, (m, d); normalised for the criterion.
            y: Labels, (m,).

        Raises:
            FeatureError, LabelError, ParameterError: As ``FewShotMethod.fit``.
        """
        X = check_features(self, as_numpy(X), reset=True)
        y = check_labels(self, X, as_numpy(y))
        check_criterion_weights(self)
        given = None if self.classes is None else np.asarray(self.classes)
        self.classes_, labels = encode_labels(given, self.text_features, y)
        support, index = torch.from_numpy(unit_rows(X)), torch.from_numpy(labels)
        self.scores_ = refinement_criterion(
            self._text_rows(support, index),
            weights=self.criterion_weights,
            support_features=support if self.use_support else None,
            support_labels=index if self.use_support else None,
        ).numpy()
        self.channels_ = np.argsort(-self.scores_, kind="stable")[: self._count()]
        return self

    def _text_rows(self, support: Tensor, labels: Tensor) -> Tensor:
        if self.text_features is not None:
            rows = check_text_features(self.text_features, support.shape[1])
            order = slice(None) if self.classes is None else np.argsort(np.asarray(self.classes))
            return torch.from_numpy(unit_rows(rows[order]))
        sums = class_sums(support.T, labels, len(self.classes_)).T
        if bool((sums == 0).all(1).any()):
            raise LabelError(
                "classes",
                expected="text features, or an image of every class",
                got="a class with neither",
                fix="Pass text_features=, or leave the class out of classes=.",
            )
        return torch.from_numpy(unit_rows(sums.numpy()))

    def _count(self) -> int:
        d, n = self.n_features_in_, self.n_channels
        count = channel_count(n, d)
        if count is not None:
            return count
        raise ParameterError(
            "The 'n_channels' parameter of PriorRefinement",
            expected=f"an int from 1 to {d}, or a fraction of the channels in (0, 1]",
            got=repr(n),
            fix="0.5 keeps half of them.",
        )

    def _get_support_mask(self) -> Any:
        check_is_fitted(self, "channels_")
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.channels_] = True
        return mask

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
