"""Reports of a fitted classifier, from folders to one HTML file."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from helpers import FakeEncoder, draw_folder, drawing, fetches

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore, labelled_sources
from fewclip.evaluation import Evaluation
from fewclip.methods import METHODS, TipAdapter
from fewclip.reports import (
    choose_hits,
    choose_mistakes,
    make_examples,
    make_pairs,
    report_evaluation,
    report_fit,
)

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def evaluation(right: dict[str, int], wrong: dict[str, int]) -> Evaluation:
    """So many right and wrong images of each class; scores fall from row to row."""
    labels, predicted = [], []
    for label, n in right.items():
        labels += [label] * n
        predicted += [label] * n
    for label, n in wrong.items():
        labels += [label] * n
        predicted += [next(other for other in sorted(right) if other != label)] * n
    classes = sorted(right)
    scores = np.linspace(0.9, 0.6, len(labels))[:, None]
    hits = np.array([[name == p for name in classes] for p in predicted])
    rest = (1 - scores) / (len(classes) - 1)
    return Evaluation.from_predictions(labels, np.where(hits, scores, rest), classes)


def test_pictures_are_of_every_class():
    e = evaluation({"a": 9, "b": 9, "c": 9}, {"a": 6, "b": 1})
    hits, mistakes = choose_hits(e, 4), choose_mistakes(e, 4)
    assert len(set(hits)) == len(set(mistakes)) == 4
    assert all(e.labels[i] == e.predictions[i] for i in hits)
    assert all(e.labels[i] != e.predictions[i] for i in mistakes)
    assert {e.labels[i] for i in hits} == {"a", "b", "c"}
    assert {e.labels[i] for i in mistakes} == {"a", "b"}


def test_surest_mistakes_first():
    e = evaluation({"a": 3, "b": 3}, {"a": 5})
    wrong = np.flatnonzero(e.labels != e.predictions)
    assert choose_mistakes(e, 2) == wrong[np.argsort(-e.scores[wrong], kind="stable")][:2].tolist()


def test_few_images_are_all_shown():
    right, wrong = evaluation({"a": 2, "b": 1}, {}), evaluation({"a": 0, "b": 0}, {"a": 2, "b": 1})
    assert (sorted(choose_hits(right, 8)), choose_mistakes(right, 8)) == ([0, 1, 2], [])
    assert (choose_hits(wrong, 8), sorted(choose_mistakes(wrong, 8))) == ([], [0, 1, 2])


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def new(tmp_path):
    folder = draw_folder(tmp_path / "new", n=3, first=50)
    drawing("blue", 60).save(folder / "red" / "wrong.png")
    return folder


def fit(photos, method="ape") -> FewShotClassifier:
    return FewShotClassifier(
        FakeEncoder(), method, store=FeatureStore.in_memory(), progress=False
    ).fit(photos)  # fmt: skip


def test_examples_show_what_was_predicted_and_why(photos, new):
    fitted = fit(photos, TipAdapter(alpha=2.0, beta=4.0))
    data = labelled_sources(new, None)
    examples = make_examples(fitted, data.sources, data.labels, data.names)
    assert [example.name for example in examples] == list(data.names)
    assert [example.predicted for example in examples] == fitted.predict(new).tolist()
    for example in examples:
        assert example.top[0][0] == example.predicted
        assert example.top[0][1] >= example.top[1][1]
        assert 1 <= len(example.neighbours) <= 4


@pytest.mark.parametrize("n", [1, 5])
def test_the_report_of_a_fit_says_what_to_look_at(tmp_path, n):
    photos = draw_folder(tmp_path / "photos", n=n)
    if n > 1:
        drawing("blue", 90).save(photos / "red" / "wrong.png")
    fitted = fit(photos, "ape")
    path = report_fit(fitted, tmp_path / "report", adapter=tmp_path / "my.adapter")
    page = path.read_text(encoding="utf-8")
    assert fetches(page) == []
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "What has my.adapter learnt?" in text
    assert "The labelled images" in text
    assert ("estimated accuracy" in text) == (n > 1)
    if n > 1:
        assert "red/wrong.png, labelled red" in page
        assert "Would more images help?" in text


def test_methods_without_a_cache_show_the_most_similar_images(photos, new, tmp_path):
    fitted, data = fit(photos, "auto"), labelled_sources(new, None)
    shown = make_examples(fitted, data.sources, data.labels, data.names)[0]
    cosines = [near.cosine for near in shown.neighbours]
    assert cosines == sorted(cosines, reverse=True)
    assert shown.neighbours[0].weight == f"cos {cosines[0]:.2f}"
    path = report_evaluation(
        fitted, fitted.evaluate(new), tmp_path / "report", source=new, adapter=tmp_path / "my.adapter"
    )
    assert "Most similar labelled images" in path.read_text(encoding="utf-8")


def test_zero_shot_shows_no_images_that_do_not_count(photos, new):
    data = labelled_sources(new, None)
    examples = make_examples(fit(photos, "zero-shot"), data.sources, data.labels, data.names)
    assert all(not example.neighbours for example in examples)


@pytest.mark.parametrize("method", METHODS)
def test_the_report_of_an_evaluation_stands_alone(photos, new, tmp_path, method):
    fitted = fit(photos, method)
    result = fitted.evaluate(new)
    path = report_evaluation(
        fitted, result, tmp_path / "report", source=new, adapter=tmp_path / "my best.adapter"
    )
    assert path == tmp_path / "report" / "index.html"
    page = path.read_text(encoding="utf-8")
    assert fetches(page) == []
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "my best.adapter" in text
    assert "10 images" in text
    assert f"{100 * result.accuracy:.1f} %" in text
    assert "red/wrong.png, predicted blue, truth red" in page
    assert page.count("data:image/jpeg;base64,") >= 12
    assert f"explain '{tmp_path}/my best.adapter' IMAGE" in text
    assert f"{100 * result.ece_before:.1f} % before calibration" in text
    assert "Would more images help?" in text or "zero" in method or method == "calip"
    assert "The labelled images" in text
    trained = method in ("clip-adapter", "tip-adapter-f", "ape-t")
    assert ("accuracy on the labelled images while they were learnt" in text) == trained


def test_the_confused_pairs_have_pictures_of_mistakes_and_of_both_classes(photos, new):
    fitted = fit(photos)
    result, data = fitted.evaluate(new), labelled_sources(new, None)
    (pair,) = make_pairs(fitted, result, data, range(len(data.names)))
    assert (pair.truth, pair.predicted, pair.n, pair.of) == ("red", "blue", 1, 4)
    assert [picture.name for picture in pair.mistakes] == ["red/wrong.png"]
    assert [picture.name for picture in pair.truth_support] == [f"red/0{i}.png" for i in range(4)]
    assert [picture.name for picture in pair.predicted_support] == [f"blue/0{i}.png" for i in range(4)]


def test_the_report_counts_only_images_that_were_not_fitted_on(photos, new, tmp_path):
    fitted = fit(photos)
    (new / "red" / "a.png").write_bytes((photos / "red" / "00.png").read_bytes())
    with pytest.warns(UserWarning, match="1 of 11"):
        result = fitted.evaluate(new)
    page = report_evaluation(
        fitted, result, tmp_path / "report", source=new, adapter=tmp_path / "a"
    ).read_text(encoding="utf-8")  # fmt: skip
    assert "red/a.png" not in page


def test_names_are_escaped(tmp_path):
    names = {"red": "<i>red & hot", "blue": "{{ 7 * 7 }}"}
    for first, root in ((0, "photos"), (50, "new")):
        draw_folder(tmp_path / root, names, n=2, first=first)
        for plain, name in names.items():
            (tmp_path / root / plain).rename(tmp_path / root / name)
    fitted = fit(tmp_path / "photos")
    result = fitted.evaluate(tmp_path / "new")
    page = report_evaluation(
        fitted, result, tmp_path / "r", source=tmp_path / "new", adapter=tmp_path / "a"
    ).read_text(encoding="utf-8")  # fmt: skip
    assert "<i>red" not in page
    assert "&lt;i&gt;red &amp; hot" in page
    assert "{{ 7 * 7 }}" in page
