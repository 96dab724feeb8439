"""FewShotClassifier as its users meet it: drawn photos with a fake encoder, real photos with pocket."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import BlindEncoder, FakeEncoder, FakeTokenEncoder, draw_folder, draw_list, drawing, grocery
from PIL import Image
from sklearn.exceptions import NotFittedError

import fewclip
from fewclip import FewShotClassifier
from fewclip.data import FeatureStore, draw_shots, labelled_sources
from fewclip.errors import (
    AdapterError,
    DataError,
    EncoderError,
    FeatureError,
    FewclipError,
    ImageError,
    LabelError,
    ParameterError,
)
from fewclip.evaluation import Evaluation
from fewclip.methods import APE, METHODS, TipAdapter

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def classifier(encoder=None, method="ape", **options) -> FewShotClassifier:
    options.setdefault("store", FeatureStore.in_memory())
    return FewShotClassifier(encoder or FakeEncoder(), method, progress=False, **options)


def text_rows(fitted: FewShotClassifier) -> np.ndarray:
    return fitted.method_.text_features_.numpy()


@pytest.fixture
def photos(tmp_path) -> Path:
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def new(tmp_path) -> Path:
    return draw_folder(tmp_path / "new", n=3, first=50)


# ---- fit: what it takes ----


def test_a_class_folder_becomes_a_classifier(photos, new):
    fitted = classifier().fit(photos)
    assert fitted.classes_.tolist() == ["blue", "green", "red"]
    assert fitted.predict(new).tolist() == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3


def test_images_weigh_in_these_tests(photos):
    assert classifier().fit(photos).method_.alpha_ > 0
    assert classifier(method="tip-adapter").fit(photos).method_.alpha_ > 0


def test_fit_gives_itself_back(photos):
    made = classifier()
    assert made.fit(photos) is made


def test_folder_table_list_and_pil_images_agree(photos, new, tmp_path):
    data = labelled_sources(photos, None)
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows(zip([f"photos/{name}" for name in data.names], data.labels, strict=True))
    pictures = [Image.open(path) for path in data.sources]
    expected = classifier().fit(photos).predict_proba(new)
    for images, labels in (
        (str(photos), None),
        (table, None),
        (list(data.sources), list(data.labels)),
        ([str(path) for path in data.sources], np.array(data.labels)),
        (pictures, data.labels),
        (data, None),
    ):
        np.testing.assert_allclose(classifier().fit(images, labels).predict_proba(new), expected, atol=1e-6)
    for picture in pictures:
        picture.close()


def test_a_split_folder_gives_its_train_split(photos, tmp_path, new):
    shutil.copytree(photos, tmp_path / "split" / "train")
    draw_folder(tmp_path / "split" / "test", n=1, first=70)
    split = classifier().fit(tmp_path / "split")
    assert sum(split.summary_.shots.values()) == 12
    np.testing.assert_array_equal(split.predict_proba(new), classifier().fit(photos).predict_proba(new))


def test_integer_labels_stay_integers():
    images, names = draw_list()
    labels = [{"blue": 10, "green": 2, "red": 7}[name] for name in names]
    fitted = classifier(class_names={10: "blue", 2: "green", 7: "red"}).fit(images, labels)
    assert fitted.classes_.tolist() == [2, 7, 10]
    predicted = fitted.predict([drawing("red", 60), drawing("blue", 60)])
    assert np.issubdtype(predicted.dtype, np.integer)
    assert predicted.tolist() == [7, 10]
    assert fitted.evaluate([drawing("green", 61)], [2]).accuracy == 1


def test_the_order_of_a_list_does_not_matter(new):
    images, labels = draw_list()
    order = np.random.default_rng(0).permutation(len(images))
    shuffled = classifier().fit([images[i] for i in order], [labels[i] for i in order])
    expected = classifier().fit(images, labels).predict_proba(new)
    np.testing.assert_allclose(shuffled.predict_proba(new), expected, atol=1e-5)


def test_an_empty_class_folder_lives_on_its_text(photos):
    (photos / "yellow").mkdir()
    with pytest.warns(UserWarning, match="yellow"):
        fitted = classifier(FakeEncoder(noise=0.3)).fit(photos)
    assert fitted.classes_.tolist() == ["blue", "green", "red", "yellow"]
    assert fitted.summary_.shots["yellow"] == 0
    assert "yellow" in str(fitted.summary_)
    assert fitted.predict([Image.new("RGB", (8, 8), (220, 210, 50))]).tolist() == ["yellow"]


def test_unequal_shots(photos, new):
    for path in sorted((photos / "red").iterdir())[1:]:
        path.unlink()
    fitted = classifier().fit(photos)
    assert fitted.summary_.shots == {"blue": 4, "green": 4, "red": 1}
    assert (fitted.predict(new) == "red").sum() >= 2


# ---- fit: what it refuses ----


def test_one_class_is_refused_with_advice(tmp_path):
    with pytest.raises(DataError, match=r"at least two classes, got one class, 'red'.*other"):
        classifier().fit(draw_folder(tmp_path / "one", ["red"]))
    with pytest.raises(DataError, match="at least two classes"):
        classifier().fit([drawing("red", 0)], ["red"])


def test_no_images_at_all_are_refused(tmp_path):
    with pytest.raises(DataError):
        classifier().fit(tmp_path)
    with pytest.raises(DataError):
        classifier().fit(tmp_path / "nowhere")
    with pytest.raises(DataError):
        classifier().fit([], [])


def test_an_unreadable_image_is_named(photos):
    (photos / "green" / "zz.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"zz\.jpg"):
        classifier().fit(photos)


def test_unreadable_images_may_be_skipped_and_are_told(photos, new):
    expected = classifier().fit(photos).predict_proba(new)
    (photos / "green" / "zz.jpg").write_text("no image")
    (photos / "blue" / "00.jpg").touch()
    fitted = classifier().fit(photos, skip_unreadable=True)
    np.testing.assert_allclose(fitted.predict_proba(new), expected, atol=1e-6)
    assert fitted.summary_.shots == {"blue": 4, "green": 4, "red": 4}
    skipped = dict(fitted.summary_.skipped)
    assert set(skipped) == {"green/zz.jpg", "blue/00.jpg"}
    assert "2 files" in str(fitted.summary_)
    assert len(fitted.adapter_.support) == 12


def test_a_class_whose_every_image_is_unreadable_is_told(photos):
    for path in (photos / "red").iterdir():
        path.write_bytes(b"")
    fitted = classifier().fit(photos, skip_unreadable=True)
    assert fitted.summary_.shots["red"] == 0
    assert "by name alone: red" in str(fitted.summary_)


def test_nothing_readable_is_refused(photos):
    for path in photos.glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="at least one readable image"):
        classifier().fit(photos, skip_unreadable=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "banana"}, ParameterError, "zero-shot, calip, clip-adapter, tip-adapter"),
        ({"encoder": "banana"}, EncoderError, "pocket"),
        ({"encoder": object()}, EncoderError, "without name"),
        ({"selection": "banana"}, ParameterError, "loo"),
        ({"views": 0}, ParameterError, "views"),
        ({"batch_size": 0}, ParameterError, "batch_size"),
        ({"templates": ["no placeholder"]}, ParameterError, "no placeholder"),
        ({"prompts": {"purple": ["a"]}}, FewclipError, "purple"),
        ({"class_names": {"purple": "a"}}, FewclipError, "purple"),
        ({"device": "banana"}, ParameterError, "device"),
    ],
)
def test_a_wrong_option_is_named(photos, options, error, message):
    with pytest.raises(error, match=message):
        classifier(**options).fit(photos)


@pytest.mark.parametrize("shots", [0, -1, 1.5, True])
def test_impossible_shots_are_refused(photos, shots):
    with pytest.raises(ParameterError, match="shots"):
        classifier().fit(photos, shots=shots)


def test_a_list_without_labels_is_refused():
    with pytest.raises(LabelError, match="one label for each image"):
        classifier().fit([drawing("red", 0)])


def test_a_failed_fit_leaves_the_old_one_in_use(photos, new):
    fitted = classifier().fit(photos)
    expected = fitted.predict_proba(new)
    fitted.encoder = FakeEncoder("fake-2")
    (photos / "red" / "zz.jpg").touch()
    with pytest.raises(ImageError):
        fitted.fit(photos)
    np.testing.assert_array_equal(fitted.predict_proba(new), expected)
    assert fitted.encoder_.fingerprint == "fake-1"


def test_parameters_are_stored_and_not_changed(photos):
    own = APE(alpha=1.5, beta=3.0)
    made = classifier(method=own, templates=["{}"])
    made.fit(photos)
    assert made.method is own
    assert own.text_features is None
    assert not hasattr(own, "classes_")
    assert (made.method_.alpha_, made.method_.beta_) == (1.5, 3.0)
    assert made.templates == ["{}"]


# ---- fit: shots, views, text, validation ----


def test_shots_and_seed_choose_the_images(photos):
    def chosen(**options):
        return [image.name for image in classifier().fit(photos, **options).adapter_.support]

    data = labelled_sources(photos, None)
    assert chosen(shots=2, seed=3) == [data.names[i] for i in draw_shots(data.labels, 2, seed=3)]
    assert chosen(shots=2, seed=3) == chosen(shots=2, seed=3)
    assert len({tuple(chosen(shots=2, seed=seed)) for seed in range(4)}) > 1
    with pytest.warns(UserWarning, match="no class has 99 images"):
        assert chosen(shots=99) == chosen()


def test_a_table_row_without_its_image_is_an_error_unless_allowed(photos, new):
    rows = "".join(f"{path},{path.parent.name}\n" for path in sorted(photos.glob("*/*")))
    table = photos.parent / "labels.csv"
    table.write_text(f"path,label\n{rows}gone.png,red\n")
    with pytest.raises(DataError, match=r"gone\.png: .*no such file \(1 such rows\).*--skip-unreadable"):
        classifier().fit(table)
    with pytest.warns(UserWarning, match=r"1 rows are left out, the first: line \d+: gone\.png"):
        fitted = classifier().fit(table, skip_unreadable=True)
    table.write_text(f"path,label\ngone.png,red\n{next(new.glob('red/*'))},red\n")
    with pytest.raises(DataError, match=r"gone\.png"):
        fitted.evaluate(table)


def test_one_image_under_two_labels_is_told(photos):
    (photos / "blue" / "twin.png").write_bytes(next(photos.glob("red/*")).read_bytes())
    with pytest.warns(UserWarning, match=r"the same image has two labels: .*twin\.png \(blue\).*\(red\)"):
        classifier().fit(photos)


def test_predictions_are_no_truth(photos, tmp_path):
    table = tmp_path / "predictions.csv"
    table.write_text("path,label,score,top2_label,top2_score,error\nred/50.png,red,0.9,blue,0.1,\n")
    with pytest.raises(DataError, match="predictions, as fewclip predict writes them"):
        classifier().fit(photos).evaluate(table)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_fit_gives_the_same_bits(photos, new, method):
    first, second = (
        classifier(method=method, views=2, random_state=1).fit(photos, shots=3, seed=1) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_proba(new), second.predict_proba(new))


def test_views_make_one_key_an_image(photos, new):
    plain, encoder = classifier().fit(photos), FakeEncoder()
    fitted = classifier(encoder, views=3).fit(photos)
    assert encoder.seen == 36
    assert fitted.method_.support_features_.shape == (12, FakeEncoder.dim)
    assert len(fitted.adapter_.support) == 12
    assert not np.array_equal(fitted.predict_proba(new), plain.predict_proba(new))
    assert fitted.predict(new).tolist() == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3


def test_other_views_for_another_random_state(photos):
    first, second = (classifier(views=2, random_state=s).fit(photos).method_ for s in (0, 1))
    assert not np.array_equal(first.support_features_, second.support_features_)


_BLUE = "a photo of a blue."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "a photo of a green."),
        ({"class_names": {"green": "bottle green"}}, "a photo of a bottle green."),
        ({"templates": ["{} cloth", "some {}"]}, "green cloth"),
        ({"templates": "{} cloth"}, "green cloth"),
        ({"templates": "dtd"}, "green texture."),
        ({"class_names": {"green": ["lime", "moss"]}}, "a photo of a moss."),
        ({"prompts": ["some {}"]}, "some green"),
        ({"prompts": {"blue": _BLUE, "green": ["moss"], "red": ["a photo of a red."]}}, "moss"),
        ({"prompts": {"blue": _BLUE, "green": "moss", "red": "a photo of a red."}}, "moss"),
    ],
)
def test_class_names_templates_and_prompts_make_the_text(photos, options, sentence):
    encoder = FakeEncoder()
    fitted = classifier(encoder, **options).fit(photos)
    assert sentence in encoder.texts
    assert sentence in fitted.adapter_.prompts["green"]
    if options:
        assert not np.allclose(text_rows(fitted)[1], text_rows(classifier().fit(photos))[1])
    if _BLUE in encoder.texts:
        np.testing.assert_allclose(text_rows(fitted)[0], text_rows(classifier().fit(photos))[0], atol=1e-6)


def test_the_prompts_of_a_class_are_averaged(photos):
    encoder = FakeEncoder()
    mean = encoder.encode_texts(["red cloth", "some red"]).mean(0)
    fitted = classifier(encoder, templates=["{} cloth", "some {}"]).fit(photos)
    np.testing.assert_allclose(text_rows(fitted)[2], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_method_gets_the_features_of_every_prompt(photos):
    """Not their mean alone: a list of c arrays (p, d)."""
    encoder = FakeEncoder()
    fitted = classifier(encoder, class_names={"red": ["red", "crimson red"]}).fit(photos)
    given = fitted.method_.text_features
    assert [row.shape for row in given] == [(1, 52), (1, 52), (2, 52)]
    np.testing.assert_array_equal(given[2][1], encoder.encode_texts(["a photo of a crimson red."])[0])


def test_the_summary_shows_what_classes_are_called(tmp_path):
    labels = [f"{colour}_silk" for colour in ("red", "blue", "green", "grey")]
    fitted = classifier().fit(draw_folder(tmp_path / "p", [*labels, "yellow"], n=2))
    assert "names     blue_silk is called 'blue silk', " in str(fitted.summary_)
    assert "and 1 more in its prompts" in str(fitted.summary_)
    fitted.save_pretrained(tmp_path / "a")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "a", encoder=FakeEncoder())
    assert "'blue silk'" in str(loaded.summary_)
    assert fitted.summary_.to_json()["renamed"][0] == ["blue_silk", "blue silk"]


def test_labels_with_the_same_name_stay_two_classes(tmp_path):
    photos = draw_folder(tmp_path / "p", ["red_silk", "blue"])
    (photos / "red-silk").mkdir()
    drawing("red", 30).save(photos / "red-silk" / "0.png")
    with pytest.warns(UserWarning, match="'red-silk' and 'red_silk': they stay two classes"):
        fitted = classifier().fit(photos)
    assert fitted.classes_.tolist() == ["blue", "red-silk", "red_silk"]


def test_names_that_are_not_english_are_noticed(tmp_path):
    photos = draw_folder(tmp_path / "p", ["red", "blue"])
    (photos / "blue").rename(photos / "grün")
    with pytest.warns(UserWarning, match="'grün' may not be English.*class_names="):
        classifier().fit(photos)
    classifier(class_names={"grün": "green"}).fit(photos)
    encoder = FakeEncoder()
    encoder.multilingual = True
    classifier(encoder).fit(photos)


def test_underscores_in_a_folder_are_spaces_in_its_prompt(tmp_path):
    encoder = FakeEncoder()
    classifier(encoder).fit(draw_folder(tmp_path / "p", ["red_silk", "blue"]))
    assert "a photo of a red silk." in encoder.texts


def test_the_logit_scale_is_the_encoders(photos):
    encoder = FakeEncoder()
    encoder.logit_scale = 7.0
    assert classifier(encoder).fit(photos).method_.logit_scale == 7.0


def test_validation_images_choose_the_settings(photos, new):
    fitted = classifier().fit(photos, val=new)
    assert fitted.method_.selection_.protocol == "full"
    assert fitted.method_.selection_.labels_used == 9
    assert "validation" in str(fitted.summary_)
    assert classifier().fit(photos).method_.selection_.protocol == "loo"


def test_validation_images_that_are_fitted_on_are_refused(photos):
    with pytest.raises(FewclipError, match="not among the training images"):
        classifier().fit(photos, val=photos)


def test_an_unknown_label_in_val_is_named(photos, tmp_path):
    with pytest.raises(LabelError, match="purple"):
        classifier().fit(photos, val=draw_folder(tmp_path / "val", ["red", "purple"], n=1, first=80))


def test_at_one_shot_fixed_defaults_are_told(photos):
    fitted = classifier().fit(photos, shots=1)
    assert fitted.method_.selection_.protocol == "none"
    assert "Fixed defaults" in str(fitted.summary_)
    assert "no estimate" in str(fitted.summary_)


# ---- the store ----


def test_a_second_fit_encodes_nothing(photos, new, tmp_path):
    first = classifier(store=FeatureStore(tmp_path / "f.sqlite")).fit(photos)
    expected = first.predict_proba(new)
    assert first.summary_.n_encoded == 12
    again = classifier(BlindEncoder(), store=FeatureStore(tmp_path / "f.sqlite")).fit(photos)
    assert again.summary_.n_encoded == 0
    np.testing.assert_array_equal(again.predict_proba(new), expected)
    assert "12 from the store" in str(again.summary_)


def test_the_store_lies_where_the_environment_says(photos, own_cache):
    FewShotClassifier(FakeEncoder(), progress=False).fit(photos)
    FewShotClassifier(BlindEncoder(), progress=False).fit(photos)
    assert [path.name for path in own_cache.iterdir() if path.suffix == ".sqlite"] == ["features.sqlite"]


# ---- predict ----


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.predict(["a.jpg"]),
        lambda c: c.predict_proba(["a.jpg"]),
        lambda c: list(c.classify(["a.jpg"])),
        lambda c: c.evaluate(["a.jpg"], ["a"]),
        lambda c: c.explain("a.jpg"),
        lambda c: c.save_pretrained("adapter"),
    ],
)
def test_nothing_goes_before_fit(use):
    with pytest.raises(NotFittedError, match="call fit, or from_pretrained"):
        use(classifier())


def test_paths_folder_glob_and_pil_agree(photos, new):
    fitted = classifier().fit(photos)
    paths = sorted(new.glob("*/*.png"))
    expected = fitted.predict_proba(paths)
    np.testing.assert_allclose(expected.sum(1), 1, atol=1e-9)
    assert expected.shape == (9, 3)
    pictures = [Image.open(path) for path in paths]
    for images in (new, str(new), str(new / "*" / "*.png"), list(map(str, paths)), pictures):
        np.testing.assert_allclose(fitted.predict_proba(images), expected, atol=1e-6)
        assert fitted.predict(images).tolist() == fitted.classes_[expected.argmax(1)].tolist()
    for picture in pictures:
        picture.close()


def test_one_path_and_one_image_are_lists_of_one(photos, new):
    fitted = classifier().fit(photos)
    path = new / "red" / "50.png"
    for image in (path, str(path), drawing("red", 50), [path]):
        assert fitted.predict(image).tolist() == ["red"]


def test_a_prediction_does_not_depend_on_its_neighbours(photos, new):
    fitted = classifier().fit(photos)
    together = fitted.predict_proba(new)
    alone = np.concatenate([fitted.predict_proba([path]) for path in sorted(new.glob("*/*"))])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_nothing_to_predict(photos):
    fitted = classifier().fit(photos)
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([]).shape == (0, 3)
    assert list(fitted.classify([])) == []


def test_predict_raises_for_what_cannot_be_read(photos, new):
    fitted = classifier().fit(photos)
    (new / "red" / "x.jpg").touch()
    for call in (fitted.predict, fitted.predict_proba):
        with pytest.raises(ImageError, match=r"x\.jpg"):
            call(new)
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        fitted.predict(["gone.jpg"])
    with pytest.raises(DataError, match="matches none"):
        fitted.predict(str(new / "*.gif"))
    with pytest.raises(ImageError, match=r"images\[0\]"):
        fitted.predict([np.zeros((4, 4, 3), np.uint8)])


def test_classify_gives_a_row_for_every_image(photos, new):
    fitted = classifier().fit(photos)
    (new / "green" / "00.jpg").write_text("no image")
    rows = list(fitted.classify(new))
    assert [Path(row.name).relative_to(new).as_posix() for row in rows] == sorted(
        path.relative_to(new).as_posix() for path in new.glob("*/*")
    )
    bad = [row for row in rows if row.error]
    assert [Path(row.name).name for row in bad] == ["00.jpg"]
    assert (bad[0].labels, bad[0].scores) == ((), ())
    good = [row for row in rows if not row.error]
    probabilities = fitted.predict_proba([row.name for row in good])
    for row, expected in zip(good, probabilities, strict=True):
        assert sorted(row.labels) == ["blue", "green", "red"]
        assert list(row.scores) == sorted(row.scores, reverse=True)
        np.testing.assert_allclose(row.scores, np.sort(expected)[::-1], atol=1e-6)
        assert row.labels[0] == fitted.classes_[expected.argmax()]


def test_classify_gives_as_many_classes_as_asked_for(photos, new):
    fitted = classifier().fit(photos)
    assert {len(row.labels) for row in fitted.classify(new, top=2)} == {2}
    assert {len(row.labels) for row in fitted.classify(new, top=9)} == {3}
    with pytest.raises(ParameterError, match="top"):
        list(fitted.classify(new, top=0))


def test_classify_of_more_than_one_chunk(photos, new, monkeypatch):
    fitted = classifier().fit(photos)
    expected = list(fitted.classify(new))
    monkeypatch.setattr("fewclip.classifier._CHUNK", 2)
    chunked = list(fitted.classify(new))
    assert [(row.name, row.labels) for row in chunked] == [(row.name, row.labels) for row in expected]
    for row, whole in zip(chunked, expected, strict=True):
        np.testing.assert_allclose(row.scores, whole.scores, atol=1e-6)


# ---- evaluate ----


def test_evaluate_measures(photos, new):
    fitted = classifier().fit(photos)
    shutil.copy(new / "blue" / "50.png", new / "red" / "wrong.png")
    evaluation = fitted.evaluate(new)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.accuracy == pytest.approx(9 / 10)
    assert len(evaluation.labels) == 10
    assert evaluation.names is not None
    assert "red/wrong.png" in evaluation.names
    assert [row["class"] for row in evaluation.table] == ["blue", "green", "red"]
    listed = fitted.evaluate(sorted(new.glob("*/*")), [path.parent.name for path in sorted(new.glob("*/*"))])
    assert listed.accuracy == evaluation.accuracy


def test_evaluate_takes_the_test_split(photos, new, tmp_path):
    shutil.copytree(photos, tmp_path / "split" / "train")
    shutil.copytree(new, tmp_path / "split" / "test")
    fitted = classifier().fit(tmp_path / "split")
    assert len(fitted.evaluate(tmp_path / "split").labels) == 9


def test_images_of_the_fit_are_left_out_with_a_warning(photos, new):
    fitted = classifier().fit(photos)
    shutil.copy(photos / "red" / "00.png", new / "red" / "copied under another name.png")
    with pytest.warns(UserWarning, match="1 of 10 images were used to fit"):
        evaluation = fitted.evaluate(new)
    assert len(evaluation.labels) == 9


def test_images_of_the_fit_are_known_after_loading_too(photos, new, tmp_path):
    classifier().fit(photos).save_pretrained(tmp_path / "a")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "a", encoder=FakeEncoder(), progress=False)
    shutil.copytree(photos, new, dirs_exist_ok=True)
    with pytest.warns(UserWarning, match="12 of 21"):
        assert len(loaded.evaluate(new).labels) == 9


def test_only_images_of_the_fit_cannot_be_measured_on(photos):
    with pytest.raises(DataError, match="12 that it was fitted on"):
        classifier().fit(photos).evaluate(photos)


def test_an_unknown_label_is_named(photos, tmp_path):
    other = draw_folder(tmp_path / "other", ["red", "purple"], n=1, first=80)
    with pytest.raises(LabelError, match="purple"):
        classifier().fit(photos).evaluate(other)


def test_an_unknown_label_is_found_before_anything_is_encoded(photos, tmp_path):
    other = draw_folder(tmp_path / "other", ["red", "purple"], n=1, first=80)
    encoder = FakeEncoder()
    fitted = classifier(encoder).fit(photos)
    before = encoder.seen
    with pytest.raises(LabelError):
        fitted.evaluate(other)
    assert encoder.seen == before


def test_evaluate_with_unreadable_images(photos, new):
    fitted = classifier().fit(photos)
    (new / "red" / "x.jpg").touch()
    with pytest.raises(ImageError, match=r"x\.jpg"):
        fitted.evaluate(new)
    assert len(fitted.evaluate(new, skip_unreadable=True).labels) == 9


def test_numbered_folders_fit_and_evaluate(tmp_path):
    for number, colour in enumerate(("red", "blue")):
        source = draw_folder(tmp_path / colour, [colour], n=6)
        (tmp_path / "p").mkdir(exist_ok=True)
        (source / colour).rename(tmp_path / "p" / str(number))
    fitted = classifier().fit(tmp_path / "p")
    assert fitted.classes_.tolist() == ["0", "1"]
    assert fitted.evaluate([drawing("red", 90)], ["0"]).accuracy == 1


# ---- the summary ----


def test_the_summary_says_what_was_done(photos):
    fitted = classifier().fit(photos)
    text = str(fitted.summary_)
    for part in ("ape on fake features", "12 of 3 classes, 4 each", "leave-one-out", "zero-shot", "interval"):
        assert part in text
    page = fitted.summary_._repr_html_()
    assert page.startswith("<table>")
    assert "ape on fake features" in page
    data = json.loads(json.dumps(fitted.summary_.to_json(), allow_nan=False))
    assert data["shots"] == {"blue": 4, "green": 4, "red": 4}
    assert data["labels_used"] == 0
    assert 0 <= data["estimate"]["low"] <= data["estimate"]["accuracy"] <= data["estimate"]["high"] <= 1


def test_the_summary_for_notebooks_escapes_names(tmp_path):
    draw_folder(tmp_path / "<b>p&", ["red", "blue"], n=2)
    page = classifier().fit(tmp_path / "<b>p&").summary_._repr_html_()
    assert "&lt;b&gt;p&amp;" in page
    assert "<b>" not in page


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shots", [1, 4])
def test_every_method_has_a_summary(photos, method, shots):
    summary = classifier(method=method).fit(photos, shots=shots).summary_
    assert str(summary).startswith(f"method    {method} on fake features")
    json.dumps(summary.to_json(), allow_nan=False)


def test_a_method_of_ones_own_is_used(photos, new):
    class Mine(TipAdapter):
        """A researcher's variant."""

    fitted = classifier(method=Mine(alpha=1.0, beta=5.0)).fit(photos)
    assert isinstance(fitted.method_, Mine)
    assert fitted.predict(new).tolist()[:3] == ["blue"] * 3
    assert "Mine" in str(fitted.summary_)
    with pytest.raises(AdapterError, match=r"method Mine.*METHODS"):
        fitted.save_pretrained("mine.adapter")


