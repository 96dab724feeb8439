"""The part of an image that an encoder sees, for heat maps."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import drawing

from fewclip.encoders.pocket import PocketEncoder
from fewclip.encoders.preprocessing import Preprocessing


def clip_like() -> Preprocessing:
    return Preprocessing.from_config(
        {
            "size": {"shortest_edge": 20},
            "crop_size": {"height": 16, "width": 16},
            "resample": 3,
            "rescale_factor": 1 / 255,
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.2, 0.25, 0.3],
        },
        square=False,
    )


def test_the_crop_is_what_the_tower_gets():
    image, preprocessing = drawing("red", 1, (40, 30)), clip_like()
    seen = np.asarray(preprocessing.seen(image), dtype=np.float32).transpose(2, 0, 1)
    assert seen.shape == (3, 16, 16)
    scaled = (seen / 255 - np.array([0.5, 0.4, 0.3])[:, None, None]) / np.array([0.2, 0.25, 0.3])[
        :, None, None
    ]
    assert preprocessing(image) == pytest.approx(scaled, abs=1e-5)


def test_the_crop_of_pocket_is_what_its_tower_gets():
    image, encoder = drawing("blue", 2, (80, 50)), PocketEncoder()
    crop = np.asarray(encoder.crop(image), dtype=np.float32)
    assert crop.shape == (260, 260, 3)
    middle = encoder.preprocess(image)
    assert middle == pytest.approx((crop.transpose(2, 0, 1) - 127) / 128, abs=1e-5)
