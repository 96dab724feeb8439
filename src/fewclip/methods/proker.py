"""ProKeR: kernel regression of what the text leaves unexplained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import (
    KernelPath,
    balance_factors,
    class_sums,
    proker_coefficients,
    proker_large,
    proker_residuals,
    unit,
)
from fewclip.methods.closed_form import LeftOutScores, ScoreMethod, Solver, on_channels
from fewclip.methods.left_out_parts import rest_of, some_images
from fewclip.methods.parameters import is_auto, one_or
from fewclip.methods.support import Support
from fewclip.selection import Setting

# Of the paper, by log₂ of the shots.
DEFAULT_BETAS = (3.0, 2.6, 1.5, 1.66, 1.7)
DEFAULT_RIDGES = (0.05, 0.05, 0.05, 0.07, 0.1)
BETA_STEPS = (0.25, 0.5, 1.0, 2.0)  # times the default, for beta="auto"
RIDGE_STEPS = (1 / 16, 0.25, 1.0, 4.0, 16.0, 64.0)
EXACT_ROWS = 8000  # above, conjugate gradients to
TOLERANCE = 1e-4  # of cosines
JUDGED_ROWS = 1200  # that settings are chosen on; an eigendecomposition of more takes too long


class ProKeR(ScoreMethod):
    """ProKeR, training-free: z = s·(f Tᵀ + α·k(f, X) (K/λ + I)⁻¹ (L − X Tᵀ)), k = exp(−β(1 − cos)).

    λ times ordinary kernel ridge regression of the one-hot labels on what cosines to the text leave of them.
    The paper has α = 1; α < 1 is the safe mix.

    Args:
        alpha: Weight α ≥ 0 of the images, or ``"auto"``: by strength; 1 with ``safe=False``.
        beta: Sharpness β ≥ 0 of the kernel, or ``"auto"``.
        ridge: λ > 0, or ``"auto"``.
        n_channels: Channels of the kernel, an int 1 … d or a fraction of d in (0, 1] as float, kept by prior
            refinement of the text alone; ``"auto"``: all.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Attributes:
        keys_: Unit-norm rows X on the kept channels, all views, (r, q).
        coefficients_: s·(K/λ + I)⁻¹ (L − X Tᵀ), (r, c).
        beta_, ridge_: β and λ in use.
        error_bound_: How far k(f, X) a may be from the exact one, in logits; 0 up to 8,000 rows.

    Differs from the published code: β and λ are never chosen on the test set; with unequal shots k_c/k̄ stands
    for the ones of I (``class_balance=False``: I).

    Reference: Bendou et al. 2025, arXiv:2501.11175, section 4.
    """

    _corrects_text = True
    _numbers = ("beta", "ridge")

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        beta: float | str = "auto",
        ridge: float | str = "auto",
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
        self.beta = beta
        self.ridge = ridge
        self.n_channels = n_channels

    def _solver(self, support: Support, text: Tensor | None, channels: Tensor | None) -> Solver:
        return _Solver(self, support, text, channels)

    def _adopt(self, scores: _Scores) -> None:
        self.keys_, self.coefficients_, self.beta_ = scores.keys, scores.coefficients, scores.beta
        self.ridge_, self.error_bound_ = scores.ridge, scores.error_bound

    def _scores(self, queries: Tensor) -> Tensor:
        return _kernel(queries, self.keys_, self.beta_) @ self.coefficients_

    def _start(self, support: Support) -> dict[str, float]:
        k = len(support.keys) / int((support.shots > 0).sum())
        return {
            "beta": one_or(self.beta, (_by_shots(DEFAULT_BETAS, k),))[0],
            "ridge": one_or(self.ridge, (_by_shots(DEFAULT_RIDGES, k),))[0],
        }

    def _space(self, support: Support) -> dict[str, tuple[float, ...]]:
        start = self._start(support)
        return {
            "beta": one_or(self.beta, tuple(step * start["beta"] for step in BETA_STEPS)),
            "ridge": one_or(self.ridge, tuple(step * start["ridge"] for step in RIDGE_STEPS)),
        }

    def _fixed_alpha(self) -> float | None:
        return super()._fixed_alpha() if self.safe or not is_auto(self.alpha) else 1.0

    def _check_settings(self) -> None:
        super()._check_settings()
        if not is_auto(self.ridge) and float(self.ridge) == 0:
            raise ParameterError(
                "The 'ridge' parameter of ProKeR",
                expected="'auto' or a number above 0",
                got="0",
                fix="Leave it at 'auto'; the paper has 0.05 to 0.1.",
            )

    def _judged(self, support: Support) -> Support:
        return some_images(support, JUDGED_ROWS)


@dataclass(frozen=True)
class _Scores:
    """k(f, X) a."""

    keys: Tensor
    coefficients: Tensor
    beta: float
    ridge: float
    error_bound: float

    def __call__(self, queries: Tensor) -> Tensor:
        return _kernel(queries, self.keys, self.beta) @ self.coefficients


class _Solver:
    def __init__(
        self, method: ProKeR, support: Support, text: Tensor | None, channels: Tensor | None
    ) -> None:
        self.support, self.text, self.scale = support, text, method.logit_scale
        self.keys, self.weights = on_channels(support.features, channels), None
        if method.class_balance:
            self.weights = balance_factors(support.key_labels, support.n_classes)[support.labels]
        self.path: tuple[float, KernelPath] | None = None
        self.said: dict[tuple[float, float, int], list[Tensor]] = {}
        self.parts: list[list[Tensor]] = []
        self.ridges = method._space(support)["ridge"]
        self.targets = self._targets(text, support)

    def _targets(self, text: Tensor | None, of: Support) -> Tensor:
        """s·(L − X Tᵀ) beside s·L, (r, 2c)."""
        if text is None:
            text = unit(class_sums(of.keys.T, of.key_labels, of.n_classes).T)
        X, y = self.support.features, self.support.labels
        rows = (proker_residuals(X, y, text), proker_residuals(X, y, torch.zeros_like(text)))
        return self.scale * torch.cat(rows, dim=1)

    def scores(self, setting: Setting) -> _Scores:
        beta, ridge, bound = setting["beta"], setting["ridge"], 0.0
        residuals = self.targets[:, : self.support.n_classes]
        if len(self.keys) > EXACT_ROWS:
            a, bound = proker_large(
                self.keys, residuals, beta=beta, ridge=ridge, weights=self.weights,
                tolerance=TOLERANCE * self.scale,
            )  # fmt: skip
        elif self.path is not None and self.path[0] == beta:
            a = self.path[1].coefficients(residuals, ridge=ridge)
        else:
            a = proker_coefficients(self.keys, residuals, beta=beta, ridge=ridge, weights=self.weights)
        return _Scores(self.keys, a.to(self.keys), beta, ridge, bound)

    def left_out(self, setting: Setting, parts: list[Tensor], *, alone: bool = False) -> LeftOutScores:
        """The whole path of ridges at once: it costs little more than one of them."""
        beta, ridge, key = setting["beta"], setting["ridge"], id(parts)
        if (beta, ridge, key) not in self.said:
            self.parts.append(parts)  # keeps them, and with them their id
            for each in {ridge, *self.ridges}:
                self.said[beta, each, key] = self._left_out(beta, each, parts)
        labels, c = self.support.labels, self.support.n_classes
        shots = torch.bincount(labels, minlength=c)
        present = [shots > torch.bincount(labels[part], minlength=c) for part in parts]
        said = [both[:, c:] if alone else both[:, :c] for both in self.said[beta, ridge, key]]
        return list(zip(said, present, strict=True))

    def _left_out(self, beta: float, ridge: float, parts: list[Tensor]) -> list[Tensor]:
        """k(f, X) a beside the same for the labels alone, (n_i, 2c) each."""
        path = self._path(beta)
        if self.text is not None:
            said = path.left_out(self.targets, parts, ridge=ridge)
        else:  # the class means that stand in for text are those of the rest
            rests = (self._targets(None, rest_of(self.support, part)) for part in parts)
            said = [
                path.left_out(targets, [part], ridge=ridge)[0]
                for part, targets in zip(parts, rests, strict=True)
            ]
        return [scores.to(self.keys) for scores in said]

    def _path(self, beta: float) -> KernelPath:
        if self.path is None or self.path[0] != beta:
            self.path = None  # two at once would take twice the memory
            self.path = beta, KernelPath(self.keys, beta=beta, weights=self.weights)
        return self.path[1]


def _kernel(queries: Tensor, keys: Tensor, beta: float) -> Tensor:
    return torch.addmm(queries.new_full((1, 1), -beta), queries, keys.T, alpha=beta).exp_()


def _by_shots(values: tuple[float, ...], k: float) -> float:
    """Between the paper's values at 1, 2, 4, 8 and 16 shots, by log₂ k."""
    place = min(max(math.log2(max(k, 1.0)), 0.0), len(values) - 1.0)
    low = min(int(place), len(values) - 2)
    return values[low] + (place - low) * (values[low + 1] - values[low])
