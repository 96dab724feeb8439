"""CALIP: zero-shot on features, attention on features with spatial tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.tasks import make_task

from fewclip.errors import FeatureError, ParameterError
from fewclip.functional import calip_logits
from fewclip.methods import CALIP, ZeroShot

pytestmark = pytest.mark.usefixtures("one_thread")


def with_tokens(features, n_tokens=3, seed=0):
    """(n, d) → (n, 1 + L, d): tokens around the feature."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(features), n_tokens, features.shape[1])) / np.sqrt(features.shape[1])
    return np.concatenate([features[:, None], features[:, None] + noise], axis=1).astype(np.float32)


def test_a_case_worked_by_hand():
    # T = (1, 0), (0, 1); f = (1, 0); tokens S = (1, 0), (0, 1). A = 2 S Tᵀ = [[2, 0], [0, 2]].
    # e = e²/(e² + 1) = 0.8808 and 1 − e = 0.1192 are the entries of both softmaxes:
    #   over places, class 1: (e, 1 − e); class 2: (1 − e, e)  → t_a = (e, 1 − e), (1 − e, e)
    #   f t_aᵀ = (e, 1 − e)
    #   over classes, place 1: (e, 1 − e) · T = (e, 1 − e); place 2: (1 − e, e)
    #   f_a = mean (0.5, 0.5) + maximum (e, e) = (0.5 + e, 0.5 + e)
    # z = 10 · ((1, 0) + 0.5 (e, 1 − e) + 0.25 (0.5 + e, 0.5 + e))
    #   = (10 + 4.404 + 3.452, 0.596 + 3.452) = (17.856, 4.048)
    e = math.exp(2) / (math.exp(2) + 1)
    expected = [[10 + 5 * e + 2.5 * (0.5 + e), 5 * (1 - e) + 2.5 * (0.5 + e)]]
    np.testing.assert_allclose(expected, [[17.856, 4.048]], atol=1e-3)
    T = np.eye(2, dtype=np.float32)
    clf = CALIP(T, beta2=0.5, beta3=0.25, logit_scale=10.0).fit(T, [0, 1])
    np.testing.assert_allclose(clf.predict_logits([[[3, 0], [2, 0], [0, 5]]]), expected, atol=1e-5)


@settings(max_examples=25)
@given(*(st.integers(1, 5) for _ in range(4)), st.floats(0, 2), st.floats(0, 2), st.integers(0, 2**20))
def test_equals_naive_loops(n, n_tokens, c, d, beta2, beta3, seed):
    rng = np.random.default_rng(seed)
    f, T = naive.unit(rng.normal(size=(n, d + 1))), naive.unit(rng.normal(size=(c, d + 1)))
    S = np.stack([naive.unit(rng.normal(size=(n_tokens, d + 1))) for _ in range(n)])
    arguments = (torch.as_tensor(x) for x in (f, S, T))
    z = calip_logits(*arguments, beta2=beta2, beta3=beta3, logit_scale=20.0)
    expected = naive.calip(f, S, T, beta2, beta3, 20.0)
    np.testing.assert_allclose(z, expected, atol=1e-9)
    clf = CALIP(T, classes=range(c), beta2=beta2, beta3=beta3, logit_scale=20.0).fit(T, range(c))
    rows = 7 * np.concatenate([f[:, None], S], axis=1)
    np.testing.assert_allclose(clf.predict_logits(rows), expected, atol=1e-3)


def test_features_without_tokens_give_zero_shot():
    task = make_task(noise=2, text_noise=2)
    calip, zero_shot = CALIP(task.T).fit(task.X, task.y), ZeroShot(task.T).fit(task.X, task.y)
    np.testing.assert_array_equal(calip.predict_logits(task.Xq), zero_shot.predict_logits(task.Xq))
    assert calip.selection_ == zero_shot.selection_


def test_both_weights_zero_give_zero_shot():
    task = make_task(noise=2, text_noise=2)
    rows = with_tokens(task.Xq)
    clf = CALIP(task.T, beta2=0, beta3=0).fit(with_tokens(task.X), task.y)
    expected = ZeroShot(task.T).fit(task.X, task.y).predict_logits(task.Xq)
    np.testing.assert_allclose(clf.predict_logits(rows), expected, atol=1e-4)


