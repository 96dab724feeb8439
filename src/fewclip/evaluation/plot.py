"""Plots as inline SVG, coloured by the style sheet of the page they stand in."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fewclip.errors import MissingExtraError
from fewclip.evaluation.comparison import ZERO_SHOT, Comparison, accuracy_text
from fewclip.evaluation.left_out import LearningCurve
from fewclip.evaluation.reliability import Bin
from fewclip.selection import wilson_interval

# matplotlib wants colours, the page has variables that follow its light and dark theme: these stand-ins are
# replaced in the finished SVG.
_INK, _GRID, _FLAT = "#010203", "#010204", "#010205"
_SERIES = [f"#0102{16 + k:02x}" for k in range(8)]
_VARIABLES = {_INK: "--soft", _GRID: "--line", _FLAT: "--soft"} | {
    color: f"--series-{k}" for k, color in enumerate(_SERIES)
}
_MARKERS = "osD^vPX*"
_STROKES = ("-", ":", "-.")  # for more curves than colours; dashed is zero-shot


def accuracy_plot(comparison: Comparison, *, width: float = 10.8, height: float = 4.3) -> str:
    """Lines with error bars (± one standard deviation) for the methods, dashed for zero-shot.

    Args:
        comparison: At least one adapted method that succeeded; otherwise there is nothing to draw.
        width: Inches at 72 points; the page scales it.
        height: Inches.

    Returns:
        An ``<svg>`` element, or an empty string.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    curves = _curves(comparison)
    if not curves:
        return ""
    with _figure(width, height) as figure:
        axes = figure.add_axes((0.55 / width, 0.55 / height, 1 - 1.75 / width, 1 - 0.75 / height))
        ends = [_draw_curve(axes, *curve, k, len(curves)) for k, curve in enumerate(curves.items())]
        flat = comparison.row(ZERO_SHOT, 0)
        if flat is not None and flat["mean"] is not None:
            axes.axhline(100 * flat["mean"], color=_FLAT, linestyle=(0, (5, 4)), linewidth=1.5)
            ends.append((100 * flat["mean"], ZERO_SHOT, _FLAT))
        _dress(axes, comparison.shots)
        _label_ends(axes, ends, points=72 * (height - 0.75))
        svg = _svg(figure)
    return _as_inline(svg, describe(comparison), prefix=f"plot-{10 * width:.0f}-")


def history_plot(history: Sequence[Mapping[str, float]], *, width: float = 10.8, height: float = 2.8) -> str:
    """Loss and accuracy of a training over its epochs, side by side; the held-out loss dotted.

    Args:
        history: ``history_`` of a trained method; an empty one gives nothing to draw.
        width: Inches at 72 points; the page scales it.
        height: Inches.

    Returns:
        An ``<svg>`` element, or an empty string.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if not history:
        return ""
    epochs = [entry["epoch"] for entry in history]
    with _figure(width, height) as figure:
        figure.subplots_adjust(
            left=0.6 / width, right=1 - 0.15 / width, bottom=0.6 / height, top=1 - 0.35 / height, wspace=0.25
        )
        loss, accuracy = figure.subplots(1, 2)
        loss.plot(epochs, [entry["loss"] for entry in history], color=_SERIES[0], linewidth=2)
        if "held_out_loss" in history[0]:
            held_out = [entry["held_out_loss"] for entry in history]
            loss.plot(epochs, held_out, color=_SERIES[1], linewidth=2, linestyle=":")
        accuracy.plot(epochs, [100 * entry["accuracy"] for entry in history], color=_SERIES[0], linewidth=2)
        accuracy.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        for axes, title in ((loss, "loss"), (accuracy, "accuracy on the labelled images")):
            axes.set_title(title, color=_INK, loc="left", fontsize=10.5)
            axes.xaxis.get_major_locator().set_params(integer=True)
            _plain(axes, "epoch")
        svg = _svg(figure)
    return _as_inline(svg, describe_history(history), prefix=f"history-{10 * width:.0f}-")


def reliability_plot(
    bins: Sequence[Bin], before: Sequence[Bin] | None = None, *, width: float = 6.4, height: float = 4.6
) -> str:
    """Accuracy against score, a bar a bin with its 95 % interval, the diagonal, and sizes below.

    Args:
        bins: Of ``Evaluation.reliability``, one at least with images.
        before: The same before calibration, as rings.
        width: Inches at 72 points; the page scales it.
        height: Inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    full = [bin for bin in bins if bin.n]
    n = sum(bin.n for bin in full)
    middles, step = [(bin.low + bin.high) / 2 for bin in full], bins[0].high - bins[0].low
    with _figure(width, height) as figure:
        figure.subplots_adjust(
            left=0.7 / width, right=1 - 0.35 / width, bottom=0.6 / height, top=1 - 0.3 / height, hspace=0.35
        )
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.6, 1))
        top.bar(middles, [100 * bin.accuracy for bin in full], width=0.84 * step, color=_SERIES[0])
        top.plot([0, 1], [0, 100], color=_INK, linestyle=(0, (5, 4)), linewidth=1.5)
        ends = [wilson_interval(bin.accuracy, bin.n) for bin in full]
        rights, middles = [100 * bin.accuracy for bin in full], np.array(middles)
        spread = [  # never below 0, as rounding would have it where all are right
            [max(0.0, right - 100 * low) for right, (low, _) in zip(rights, ends, strict=True)],
            [max(0.0, 100 * high - right) for right, (_, high) in zip(rights, ends, strict=True)],
        ]
        top.errorbar(middles, rights, yerr=spread, fmt="none", ecolor=_INK, elinewidth=1.3, capsize=3)
        rings = [bin for bin in before or () if bin.n]
        if rings:
            top.plot(
                [bin.score for bin in rings], [100 * bin.accuracy for bin in rings],
                linestyle="none", marker="o", markersize=6, markerfacecolor="none",
                markeredgecolor=_SERIES[1], markeredgewidth=1.8,
            )  # fmt: skip
        top.set(xlim=(0, 1), ylim=(0, 104), yticks=range(0, 101, 20))
        title = "right (bars; rings: before calibration)" if rings else "right"
        top.set_title(title, color=_INK, loc="left", fontsize=10.5)
        below.bar(middles, [100 * bin.n / n for bin in full], width=0.84 * step, color=_FLAT)
        below.set_title("share of the images", color=_INK, loc="left", fontsize=10.5)
        below.yaxis.get_major_locator().set_params(nbins=2)
        for axes, label in ((top, ""), (below, "score (probability of the predicted class)")):
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
            _plain(axes, label)
        below.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        svg = _svg(figure)
    return _as_inline(svg, describe_reliability(bins), prefix=f"reliability-{10 * width:.0f}-")


