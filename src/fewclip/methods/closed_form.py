"""Methods whose images give every class a score in closed form: z = t + α·score."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from functools import cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import fill_absent, refine_channels, spread, unit, zero_shot_logits
from fewclip.methods.base import FewShotMethod
from fewclip.methods.channels import channel_counts
from fewclip.methods.folds import shot_folds
from fewclip.methods.leave_one_out import judged_rows
from fewclip.methods.left_out_parts import judged_parts, rest_of, spread_parts
from fewclip.methods.parameters import is_auto, is_number
from fewclip.methods.support import Rows, Support
from fewclip.methods.text_odds import text_odds, why
from fewclip.selection import Judge, SelectionResult, Setting, real_spread, search

LeftOutScores = list[tuple[Tensor, Tensor]]  # (n, c), and which classes the rest shows, (c,)
_CRITERION_WEIGHTS = (0.2, 0.8)  # of channels, by the text alone: no label is used


class Solver(Protocol):
    """The closed form on some labelled images."""

    def scores(self, setting: Setting) -> Any:
        """What gives scores (n, c) of queries (n, q) when it is called."""

    def left_out(self, setting: Setting, parts: list[Tensor], *, alone: bool = False) -> LeftOutScores:
        """Of rows that leave together, their scores by the rest and which classes that still shows.

        ``alone``: as they are without the text, where it has a part in them.
        """
        ...


class ScoreMethod(FewShotMethod):
    """Zero-shot logits plus α times scores of the classes; α is the mix and starts at 0.

    Scores have no natural size: it changes several times with the number of images. So α is chosen as a
    strength, the ratio of spreads, on folds that leave out one shot of every class, and made an α by the
    spread of scores of images that are left out, an eighth at a time at most.

    Attributes:
        alpha_: The weight in use.
        base_text_: What α = 0 leaves, (c, d).
        present_: Which classes have images, (c,); a class without gets the row's largest score.
        channels_: The channels of the scores, (q,); None: all.
    """

    alpha: float | str
    n_channels: int | float | str
    channels_: Tensor | None = None
    _corrects_text: ClassVar[bool] = False
    """Whether scores correct the text, so that they know nothing without it."""
    _numbers: ClassVar[tuple[str, ...]] = ()
    """Other parameters that are ``"auto"`` or a number ≥ 0."""
    _fractions: ClassVar[tuple[float, ...]] = (1.0,)
    """Of the channels, that ``n_channels="auto"`` tries; all of them are the default."""

    # ---- what a method implements ----

    @abstractmethod
    def _solver(self, support: Support, text: Tensor | None, channels: Tensor | None) -> Solver:
        """The closed form of labelled images beside the text of classes, scores on some channels."""

    @abstractmethod
    def _adopt(self, scores: Any) -> None:
        """Takes over what gives the scores."""

    @abstractmethod
    def _scores(self, queries: Tensor) -> Tensor:
        """Scores (n, c) of queries on the kept channels, (n, q)."""

    @abstractmethod
    def _space(self, support: Support) -> dict[str, tuple[float, ...]]:
        """Values to try of each setting; one value for a setting that is fixed."""

    @abstractmethod
    def _start(self, support: Support) -> dict[str, float]:
        """The setting to begin with, and in use where nothing can be judged."""

    def _text_of(self, support: Support) -> Tensor:
        """Unit-norm rows that the scores are added to the logits of, (c, d)."""
        return self._text_in(support)

    def _fixed_alpha(self) -> float | None:
        """α where it is not chosen."""
        return None if is_auto(self.alpha) else float(self.alpha)

    def _judged(self, support: Support) -> Support:
        """The images that settings are chosen on."""
        return support

    # ---- fit ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        self.present_ = support.shots > 0
        self.base_text_ = self._text_of(support)
        fitting = _Fitting(self, support)
        result = self._choose(support, validation, fitting)
        self.channels_ = fitting.channels(result.settings)
        self._adopt(fitting.scores(result.settings))
        self.alpha_ = float(result.settings["alpha"])
        if self.n_features_in_ == int(result.settings["n_channels"]) and is_auto(self.n_channels):
            del result.settings["n_channels"]  # nothing that was chosen
        return result

    def _choose(self, support: Support, validation: Rows | None, fitting: _Fitting) -> SelectionResult:
        protocol, note = self._protocol(support, validation)
        alpha = self._fixed_alpha()
        counts = channel_counts(self, self._fractions)
        space = {"n_channels": tuple(map(float, counts)), **self._space(support)}
        start = {"n_channels": float(counts[-1]), **self._start(support)}
        if protocol == "none":
            if alpha is not None:
                return SelectionResult("none", {**start, "alpha": alpha}, note=note)
            strength = text_odds(self, support)
            settings = {**start, "alpha": strength * fitting.unit_alpha(start)}
            return SelectionResult("none", settings, strength=strength, note=f"{note} {why(strength)}")
        if protocol == "loo" or validation is None:
            return self._by_folds(fitting, space, start, alpha, note)
        rows = self._judged_rows(support, validation, protocol)
        images = torch.arange(len(rows.labels), device=rows.labels.device)
        weights = torch.ones_like(images, dtype=torch.float32)

        def scores(setting: Setting) -> Tensor:
            queries = on_channels(rows.features, fitting.channels(setting))
            return fill_absent(fitting.scores(setting)(queries), self.present_)

        judge = Judge(self._base_logits(rows.features), scores, rows.labels, images, weights)
        if len(support.labels) > len(fitting.judged.labels):
            space = {name: (start[name],) for name in space}  # many settings would take too long
        return search(
            judge, space, start=start, protocol=protocol, alpha=alpha,
            labels_used=len(rows.labels), note=note, rounds=0,
        )  # fmt: skip

    def _by_folds(
        self, fitting: _Fitting, space: Any, start: Setting, alpha: float | None, note: str
    ) -> SelectionResult:
        judge = fitting.judge()
        result = search(judge, space, start=start, protocol="loo", alpha=alpha, note=note)
        if alpha is not None or not result.strength:
            return result
        chosen = result.strength * fitting.unit_alpha(result.settings)
        ratio = chosen / result.settings["alpha"]
        table = [row | {"alpha": ratio * row["alpha"]} for row in result.table]
        return dataclasses.replace(result, settings={**result.settings, "alpha": chosen}, table=table)

    # ---- prediction ----

    def _base_logits(self, queries: Tensor) -> Tensor:
        return zero_shot_logits(queries, self.base_text_, logit_scale=self.logit_scale)

    def _logits(self, queries: Tensor) -> Tensor:
        logits = self._base_logits(queries)
        if not self.alpha_:
            return logits
        scores = self._scores(on_channels(queries, self.channels_))
        return logits.add_(fill_absent(scores, self.present_), alpha=self.alpha_)

    def _check_settings(self) -> None:
        for name in ("alpha", *self._numbers):
            value = getattr(self, name)
            if not is_auto(value) and not (is_number(value) and 0 <= float(value) < 1e30):
                raise ParameterError(
                    f"The {name!r} parameter of {type(self).__name__}",
                    expected="'auto' or a number ≥ 0",
                    got=repr(value),
                    fix="Leave it at 'auto' unless you reproduce a published setting.",
                )


class _Fitting:
    """The solvers of one fit, and the rows that they are judged on."""

    def __init__(self, method: ScoreMethod, support: Support) -> None:
        self.method, self.support, self.judged = method, support, method._judged(support)
        self.solver = cache(self._solver)

    def channels(self, setting: Setting) -> Tensor | None:
        """The channels of a setting, by the text alone; None: all."""
        n = int(setting["n_channels"])
        if n == self.method.n_features_in_:
            return None
        return refine_channels(self.method.text_features_, n, weights=_CRITERION_WEIGHTS)

    def scores(self, setting: Setting) -> Any:
        """What gives scores of queries on these channels."""
        return self.solver(setting["n_channels"], False).scores(setting)

    def _solver(self, n_channels: float, judging: bool) -> Solver:
        if judging and len(self.judged.labels) == len(self.support.labels):
            return self.solver(n_channels, False)
        text = None if self.method.text_features is None else self.method.text_features_
        support = self.judged if judging else self.support
        return self.method._solver(support, text, self.channels({"n_channels": n_channels}))

    def _left_out(self, setting: Setting, parts: list[Tensor], *, alone: bool = False) -> list[Tensor]:
        left_out = self.solver(setting["n_channels"], True).left_out(setting, parts, alone=alone)
        return [fill_absent(scores, present) for scores, present in left_out]

    def judge(self) -> Judge:
        """Images of the folds, and what speaks for classes with one image or none."""
        support, method = self.judged, self.method
        parts, weights = judged_parts(support, shot_folds(support))
        rows = torch.cat(parts)
        base = torch.cat([self._base_logits(part) for part in parts])
        remembered = cache(lambda setting: torch.cat(self._left_out(dict(setting), parts)))
        labels, images = support.labels[rows], support.images[rows]
        return Judge(
            base, lambda setting: remembered(tuple(setting.items())), labels, images, weights,
            shots=len(images.unique()) / len(labels.unique()),
            alone_logits=(
                (lambda setting: torch.cat(self._left_out(setting, parts, alone=True)))
                if method._corrects_text
                else None
            ),
        )  # fmt: skip

    def _base_logits(self, part: Tensor) -> Tensor:
        text = self.method._text_of(rest_of(self.judged, part))
        queries = self.judged.features[part]
        return zero_shot_logits(queries, text, logit_scale=self.method.logit_scale)

    def unit_alpha(self, setting: Setting) -> float:
        """The α of strength 1, by scores of images that are left out, few at a time.

        Of two classes with one image each that leaves one, and nothing to compare: then by the text features
        as queries.
        """
        method = self.method
        size = real_spread(torch.cat(self._left_out(setting, spread_parts(self.judged))))
        if not size:
            queries = on_channels(method.text_features_, self.channels(setting))
            size = real_spread(fill_absent(self.scores(setting)(queries), method.present_))
        return spread(method._support_logits(self.judged, judged_rows(self.judged))) / size if size else 0.0


def on_channels(rows: Tensor, channels: Tensor | None) -> Tensor:
    """Unit-norm rows on some channels, (n, q)."""
    return rows if channels is None else unit(rows[:, channels])
