"""What a benchmark may conclude: intervals over seeds, ranks, and differences on the same draws."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 9999
_CONFIDENCE = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half of its 95 % interval over seeds; None for a single value.

    x̄ ± t₀.₉₇₅,ₙ₋₁ · s/√n with Student's t, as few seeds say little about their spread.

    Args:
        values: One a seed, at least one.
    """
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, None
    return mean, float(t.ppf((1 + _CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def mean_ranks(blocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean rank of each method, 1 is best; ties share their mean rank.

    Args:
        blocks: Accuracies of all methods on one draw each; a block that lacks a method is left out.
    """
    from scipy.stats import rankdata

    names = list(dict.fromkeys(name for block in blocks for name in block))
    whole = [block for block in blocks if len(block) == len(names)]
    if not whole:
        return {}
    accuracies = np.array([[block[name] for name in names] for block in whole])
    ranks = np.mean([rankdata(-row) for row in accuracies], axis=0)
    return dict(zip(names, ranks.tolist(), strict=True))


@dataclass(frozen=True)
class Paired:
    """One method against another on the same draws.

    Attributes:
        difference: Mean difference of accuracies, −1 to 1.
        low, high: Ends of its 95 % bootstrap interval; None where there is one unit only.
        wins, ties, losses: Draws at which the first was better, equal, worse.
        units: Independent units that were resampled.
    """

    difference: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    units: int


def paired(differences: Mapping[Hashable, Sequence[float]]) -> Paired:
    """Sums up differences on the same draws.

    The draws of a unit (a data set and a seed) are nested, k shots among 2k, so units are resampled, not
    draws: 9,999 times, percentiles of the mean of unit means.

    Args:
        differences: Unit → its differences, at least one each.
    """
    from scipy.stats import bootstrap

    means = np.array([np.mean(values) for values in differences.values()])
    single = np.concatenate([np.asarray(values, dtype=float) for values in differences.values()])
    low = high = None
    if len(means) > 1:
        found = bootstrap(
            (means,), np.mean, n_resamples=_RESAMPLES, confidence_level=_CONFIDENCE, method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        low, high = float(found.low), float(found.high)
    wins, losses = int((single > 0).sum()), int((single < 0).sum())
    return Paired(float(means.mean()), low, high, wins, len(single) - wins - losses, losses, len(means))
