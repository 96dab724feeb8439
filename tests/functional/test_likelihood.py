"""The log-likelihood of a mix of logits, and its peak: against definitions, SciPy and a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fewclip.functional import best_mix, best_scale, log_likelihood

pytestmark = pytest.mark.usefixtures("one_thread")


def problem(n, c, seed, informative=1.0):
    """Noisy A and B of which both know the labels somewhat; weights that differ."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, c, n)
    truth = np.eye(c)[y]
    a, b = (rng.normal(size=(n, c)) + informative * truth for _ in range(2))
    return a, b, y, rng.uniform(0.2, 2, n)


def naive(z, y):
    shifted = [row - max(row) for row in z]
    return np.array([r[k] - math.log(sum(math.exp(v) for v in r)) for r, k in zip(shifted, y, strict=True)])


def tensors(*arrays):
    return tuple(torch.as_tensor(x) for x in arrays)


def test_two_classes_by_hand():
    # z = (2, 0): p = e²/(e² + 1) = 0.8808, log p = −0.1269; the other class −2.1269.
    z = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(log_likelihood(z, torch.tensor([0, 1])), [-0.12693, -2.12693], atol=1e-5)


def test_the_best_scale_of_two_classes_by_hand():
    # Three of four rows with logits (1, 0) are of class 0: p = 3/4 at u = log 3.
    z = torch.tensor([[1.0, 0.0]] * 4)
    u = best_scale(z, torch.tensor([0, 0, 0, 1]), torch.ones(4))
    assert u == pytest.approx(math.log(3), rel=1e-2)


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**20))
def test_log_likelihood_is_its_definition(n, c, seed):
    a, _, y, _ = problem(n, c, seed)
    np.testing.assert_allclose(log_likelihood(*tensors(a, y)), naive(a, y), atol=1e-12)


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 2**20), st.floats(0.05, 8))
def test_no_scale_of_a_grid_is_better(n, c, seed, start):
    a, _, y, w = problem(n, c, seed)
    u = best_scale(*tensors(a, y, w), start=start)
    assert 1 / 32 <= u <= 8
    value = (w * naive(u * a, y)).sum()
    best = max((w * naive(v * a, y)).sum() for v in np.geomspace(1 / 32, 8, 200))
    assert value >= best - 1e-4 * w.sum()


@settings(max_examples=40)
@given(st.integers(3, 40), st.integers(2, 6), st.integers(0, 2**20), st.floats(0.1, 4), st.floats(0, 4))
def test_the_best_mix_is_scipys(n, c, seed, u, v):
    a, b, y, w = problem(n, c, seed)
    found = best_mix(*tensors(a, b, y, w), start=(u, v))
    bounds = [(1 / 32, 8), (0, 8192)]
    reference = minimize(lambda p: -(w * naive(p[0] * a + p[1] * b, y)).sum(), (1, 1), bounds=bounds)
    value = (w * naive(found[0] * a + found[1] * b, y)).sum()
    assert value >= -reference.fun - 1e-4 * w.sum()
    assert all(low <= x <= high for x, (low, high) in zip(found, bounds, strict=True))


def test_a_term_that_says_nothing_or_lies_gets_no_weight():
    a, b, y, w = problem(200, 4, 0)
    assert best_mix(*tensors(a, np.zeros_like(b), y, w))[1] <= 1.0
    assert best_mix(*tensors(a, -b, y, w))[1] == 0.0
    assert best_mix(*tensors(-a, b, y, w))[0] == 1 / 32


def test_rows_that_are_all_right_end_at_the_bound_or_where_nothing_is_gained():
    y = np.arange(20) % 4
    z = 3.0 * np.eye(4)[y]
    u, v = best_mix(*tensors(z, z, y, np.ones(20)))
    assert float(log_likelihood(torch.as_tensor((u + v) * z), torch.as_tensor(y)).mean()) > -1e-4
    assert best_scale(*tensors(z, y, np.ones(20))) <= 8


def test_float32_and_many_tiles(monkeypatch):
    a, b, y, w = problem(500, 5, 1)
    whole = best_mix(*tensors(a, b, y, w))
    monkeypatch.setattr("fewclip.functional.likelihood._TILE", 64)
    tiled = best_mix(*tensors(*(x.astype(np.float32) for x in (a, b)), y, w.astype(np.float32)))
    np.testing.assert_allclose(tiled, whole, rtol=1e-3)


def test_an_offset_of_the_logits_means_nothing():
    a, b, y, w = problem(60, 4, 3)
    expected = best_mix(*tensors(a, b, y, w))
    far = (x.astype(np.float32) for x in (a + 1000, b - 3000))
    np.testing.assert_allclose(best_mix(*tensors(*far, y, w)), expected, rtol=0.05, atol=0.05)
    scale = best_scale(*tensors(a, y, w))
    assert best_scale(*tensors((a + 1000).astype(np.float32), y, w)) == pytest.approx(scale, rel=0.02)
