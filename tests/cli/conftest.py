"""What the tests of the command line share: an encoder that needs no model, and pictures for it."""

from __future__ import annotations

import pytest
from helpers import draw_folder

from fewclip.encoders import ENCODERS


@pytest.fixture
def fake_encoder(monkeypatch):
    monkeypatch.setitem(ENCODERS, "fake", "helpers:FakeEncoder")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos")
