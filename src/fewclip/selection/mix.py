"""The rule for the safe mix z₀ + λ(z − z₀): back to zero-shot unless images that were not learnt object."""

from __future__ import annotations

from torch import Tensor

from fewclip.selection.likelihood import ALONE, WITH_TEXT, LikelihoodRule, Proof

MIXES = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)  # λ
BETTER = Proof(1.5, 5)  # for a head that knows the images, against the text
HINT = Proof(0.75, 5)  # not enough to prove it, enough to hear it:
HEARD = 0.25  # λ of a head that is only hinted to be better


class MixRule(LikelihoodRule):
    """Chooses λ; the judge's base logits are z₀, its cache logits z − z₀.

    A head is more than a cache: it holds the text, so knowing the images is no merit of what it has learnt.
    It must know them (wrong labels and noise do not pass) and be better than the text by 1.5 standard
    errors, or better beyond doubt. With 0.75 it gets a quarter: that brings most of what a good head gains,
    and costs little of what a bad one does.

    Args:
        judge: The rows, which the head has not learnt.
        space: Values of each setting of the head.
        start: Where to begin among them.
        alpha: A fixed λ; None: chosen.
    """

    def _trusted(self, knows: Tensor, gains: Tensor, weights: Tensor) -> bool:
        better = self._proven(knows, weights, ALONE) and self._proven(gains, weights, BETTER)
        return better or self._proven(gains, weights, WITH_TEXT)

    def _unproven(self, knows: Tensor, gains: Tensor, weights: Tensor) -> float:
        hinted = self._proven(knows, weights, ALONE) and self._proven(gains, weights, HINT)
        return HEARD if hinted else 0.0

    def _alphas(self, unit_alpha: float) -> tuple[float, ...]:
        return MIXES

    def _alone(self, cache_logits: Tensor, unit_alpha: float) -> Tensor:
        return self.judge.base_logits + cache_logits
