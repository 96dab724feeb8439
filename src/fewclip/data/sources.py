"""What a caller passes as images: a folder, a table, a glob, a list of paths or PIL images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.data._display import display_path
from fewclip.data.folders import find_images, read_labelled
from fewclip.data.ready_features import FeatureRow, ReadyFeatures, is_features, read_features
from fewclip.errors import DataError, ImageError, LabelError

Source = Image.Image | str | Path | FeatureRow


@dataclass(frozen=True)
class LabelledSources:
    """Images with labels.

    Attributes:
        sources: Paths, PIL images or ready features.
        labels: The label of each.
        names: What to call each in messages, safe to print.
        classes: All labels, sorted, including those without an image.
        skipped: (name, reason) of every file that was not taken.
        origin: The folder or table, safe to print.
        ready: The file of ready features, if the images are that.
    """

    sources: tuple[Source, ...]
    labels: tuple[Any, ...]
    names: tuple[str, ...]
    classes: tuple[Any, ...]
    skipped: tuple[tuple[str, str], ...]
    origin: str
    ready: ReadyFeatures | None = None

    def take(self, rows: Iterable[int]) -> LabelledSources:
        """These images only; the classes stay."""
        rows = [int(i) for i in rows]
        return replace(
            self,
            sources=tuple(self.sources[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            names=tuple(self.names[i] for i in rows),
        )

    def shots(self) -> dict[Any, int]:
        """Images of each class."""
        counts = Counter(self.labels)
        return {label: counts[label] for label in self.classes}


Images = str | Path | Sequence[Source] | LabelledSources


@dataclass(frozen=True)
class NamedSource:
    """An image and what to call it."""

    source: Source
    name: str


def labelled_sources(
    images: Images, labels: Sequence[Any] | None, *, prefer: str = "train"
) -> LabelledSources:
    """A folder or table if ``labels`` is None, else a list of images with one label each.

    Args:
        images: Where, or the images themselves; what this function gave comes back as it is.
        labels: The label of each image of a list.
        prefer: Which split to read where there are several.

    Raises:
        DataError: The folder or table holds nothing usable.
        LabelError: Labels that do not go with the images.
    """
    if isinstance(images, LabelledSources):
        return images
    if labels is None:
        if not isinstance(images, str | Path):
            raise LabelError(
                "labels",
                expected="one label for each image of a list",
                got="none",
                fix="Pass fit(images, labels), or a folder with one subfolder a class.",
            )
        if is_features(images):
            return _ready(images, prefer)
        found = read_labelled(images, prefer=prefer)
        return LabelledSources(
            found.paths, found.labels, found.names, found.classes, found.skipped, found.source
        )
    named = named_sources(images)
    labels = [getattr(label, "item", lambda label=label: label)() for label in labels]  # NumPy scalars
    if len(labels) != len(named):
        raise LabelError(
            "labels",
            expected=f"one for each of the {len(named)} images",
            got=f"{len(labels)}",
            fix="Pass as many labels as images.",
        )
    missing = [image.name for image, label in zip(named, labels, strict=True) if _is_none(label)]
    if missing:
        raise LabelError(missing[0], expected="a label", got="none", fix="Label it, or leave the image out.")
    kinds = sorted(
        {"numbers" if isinstance(label, int | float) else type(label).__name__ for label in labels}
    )
    if len(kinds) > 1:
        raise LabelError(
            "labels",
            expected="labels of one type",
            got=" and ".join(kinds),
            fix="Turn all of them into text, or all into integers.",
        )
    return LabelledSources(
        tuple(image.source for image in named),
        tuple(labels),
        tuple(image.name for image in named),
        tuple(sorted(set(labels))),
        (),
        f"{len(named)} images",
    )


def _ready(path: str | Path, prefer: str) -> LabelledSources:
    ready = read_features(path, prefer=prefer)
    if ready.labels is None:
        raise DataError(
            ready.origin,
            expected="features with labels",
            got="features alone",
            fix="Add an array labels, one a row.",
        )
    sources, labels = ready.rows(grouped=True)
    names = tuple(source.name for source in sources)
    return LabelledSources(sources, labels, names, ready.classes(), (), ready.origin, ready)


def portable_names(names: Sequence[str]) -> list[str]:
    """Names as they may travel to another machine: absolute paths lose the folder that they share."""
    absolute = [name for name in names if os.path.isabs(name)]
    if not absolute:
        return list(names)
    try:
        shared = os.path.commonpath([os.path.dirname(name) for name in absolute])
    except ValueError:  # on several drives
        return [os.path.basename(name) if os.path.isabs(name) else name for name in names]
    return [display_path(os.path.relpath(name, shared)) if os.path.isabs(name) else name for name in names]


def _is_none(label: Any) -> bool:
    return label is None or label == "" or label != label  # NaN alone differs from itself


def named_sources(images: Images) -> list[NamedSource]:
    """The images of a folder or glob, or those of a list as they are.

    Raises:
        DataError: A folder or glob without images.
        ImageError: An entry of the list is neither a path nor a PIL image.
    """
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, LabelledSources):
        return [NamedSource(*pair) for pair in zip(images.sources, images.names, strict=True)]
    if is_features(images):
        rows = read_features(images, prefer="test").rows(grouped=False)[0]  # type: ignore[arg-type]
        return [NamedSource(row, row.name) for row in rows]
    if isinstance(images, str | Path):
        return [NamedSource(found.path, found.name) for found in find_images([images])]
    return [NamedSource(image, _name(image, i)) for i, image in enumerate(images)]


def _name(image: Source, i: int) -> str:
    if isinstance(image, str | os.PathLike):
        return display_path(image)
    if isinstance(image, Image.Image):
        return f"images[{i}]"
    if isinstance(image, FeatureRow):
        return image.name
    raise ImageError(
        f"images[{i}]",
        expected="a path or a PIL image",
        got=type(image).__name__,
        fix="Convert arrays with PIL.Image.fromarray.",
    )
