"""The rule for many labels: most rows right, exactly, over all α."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from fewclip.functional import best_of_intervals, winning_intervals
from fewclip.selection.judge import Judge, Setting, strength_of

HALVINGS = 3  # of halving the grid
_PEAKS = 8  # settings around which it is halved: accuracy has many small peaks


@dataclass(frozen=True)
class Tried:
    """One setting: row i is right for α in (lo_i, hi_i)."""

    setting: Setting
    unit_alpha: float
    lo: Tensor
    hi: Tensor

    def right(self, alpha: float) -> Tensor:
        """Which rows are right at α, (n,), bool."""
        return (self.lo < alpha) & (alpha < self.hi)

    def best_alpha(self, weights: Tensor) -> float:
        """The middle of the plateau on which most rows are right."""
        return best_of_intervals(self.lo, self.hi, unit_alpha=self.unit_alpha, weights=weights)


class AccuracyRule:
    """Chooses setting and α at which most of a judge's rows are right; ties go to the weaker strength.

    Args:
        judge: The rows.
        space: Values of each setting; all combinations are tried, then finer ones around the best few.
        alpha: A fixed α; None: chosen too.
        rounds: How often the grid is halved.
    """

    def __init__(
        self,
        judge: Judge,
        space: Mapping[str, Sequence[float]],
        *,
        alpha: float | None = None,
        rounds: int = HALVINGS,
    ) -> None:
        self.judge, self.alpha = judge, alpha
        self.tried: dict[tuple[float, ...], Tried] = {}
        for values in product(*space.values()):
            self._try(dict(zip(space, values, strict=True)))
        for level in range(1, rounds + 1):
            for best in self._ranking(judge.weights)[:_PEAKS]:
                for finer in _around(best.setting, space, level):
                    self._try(finer)

    def pick(self, keep: Tensor) -> tuple[Setting, float]:
        """The setting and α chosen by the images ``keep``, (m,) bool."""
        weights = self.judge.weights * keep[self.judge.images]
        best = self._ranking(weights)[0]
        return best.setting, self._alpha(best, weights)

    def table(self) -> list[dict[str, float]]:
        """One row a setting that was tried; the score is the accuracy."""
        total = self.judge.weights.sum()
        rows = []
        for tried in self.tried.values():
            alpha = self._alpha(tried, self.judge.weights)
            accuracy = float(self.judge.weights[tried.right(alpha)].sum() / total)
            strength = strength_of(alpha, tried.unit_alpha)
            row = {"alpha": alpha, "strength": strength, "score": accuracy, "accuracy": accuracy}
            rows.append({**tried.setting, **row})
        return rows

    def _ranking(self, weights: Tensor) -> list[Tried]:
        """What was tried, the best first."""

        def merit(tried: Tried) -> tuple[float, float]:
            alpha = self._alpha(tried, weights)
            right = round(float(weights[tried.right(alpha)].sum()), 9)
            return right, -strength_of(alpha, tried.unit_alpha)

        return sorted(self.tried.values(), key=merit, reverse=True)

    def _alpha(self, tried: Tried, weights: Tensor) -> float:
        return tried.best_alpha(weights) if self.alpha is None else self.alpha

    def _try(self, setting: Setting) -> None:
        key = tuple(setting.values())
        if key not in self.tried:
            b, unit_alpha = self.judge.term(setting)
            ends = winning_intervals(self.judge.base_logits, b, self.judge.labels)
            self.tried[key] = Tried(setting, unit_alpha, *ends)


def _around(best: Setting, space: Mapping[str, Sequence[float]], level: int) -> list[dict[str, float]]:
    """Neighbours within the space, 1/2ᵏ of a grid step away: β by its logarithm, others as they are.

    Channels and penalties are not refined: each of them is another cache, or another training.
    """
    finer = []
    for name, values in space.items():
        if name in ("n_channels", "penalty", "residual_scale") or len(values) < 2:
            continue
        for step in (-1, 1):
            share = step * 0.5**level
            if name == "beta":
                value = best[name] * (values[1] / values[0]) ** share
            else:
                value = best[name] + share * (values[1] - values[0])
            finer.append({**best, name: min(max(value, min(values)), max(values))})
    return finer
