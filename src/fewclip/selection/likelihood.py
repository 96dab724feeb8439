"""The rule for few labels: the log-likelihood, with the burden of proof on the cache.

Accuracy is coarse on few labels and trusts the cache too much. The log-likelihood of the right classes is
smooth; every mix of text and cache is judged at the temperature that suits it, so that none wins by the size
of its logits. Two steps make it safe. The cache must know the judged images by itself, without the text,
clearly better than chance: noise and wrong labels do not, while they may well look better than a text that
they contradict; or else it must help the text beyond doubt. And of the strengths within half a standard error
of the best the weakest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fewclip.functional import best_mix, best_scale, log_likelihood
from fewclip.selection.judge import Judge, Setting, strength_of
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


@dataclass(frozen=True)
class Tried:
    """One setting at its best α.

    Attributes:
        setting: The setting.
        alpha: Its best α.
        strength: And that as a strength.
        likelihood: Log-likelihood there, weighted and summed over the rows of each image, (m,).
        accuracy: Weighted share of rows that are right there, 0–1.
    """

    setting: Setting
    alpha: float
    strength: float
    likelihood: Tensor
    accuracy: float


@dataclass(frozen=True)
class Profile:
    """Log-likelihood of one setting at several α, by image.

    Attributes:
        alphas: The α; the first is 0.
        likelihood: At each of them, (m, s).
        alone: Of the cache alone, minus that of chance, (m,).
    """

    alphas: tuple[float, ...]
    likelihood: Tensor
    alone: Tensor


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
        self.zero_shot = self._at(judge.base_logits)[0]
        self.tried: dict[tuple[float, ...], Tried] = {}
        self._profiles: dict[tuple[float, ...], Profile] = {}
        self._mix = (1.0, 1.0)
        self._explore(space, start)

    def pick(self, keep: Tensor) -> tuple[Setting, float]:
        """The setting and α chosen by the images ``keep``, (m,) bool."""
        weights = self.judge.image_weights[keep]
        scores = [_mean(tried.likelihood[keep], weights) for tried in self.tried.values()]
        key = list(self.tried)[_first_best(scores)]
        best = self.tried[key]
        if self.alpha is not None:
            return best.setting, self.alpha
        if best.alpha == 0:
            return best.setting, 0.0
        profile = self._profile(key)
        table = profile.likelihood[keep]
        top = int(table.sum(0).argmax())
        knows, gains = profile.alone[keep], table[:, top] - table[:, 0]
        if not self._trusted(knows, gains, weights):
            return best.setting, min(best.alpha, self._unproven(knows, gains, weights))
        return best.setting, profile.alphas[weakest(table, weights)]

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
            alpha, likelihood = self.alpha, self._at(judge.base_logits + self.alpha * b)[0]
        elif unit_alpha == 0:
            alpha, likelihood = 0.0, self.zero_shot
        else:
            scaled = unit_alpha * b
            u, v = best_mix(judge.base_logits, scaled, judge.labels, judge.weights, start=self._mix)
            self._mix = (u, max(v, 0.01))  # the next setting's peak is near
            alpha = v / u * unit_alpha
            likelihood = judge.per_image(log_likelihood(u * judge.base_logits + v * scaled, judge.labels))
        accuracy = float(judge.weights[judge.right(setting, alpha)].sum() / judge.weights.sum())
        return Tried(setting, alpha, strength_of(alpha, unit_alpha), likelihood, accuracy)

    def _profile(self, key: tuple[float, ...]) -> Profile:
        if key not in self._profiles:
            b, unit_alpha = self.judge.term(self.tried[key].setting)
            alphas = self._alphas(unit_alpha)
            columns, scale = [self.zero_shot], 1.0
            for alpha in alphas[1:]:
                column, scale = self._at(self.judge.base_logits + alpha * b, start=scale)
                columns.append(column)
            alone = self._at(self._alone(b, unit_alpha))[0]
            alone = alone + self.judge.image_weights * math.log(b.shape[1])
            self._profiles[key] = Profile(alphas, torch.stack(columns, dim=1), alone)
        return self._profiles[key]

    def _at(self, logits: Tensor, *, start: float = 1.0) -> tuple[Tensor, float]:
        """Log-likelihood by image, (m,), of logits at their best scale, and that."""
        judge = self.judge
        scale = best_scale(logits, judge.labels, judge.weights, start=start)
        return judge.per_image(log_likelihood(scale * logits, judge.labels)), scale


def standard_errors(gain: Tensor, weights: Tensor) -> float:
    """How many standard errors a mean gain lies above 0, with two imaginary images that gain nothing.

    Args:
        gain: Gain in log-likelihood by image, weighted, (m,).
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
