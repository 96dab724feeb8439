"""Cache methods whose keys learn: trained at one α and β, both chosen afterwards."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from fewclip.functional import affinity, class_sums, fill_absent, leave_one_out_sums, zero_shot_logits
from fewclip.methods.base import FewShotMethod
from fewclip.methods.cache import BETAS, CacheMethod, KeySet
from fewclip.methods.judged_heads import JudgedHeads, judged_heads
from fewclip.methods.parameters import is_auto, one_or
from fewclip.methods.support import Rows, Support
from fewclip.methods.training import Plan, check_plan, train, train_head
from fewclip.selection import HeldOut, SelectionResult, Setting

TRAINING_STRENGTH = 0.2  # of the cache while its keys learn, for alpha="auto"


class TrainedCacheMethod(CacheMethod):
    """Trains a head on the labelled images at one α and β; then both are chosen.

    On validation labels if given, else on folds that leave one shot of every class out of the training.

    Attributes:
        history_: Loss and accuracy of every epoch.
        n_parameters_: Numbers that were trained.
    """

    _training_beta: float  # β while keys learn, for beta="auto"
    _adapts_text: ClassVar[bool] = False
    """Whether more than the cache is learnt, so that α alone does not lead back to zero-shot."""
    history_: list[dict[str, float]]
    n_parameters_: int

    @abstractmethod
    def _head(self, support: Support, of: Support | None = None) -> CacheHead:
        """What learns ``support``, all images of the fit or some ``of`` them."""

    def _adopt(self, head: CacheHead) -> None:
        """Takes over what was learnt."""
        self.keys_, self.key_weights_ = head.learnt_keys().detach(), head.learnt_weights().detach()

    def _plan(self) -> Plan:
        return check_plan(self)

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        plan = self._plan()
        self.class_factors_, self.present_ = self._class_factors(support), support.shots > 0
        self.channels_ = None
        setting = self._default_setting(support)
        strength = max(TRAINING_STRENGTH, self._default_strength(support))
        self.alpha_ = self._default_alpha(
            support, lambda n: self._key_set(support, n), setting, strength=strength
        )
        self.beta_ = float(setting["beta"])
        head, self.history_, epochs = train_head(self._head, support, plan, validation)
        self.n_parameters_ = sum(p.numel() for p in head.parameters())

        def retrained(rest: Support, what: str) -> nn.Module:
            head = self._head(rest, of=support)
            train(head, rest, plan, stop_after=epochs, what=what)
            return head

        rows = judged_heads(self, support, validation, head, retrained)
        single = float((support.shots == 1).float().mean())
        if rows is not None and rows.shots is not None and single:
            # Classes with one image cannot be judged: the others speak for them, with one key left.
            rows = rows.thinned(single, OneKeyLeft)
        with torch.no_grad():
            self._adopt(head)
            result = self._choose(rows)
        self.alpha_, self.beta_ = float(result.settings["alpha"]), float(result.settings["beta"])
        self.mix_ = float(result.settings.get("mix", 1.0))
        return result

    def _key_set(self, support: Support, n_channels: int, seen: Tensor | None = None) -> KeySet:
        return KeySet(support.keys)

    def _search_space(self) -> dict[str, tuple[float, ...]]:
        return {"beta": one_or(self.beta, tuple(sorted({*BETAS, self._training_beta})))}

    def _default_setting(self, support: Support) -> Setting:
        return {"beta": one_or(self.beta, (self._training_beta,))[0]}

    def _held_out(self, support: Support, result: SelectionResult) -> HeldOut | None:
        return FewShotMethod._held_out(self, support, result)  # keys that were trained have learnt the images

    def _choose(self, rows: JudgedHeads | None) -> SelectionResult:
        if rows is None:
            note = "α and β stay as they were trained; no further label was used."
            return SelectionResult("none", {"beta": self.beta_, "alpha": self.alpha_}, note=note)
        base_logits = rows.each(lambda head, x: head.base_logits(x))

        def sums(setting: Setting) -> Tensor:
            return rows.each(lambda head, x: head.sums(x, setting["beta"]))

        result = rows.search(
            base_logits,
            sums,
            self._search_space(),
            start={"beta": self.beta_},
            alpha=None if is_auto(self.alpha) else float(self.alpha),
        )
        if not (self._adapts_text and self.safe and is_auto(self.alpha)):
            return result
        logits = base_logits + result.settings["alpha"] * sums(result.settings)
        mixed = rows.mix(lambda _: logits, safe=True)
        settings = result.settings | mixed.settings
        return dataclasses.replace(
            result, settings=settings, estimate=mixed.estimate, held_out=mixed.held_out
        )


class OneKeyLeft:
    """A head of whose cache every row sees a single key of its own class, the first by content.

    Args:
        head: The head.
        labels: Class of each row that it judges, (n,).
    """

    def __init__(self, head: CacheHead, labels: Tensor) -> None:
        self.head, self.labels, self.text, self.scale = head, labels, head.text, head.scale

    def base_logits(self, queries: Tensor) -> Tensor:
        """As the head's."""
        return self.head.base_logits(queries)

    def sums(self, queries: Tensor, beta: float) -> Tensor:
        """Balanced class sums, (n, c); the single key counts for all of its class."""
        return self.head.sums(queries, beta, alone=self.labels)


