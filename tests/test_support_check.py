"""Wrong labels and near duplicates among labelled images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import FakeEncoder, draw_folder, drawing

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.explanation.support_check import suspicious
from fewclip.methods import TipAdapter

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def fit(photos) -> FewShotClassifier:
    method = TipAdapter(alpha=5.0, beta=4.0)
    store = FeatureStore.in_memory()
    return FewShotClassifier(FakeEncoder(), method, store=store, progress=False).fit(photos)


def test_a_wrong_label_is_found_and_a_right_one_is_not(tmp_path):
    photos = draw_folder(tmp_path, ["blue", "green", "red", "yellow"], n=5)
    drawing("blue", 90).save(photos / "red" / "wrong.png")
    check = fit(photos).check_support()
    assert [(s.image.name, s.suggested) for s in check.suspects] == [("red/wrong.png", "blue")]
    assert check.suspects[0].score > check.suspects[0].own_score
    assert "red/wrong.png: labelled red, looks like blue" in str(check)
    assert check.twins == ()
    assert json.loads(json.dumps(check.to_json()))["suspects"][0]["suggested"] == "blue"


def test_the_same_picture_twice_is_found(tmp_path):
    photos = draw_folder(tmp_path, ["blue", "green", "red"], n=4)
    (photos / "red" / "copy.png").write_bytes((photos / "red" / "01.png").read_bytes())
    drawing("green", 2).resize((48, 36)).save(photos / "green" / "again.jpg", quality=80)
    found = {(t.first.name, t.second.name): t for t in fit(photos).check_support().twins}
    assert set(found) == {("red/01.png", "red/copy.png"), ("green/02.png", "green/again.jpg")}
    assert found["red/01.png", "red/copy.png"].identical
    assert not found["green/02.png", "green/again.jpg"].identical


def test_one_picture_with_two_labels_comes_first(tmp_path):
    photos = draw_folder(tmp_path, ["blue", "green", "red"], n=4)
    (photos / "blue" / "copy.png").write_bytes((photos / "blue" / "01.png").read_bytes())
    drawing("red", 3).resize((40, 30)).save(photos / "green" / "red.png")
    check = fit(photos).check_support()
    assert (check.twins[0].at_odds, check.twins[1].at_odds) == (True, False)
    assert "with two labels" in str(check)


def test_the_rule_by_hand():
    # The images labelled 0 and 1 have their own class at 0.6 on the average.
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.7, 0.3], [0.45, 0.55], [np.nan, np.nan]])
    labels = np.array([0, 0, 1, 1, 0, 1])
    # Class 0 is sure of itself by (0.6 + 0.6 + 0.45) / 3 = 0.55, class 1 by (0.6 + 0.3) / 2 = 0.45.
    assert suspicious(p, labels) == [3, 4]
    assert suspicious(np.full((2, 3), np.nan), np.array([0, 1])) == []


def test_the_learning_curve_of_a_classifier(tmp_path):
    clf = fit(draw_folder(tmp_path, ["blue", "green", "red"], n=4))
    curve = clf.learning_curve()
    assert [point.shots for point in curve.points] == [1, 2, 3]
    assert clf.learning_curve() is curve  # counted once
