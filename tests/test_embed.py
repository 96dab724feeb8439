"""``fewclip embed``: photos to a file of features, and from there an adapter that predicts photos."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fewclip import FewShotClassifier
from fewclip.cli.app import app
from fewclip.data import FeatureStore
from fewclip.embed import embed
from fewclip.errors import DataError, ParameterError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(3):
            pixels = (base + rng.integers(-30, 30, (40, 50, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    (tmp_path / "photos" / "dark" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_photos_become_features_and_an_adapter_that_takes_photos(photos, tmp_path, suffix):
    store = FeatureStore(tmp_path / "store.sqlite")
    done = embed(photos, tmp_path / f"f{suffix}", store=store, progress=False)
    assert (done.n_images, done.n_encoded) == (6, 6)
    assert [name.endswith("broken.png") for name, _ in done.errors] == [True]
    assert embed(photos, tmp_path / f"f{suffix}", store=store, progress=False).n_encoded == 0
    by_file = FewShotClassifier(progress=False, store=store).fit(tmp_path / f"f{suffix}")
    by_photo = FewShotClassifier(progress=False, store=store).fit(photos, skip_unreadable=True)
    assert by_file.encoder_.name == "pocket"
    path = photos / "light" / "0.png"
    np.testing.assert_allclose(by_file.predict_proba([path]), by_photo.predict_proba([path]), atol=1e-5)


def test_images_without_labels_have_features_alone(photos, tmp_path):
    embed(photos / "light", tmp_path / "f.npz", store=FeatureStore.in_memory(), progress=False)
    with np.load(tmp_path / "f.npz") as stored:
        assert stored["features"].shape == (3, 1280)
        assert "labels" not in stored.files
        assert str(stored["fingerprint"]).startswith("pocket-")


def test_what_cannot_be_written_is_known_before(photos, tmp_path):
    with pytest.raises(ParameterError, match="npz"):
        embed(photos, tmp_path / "f.txt")
    with pytest.raises(DataError):
        embed(tmp_path / "absent", tmp_path / "f.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_commands(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWCLIP_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(app, ["embed", str(photos), "-o", str(tmp_path / "f.npz"), "--json", "-q"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["images"] == 6