def test_the_order_of_tokens_does_not_matter_and_rows_are_independent():
    task = make_task()
    rows = with_tokens(task.Xq, n_tokens=9)
    clf = CALIP(task.T).fit(task.X, task.y)
    z = clf.predict_logits(rows)
    order = [0, *(1 + np.random.default_rng(0).permutation(9))]
    np.testing.assert_allclose(clf.predict_logits(rows[:, order]), z, atol=1e-4)
    np.testing.assert_allclose(np.concatenate([clf.predict_logits(row[None]) for row in rows]), z, atol=1e-4)


def test_many_rows_come_in_tiles(monkeypatch):
    task = make_task()
    rows = with_tokens(task.Xq, n_tokens=9)
    clf = CALIP(task.T).fit(task.X, task.y)
    z = clf.predict_logits(rows)
    monkeypatch.setattr("fewclip.methods.base._TILE_ROWS", 30)  # three images of ten rows
    np.testing.assert_allclose(clf.predict_logits(rows), z, atol=1e-4)
    np.testing.assert_array_equal(clf.predict(rows), clf.classes_[z.argmax(1)])


def test_evidence_splits_text_and_attention():
    task = make_task()
    rows = with_tokens(task.Xq)
    clf = CALIP(task.T).fit(with_tokens(task.X), task.y)
    text, attention, contributions = clf.evidence(rows)
    np.testing.assert_allclose(text, naive.zero_shot(task.Xq, task.T, 100), atol=1e-3)
    np.testing.assert_allclose(text + attention, clf.predict_logits(rows), atol=1e-4)
    assert not contributions.any()
    assert np.abs(attention).max() > 0.1


def test_its_estimate_is_the_accuracy_with_tokens_on_the_labelled_images():
    task = make_task((4, 3, 2, 3), noise=2.5, text_noise=2.5, seed=3)
    rows = with_tokens(task.X, seed=1)
    clf = CALIP(task.T, beta2=2.0, beta3=2.0).fit(rows, task.y)
    right = clf.predict(rows) == task.y
    expected = np.mean([right[task.y == k].mean() for k in range(4)])
    assert clf.selection_.estimate.accuracy == pytest.approx(expected, abs=1e-6)
    assert clf.support_features_.shape == task.X.shape
    assert not hasattr(clf, "_support_rows")


def test_without_text_class_means_stand_in_and_the_estimate_leaves_the_image_out():
    task = make_task((4, 4, 4))
    clf, plain = CALIP().fit(with_tokens(task.X), task.y), ZeroShot().fit(task.X, task.y)
    np.testing.assert_allclose(clf.text_features_, plain.text_features_, atol=1e-6)
    assert clf.selection_.estimate == plain.selection_.estimate


def test_views_are_grouped_with_tokens():
    task = make_task((6, 4, 8))
    groups = np.arange(18) // 2
    clf = CALIP(task.T).fit(with_tokens(task.X), task.y, groups=groups)
    keys, labels = naive.keys_of_groups(task.X, task.y, groups)
    np.testing.assert_allclose(clf.support_features_, keys, atol=1e-6)
    np.testing.assert_array_equal(clf.support_labels_, labels)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity"), (0.0, "all zeros")])
def test_a_bad_token_is_named(value, what):
    task = make_task()
    rows = with_tokens(task.Xq)
    rows[4, 2] = value
    with pytest.raises(FeatureError, match=f"row 4, token 2.*{what}"):
        CALIP(task.T).fit(task.X, task.y).predict(rows)
    with pytest.raises(FeatureError, match="row 4, token 2"):
        CALIP(task.T).fit(rows, task.yq)


def test_shapes_that_do_not_fit_are_refused():
    task = make_task()
    clf = CALIP(task.T).fit(task.X, task.y)
    with pytest.raises(FeatureError, match="at least one spatial token"):
        clf.predict(task.Xq[:, None])
    with pytest.raises(FeatureError, match="expected features"):
        clf.predict(with_tokens(task.Xq)[:, :, :5])
    with pytest.raises(FeatureError):
        ZeroShot(task.T).fit(task.X, task.y).predict(with_tokens(task.Xq))


@pytest.mark.parametrize("name", ["beta2", "beta3"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan"), "auto", None])
def test_weights_below_zero_are_refused(name, value):
    task = make_task()
    with pytest.raises(ParameterError, match=name):
        CALIP(task.T, **{name: value}).fit(task.X, task.y)
