"""An explanation as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewclip.evaluation.page import image_uri, render, write_page
from fewclip.evaluation.pictures import Picture, picture_view, rounded
from fewclip.explanation._text import why
from fewclip.explanation.channels import Channels
from fewclip.explanation.heat_map import HeatMap
from fewclip.explanation.support import SupportImage

if TYPE_CHECKING:
    from fewclip.explanation.core import ClassEvidence, Explanation

_CLASSES = 6


def write_explanation(explanation: Explanation, path: str | Path) -> Path:
    """Writes the page whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    best = explanation.classes[0]
    page = render(
        "explanation.html.j2",
        title=f"Why {explanation.label}?",
        lead="" if len(explanation.classes) < 2 else why(explanation),
        name=explanation.name,
        label=str(explanation.label),
        probability=rounded(best.probability),
        picture=_uri(explanation.picture, 320, explanation.name),
        classes=_class_rows(explanation.classes[:_CLASSES]),
        hidden=max(0, len(explanation.classes) - _CLASSES),
        counted=any(near.contribution for near in explanation.neighbours),
        neighbours=[
            {
                **_support_view(near.support),
                "label": str(near.support.label),
                "same": near.support.label == explanation.label,
                "weight": _signed(near.contribution) if near.contribution else f"cos {near.cosine:.2f}",
            }
            for near in explanation.neighbours
        ],
        channels=None if explanation.channels is None else _channels_view(explanation.channels),
        heat_map=None if explanation.heat_map is None else _heat_view(explanation.heat_map),
    )
    return write_page(path, page)


def _class_rows(classes: Sequence[ClassEvidence]) -> list[dict[str, Any]]:
    largest = max((abs(v) for entry in classes for v in (entry.text, entry.image)), default=0) or 1.0
    return [
        {
            "label": str(entry.label),
            "probability": rounded(entry.probability),
            "logit": f"{entry.logit:.2f}",
            "text": _bar(entry.text, largest),
            "image": _bar(entry.image, largest),
        }
        for entry in classes
    ]


def _bar(value: float, largest: float) -> dict[str, str]:
    """A number, and a bar to the right or to the left of the middle."""
    half = 50 * min(abs(value) / largest, 1)
    return {
        "value": _signed(value),
        "left": f"{50 if value >= 0 else 50 - half:.1f}",
        "width": f"{half:.1f}",
        "below": "yes" if value < 0 else "",
    }


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _channels_view(channels: Channels) -> dict[str, Any]:
    largest = max((abs(entry.total) for entry in channels.strongest), default=0) or 1.0
    return {
        "winner": str(channels.winner),
        "runner_up": str(channels.runner_up),
        "n_kept": f"{channels.n_kept:,}",
        "n_others": f"{channels.n_channels - channels.n_kept:,}",
        "n_channels": f"{channels.n_channels:,}",
        "kept": _signed(channels.kept),
        "others": _signed(channels.others),
        "base": _signed(channels.base) if abs(channels.base) >= 0.005 else "",
        "total": f"{channels.kept + channels.others + channels.base:.2f}",
        "strongest": [
            {
                "channel": str(entry.channel),
                "bar": _bar(entry.total, largest),
                "amount": f"{abs(entry.total):.2f}",
                "text": _signed(entry.text, 3),
                "images": _signed(entry.images, 3),
                "side": str(channels.winner if entry.total >= 0 else channels.runner_up),
                "speaks_for": [str(label) for label in entry.speaks_for],
                "examples": _pictures(entry.examples),
            }
            for entry in channels.strongest
        ],
    }


def _heat_view(heat_map: HeatMap) -> dict[str, Any]:
    values = [value for row in heat_map.values for value in row]
    share = sum(value > 0 for value in values) / len(values)
    return {
        "uri": image_uri(heat_map.image(), 320, "heat map"),
        "winner": str(heat_map.winner),
        "runner_up": str(heat_map.runner_up),
        "share": rounded(share),
        "size": f"{len(heat_map.values)} × {len(heat_map.values[0])}",
    }


def _pictures(images: Iterable[SupportImage]) -> list[dict[str, Any]]:
    return [_support_view(image) for image in images if image.thumbnail]


def _support_view(image: SupportImage) -> dict[str, Any]:
    what = f"labelled {image.label}"
    if not image.thumbnail:
        return {"uri": "", "name": image.name, "alt": f"{image.name}, {what}"}
    return picture_view(Picture(image.thumbnail, image.name), what)


def _uri(picture: bytes, side: int, name: str) -> str:
    return image_uri(picture, side, name) if picture else ""
