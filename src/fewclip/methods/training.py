"""The one gradient loop: AdamW and a cosine schedule on cached features, one view an image and epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fewclip.errors import ParameterError, TrainingError
from fewclip.functional import balance_factors
from fewclip.methods.folds import shot_folds
from fewclip.methods.parameters import is_number
from fewclip.methods.support import Rows, Support

History = list[dict[str, float]]
H = TypeVar("H", bound=nn.Module)


@dataclass(frozen=True)
class Plan:
    """How a head is trained.

    Attributes:
        epochs: Passes over the images.
        learning_rate, eps, weight_decay: Of AdamW; the rate falls to 0 along a cosine, step by step.
        batch_size: Images a step; None: all of them.
        seed: Of the order of images and of the views drawn.
        balanced: Classes weigh alike in the loss, and classes without images take no part in it.
        early_stopping: Whether held-out images decide the number of epochs, up to ``epochs``.
        verbose: Whether a progress bar shows loss and accuracy.
    """

    epochs: int = 20
    learning_rate: float = 1e-3
    eps: float = 1e-4
    weight_decay: float = 0.01
    batch_size: int | None = 256
    seed: int = 0
    balanced: bool = True
    early_stopping: bool = False
    verbose: bool = False


def train(
    head: nn.Module,
    support: Support,
    plan: Plan,
    *,
    held_out: Rows | None = None,
    stop_after: int | None = None,
    what: str = "training",
) -> History:
    """Minimises the cross-entropy of ``head(features)``, logits (n, c), on the labelled images.

    Args:
        head: What learns; its parameters change in place. While it learns it is also told which image each
            row is a view of: ``head(features, images)``.
        support: The labelled images. Every epoch draws one view of each.
        plan: Rates and sizes.
        held_out: Rows whose loss is noted after every epoch, never trained on.
        stop_after: Epochs to run of the schedule's ``plan.epochs``; None: all.
        what: What the progress bar is called.

    Returns:
        One entry an epoch: ``epoch``, ``loss`` and ``accuracy`` (0–1) on the images while they were learnt,
        and ``held_out_loss`` where rows were held out.

    Raises:
        TrainingError: The loss is not finite.
    """
    n_images = len(support.keys)
    batch = min(plan.batch_size or n_images, n_images)
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=plan.learning_rate, eps=plan.eps, weight_decay=plan.weight_decay
    )
    steps = plan.epochs * -(-n_images // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    generator = torch.Generator().manual_seed(plan.seed)
    loss_of = _cross_entropy(support, plan.balanced)
    views = _Views(support)
    history: History = []
    epochs = range(1, (plan.epochs if stop_after is None else stop_after) + 1)
    with tqdm(epochs, desc=what, unit="epoch", disable=not plan.verbose) as bar:
        for epoch in bar:
            total, right = 0.0, 0
            for rows in views.draw(generator).split(batch):
                logits = head(support.features[rows], support.images[rows])
                labels = support.labels[rows]
                loss = loss_of(logits, labels)
                _check_finite(loss, epoch, plan)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(rows)
                right += int((logits.argmax(1) == labels).sum())
            entry = {"epoch": epoch, "loss": total / n_images, "accuracy": right / n_images}
            if held_out is not None:
                with torch.no_grad():
                    entry["held_out_loss"] = float(loss_of(head(held_out.features), held_out.labels))
            history.append(entry)
            bar.set_postfix(loss=f"{entry['loss']:.3f}", accuracy=f"{entry['accuracy']:.1%}")
    return history


def train_head(
    make_head: Callable[[Support], H], support: Support, plan: Plan, validation: Rows | None
) -> tuple[H, History, int]:
    """Trains a fresh head; where the plan stops early, for the epochs that serve images not trained on.

    Their number is that of the smallest held-out loss: on ``validation`` if given, else of folds of the
    labelled images that leave one shot of every class out. Then all images are trained on, that long.

    Args:
        make_head: A fresh head for labelled images.
        support: The labelled images.
        plan: Rates, sizes, and the largest number of epochs.
        validation: Validation rows; they are only looked at.

    Returns:
        The head, its history, and the number of epochs it learnt.
    """
    head = make_head(support)
    if not (plan.early_stopping and plan.epochs):
        return head, train(head, support, plan), plan.epochs
    if validation is not None:
        noted = [train(make_head(support), support, plan, held_out=validation)]
    else:
        folds = shot_folds(support)
        noted = [train(make_head(f.rest), f.rest, plan, held_out=f.out(support)) for f in folds]
    best = plan.epochs
    if noted:
        losses = torch.tensor([[entry["held_out_loss"] for entry in history] for history in noted])
        best = int(losses.mean(0).argmin()) + 1
    return head, train(head, support, plan, held_out=validation, stop_after=best), best


class _Views:
    """Rows of each image, in an order that depends on content alone, not on the order of rows."""

    def __init__(self, support: Support) -> None:
        content = torch.argsort(support.features.sum(1), stable=True)
        self.rows = content[torch.argsort(support.images[content], stable=True)]
        self.counts = torch.bincount(support.images, minlength=len(support.keys))
        self.first = self.counts.cumsum(0) - self.counts
        self.images = torch.argsort(support.keys.sum(1), stable=True)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One row of every image, shuffled, (m,)."""
        n_images = len(self.counts)
        images = self.images[torch.randperm(n_images, generator=generator).to(self.images.device)]
        chance = torch.rand(n_images, generator=generator).to(self.images.device)
        counts = self.counts[images]
        return self.rows[self.first[images] + (chance * counts).long().clamp(max=counts - 1)]


