"""Plots of a benchmark as SVG: accuracy against shots, time and trained numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fewclip.evaluation import plot
from fewclip.evaluation._text import count
from fewclip.evaluation.bench.summary import Row
from fewclip.evaluation.comparison import ZERO_SHOT

_HEIGHT = 4.3
WIDE, NARROW = 10.8, 5.4  # inches: for windows and for phones
# The page's light theme, for files that stand alone.
_COLOURS = {
    "--soft": "#5b6166", "--line": "#dfe0dc", "--series-0": "#0b6b66", "--series-1": "#b4550d",
    "--series-2": "#3d5aa8", "--series-3": "#8a3d86", "--series-4": "#5d6b13", "--series-5": "#b02a55",
    "--series-6": "#2b7ab3", "--series-7": "#6f5643",
}  # fmt: skip


def curves(rows: Sequence[Row], name: str, *, width: float = WIDE) -> str:
    """Accuracy against shots: a line a method with its 95 % interval over seeds, dashed for zero-shot.

    Args:
        rows: Of one group.
        name: Makes the ids of the element its own.
        width: Inches at 72 points; the page scales it.

    Returns:
        An ``<svg>`` element; "" where nothing was adapted.
    """
    lines: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row.shots and row.accuracy is not None:
            point = {"shots": row.shots, "mean": row.accuracy, "spread": row.half or 0.0, "n": row.n}
            lines.setdefault(row.method, []).append(point)
    if not lines:
        return ""
    lines = dict(sorted(lines.items(), key=lambda line: -line[1][-1]["mean"]))
    shots = tuple(sorted({int(point["shots"]) for line in lines.values() for point in line}))
    with plot._figure(width, _HEIGHT) as figure:
        axes = figure.add_axes((0.6 / width, 0.55 / _HEIGHT, 1 - 1.85 / width, 1 - 0.75 / _HEIGHT))
        ends = [plot._draw_curve(axes, *line, k, len(lines)) for k, line in enumerate(lines.items())]
        for row in rows:
            if row.method == ZERO_SHOT and row.accuracy is not None:
                axes.axhline(100 * row.accuracy, color=plot._FLAT, linestyle=(0, (5, 4)), linewidth=1.5)
                ends.append((100 * row.accuracy, ZERO_SHOT, plot._FLAT))
        plot._dress(axes, shots)
        plot._label_ends(axes, ends, points=72 * (_HEIGHT - 0.75))
        svg = plot._svg(figure)
    return plot._as_inline(svg, words(rows, "accuracy against shots"), prefix=f"{name}-{10 * width:.0f}-")


def scatter(rows: Sequence[Row], name: str, *, against: str, width: float = WIDE) -> str:
    """Accuracy against ``seconds`` (logarithmic) or ``n_parameters`` (0, then logarithmic); a point a method.

    Args:
        rows: Of one group and one number of shots.
        name: Makes the ids of the element its own.
        against: ``seconds`` or ``n_parameters``.
        width: Inches at 72 points; the page scales it.
    """
    known = [row for row in rows if row.accuracy is not None and getattr(row, against) is not None]
    if len(known) < 2:
        return ""
    known.sort(key=lambda row: -(row.accuracy or 0))
    label = {"seconds": "seconds of a fit and its predictions", "n_parameters": "trained numbers"}[against]
    places: list[tuple[float, float, str, str]] = []
    with plot._figure(width, _HEIGHT) as figure:
        axes = figure.add_axes((0.65 / width, 0.55 / _HEIGHT, 1 - 0.8 / width, 1 - 0.75 / _HEIGHT))
        for k, row in enumerate(known):
            color = plot._FLAT if row.method == ZERO_SHOT else plot._SERIES[k % len(plot._SERIES)]
            x, y = float(getattr(row, against)), 100 * (row.accuracy or 0)
            error = None if row.half is None else 100 * row.half
            marker = plot._MARKERS[k % len(plot._MARKERS)]
            axes.errorbar([x], [y], yerr=error, color=color, marker=marker, markersize=8, capsize=3)
            places.append((x, y, row.method, color))
        axes.margins(x=0.2, y=0.15)
        _scale(axes, against)
        _name_points(axes, places)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        plot._plain(axes, label)
        svg = plot._svg(figure)
    return plot._as_inline(svg, words(known, f"accuracy against {label}"), prefix=f"{name}-{10 * width:.0f}-")


def _scale(axes: Any, against: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if against == "seconds":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_xscale("symlog", linthresh=100)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())


def _name_points(axes: Any, places: Sequence[tuple[float, float, str, str]]) -> None:
    """Names beside the points, on the side that has room."""
    for x, y, name, color in places:
        right = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0] > 0.7
        axes.annotate(
            name, (x, y), xytext=(-8 if right else 8, 6), textcoords="offset points", color=color,
            ha="right" if right else "left", parse_math=False,
        )  # fmt: skip


def words(rows: Sequence[Row], what: str) -> str:
    """A plot in words, for those who cannot see it."""
    points = [f"{row.method}{_at(row)} {100 * row.accuracy:.1f}" for row in rows if row.accuracy is not None]
    return f"{what.capitalize()}, in percent: {', '.join(points)}."


def _at(row: Row) -> str:
    return f" at {count(row.shots, 'shot')}" if row.shots else ""


def standalone(svg: str) -> str:
    """The element as a file of its own, on white."""
    for variable, colour in _COLOURS.items():
        svg = svg.replace(f"var({variable})", colour)
    svg = re.sub(r"<svg([^>]*)>", r'<svg\1><rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)
    if "xmlns=" not in svg.split(">", 1)[0]:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg
