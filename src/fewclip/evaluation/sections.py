"""The sections of a report: one function a section, each with its template in ``templates/sections/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewclip.evaluation._text import count, percent
from fewclip.evaluation.comparison import ZERO_SHOT, Comparison, accuracy_text, seconds_text
from fewclip.evaluation.left_out import LearningCurve
from fewclip.evaluation.metrics import Evaluation
from fewclip.evaluation.pictures import ConfusedPair, Example, Picture, example_view, pair_view, picture_view
from fewclip.evaluation.plot import (
    accuracy_plot,
    describe_history,
    history_plot,
    learning_plot,
    reliability_plot,
    risk_coverage_plot,
)

_OPEN_CLASSES = 10  # of the per-class table; the others are folded away
_SUSPECTS, _TWINS = 12, 6  # labelled images to look at
_POOR = 8  # classes with a misleading name, or that need images
_GROUPS = 6  # of classes that are hard to tell apart


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        id: Its anchor on the page, unique there.
        heading: What stands above it.
        hint: One or two sentences on how to read it; "" for none.
        template: ``templates/sections/TEMPLATE.html.j2``.
        view: What the template reads, as ``view``.
    """

    id: str
    heading: str
    hint: str
    template: str
    view: Mapping[str, Any] = field(default_factory=dict)


