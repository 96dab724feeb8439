"""The metrics of a cell, with the names that CLIP_benchmark gives them."""

from __future__ import annotations

from fewclip.evaluation.metrics import Evaluation

_TOP = 5


def figures(evaluation: Evaluation) -> dict[str, float | None]:
    """What a benchmark writes down of one evaluation; shares are 0–1, not percent.

    ``acc1``, ``acc5`` (None with fewer than five classes), ``mean_per_class_recall`` (balanced accuracy),
    ``nll`` (nats an image), ``brier`` (0–2), ``ece`` (15 bins of equal width).
    """
    return {
        "acc1": evaluation.accuracy,
        "acc5": evaluation.top5 if len(evaluation.classes) >= _TOP else None,
        "mean_per_class_recall": evaluation.balanced_accuracy,
        "nll": evaluation.nll,
        "brier": evaluation.brier,
        "ece": evaluation.ece,
    }
