"""The report: one HTML file without scripts, fonts or addresses, to be read anywhere and passed on."""

from __future__ import annotations

import base64
import io
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fewclip.data import display_path, load_image
from fewclip.data._display import escape
from fewclip.errors import DataError
from fewclip.evaluation._text import percent
from fewclip.evaluation.comparison import ZERO_SHOT, Comparison, accuracy_text, seconds_text
from fewclip.evaluation.metrics import Evaluation
from fewclip.evaluation.plot import accuracy_plot, describe_history, history_plot, missing_extra

if TYPE_CHECKING:
    from jinja2 import Environment

_QUERY_SIDE, _NEIGHBOUR_SIDE = 160, 96  # pixels of the thumbnails' longer side
_OPEN_CLASSES = 10  # of the per-class table; the others are folded away
_OPEN_PAIRS = 8


@dataclass(frozen=True)
class Neighbour:
    """A labelled image that speaks for a prediction.

    Attributes:
        image: A PIL image, or the bytes of an image file.
        label: Its class.
        name: Its path or another name.
        contribution: What it adds to the logit of its class.
        share: Its share of all that labelled images add, 0–1; None: the report shows the contribution.
    """

    image: Image.Image | bytes
    label: str
    name: str
    contribution: float
    share: float | None = None


@dataclass(frozen=True)
class Example:
    """One prediction to show.

    Attributes:
        image: A PIL image, or the bytes of an image file.
        name: Its path or another name.
        label: The truth; None if unknown.
        predicted: The predicted class.
        top: (class, probability), most probable first; three are shown.
        neighbours: The labelled images that counted most; four are shown.
    """

    image: Image.Image | bytes
    name: str
    label: str | None
    predicted: str
    top: Sequence[tuple[str, float]] = ()
    neighbours: Sequence[Neighbour] = ()


def write_report(
    folder: str | Path,
    *,
    title: str,
    lead: str,
    facts: Mapping[str, str],
    comparison: Comparison | None = None,
    evaluation: Evaluation | None = None,
    history: Sequence[Mapping[str, float]] = (),
    examples: Sequence[Example] = (),
    notes: Sequence[str] = (),
    next_commands: Sequence[str] = (),
) -> Path:
    """Writes ``report.html`` into ``folder``, whole or not at all.

    Args:
        folder: Made if absent; a report in it is replaced.
        title: The heading.
        lead: One paragraph in plain words.
        facts: What was measured on what: encoder, images, classes, …
        comparison: Methods over shots: a plot and a table.
        evaluation: One classifier: its accuracy, classes and confusions.
        history: ``history_`` of a trained method: a plot of loss and accuracy.
        examples: Predictions with their pictures.
        notes: What a reader must know to judge the numbers.
        next_commands: Commands to go on with; ``#`` starts a comment.

    Returns:
        The path of the file.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
        DataError: ``folder`` cannot be written.
        ImageError: The picture of an example cannot be decoded.
    """
    environment = _environment()
    page = _render(
        environment,
        title=title,
        lead=" ".join(lead.split()),
        facts=dict(facts),
        comparison=None if comparison is None else _comparison_view(comparison),
        evaluation=None if evaluation is None else _evaluation_view(evaluation),
        history=_history_view(history) if history else None,
        examples=[_example_view(example) for example in examples],
        notes=list(notes),
        next_lines=[line for command in next_commands for line in command.splitlines()],
    )
    return _write(Path(folder), page)


def _environment() -> Environment:
    try:
        import jinja2
    except ImportError as error:
        raise missing_extra("jinja2") from error
    return jinja2.Environment(
        autoescape=True,  # class names and paths are whatever a data set holds
        finalize=lambda value: escape(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _render(environment: Environment, **view: Any) -> str:
    source = resources.files("fewclip.evaluation").joinpath("templates/report.html.j2")
    return environment.from_string(source.read_text(encoding="utf-8")).render(view)


def _comparison_view(comparison: Comparison) -> dict[str, Any]:
    from markupsafe import Markup

    shots = comparison.shots or (0,)
    return {
        "wide": Markup(accuracy_plot(comparison, width=10.8, height=4.3)),
        "narrow": Markup(accuracy_plot(comparison, width=4.6, height=3.9)),
        "shots": [(str(k) if k else "accuracy") for k in shots],
        "caption": comparison.caption(),
        "has_spread": any(row["n"] > 1 for row in comparison.rows()),
        "rows": [
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
        ],
        "errors": [
            f"{cell.method}, {cell.shots} shots, seed {cell.seed}: {cell.error}" for cell in comparison.errors
        ],
    }


def _evaluation_view(evaluation: Evaluation) -> dict[str, Any]:
    low, high = evaluation.interval
    figures = [
        ("accuracy", percent(evaluation.accuracy), f"95 % interval {100 * low:.1f} to {percent(high)}"),
        ("balanced accuracy", percent(evaluation.balanced_accuracy), "mean over the classes"),
    ]
    if len(evaluation.classes) > 5:
        figures.append(("top-5 accuracy", percent(evaluation.top5), "truth among the five best"))
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
    return {
        "figures": figures,
        "n_images": f"{len(evaluation.labels):,}",
        "open": rows[:n_open],
        "folded": rows[n_open:],
        "pairs": [(str(a), str(b), str(n)) for a, b, n in evaluation.most_confused(_OPEN_PAIRS)],
    }


def _history_view(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    from markupsafe import Markup

    return {
        "wide": Markup(history_plot(history)),
        "narrow": Markup(history_plot(history, width=5.4, height=2.8)),
        "caption": describe_history(history),
    }


def _example_view(example: Example) -> dict[str, Any]:
    verdict = None if example.label is None else "right" if example.label == example.predicted else "wrong"
    return {
        "uri": _thumbnail(example.image, _QUERY_SIDE, example.name),
        "name": display_path(example.name),
        "label": example.label,
        "predicted": example.predicted,
        "verdict": verdict,
        "top": [
            {
                "class": name,
                "percent": _rounded(score),
                "width": f"{min(max(100 * score, 0), 100):.1f}",
            }
            for name, score in list(example.top)[:3]
        ],
        "weighed_by": "by what they add to the logit"
        if any(neighbour.share is None for neighbour in example.neighbours)
        else "by share",
        "neighbours": [
            {
                "uri": _thumbnail(neighbour.image, _NEIGHBOUR_SIDE, neighbour.name),
                "label": neighbour.label,
                "name": display_path(neighbour.name),
                "same": neighbour.label == example.predicted,
                "weight": f"{neighbour.contribution:+.2f}"
                if neighbour.share is None
                else _rounded(neighbour.share),
            }
            for neighbour in list(example.neighbours)[:4]
        ],
    }


def _rounded(share: float) -> str:
    """A share in whole percent that never claims certainty."""
    return "< 1 %" if share < 0.01 else "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def _thumbnail(image: Image.Image | bytes, side: int, name: str) -> str:
    """A JPEG of at most side × side pixels as a data URI."""
    small = load_image(image, name=display_path(name))
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _write(folder: Path, page: str) -> Path:
    target = folder / "report.html"
    aside = folder / f".report.html.{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "xb") as stream:
                stream.write(page.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            display_path(folder),
            expected="a folder to write report.html into",
            got=error.strerror or type(error).__name__,
            fix="Choose another folder, or free the space.",
        ) from error
    return target