def figures_of(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The headline numbers, (name, value, remark)."""
    low, high = evaluation.interval
    figures = [
        ("accuracy", percent(evaluation.accuracy), f"95 % interval {100 * low:.1f} to {percent(high)}"),
        ("balanced accuracy", percent(evaluation.balanced_accuracy), "mean over the classes"),
    ]
    if len(evaluation.classes) > 5:
        figures.append(("top-5 accuracy", percent(evaluation.top5), "truth among the five best"))
    return figures


def comparison_section(comparison: Comparison) -> Section:
    """Methods over shots: a plot and a table.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shots = comparison.shots or (0,)
    rows = [
        {
            "method": method,
            "flat": method == ZERO_SHOT,
            "cells": [
                {"text": accuracy_text(comparison.row(method, k)), "best": comparison.is_best(method, k)}
                for k in shots
            ],
            "seconds": seconds_text(comparison.seconds(method)),
        }
        for method in comparison.methods
    ]
    errors = [
        f"{cell.method}, {cell.shots} shots, seed {cell.seed}: {cell.error}" for cell in comparison.errors
    ]
    view = {
        **_two_plots(lambda **size: accuracy_plot(comparison, **size), (10.8, 4.3), (4.6, 3.9)),
        "shots": [(str(k) if k else "accuracy") for k in shots],
        "rows": rows,
        "errors": errors,
    }
    return Section("comparison", "Methods and shots", comparison.caption(), "comparison", view)


def classes_section(evaluation: Evaluation) -> Section:
    """Every class: images, recall, precision, what it is taken for."""
    rows = [
        {
            **{key: str(row[key]) for key in ("class", "images", "right")},
            "recall": percent(row["recall"]),
            "precision": percent(row["precision"]),
            "width": f"{100 * (row['recall'] or 0):.1f}",
            "confused": "" if row["most_confused_with"] is None else str(row["most_confused_with"]),
        }
        for row in evaluation.worst_first()
    ]
    n_open = _OPEN_CLASSES if len(rows) > _OPEN_CLASSES + 4 else len(rows)
    hint = (
        f"{len(evaluation.labels):,} test images, the hardest classes first. Recall: how many of a class "
        "were found; precision: how many predictions of it were right."
    )
    view = {"open": rows[:n_open], "folded": rows[n_open:]}
    return Section("classes", "Class by class", hint, "classes", view)


def confusion_section(evaluation: Evaluation) -> Section:
    """The confusion matrix; many classes are ordered by what is confused with what."""
    from fewclip.evaluation.confusion import MAX_CLASSES, SMALL, cluster, matrix_view  # scipy takes its time

    names = [str(name) for name in evaluation.classes.tolist()]
    found, c = cluster(evaluation.confusion), len(names)
    hint = "A row is the truth, a column what was predicted; what is right lies on the diagonal."
    if c > SMALL:
        hint += " Classes that are confused with one another stand together."
    if len(found.order) == MAX_CLASSES < c:
        hint += f" Of {c} classes the {MAX_CLASSES} with most mistakes are shown."
    elif len(found.order) < c:
        hint += f" {count(c - len(found.order), 'class', 'classes')} without images are left out."
    wrong = int((evaluation.predictions != evaluation.labels).sum())
    groups = [
        {"names": [names[i] for i in group], "mistakes": f"{n} of {wrong} mistakes"}
        for group, n in zip(found.groups, found.mistakes, strict=True)
    ]
    first = "; ".join(f"{a} taken for {b} {n} times" for a, b, n in evaluation.most_confused(3))
    words = f"Confusion matrix of {len(found.order)} classes. {first or 'No mistakes'}."
    view = {
        "matrix": matrix_view(evaluation.confusion, found.order, names),
        "words": words,
        "groups": groups[:_GROUPS] if len(names) > 2 else [],
    }
    return Section("confusion", "Confusion matrix", hint, "confusion", view)


def confused_section(pairs: Sequence[ConfusedPair]) -> Section:
    """The most frequent mistakes, with pictures."""
    hint = "The first class is the truth, the second what it was taken for."
    view = {"pairs": [pair_view(pair) for pair in pairs]}
    return Section("confused", "Most often confused", hint, "confused", view)


def examples_section(examples: Sequence[Example]) -> Section:
    """Predictions with their pictures and the labelled images that counted.

    Raises:
        ImageError: The picture of an example cannot be decoded.
    """
    hint = (
        "Each picture with its most probable classes, and below it the labelled images that counted most, "
        "or the most similar ones."
    )
    view = {"examples": [example_view(example) for example in examples]}
    return Section("examples", "Examples", hint, "examples", view)


def mistakes_section(examples: Sequence[Example]) -> Section:
    """The surest mistakes.

    Raises:
        ImageError: The picture of an example cannot be decoded.
    """
    hint = (
        "Wrong, and sure of it. Below each picture the labelled images that counted most, or the most "
        "similar ones: a wrong label or a misleading photo among them is the first thing to look for."
    )
    view = {"examples": [example_view(example) for example in examples]}
    return Section("mistakes", "Worst mistakes", hint, "examples", view)


def reliability_section(evaluation: Evaluation) -> Section:
    """Whether the scores can be believed: diagram, calibration error, Brier score.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    bins, before, n = evaluation.reliability, evaluation.reliability_before, len(evaluation.labels)
    was = "" if evaluation.ece_before is None else f", {percent(evaluation.ece_before)} before calibration"
    gap = float(evaluation.scores.mean()) - evaluation.accuracy
    low, high = evaluation.interval
    verdict = (
        "On the whole the scores are as they should be."
        if low <= evaluation.accuracy + gap <= high
        else f"On the whole it is {'surer' if gap > 0 else 'less sure'} of itself than it should be: the "
        f"mean score is {percent(evaluation.accuracy + gap)}, and {percent(evaluation.accuracy)} are right."
    )
    hint = (
        "Of all predictions with a score of 80 %, 80 % should be right: then the bars end on the dashed "
        f"line. {verdict}"
    )
    view = {
        **_two_plots(lambda **size: reliability_plot(bins, before, **size), (9.4, 4.2), (4.6, 4.4)),
        "figures": [
            (
                "calibration error",
                percent(evaluation.ece),
                f"mean gap of score and accuracy, {len(bins)} bins{was}",
            ),
            ("Brier score", f"{evaluation.brier:.3f}", "0 is perfect, 2 the worst"),
            ("negative log-likelihood", f"{evaluation.nll:.2f}", "nats an image, 0 is perfect"),
        ],
        "few": n < 200,
    }
    return Section("reliability", "Can its scores be believed?", hint, "reliability", view)


def learning_section(curve: LearningCurve) -> Section:
    """How many more shots might help.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    last = curve.points[-1]
    hint = (
        f"The method fitted anew on fewer of its own labelled images and asked about those left out, "
        f"{curve.n_images} in turn. They look alike, so the level may be too high; the slope counts."
    )
    if curve.forecast:
        (shots, value), _ = curve.forecast
        hint += (
            f" If the error goes on falling like this, {shots} images a class instead of {last.shots} might "
            f"bring about {100 * max(0.0, value - last.accuracy):.0f} points; the dotted part is a guess."
        )
    elif len(curve.points) > 1:
        hint += " It does not grow with more images, or there is nothing left to gain."
    view = _two_plots(lambda **size: learning_plot(curve, **size), (9.4, 3.4), (4.6, 3.2))
    return Section("shots", "Would more images help?", hint, "training", view)


def support_section(check: Any) -> Section:
    """What deserves a second look among the labelled images, and which classes need more of them.

    Args:
        check: A ``SupportCheck``.
    """
    hint = (
        f"{count(len(check.suspects), 'label')} of {check.n_judged} may be wrong: fits without the image are "
        f"sure of another class. {count(len(check.twins), 'pair')} of labelled images look nearly the same: "
        "they count twice and teach once."
        if check.n_judged
        else "With one image a class nothing can be left out: only pictures that occur twice are found."
    )
    suspects = [
        {
            **_support_picture(entry.image),
            "label": str(entry.suggested),
            "weight": f"labelled {entry.image.label}",
        }
        for entry in check.suspects[:_SUSPECTS]
    ]
    twins = [
        {
            "what": "one file" if pair.identical else "nearly the same",
            "labels": f"{pair.first.label} and {pair.second.label}"
            if pair.at_odds
            else str(pair.first.label),
            "at_odds": pair.at_odds,
            "names": f"{pair.first.name}, {pair.second.name}",
            "pictures": [_support_picture(image) for image in (pair.first, pair.second) if image.thumbnail],
        }
        for pair in check.twins[:_TWINS]
    ]
    outliers = [
        {**_support_picture(image), "label": str(image.label)} for image in check.outliers[:_SUSPECTS]
    ]
    more = max(0, len(check.suspects) - _SUSPECTS), max(0, len(check.twins) - _TWINS)
    view = {
        "suspects": suspects,
        "twins": twins,
        "outliers": outliers,
        "misnamed": [_poor_class(entry) for entry in check.misnamed[:_POOR]],
        "needy": [_poor_class(entry) for entry in check.needy[:_POOR]],
        "more": more,
    }
    return Section("support", "The labelled images", hint, "support", view)


def _poor_class(entry: Any) -> dict[str, str]:
    return {
        "label": str(entry.label),
        "right": f"{entry.n_right} of {entry.n_images}",
        "taken_for": "" if entry.taken_for is None else str(entry.taken_for),
    }


def _support_picture(image: Any) -> dict[str, Any]:
    if not image.thumbnail:
        return {"uri": "", "name": image.name, "alt": image.name, "label": "", "same": False, "weight": ""}
    return picture_view(Picture(image.thumbnail, image.name), f"labelled {image.label}")


def doubt_section(evaluation: Evaluation, sets: np.ndarray | None = None, promise: str = "") -> Section:
    """What answering only the surest images would bring, and how large the prediction sets are.

    Args:
        evaluation: The predictions.
        sets: Classes in the 90 % set of each image, (n, c), bool; None: there are none.
        promise: What the sets promise.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    n, order = len(evaluation.labels), np.argsort(-evaluation.scores, kind="stable")
    answered = np.arange(1, n + 1) / n
    risk = np.cumsum((evaluation.predictions != evaluation.labels)[order]) / np.arange(1, n + 1)
    good = np.flatnonzero(risk <= 0.05)
    safe = percent(float(answered[good[-1]])) if len(good) else "none"
    figures = [("answered with 5 % wrong", safe, "of these images, in hindsight")]
    hint = "Whoever leaves out the images with the lowest scores makes fewer mistakes: --answer-only."
    if sets is not None:
        inside = sets[np.arange(n), np.searchsorted(evaluation.classes, evaluation.labels)]
        sizes = sets.sum(1)
        figures += [
            ("classes in a 90 % set", f"{sizes.mean():.1f}", f"from {sizes.min()} to {sizes.max()}"),
            ("sets with the truth", percent(float(inside.mean())), "90 % were asked for"),
        ]
        hint += f" Prediction sets (--coverage) are {promise}."
    view = {
        **_two_plots(lambda **size: risk_coverage_plot(answered, risk, **size), (9.4, 3.2), (4.6, 3.2)),
        "figures": figures,
        "few": n < 200,
    }
    return Section("doubt", "Where is it safe to answer?", hint, "reliability", view)


def training_section(history: Sequence[Mapping[str, float]]) -> Section:
    """``history_`` of a trained method: loss and accuracy over the epochs.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    view = _two_plots(lambda **size: history_plot(history, **size), (10.8, 2.8), (5.4, 2.8))
    return Section("training", "Training", describe_history(history), "training", view)


def notes_section(notes: Sequence[str]) -> Section:
    """What a reader must know to judge the numbers."""
    return Section("notes", "Good to know", "", "notes", {"notes": list(notes)})


def next_section(commands: Sequence[str]) -> Section:
    """Commands to go on with; ``#`` starts a comment."""
    lines = [line for command in commands for line in command.splitlines()]
    return Section("next", "What next", "", "next", {"lines": lines})


def _two_plots(draw: Any, wide: tuple[float, float], narrow: tuple[float, float]) -> dict[str, Any]:
    """One plot in two sizes, inches: for a desk and for a phone."""
    from markupsafe import Markup

    return {
        name: Markup(draw(width=width, height=height))
        for name, (width, height) in (("wide", wide), ("narrow", narrow))
    }
