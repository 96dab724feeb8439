"""Prior refinement and training-free APE."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import naive

from fewclip.functional import (
    ape_logits,
    inter_class_similarity,
    inter_class_variance,
    key_divergence,
    refine_channels,
    refinement_criterion,
)

seeds = st.integers(0, 2**32 - 1)


def random_rows(seed, shots, d):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(shots)), shots))
    return naive.unit(rng.normal(size=(len(shots), d))), naive.unit(rng.normal(size=(len(y), d))), y


def tensors(*arrays):
    return [torch.as_tensor(a) for a in arrays]


@pytest.fixture
def published(golden):
    return tensors(*(golden[k] for k in ("text_features", "support_features", "support_labels")))


def test_published_similarity(golden, published):
    T, X, y = published
    np.testing.assert_allclose(inter_class_similarity(T), golden["similarity_text"], atol=1e-6)
    np.testing.assert_allclose(
        inter_class_similarity(T, X, y), golden["similarity_text_and_support"], atol=1e-6
    )


def test_published_channels_in_their_order(golden, published):
    T, X, y = published
    n = int(golden["n_channels"])
    channels = refine_channels(T, n, weights=(0.7, 0.3), support_features=X, support_labels=y)
    assert channels.dtype == torch.int64
    assert channels.tolist() == golden["ape_channels"].tolist()
    assert refine_channels(T, n, weights=(0.2, 0.8)).tolist() == golden["ape_t_channels"].tolist()


def test_published_ape_logits(golden, published):
    T, X, y = published
    z = ape_logits(
        torch.as_tensor(golden["query_features"]), X, y, T,
        channels=torch.as_tensor(golden["ape_channels"]),
        alpha=float(golden["alpha"]), beta=float(golden["beta"]), gamma=float(golden["gamma"]),
        logit_scale=100.0,
    )  # fmt: skip
    np.testing.assert_allclose(z, golden["ape_logits"], atol=1e-3)


def test_similarity_and_variance_worked_by_hand():
    # Channel 0 of the text rows: 1, 2, 4. Ordered pairs of different classes:
    # 2·(1·2 + 1·4 + 2·4)/6 = 28/6 = 14/3; closed form: (7² − (1 + 4 + 16))/(9 − 3) = 28/6.
    # Channel 1: 1, 0, 0 → 0. Variance of channel 0: mean 7/3, (16/9 + 1/9 + 25/9)/2 = 7/3; channel 1: 1/3.
    T = torch.tensor([[1.0, 1.0], [2.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(inter_class_similarity(T), [14 / 3, 0], atol=1e-12)
    np.testing.assert_allclose(inter_class_variance(T), [7 / 3, 1 / 3], rtol=1e-12)
    # J = −0.7 S + 0.3 V = (−49/15 + 7/10, 1/10): channel 1 first
    J = refinement_criterion(T, weights=(0.7, 0.3))
    np.testing.assert_allclose(J, [-49 / 15 + 0.7, 0.1], rtol=1e-12)
    assert refine_channels(T, 2, weights=(0.7, 0.3)).tolist() == [1, 0]
    assert refine_channels(T, 1, weights=(0.7, 0.3)).tolist() == [1]
    # One support row (3, 3) of class 0: class sums of channel 0 are 4, 2, 4 from 2, 1, 1 rows:
    # (10² − 36)/(16 − 6) = 6.4; of channel 1: 4, 0, 0 → 0
    X, y = torch.tensor([[3.0, 3.0]], dtype=torch.float64), torch.tensor([0])
    np.testing.assert_allclose(inter_class_similarity(T, X, y), [6.4, 0], atol=1e-12)


def test_one_class_has_no_pairs():
    T = torch.tensor([[0.6, 0.8]])
    assert inter_class_similarity(T).tolist() == [0, 0]
    assert inter_class_similarity(T, T, torch.tensor([0])).tolist() == [0, 0]
    assert inter_class_variance(T).tolist() == [0, 0]
    assert sorted(refine_channels(T, 2, weights=(0.7, 0.3)).tolist()) == [0, 1]


@given(seeds, st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(1, 8))
def test_closed_form_equals_all_pairs(seed, shots, d):
    T, X, y = random_rows(seed, shots, d)
    np.testing.assert_allclose(
        inter_class_similarity(torch.as_tensor(T)), naive.inter_class_similarity(T), atol=1e-12
    )
    if len(y):
        S = inter_class_similarity(*tensors(T, X, y))
        np.testing.assert_allclose(S, naive.inter_class_similarity(T, X, y), atol=1e-12)
    np.testing.assert_allclose(
        inter_class_variance(torch.as_tensor(T)), naive.inter_class_variance(T), atol=1e-12
    )


@given(
    seeds,
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.integers(2, 9),
    st.floats(0, 1),
    st.booleans(),
)
def test_channels_fall_by_the_naive_criterion(seed, shots, d, w0, support):
    T, X, y = random_rows(seed, shots, d)
    n, w = d // 2 + 1, (w0, 1 - w0)
    options = dict(zip(("support_features", "support_labels"), tensors(X, y), strict=True)) if support else {}
    J = naive.criterion(T, w, *((X, y) if support else ()))
    np.testing.assert_allclose(refinement_criterion(torch.as_tensor(T), weights=w, **options), J, atol=1e-12)
    kept = refine_channels(torch.as_tensor(T), n, weights=w, **options)
    assert kept.tolist() == naive.channels(T, n, w, *((X, y) if support else ()))


def test_divergence_worked_by_hand():
    # The key's cosines with two texts are 1 and 0: p_own = e/(e + 1) = 0.7310586,
    # KL = log2((1 + 1e-6)/(0.7310586 + 1e-6)) = 0.45194 bits; the other label: p = 0.2689414, 1.89463 bits.
    X, T = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    p = math.e / (math.e + 1)
    expected = [math.log2((1 + 1e-6) / (q + 1e-6)) for q in (p, 1 - p)]
    np.testing.assert_allclose(expected, [0.45194, 1.89463], atol=1e-5)
    np.testing.assert_allclose(key_divergence(X, torch.tensor([0, 1]), T), expected, rtol=1e-10)


def test_ape_worked_by_hand():
    # Channel 0 alone is kept: f′ = 1, X′ = (1, −1), T′ = (1, −1) for the classes 0 and 1.
    # Both keys: p_own = e/(e + 1/e), the same KL; γ = 1: weight w = 2^(KL·log2(e)) = e^KL.
    # Affinities with β = 0.5: e^0 and e^-1. B = (w, w/e); text: s·(0.6·0.8, −0.6·0.8) + s·0.8·0.6·(1, 1).
    f = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    T = torch.tensor([[0.8, 0.6], [-0.8, 0.6]], dtype=torch.float64)
    X, y = torch.tensor([[0.6, -0.8], [-1.0, 0.0]], dtype=torch.float64), torch.tensor([0, 1])
    w = math.exp(math.log2((1 + 1e-6) / (math.e / (math.e + 1 / math.e) + 1e-6)))
    z = ape_logits(f, X, y, T, channels=torch.tensor([0]), alpha=3.0, beta=0.5, gamma=1.0, logit_scale=10.0)
    np.testing.assert_allclose(z, [[9.6 + 3 * w, 3 * w / math.e]], atol=1e-10)


@given(
    seeds,
    st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any),
    st.integers(1, 8),
    st.tuples(st.floats(0, 20), st.floats(0, 10), st.floats(0, 2)),
)
def test_ape_equals_naive_loops(seed, shots, d, hyper):
    T, X, y = random_rows(seed, shots, d)
    rng = np.random.default_rng(seed)
    f, kept = naive.unit(rng.normal(size=(3, d))), rng.permutation(d)[: d // 2 + 1]
    alpha, beta, gamma = hyper
    z = ape_logits(
        *tensors(f, X, y, T),
        channels=torch.as_tensor(kept),
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        logit_scale=20.0,
    )
    expected = naive.ape(f, X, y, T, kept=kept, alpha=alpha, beta=beta, gamma=gamma, s=20.0)
    np.testing.assert_allclose(z, expected, rtol=1e-8, atol=1e-8)


def test_gradients_flow_through_ape():
    T, X, y = random_rows(0, (2, 3), 4)
    f, X, y, T = tensors(naive.unit(np.random.default_rng(1).normal(size=(3, 4))), X, y, T)
    inputs = [t.requires_grad_() for t in (f, X, T)]
    assert torch.autograd.gradcheck(
        lambda f, X, T: ape_logits(
            f, X, y, T, channels=torch.tensor([2, 0]), alpha=1.5, beta=1.0, gamma=0.5, logit_scale=3.0
        ),
        inputs,
    )
