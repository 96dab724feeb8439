"""What deserves a second look among labelled images: wrong labels, twins, outliers, names, poor classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewclip.data._display import escape
from fewclip.explanation.support import SupportImage
from fewclip.explanation.support_rules import (
    ClassRecord,
    class_records,
    misnamed,
    near_duplicates,
    needy,
    outliers,
    suspicious,
)

_SHOWN = 6  # of the classes that need images


@dataclass(frozen=True)
class Suspect:
    """A labelled image whose label may be wrong.

    Attributes:
        image: The image with its label.
        suggested: The class that the others make of it.
        score: Its probability by a fit without the image.
        own_score: The probability of the label.
    """

    image: SupportImage
    suggested: Any
    score: float
    own_score: float


@dataclass(frozen=True)
class Twins:
    """Two labelled images that look nearly the same.

    Attributes:
        first, second: The images.
        cosine: Of their features.
        identical: Whether they are one file.
    """

    first: SupportImage
    second: SupportImage
    cosine: float
    identical: bool

    @property
    def at_odds(self) -> bool:
        """Whether their labels differ."""
        return self.first.label != self.second.label


@dataclass(frozen=True)
class PoorClass:
    """A class whose images are often taken for others.

    Attributes:
        label: The class.
        n_images: Images that were judged.
        n_right: How many of them got their class.
        taken_for: The class that the others got most often.
    """

    label: Any
    n_images: int
    n_right: int
    taken_for: Any


@dataclass(frozen=True)
class SupportCheck:
    """What to look at in the labelled images.

    Attributes:
        suspects: Images whose label may be wrong, the likeliest first.
        twins: Pairs that look nearly the same, those with two labels first.
        outliers: Images unlike the others of their class that are no suspects, the strangest first.
        misnamed: Classes whose images the text alone takes for others, though other images know them: a
            better name or prompt would help.
        needy: Classes that more images would help most, by fits without the image, the worst first.
        n_images: Labelled images in all.
        n_judged: How many could be judged without themselves; 0 with one image a class.
    """

    suspects: tuple[Suspect, ...]
    twins: tuple[Twins, ...]
    outliers: tuple[SupportImage, ...]
    misnamed: tuple[PoorClass, ...]
    needy: tuple[PoorClass, ...]
    n_images: int
    n_judged: int

    def __str__(self) -> str:
        lines = [
            f"Of {self.n_judged} judged labelled images, labels that may be wrong: {len(self.suspects)}; "
            f"pairs that look nearly the same: {len(self.twins)}; images unlike their class: "
            f"{len(self.outliers)}."
        ]
        lines += [
            f"  {entry.image.name}: labelled {escape(str(entry.image.label))}, looks like "
            f"{escape(str(entry.suggested))} ({entry.score:.0%} against {entry.own_score:.0%})"
            for entry in self.suspects
        ]
        lines += [
            f"  {pair.first.name} and {pair.second.name}: "
            f"{'the same file' if pair.identical else 'nearly the same'}"
            f"{', with two labels' if pair.at_odds else ''}"
            for pair in self.twins
        ]
        lines += [
            f"  {image.name}: unlike the other images of {escape(str(image.label))}"
            for image in self.outliers
        ]
        lines += [
            f"  {escape(str(entry.label))}: by text alone {entry.n_right} of its {entry.n_images} images are "
            f"right, the others mostly {escape(str(entry.taken_for))}; try another name or prompt"
            for entry in self.misnamed
        ]
        if self.needy:
            lines.append("More images would help most for:")
        lines += [
            f"  {escape(str(entry.label))}: {entry.n_right} of {entry.n_images} left-out images right, most "
            f"often taken for {escape(str(entry.taken_for))}"
            for entry in self.needy[:_SHOWN]
        ]
        hidden = len(self.needy) - _SHOWN
        return "\n".join([*lines, f"  and {hidden} more"] if hidden > 0 else lines)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return {
            "images": self.n_images,
            "judged": self.n_judged,
            "suspects": [
                {"name": s.image.name, "label": s.image.label, "suggested": s.suggested, "score": s.score,
                 "own_score": s.own_score}
                for s in self.suspects
            ],
            "twins": [
                {"first": t.first.name, "second": t.second.name, "cosine": t.cosine, "identical": t.identical}
                for t in self.twins
            ],
            "outliers": [{"name": image.name, "label": image.label} for image in self.outliers],
            "misnamed": [vars(entry) for entry in self.misnamed],
            "needy": [vars(entry) for entry in self.needy],
        }  # fmt: skip


def check_support(
    features: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[Any],
    support: Sequence[SupportImage],
    *,
    text_guesses: np.ndarray | None = None,
) -> SupportCheck:
    """Looks for wrong labels, pictures that occur twice, outliers, misleading names and poor classes.

    Args:
        features: Unit-norm features of the labelled images, (m, d).
        labels: Class index of each, (m,).
        probabilities: By fits that have not seen the image, (m, c); NaN where there is none.
        classes: Labels of the columns.
        support: The images, in the same order.
        text_guesses: Class index that the text alone gives each image, (m,); None: there is no text.
    """
    judged = np.isfinite(probabilities).all(1)
    suspects = suspicious(probabilities, labels)
    twins = [
        Twins(support[i], support[j], float(features[i] @ features[j]), _one_file(support[i], support[j]))
        for i, j in near_duplicates(features, labels, support)
    ]
    twins.sort(key=lambda pair: (not pair.at_odds, not pair.identical, -pair.cosine))
    guesses = np.where(judged, np.nan_to_num(probabilities, nan=0.0).argmax(1), -1)
    by_images = class_records(guesses, labels, len(classes))
    by_text = None
    if text_guesses is not None:
        by_text = class_records(np.where(judged, text_guesses, -1), labels, len(classes))

    def poor(c: int, record: ClassRecord) -> PoorClass:
        other = None if record.taken_for is None else classes[record.taken_for]
        return PoorClass(classes[c], record.n, record.right, other)

    return SupportCheck(
        suspects=tuple(
            Suspect(
                support[i],
                classes[probabilities[i].argmax()],
                float(probabilities[i].max()),
                float(probabilities[i, labels[i]]),
            )
            for i in suspects
        ),
        twins=tuple(twins),
        outliers=tuple(support[i] for i in outliers(features, labels) if i not in suspects),
        misnamed=() if by_text is None else tuple(poor(c, by_text[c]) for c in misnamed(by_text, by_images)),
        needy=tuple(poor(c, by_images[c]) for c in needy(by_images)),
        n_images=len(labels),
        n_judged=int(judged.sum()),
    )


def _one_file(a: SupportImage, b: SupportImage) -> bool:
    return bool(a.sha256) and a.sha256 == b.sha256
