"""Images, class folders, shots, prompts, views, and the store of features.

The names are imported when they are used: listing shots needs no image decoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewclip.data.feature_store import FeatureStore
    from fewclip.data.folders import FoundImage, find_images
    from fewclip.data.images import MAX_PIXELS, display_path, image_key, load_image, resize_center_crop
    from fewclip.data.labelled import LabelledSources, Source
    from fewclip.data.prompt_files import read_prompts
    from fewclip.data.prompts import (
        Names,
        Prompts,
        build_prompts,
        clean_class_name,
        renamed_classes,
        warn_of_names,
    )
    from fewclip.data.readers import find_splits, read_labelled
    from fewclip.data.ready_features import FeatureRow, ReadyFeatures, is_features, read_features
    from fewclip.data.shots import draw_shots, holdout_split
    from fewclip.data.sources import (
        Images,
        NamedSource,
        is_listed,
        labelled_sources,
        named_sources,
    )
    from fewclip.data.stored import StoredImage
    from fewclip.data.templates import DEFAULT_TEMPLATES, TEMPLATE_SETS, template_set
    from fewclip.data.views import random_view, view_seed

_HOME = {
    "DEFAULT_TEMPLATES": "templates",
    "TEMPLATE_SETS": "templates",
    "Names": "prompts",
    "Prompts": "prompts",
    "renamed_classes": "prompts",
    "template_set": "templates",
    "warn_of_names": "prompts",
    "MAX_PIXELS": "images",
    "FeatureStore": "feature_store",
    "FoundImage": "folders",
    "build_prompts": "prompts",
    "clean_class_name": "prompts",
    "display_path": "images",
    "draw_shots": "shots",
    "find_images": "folders",
    "find_splits": "readers",
    "holdout_split": "shots",
    "labelled_sources": "sources",
    "is_listed": "sources",
    "named_sources": "sources",
    "StoredImage": "stored",
    "Images": "sources",
    "LabelledSources": "labelled",
    "NamedSource": "sources",
    "Source": "labelled",
    "FeatureRow": "ready_features",
    "ReadyFeatures": "ready_features",
    "is_features": "ready_features",
    "read_features": "ready_features",
    "read_prompts": "prompt_files",
    "image_key": "images",
    "load_image": "images",
    "random_view": "views",
    "read_labelled": "readers",
    "resize_center_crop": "images",
    "view_seed": "views",
}

__all__ = [
    "DEFAULT_TEMPLATES",
    "MAX_PIXELS",
    "TEMPLATE_SETS",
    "FeatureRow",
    "FeatureStore",
    "FoundImage",
    "Images",
    "LabelledSources",
    "NamedSource",
    "Names",
    "Prompts",
    "ReadyFeatures",
    "Source",
    "StoredImage",
    "build_prompts",
    "clean_class_name",
    "display_path",
    "draw_shots",
    "find_images",
    "find_splits",
    "holdout_split",
    "image_key",
    "is_features",
    "is_listed",
    "labelled_sources",
    "load_image",
    "named_sources",
    "random_view",
    "read_features",
    "read_labelled",
    "read_prompts",
    "renamed_classes",
    "resize_center_crop",
    "template_set",
    "view_seed",
    "warn_of_names",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
