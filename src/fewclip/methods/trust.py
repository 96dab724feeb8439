"""What every fitted method can say beside a label: sets of classes, unknown images, and where it is safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional.conformal import labels_needed, places, row_numbers
from fewclip.functional.unknown import KNOWN_SCORES, Knower
from fewclip.methods.folds import shot_folds
from fewclip.methods.support import Support
from fewclip.selection import HeldOut

if TYPE_CHECKING:
    from fewclip.methods.base import FewShotMethod

UNKNOWN, UNSURE = "unknown", "unsure"
_COLUMNS = ("label", "own", "above", "rank", "number", "top")
_ROWS = 4096  # of held-out logits at once
_PROMISES = {
    "calibration": "guaranteed for images like the {n} calibration images, which nothing was chosen by",
    "validation": "nearly guaranteed: the {n} validation images also chose settings",
    "text": "nearly guaranteed: the {n} labelled images also chose the temperature",
    "support": (
        "not guaranteed: the {n} labelled images judge each other, left out in turn; it holds as far as new "
        "images resemble them"
    ),
}


@dataclass(frozen=True)
class Judged:
    """Images whose labels are known, under probabilities of a head that has not learnt them; each (n,).

    Attributes:
        label: Class index.
        own: Probability of that class.
        above: Sum of the larger probabilities.
        rank: Of the class, from 1; 1: the prediction is right.
        number: In [0, 1), as good as random.
        top: Probability of the predicted class.
        kind: Where the images come from: ``calibration``, ``validation``, ``text`` or ``support``.
    """

    label: Tensor
    own: Tensor
    above: Tensor
    rank: Tensor
    number: Tensor
    top: Tensor
    kind: str

    def __len__(self) -> int:
        return len(self.label)

    @property
    def promise(self) -> str:
        """What a guarantee on these images is worth, in words."""
        return _PROMISES[self.kind].format(n=len(self))


def judged_columns(logits: Tensor, labels: Tensor) -> Tensor:
    """The columns of ``Judged``, (n, 6), float64, of calibrated logits (n, c) and class indices (n,)."""
    parts = []
    for z, y in zip(logits.split(_ROWS), labels.split(_ROWS), strict=True):
        p = torch.softmax(z.double(), 1)
        above, rank = places(p)
        own, larger, place = (t.gather(1, y[:, None])[:, 0].double() for t in (p, above, rank))
        parts.append(torch.stack([y.double(), own, larger, place, row_numbers(z), p.amax(1)], 1))
    return torch.cat(parts) if parts else torch.empty(0, len(_COLUMNS), dtype=torch.float64)


def one_row_an_image(held_out: HeldOut, shots: Tensor) -> Tensor:
    """Index of the first row of each image, (k,), of classes that can be judged by their own images.

    A row may occur again, judged for classes that have none of their own; the first time it is not.
    """
    images = held_out.images
    first = torch.full((int(images.max()) + 1,), len(images), device=images.device)
    first = first.scatter_reduce(0, images, torch.arange(len(images), device=images.device), "amin")
    rows = first[first < len(images)]
    if held_out.independent:
        return rows
    return rows[shots[held_out.labels[rows]] > 1]


def stored(method: FewShotMethod) -> Judged:
    """The images that the method keeps for its guarantees.

    Raises:
        ParameterError: It keeps none.
    """
    table = method.held_out_
    if table is None or not len(table):
        raise ParameterError(
            f"this {type(method).__name__}",
            expected="images that it has not learnt, to judge itself by",
            got="none: no class has two labelled images, or it was fitted with calibration='none' or before",
            fix="Pass labelled images that it has not seen: calibrate(X, y), or --calibration-images.",
        )
    columns = table.double().cpu().unbind(1)
    label, *rest = columns
    return Judged(label.long(), *rest, kind=method.held_out_kind_)


def needs(what: str, needed: int, n: int, of: str = "labelled images") -> None:
    """Raises ParameterError where ``n`` images cannot promise ``what``."""
    if n < needed:
        raise ParameterError(
            what,
            expected=f"at least {needed} {of} that were not learnt",
            got=f"{n}",
            fix="Ask for less, or pass more labelled images: calibrate(X, y), or --calibration-images.",
        )


def check_share(name: str, value: Any) -> float:
    """A number above 0 and below 1.

    Raises:
        ParameterError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < 1:
        raise ParameterError(
            name, expected="a number between 0 and 1", got=repr(value), fix="0.9 means 90 %."
        )
    return float(value)


# ---- unknown images ----


def knower_of(method: FewShotMethod, support: Support) -> Knower:
    """Scores from the labelled images of ``support``; class means stand in for text where there is none."""
    return Knower.of(
        support.keys, support.key_labels, method._text_in(support), scale=float(method.logit_scale)
    )


def held_out_known_scores(method: FewShotMethod, support: Support) -> Tensor:
    """Scores (k, 4) of labelled images by knowers that have not seen them; NaN for those that need two."""
    folds = shot_folds(support)
    if folds:
        parts = [knower_of(method, fold.rest).scores(support.keys[fold.rows]) for fold in folds]
        return torch.cat(parts)
    scores = torch.full((len(support.keys), len(KNOWN_SCORES)), torch.nan)
    if method.text_features is not None:  # text has not seen even the only image of a class
        scores[:, :2] = knower_of(method, support).scores(support.keys)[:, :2].cpu()
    return scores


def combined(scores: Tensor, held_out: Tensor, which: str) -> tuple[Tensor, Tensor]:
    """(scores of queries (n,), scores of held-out known images (k,)).

    ``auto`` is the sum of mcm, affinity and mahalanobis in units of their deviation over the held-out images;
    mcm alone where a class has no second image to leave out.

    Raises:
        ParameterError: No such score, or nothing to compare with.
    """
    choices = ("auto", *KNOWN_SCORES)
    if which not in choices:
        raise ParameterError(
            "unknown", expected=f"one of {', '.join(choices)}", got=repr(which), fix="Choose one of these."
        )
    usable = ~held_out.isnan().any(0)
    names = [name for name in ("mcm", "affinity", "mahalanobis") if usable[KNOWN_SCORES.index(name)]]
    names = names if which == "auto" else [which]
    columns = [KNOWN_SCORES.index(name) for name in names]
    if not columns or not bool(usable[columns].all()):
        raise ParameterError(
            f"unknown={which!r}",
            expected="text features, or two labelled images of a class to leave one out",
            got="neither" if which == "auto" else "one image a class",
            fix="Add images, or pass some that it has not seen: calibrate(X, y).",
        )
    deviation = held_out[:, columns].std(0, correction=0).clamp(min=1e-9)
    return (scores[:, columns] / deviation).sum(1), (held_out[:, columns] / deviation).sum(1)


def known_threshold(held_out: Tensor, keep: float) -> float:
    """The score that a new known image reaches with probability ≥ ``keep``, of held-out known ones (k,)."""
    needs(f"keep={keep}", labels_needed(keep), len(held_out))
    place = int(np.floor(round((len(held_out) + 1) * (1 - keep), 9)))
    return float(held_out.sort().values[place - 1])
