"""An evaluation in words: what ``print`` and notebooks show."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from fewclip.data._display import escape

if TYPE_CHECKING:
    from fewclip.evaluation.metrics import Evaluation

_SHOWN_CLASSES = 14  # with headings and remarks the whole stays within 20 lines
_NAME_WIDTH = 28
_HEAD = ["class (worst first)", "images", "right", "recall", "precision", "most confused with"]


def as_text(evaluation: Evaluation) -> str:
    """At most 20 lines: the summary and the classes with the lowest recall."""
    rows = [_HEAD, *_body(evaluation)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    hidden = len(evaluation.classes) - (len(rows) - 1)
    more = [f"… and {count(hidden, 'more class', 'more classes')} in .table"] if hidden else []
    return "\n".join([*summary(evaluation), "", *lines, *more])


def as_html(evaluation: Evaluation) -> str:
    """The same for a notebook."""
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in summary(evaluation))
    titles = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in _HEAD)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in _body(evaluation)
    )
    return f"{paragraphs}<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def summary(evaluation: Evaluation) -> list[str]:
    """Two plain sentences: accuracy with its interval, and the other figures."""
    low, high = evaluation.interval
    n_classes = len(evaluation.classes)
    size = f"{count(len(evaluation.labels), 'image')} of {count(n_classes, 'class', 'classes')}"
    top5 = f", top-5 accuracy {percent(evaluation.top5)}" if n_classes > 5 else ""
    return [
        f"Accuracy {percent(evaluation.accuracy)} "
        f"(95 % interval {100 * low:.1f} to {percent(high)}) on {size}.",
        f"Balanced accuracy {percent(evaluation.balanced_accuracy)}{top5}, "
        f"negative log-likelihood {evaluation.nll:.2f}.",
    ]


def percent(share: float | None) -> str:
    """A share of 0–1 in percent, a dash if there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 image, 2 images."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _body(evaluation: Evaluation) -> list[list[str]]:
    return [
        [
            _short(row["class"]),
            f"{row['images']:,}",
            f"{row['right']:,}",
            percent(row["recall"]),
            percent(row["precision"]),
            "" if row["most_confused_with"] is None else _short(row["most_confused_with"]),
        ]
        for row in evaluation.worst_first()[:_SHOWN_CLASSES]
    ]


def _short(name: Any) -> str:
    text = escape(str(name))
    return text if len(text) <= _NAME_WIDTH else f"{text[: _NAME_WIDTH - 1]}…"


def _line(row: list[str], widths: list[int]) -> str:
    first, *numbers, last = row
    middle = "  ".join(text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True))
    return f"{first.ljust(widths[0])}  {middle}  {last}".rstrip()
