"""Images, class folders, shots, prompts, views, and the store of features.

The names are imported when they are used: listing shots needs no image decoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewclip.data.feature_store import FeatureStore
    from fewclip.data.folders import FoundImage, LabelledImages, find_images, read_labelled
    from fewclip.data.images import MAX_PIXELS, display_path, image_key, load_image, resize_center_crop
    from fewclip.data.prompts import DEFAULT_TEMPLATES, build_prompts, clean_class_name
    from fewclip.data.shots import draw_shots, holdout_split
    from fewclip.data.views import random_view, view_seed

_HOME = {
    "DEFAULT_TEMPLATES": "prompts",
    "MAX_PIXELS": "images",
    "FeatureStore": "feature_store",
    "FoundImage": "folders",
    "LabelledImages": "folders",
    "build_prompts": "prompts",
    "clean_class_name": "prompts",
    "display_path": "images",
    "draw_shots": "shots",
    "find_images": "folders",
    "holdout_split": "shots",
    "image_key": "images",
    "load_image": "images",
    "random_view": "views",
    "read_labelled": "folders",
    "resize_center_crop": "images",
    "view_seed": "views",
}

__all__ = [
    "DEFAULT_TEMPLATES",
    "MAX_PIXELS",
    "FeatureStore",
    "FoundImage",
    "LabelledImages",
    "build_prompts",
    "clean_class_name",
    "display_path",
    "draw_shots",
    "find_images",
    "holdout_split",
    "image_key",
    "load_image",
    "random_view",
    "read_labelled",
    "resize_center_crop",
    "view_seed",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
