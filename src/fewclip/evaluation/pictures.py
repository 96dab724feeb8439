"""Pictures on a page: predictions to look at, with the labelled images that speak for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from fewclip.data import display_path
from fewclip.evaluation.page import image_uri

_QUERY_SIDE, _NEIGHBOUR_SIDE = 160, 96  # pixels of the thumbnails' longer side


@dataclass(frozen=True)
class Neighbour:
    """A labelled image that speaks for a prediction.

    Attributes:
        image: A PIL image, or the bytes of an image file.
        label: Its class.
        name: Its path or another name.
        contribution: What it adds to the logit of its class.
        share: Its share of all that labelled images add, 0–1; None: the report shows the contribution.
        cosine: How similar it is; shown where the method cannot tell what single images add.
    """

    image: Image.Image | bytes
    label: str
    name: str
    contribution: float
    share: float | None = None
    cosine: float | None = None

    @property
    def weight(self) -> str:
        """What the report shows below it."""
        if self.share is not None:
            return rounded(self.share)
        if self.cosine is not None and not self.contribution:
            return f"cos {self.cosine:.2f}"
        return f"{self.contribution:+.2f}"


@dataclass(frozen=True)
class Example:
    """One prediction to show.

    Attributes:
        image: A PIL image, or the bytes of an image file.
        name: Its path or another name.
        label: The truth; None if unknown.
        predicted: The predicted class.
        top: (class, probability), most probable first; three are shown.
        neighbours: The labelled images that counted most, or else the most similar; four are shown.
    """

    image: Image.Image | bytes
    name: str
    label: str | None
    predicted: str
    top: Sequence[tuple[str, float]] = ()
    neighbours: Sequence[Neighbour] = ()


@dataclass(frozen=True)
class Picture:
    """An image with its name."""

    image: Image.Image | bytes
    name: str


@dataclass(frozen=True)
class ConfusedPair:
    """A frequent mistake.

    Attributes:
        truth, predicted: The two classes.
        n: How many images of ``truth`` were taken for ``predicted``.
        of: How many images ``truth`` has.
        mistakes: Some of them.
        truth_support, predicted_support: Some labelled images of either class.
    """

    truth: str
    predicted: str
    n: int
    of: int
    mistakes: Sequence[Picture] = ()
    truth_support: Sequence[Picture] = ()
    predicted_support: Sequence[Picture] = ()


def example_view(example: Example) -> dict[str, Any]:
    """What ``parts.example`` reads."""
    verdict = None if example.label is None else "right" if example.label == example.predicted else "wrong"
    return {
        "uri": image_uri(example.image, _QUERY_SIDE, example.name),
        "name": display_path(example.name),
        "label": example.label,
        "predicted": example.predicted,
        "verdict": verdict,
        "top": [score_view(name, score) for name, score in list(example.top)[:3]],
        "chosen_by": _chosen_by(example.neighbours),
        "neighbours": [
            {
                **picture_view(near, f"labelled {near.label}"),
                "label": near.label,
                "same": near.label == example.predicted,
                "weight": near.weight,
            }
            for near in list(example.neighbours)[:4]
        ],
    }


def _chosen_by(neighbours: Sequence[Neighbour]) -> str:
    if neighbours and all(near.share is not None for near in neighbours):
        return "Labelled images that counted most, by share"
    if any(near.contribution for near in neighbours):
        return "Labelled images that counted most, by what they add to the logit"
    return "Most similar labelled images"


def pair_view(pair: ConfusedPair) -> dict[str, Any]:
    """What the section of confused pairs reads."""
    what = f"{pair.truth} taken for {pair.predicted}"
    known = ((pair.truth, pair.truth_support), (pair.predicted, pair.predicted_support))
    return {
        "truth": pair.truth,
        "predicted": pair.predicted,
        "count": f"{pair.n} of {pair.of}",
        "pictures": [picture_view(picture, what) for picture in pair.mistakes],
        "known": [
            {"label": label, "pictures": [picture_view(picture, f"labelled {label}") for picture in pictures]}
            for label, pictures in known
        ],
    }


def picture_view(picture: Picture | Neighbour, what: str, *, side: int = _NEIGHBOUR_SIDE) -> dict[str, Any]:
    """What ``parts.strip`` reads of one picture; ``what`` follows the name for those who cannot see it."""
    name = display_path(picture.name)
    return {
        "uri": image_uri(picture.image, side, picture.name),
        "name": name,
        "alt": f"{name}, {what}",
        "label": "",
        "same": False,
        "weight": "",
    }


def score_view(name: str, score: float) -> dict[str, str]:
    """A class with its probability as text and as the width of a bar."""
    return {"class": name, "percent": rounded(score), "width": f"{min(max(100 * score, 0), 100):.1f}"}


def rounded(share: float) -> str:
    """A share in whole percent that never claims certainty."""
    return "< 1 %" if share < 0.01 else "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"
