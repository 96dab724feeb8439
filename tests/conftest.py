"""Shared data, the hypothesis profile, and the ``slow`` marker."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"  # ../shared/data beside the repository

settings.register_profile("fewclip", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("fewclip")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than 10 seconds")


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