# ---- real photos ----


CLASSES = ("Avocado", "Banana", "Red-Beet", "Watermelon")


@pytest.fixture(scope="module")
def fruit(tmp_path_factory):
    """(train, val): five and two real photos of four groceries."""
    train, val = grocery("train"), grocery("val")
    root = tmp_path_factory.mktemp("fruit")
    for split, source, n in (("train", train, 5), ("val", val, 2)):
        for label in CLASSES:
            target = root / split / label
            target.mkdir(parents=True)
            for path in sorted((source / label).glob("*.jpg"))[:n]:
                shutil.copy(path, target)
    return root / "train", root / "val"


def test_pocket_learns_real_photos_end_to_end(fruit, tmp_path):
    train, val = fruit
    fitted = fewclip.FewShotClassifier(progress=False).fit(train)
    assert fitted.summary_.encoder == "pocket"
    evaluation = fitted.evaluate(val)
    assert evaluation.accuracy >= 0.75
    explanation = fitted.explain(next((val / "Banana").iterdir()))
    assert explanation.label == "Banana"
    assert {near.support.label for near in explanation.neighbours[:3]} == {"Banana"}
    fitted.save_pretrained(tmp_path / "fruit.adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "fruit.adapter", progress=False)
    np.testing.assert_array_equal(loaded.predict_proba(val), fitted.predict_proba(val))


def test_a_turned_photo_with_its_exif_mark_is_the_same_photo(fruit, tmp_path):
    train, val = fruit
    fitted = FewShotClassifier(method="tip-adapter", progress=False).fit(train, shots=2)
    with Image.open(next((val / "Banana").iterdir())) as file:
        upright = file.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown rotated by 270°
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "unmarked.png")
    logits = [
        [evidence.logit for evidence in fitted.explain(tmp_path / f"{name}.png").classes]
        for name in ("upright", "turned", "unmarked")
    ]
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4)
    assert not np.allclose(logits[2], logits[0], rtol=1e-2)


