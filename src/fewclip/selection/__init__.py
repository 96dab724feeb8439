"""Choosing settings without the test set, and estimating accuracy without spending labels.

Protocols: ``none`` (fixed defaults), ``loo`` (leave-one-out over the support images), ``fewshot`` (at most
four validation labels a class), ``full`` (all validation labels). This package knows no method: it is handed
the pieces of logits, A and B(setting), of rows whose labels are known, and chooses setting and α of A + αB.

Two rules: ``full`` maximises accuracy exactly over all α (``accuracy``), the others the log-likelihood, with
the burden of proof on the cache (``likelihood``).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fewclip.selection.accuracy import HALVINGS, AccuracyRule
from fewclip.selection.judge import Judge, Setting, real_spread, strength_of, sum_by_image
from fewclip.selection.likelihood import LikelihoodRule, standard_errors
from fewclip.selection.mix import MixRule
from fewclip.selection.result import (
    PROTOCOLS,
    Estimate,
    HeldOut,
    Protocol,
    SelectionResult,
    effective_number,
    estimate_accuracy,
    wilson_interval,
)
from fewclip.selection.strength import CAUTIOUS, default_strength

FEWSHOT_LABELS = 4  # validation labels a class that ``fewshot`` spends at most


def search(
    judge: Judge,
    space: Mapping[str, Sequence[float]],
    *,
    start: Setting,
    protocol: Protocol,
    alpha: float | None = None,
    labels_used: int = 0,
    note: str = "",
    rounds: int = HALVINGS,
) -> SelectionResult:
    """Chooses a setting and α of A + αB on the judged rows.

    Args:
        judge: The rows, and the pieces of their logits.
        space: Values to try of each setting, at least one.
        start: A setting within the space.
        protocol: ``full`` maximises accuracy exactly, the others use the likelihood rule.
        alpha: A fixed α; None: chosen too.
        labels_used: Passed through to the result.
        note: Passed through to the result.
        rounds: How often ``full`` halves the grid around its best settings.
    """
    begun = time.perf_counter()
    rule: AccuracyRule | LikelihoodRule
    if protocol == "full":
        rule = AccuracyRule(judge, space, alpha=alpha, rounds=rounds)
    else:
        rule = LikelihoodRule(judge, space, start=start, alpha=alpha)
    result = _picked(judge, rule, protocol, labels_used, note)
    return dataclasses.replace(result, seconds=time.perf_counter() - begun)


def search_mix(
    judge: Judge,
    *,
    protocol: Protocol,
    safe: bool,
    space: Mapping[str, Sequence[float]] | None = None,
    start: Setting | None = None,
    labels_used: int = 0,
    note: str = "",
) -> SelectionResult:
    """Chooses λ of the safe mix z₀ + λ(z − z₀), within 0–1, as the setting ``mix``, and a setting of z.

    ``full`` leaves λ at 1 unless another is right on more rows.

    Args:
        judge: The rows; z₀ and, as cache logits, z(setting) − z₀.
        protocol: As in ``search``.
        safe: False: λ is 1, and only judged.
        space: Values to try of each setting of the head; None: it has none.
        start: A setting within the space; of settings that are hardly worse than the best, the nearest wins.
        labels_used: Passed through to the result.
        note: Passed through to the result.
    """
    begun = time.perf_counter()
    space, start = space or {}, start or {}

    def picked(rule: AccuracyRule | LikelihoodRule) -> SelectionResult:
        return _picked(judge, rule, protocol, labels_used, note)

    if protocol == "full":
        result = bare = picked(AccuracyRule(judge, space, alpha=1.0))
        if safe:
            best = picked(AccuracyRule(judge, space))
            better = best.table[0]["accuracy"] > bare.table[0]["accuracy"]
            result = best if better and best.settings["alpha"] <= 1 else bare
    else:
        result = picked(MixRule(judge, space, start=start, alpha=None if safe else 1.0))
    settings = {name: value for name, value in result.settings.items() if name != "alpha"}
    settings["mix"] = result.settings["alpha"]
    return dataclasses.replace(result, settings=settings, seconds=time.perf_counter() - begun)


def _picked(
    judge: Judge, rule: AccuracyRule | LikelihoodRule, protocol: Protocol, labels_used: int, note: str
) -> SelectionResult:
    setting, best = rule.pick(judge.image_weights > 0)
    unit_alpha = judge.term(setting)[1]
    held_out = HeldOut(
        judge.logits(setting, best), judge.labels, judge.images, judge.weights, independent=protocol != "loo"
    )
    kind = "leave-one-out estimate" if protocol == "loo" else "validation estimate"
    return SelectionResult(
        protocol=protocol,
        settings={**setting, "alpha": best},
        strength=strength_of(best, unit_alpha),
        labels_used=labels_used,
        estimate=_cross_fit(judge, rule.pick, kind),
        note=note,
        table=rule.table(),
        held_out=held_out,
    )


def _cross_fit(judge: Judge, pick: Callable[[Tensor], tuple[Setting, float]], kind: str) -> Estimate | None:
    """Accuracy with every image judged under the setting that the other folds choose.

    They choose among what was tried on all rows; the temperature of each mix, too, comes from all of them.
    """
    folds = judge.folds()
    right = torch.zeros_like(judge.weights, dtype=torch.bool)
    for fold in range(int(folds.max()) + 1):
        others = (folds != fold) & (folds >= 0)
        if not bool(others.any()):
            return None
        setting, alpha = pick(others)
        rows = folds[judge.images] == fold
        right[rows] = judge.right(setting, alpha)[rows]
    setting = pick(folds >= 0)[0]
    return estimate_accuracy(right, judge.right(setting, 0.0), judge.weights, judge.images, kind)


__all__ = [
    "CAUTIOUS",
    "FEWSHOT_LABELS",
    "PROTOCOLS",
    "Estimate",
    "HeldOut",
    "Judge",
    "Protocol",
    "SelectionResult",
    "Setting",
    "default_strength",
    "effective_number",
    "estimate_accuracy",
    "real_spread",
    "search",
    "search_mix",
    "standard_errors",
    "sum_by_image",
    "wilson_interval",
]
