"""Random views: the same for the same seed, and always a part of the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fewclip.data.views import random_view, view_seed


def coordinates(width: int, height: int) -> Image.Image:
    """An image whose red is its column and whose green is its row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**64 - 1))
def test_a_view_is_a_crop_of_the_image_perhaps_mirrored(width, height, seed):
    image = coordinates(width, height)
    view = random_view(image, seed=seed)
    pixels = np.asarray(view)
    if pixels[0, 0, 0] > pixels[0, -1, 0]:
        view = ImageOps.mirror(view)
        pixels = np.asarray(view)
    left, top = int(pixels[0, 0, 0]), int(pixels[0, 0, 1])
    expected = image.crop((left, top, left + view.width, top + view.height))
    assert view.tobytes() == expected.tobytes()
    assert random_view(image, seed=seed).size == view.size


def test_area_and_aspect_stay_in_their_ranges():
    views = [random_view(coordinates(200, 160), seed=seed) for seed in range(300)]
    areas = np.array([view.width * view.height for view in views]) / (200 * 160)
    aspects = np.array([view.width / view.height for view in views])
    assert areas.min() > 0.49
    assert areas.max() <= 1
    assert areas.std() > 0.05
    assert aspects.min() > 0.74
    assert aspects.max() < 1.35


def test_half_of_the_views_are_mirrored():
    image = coordinates(100, 100)
    mirrored = [
        (view := np.asarray(random_view(image, seed=seed)))[0, 0, 0] > view[0, -1, 0] for seed in range(400)
    ]
    assert 150 < sum(mirrored) < 250


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_narrow_strips_have_a_view(size):
    view = random_view(Image.new("RGB", size), seed=3)
    assert 1 <= view.width <= 2
    assert 1 <= view.height <= 2


def test_the_image_is_left_unchanged():
    image = coordinates(50, 40)
    before = image.tobytes()
    random_view(image, seed=1)
    assert image.tobytes() == before


def test_seeds_of_views_are_stable_and_differ():
    seeds = {view_seed(key, view, state) for key in "ab" for view in (1, 2) for state in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert view_seed("a", 1, 0) == view_seed("a", 1, 0)
