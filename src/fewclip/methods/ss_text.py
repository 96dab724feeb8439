"""SS-Text+: text and images blended into class weights at once. Instant, and not safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import balance_factors, fill_absent, ss_text_weights, zero_shot_logits
from fewclip.methods.base import FewShotMethod
from fewclip.methods.judged_heads import judged_heads
from fewclip.methods.parameters import is_number
from fewclip.methods.support import Rows, Support
from fewclip.selection import SelectionResult


class SSText(FewShotMethod):
    """SS-Text+, training-free: z = s·cos(f, w_c), w_c = v_c − unit(2 v_c − v̄), v_c = R·T_c + (s k_c/m) Σ X_i.

    There is nothing to choose, which makes it instant and not safe: the fewer the classes, the more the
    images overwhelm the text. With two images a class and more ``safe=True`` mixes it back towards zero-shot;
    with one image a class, with ``selection="none"`` or ``safe=False`` nothing does.

    Args:
        text_norm: R > 0, the mean norm of the encoder's text features before they are normalised; 8.7–9.9 for
            CLIP ViT-B/32.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``.

    Attributes:
        weights_: Unit-norm w, (c, d).
        present_: Which classes have images, (c,); a class without gains as much as the row's best.

    Differs from the published code: with unequal shots (s/c)·(k̄/k_c) stands for s k_c/m
    (``class_balance=False``: the formula).

    Reference: Silva-Rodríguez et al. 2025, arXiv:2506.17500, SS-Text+.
    """

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        text_norm: float = 9.0,
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
        self.text_norm = text_norm

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        check_text_norm(self)
        head = self._head(support)
        self.weights_, self.present_ = head.weights, head.present
        rows = judged_heads(self, support, validation, head, lambda rest, _: self._head(rest))
        if rows is None:
            return SelectionResult("none", {}, note="Nothing to choose, and nothing that keeps it safe.")
        logits = rows.each(lambda head, x: head(x))
        result = rows.mix(lambda _: logits, safe=self.safe)
        self.mix_ = result.settings["mix"]
        return result

    def _head(self, support: Support) -> _Head:
        factors = balance_factors(support.key_labels, support.n_classes) if self.class_balance else None
        text = self._text_in(support)
        weights = ss_text_weights(
            support.keys, support.key_labels, text,
            logit_scale=self.logit_scale, text_norm=self.text_norm, factors=factors,
        )  # fmt: skip
        return _Head(text, self.logit_scale, weights, support.shots > 0)

    def _logits(self, queries: Tensor) -> Tensor:
        return _Head(self.text_features_, self.logit_scale, self.weights_, self.present_)(queries)


@dataclass(frozen=True)
class _Head:
    text: Tensor
    scale: float
    weights: Tensor
    present: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        logits = zero_shot_logits(queries, self.weights, logit_scale=self.scale)
        if bool(self.present.all()):
            return logits
        text = zero_shot_logits(queries, self.text, logit_scale=self.scale)
        return text + fill_absent(logits - text, self.present)


def check_text_norm(method: Any) -> None:
    """Raises ParameterError unless ``text_norm`` is a number above 0."""
    if not (is_number(method.text_norm) and 0 < float(method.text_norm) < float("inf")):
        raise ParameterError(
            f"The 'text_norm' parameter of {type(method).__name__}",
            expected="a number above 0",
            got=repr(method.text_norm),
            fix="9.0 suits CLIP.",
        )