class CacheHead(nn.Module):
    """Zero-shot logits plus a cache with keys that learn.

    Args:
        method: With the α and β to learn at.
        support: The images to learn.
        of: All images of the fit, where ``support`` is a part of them: classes that have lost an image weigh
            as much as before.
    """

    def __init__(self, method: TrainedCacheMethod, support: Support, of: Support | None = None) -> None:
        super().__init__()
        self.text, self.scale = method._text_in(support), method.logit_scale
        self.labels, self.all_shots = support.key_labels, support.shots
        order, place = support.by_class()
        self.first_keys = torch.zeros_like(self.all_shots)
        self.first_keys[self.labels[order[place == 0]]] = order[place == 0]
        shots = support.shots if of is None else of.shots
        self.factors = method.class_factors_ * shots / support.shots.clamp(min=1)
        self.fill, self.alpha, self.beta = method.class_balance, method.alpha_, method.beta_

    # ---- what a method implements ----

    def learnt_text(self) -> Tensor:
        """T as learnt, (c, d)."""
        return self.text

    @abstractmethod
    def learnt_keys(self) -> Tensor:
        """Keys, (m, d)."""

    def learnt_weights(self) -> Tensor:
        """Weight of each key, (m,)."""
        return self.text.new_ones(len(self.labels))

    # ---- logits ----

    def forward(self, queries: Tensor, own: Tensor | None = None) -> Tensor:
        """Logits (n, c) of unit-norm features (n, d); ``own``: the image that each row is a view of, (n,)."""
        return self.base_logits(queries) + self.alpha * self._cache(queries, own)

    def base_logits(self, queries: Tensor) -> Tensor:
        """What the cache is added to, (n, c)."""
        return zero_shot_logits(queries, self.learnt_text(), logit_scale=self.scale)

    def sums(self, queries: Tensor, beta: float, alone: Tensor | None = None) -> Tensor:
        """Balanced class sums at another β, (n, c); ``alone``: classes of rows with one key left, (n,)."""
        values = self._values(queries, beta)
        sums = class_sums(values, self.labels, len(self.text))
        if alone is not None:
            column = alone[:, None]
            one = values.gather(1, self.first_keys[column]) * self.all_shots[column]
            sums = sums.scatter(1, column, one)
        sums = sums * self.factors
        return fill_absent(sums, self.all_shots > 0) if self.fill else sums

    def _values(self, queries: Tensor, beta: float) -> Tensor:
        return affinity(queries @ self.learnt_keys().T, beta=beta) * self.learnt_weights()

    def _cache(self, queries: Tensor, own: Tensor | None) -> Tensor:
        """Balanced class sums, (n, c).

        An image that is learnt leaves its own key out, as in leave-one-out: the key is the answer, and
        where it counts there is nothing to learn. The only key of a class stays.
        """
        values, n_classes = self._values(queries, self.beta), len(self.text)
        if own is None:
            return self.factors * class_sums(values, self.labels, n_classes)
        alike = values.new_ones(len(self.labels))
        sums = leave_one_out_sums(values, self.labels, n_classes, own=own, key_weights=alike)
        column = self.labels[own][:, None]
        alone = self.all_shots[column] < 2
        rest = torch.where(alone, values.gather(1, own[:, None]), sums.gather(1, column))
        return self.factors * sums.scatter(1, column, rest)
