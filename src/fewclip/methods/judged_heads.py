"""Rows that trained heads are judged on, each by a head that has not learnt it; and the safe mix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewclip.functional import zero_shot_logits
from fewclip.methods.folds import fold_weights, shot_folds
from fewclip.methods.leave_one_out import MAX_FOLDS
from fewclip.methods.support import Rows, Support
from fewclip.selection import HeldOut, Judge, Protocol, SelectionResult, Setting, search, search_mix


@dataclass(frozen=True)
class JudgedHeads:
    """What a trained method is judged on.

    Attributes:
        parts: Heads, and the features (n_i, d) of rows that they have not learnt.
        labels, images, weights: Of all rows, part by part, (n,); see ``Judge``.
        shots: Mean images a class where rows judge each other; None: they are independent.
        protocol, labels_used, note: Passed on to the results.
    """

    parts: list[tuple[Any, Tensor]]
    labels: Tensor
    images: Tensor
    weights: Tensor
    shots: float | None
    protocol: Protocol
    labels_used: int
    note: str

    def each(self, output: Callable[[Any, Tensor], Tensor]) -> Tensor:
        """What the heads give for their rows, (n, c)."""
        return torch.cat([output(head, features) for head, features in self.parts])

    def zero_shot(self) -> Tensor:
        """z₀, (n, c); class means that stand in for text are those of the images that a head has learnt."""
        return self.each(lambda head, x: zero_shot_logits(x, head.text, logit_scale=head.scale))

    def thinned(self, share: float, thin: Callable[[Any, Tensor], Any]) -> JudgedHeads:
        """These rows, and once more by thinned heads, which then have ``share`` of the weight.

        Args:
            share: 0–1.
            thin: Gives the thinned head, of a head and the classes of the rows that it is to judge, (n_i,).
        """
        labels = self.labels.split([len(features) for _, features in self.parts])
        thin_parts = [(thin(head, y), x) for (head, x), y in zip(self.parts, labels, strict=True)]
        return dataclasses.replace(
            self,
            parts=self.parts + thin_parts,
            labels=self.labels.repeat(2),
            images=self.images.repeat(2),
            weights=torch.cat([(1 - share) * self.weights, share * self.weights]),
        )

    @property
    def judged_share(self) -> float:
        """Share of classes that a left-out image speaks for, 0–1; 1 where rows are validation rows."""
        n_classes = len(self.parts[0][0].text)
        return 1.0 if self.shots is None else len(self.labels.unique()) / n_classes

    def search(
        self,
        base_logits: Tensor,
        cache_logits: Callable[[Setting], Tensor],
        space: Mapping[str, Sequence[float]],
        *,
        start: Setting,
        alpha: float | None,
    ) -> SelectionResult:
        """``selection.search`` on these rows, the estimate beside zero-shot's."""
        judge = self._judge(base_logits, cache_logits)
        result = search(judge, space, start=start, alpha=alpha, **self._passed_on())
        if result.estimate is None:
            return result
        right = self.zero_shot().argmax(1) == self.labels
        zero_shot = float(self.weights[right].sum() / self.weights.sum())
        return dataclasses.replace(result, estimate=dataclasses.replace(result.estimate, zero_shot=zero_shot))

    def mix(
        self,
        logits: Callable[[Setting], Tensor],
        *,
        safe: bool,
        space: Mapping[str, Sequence[float]] | None = None,
        start: Setting | None = None,
    ) -> SelectionResult:
        """``selection.search_mix`` of heads that give the logits z(setting), (n, c).

        Classes that no left-out image speaks for count for zero-shot: λ is scaled by the share of the others.
        """
        text = self.zero_shot()
        judge = self._judge(text, lambda setting: logits(setting) - text)
        result = search_mix(judge, safe=safe, space=space, start=start, **self._passed_on())
        mix = result.settings["mix"] * (self.judged_share if safe else 1.0)
        mixed = HeldOut(
            torch.lerp(text, logits(result.settings), mix),
            self.labels,
            self.images,
            self.weights,
            self.shots is None,
        )
        return dataclasses.replace(result, settings=result.settings | {"mix": mix}, held_out=mixed)

    def _judge(self, base_logits: Tensor, cache_logits: Callable[[Setting], Tensor]) -> Judge:
        return Judge(base_logits, cache_logits, self.labels, self.images, self.weights, self.shots)

    def _passed_on(self) -> dict[str, Any]:
        return {"protocol": self.protocol, "labels_used": self.labels_used, "note": self.note}


def judged_heads(
    method: Any,
    support: Support,
    validation: Rows | None,
    head: Any,
    train: Callable[[Support, str], Any],
    *,
    max_folds: int = MAX_FOLDS,
) -> JudgedHeads | None:
    """The rows that the method's protocol judges; None for ``none``.

    Args:
        method: The method.
        support: What ``head`` has learnt.
        validation: Validation rows, for ``full`` and ``fewshot``.
        head: The fitted head.
        train: Trains another one on a part of the images; is told what to call that.
        max_folds: Folds at most.
    """
    protocol, note = method._protocol(support, validation)
    if protocol == "none":
        return None
    if protocol == "loo" or validation is None:
        folds = shot_folds(support, at_most=max_folds)
        names = [f"training, fold {i} of {len(folds)}" for i in range(1, len(folds) + 1)]
        parts = [
            (train(fold.rest, name), support.features[fold.rows])
            for fold, name in zip(folds, names, strict=True)
        ]
        rows = torch.cat([fold.rows for fold in folds])
        labels, images = support.labels[rows], support.images[rows]
        shots = len(images.unique()) / len(labels.unique())
        note = (
            f"Chosen on {len(folds)} folds that leave out one shot of every class; no further label was used."
        )
        return JudgedHeads(parts, labels, images, fold_weights(support, rows), shots, protocol, 0, note)
    judged = method._judged_rows(support, validation, protocol)
    images = torch.arange(len(judged.labels), device=judged.labels.device)
    weights = torch.ones_like(images, dtype=torch.float32)
    parts = [(head, judged.features)]
    return JudgedHeads(parts, judged.labels, images, weights, None, protocol, len(images), note)
