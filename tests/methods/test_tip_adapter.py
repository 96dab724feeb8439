"""Tip-Adapter as an estimator: the published formula, and its corrections."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.tasks import make_task

from fewclip.methods import TipAdapter


def test_published_logits(golden):
    clf = TipAdapter(golden["text_features"], alpha=float(golden["alpha"]), beta=float(golden["beta"]))
    clf.fit(golden["support_features"], golden["support_labels"])
    assert (clf.alpha_, clf.beta_) == (1.7, 3.3)
    np.testing.assert_allclose(
        clf.predict_logits(golden["query_features"]), golden["tip_adapter_logits"], atol=1e-3
    )


def test_a_case_worked_by_hand():
    # Query (1, 0). Class a: images (1, 0), (0.6, 0.8), (0, 1); class b: (0.8, 0.6). β = ln 2: affinities
    # 1, 2^-0.4, 1/2 and 2^-0.2. k̄ = 2: a times 2/3, b times 2. Text (0, 1), (1, 0), s = 10, α = 4:
    # z_a = 4·(2/3)(1.5 + 2^-0.4), z_b = 10 + 4·2·2^-0.2; bare: 4·(1.5 + 2^-0.4), 10 + 4·2^-0.2.
    T, X = [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]
    clf = TipAdapter(T, alpha=4.0, beta=math.log(2), logit_scale=10.0).fit(X, ["a", "b", "a", "a"])
    expected = [[8 / 3 * (1.5 + 2**-0.4), 10 + 8 * 2**-0.2]]
    np.testing.assert_allclose(clf.predict_logits([[5.0, 0.0]]), expected, rtol=1e-6)
    clf.set_params(class_balance=False).fit(X, ["a", "b", "a", "a"])
    expected = [[4 * (1.5 + 2**-0.4), 10 + 4 * 2**-0.2]]
    np.testing.assert_allclose(clf.predict_logits([[5.0, 0.0]]), expected, rtol=1e-6)


def test_an_absent_class_worked_by_hand():
    # Query (1, 0); class 0 has the image (1, 0): affinity 1; class 2 has (0, 1): 1/2; class 1 has none and
    # gets the larger, 1. Text cosines 0.6, 0.8, 0; s = 10, α = 2: z = (6 + 2, 8 + 2, 0 + 1).
    T, X = [[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]
    clf = TipAdapter(T, classes=[0, 1, 2], alpha=2.0, beta=math.log(2), logit_scale=10.0).fit(X, [0, 2])
    np.testing.assert_allclose(clf.predict_logits([[1.0, 0.0]]), [[8, 10, 1]], rtol=1e-5)
    clf.set_params(class_balance=False).fit(X, [0, 2])
    np.testing.assert_allclose(clf.predict_logits([[1.0, 0.0]]), [[8, 8, 1]], rtol=1e-5)


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(any),
    st.integers(0, 2**20),
    st.floats(0, 10),
    st.floats(0, 10),
    st.booleans(),
)
def test_equals_naive_loops(shots, seed, alpha, beta, class_balance):
    task = make_task(shots, seed=seed, n_queries=5)
    clf = TipAdapter(
        task.T,
        classes=range(len(shots)),
        alpha=alpha,
        beta=beta,
        logit_scale=30.0,
        class_balance=class_balance,
    )
    clf.fit(2 * task.X, task.y)
    expected = naive.tip_adapter(
        naive.unit(task.Xq), naive.unit(task.X), task.y, naive.unit(task.T),
        alpha=alpha, beta=beta, s=30.0, class_balance=class_balance,
    )  # fmt: skip
    np.testing.assert_allclose(clf.predict_logits(3 * task.Xq), expected, rtol=1e-4, atol=1e-3)


def test_views_become_one_key():
    task = make_task((6, 4, 2), seed=2)
    groups = np.array([f"image {i // 2}" for i in range(12)])
    keys, labels = naive.keys_of_groups(task.X, task.y, groups)
    clf = TipAdapter(task.T, alpha=2.0, beta=3.0).fit(task.X, task.y, groups=groups)
    np.testing.assert_allclose(clf.keys_, keys, atol=1e-6)
    expected = naive.tip_adapter(
        naive.unit(task.Xq), keys, labels, naive.unit(task.T), alpha=2.0, beta=3.0, s=100, class_balance=True
    )
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, atol=1e-3)