def _cross_entropy(support: Support, balanced: bool) -> Callable[[Tensor, Tensor], Tensor]:
    if not balanced:
        return nn.CrossEntropyLoss()
    weighted = nn.CrossEntropyLoss(weight=balance_factors(support.key_labels, support.n_classes))
    absent = support.shots == 0
    # A class that nobody shows would only be pushed away from every image.
    return lambda logits, labels: weighted(logits.masked_fill(absent, -torch.inf), labels)


def _check_finite(loss: Tensor, epoch: int, plan: Plan) -> None:
    if bool(torch.isfinite(loss)):
        return
    raise TrainingError(
        f"epoch {epoch} of the training",
        expected="a finite loss",
        got=f"{loss.item()} at learning rate {plan.learning_rate:g}",
        fix="Lower learning_rate= (or alpha= and beta=), or raise batch_size=.",
    )


def check_plan(method: Any) -> Plan:
    """The plan that a method's parameters describe.

    Raises:
        ParameterError: ``epochs``, ``learning_rate``, ``weight_decay`` or ``batch_size`` out of range.
    """
    _require(method, "epochs", _is_count(method.epochs, 0), "an int ≥ 0")
    _require(method, "learning_rate", _is_rate(method.learning_rate), "a number ≥ 0")
    _require(method, "weight_decay", _is_rate(method.weight_decay), "a number ≥ 0")
    size = method.batch_size
    _require(method, "batch_size", size is None or _is_count(size, 1), "an int ≥ 1, or None for all images")
    return Plan(
        epochs=int(method.epochs),
        learning_rate=float(method.learning_rate),
        weight_decay=float(method.weight_decay),
        batch_size=size,
        seed=int(method.random_state or 0),
        balanced=bool(method.class_balance),
        early_stopping=bool(method.early_stopping),
        verbose=bool(method.verbose),
    )


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_rate(value: Any) -> bool:
    return is_number(value) and 0 <= float(value) < float("inf")


def _require(method: Any, name: str, good: bool, expected: str) -> None:
    if not good:
        raise ParameterError(
            f"The {name!r} parameter of {type(method).__name__}",
            expected=expected,
            got=repr(getattr(method, name)),
            fix="Leave it at its default unless you reproduce a published setting.",
        )
