"""Adding to and removing from a fitted classifier is a fit on what is then there, without encoding twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import COLOURS, BlindEncoder, FakeEncoder, FakeTokenEncoder, draw_folder, draw_list, drawing

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.errors import AdapterError, DataError, LabelError

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("blue", "green", "red")
QUERIES = [drawing(colour, 50 + i) for colour in COLOURS for i in range(3)]


def classifier(encoder=None, method: str = "tip-adapter", **more) -> FewShotClassifier:
    options = {"store": FeatureStore.in_memory(), "progress": False, "calibration": "none", **more}
    return FewShotClassifier(encoder or FakeEncoder(), method, **options)


def same(first: FewShotClassifier, second: FewShotClassifier) -> None:
    assert list(first.classes_) == list(second.classes_)
    a, b = first.method_.selection_, second.method_.selection_
    assert a.settings == pytest.approx(b.settings, rel=1e-4)
    np.testing.assert_allclose(first.predict_proba(QUERIES), second.predict_proba(QUERIES), atol=2e-4)
    assert first.summary_.shots == second.summary_.shots


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "few", n=3)


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "ape"])
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("reopened", [False, True])
def test_update_is_a_fit_on_everything(few, tmp_path, method, views, reopened):
    clf = classifier(method=method, views=views, random_state=0, templates=["a {} thing", "one {}."]).fit(few)
    encoder = FakeEncoder()
    if reopened:
        clf.save_pretrained(tmp_path / "a.adapter")
        clf = FewShotClassifier.from_pretrained(
            tmp_path / "a.adapter", encoder=encoder, store=FeatureStore.in_memory(), progress=False
        )
    clf.encoder_ = encoder
    more = draw_folder(tmp_path / "more", ["red", "yellow"], n=2, first=20)
    clf.update(more)
    assert encoder.seen == 4 * views
    assert encoder.texts == ["a yellow thing", "one yellow."]
    assert clf.summary_.n_encoded == 4
    everything = draw_folder(tmp_path / "all", n=3)
    for path in more.rglob("*.png"):
        (everything / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, everything / path.parent.name)
    templates = ["a {} thing", "one {}."]
    same(clf, classifier(method=method, views=views, random_state=0, templates=templates).fit(everything))
    assert len(clf.adapter_.support) == 13
    assert [image.label for image in clf.adapter_.support[-2:]] == ["yellow", "yellow"]


def test_remove_is_a_fit_on_the_rest_and_needs_no_encoder(few, tmp_path):
    clf = classifier().fit(few)
    clf.encoder_ = BlindEncoder()
    clf.remove(images=["red/00.png", few / "blue" / "02.png"])
    (few / "red" / "00.png").unlink()
    (few / "blue" / "02.png").unlink()
    clf.encoder_ = FakeEncoder()
    same(clf, classifier().fit(few))
    clf.remove(labels=["green"])
    shutil.rmtree(few / "green")
    same(clf, classifier().fit(few))
    clf.save_pretrained(tmp_path / "a.adapter")
    again = FewShotClassifier.from_pretrained(tmp_path / "a.adapter", encoder=FakeEncoder(), progress=False)
    np.testing.assert_array_equal(clf.predict_proba(QUERIES), again.predict_proba(QUERIES))


def test_a_class_that_loses_its_images_lives_on_its_text(few):
    clf = classifier().fit(few)
    clf.remove(images=[f"red/0{i}.png" for i in range(3)])
    assert clf.summary_.shots == {"blue": 3, "green": 3, "red": 0}
    clf.update([drawing("red", 0)], ["red"])
    assert clf.summary_.shots["red"] == 1


def test_without_text_classes_are_their_images(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 8)).astype(np.float32), np.repeat(["a", "b", "c"], 3)
    np.savez(tmp_path / "all.npz", features=X, labels=y)
    np.savez(tmp_path / "ab.npz", features=X[:6], labels=y[:6])
    np.savez(tmp_path / "c.npz", features=X[6:], labels=y[6:])
    full = classifier("pocket", "tip-adapter").fit(tmp_path / "all.npz")
    part = classifier("pocket", "tip-adapter").fit(tmp_path / "ab.npz")
    part.save_pretrained(tmp_path / "ab.adapter")
    for clf in (part, FewShotClassifier.from_pretrained(tmp_path / "ab.adapter", progress=False)):
        clf.update(tmp_path / "c.npz")
        np.testing.assert_allclose(
            clf.predict_proba(tmp_path / "all.npz"), full.predict_proba(tmp_path / "all.npz"), atol=1e-5
        )
        clf.remove(labels=["a"])
        assert list(clf.classes_) == ["b", "c"]


def test_images_that_are_there_are_not_counted_twice(few):
    clf = classifier().fit(few)
    with pytest.warns(UserWarning, match=r"2 images are there already and are left out: .*00\.png"):
        clf.update([few / "red/00.png", few / "red/01.png", drawing("red", 30)], ["red"] * 3)
    assert clf.summary_.shots["red"] == 4
    with pytest.raises(LabelError, match=r"expected the label 'red', as before, got 'blue'.*remove"):
        clf.update([few / "red/00.png"], ["blue"])
    with pytest.warns(UserWarning, match="1 images are there already"):
        clf.update([drawing("red", 31), drawing("red", 31)], ["red", "red"])
    assert clf.summary_.shots["red"] == 5


def test_added_photos_are_called_by_their_class_and_two_of_one_name_are_told_apart(few, tmp_path):
    clf = classifier().fit(few)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        drawing("red", 30 + ord(folder)).save(tmp_path / folder / "x.png")
        clf.update([tmp_path / folder / "x.png"], ["red"])
    assert [image.name for image in clf.adapter_.support[-2:]] == ["red/x.png", "red/x.png"]
    with pytest.raises(DataError, match=r"expected the name of one image, got 2.*or give the file"):
        clf.remove(images=["red/x.png"])
    key = clf.adapter_.support[-1].sha256
    clf.remove(images=[tmp_path / "a" / "x.png"])
    assert clf.adapter_.support[-1].sha256 == key
    clf.remove(images=["x.png"])
    assert clf.summary_.shots["red"] == 3


def test_numbers_stay_numbers():
    images, labels = draw_list(n=2)
    clf = classifier().fit(images, [["blue", "green", "red"].index(label) for label in labels])
    clf.update([drawing("red", 9)], ["2"])
    assert clf.summary_.shots == {0: 2, 1: 2, 2: 3}
    with pytest.raises(LabelError, match="a label like 0"):
        clf.update([drawing("red", 9)], ["red"])


@pytest.mark.parametrize(
    ("removed", "error", "message"),
    [
        ({"images": ["red/77.png"]}, DataError, r"Some that it has: red/"),
        ({"images": ["00.png"]}, DataError, "expected the name of one image, got 3"),
        ({"labels": ["pink"]}, LabelError, "pink"),
        ({"labels": ["red", "blue"]}, DataError, "expected two classes and an image, got 1 with 3 images"),
        ({"images": [f"{c}/0{i}.png" for c in NAMES for i in range(3)]}, DataError, "0 images"),
    ],
)  # fmt: skip
def test_what_cannot_be_removed_is_named_and_nothing_changes(few, removed, error, message):
    clf = classifier().fit(few)
    before = clf.predict_proba(QUERIES)
    with pytest.raises(error, match=message):
        clf.remove(**removed)
    np.testing.assert_array_equal(clf.predict_proba(QUERIES), before)


def test_prompts_of_new_classes(few):
    clf = classifier(prompts={"blue": ["sky"], "green": ["grass"], "red": ["wine"]}).fit(few)
    with pytest.warns(UserWarning, match="sentences of their own"):
        clf.update([drawing("yellow", 0)], ["yellow"])
    assert clf.adapter_.prompts["yellow"] == ["a photo of a yellow."]
    clf.update([drawing("grey", 0)], ["grey"], prompts={"grey": ["ash grey", "a grey stone"]})
    assert clf.adapter_.prompts["grey"] == ["ash grey", "a grey stone"]
    named = classifier(class_names={"red": "wine red"}).fit(few)
    named.update([drawing("yellow", 0)], ["yellow"])
    assert named.adapter_.prompts["yellow"] == ["a photo of a yellow."]


def test_settings_that_were_chosen_on_validation_images(few, tmp_path):
    val = draw_folder(tmp_path / "val", n=3, first=60)
    clf = classifier().fit(few, val=val)
    with pytest.warns(UserWarning, match="chosen on validation images, which are not kept"):
        clf.update([drawing("red", 30)], ["red"])
    assert clf.method_.selection_.protocol == "loo"
    clf.update([drawing("red", 31)], ["red"], val=val)
    assert clf.method_.selection_.labels_used == 9


def test_a_changed_classifier_says_that_its_calibration_images_no_longer_count(few, tmp_path):
    clf = classifier().fit(few)
    clf.calibrate(draw_folder(tmp_path / "other", n=6, first=70))
    assert "calibration images" in clf.method_.promise()
    with pytest.warns(UserWarning, match="no longer rest on the images of calibrate"):
        clf.update(draw_folder(tmp_path / "more", n=1, first=80))
    assert "calibration images" not in clf.method_.promise()
    assert clf.summary_.scores == clf.method_.calibration_note()


def test_an_adapter_without_features_says_so(few, tmp_path):
    clf = classifier().fit(few)
    clf.save_pretrained(tmp_path / "a.adapter")
    config = json.loads((tmp_path / "a.adapter" / "config.json").read_text())
    del config["training"]
    (tmp_path / "a.adapter" / "config.json").write_text(json.dumps(config))
    old = FewShotClassifier.from_pretrained(tmp_path / "a.adapter", encoder=FakeEncoder(), progress=False)
    with pytest.raises(
        AdapterError, match=r"expected the features of its labelled images, got none: an older"
    ):
        old.remove(labels=["red"])
    tokens = classifier(FakeTokenEncoder(), "calip").fit(few)
    with pytest.raises(AdapterError, match="spatial tokens"):
        tokens.update([drawing("red", 30)], ["red"])
