"""Sets, "unknown" and "unsure" from images to files: FewShotClassifier, adapters and the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers import FakeEncoder, draw_folder, draw_list, fewclip

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.errors import ParameterError
from fewclip.predictions import Prediction, write_predictions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    store = FeatureStore(tmp_path_factory.mktemp("store") / "features.sqlite")
    clf = FewShotClassifier(FakeEncoder(), "tip-adapter", store=store, progress=False)
    return clf.fit(*draw_list(n=8))


def test_sets_and_labels_of_images(classifier):
    images, labels = draw_list(n=5, first=20)
    sets = classifier.predict_set(images, 0.8)
    assert sets.shape == (15, 3)
    inside = [s[list(classifier.classes_).index(y)] for s, y in zip(sets, labels, strict=True)]
    assert np.mean(inside) > 0.6
    plain = classifier.predict(images)
    assert plain.tolist() == classifier.classes_[classifier.predict_proba(images).argmax(1)].tolist()
    doubtful = classifier.predict(images, unknown="auto", keep=0.8, answer_only=0.7)
    given = np.isin(doubtful, classifier.classes_)
    assert doubtful[given].tolist() == plain[given].tolist()
    assert set(doubtful[~given]) <= {"unknown", "unsure"}
    rows = list(classifier.classify(images, top=2, coverage=0.8, unknown="auto", keep=0.8))
    for row, s, label in zip(rows, sets, plain, strict=True):
        columns = row.row(2, ("set", "guess"))
        assert json.loads(columns["set"]) == classifier.classes_[s].tolist()
        assert (columns["label"], columns["guess"]) in ((label, None), ("unknown", label))


def test_what_cannot_be_promised_is_said_before_an_image_is_read(classifier):
    seen = classifier.encoder_.seen
    with pytest.raises(ParameterError, match=r"coverage=0.99: expected at least 99 .* got 24"):
        list(classifier.classify(["absent.jpg"], coverage=0.99))
    assert classifier.encoder_.seen == seen


def test_calibration_images_travel_with_the_adapter(classifier, tmp_path):
    images, labels = draw_list(n=10, first=40)
    clf = FewShotClassifier(FakeEncoder(), "tip-adapter", store=classifier.store, progress=False)
    clf.fit(*draw_list(n=4))
    assert clf.method_.promise().startswith("not guaranteed: the 12 labelled images")
    with pytest.warns(UserWarning, match="are left out"):
        clf.calibrate(images + draw_list(n=1)[0], labels + draw_list(n=1)[1])
    clf.save_pretrained(tmp_path / "a.adapter")
    again = FewShotClassifier.from_pretrained(
        tmp_path / "a.adapter", encoder=FakeEncoder(), store=clf.store, progress=False
    )
    assert again.method_.promise().startswith("guaranteed for images like the 30 calibration images")
    new = draw_list(n=4, first=60)[0]
    np.testing.assert_array_equal(again.predict_set(new, 0.9), clf.predict_set(new, 0.9))
    np.testing.assert_array_equal(
        again.predict(new, unknown="auto", keep=0.8), clf.predict(new, unknown="auto", keep=0.8)
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_files_have_the_columns_whatever_the_first_row_is(tmp_path, suffix):
    rows = [Prediction("a", error=ValueError("no image")), Prediction("b", ("x",), (0.5,))]
    rows.append(Prediction("c", ("x",), (0.6,), extra={"label": "unknown", "guess": "x", "set": '["x"]'}))
    target = tmp_path / f"rows{suffix}"
    write_predictions(rows, target, top=1, columns=("set", "guess"))
    if suffix == ".csv":
        with open(target, encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    elif suffix == ".jsonl":
        found = [json.loads(line) for line in target.read_text().splitlines()]
    else:
        import pyarrow.parquet as parquet

        found = parquet.read_table(target).to_pylist()
    assert [*found[0]] == ["path", "label", "score", "set", "guess", "error"]
    assert [row["label"] or None for row in found] == [None, "x", "unknown"]
    assert [row["guess"] or None for row in found] == [None, None, "x"]


def test_the_command_line(tmp_path, own_cache, monkeypatch):
    train, new = draw_folder(tmp_path / "train", n=6), draw_folder(tmp_path / "new", n=4, first=30)
    monkeypatch.setattr("fewclip.intake.load_encoder", lambda name: FakeEncoder())
    monkeypatch.setattr("fewclip.intake.opens_by_name", lambda name: True)
    adapter = tmp_path / "a.adapter"
    assert fewclip("fit", train, "-o", adapter, "--method", "tip-adapter", "-q").code == 0
    out = tmp_path / "rows.csv"
    ran = fewclip(
        "predict", adapter, new, "-o", out, "--coverage", "0.9", "--unknown", "auto", "--keep", "0.9"
    )
    assert ran.code == 0, ran.err
    assert "promise   not guaranteed: the 18 labelled images judge each other" in ran.err
    with open(out, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert all(isinstance(json.loads(row["set"]), list) for row in rows)
    ran = fewclip("predict", adapter, new, "--answer-only", "0.99")
    assert ran.code == 1
    assert "answer_only=0.99: expected at least" in ran.err
    ran = fewclip("calibrate", adapter, new)
    assert ran.code == 0, ran.err
    assert "promise   guaranteed for images like the 12 calibration images" in ran.err
    again = draw_folder(tmp_path / "again", n=2, first=50)
    ran = fewclip("predict", adapter, again, "--coverage", "0.9")
    assert "guaranteed for images like the 12" in ran.err