def learning_plot(curve: LearningCurve, *, width: float = 9.4, height: float = 3.6) -> str:
    """Accuracy over shots with 95 % intervals; what may follow is dotted.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shots = [point.shots for point in curve.points]
    values = [100 * point.accuracy for point in curve.points]
    spread = [
        [max(0.0, 100 * (point.accuracy - point.low)) for point in curve.points],
        [max(0.0, 100 * (point.high - point.accuracy)) for point in curve.points],
    ]
    with _figure(width, height) as figure:
        axes = figure.add_axes((0.7 / width, 0.6 / height, 1 - 0.95 / width, 1 - 0.8 / height))
        x = [math.log2(k) for k in shots]
        axes.errorbar(
            x, values, yerr=spread, color=_SERIES[0], marker="o", markersize=6, linewidth=2, capsize=3
        )
        ahead = [math.log2(k) for k, _ in curve.forecast]
        guesses = [100 * value for _, value in curve.forecast]
        if ahead:
            axes.plot([x[-1], *ahead], [values[-1], *guesses], ":", color=_SERIES[1], linewidth=2)
            axes.plot(ahead, guesses, "o", color=_SERIES[1], markersize=5)
        ticks = [*shots, *(k for k, _ in curve.forecast)]
        axes.set_xticks([*x, *ahead], labels=[str(k) for k in ticks])
        axes.set_xlim(x[0] - 0.25, (ahead or x)[-1] + 0.25)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.yaxis.get_major_locator().set_params(nbins=6)
        _plain(axes, "shots (labelled images per class)")
        svg = _svg(figure)
    return _as_inline(svg, describe_curve(curve), prefix=f"curve-{10 * width:.0f}-")


def describe_curve(curve: LearningCurve) -> str:
    """The learning curve in words."""
    points = ", ".join(f"{100 * point.accuracy:.1f} at {point.shots}" for point in curve.points)
    guess = ", ".join(f"{100 * value:.0f} at {shots}" for shots, value in curve.forecast)
    return f"Accuracy in percent on left-out images against shots: {points}." + (
        f" A guess for more: {guess}." if guess else ""
    )


def risk_coverage_plot(
    answered: np.ndarray, risk: np.ndarray, *, width: float = 6.4, height: float = 3.0
) -> str:
    """Share of wrong answers against the share of images answered, the surest first.

    Args:
        answered, risk: Of ``functional.selective.risk_coverage``, (n,) each, one at least.
        width: Inches at 72 points; the page scales it.
        height: Inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with _figure(width, height) as figure:
        figure.subplots_adjust(
            left=0.7 / width, right=1 - 0.2 / width, bottom=0.6 / height, top=1 - 0.3 / height
        )
        axes = figure.subplots()
        axes.step(100 * answered, 100 * risk, where="post", color=_SERIES[0], linewidth=2)
        axes.set(xlim=(0, 100), ylim=(0, max(5.0, 105 * float(risk.max()))))
        axes.set_title("wrong, of those answered", color=_INK, loc="left", fontsize=10.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g} %")
        _plain(axes, "images answered, the surest first")
        svg = _svg(figure)
    return _as_inline(svg, describe_risk(answered, risk), prefix=f"risk-{10 * width:.0f}-")


