"""The rule for few labels: the log-likelihood, with the burden of proof on the cache.

Accuracy is coarse on few labels and trusts the cache too much. The log-likelihood of the right classes is
smooth; every mix of text and cache is judged at the temperature that suits it, so that none wins by the size
of its logits, and affinities on rows that are evened out: how much surer they are of some rows than of others
says nothing about which class wins. Two steps make it safe. The cache must know the judged images by itself,
without the text, clearly better than chance: noise and wrong labels do not, while they may well look better
than a text that they contradict; or else it must help the text beyond doubt. And of the settings within half
a standard error of the best the one nearest to the default is taken, of the strengths the weakest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fewclip.functional import best_scale, evened_rows, log_likelihood
from fewclip.selection.judge import Judge, Setting, real_spread, strength_of
from fewclip.selection.result import effective_number

STRENGTHS: tuple[float, ...] = (0.0, *(0.01 * 2**i for i in range(14)))  # … 82
CAUTION = 0.5  # standard errors given up for a weaker cache
_IMAGINARY = 2  # images that see no difference: without them a handful that agree would prove anything
_TIE = 1e-4  # nats an image; less is rounding, and settings that are tried earlier win ties


class Proof(NamedTuple):
    """What it takes: standard errors above 0, and images that are independent witnesses of it."""

    errors: float
    witnesses: int


ALONE = Proof(4.0, 5)  # for the cache alone against chance; or
WITH_TEXT = Proof(3.25, 7)  # for the cache with the text against the text


@dataclass
class Tried:
    """One setting, at some of the α that are chosen from.

    Attributes:
        setting: The setting.
        alphas: α, rising from 0.
        columns: By the place of an α: the log-likelihood there, weighted and summed over the rows of each
            image, (m,).
        best: Place of the best α.
        strength: And that as a strength.
        accuracy: Weighted share of rows that are right there, 0–1.
    """

    setting: Setting
    alphas: tuple[float, ...]
    columns: dict[int, Tensor]
    best: int
    strength: float
    accuracy: float
    alone: Tensor | None = None
    """Log-likelihood of the cache alone, minus that of chance, (m,); None until it is asked for."""

    @property
    def alpha(self) -> float:
        """The best α."""
        return self.alphas[self.best]

    @property
    def likelihood(self) -> Tensor:
        """Log-likelihood at the best α, (m,)."""
        return self.columns[self.best]


class LikelihoodRule:
    """Chooses setting and α on a judge's rows, or on those of some of its images.

    Args:
        judge: The rows.
        space: Values of each setting.
        start: Where to begin among them.
        alpha: A fixed α; None: chosen too.
    """

    def __init__(
        self,
        judge: Judge,
        space: Mapping[str, Sequence[float]],
        *,
        start: Setting,
        alpha: float | None = None,
    ) -> None:
        self.judge, self.alpha = judge, alpha
        self._space, self._start = space, start
        self._scales: dict[int, float] = {}
        self._peak = 0
        self.zero_shot = self._at(judge.base_logits, 0)
        self.tried: dict[tuple[float, ...], Tried] = {}
        self._explore(space, start)

    def pick(self, keep: Tensor) -> tuple[Setting, float]:
        """The setting and α chosen by the images ``keep``, (m,) bool."""
        weights = self.judge.image_weights[keep]
        best = self._nearest_default(keep, weights)
        if self.alpha is not None:
            return best.setting, self.alpha
        if best.alpha == 0:
            return best.setting, 0.0
        table, alone = self._profile(best)
        table, knows = table[keep], alone[keep]
        top = int(table.sum(0).argmax())
        gains = table[:, top] - table[:, 0]
        if not self._trusted(knows, gains, weights):
            return best.setting, min(best.alpha, self._unproven(knows, gains, weights))
        return best.setting, best.alphas[weakest(table, weights)]

    def _nearest_default(self, keep: Tensor, weights: Tensor) -> Tried:
        """Of the settings that are hardly worse than the best, the one nearest to the default.

        Few images cannot tell them apart; what was published for many data sets can.
        """
        tried = list(self.tried.values())
        table = torch.stack([one.likelihood[keep] for one in tried], dim=1)
        gap, error = _paired(
            table[:, [_first_best((table.sum(0) / weights.sum()).tolist())]] - table, weights
        )
        close = [one for one, ok in zip(tried, (gap <= CAUTION * error + _TIE).tolist(), strict=True) if ok]
        return min(close, key=self._steps_from_default)

    def _steps_from_default(self, tried: Tried) -> int:
        return sum(
            abs(values.index(tried.setting[name]) - values.index(self._start[name]))
            for name, values in ((name, list(values)) for name, values in self._space.items())
        )

    # ---- what a rule for another kind of term does differently ----

    def _trusted(self, knows: Tensor, gains: Tensor, weights: Tensor) -> bool:
        """Whether the cache may count, by what it knows alone and what it adds to the text, by image."""
        return self._proven(knows, weights, ALONE) or self._proven(gains, weights, WITH_TEXT)

    def _unproven(self, knows: Tensor, gains: Tensor, weights: Tensor) -> float:
        """The largest α without trust."""
        return 0.0

    def _alphas(self, unit_alpha: float) -> tuple[float, ...]:
        """What α is chosen from, rising from 0."""
        return tuple(strength * unit_alpha for strength in STRENGTHS)

    def _alone(self, cache_logits: Tensor, unit_alpha: float) -> Tensor:
        """Logits of the cache without the text."""
        return unit_alpha * cache_logits

    # ---- shared ----

    def _proven(self, gain: Tensor, weights: Tensor, proof: Proof) -> bool:
        """Whether a gain by image is proven. Of two images that judge each other, both say the same."""
        shots = self.judge.shots
        witnesses = effective_number(weights) * (1.0 if shots is None else 1 - 1 / max(shots, 2.0))
        return witnesses >= proof.witnesses and standard_errors(gain, weights) >= proof.errors

    def table(self) -> list[dict[str, float]]:
        """One row a setting that was tried."""
        total = float(self.judge.image_weights.sum())
        return [
            {
                **tried.setting,
                "alpha": tried.alpha,
                "strength": tried.strength,
                "score": float(tried.likelihood.sum()) / total,
                "accuracy": tried.accuracy,
            }
            for tried in self.tried.values()
        ]

    # ---- the search ----

    def _explore(self, space: Mapping[str, Sequence[float]], start: Setting) -> None:
        """Coordinate by coordinate to a setting that no single change improves."""
        here = {name: start[name] for name in space}
        best = self._try(here)
        changed = True
        while changed:
            changed = False
            for name, values in space.items():
                line = [here | {name: value} for value in values]
                scores = [self._try(setting) for setting in line]
                k = _first_best(scores)
                if scores[k] > best + _TIE:
                    here, best, changed = line[k], scores[k], True

    def _try(self, setting: Setting) -> float:
        """Mean log-likelihood of a setting at its best α."""
        key = tuple(setting.values())
        if key not in self.tried:
            self.tried[key] = self._fitted(setting)
        return _mean(self.tried[key].likelihood, self.judge.image_weights)

    def _fitted(self, setting: Setting) -> Tried:
        judge = self.judge
        b, unit_alpha = judge.term(setting)
        if self.alpha is not None:
            alphas = (self.alpha,)
            columns, best = {0: self._at(judge.base_logits + self.alpha * b, 1)}, 0
        elif unit_alpha == 0:
            alphas, columns, best = (0.0,), {0: self.zero_shot}, 0
        else:
            alphas, columns = self._alphas(unit_alpha), {0: self.zero_shot}
            best = self._climb(b, alphas, columns)
        strength = strength_of(alphas[best], unit_alpha)
        right = judge.right(setting, alphas[best])
        accuracy = float(judge.weights[right].sum() / judge.weights.sum())
        return Tried(setting, alphas, columns, best, strength, accuracy)

    def _climb(self, b: Tensor, alphas: Sequence[float], columns: dict[int, Tensor]) -> int:
        """Place of the best α: uphill from where the last setting had its own."""
        here = self._peak or len(alphas) // 2
        while True:
            near = [k for k in (here, here - 1, here + 1) if 0 <= k < len(alphas)]
            self._fill(columns, near, alphas, b)
            best = max(near, key=lambda k: float(columns[k].sum()))
            if best == here:
                break
            here = best
        self._peak = max(here, 1)
        return here

    def _fill(
        self, columns: dict[int, Tensor], places: Iterable[int], alphas: Sequence[float], b: Tensor
    ) -> None:
        for k in places:
            if k not in columns:
                columns[k] = self._at(self.judge.base_logits + alphas[k] * b, k)

    def _profile(self, tried: Tried) -> tuple[Tensor, Tensor]:
        """Log-likelihood by image at every α, (m, s), and that of the cache alone, minus chance, (m,)."""
        if tried.alone is None:
            b, unit_alpha = self.judge.term(tried.setting)
            self._fill(tried.columns, range(len(tried.alphas)), tried.alphas, b)
            own = self._alone(b, unit_alpha)
            if self.judge.alone_logits is not None:
                own = self.judge.alone_logits(tried.setting)
                own = own * (self.judge.base_spread / max(real_spread(own), 1e-12))
            alone = self._at(own, -1)
            tried.alone = alone + self.judge.image_weights * math.log(b.shape[1])
        columns = [tried.columns[k] for k in range(len(tried.alphas))]
        return torch.stack(columns, dim=1), tried.alone

    def _at(self, logits: Tensor, place: int) -> Tensor:
        """Log-likelihood by image, (m,), of logits at their best scale; near that of the same ``place``."""
        judge = self.judge
        if judge.evened:
            logits = evened_rows(logits, spread=judge.base_spread)
        scale = best_scale(logits, judge.labels, judge.weights, start=self._scales.get(place, 1.0))
        self._scales[place] = scale
        return judge.per_image(log_likelihood(scale * logits, judge.labels))


def standard_errors(gain: Tensor, weights: Tensor) -> float:
    """How many standard errors a mean gain lies above 0, with two imaginary images that gain nothing.

    Args:
        gain: Gain by image, weighted, (m,): in log-likelihood, or in images that are right.
        weights: Weight of each image, (m,).
    """
    mean, error = _paired(gain[:, None], weights, imaginary=_IMAGINARY)
    return float(mean / error.clamp(min=1e-12))


def weakest(likelihood: Tensor, weights: Tensor) -> int:
    """The first column within ``CAUTION`` standard errors of the best.

    Args:
        likelihood: Log-likelihood by image and strength, weighted, (m, s).
        weights: Weight of each image, (m,).
    """
    top = int(likelihood.sum(0).argmax())
    gap, error = _paired(likelihood[:, top, None] - likelihood, weights)
    return int((gap <= CAUTION * error + _TIE / 100).int().argmax())


def _paired(differences: Tensor, weights: Tensor, *, imaginary: int = 0) -> tuple[Tensor, Tensor]:
    """Mean difference an image and its standard error, (s,) each, with ``imaginary`` images that see none."""
    extra = differences.new_zeros(imaginary, differences.shape[1])
    w = torch.cat([weights, weights.mean().expand(imaginary)])
    d = torch.cat([differences, extra])
    mean = d.sum(0) / w.sum()
    return mean, (d - w[:, None] * mean).square().sum(0).sqrt() / w.sum()


def _first_best(scores: Sequence[float]) -> int:
    """The first of those that share the best score."""
    return next(k for k, score in enumerate(scores) if score >= max(scores) - _TIE)


def _mean(likelihood: Tensor, weights: Tensor) -> float:
    """Mean log-likelihood an image."""
    mean = float(likelihood.sum() / weights.sum())
    return mean if math.isfinite(mean) else -math.inf
