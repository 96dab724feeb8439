"""Wrong labels and near duplicates among labelled images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import FakeEncoder, draw_folder, drawing

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.explanation.support_rules import (
    ClassRecord,
    class_records,
    misnamed,
    needy,
    outliers,
    suspicious,
)
from fewclip.methods import TipAdapter

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def fit(photos, encoder=None, *, alpha=5.0) -> FewShotClassifier:
    method = TipAdapter(alpha=alpha, beta=4.0)
    store = FeatureStore.in_memory()
    return FewShotClassifier(encoder or FakeEncoder(), method, store=store, progress=False).fit(photos)


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


def test_an_image_unlike_its_class_is_an_outlier():
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(4, 16))
    labels = np.repeat(np.arange(4), 6)
    features = centres[labels] + 0.2 * rng.normal(size=(24, 16))
    features[8] = rng.normal(size=16)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert outliers(features, labels) == [8]
    assert outliers(features[[0, 1, 6, 7]], labels[[0, 1, 6, 7]]) == []  # two a class: who is strange?
    assert outliers(np.ones((6, 4)) / 2, np.zeros(6, dtype=int)) == []


def test_records_of_classes_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    records = class_records(np.array([0, 1, 1, 1, 1, -1]), labels, 4)
    assert records == [(3, 1, 1), (2, 2, None), (0, 0, None), (0, 0, None)]


def test_names_that_mislead_are_those_that_images_make_good():
    by_text = [ClassRecord(4, right, 2) for right in (1, 3)] + [ClassRecord(2, 0, 1), ClassRecord(4, 0, 1)]
    by_images = [ClassRecord(4, 4, None)] * 2 + [ClassRecord(2, 2, None), ClassRecord(4, 1, 0)]
    # One image proves nothing; nor does a class that images do not know either.
    assert misnamed(by_text, by_images) == [2, 0]


def test_classes_that_need_images_are_those_below_the_mean():
    records = [ClassRecord(4, 4, None), ClassRecord(4, 1, 0), ClassRecord(1, 0, 0), ClassRecord(0, 0, None)]
    # 5 of 9 are right. (3 + 8/9)/6 of the second class are wrong, (1 + 8/9)/3 of the third.
    assert needy(records) == [1, 2]
    assert needy([ClassRecord(3, 3, None), ClassRecord(2, 2, None)]) == []
    assert needy([ClassRecord(0, 0, None)]) == []


def test_a_name_that_misleads_is_found(tmp_path):
    photos = draw_folder(tmp_path, ["blue", "green", "red", "yellow"], n=5)
    (photos / "blue").rename(photos / "red apple")
    (photos / "red").rename(photos / "blue sky")
    check = fit(photos, FakeEncoder(noise=0.0), alpha=100.0).check_support()
    assert {entry.label for entry in check.misnamed} == {"red apple", "blue sky"}
    assert "red apple: by text alone 0 of its 5 images are right, the others mostly blue sky" in str(check)
    assert json.loads(json.dumps(check.to_json()))["misnamed"][0]["n_images"] == 5


def test_with_one_image_a_class_twins_are_found_all_the_same(tmp_path):
    photos = draw_folder(tmp_path, ["blue", "green", "red"], n=1)
    (photos / "green" / "00.png").write_bytes((photos / "blue" / "00.png").read_bytes())
    with pytest.warns(UserWarning, match="two labels"):
        check = fit(photos).check_support()
    assert (check.n_judged, check.suspects, check.needy, len(check.twins)) == (0, (), (), 1)


def test_the_learning_curve_of_a_classifier(tmp_path):
    clf = fit(draw_folder(tmp_path, ["blue", "green", "red"], n=4))
    curve = clf.learning_curve()
    assert [point.shots for point in curve.points] == [1, 2, 3]
    assert clf.learning_curve() is curve  # counted once
