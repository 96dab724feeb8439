"""The tables of a report: text from summed-up cells."""

from __future__ import annotations

from collections.abc import Sequence

from fewclip.evaluation._text import count
from fewclip.evaluation.bench.document import Table
from fewclip.evaluation.bench.published import published_for
from fewclip.evaluation.bench.summary import Row
from fewclip.evaluation.comparison import ZERO_SHOT, seconds_text

NOTHING = "–"
LABELS = "In brackets: labelled images of the fit, and after + the labels that settings were chosen on."


def percent(mean: float | None, half: float | None = None) -> str:
    """``91.2 ± 0.4`` from shares of 0–1."""
    if mean is None:
        return NOTHING
    return f"{100 * mean:.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def over_shots(rows: Sequence[Row], metric: str, caption: str) -> Table:
    """Methods as rows, shots as columns; the best of each column stressed."""
    shots = sorted({row.shots for row in rows if row.shots}) or [0]
    methods = list(dict.fromkeys(row.method for row in rows))
    place = {(row.method, row.shots): row for row in rows}
    body, values = [], []
    for method in methods:
        found = [place.get((method, 0 if method == ZERO_SHOT else k)) for k in shots]
        body.append([method, *(_cell(row, metric) for row in found)])
        values.append([None if row is None else row.metrics.get(metric) for row in found])
    best = {
        (r, c + 1)
        for c in range(len(shots))
        for r in range(len(methods))
        if values[r][c] is not None and values[r][c] == max(v[c] for v in values if v[c] is not None)
    }
    head = ["method", *(count(k, "shot") if k else "any shots" for k in shots)]
    return Table(f"{caption} {LABELS}", head, body, frozenset(best))


def _cell(row: Row | None, metric: str) -> str:
    if row is None:
        return NOTHING
    if not row.n:
        return "failed"
    half = {"acc1": row.half, "mean_per_class_recall": row.recall_half}.get(metric)
    partly = f", {row.failed} failed" if row.failed else ""
    return f"{percent(row.metrics.get(metric), half)} ({row.labels}{partly})"


def all_metrics(rows: Sequence[Row]) -> Table:
    """Every metric at the most shots, with time, trained numbers and memory."""
    last = at_most_shots(rows)
    head = [
        "method", "labels", "accuracy", "top 5", "per class", "NLL", "Brier", "ECE", "seconds", "trained",
        "memory",
    ]  # fmt: skip
    body = [
        [
            row.method, row.labels, percent(row.accuracy, row.half), percent(row.metrics.get("acc5")),
            percent(row.metrics.get("mean_per_class_recall"), row.recall_half),
            *(_number(row.metrics.get(name)) for name in ("nll", "brier", "ece")),
            seconds_text(row.seconds), NOTHING if row.n_parameters is None else f"{row.n_parameters:,}",
            NOTHING if row.megabytes is None else f"{row.megabytes:,.0f} MB",
        ]
        for row in last
    ]  # fmt: skip
    shots = max((row.shots for row in last), default=0)
    caption = (
        f"All metrics at {count(shots, 'shot')}: accuracy, top 5 and mean per-class accuracy in %; Brier "
        "0–2; ECE 0–1, 15 bins. Seconds of a fit and its predictions on features; trained numbers; peak "
        "memory of the process."
    )
    return Table(caption, head, body)


def at_most_shots(rows: Sequence[Row]) -> list[Row]:
    """The rows at the largest number of shots, and zero-shot."""
    most = max((row.shots for row in rows), default=0)
    return [row for row in rows if row.shots == most or row.method == ZERO_SHOT]


def beside_published(dataset: str, rows: Sequence[Row]) -> Table | None:
    """Published accuracies of the same methods and shots next to ours; None if there are none."""
    shots = sorted({row.shots for row in rows if row.shots})
    found = published_for(dataset, [row.method for row in rows], shots)
    if not found:
        return None
    place = {(row.method, row.shots): row for row in rows}
    backbones = sorted({one.backbone for one in found})
    body = []
    for method in dict.fromkeys(row.method for row in rows):
        for backbone in backbones:
            figures = {o.shots: o.accuracy for o in found if (o.method, o.backbone) == (method, backbone)}
            if not figures:
                continue
            cells = []
            for k in shots:
                ours = place.get((method, k), place.get((method, 0)))
                theirs = figures.get(k, figures.get(0))
                cells.append(f"{percent(None if ours is None else ours.accuracy)} / {percent(theirs)}")
            body.append([method, backbone, *cells])
    sources = "; ".join(sorted({one.source for one in found}))
    caption = (
        f"Accuracy in %: ours / published. Published, other features ({', '.join(backbones)}, test split, "
        f"{sources}): the gap between two methods may be compared, single figures may not."
    )
    return Table(caption, ["method", "published on", *(count(k, "shot") for k in shots)], body)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
