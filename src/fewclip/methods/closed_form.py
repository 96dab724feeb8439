"""Methods whose images give every class a linear score in closed form: z = t + α·(f·w_c + b_c)."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import GDAHead, fill_absent, spread, zero_shot_logits
from fewclip.methods.base import FewShotMethod
from fewclip.methods.cache import is_auto, is_number
from fewclip.methods.folds import Fold, fold_weights, shot_folds
from fewclip.methods.support import Rows, Support
from fewclip.methods.text_odds import text_odds, why
from fewclip.selection import Judge, SelectionResult, Setting, real_spread, search

_SPREAD_PARTS = 8  # of the images that are left out, at most one of a class, to measure the size of scores
LeftOutScores = list[tuple[Tensor, Tensor]]  # (n, c), and which classes the rest shows, (c,)


class ScoreMethod(FewShotMethod):
    """Zero-shot logits plus α times linear scores of the classes; α is the mix and starts at 0.

    Scores have no natural size: it changes several times with the number of images. So α is chosen as a
    strength, the ratio of spreads, on folds that leave out one shot of every class, and made an α by the
    spread of scores of images that are left out, an eighth at a time at most.

    Attributes:
        alpha_: The weight in use.
        weights_, bias_: w, (c, d), and b, (c,).
        base_text_: What α = 0 leaves, (c, d).
        present_: Which classes have images, (c,); a class without gets the row's largest score.
    """

    alpha: float | str
    _numbers: ClassVar[tuple[str, ...]] = ()
    """Other parameters that are ``\"auto\"`` or a number ≥ 0."""

    # ---- what a method implements ----

    @abstractmethod
    def _head(self, support: Support, setting: Setting) -> GDAHead:
        """The scores that ``support`` gives."""

    @abstractmethod
    def _left_out(
        self, support: Support, setting: Setting, parts: list[Tensor], alone: list[Tensor] | None = None
    ) -> LeftOutScores:
        """Of rows that leave together, their scores by the rest and which classes that still shows.

        ``alone``: the row that is to speak for the whole class of each left-out row.
        """

    def _space(self) -> dict[str, tuple[float, ...]]:
        """Values to try of each setting, the default first; one value for a setting that is fixed."""
        return {}

    def _text_of(self, support: Support) -> Tensor:
        """Unit-norm rows that the scores are added to the logits of, (c, d)."""
        return self._text_in(support)

    # ---- fit ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        self.present_ = support.shots > 0
        self.base_text_ = self._text_of(support)
        result = self._choose(support, validation)
        self._adopt(self._head(support, result.settings))
        self.alpha_ = float(result.settings["alpha"])
        return result

    def _adopt(self, head: GDAHead) -> None:
        like = self.support_features_
        self.weights_, self.bias_ = head.weights.to(like), head.bias.to(like)

    def _choose(self, support: Support, validation: Rows | None) -> SelectionResult:
        protocol, note = self._protocol(support, validation)
        alpha = None if is_auto(self.alpha) else float(self.alpha)
        start = {name: values[0] for name, values in self._space().items()}
        if protocol == "none":
            if alpha is not None:
                return SelectionResult("none", {**start, "alpha": alpha}, note=note)
            strength = text_odds(self, support)
            settings = {**start, "alpha": strength * self._unit_alpha(support, start)}
            return SelectionResult("none", settings, strength=strength, note=f"{note} {why(strength)}")
        if protocol == "loo" or validation is None:
            return self._by_folds(support, start, alpha, note)
        rows = self._judged_rows(support, validation, protocol)
        images = torch.arange(len(rows.labels), device=rows.labels.device)
        weights = torch.ones_like(images, dtype=torch.float32)

        def scores(setting: Setting) -> Tensor:
            return fill_absent(self._head(support, setting).scores(rows.features), self.present_)

        judge = Judge(self._base_logits(rows.features), scores, rows.labels, images, weights)
        return search(
            judge, self._space(), start=start, protocol=protocol, alpha=alpha,
            labels_used=len(rows.labels), note=note,
        )  # fmt: skip

    def _by_folds(self, support: Support, start: Setting, alpha: float | None, note: str) -> SelectionResult:
        judge = self._judge(support, shot_folds(support))
        result = search(judge, self._space(), start=start, protocol="loo", alpha=alpha, note=note)
        if alpha is not None or not result.strength:
            return result
        chosen = result.strength * self._unit_alpha(support, result.settings)
        ratio = chosen / result.settings["alpha"]
        table = [row | {"alpha": ratio * row["alpha"]} for row in result.table]
        return dataclasses.replace(result, settings={**result.settings, "alpha": chosen}, table=table)

    def _judge(self, support: Support, folds: list[Fold]) -> Judge:
        """Rows of the folds; other classes speak for those with one image or none, as in leave-one-out."""
        rows = torch.cat([fold.rows for fold in folds])
        labels, images = support.labels[rows], support.images[rows]
        absent, single = (
            float((support.shots == 0).float().mean()),
            float((support.shots == 1).float().mean()),
        )
        shares = [share for share in (1 - absent - single, single, absent) if share]
        base = torch.cat([self._base_logits_of(fold, support) for fold in folds])
        weights = fold_weights(support, rows)

        @cache
        def scores(setting: tuple[tuple[str, float], ...]) -> Tensor:
            parts = [fold.rows for fold in folds]
            left_out = self._left_out(support, dict(setting), parts)
            ways = [torch.cat([fill_absent(scores, present) for scores, present in left_out])]
            if single:
                alone = [_first_of_class(fold, support) for fold in folds]
                thin = self._left_out(support, dict(setting), parts, alone)
                ways.append(torch.cat([fill_absent(scores, present) for scores, present in thin]))
            if absent:
                by_class = zip(left_out, parts, strict=True)
                ways.append(torch.cat([_without_own(*said, support.labels[part]) for said, part in by_class]))
            return torch.cat(ways)

        n = len(shares)
        return Judge(
            base.repeat(n, 1), lambda setting: scores(tuple(setting.items())), labels.repeat(n),
            images.repeat(n), torch.cat([share * weights for share in shares]),
            shots=len(images.unique()) / len(labels.unique()),
        )  # fmt: skip

    def _base_logits_of(self, fold: Fold, support: Support) -> Tensor:
        queries = support.features[fold.rows]
        return zero_shot_logits(queries, self._text_of(fold.rest), logit_scale=self.logit_scale)

    # ---- the size of scores ----

    def _unit_alpha(self, support: Support, setting: Setting) -> float:
        """The α of strength 1, by scores of images that are left out, few at a time.

        Of two classes with one image each that leaves one, and nothing to compare: then by the text features
        as queries.
        """
        order, place = support.by_class()
        content = torch.argsort(support.keys[order].sum(1), stable=True)
        first = order[content][torch.argsort(place[content], stable=True)]  # one of every class, then another
        n = max(1, min(support.n_classes, len(first) // _SPREAD_PARTS))
        batches = list(first.split(n))[:_SPREAD_PARTS]
        parts = [torch.isin(support.images, batch).nonzero()[:, 0] for batch in batches]
        left_out = self._left_out(support, setting, parts)
        size = real_spread(torch.cat([fill_absent(scores, present) for scores, present in left_out]))
        if not size:
            scores = self._head(support, setting).scores(self.text_features_)
            size = real_spread(fill_absent(scores, self.present_))
        return spread(self._support_logits(support)) / size if size else 0.0

    # ---- prediction ----

    def _base_logits(self, queries: Tensor) -> Tensor:
        return zero_shot_logits(queries, self.base_text_, logit_scale=self.logit_scale)

    def _logits(self, queries: Tensor) -> Tensor:
        logits = self._base_logits(queries)
        if not self.alpha_:
            return logits
        scores = queries @ self.weights_.T + self.bias_
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


def _without_own(scores: Tensor, present: Tensor, labels: Tensor) -> Tensor:
    """Scores of rows whose whole class is taken away, (n, c)."""
    others = present.expand_as(scores).scatter(1, labels[:, None], False)
    return fill_absent(scores, others)


def _first_of_class(fold: Fold, support: Support) -> Tensor:
    """A row of the class of each left-out row that stays, the first by content, (n,)."""
    order, _ = support.by_class()
    row_of = torch.zeros_like(order)
    row_of[support.images] = torch.arange(len(support.labels), device=order.device)
    stays = torch.ones(len(support.labels), dtype=torch.bool, device=order.device)
    stays[fold.rows] = False
    rows = row_of[order]
    rows = rows[stays[rows]]
    places, last = torch.arange(len(rows), device=order.device), torch.full_like(support.shots, len(rows) - 1)
    first = rows[last.scatter_reduce(0, support.labels[rows], places, "amin")]
    return first[support.labels[fold.rows]]
