"""Why an image got its class: evidence that adds up, and neighbours that are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import FakeEncoder, FakeTokenEncoder, draw_folder, draw_list, drawing, fetches
from PIL import Image

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
    logits = logits.astype(np.float64)
    probabilities = fitted.predict_proba([image])[0]
    for evidence in explanation.classes:
        column = fitted.classes_.tolist().index(evidence.label)
        assert evidence.text + evidence.image == pytest.approx(evidence.logit, abs=1e-9)
        assert evidence.logit == pytest.approx(logits[column], abs=1e-5)
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


def test_the_margin_is_what_lies_between_the_first_two(photos, image):
    explanation = fit(photos, method=CACHED[0]).explain(image)
    first, second = explanation.classes[:2]
    assert sum(explanation.margin) == pytest.approx(first.logit - second.logit)
    text, images = explanation.margin
    assert f"{abs(text):.2f}" in str(explanation)
    assert f"{abs(images):.2f}" in str(explanation)


# ---- channels ----


@pytest.mark.parametrize("method", ["ape", "ape-t", CACHED[0]])
def test_channels_add_up_to_what_lies_between_the_first_two(photos, image, method):
    explanation = fit(photos, method=method).explain(image)
    channels = explanation.channels
    first, second = explanation.classes[:2]
    assert (channels.winner, channels.runner_up) == (first.label, second.label)
    total = channels.kept + channels.others + channels.base
    assert total == pytest.approx(first.logit - second.logit, abs=1e-5)
    assert channels.n_channels == 52
    sizes = [abs(entry.total) for entry in channels.strongest]
    assert sizes == sorted(sizes, reverse=True)
    for entry in channels.strongest:
        ahead = channels.winner if entry.total > 0 else channels.runner_up
        assert ahead in entry.speaks_for  # of three classes, three are named
        assert len(entry.examples) == 4


def test_only_refinement_has_channels(photos, image):
    assert fit(photos, method=CACHED[1]).explain(image).channels is None
    assert fit(photos, method="zero-shot").explain(image).channels is None
    assert "channels" not in str(fit(photos, method="zero-shot").explain(image))


def test_a_kept_channel_is_one_that_was_kept(photos, image):
    fitted = fit(photos, method=CACHED[0])
    channels = fitted.explain(image).channels
    kept = set(fitted.method_.channels_.tolist())
    assert {entry.channel for entry in channels.strongest} <= kept
    assert channels.n_kept == len(kept) == 30


# ---- heat map ----


def token_fit(photos, method="ape"):
    store = FeatureStore.in_memory()
    return FewShotClassifier(FakeTokenEncoder(), method, store=store, progress=False).fit(photos)


def halves() -> Image.Image:
    """Red on the left, blue on the right."""
    whole = Image.new("RGB", (64, 48))
    whole.paste(drawing("red", 80, (32, 48)), (0, 0))
    whole.paste(drawing("blue", 80, (32, 48)), (32, 0))
    return whole


@pytest.mark.parametrize("method", ["ape", "calip", "tip-adapter"])
def test_the_heat_map_shows_each_class_where_it_is(tmp_path, method):
    heat = token_fit(draw_folder(tmp_path, ["red", "blue"]), method).explain(halves(), heat_map=True).heat_map
    sign = {"red": 1, "blue": -1}
    assert {heat.winner, heat.runner_up} == set(sign)
    left, right = np.array(heat.values).T
    assert (np.sign(left) == sign[heat.winner]).all()
    assert (np.sign(right) == -sign[heat.winner]).all()
    picture = np.asarray(heat.image(), dtype=float)
    green = picture[..., 1] - picture[..., 0]  # the winner's side is green, the other orange
    ahead, behind = (
        (green[:, :20], green[:, -20:]) if heat.winner == "red" else (green[:, -20:], green[:, :20])
    )
    assert ahead.mean() > 30
    assert behind.mean() < -30


def test_there_is_no_heat_map_unasked_or_without_tokens(photos, image):
    assert token_fit(photos).explain(image).heat_map is None
    assert fit(photos).explain(image, heat_map=True).heat_map is None


def test_the_heat_map_covers_what_the_encoder_sees(photos, image, monkeypatch):
    fitted = token_fit(photos)
    monkeypatch.setattr(FakeTokenEncoder, "crop", lambda self, im: im.crop((0, 0, 10, 20)), raising=False)
    assert fitted.explain(image, heat_map=True).heat_map.image().size == (10, 20)


# ---- page and JSON ----


def test_the_page_stands_alone(photos, image, tmp_path):
    explanation = token_fit(photos).explain(image, heat_map=True)
    path = explanation.to_html(tmp_path / "deep" / "why.html")
    page = path.read_text(encoding="utf-8")
    assert fetches(page) == []
    assert page.count("data:image/jpeg;base64,") >= 2 + 5 + 4
    for piece in (
        "Why red?",
        "Text and images",
        "Labelled images that counted most",
        "Channels that decided",
    ):
        assert piece in page
    assert all(near.support.name in page for near in explanation.neighbours)
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["why.html"]


def test_a_page_of_little(tmp_path):
    images, labels = draw_list(["red", "blue"], n=1)
    path = fit(images, labels, "zero-shot").explain(images[0], neighbours=0).to_html(tmp_path / "a.html")
    page = path.read_text(encoding="utf-8")
    assert "Channels" not in page
    assert "Heat map" not in page


def test_names_on_the_page_are_escaped(tmp_path):
    images, _ = draw_list(["red", "blue"], n=2)
    fitted = fit(images, ["<i>red", "<i>red", "b & c", "b & c"])
    page = fitted.explain(images[0]).to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<i>red" not in page
    assert "&lt;i&gt;red" in page


def test_json_has_everything(photos, image):
    data = json.loads(json.dumps(token_fit(photos).explain(image, heat_map=True).to_json(), allow_nan=False))
    assert len(data["heat_map"]["values"]) == len(data["heat_map"]["values"][0]) == 2
    assert data["channels"]["winner"] == data["label"]
    assert set(data["channels"]["strongest"][0]) >= {"channel", "text", "images", "speaks_for", "examples"}
    assert set(data["margin"]) == {"text", "image"}
