"""Tip-X as an estimator: inductive, unlike the published code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.tasks import make_task

from fewclip.errors import ParameterError
from fewclip.methods import TipAdapter, TipX


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=4).filter(any),
    st.integers(0, 2**20),
    st.floats(0.1, 10),
    st.floats(0, 10),
    st.floats(0, 5),
    st.floats(0.1, 2),
)
def test_equals_naive_loops(shots, seed, alpha, beta, gamma, temperature):
    task = make_task(shots, seed=seed, n_queries=4)
    clf = TipX(
        task.T, classes=range(len(shots)), alpha=alpha, beta=beta, gamma=gamma, temperature=temperature,
        logit_scale=30.0, class_balance=False,
    ).fit(task.X, task.y)  # fmt: skip
    f, X, T = (naive.unit(a) for a in (task.Xq, task.X, task.T))
    expected = naive.tip_x(f, X, task.y, T, alpha=alpha, beta=beta, gamma=gamma, tau=temperature, s=30)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-3, atol=1e-2)


def test_a_case_worked_by_hand():
    # Text e1, e2; keys e1 (class 0), e2 (class 1), and τ = 1/ln 3: p(e1) = (3/4, 1/4), p(e2) = (1/4, 3/4).
    # Both pairs of different keys diverge by D = 3/4 ln 3 − 1/4 ln 3 = ln 3 / 2 and have cosine 0: neither
    # range has a width, so the affinity is 0 and Tip-Adapter remains.
    T, X = np.eye(2), np.eye(2)
    clf = TipX(T, alpha=2.0, beta=1.0, gamma=5.0, temperature=1 / math.log(3), logit_scale=10.0)
    clf.fit(X, [0, 1])
    assert clf.source_range_ == pytest.approx((math.log(3) / 2, math.log(3) / 2))
    assert clf.target_range_ == (0.0, 0.0)
    np.testing.assert_allclose(clf.predict_logits([[1.0, 0.0]]), [[12, 2 / math.e]], rtol=1e-5)
    # With a third key that repeats e1: pairs of equal keys have D = 0 and cosine 1. ψ maps 0 … ln 3/2 onto
    # 0 … 1, so the query e1 has the affinity −0 to both e1, −1 to e2: class sums (0, −1), balanced by
    # (3/4, 3/2). z = 10 + 2·(3/4)·2 + 0, and 2·(3/2)/e − 5·(3/2).
    clf.fit([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    np.testing.assert_allclose(clf.predict_logits([[1.0, 0.0]]), [[13, 3 / math.e - 7.5]], rtol=1e-5)


def test_one_key_has_no_range():
    task = make_task((1,), n_queries=5)
    one = TipX(task.T, alpha=2.0, beta=3.0, gamma=4.0).fit(task.X, task.y)
    other = TipAdapter(task.T, alpha=2.0, beta=3.0).fit(task.X, task.y)
    np.testing.assert_allclose(one.predict_logits(task.Xq), other.predict_logits(task.Xq), atol=1e-4)


def test_settings_in_use_give_the_published_formula():
    task = make_task((4, 4, 4), noise=2.5, text_noise=2.5, n_queries=10)
    clf = TipX(task.T).fit(task.X, task.y)
    fixed = TipX(task.T, alpha=clf.alpha_ or 1.0, beta=clf.beta_, gamma=clf.gamma_).fit(task.X, task.y)
    if clf.alpha_:
        np.testing.assert_allclose(clf.predict_logits(task.Xq), fixed.predict_logits(task.Xq), atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"gamma": 1.0}, {"gamma": 1.0, "alpha": 0.0}, {"temperature": 0}, {"temperature": "auto"}]
)
def test_wrong_parameters_are_named(wrong):
    task = make_task((2, 2))
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        TipX(task.T, **wrong).fit(task.X, task.y)


def test_on_real_features_it_is_no_worse_than_tip_adapter(caltech):
    data = caltech["train_features"], caltech["train_labels"]
    val = caltech["val_features"], caltech["val_labels"]
    scores = [Method(caltech["text_features"]).fit(*data).score(*val) for Method in (TipX, TipAdapter)]
    assert scores[0] >= scores[1] - 0.005
