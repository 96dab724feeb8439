"""Why a classifier decided: text against image evidence, and the labelled images behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewclip.data import Source
from fewclip.explanation._text import as_text
from fewclip.explanation.channels import Channels, channels_of
from fewclip.explanation.heat_map import SIDE, HeatMap, heat_map_of
from fewclip.explanation.support import SupportImage, small_jpeg
from fewclip.methods import FewShotMethod


@dataclass(frozen=True)
class Neighbour:
    """A labelled image near the explained one.

    Attributes:
        support: The image.
        cosine: How similar it is, −1 … 1.
        contribution: What it adds to the logit of its class; 0 for a method without a cache.
    """

    support: SupportImage
    cosine: float
    contribution: float


@dataclass(frozen=True)
class ClassEvidence:
    """What speaks for a class: ``text + image = logit``."""

    label: Any
    probability: float
    logit: float
    text: float
    image: float


@dataclass(frozen=True)
class Explanation:
    """Why an image got its class.

    Attributes:
        name: The image, safe to print.
        label: The winning class.
        classes: Evidence for every class, by falling logit.
        neighbours: The nearest labelled images, by falling contribution, then cosine.
        channels: The refined channels that decided between the two most probable classes; None for a method
            that refines none.
        heat_map: Where the classifier saw them; None unless asked for, and for an encoder without spatial
            tokens.
        picture: JPEG of the image, at most 320 px; b"" where there is none.
    """

    name: str
    label: Any
    classes: tuple[ClassEvidence, ...]
    neighbours: tuple[Neighbour, ...]
    channels: Channels | None = None
    heat_map: HeatMap | None = None
    picture: bytes = field(default=b"", repr=False)

    @property
    def margin(self) -> tuple[float, float]:
        """What text and images add to the winner's logit above the runner-up's; 0 for a single class."""
        first, second = self.classes[0], self.classes[min(1, len(self.classes) - 1)]
        return first.text - second.text, first.image - second.image

    def to_html(self, path: str | Path) -> Path:
        """Writes a page that stands alone.

        Raises:
            DataError: It cannot be written.
        """
        from fewclip.explanation.page import write_explanation

        return write_explanation(self, path)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return {
            "name": self.name,
            "label": self.label,
            "classes": [vars(evidence) for evidence in self.classes],
            "neighbours": [
                {
                    "name": near.support.name,
                    "label": near.support.label,
                    "cosine": near.cosine,
                    "contribution": near.contribution,
                }
                for near in self.neighbours
            ],
            "margin": dict(zip(("text", "image"), self.margin, strict=True)),
            "channels": None if self.channels is None else self.channels.to_json(),
            "heat_map": None if self.heat_map is None else self.heat_map.to_json(),
        }

    def __str__(self) -> str:
        return as_text(self)


def explain(
    method: FewShotMethod,
    feature: np.ndarray,
    *,
    support: Sequence[SupportImage],
    name: str,
    source: Source,
    neighbours: int = 5,
    encoder: Any = None,
) -> Explanation:
    """Explains one image.

    Args:
        method: A fitted method.
        feature: The image's feature, (1, d), or with spatial tokens, (1, 1 + L, d).
        support: The labelled images in the order of the method's keys.
        name: What to call the image.
        source: The image.
        neighbours: How many labelled images to name.
        encoder: Draws the heat map; None: there is none.
    """
    text, image, contributions = (rows[0] for rows in method.evidence(feature))
    logits, probabilities = text + image, method.predict_proba(feature)[0]
    plain = feature.reshape(-1, feature.shape[-1])[0]
    unit = torch.nn.functional.normalize(torch.as_tensor(plain), dim=0)
    cosines = (method.support_features_.cpu() @ unit).numpy()
    nearest = np.lexsort((-cosines, -contributions))[:neighbours]
    labels, order = method.classes_.tolist(), np.argsort(-logits, kind="stable")
    classes = tuple(
        ClassEvidence(labels[j], float(probabilities[j]), float(logits[j]), float(text[j]), float(image[j]))
        for j in order
    )
    two = (int(order[0]), int(order[1])) if len(order) > 1 else None
    return Explanation(
        name,
        labels[order[0]],
        classes,
        tuple(Neighbour(support[i], float(cosines[i]), float(contributions[i])) for i in nearest),
        None if two is None else channels_of(method, plain, *two, support),
        None if two is None or encoder is None else heat_map_of(method, encoder, source, *two),
        small_jpeg(source, SIDE),
    )