def test_feature_errors_are_fewclip_errors():
    assert issubclass(FeatureError, FewclipError)


# ---- spatial tokens ----


def test_calip_sees_spatial_tokens_in_every_way_to_predict(photos, new, tmp_path):
    encoder = FakeTokenEncoder()
    clf = classifier(encoder, "calip").fit(photos)
    paths = sorted(new.rglob("*.png"))
    rows = encoder.encode_image_tokens(paths)
    expected = clf.method_.predict_proba(rows)
    assert np.abs(expected - clf.method_.predict_proba(rows[:, 0])).max() > 1e-3
    np.testing.assert_allclose(clf.predict_proba(paths), expected, atol=1e-5)
    listed = list(clf.classify(paths))
    np.testing.assert_allclose([row.scores[0] for row in listed], expected.max(1), atol=1e-5)
    assert clf.evaluate(new).accuracy == pytest.approx(
        np.mean(clf.classes_[expected.argmax(1)] == [path.parent.name for path in paths])
    )
    evidence = clf.explain(paths[0]).classes[0]
    assert evidence.probability == pytest.approx(expected[0].max(), abs=1e-5)
    assert evidence.image != 0
    kept = {use.fingerprint for use in clf.store.encoders()}  # texts and thumbnails
    assert encoder.fingerprint not in kept  # tokens are too large to be kept
    clf.save_pretrained(tmp_path / "c.adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "c.adapter", encoder=encoder, progress=False)
    np.testing.assert_array_equal(loaded.predict_proba(paths), clf.predict_proba(paths))


def test_calip_without_tokens_is_zero_shot(photos, new):
    calip = classifier(method="calip").fit(photos)
    zero_shot = classifier(method="zero-shot").fit(photos)
    np.testing.assert_array_equal(calip.predict_proba(new), zero_shot.predict_proba(new))


def test_images_are_classified_in_chunks_with_the_right_errors(photos, new, monkeypatch):
    (new / "red" / "broken.png").write_bytes(b"no image")
    clf = classifier().fit(photos)
    whole = [(row.name, row.labels, row.error is None) for row in clf.classify(new)]
    expected = clf.evaluate(new, skip_unreadable=True)
    monkeypatch.setattr("fewclip.classifier._CHUNK", 2)
    assert [(row.name, row.labels, row.error is None) for row in clf.classify(new)] == whole
    chunked = clf.evaluate(new, skip_unreadable=True)
    assert chunked.names == expected.names
    np.testing.assert_allclose(chunked.probabilities, expected.probabilities, atol=1e-6)
    with pytest.raises(ImageError, match=r"broken\.png"):
        clf.evaluate(new)


def test_an_encoder_whose_tokens_have_another_shape_is_named(photos):
    class Wrong(FakeTokenEncoder):
        def encode_image_tokens(self, images):
            return super().encode_images(images)

    with pytest.raises(EncoderError, match=r"encode_image_tokens must"):
        classifier(Wrong(), "calip").fit(photos)
