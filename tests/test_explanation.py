"""Why an image got its class: evidence that adds up, and neighbours that are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import FakeEncoder, draw_folder, draw_list, drawing

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.errors import ImageError
from fewclip.methods import APE, METHODS, TipAdapter

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")
# With fixed settings, so that images weigh whatever the selection would choose.
CACHED = [APE(alpha=2.0, beta=4.0, gamma=0.5, n_channels=30), TipAdapter(alpha=2.0, beta=4.0)]


def fit(images, labels=None, method="ape", **options) -> FewShotClassifier:
    store = FeatureStore.in_memory()
    return FewShotClassifier(FakeEncoder(), method, store=store, progress=False, **options).fit(
        images, labels
    )


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def image():
    return drawing("red", 70)


@pytest.mark.parametrize("method", [*METHODS, *CACHED])
@pytest.mark.parametrize("views", [1, 2])
def test_text_and_image_add_up_to_the_logit(photos, image, method, views):
    fitted = fit(photos, method=method, views=views)
    explanation = fitted.explain(image)
    logits = fitted.method_.predict_logits(FakeEncoder().encode_images([image]))[0]
    probabilities = fitted.predict_proba([image])[0]
    for evidence in explanation.classes:
        column = fitted.classes_.tolist().index(evidence.label)
        assert evidence.text + evidence.image == pytest.approx(evidence.logit, abs=1e-4)
        assert evidence.logit == pytest.approx(logits[column], abs=1e-4)
        assert evidence.probability == pytest.approx(probabilities[column], abs=1e-6)
    assert explanation.label == explanation.classes[0].label == fitted.predict([image])[0]
    falling = [evidence.logit for evidence in explanation.classes]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("method", CACHED)
@pytest.mark.parametrize("views", [1, 2])
def test_the_contributions_of_a_class_are_its_image_evidence(photos, image, method, views):
    explanation = fit(photos, method=method, views=views).explain(image, neighbours=99)
    assert len(explanation.neighbours) == 12
    for evidence in explanation.classes:
        adds = [near.contribution for near in explanation.neighbours if near.support.label == evidence.label]
        assert sum(adds) == pytest.approx(evidence.image, abs=1e-4)
    assert max(near.contribution for near in explanation.neighbours) > 0


def test_contributions_add_up_for_unequal_shots_and_an_absent_class(photos, image):
    for path in sorted((photos / "red").iterdir())[1:]:
        path.unlink()
    (photos / "yellow").mkdir()
    with pytest.warns(UserWarning, match="yellow"):
        explanation = fit(photos, method=CACHED[0]).explain(image, neighbours=99)
    for evidence in explanation.classes:
        assert evidence.text + evidence.image == pytest.approx(evidence.logit, abs=1e-4)
        adds = [near.contribution for near in explanation.neighbours if near.support.label == evidence.label]
        if evidence.label != "yellow":
            assert sum(adds) == pytest.approx(evidence.image, abs=1e-4)


def test_neighbours_are_sorted_by_contribution(photos, image):
    adds = [
        near.contribution for near in fit(photos, method=CACHED[0]).explain(image, neighbours=12).neighbours
    ]
    assert adds == sorted(adds, reverse=True)


def test_without_a_cache_neighbours_are_sorted_by_cosine(photos, image):
    neighbours = fit(photos, method="zero-shot").explain(image, neighbours=12).neighbours
    cosines = [near.cosine for near in neighbours]
    assert cosines == sorted(cosines, reverse=True)
    assert {near.contribution for near in neighbours} == {0.0}


def test_names_labels_and_cosines_belong_together(photos):
    """The nearest labelled image of a labelled image is itself, in whatever order they were given."""
    images, labels = draw_list()
    order = np.random.default_rng(1).permutation(len(images))
    fitted = fit([images[i] for i in order], [labels[i] for i in order], method="zero-shot")
    for position, i in enumerate(order):
        near = fitted.explain(images[i], neighbours=1).neighbours[0]
        assert near.cosine == pytest.approx(1, abs=1e-5)
        assert (near.support.name, near.support.label) == (f"images[{position}]", labels[i])
    near = fit(photos, method="zero-shot").explain(photos / "green" / "02.png", neighbours=1).neighbours[0]
    assert (near.support.name, near.support.label) == ("green/02.png", "green")


def test_thumbnails_show_the_images(photos):
    big = drawing("blue", 5, size=(300, 150))
    big.save(photos / "blue" / "00.png")
    fitted = fit(photos)
    first = fitted.adapter_.support[0]
    picture = first.image()
    assert picture.size == (64, 32)
    difference = np.asarray(picture, float) - np.asarray(big.resize((64, 32)), float)
    assert np.abs(difference).mean() < 10
    assert max(fitted.adapter_.support[1].image().size) == 32


def test_as_many_neighbours_as_asked_for(photos, image):
    fitted = fit(photos)
    assert len(fitted.explain(image).neighbours) == 5
    assert fitted.explain(image, neighbours=0).neighbours == ()
    assert len(fitted.explain(image, neighbours=3).neighbours) == 3


def test_json_and_text(photos, image):
    explanation = fit(photos).explain(image)
    data = json.loads(json.dumps(explanation.to_json(), allow_nan=False))
    assert data["label"] == "red"
    assert [entry["label"] for entry in data["classes"]] == [e.label for e in explanation.classes]
    assert set(data["classes"][0]) == {"label", "probability", "logit", "text", "image"}
    assert data["neighbours"][0]["name"].startswith("red/")
    text = str(explanation)
    assert text.startswith("images[0]: red (")
    assert "red/" in text
    assert "cosine" in text


def test_json_of_integer_labels():
    images, names = draw_list()
    labels = np.array([("blue", "green", "red").index(name) for name in names])
    data = json.loads(json.dumps(fit(images, labels).explain(images[0]).to_json()))
    assert data["label"] == 0
    assert isinstance(data["neighbours"][0]["label"], int)


def test_path_and_image_agree(photos, tmp_path, image):
    image.save(tmp_path / "a.png")
    fitted = fit(photos)
    by_path, by_image = fitted.explain(tmp_path / "a.png"), fitted.explain(image)
    assert by_path.classes == by_image.classes
    assert by_path.name.endswith("a.png")


def test_what_cannot_be_read_is_named(photos, tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png"):
        fit(photos).explain(tmp_path / "gone.png")


def test_more_evidence_for_a_class_from_more_images_of_it(photos, image):
    """Text stays what it is; what images say grows from none."""
    fitted = fit(photos, method=CACHED[1])
    zero_shot = fit(photos, method="zero-shot")
    by_label = {e.label: e for e in fitted.explain(image).classes}
    for evidence in zero_shot.explain(image).classes:
        assert evidence.image == 0
        assert by_label[evidence.label].text == pytest.approx(evidence.text, abs=1e-4)
        assert by_label[evidence.label].image > 0
