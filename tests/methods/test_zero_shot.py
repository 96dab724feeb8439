"""Zero-shot as an estimator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.tasks import make_task

from fewclip.methods import ZeroShot


def test_published_logits(golden):
    clf = ZeroShot(golden["text_features"]).fit(golden["support_features"], golden["support_labels"])
    np.testing.assert_allclose(
        clf.predict_logits(golden["query_features"]), golden["zero_shot_logits"], atol=1e-3
    )


def test_a_case_worked_by_hand():
    # Text (3, 4)/5 and (1, 0); query (0, 2) → (0, 1): cosines 0.8 and 0, times s = 50.
    clf = ZeroShot([[3.0, 4.0], [1.0, 0.0]], logit_scale=50.0).fit([[1.0, 1.0], [1.0, 0.5]], ["up", "right"])
    assert clf.classes_.tolist() == ["right", "up"]
    # Without classes= the rows belong to the sorted labels: row 0 is "right".
    np.testing.assert_allclose(clf.predict_logits([[0.0, 2.0]]), [[40, 0]], atol=1e-5)
    named = ZeroShot([[3.0, 4.0], [1.0, 0.0]], classes=["up", "right"], logit_scale=50.0)
    named.fit([[1.0, 1.0], [1.0, 0.5]], ["up", "right"])
    np.testing.assert_allclose(named.predict_logits([[0.0, 2.0]]), [[0, 40]], atol=1e-5)
    assert named.predict([[0.0, 2.0]]).tolist() == ["up"]
    np.testing.assert_allclose(
        named.predict_proba([[0.0, 2.0]])[0, 0], np.exp(-40) / (1 + np.exp(-40)), rtol=1e-4
    )


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.integers(0, 2**20), st.floats(1, 100))
def test_equals_naive_loops(shots, seed, s):
    task = make_task(shots, seed=seed, n_queries=5)
    clf = ZeroShot(task.T, logit_scale=s).fit(3 * task.X, task.y)
    expected = naive.zero_shot(naive.unit(task.Xq), naive.unit(task.T), s)
    np.testing.assert_allclose(clf.predict_logits(0.2 * task.Xq), expected, atol=1e-4)


def test_images_do_not_move_it():
    task, other = make_task((3, 1, 0, 2)), make_task((1, 4, 2, 2), seed=1)
    one = ZeroShot(task.T, classes=range(4)).fit(task.X, task.y)
    two = ZeroShot(task.T, classes=range(4)).fit(other.X, other.y)
    np.testing.assert_array_equal(one.predict_logits(task.Xq), two.predict_logits(task.Xq))
    assert one.selection_.protocol == "none"
    assert one.selection_.labels_used == 0


def test_without_text_it_is_the_nearest_class_mean():
    task = make_task((3, 1, 2))
    means = naive.unit([task.X[task.y == k].mean(0) for k in range(3)])
    clf = ZeroShot().fit(task.X, task.y)
    np.testing.assert_allclose(
        clf.predict_logits(task.Xq), naive.zero_shot(naive.unit(task.Xq), means, 100), atol=1e-3
    )


def test_its_estimate_is_the_accuracy_on_the_labelled_images():
    # With text every image counts, even the only one of its class; classes weigh the same.
    task = make_task((4, 1, 2, 3), noise=2.5, text_noise=2.5, seed=3)
    right = naive.zero_shot(naive.unit(task.X), naive.unit(task.T), 100).argmax(1) == task.y
    expected = np.mean([right[task.y == k].mean() for k in range(4)])
    assert 0 < expected < 1
    estimate = ZeroShot(task.T).fit(task.X, task.y).selection_.estimate
    assert estimate.accuracy == pytest.approx(expected, abs=1e-6)
    assert estimate.zero_shot == estimate.accuracy
    assert estimate.n_images == 10
