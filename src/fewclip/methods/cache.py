"""Methods that add a key-value cache to zero-shot logits: z = s·f Tᵀ + α · B."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import (
    affinity,
    balance_factors,
    cache_logits,
    class_sums,
    fill_absent,
    spread,
    unit,
)
from fewclip.methods.base import FewShotMethod
from fewclip.methods.leave_one_out import (
    MAX_FOLDS,
    LeftOut,
    judged_rows,
    left_out_rows,
    left_out_sums,
    removed_class_sums,
)
from fewclip.methods.parameters import is_auto, is_number, one_or
from fewclip.methods.support import Rows, Support
from fewclip.methods.text_odds import text_odds, why
from fewclip.selection import (
    HeldOut,
    Judge,
    SelectionResult,
    Setting,
    real_spread,
    search,
)

T = TypeVar("T")
BETA = 4.0  # between the published 1 and 5.5 in ratio, and the middle of those that are tried
BETAS = (0.5, 1.0, 2.0, BETA, 8.0, 16.0, 32.0)  # for beta="auto"


@dataclass(frozen=True)
class KeySet:
    """Cache keys on their channels.

    Attributes:
        keys: Unit-norm keys, (m, q).
        channels: The q channels they keep, (q,); None: all.
        divergence: KL in bits by which γ weighs each key, (m,); None: every key weighs 1.
    """

    keys: Tensor
    channels: Tensor | None = None
    divergence: Tensor | None = None

    def cosines(self, queries: Tensor) -> Tensor:
        """Cosines of unit-norm queries (n, d) to the keys on their channels, (n, m)."""
        return self.on_channels(queries) @ self.keys.T

    def on_channels(self, queries: Tensor) -> Tensor:
        """Unit-norm queries (n, d) on the channels of the keys, (n, q)."""
        return queries if self.channels is None else unit(queries[:, self.channels])

    def weights(self, gamma: float) -> Tensor:
        """exp(γ·KL), (m,)."""
        if self.divergence is None:
            return self.keys.new_ones(len(self.keys))
        return torch.exp(gamma * self.divergence)


class CacheMethod(FewShotMethod):
    """z = s·f Tᵀ + α·B, B the balanced class sums of weighted affinities exp(−β(1 − cos))·exp(γ·KL).

    Attributes:
        alpha_, beta_: The settings in use.
        keys_: Unit-norm cache keys on the kept channels, (m, q).
        key_weights_: Weight of each key, (m,).
        channels_: Kept channels, (q,), in the order of ``keys_``'s columns; None: all.
    """

    alpha: float | str
    beta: float | str
    _chooses_channels: ClassVar[bool] = False
    """Whether ``_key_set`` looks at the labels."""
    _not_judged_by_pairs: ClassVar[tuple[str, ...]] = ("beta",)
    """Settings that two images a class say nothing about: of the one key that is left all β think alike."""

    # ---- what a method implements ----

    @abstractmethod
    def _key_set(self, support: Support, n_channels: int, seen: Tensor | None = None) -> KeySet:
        """The cache on ``n_channels`` channels, chosen by the keys ``seen``, (m,) bool; None: by all."""

    @abstractmethod
    def _search_space(self) -> dict[str, tuple[float, ...]]:
        """Values of ``n_channels``, ``beta``, ``gamma`` to try; one value for a setting that is fixed."""

    @abstractmethod
    def _default_setting(self, support: Support) -> Setting:
        """The setting in use where nothing can be judged."""

    # ---- fit ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        self.class_factors_ = self._class_factors(support)
        self.present_ = support.shots > 0
        key_sets = _remember_last(lambda n_channels: self._key_set(support, n_channels))
        result = self._select(support, validation, key_sets)
        setting = result.settings
        chosen = key_sets(int(setting.get("n_channels", self.n_features_in_)))
        self.keys_ = chosen.keys
        self.channels_ = chosen.channels
        self.key_weights_ = chosen.weights(setting.get("gamma", 0.0))
        self.alpha_, self.beta_ = float(setting["alpha"]), float(setting["beta"])
        return result

    def _class_factors(self, support: Support) -> Tensor:
        if self.class_balance:
            return balance_factors(support.key_labels, support.n_classes)
        return support.keys.new_ones(support.n_classes)

    def _select(
        self, support: Support, validation: Rows | None, key_sets: Callable[[int], KeySet]
    ) -> SelectionResult:
        protocol, note = self._protocol(support, validation)
        if protocol == "none":
            setting = self._default_setting(support)
            strength = self._default_strength(support)
            alpha = self._default_alpha(support, key_sets, setting, strength=strength)
            if is_auto(self.alpha):
                note = f"{note} {why(strength)}"
            else:
                strength = None
            return SelectionResult("none", {**setting, "alpha": alpha}, strength=strength, note=note)
        start = {**self._default_setting(support), "beta": one_or(self.beta, (BETA,))[0]}
        space = self._search_space()
        if protocol == "loo" or validation is None:
            judge, labels_used = self._leave_one_out_judge(support), 0
            if int(support.shots.max()) == 2:
                space |= {name: (start[name],) for name in self._not_judged_by_pairs}
        else:
            rows = self._judged_rows(support, validation, protocol)
            values = self._validation_values(rows, key_sets)
            judge, labels_used = self._validation_judge(support, rows, values), len(rows.labels)
        alpha = None if is_auto(self.alpha) else float(self.alpha)
        if alpha is not None and all(len(values) == 1 for values in space.values()):
            note = "All settings as given; nothing was chosen."
        return search(
            judge,
            space,
            start=start,
            protocol=protocol,
            alpha=alpha,
            labels_used=labels_used,
            note=note,
        )

    def _held_out(self, support: Support, result: SelectionResult) -> HeldOut | None:
        if result.held_out is not None or int(support.shots.max()) < 2:
            return result.held_out
        judge = self._leave_one_out_judge(support)
        logits = judge.logits(result.settings, result.settings["alpha"])
        return HeldOut(logits, judge.labels, judge.images, judge.weights)

    def _default_strength(self, support: Support) -> float:
        return text_odds(self, support)

    def _default_alpha(
        self,
        support: Support,
        key_sets: Callable[[int], KeySet],
        setting: Setting,
        *,
        strength: float,
    ) -> float:
        """α of a strength, measured on the labelled images, each with its own class removed.

        Of two classes that leaves one, and nothing to compare: then on the text features as queries.
        """
        if not is_auto(self.alpha):
            return float(self.alpha)
        key_set = key_sets(int(setting.get("n_channels", self.n_features_in_)))
        rows = judged_rows(support)
        values = self._values(key_set, key_set.cosines(support.features[rows]), setting)
        sums = removed_class_sums(support, values, support.labels[rows], factors=self.class_factors_)
        size = real_spread(sums)
        if not size:
            values = self._values(key_set, key_set.cosines(self.text_features_), setting)
            size = real_spread(self._balance(class_sums(values, support.key_labels, support.n_classes)))
        return strength * spread(self._support_logits(support, rows)) / size if size else 0.0

    def _leave_one_out_judge(self, support: Support) -> Judge:
        left_out, folds = left_out_rows(support), self._folds(support)
        order = torch.argsort(folds[support.images[left_out.rows]], stable=True)
        left_out = left_out.take(order)
        fold = folds[support.images[left_out.rows]]
        parts = [(f, left_out.take((fold == f).nonzero()[:, 0])) for f in fold.unique().tolist()]

        @_remember_last
        def compared(n_channels: int) -> list[tuple[LeftOut, KeySet, Tensor]]:
            """The rows of each fold, keys on channels that were chosen without it, and the cosines."""
            out = []
            for f, rows in parts:
                key_set = self._key_set(support, n_channels, folds != f if self._chooses_channels else None)
                out.append((rows, key_set, key_set.cosines(support.features[rows.rows])))
            return out

        def sums(setting: Setting) -> Tensor:
            return torch.cat(
                [
                    left_out_sums(
                        rows,
                        support,
                        self._values(key_set, cosines, setting),
                        factors=self.class_factors_,
                        fill=self.class_balance,
                    )
                    for rows, key_set, cosines in compared(
                        int(setting.get("n_channels", self.n_features_in_))
                    )
                ]
            )

        rows = left_out.rows
        base_logits = self._support_logits(support, rows)
        n_judged = len(support.images[rows].unique())
        return Judge(
            base_logits,
            sums,
            support.labels[rows],
            support.images[rows],
            left_out.weights,
            shots=n_judged / max(1, len(support.labels[rows].unique())),
            evened=True,
        )

    def _folds(self, support: Support) -> Tensor:
        """Fold of each key, (m,): whatever is chosen by labels is chosen without the fold that it judges."""
        folds = torch.zeros_like(support.key_labels)
        if self._chooses_channels:
            folds = support.places() % min(MAX_FOLDS, max(2, int(support.shots.max())))
        return folds

    def _validation_values(
        self, rows: Rows, key_sets: Callable[[int], KeySet]
    ) -> Callable[[Setting], Tensor]:
        """Gives the weighted affinities of validation rows to the keys, (n, m), of a setting."""
        cosines = _remember_last(lambda n: key_sets(n).cosines(rows.features))

        def values(setting: Setting) -> Tensor:
            n_channels = int(setting.get("n_channels", self.n_features_in_))
            return self._values(key_sets(n_channels), cosines(n_channels), setting)

        return values

    def _validation_judge(self, support: Support, rows: Rows, values: Callable[[Setting], Tensor]) -> Judge:
        def sums(setting: Setting) -> Tensor:
            return self._balance(class_sums(values(setting), support.key_labels, support.n_classes))

        images = torch.arange(len(rows.labels), device=rows.labels.device)
        weights = torch.ones_like(images, dtype=torch.float32)
        return Judge(self._base_logits(rows.features), sums, rows.labels, images, weights, evened=True)

    # ---- prediction ----

    def _values(self, key_set: KeySet, cosines: Tensor, setting: Setting) -> Tensor:
        values = affinity(cosines, beta=setting["beta"])
        return values if key_set.divergence is None else values * key_set.weights(setting.get("gamma", 0.0))

    def _balance(self, sums: Tensor) -> Tensor:
        sums = sums * self.class_factors_
        return fill_absent(sums, self.present_) if self.class_balance else sums

    def _fitted_keys(self) -> KeySet:
        return KeySet(self.keys_, self.channels_)

    def _query_values(self, key_set: KeySet, queries: Tensor) -> Tensor:
        """Weighted affinities of queries to the fitted keys, (n, m)."""
        return affinity(key_set.cosines(queries), beta=self.beta_) * self.key_weights_

    def _logits(self, queries: Tensor) -> Tensor:
        logits = self._base_logits(queries)
        return logits.add_(self._balance(self._sums(queries)), alpha=self.alpha_) if self.alpha_ else logits

    def _sums(self, queries: Tensor) -> Tensor:
        """Class sums of the weighted affinities to the fitted keys, (n, c)."""
        key_set, n_classes = self._fitted_keys(), len(self.classes_)
        return cache_logits(
            key_set.on_channels(queries), key_set.keys, self.support_labels_, n_classes,
            beta=self.beta_, weights=self.key_weights_,
        )  # fmt: skip

    def _base_logits(self, queries: Tensor) -> Tensor:
        """What the cache is added to, (n, c)."""
        return self._text_logits(queries)

    def _key_contributions(self, queries: Tensor) -> Tensor:
        values = self._query_values(self._fitted_keys(), queries)
        return self.alpha_ * values * self.class_factors_[self.support_labels_]

    # ---- parameters ----

    def _check_settings(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value: Any = getattr(self, name, "auto")
            if not is_auto(value) and not (is_number(value) and 0 <= value < 1e30):
                raise ParameterError(
                    f"The {name!r} parameter of {type(self).__name__}",
                    expected="'auto' or a number ≥ 0",
                    got=repr(value),
                    fix="Leave it at 'auto' unless you reproduce a published setting.",
                )


def _remember_last(compute: Callable[[int], T]) -> Callable[[int], T]:
    """``compute`` with the last result kept: settings are tried channel set by channel set."""
    last: dict[int, T] = {}

    def get(key: int) -> T:
        if key not in last:
            last.clear()
            last[key] = compute(key)
        return last[key]

    return get
