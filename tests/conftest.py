"""Shared data, and the hypothesis profile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"  # ../shared/data beside the repository

settings.register_profile("fewclip", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("fewclip")


def _arrays(name: str) -> dict[str, np.ndarray]:
    path = DATA / name
    if not path.is_file():
        reason = f"{name} is absent: it belongs into ../shared/data beside the repository"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Inputs and outputs of the methods' published code."""
    return _arrays("golden_methods.npz")


@pytest.fixture(scope="session")
def caltech() -> dict[str, np.ndarray]:
    """Real CLIP features of Caltech-101, without the test split: tests are part of the design."""
    return {k: v for k, v in _arrays("clip_vitb32_caltech101.npz").items() if not k.startswith("test_")}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small problems crawl when several threads share busy cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own: the user's is never touched."""
    cache = tmp_path / "cache of the test"
    monkeypatch.setenv("HOME", str(tmp_path / "home of the test"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("FEWCLIP_CACHE", str(cache))
    return cache
