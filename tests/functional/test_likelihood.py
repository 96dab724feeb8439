"""The log-likelihood of logits, its peak, and evened rows: against definitions and a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewclip.functional import best_scale, evened_rows, log_likelihood

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


def test_rows_that_are_all_right_end_at_the_bound():
    y = np.arange(20) % 4
    assert best_scale(*tensors(3.0 * np.eye(4)[y], y, np.ones(20))) <= 8


def test_float32_and_many_tiles(monkeypatch):
    a, _, y, w = problem(500, 5, 1)
    whole = best_scale(*tensors(a, y, w))
    monkeypatch.setattr("fewclip.functional.likelihood._TILE", 64)
    assert best_scale(*tensors(a.astype(np.float32), y, w.astype(np.float32))) == pytest.approx(
        whole, rel=1e-3
    )


def test_an_offset_of_the_logits_means_nothing():
    a, _, y, w = problem(60, 4, 3)
    scale = best_scale(*tensors(a, y, w))
    assert best_scale(*tensors((a + 1000).astype(np.float32), y, w)) == pytest.approx(scale, rel=0.02)


def test_evened_rows_by_hand():
    # Centred (−1, 0, 1) has the standard deviation √(2/3); three classes: the power 1/2.
    rows = evened_rows(torch.tensor([[3.0, 4.0, 5.0], [0.0, 0.0, 0.0]]), spread=1.0)
    np.testing.assert_allclose(rows[0], np.array([-1, 0, 1]) / (2 / 3) ** 0.25, atol=1e-6)
    np.testing.assert_allclose(rows[1], 0)


@given(st.integers(3, 50), st.integers(0, 2**20), st.floats(0.1, 10))
def test_evened_rows_keep_their_order_and_lose_their_size(c, seed, spread):
    z = np.random.default_rng(seed).normal(size=(4, c)) * [[0.5], [1], [2], [4]]
    rows = evened_rows(torch.tensor(z), spread=spread).numpy()
    np.testing.assert_array_equal(rows.argsort(1), z.argsort(1))
    rest = (z.std(1) / spread) ** (1 / (c - 1))
    np.testing.assert_allclose(rows.std(1), spread * rest, rtol=1e-9)


def test_two_classes_have_nothing_but_their_size():
    np.testing.assert_allclose(evened_rows(torch.tensor([[3.0, 1.0]]), spread=9.0), [[1.0, -1.0]])


def test_rows_of_rounding_are_not_blown_up():
    rows = evened_rows(torch.tensor([[0.0, 1e-7, -1e-7] * 5]), spread=1.0)
    assert float(rows.abs().max()) < 1e-3
