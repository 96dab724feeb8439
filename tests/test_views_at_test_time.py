"""Views of the images that are classified: their mean, in order, the same every time; off by default."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import BlindEncoder, FakeEncoder, draw_folder, fewclip

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.encoders import ENCODERS
from fewclip.encoders.features import encode_sources
from fewclip.errors import ParameterError

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def new(tmp_path):
    folder = draw_folder(tmp_path / "new", n=2, first=50)
    (folder / "green" / "broken.png").write_bytes(b"no picture")
    return folder


def fitted(photos, **options):
    store = FeatureStore.in_memory()
    return FewShotClassifier(FakeEncoder(), store=store, progress=False, **options).fit(photos)


def test_probabilities_are_the_mean_over_views(photos, new):
    plain, averaged = fitted(photos), fitted(photos, test_views=4)
    paths = sorted(new.rglob("5*.png"))
    views = encode_sources(paths, FakeEncoder(), views=4, random_state=0, progress=False)
    expected = plain.method_.predict_proba(views.features).reshape(6, 4, 3).mean(1)
    found = averaged.predict_proba(paths)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert np.abs(found - plain.predict_proba(paths)).max() > 1e-3
    np.testing.assert_array_equal(found, averaged.predict_proba(paths[::-1])[::-1])


def test_rows_stay_with_their_images_where_one_cannot_be_read(photos, new):
    averaged = fitted(photos, test_views=3)
    rows = list(averaged.classify(new))
    assert [row.error is not None for row in rows] == ["broken" in row.name for row in rows]
    good = [row for row in rows if row.error is None]
    expected = averaged.predict_proba(sorted(new.rglob("5*.png")))
    np.testing.assert_allclose([row.scores[0] for row in good], expected.max(1), atol=1e-6)
    measured = averaged.evaluate(new, skip_unreadable=True)
    truth = [path.parent.name for path in sorted(new.rglob("5*.png"))]
    assert measured.accuracy == pytest.approx(np.mean(averaged.classes_[expected.argmax(1)] == truth))


def test_views_come_from_the_store_the_second_time(photos, new):
    averaged = fitted(photos, test_views=3)
    paths = sorted(new.rglob("5*.png"))
    first = averaged.predict_proba(paths)
    averaged.encoder_ = BlindEncoder()
    np.testing.assert_array_equal(averaged.predict_proba(paths), first)


def test_an_impossible_number_is_refused(photos, new):
    with pytest.raises(ParameterError, match="views"):
        fitted(photos, test_views=0).predict(sorted(new.rglob("5*.png")))


def test_commands(photos, new, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "fake", "helpers:FakeEncoder")
    (new / "green" / "broken.png").unlink()
    adapter = tmp_path / "a.adapter"
    assert fewclip("fit", photos, "-o", adapter, "--encoder", "fake", "-q").code == 0
    expected = FewShotClassifier.from_pretrained(adapter, test_views=3, progress=False).predict_proba(new)
    ran = fewclip("predict", adapter, new, "--test-views", "3", "--json", "-q")
    scores = [json.loads(line)["score"] for line in ran.out.splitlines()]
    np.testing.assert_allclose(scores, expected.max(1), atol=1e-5)
    assert fewclip("evaluate", adapter, new, "--test-views", "3", "-q").code == 0
