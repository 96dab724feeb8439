"""CLIP-Adapter, Tip-X and APE-T as functions: published outputs, naive loops, hand-worked cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive

from fewclip.functional import (
    ape_t_logits,
    class_sums,
    clip_adapter_logits,
    tip_adapter_logits,
    tip_x_affinity,
    tip_x_divergence,
)

pytestmark = pytest.mark.usefixtures("one_thread")
sizes = st.tuples(*(st.integers(1, 6) for _ in range(4)), st.integers(0, 2**20))


@pytest.fixture
def published(golden):
    return {key: torch.as_tensor(value) for key, value in golden.items()}


def problem(n, m, c, d, seed):
    rng = np.random.default_rng(seed)
    f, X, T = (naive.unit(rng.normal(size=(rows, d + 1))) for rows in (n, m, c))
    return rng, f, X, rng.integers(0, c, m), T


def test_published_clip_adapter(published):
    z = clip_adapter_logits(
        published["query_features"],
        published["text_features"],
        published["clip_adapter_down"],
        published["clip_adapter_up"],
        ratio=float(published["clip_adapter_ratio"]),
        logit_scale=100.0,
    )
    np.testing.assert_allclose(z, published["clip_adapter_logits"], atol=1e-3)


def test_published_tip_x_with_its_transductive_ranges(published):
    f, X, y, T = (
        published[k] for k in ("query_features", "support_features", "support_labels", "text_features")
    )
    divergence = tip_x_divergence(f, X, T, temperature=float(published["tip_x_temperature"]))
    np.testing.assert_allclose(divergence, published["tip_x_kl"], atol=1e-6)
    cosines = f @ X.T
    affinity = tip_x_affinity(
        divergence,
        source_range=(float(divergence.min()), float(divergence.max())),
        target_range=(float(cosines.min()), float(cosines.max())),
    )
    np.testing.assert_allclose(affinity, published["tip_x_affinity_transductive"], atol=1e-4)
    alpha, beta = float(published["alpha"]), float(published["beta"])
    z = tip_adapter_logits(f, X, y, T, alpha=alpha, beta=beta, logit_scale=100.0)
    z = z + float(published["tip_x_gamma"]) * class_sums(affinity, y, len(T))
    np.testing.assert_allclose(z, published["tip_x_logits_transductive"], atol=1e-3)


def test_published_ape_t_with_its_gradients(published):
    residual = published["ape_t_residual"].clone().requires_grad_()
    weights = published["ape_t_value_weights"].clone().requires_grad_()
    z = ape_t_logits(
        published["query_features"],
        published["support_features"],
        published["support_labels"],
        published["text_features"],
        channels=published["ape_t_channels"],
        residual=residual,
        value_weights=weights,
        alpha=float(published["alpha"]),
        beta=float(published["beta"]),
        logit_scale=100.0,
    )
    np.testing.assert_allclose(z.detach(), published["ape_t_logits"], atol=1e-3)
    loss = torch.nn.functional.cross_entropy(z, published["query_labels"])
    assert float(loss.detach()) == pytest.approx(float(published["ape_t_loss"]), abs=1e-6)
    loss.backward()
    for parameter, name in ((residual, "ape_t_residual_grad"), (weights, "ape_t_value_weights_grad")):
        largest = float(published[name].abs().max())
        np.testing.assert_allclose(parameter.grad, published[name], atol=1e-4 * largest)


@settings(max_examples=25)
@given(sizes, st.floats(0, 0.99) | st.just(1.0), st.integers(1, 4))
def test_clip_adapter_equals_naive_loops(size, ratio, hidden):
    rng, f, _, _, T = problem(*size)
    down, up = rng.normal(size=(hidden, f.shape[1])), rng.normal(size=(f.shape[1], hidden))
    expected = naive.clip_adapter(f, T, down, up, ratio, 10.0)
    f, T, down, up = map(torch.as_tensor, (f, T, down, up))
    z = clip_adapter_logits(f, T, down, up, ratio=ratio, logit_scale=10.0)
    np.testing.assert_allclose(z, expected, atol=1e-9)


@settings(max_examples=25)
@given(sizes, st.floats(0.05, 5), st.floats(-1, 1), st.floats(-1, 1))
def test_tip_x_equals_naive_loops(size, temperature, low, high):
    _, f, X, _, T = problem(*size)
    expected = naive.tip_x_divergence(f, X, T, temperature)
    divergence = tip_x_divergence(*map(torch.as_tensor, (f, X, T)), temperature=temperature)
    np.testing.assert_allclose(divergence, expected, atol=1e-12)
    source = (float(expected.min()), float(expected.max()))
    affinity = tip_x_affinity(torch.as_tensor(expected), source_range=source, target_range=(low, high))
    np.testing.assert_allclose(affinity, naive.tip_x_affinity(expected, source, (low, high)), atol=1e-9)


@settings(max_examples=25)
@given(sizes, st.floats(0, 3), st.floats(0, 3))
def test_ape_t_equals_naive_loops(size, alpha, beta):
    rng, f, X, y, T = problem(*size)
    channels = rng.permutation(f.shape[1])[: rng.integers(1, f.shape[1] + 1)]
    R, v = 0.1 * rng.normal(size=(len(T), len(channels))), rng.uniform(0, 2, len(X))
    expected = naive.ape_t(f, X, y, T, channels, R, v, alpha, beta, 10.0)
    f, X, y, T, channels, R, v = map(torch.as_tensor, (f, X, y, T, channels, R, v))
    z = ape_t_logits(
        f, X, y, T, channels=channels, residual=R, value_weights=v, alpha=alpha, beta=beta, logit_scale=10.0
    )
    np.testing.assert_allclose(z, expected, atol=1e-9)


def test_clip_adapter_worked_by_hand():
    # f = (0.6, 0.8); A↓ = (1, 0), (−1, 0): h = relu(0.6, −0.6) = (0.6, 0). A↑ = I: relu gives (0.6, 0).
    # r = 0.5: g = 0.5·(0.6, 0) + 0.5·(0.6, 0.8) = (0.6, 0.4), norm √0.52; T = I, s = 10.
    f, eye = torch.tensor([[0.6, 0.8]]), torch.eye(2)
    z = clip_adapter_logits(f, eye, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), eye, ratio=0.5, logit_scale=10.0)
    np.testing.assert_allclose(z, [[6 / math.sqrt(0.52), 4 / math.sqrt(0.52)]], rtol=1e-6)


def test_tip_x_worked_by_hand():
    # T = I, τ = 1 / ln 3. f = (1, 0): p = (3, 1)/4; X = (0, 1): p = (1, 3)/4.
    # KL = ¾ ln 3 + ¼ ln ⅓ = ½ ln 3. ψ maps (0, ln 3) onto (0.2, 0.8): −ψ(½ ln 3) = −0.5.
    f, X = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    divergence = tip_x_divergence(f, X, torch.eye(2), temperature=1 / math.log(3))
    np.testing.assert_allclose(divergence, [[0.5 * math.log(3), 0.0]], atol=1e-7)
    affinity = tip_x_affinity(divergence, source_range=(0.0, math.log(3)), target_range=(0.2, 0.8))
    np.testing.assert_allclose(affinity, [[-0.5, -0.2]], atol=1e-7)
    assert tip_x_affinity(divergence, source_range=(1.0, 1.0), target_range=(0.2, 0.8)).eq(0).all()
