"""CLIP-Adapter: a small bottleneck on the features, mixed with them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fewclip.errors import ParameterError
from fewclip.functional import clip_adapter_features, zero_shot_logits
from fewclip.methods.base import FewShotMethod
from fewclip.methods.judged_heads import judged_heads
from fewclip.methods.parameters import is_number
from fewclip.methods.support import Rows, Support
from fewclip.methods.training import check_plan, train, train_head
from fewclip.selection import SelectionResult

SIDES = ("image", "text", "both")
_BOTTLENECK = 4  # d is divided by it


class CLIPAdapter(FewShotMethod):
    """CLIP-Adapter: z = s · g Tᵀ, g = unit(r · relu(relu(f A↓ᵀ) A↑ᵀ) + (1 − r) · f).

    Args:
        side: ``image`` adapts f, ``text`` adapts T in the same way, ``both`` does both.
        residual_ratio: r, 0 … 1: the share of the adapter; the paper has 0.2.
        epochs, learning_rate, weight_decay, batch_size: Of AdamW with a cosine schedule; ``batch_size=None``
            takes all images at once.
        early_stopping: Stop after the epoch with the smallest loss on ``X_val``, or on left-out shots.
        verbose: Whether a progress bar shows loss and accuracy.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. ``random_state`` also draws the first weights.

    Attributes:
        image_down_, image_up_, text_down_, text_up_: A↓ (d/4, d) and A↑ (d, d/4) of the adapted sides.
        history_: Loss and accuracy of every epoch.
        n_parameters_: Numbers that were trained.

    Differs from the published code: AdamW instead of SGD; the text side exists; classes weigh alike in the
    loss (``class_balance=False``: images do).

    Reference: Gao et al. 2021, arXiv:2110.04544, equations 2–5.
    """

    image_down_: Tensor | None
    image_up_: Tensor | None
    text_down_: Tensor | None
    text_up_: Tensor | None

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        side: str = "image",
        residual_ratio: float = 0.2,
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
        self.side = side
        self.residual_ratio = residual_ratio
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.verbose = verbose

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        plan = check_plan(self)
        head, self.history_, epochs = train_head(self._head, support, plan, validation)

        def retrained(rest: Support, what: str) -> nn.Module:
            head = self._head(rest)
            train(head, rest, plan, stop_after=epochs, what=what)
            return head

        rows = judged_heads(self, support, validation, head, retrained)
        self.n_parameters_ = sum(p.numel() for p in head.parameters())
        for name in ("image_down_", "image_up_", "text_down_", "text_up_"):
            setattr(self, name, None)
        for name, parameter in head.named_parameters():
            setattr(self, f"{name}_", parameter.detach())
        if rows is None:
            note = "A fixed number of epochs; no further label was used."
            result = SelectionResult("none", {}, note=note)
        else:
            with torch.no_grad():
                logits = rows.each(lambda head, x: head(x))
                result = rows.mix(lambda _: logits, safe=self.safe)
        self.mix_ = result.settings.get("mix", 1.0)
        used = len(validation.labels) if self.early_stopping and validation else 0
        return dataclasses.replace(result, labels_used=max(used, result.labels_used))

    def _head(self, support: Support) -> nn.Module:
        text = self._text_in(support)
        return _Head(text, self.side, self.residual_ratio, self.logit_scale, self.random_state)

    def _logits(self, queries: Tensor) -> Tensor:
        image, text = (self.image_down_, self.image_up_), (self.text_down_, self.text_up_)
        queries = _adapted(queries, image, self.residual_ratio)
        text_features = _adapted(self.text_features_, text, self.residual_ratio)
        return zero_shot_logits(queries, text_features, logit_scale=self.logit_scale)

    def _check_settings(self) -> None:
        if self.side not in SIDES:
            raise ParameterError(
                "The 'side' parameter of CLIPAdapter",
                expected=f"one of {', '.join(SIDES)}",
                got=repr(self.side),
                fix="The paper's results are those of 'image'.",
            )
        if not (is_number(self.residual_ratio) and 0 <= self.residual_ratio <= 1):
            raise ParameterError(
                "The 'residual_ratio' parameter of CLIPAdapter",
                expected="a number from 0 to 1",
                got=repr(self.residual_ratio),
                fix="The paper has 0.2.",
            )


Weights = tuple[Tensor | None, Tensor | None]  # A↓ (h, d) and A↑ (d, h); None: the side stays as it is


def _adapted(features: Tensor, weights: Weights, ratio: float) -> Tensor:
    down, up = weights
    return features if down is None or up is None else clip_adapter_features(features, down, up, ratio=ratio)


class _Head(nn.Module):
    def __init__(self, text: Tensor, side: str, ratio: float, scale: float, seed: int | None) -> None:
        super().__init__()
        self.text, self.ratio, self.scale = text, ratio, scale
        generator = torch.Generator().manual_seed(int(seed or 0))
        d = text.shape[1]
        hidden = max(1, d // _BOTTLENECK)
        image, words = side != "text", side != "image"
        self.image_down = _uniform((hidden, d), text, generator) if image else None
        self.image_up = _uniform((d, hidden), text, generator) if image else None
        self.text_down = _uniform((hidden, d), text, generator) if words else None
        self.text_up = _uniform((d, hidden), text, generator) if words else None

    def forward(self, queries: Tensor, own: Tensor | None = None) -> Tensor:
        queries = _adapted(queries, (self.image_down, self.image_up), self.ratio)
        text = _adapted(self.text, (self.text_down, self.text_up), self.ratio)
        return zero_shot_logits(queries, text, logit_scale=self.scale)


def _uniform(shape: tuple[int, int], like: Tensor, generator: torch.Generator) -> nn.Parameter:
    """First weights as the papers' linear layers have them: uniform within ±1/√inputs."""
    bound = 1 / math.sqrt(shape[1])
    weights = (2 * torch.rand(shape, generator=generator) - 1) * bound
    return nn.Parameter(weights.to(like))
