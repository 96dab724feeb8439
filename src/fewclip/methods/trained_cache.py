"""Cache methods whose keys learn: train at one α and β, then choose both again where labels allow."""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from fewclip.functional import affinity, class_sums
from fewclip.methods.cache import CacheMethod, KeySet, is_auto
from fewclip.methods.support import Rows, Support
from fewclip.methods.training import Plan, check_plan, train, train_and_stop_early
from fewclip.selection import Judge, SelectionResult, Setting, search

TRAINING_STRENGTH = 0.2  # of the cache while its keys learn, for alpha="auto"


class TrainedCacheMethod(CacheMethod):
    """Trains a head on the labelled images; then α and β are chosen again on validation labels, if any.

    Attributes:
        history_: Loss and accuracy of every epoch.
        n_parameters_: Numbers that were trained.
    """

    early_stopping: bool
    history_: list[dict[str, float]]
    n_parameters_: int

    @abstractmethod
    def _head(self, support: Support, alpha: float, beta: float) -> nn.Module:
        """What learns: gives logits (n, c) of unit-norm features (n, d)."""

    @abstractmethod
    def _adopt(self, head: Any, support: Support) -> None:
        """Takes the trained parameters over into ``keys_``, ``key_weights_``, …"""

    def _plan(self) -> Plan:
        return check_plan(self)

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        plan = self._plan()
        self.class_factors_, self.present_ = self._class_factors(support), support.shots > 0
        self.channels_ = None
        setting = self._default_setting()
        alpha = self._training_alpha(support, setting)
        head, self.history_ = self._train(support, plan, alpha, setting["beta"], validation)
        self.n_parameters_ = sum(p.numel() for p in head.parameters())
        self._adopt(head, support)
        result = self._choose(support, validation, {**setting, "alpha": alpha})
        self.alpha_, self.beta_ = float(result.settings["alpha"]), float(result.settings["beta"])
        return result

    def _train(
        self, support: Support, plan: Plan, alpha: float, beta: float, validation: Rows | None
    ) -> tuple[nn.Module, list[dict[str, float]]]:
        if self.early_stopping:
            return train_and_stop_early(lambda s: self._head(s, alpha, beta), support, plan, validation)
        head = self._head(support, alpha, beta)
        return head, train(head, support, plan)

    def _training_alpha(self, support: Support, setting: Setting) -> float:
        if not is_auto(self.alpha):
            return float(self.alpha)
        return self._default_alpha(
            support, lambda n_channels: KeySet(support.keys), setting, strength=TRAINING_STRENGTH
        )

    def _choose(
        self, support: Support, validation: Rows | None, trained_at: dict[str, float]
    ) -> SelectionResult:
        protocol, _ = self._protocol(support, validation)
        if protocol not in ("full", "fewshot") or validation is None:
            note = "α and β stay as they were trained; no further label was used."
            return SelectionResult("none", trained_at, note=note)
        rows = self._fewshot(validation, support) if protocol == "fewshot" else validation
        cosines = KeySet(self.keys_).cosines(rows.features)

        def sums(setting: Setting) -> Tensor:
            values = self._values(KeySet(self.keys_), cosines, setting) * self.key_weights_
            return self._balance(class_sums(values, support.key_labels, support.n_classes))

        images = torch.arange(len(rows.labels), device=rows.labels.device)
        weights = torch.ones_like(images, dtype=torch.float32)
        judge = Judge(self._base_logits(rows.features), sums, rows.labels, images, weights)
        space = self._search_space()
        settings = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
        result = search(
            judge, settings, protocol=protocol, alpha=None if is_auto(self.alpha) else float(self.alpha),
            labels_used=len(rows.labels), note=f"α and β chosen after training (protocol {protocol!r}).",
        )  # fmt: skip
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
        shots = self.shots[own][:, None]
        column = own[:, None]
        values = values.scatter(1, column, torch.where(shots > 1, 0.0, values.gather(1, column)))
        sums = class_sums(values, self.labels, len(self.text))
        column = self.labels[own][:, None]
        whole = sums.gather(1, column) * torch.where(shots > 1, shots / (shots - 1), 1.0)
        return self.alpha * self.factors * sums.scatter(1, column, whole)
