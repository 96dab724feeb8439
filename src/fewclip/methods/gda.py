"""GDA: Gaussian discriminant analysis beside the text, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import GDAHead, gda_head, gda_left_out, gda_noise, shot_bias
from fewclip.methods.closed_form import LeftOutScores, ScoreMethod, Solver, on_channels
from fewclip.methods.parameters import is_auto, one_or
from fewclip.methods.support import Support
from fewclip.selection import Setting

TEXT_SCATTERS = (0.0, 1.0)


class GDA(ScoreMethod):
    """GDA, training-free: z = s·f Tᵀ + α·(f P μ_cᵀ − ½ μ_c P μ_cᵀ), P = d·(W + tr(W)/(m − 1)·I)⁻¹.

    μ: class means, W: sum of (x − μ_y)(x − μ_y)ᵀ over all views.

    Args:
        alpha: Weight α ≥ 0 of the images, or ``"auto"``: by strength.
        text_scatter: τ ≥ 0, or ``"auto"``: W + τ·Σ (g − ḡ)(g − ḡ)ᵀ with g = x − T_y stands for W. The paper
            has 0, and so does ``"auto"`` where α is given.
        n_channels: Channels of the scores, an int 1 … d or a fraction of d in (0, 1] as float, kept by prior
            refinement of the text alone; ``"auto"``: all.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Attributes:
        weights_, bias_: w_c = P μ_c, (c, q), and −½ μ_c P μ_c, (c,).

    Differs from the published code: a Cholesky factor instead of a pseudo-inverse, of the smaller of m × m
    and d × d; where no class has two different rows, which leaves W = 0, the deviations x − T_y stand in;
    α is never chosen on the test set. With ``class_balance``, and where α is chosen, classes of few images
    are not pushed down beside those of many by what the noise of their means adds to μ P μ
    (``functional.shot_bias``).

    Reference: Wang et al. 2024, arXiv:2402.04087, equations 4–9.
    """

    _numbers = ("text_scatter",)

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        text_scatter: float | str = "auto",
        n_channels: int | float | str = "auto",
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
        self.text_scatter = text_scatter
        self.n_channels = n_channels

    def _solver(self, support: Support, text: Tensor | None, channels: Tensor | None) -> Solver:
        text = None if text is None else on_channels(text, channels)
        published = not self.class_balance or not is_auto(self.alpha)
        even = published or len(support.shots[support.shots > 0].unique()) == 1
        return _Solver(support, on_channels(support.features, channels), text, even)

    def _adopt(self, scores: GDAHead) -> None:
        like = self.support_features_
        self.weights_, self.bias_ = scores.weights.to(like), scores.bias.to(like)

    def _scores(self, queries: Tensor) -> Tensor:
        return queries @ self.weights_.T + self.bias_

    def _space(self, support: Support) -> dict[str, tuple[float, ...]]:
        published = self.text_features is None or not is_auto(self.alpha)
        return {"text_scatter": one_or(self.text_scatter, (0.0,) if published else TEXT_SCATTERS)}

    def _start(self, support: Support) -> dict[str, float]:
        return {"text_scatter": one_or(self.text_scatter, (0.0,))[0]}


class _Solver:
    """The closed form of rows ``features`` (of some channels) of labelled images.

    Args:
        support: The images.
        features: Their rows, (r, q).
        text: T, (c, q).
        even: Whether classes need no correction for their number of images.
    """

    def __init__(self, support: Support, features: Tensor, text: Tensor | None, even: bool) -> None:
        self.support, self.features, self.text, self.even = support, features, text, even
        self._noise: dict[float, float] = {}

    def scores(self, setting: Setting) -> GDAHead:
        head = gda_head(*self._rows, **self._text(setting))
        return GDAHead(head.weights, head.bias + self._bias(setting, self.support.shots))

    def left_out(self, setting: Setting, parts: list[Tensor], *, alone: bool = False) -> LeftOutScores:
        left_out = gda_left_out(*self._rows, parts, **self._text(setting))
        if self.even:
            return left_out
        return [
            (scores + self._bias(setting, self._shots_without(part)).to(scores), present)
            for part, (scores, present) in zip(parts, left_out, strict=True)
        ]

    def _bias(self, setting: Setting, shots: Tensor) -> Tensor:
        """What scores of classes with few images lack, by the noise of all images."""
        tau = setting["text_scatter"]
        if self.even:
            return torch.zeros(len(shots), dtype=torch.float64, device=shots.device)
        if tau not in self._noise:
            self._noise[tau] = gda_noise(*self._rows, **self._text(setting))
        return shot_bias(self._noise[tau], shots)

    def _shots_without(self, part: Tensor) -> Tensor:
        gone = self.support.images[part].unique()
        return self.support.shots - self.support.key_labels[gone].bincount(minlength=self.support.n_classes)

    @property
    def _rows(self) -> tuple[Tensor, Tensor, int]:
        return self.features, self.support.labels, self.support.n_classes

    def _text(self, setting: Setting) -> dict[str, Any]:
        return {"text_features": self.text, "text_scatter": setting["text_scatter"]}
