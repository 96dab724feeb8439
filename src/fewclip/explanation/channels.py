"""The refined channels that decided between the two most probable classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewclip.explanation.support import SupportImage
from fewclip.methods import FewShotMethod
from fewclip.methods.channel_evidence import split_by_channel

_SHOWN = 6  # channels that speak loudest
_CLASSES, _IMAGES = 3, 4  # named for a channel


@dataclass(frozen=True)
class ChannelEvidence:
    """One channel.

    Attributes:
        channel: Its number in the feature.
        value: What the image has there (features have unit norm).
        text: What it adds to the winner's logit above the runner-up's, through the text.
        images: The same through the labelled images.
        speaks_for: The classes to whose logits it adds most, through text and images.
        examples: The labelled images that have most of it.
    """

    channel: int
    value: float
    text: float
    images: float
    speaks_for: tuple[Any, ...]
    examples: tuple[SupportImage, ...]

    @property
    def total(self) -> float:
        """What it adds to the winner's logit above the runner-up's."""
        return self.text + self.images


@dataclass(frozen=True)
class Channels:
    """The winner's logit above the runner-up's = kept + others + base.

    Attributes:
        winner, runner_up: The two most probable classes.
        n_kept, n_channels: Channels that refinement kept, of how many.
        kept: What those that were kept add.
        others: What the other channels add, through the text alone.
        base: What the labelled images add to any image, whatever it shows.
        strongest: The kept channels that add or take away most.
    """

    winner: Any
    runner_up: Any
    n_kept: int
    n_channels: int
    kept: float
    others: float
    base: float
    strongest: tuple[ChannelEvidence, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        entries = [
            {
                "channel": entry.channel,
                "value": entry.value,
                "text": entry.text,
                "images": entry.images,
                "speaks_for": list(entry.speaks_for),
                "examples": [image.name for image in entry.examples],
            }
            for entry in self.strongest
        ]
        return {**vars(self), "strongest": entries}


def channels_of(
    method: FewShotMethod, feature: np.ndarray, a: int, b: int, support: Sequence[SupportImage]
) -> Channels | None:
    """The channels that decided between two classes.

    Args:
        method: A fitted method.
        feature: (d,).
        a, b: Columns of the winner and of the runner-up.
        support: The labelled images in the order of the method's keys.

    Returns:
        None for a method that refines no channels.
    """
    split = split_by_channel(method, feature)
    if split is None or split.kept is None:
        return None
    text, images = split.text[a] - split.text[b], split.images[a] - split.images[b]
    totals, by_class = text + images, split.text + split.images
    labels, value = method.classes_.tolist(), feature / np.linalg.norm(feature)
    keys = method.support_features_.cpu().numpy()
    strongest = []
    for j in split.kept[np.argsort(-np.abs(totals[split.kept]), kind="stable")][:_SHOWN]:
        best = np.argsort(-by_class[:, j], kind="stable")[:_CLASSES]
        alike = np.argsort(-value[j] * keys[:, j], kind="stable")[:_IMAGES]
        strongest.append(
            ChannelEvidence(
                int(j), float(value[j]), float(text[j]), float(images[j]),
                tuple(labels[k] for k in best), tuple(support[i] for i in alike),
            )
        )  # fmt: skip
    kept = float(totals[split.kept].sum())
    return Channels(
        labels[a], labels[b], len(split.kept), len(totals), kept, float(totals.sum()) - kept,
        float(split.base[a] - split.base[b]), tuple(strongest),
    )  # fmt: skip
