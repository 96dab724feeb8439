"""Why a classifier decided: text against image evidence, and the labelled images behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from fewclip.data import FeatureStore, Source, load_image
from fewclip.data.ready_features import FeatureRow
from fewclip.data.thumbnails import make_thumbnails
from fewclip.methods import FewShotMethod


@dataclass(frozen=True)
class SupportImage:
    """A labelled image that a classifier was fitted on, as it travels with the adapter."""

    name: str
    label: Any
    sha256: str
    thumbnail: bytes  # JPEG; b"" where there were ready features instead of an image

    def image(self) -> Image.Image:
        """The thumbnail, at most 64 px."""
        return load_image(self.thumbnail, name=self.name)


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
    """

    name: str
    label: Any
    classes: tuple[ClassEvidence, ...]
    neighbours: tuple[Neighbour, ...]

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
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.label} ({self.classes[0].probability:.1%})", ""]
        width = max(len(str(e.label)) for e in self.classes[:5])
        lines += [f"  {'class':<{width}}  {'logit':>8} = {'text':>8} + {'images':>8}"]
        lines += [
            f"  {e.label!s:<{width}}  {e.logit:8.3f} = {e.text:8.3f} + {e.image:8.3f}"
            for e in self.classes[:5]
        ]
        lines += [
            "",
            "  labelled images that counted most:"
            if self.neighbours and self.neighbours[0].contribution
            else "  nearest labelled images:",
        ]
        lines += [
            f"  {near.support.name}  ({near.support.label})  cosine {near.cosine:.3f}, "
            f"adds {near.contribution:.3f}"
            for near in self.neighbours
        ]
        return "\n".join(lines)


def make_support(
    sources: Sequence[Source],
    names: Sequence[str],
    labels: Sequence[Any],
    keys: Sequence[str],
    *,
    store: FeatureStore | None = None,
) -> tuple[SupportImage, ...]:
    """The labelled images as thumbnails with name, label and sha256; ready features have no picture."""
    pictures = {i: source for i, source in enumerate(sources) if not isinstance(source, FeatureRow)}
    made = make_thumbnails(list(pictures.values()), [keys[i] for i in pictures], store=store)
    thumbnails = dict(zip(pictures, made, strict=True))
    return tuple(
        SupportImage(name, label, key, thumbnails.get(i, b""))
        for i, (name, label, key) in enumerate(zip(names, labels, keys, strict=True))
    )


def explain(
    method: FewShotMethod,
    feature: np.ndarray,
    *,
    support: Sequence[SupportImage],
    name: str,
    neighbours: int = 5,
) -> Explanation:
    """Explains one image.

    Args:
        method: A fitted method.
        feature: The image's feature, (1, d), or with spatial tokens, (1, 1 + L, d).
        support: The labelled images in the order of the method's keys.
        name: What to call the image.
        neighbours: How many labelled images to name.
    """
    text, image, contributions = (rows[0] for rows in method.evidence(feature))
    logits, probabilities = text + image, method.predict_proba(feature)[0]
    plain = feature.reshape(-1, feature.shape[-1])[0]
    unit = torch.nn.functional.normalize(torch.as_tensor(plain), dim=0)
    cosines = (method.support_features_.cpu() @ unit).numpy()
    nearest = np.lexsort((-cosines, -contributions))[:neighbours]
    labels = method.classes_.tolist()
    return Explanation(
        name,
        labels[int(logits.argmax())],
        tuple(
            ClassEvidence(
                labels[j], float(probabilities[j]), float(logits[j]), float(text[j]), float(image[j])
            )
            for j in np.argsort(-logits, kind="stable")
        ),
        tuple(Neighbour(support[i], float(cosines[i]), float(contributions[i])) for i in nearest),
    )
