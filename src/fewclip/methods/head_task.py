"""What a linear head learns: rows with weights, and one fit for every setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fewclip.functional import balance_factors
from fewclip.methods.solvers import Parameters
from fewclip.methods.support import Support

if TYPE_CHECKING:
    from fewclip.methods.linear_heads import LinearHeadMethod

_DOUBLE = 2**22  # products of one pass up to which float64 costs nothing that is noticed


@dataclass(frozen=True)
class HeadTask:
    """Rows to learn, and the loss of a head on them.

    Attributes:
        method: Knows the formula.
        text: T, (c, d).
        features, labels, weights: Rows (r, d), their classes (r,) and weights (r,), 1 in sum.
        present: Which classes have images, (c,).
        masked: Whether classes without images stay out of the loss.
        holds: How strongly each class is held by its text, (c,).
        shots: Mean images a class.
        fixed: What the formula needs and is not learnt.
    """

    method: LinearHeadMethod
    text: Tensor
    features: Tensor
    labels: Tensor
    weights: Tensor
    present: Tensor
    masked: bool
    holds: Tensor
    shots: float
    fixed: Parameters

    def logits(self, learnt: Parameters) -> Tensor:
        """Logits of the rows, (r, c), −∞ for classes that stay out."""
        logits = self.method._formula(self.features, self.text, self.fixed | learnt)
        # A class that nobody shows would only be pushed away from every image.
        return logits.masked_fill(~self.present, -torch.inf) if self.masked else logits

    def loss(self, learnt: Parameters) -> Tensor:
        """Weighted cross-entropy."""
        return self.weights @ cross_entropy(self.logits(learnt), self.labels, reduction="none")


class LinearHead:
    """What one set of labelled images teaches a method, at any setting, each fitted once.

    Args:
        method: The method.
        support: The images to learn.
        rough: Whether the head only serves to compare settings: fewer steps tell them apart as well.
    """

    def __init__(self, method: LinearHeadMethod, support: Support, *, rough: bool = False) -> None:
        self.method, self.rough = method, rough
        self.text, self.scale = method._text_in(support), method.logit_scale
        self.task = head_task(method, support, self.text)
        self._solved: dict[float, Parameters] = {}

    def logits(self, queries: Tensor, setting: float) -> Tensor:
        """Logits (n, c) of the head that is fitted with this setting."""
        with torch.no_grad():
            learnt = {name: value.float() for name, value in self.predicts_with(setting).items()}
            logits = self.method._formula(queries, self.text, learnt)
            return self.method._filled(logits, self.scale * (queries @ self.text.T), self.task.present)

    def predicts_with(self, setting: float) -> Parameters:
        """All that the formula needs."""
        return self.task.fixed | self.method._finished(self.at(setting), self.task.text)

    def at(self, setting: float) -> Parameters:
        """What is learnt with this setting; started at the next larger one that is known."""
        if setting not in self._solved:
            larger = [known for known in self._solved if known > setting]
            start = self._solved[min(larger)] if larger else self.method._start(self.task.text)
            self._solved[setting] = self.method._solve(self.task, start, setting, rough=self.rough)
        return self._solved[setting]


def head_task(method: LinearHeadMethod, support: Support, text: Tensor) -> HeadTask:
    """The labelled images as rows to learn, and texts that are learnt like images."""
    features, labels = support.features, support.labels
    weights = row_weights(support, balanced=method.class_balance)
    samples = method._text_samples(support)
    if samples is not None:
        each = torch.bincount(samples.labels, minlength=len(text))[samples.labels]
        text_weights = 1.0 / each / len(samples.labels.unique())
        features, labels = torch.cat([features, samples.features]), torch.cat([labels, samples.labels])
        weights = torch.cat([weights / 2, text_weights / 2])
    dtype = torch.float64 if len(features) * text.numel() <= _DOUBLE else torch.float32
    # In an order of content, so that rounding does not depend on the order of rows.
    order = torch.argsort(features.sum(1), stable=True)
    present = support.shots > 0
    text = text.to(dtype)
    return HeadTask(
        method,
        text,
        features[order].to(dtype),
        labels[order],
        weights[order].to(dtype),
        present,
        method.class_balance and not bool(present.all()),
        method._holds(support, text.float()).to(dtype),
        len(support.keys) / int(present.sum()),
        method._fixed(text),
    )


def row_weights(support: Support, *, balanced: bool) -> Tensor:
    """Weight of each row in the loss, (r,), 1 in sum: 1/V of its image's, and classes alike if balanced."""
    views = torch.bincount(support.images, minlength=len(support.keys))
    weights = 1.0 / views[support.images].float()
    if balanced:
        weights = weights * balance_factors(support.key_labels, support.n_classes)[support.labels]
    return weights / weights.sum()
