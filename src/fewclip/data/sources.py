"""What a caller passes as images: a folder, a table, a glob, a list of paths or PIL images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.data._display import display_path
from fewclip.data.folders import find_images
from fewclip.data.labelled import LabelledSources, Source
from fewclip.data.readers import find_reader, frames, hf_dataset, read_labelled, webdataset
from fewclip.data.readers._listing import Listing
from fewclip.data.ready_features import FeatureRow, is_features, read_features
from fewclip.data.stored import StoredImage
from fewclip.errors import DataError, ImageError, LabelError

__all__ = [
    "Images",
    "LabelledSources",
    "NamedSource",
    "Source",
    "check_rows",
    "check_two_classes",
    "labelled_sources",
    "named_sources",
    "portable_names",
]

Images = Any  # a path, a sequence of sources, a data frame, a data set, or LabelledSources


@dataclass(frozen=True)
class NamedSource:
    """An image and what to call it."""

    source: Source
    name: str


def labelled_sources(
    images: Images, labels: Sequence[Any] | None = None, *, prefer: str = "train", split: str | None = None
) -> LabelledSources:
    """Whatever ``read_labelled`` knows if ``labels`` is None, else a list of images with one label each.

    Args:
        images: Where, or the images themselves; what this function gave comes back as it is.
        labels: The label of each image of a list.
        prefer: Which split to read where there are several.
        split: Which split to read; an error where there is none of that name.

    Raises:
        DataError: The folder or table holds nothing usable.
        LabelError: Labels that do not go with the images.
    """
    if isinstance(images, LabelledSources):
        return images
    if labels is None:
        if find_reader(images) is None and not isinstance(images, str | Path):
            raise LabelError(
                "labels",
                expected="one label for each image of a list",
                got="none",
                fix="Pass fit(images, labels), a folder with one subfolder a class, or a table.",
            )
        return read_labelled(images, split=split, prefer=prefer)
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
    if is_listed(images):
        return _listed(images)
    if isinstance(images, str | Path):
        return [NamedSource(found.path, found.name) for found in find_images([images])]
    return [NamedSource(image, _name(image, i)) for i, image in enumerate(images)]


def is_listed(images: object) -> bool:
    """Whether images to classify are the rows of a table or data set, or lie in an archive."""
    if isinstance(images, str | Path):
        return webdataset.is_archive(Path(images))
    return hf_dataset.is_dataset(images) or frames.is_frame(images)


def _listed(images: Any) -> list[NamedSource]:
    """All rows, whatever their split, with or without a label."""
    if isinstance(images, str | Path):
        listing = webdataset.read_archives(Path(images))
    elif hf_dataset.is_dataset(images):
        listing = hf_dataset.dataset_listing(hf_dataset.one_of(images, "test"), label=False)
    else:
        listing = frames.frame_listing(images, label=False)
    found = [_listed_source(listing, i) for i in range(len(listing.records))]
    if not found:
        raise DataError(listing.origin, expected="images", got="none", fix="Check the rows.")
    return found


def _listed_source(listing: Listing, i: int) -> NamedSource:
    record = listing.records[i]
    source = listing.root / record.path if record.source is None else record.source
    return NamedSource(source, display_path(record.path) or record.where)


def _name(image: Source, i: int) -> str:
    if isinstance(image, str | os.PathLike):
        return display_path(image)
    if isinstance(image, Image.Image):
        return f"images[{i}]"
    if isinstance(image, FeatureRow | StoredImage):
        return image.name
    raise ImageError(
        f"images[{i}]",
        expected="a path or a PIL image",
        got=type(image).__name__,
        fix="Convert arrays with PIL.Image.fromarray.",
    )


def check_two_classes(data: LabelledSources) -> None:
    """Raise DataError unless there is something to tell apart."""
    if len(data.classes) < 2:
        raise DataError(
            data.origin,
            expected="images of at least two classes",
            got=f"one class, {data.classes[0]!r}" if data.classes else "none",
            fix="Add a folder with images of something else, for example 'other'.",
        )


def check_rows(data: LabelledSources, skip_unreadable: bool) -> None:
    """A row of a table that is no image is an error like an unreadable image, or a warning if allowed."""
    rows = data.broken
    if not rows:
        return
    name, reason = rows[0]
    if not skip_unreadable:
        raise DataError(
            f"{data.origin}, {name}",
            expected="an existing image and its label",
            got=f"{reason} ({len(rows)} such rows)",
            fix="Correct the table, or leave such rows out: skip_unreadable=True (--skip-unreadable).",
        )
    warnings.warn(f"{len(rows)} rows are left out, the first: {name}: {reason}", stacklevel=3)
