"""Training-free APE as an estimator: the published formula, its channels, and its corrections."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.tasks import make_task

from fewclip.methods import APE, TipAdapter


def test_published_logits_and_channels(golden):
    clf = APE(
        golden["text_features"],
        alpha=float(golden["alpha"]),
        beta=float(golden["beta"]),
        gamma=float(golden["gamma"]),
        n_channels=int(golden["n_channels"]),
    )
    clf.fit(golden["support_features"], golden["support_labels"])
    assert (clf.alpha_, clf.beta_, clf.gamma_, clf.n_channels_) == (1.7, 3.3, 0.25, 256)
    assert list(clf.channels_) == golden["ape_channels"].tolist()
    np.testing.assert_allclose(clf.predict_logits(golden["query_features"]), golden["ape_logits"], atol=1e-3)


def test_a_case_worked_by_hand():
    # Text (0.8, 0.6), (−0.8, 0.6), one image each: (0.6, −0.8), (−1, 0). Criterion by channel:
    # class sums (1.4, −1.8) and (−0.2, 0.6): S₀ = ((−0.4)² − 1.4² − 1.8²)/8 < 0, S₁ = (0.4² − 0.2² − 0.6²)/8
    # = −0.03; V₀ = 1.28, V₁ = 0: channel 0 is kept. As in functional/test_refinement: KL is equal for both,
    # w = e^KL with γ = 1, affinities 1 and e^-1 with β = 0.5; s = 10, α = 3.
    T, X = [[0.8, 0.6], [-0.8, 0.6]], [[0.6, -0.8], [-1.0, 0.0]]
    clf = APE(T, alpha=3.0, beta=0.5, gamma=1.0, n_channels=1, logit_scale=10.0).fit(X, [0, 1])
    assert list(clf.channels_) == [0]
    w = math.exp(math.log2((1 + 1e-6) / (math.e / (math.e + 1 / math.e) + 1e-6)))
    np.testing.assert_allclose(clf.predict_logits([[0.6, 0.8]]), [[9.6 + 3 * w, 3 * w / math.e]], rtol=1e-5)


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(any),
    st.integers(0, 2**20),
    st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 1), st.integers(1, 24)),
    st.booleans(),
)
def test_equals_naive_loops(shots, seed, hyper, class_balance):
    task = make_task(shots, seed=seed, n_queries=5)
    alpha, beta, gamma, n_channels = hyper
    clf = APE(
        task.T, classes=range(len(shots)), alpha=alpha, beta=beta, gamma=gamma, n_channels=n_channels,
        logit_scale=30.0, class_balance=class_balance,
    ).fit(2 * task.X, task.y)  # fmt: skip
    f, X, T = naive.unit(task.Xq), naive.unit(task.X), naive.unit(task.T)
    kept = naive.channels(T, n_channels, (0.7, 0.3), X, task.y)
    assert list(clf.channels_) == kept
    expected = naive.ape(
        f, X, task.y, T,
        kept=kept, alpha=alpha, beta=beta, gamma=gamma, s=30.0, class_balance=class_balance,
    )  # fmt: skip
    # float32 keys of one channel are ±1: errors grow with the size of the term only
    np.testing.assert_allclose(clf.predict_logits(3 * task.Xq), expected, rtol=1e-3, atol=1e-3)


def test_number_of_channels_as_count_and_as_fraction():
    task = make_task()
    fixed = {"alpha": 1.0, "beta": 1.0, "gamma": 0.1}
    for n_channels, kept in ((6, 6), (0.25, 6), (1.0, 24), (1, 1), (24, 24)):
        clf = APE(task.T, n_channels=n_channels, **fixed).fit(task.X, task.y)
        assert len(clf.channels_) == clf.n_channels_ == kept, n_channels


def test_numpy_numbers_are_numbers():
    # GridSearchCV over np.arange or np.geomspace passes these.
    task = make_task()
    clf = APE(task.T, n_channels=np.int64(6), alpha=np.float32(0.5), beta=np.int64(2), gamma=np.float64(0))
    clf.fit(task.X, task.y)
    assert (clf.n_channels_, clf.alpha_, clf.beta_, clf.gamma_) == (6, 0.5, 2.0, 0.0)


def test_criterion_weights_choose_the_channels():
    task = make_task()
    T, X = naive.unit(task.T), naive.unit(task.X)
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.2, 0.8)):
        clf = APE(task.T, n_channels=8, criterion_weights=weights, selection="none").fit(task.X, task.y)
        assert list(clf.channels_) == naive.channels(T, 8, weights, X, task.y)


def test_all_channels_without_divergence_are_tip_adapter():
    task = make_task((1, 5, 0, 3))
    ape = APE(task.T, classes=range(4), alpha=2.0, beta=4.0, gamma=0.0, n_channels=1.0).fit(task.X, task.y)
    tip = TipAdapter(task.T, classes=range(4), alpha=2.0, beta=4.0).fit(task.X, task.y)
    np.testing.assert_allclose(ape.predict_logits(task.Xq), tip.predict_logits(task.Xq), atol=1e-4)


def test_a_channel_that_is_zero_everywhere_does_no_harm():
    # A key whose kept channels are all zero has no direction there; nothing may become NaN.
    task = make_task(d=8)
    X, T = task.X.copy(), task.T.copy()
    X[0, 1:] = 0.0
    T[:, :] = np.round(T, 1)
    clf = APE(T, n_channels=2).fit(X, task.y)
    assert np.isfinite(clf.predict_logits(task.Xq)).all()
    assert np.isfinite(clf.predict_logits(np.eye(8))).all()


def test_views_become_one_key_before_channels_are_chosen():
    task = make_task((6, 4, 2), seed=2)
    groups = np.arange(12) // 2
    keys, labels = naive.keys_of_groups(task.X, task.y, groups)
    fixed = {"alpha": 2.0, "beta": 3.0, "gamma": 0.2, "n_channels": 10}
    views = APE(task.T, **fixed).fit(task.X, task.y, groups=groups)
    means = APE(task.T, **fixed).fit(keys, labels)
    assert list(views.channels_) == list(means.channels_)
    assert list(views.channels_) == naive.channels(naive.unit(task.T), 10, (0.7, 0.3), keys, labels)
    assert views.predict_logits(task.Xq) == pytest.approx(means.predict_logits(task.Xq), abs=1e-4)
