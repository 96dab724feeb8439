"""An explanation in words: what ``print`` and the terminal show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewclip.data._display import escape

if TYPE_CHECKING:
    from fewclip.explanation.core import Explanation

_CLASSES = 5


def as_text(explanation: Explanation) -> str:
    """The verdict, the evidence for the most probable classes, what tipped the balance, who spoke for it."""
    best = explanation.classes[0]
    lines = [f"{explanation.name}: {escape(str(explanation.label))} ({best.probability:.1%})", ""]
    lines += [*_table(explanation), ""]
    if len(explanation.classes) > 1:
        lines += [f"  {why(explanation)}", ""]
    counted = bool(explanation.neighbours) and explanation.neighbours[0].contribution != 0
    if explanation.neighbours:
        lines.append("  labelled images that counted most:" if counted else "  nearest labelled images:")
    lines += [
        f"  {near.support.name}  ({escape(str(near.support.label))})  cosine {near.cosine:.3f}"
        + (f", adds {near.contribution:.3f}" if counted else "")
        for near in explanation.neighbours
    ]
    return "\n".join([*lines, *_channels(explanation)])


def why(explanation: Explanation) -> str:
    """One sentence: what text and images say between the two most probable classes."""
    winner, runner_up = (escape(str(entry.label)) for entry in explanation.classes[:2])
    text, image = explanation.margin

    def says(who: str, value: float, verb: str) -> str:
        side, other = (winner, runner_up) if value >= 0 else (runner_up, winner)
        return f"{who} {verb} {side} over {other} by {abs(value):.2f}"

    if image == 0:
        return f"{says('The text', text, 'prefers')}; labelled images have no say."
    if (text >= 0) == (image >= 0):
        return f"{says('Text', text, 'and images prefer')} and {abs(image):.2f}."
    return f"{says('The text', text, 'prefers')}, {says('the images', image, 'prefer')}."


def _table(explanation: Explanation) -> list[str]:
    shown = explanation.classes[:_CLASSES]
    names = [escape(str(entry.label)) for entry in shown]
    width = max(5, *map(len, names))
    return [
        f"  {'class':<{width}}  {'logit':>8} = {'text':>8} + {'images':>8}",
        *(
            f"  {name:<{width}}  {entry.logit:8.3f} = {entry.text:8.3f} + {entry.image:8.3f}"
            for name, entry in zip(names, shown, strict=True)
        ),
    ]


def _channels(explanation: Explanation) -> list[str]:
    found = explanation.channels
    if found is None or not found.strongest:
        return []
    head = (
        f"  channels that decided, of {found.n_kept} kept "
        f"({found.kept:+.2f} in all; the other {found.n_channels - found.n_kept}: {found.others:+.2f}):"
    )
    return [
        "",
        head,
        *(
            f"  {entry.channel:>5}  {entry.total:+.3f}  speaks for "
            f"{', '.join(escape(str(label)) for label in entry.speaks_for)}"
            for entry in found.strongest[:4]
        ),
    ]
