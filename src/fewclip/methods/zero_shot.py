"""Zero-shot CLIP: classes are their names."""

from __future__ import annotations

from torch import Tensor

from fewclip.methods.base import FewShotMethod
from fewclip.methods.leave_one_out import left_out_rows
from fewclip.methods.support import Rows, Support
from fewclip.selection import HeldOut, SelectionResult, estimate_accuracy


class ZeroShot(FewShotMethod):
    """Zero-shot CLIP, z = s · f Tᵀ.

    The labelled images serve only to name the classes and to estimate the accuracy; without text features
    their class means stand in, which is the nearest class mean by cosine.

    Reference: Radford et al. 2021, arXiv:2103.00020, section 3.1.
    """

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        # Text has not seen the images, so even a class's only one can be judged.
        left_out = left_out_rows(support, min_shots=1 if self.text_features is not None else 2)
        rows = left_out.rows
        estimate, kind = None, "leave-one-out estimate"
        if self.text_features is not None:
            kind = "estimate on the labelled images"  # which the text has not seen
        held_out = None
        if len(rows):
            logits, labels, images = (
                self._support_logits(support, rows),
                support.labels[rows],
                support.images[rows],
            )
            unseen = self.text_features is not None
            held_out = HeldOut(logits, labels, images, left_out.weights, independent=unseen)
            right = logits.argmax(1) == labels
            estimate = estimate_accuracy(right, right, left_out.weights, images, kind)
        note = "Zero-shot has nothing to choose."
        return SelectionResult("none", {}, estimate=estimate, note=note, held_out=held_out)

    def _held_out(self, support: Support, result: SelectionResult) -> HeldOut | None:
        return result.held_out

    def _logits(self, queries: Tensor) -> Tensor:
        return self._text_logits(queries)