def describe_risk(answered: np.ndarray, risk: np.ndarray) -> str:
    """The risk–coverage curve in words."""
    parts = []
    for share in (0.25, 0.5, 0.75, 1.0):
        place = max(0, round(share * len(risk)) - 1)
        parts.append(f"of the surest {answered[place]:.0%} {risk[place]:.1%} are wrong")
    return f"How many answers are wrong if only the surest images are answered: {'; '.join(parts)}."


def describe_reliability(bins: Sequence[Bin]) -> str:
    """The reliability diagram in words."""
    parts = [
        f"{bin.n} of score {bin.low:.0%} to {bin.high:.0%}: {bin.accuracy:.0%} right" for bin in bins if bin.n
    ]
    return f"How often predictions of a score are right. {'; '.join(parts)}."


def describe_history(history: Sequence[Mapping[str, float]]) -> str:
    """The training in words."""
    first, last = history[0], history[-1]
    text = (
        f"{len(history)} epochs: loss {first['loss']:.3g} to {last['loss']:.3g}, accuracy on the labelled "
        f"images while they were learnt {first['accuracy']:.1%} to {last['accuracy']:.1%}"
    )
    if "held_out_loss" in last:
        text += f"; loss on images held out {first['held_out_loss']:.3g} to {last['held_out_loss']:.3g}"
    return text + "."


def describe(comparison: Comparison) -> str:
    """The plot in words, for those who cannot see it."""
    parts = []
    for method in comparison.methods:
        if method == ZERO_SHOT:
            parts.append(f"{method} {accuracy_text(comparison.row(method, 0))} at any number of shots")
            continue
        points = [f"{accuracy_text(comparison.row(method, k))} at {k}" for k in comparison.shots]
        parts.append(f"{method} {', '.join(points)}")
    return f"Accuracy in percent against shots per class: {'; '.join(parts)}."


def missing_extra(package: str) -> MissingExtraError:
    """The error for a package of the plots extra."""
    return MissingExtraError(
        package, expected="it for the report", got="no such package", fix='Run: pip install "fewclip[plots]"'
    )


@contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib") from error
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "fewclip", "font.size": 10.5}
    with matplotlib.rc_context(style):
        yield Figure(figsize=(width, height))


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()


def _curves(comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in comparison.rows():
        if row["shots"] and row["mean"] is not None:
            curves.setdefault(row["method"], []).append(row)
    # The best method comes first, for its colour is the accent of the page.
    return dict(sorted(curves.items(), key=lambda curve: -curve[1][-1]["mean"]))


def _draw_curve(
    axes: Any, name: str, rows: list[dict[str, Any]], k: int, n_curves: int
) -> tuple[float, str, str]:
    """Draws one method; returns (last accuracy, name, colour)."""
    color = _SERIES[k % len(_SERIES)]
    shift = min(0.05, 0.3 / n_curves) * (
        k - (n_curves - 1) / 2
    )  # so that error bars of equal shots do not hide each other
    axes.errorbar(
        [math.log2(row["shots"]) + shift for row in rows],
        [100 * row["mean"] for row in rows],
        yerr=[100 * row["spread"] for row in rows] if any(row["n"] > 1 for row in rows) else None,
        color=color,
        marker=_MARKERS[k % len(_MARKERS)],
        linestyle=_STROKES[k // len(_SERIES) % len(_STROKES)],
        markersize=6,
        linewidth=2,
        elinewidth=1.2,
        capsize=3,
    )
    return 100 * rows[-1]["mean"], name, color


def _dress(axes: Any, shots: tuple[int, ...]) -> None:
    axes.set_xticks([math.log2(k) for k in shots], labels=[str(k) for k in shots])
    axes.set_xlim(math.log2(shots[0]) - 0.25, math.log2(shots[-1]) + 0.25)
    axes.margins(y=0.08)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.yaxis.get_major_locator().set_params(nbins=6)
    low, high = axes.get_ylim()  # there is room above 100 % for a marker, but no such accuracy
    axes.set_yticks([tick for tick in axes.get_yticks() if max(low, 0) <= tick <= min(high, 100)])
    axes.set_ylim(low, high)
    _plain(axes, "shots (labelled images per class)")


def _plain(axes: Any, xlabel: str) -> None:
    """Few lines, in the colours of the page."""
    axes.set_xlabel(xlabel, color=_INK, labelpad=8)
    axes.tick_params(length=0, pad=6, colors=_INK)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)


def _label_ends(axes: Any, ends: list[tuple[float, str, str]], *, points: float) -> None:
    """Names the curves at their right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ends = sorted(ends)
    gap = min(14.0, points / len(ends))
    heights = [points * (value - low) / (high - low) for value, _, _ in ends]
    for k in range(1, len(heights)):
        heights[k] = max(heights[k], heights[k - 1] + gap)
    heights[-1] = min(heights[-1], points)
    for k in range(len(heights) - 2, -1, -1):
        heights[k] = min(heights[k], heights[k + 1] - gap)
    for height, (_, name, color) in zip(heights, ends, strict=True):
        axes.annotate(
            name,
            (1, height / points),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
            parse_math=False,
        )


def _as_inline(svg: str, description: str, *, prefix: str) -> str:
    """The bare element: no prolog or fixed size, colours as variables, ids of its own, a description."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
