"""Prediction sets, unknown images and answers of fitted methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.tasks import make_task
from sklearn.base import BaseEstimator, ClassifierMixin

from fewclip.errors import LabelError, ParameterError
from fewclip.method_state import method_state, restore_method
from fewclip.methods import METHODS, TipAdapter, ZeroShot

pytestmark = pytest.mark.usefixtures("one_thread")
methods = pytest.mark.parametrize("Method", METHODS.values(), ids=METHODS.keys())


@pytest.fixture(scope="module")
def task():
    return make_task((12,) * 5, n_queries=1500, noise=1.2, text_noise=1.2)


@pytest.fixture(scope="module")
def fitted(task):
    torch.set_num_threads(1)
    return TipAdapter(task.T, selection="none").fit(task.X, task.y)


@pytest.mark.parametrize("score", ["lac", "raps"])
def test_mean_coverage_of_500_splits(fitted, task, score):
    n, rng, covered = 50, np.random.default_rng(0), []
    for _ in range(500):
        order = rng.permutation(len(task.Xq))
        cal, new = order[:n], order[n : n + 150]
        fitted.calibrate(task.Xq[cal], task.yq[cal])
        sets = fitted.predict_set(task.Xq[new], 0.9, score=score)
        covered.append(sets[np.arange(150), task.yq[new]].mean())
    assert 0.9 - 0.005 <= np.mean(covered) <= 0.9 + 1 / (n + 1) + 0.005


def test_sets_of_every_class_and_sets_that_are_never_empty(fitted, task):
    fitted.calibrate(task.Xq[:400], task.yq[:400])
    X, y = task.Xq[400:], task.yq[400:]
    sets = fitted.predict_set(X, 0.9, classwise=True)
    for c in range(5):
        assert sets[y == c, c].mean() > 0.8
    small = fitted.predict_set(X, 0.3)
    assert not small.any(1).all()
    full = fitted.predict_set(X, 0.3, allow_empty=False)
    assert full.any(1).all()
    assert (full >= small).all()
    assert (
        fitted.predict_logits(X)[~small.any(1)].argmax(1).tolist() == full[~small.any(1)].argmax(1).tolist()
    )


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_mapie_gives_the_same_sets(fitted, task, coverage):
    mapie = pytest.importorskip("mapie.classification")
    cal, new = slice(0, 300), slice(300, 1500)
    fitted.calibrate(task.Xq[cal], task.yq[cal])

    class Plain(ClassifierMixin, BaseEstimator):  # MAPIE tries a zero row, which fewclip refuses
        classes_, predict, predict_proba = fitted.classes_, fitted.predict, fitted.predict_proba

        def fit(self, X, y):
            return self

    other = mapie.SplitConformalClassifier(
        Plain(), confidence_level=coverage, prefit=True, conformity_score="lac"
    ).conformalize(task.Xq[cal], task.yq[cal])
    _, expected = other.predict_set(task.Xq[new])
    np.testing.assert_array_equal(fitted.predict_set(task.Xq[new], coverage), expected[:, :, 0])


def test_lac_sets_by_a_naive_transcription(fitted, task):
    cal, new = slice(0, 60), slice(60, 200)
    fitted.calibrate(task.Xq[cal], task.yq[cal])
    p = fitted.predict_proba(task.Xq)
    scores = sorted(1 - p[i, task.yq[i]] for i in range(60))
    limit = scores[int(np.ceil(61 * 0.8)) - 1]
    expected = [[1 - value <= limit + 1e-9 for value in row] for row in p[new]]
    np.testing.assert_array_equal(fitted.predict_set(task.Xq[new], 0.8), expected)


@methods
def test_every_method_doubts_and_keeps_it_on_disk(Method):
    task = make_task((4, 4, 4, 4, 4), noise=0.5, text_noise=0.5)
    clf = Method(task.T, random_state=0).fit(task.X, task.y)
    again = restore_method(*method_state(clf), device="cpu")
    for model in (clf, again):
        assert model.predict_set(task.Xq, 0.8).shape == (40, 5)
        assert "labelled images" in model.promise()
        assert model.is_unknown(task.Xq, keep=0.8).mean() < 0.6
        assert model.answers(task.Xq, accuracy=0.6, confidence=0.8).dtype == bool
    np.testing.assert_array_equal(clf.predict_set(task.Xq, 0.8), again.predict_set(task.Xq, 0.8))
    np.testing.assert_allclose(clf.known_scores(task.Xq), again.known_scores(task.Xq), rtol=1e-4)


def test_what_labels_cannot_promise_is_refused_with_the_number():
    task = make_task((4, 4))
    clf = TipAdapter(task.T).fit(task.X, task.y)
    with pytest.raises(ParameterError, match=r"coverage=0.95: expected at least 19 labelled images .* got 8"):
        clf.predict_set(task.Xq, 0.95)
    with pytest.raises(ParameterError, match=r"coverage=0.9, classwise: expected at least 9 .* got 4"):
        clf.predict_set(task.Xq, 0.9, classwise=True)
    with pytest.raises(ParameterError, match=r"answer_only=0.95: expected at least 46"):
        clf.predict(task.Xq, answer_only=0.95)
    with pytest.raises(ParameterError, match=r"keep=0.95: expected at least 19"):
        clf.is_unknown(task.Xq)
    one = make_task((1, 1, 1))
    with pytest.raises(ParameterError, match="expected images that it has not learnt"):
        TipAdapter(one.T).fit(one.X, one.y).predict_set(one.Xq)
    for wrong in (1.0, 0, "90 %", True):
        with pytest.raises(ParameterError, match="expected a number between 0 and 1"):
            clf.predict_set(task.Xq, wrong)
    with pytest.raises(ParameterError, match="one of lac, raps"):
        clf.predict_set(task.Xq, 0.5, score="aps")
    with pytest.raises(ParameterError, match="one of auto, mcm, energy, affinity, mahalanobis"):
        clf.is_unknown(task.Xq, score="maha", keep=0.5)
    with pytest.raises(LabelError, match="expected one of the fitted classes"):
        clf.calibrate(task.Xq[:1], [9])


@pytest.mark.parametrize("score", ["auto", "mcm", "energy", "affinity", "mahalanobis"])
def test_the_asked_share_of_known_images_is_kept(score):
    kept, found = [], []
    for seed in range(8):
        task = make_task((10,) * 8, n_queries=400, d=48, noise=0.8, text_noise=0.8, seed=seed)
        known, rest = task.y < 6, task.yq >= 6
        clf = TipAdapter(task.T[:6], logit_scale=20.0, selection="none").fit(task.X[known], task.y[known])
        unknown = clf.is_unknown(task.Xq, score=score, keep=0.9)
        kept.append((~unknown[~rest]).mean())
        found.append(unknown[rest].mean())
    assert 0.82 < np.mean(kept) < 0.97
    assert np.mean(found) > 1 - np.mean(kept)  # more than chance; most scores far more


def test_unknown_and_unsure_are_labels():
    task = make_task((10,) * 4, n_queries=200, noise=1.0)
    names = np.array(["ant", "bee", "cat", "dog"])
    clf = TipAdapter(task.T).fit(task.X, names[task.y])
    plain = clf.predict(task.Xq)
    labels = clf.predict(task.Xq, unknown="auto", keep=0.8, answer_only=0.8)
    assert set(labels) <= {*names, "unknown", "unsure"}
    given = np.isin(labels, names)
    np.testing.assert_array_equal(labels[given], plain[given])
    np.testing.assert_array_equal(labels == "unknown", clf.is_unknown(task.Xq, keep=0.8))
    numbers = TipAdapter(task.T).fit(task.X, task.y).predict(task.Xq, unknown="mcm", keep=0.8)
    assert {type(label) for label in numbers} == {int, str}
    clash = TipAdapter(task.T).fit(task.X, np.array(["a", "b", "c", "unknown"])[task.y])
    with pytest.raises(LabelError, match="class 'unknown': expected classes with other names"):
        clash.predict(task.Xq, unknown="auto")


def test_one_image_a_class_is_asked_of_the_text_alone():
    task = make_task((1,) * 20, n_queries=100)
    clf = TipAdapter(task.T).fit(task.X, task.y)
    np.testing.assert_allclose(
        np.argsort(clf.known_scores(task.Xq)), np.argsort(clf.known_scores(task.Xq, "mcm"))
    )
    with pytest.raises(ParameterError, match="two labelled images of a class"):
        clf.is_unknown(task.Xq, score="affinity")
    with pytest.raises(ParameterError, match="two labelled images of a class"):
        TipAdapter().fit(task.X, task.y).is_unknown(task.Xq)


def test_zero_shot_rests_on_images_that_its_text_has_not_seen():
    task = make_task((1,) * 12)
    clf = ZeroShot(task.T).fit(task.X, task.y)
    assert "also chose the temperature" in clf.promise()
    assert clf.predict_set(task.Xq, 0.9).shape == (40, 12)
    clf.calibrate(task.Xq, task.yq)
    assert clf.promise().startswith("guaranteed")
