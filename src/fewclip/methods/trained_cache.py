"""Cache methods whose keys learn: train at one α and β, then choose both again where labels allow."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from fewclip.functional import affinity, class_sums, leave_one_out_sums
from fewclip.methods.cache import BETAS, CacheMethod, KeySet, is_auto, one_or
from fewclip.methods.support import Rows, Support
from fewclip.methods.training import Plan, check_plan, train_head
from fewclip.selection import SelectionResult, Setting, search

TRAINING_STRENGTH = 0.2  # of the cache while its keys learn, for alpha="auto"


class TrainedCacheMethod(CacheMethod):
    """Trains a head on the labelled images; then α and β are chosen again on validation labels, if any.

    Attributes:
        history_: Loss and accuracy of every epoch.
        n_parameters_: Numbers that were trained.
    """

    _training_beta: float  # β while keys learn, for beta="auto"
    history_: list[dict[str, float]]
    n_parameters_: int

    @abstractmethod
    def _head(self, support: Support, alpha: float, beta: float) -> nn.Module:
        """What learns: gives logits (n, c) of unit-norm features (n, d)."""

    @abstractmethod
    def _adopt(self, head: Any, support: Support) -> None:
        """Takes the trained parameters over into ``keys_``, ``key_weights_``, …"""

    def _prepare(self) -> None:
        """Whatever the heads need that stays as it is while they learn."""

    def _plan(self) -> Plan:
        return check_plan(self)

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        self._prepare()
        plan = self._plan()
        self.class_factors_, self.present_ = self._class_factors(support), support.shots > 0
        self.channels_ = None
        setting = self._default_setting()
        alpha = self._training_alpha(support, setting)
        head, self.history_ = train_head(
            lambda images: self._head(images, alpha, setting["beta"]), support, plan, validation
        )
        self.n_parameters_ = sum(p.numel() for p in head.parameters())
        self._adopt(head, support)
        result = self._choose(support, validation, {**setting, "alpha": alpha})
        self.alpha_, self.beta_ = float(result.settings["alpha"]), float(result.settings["beta"])
        return result

    def _training_alpha(self, support: Support, setting: Setting) -> float:
        strength = max(TRAINING_STRENGTH, self._default_strength(support))
        return self._default_alpha(support, lambda n: self._key_set(support, n), setting, strength=strength)

    def _key_set(self, support: Support, n_channels: int, seen: Tensor | None = None) -> KeySet:
        return KeySet(support.keys)

    def _search_space(self) -> dict[str, tuple[float, ...]]:
        return {"beta": one_or(self.beta, BETAS)}

    def _default_setting(self) -> Setting:
        return {"beta": one_or(self.beta, (self._training_beta,))[0]}

    def _choose(
        self, support: Support, validation: Rows | None, trained_at: dict[str, float]
    ) -> SelectionResult:
        protocol, _ = self._protocol(support, validation)
        if protocol not in ("full", "fewshot") or validation is None:
            note = "α and β stay as they were trained; no further label was used."
            return SelectionResult("none", trained_at, note=note)
        rows = self._judged_rows(support, validation, protocol)
        key_set = KeySet(self.keys_)
        cosines = key_set.cosines(rows.features)
        judge = self._validation_judge(
            support, rows, lambda setting: self._values(key_set, cosines, setting) * self.key_weights_
        )
        result = search(
            judge,
            self._search_space(),
            start=self._default_setting(),
            protocol=protocol,
            alpha=None if is_auto(self.alpha) else float(self.alpha),
            labels_used=len(rows.labels),
            note=f"α and β chosen after training (protocol {protocol!r}).",
        )
        if result.estimate is None:
            return result
        right = self._text_logits(rows.features).argmax(1) == rows.labels
        estimate = dataclasses.replace(result.estimate, zero_shot=float(right.float().mean()))
        return dataclasses.replace(result, estimate=estimate)


class CacheHead(nn.Module):
    """Zero-shot logits plus a cache with keys that learn."""

    def __init__(self, method: CacheMethod, support: Support, alpha: float, beta: float) -> None:
        super().__init__()
        self.text, self.scale = method.text_features_, method.logit_scale
        self.labels, self.factors = support.key_labels, method._class_factors(support)
        self.shots = support.shots[support.key_labels].to(self.text)
        self.alpha, self.beta = alpha, beta

    def cache(self, queries: Tensor, keys: Tensor, weights: Tensor | None, own: Tensor | None) -> Tensor:
        """α times the balanced class sums, (n, c).

        An image that is learnt leaves its own key out, as in leave-one-out: the key is the answer, and
        where it counts there is nothing to learn. The only key of a class stays.
        """
        values = affinity(queries @ keys.T, beta=self.beta)
        values = values if weights is None else values * weights
        if own is None:
            return self.alpha * self.factors * class_sums(values, self.labels, len(self.text))
        n_classes, shots = len(self.text), self.shots[own][:, None]
        weight = torch.ones_like(self.shots)
        sums = leave_one_out_sums(values, self.labels, n_classes, own=own, key_weights=weight)
        column = self.labels[own][:, None]
        rest = torch.where(shots > 1, sums.gather(1, column), values.gather(1, own[:, None]))
        return self.alpha * self.factors * sums.scatter(1, column, rest)
