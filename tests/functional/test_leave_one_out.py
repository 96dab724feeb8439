"""Unequal shots, classes without images, and images that leave the cache."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import naive

from fewclip.functional import affinity, balance_factors, fill_absent, leave_one_out_sums, shots_per_class


def test_balance_by_hand():
    # shots 4, 1, 0, 1: the mean over classes with images is 2; factors 2/4, 2/1, 1 (no image), 2/1
    y = torch.tensor([0, 0, 0, 0, 1, 3])
    assert shots_per_class(y, 4).tolist() == [4, 1, 0, 1]
    assert balance_factors(y, 4).tolist() == [0.5, 2, 1, 2]
    assert balance_factors(torch.tensor([0, 1, 1, 0]), 2).tolist() == [1, 1]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6).filter(any))
def test_balance_equals_naive(shots):
    y = np.repeat(np.arange(len(shots)), shots)
    np.testing.assert_allclose(
        balance_factors(torch.as_tensor(y), len(shots)), naive.balance_factors(y, len(shots)), rtol=1e-6
    )


def test_absent_classes_get_the_largest_sum_by_hand():
    sums = torch.tensor([[1.0, 0.0, 3.0], [5.0, 0.0, 2.0]])
    present = torch.tensor([True, False, True])
    assert fill_absent(sums, present).tolist() == [[1, 3, 3], [5, 5, 2]]
    assert sums[0, 1] == 0  # the argument stays as it is
    assert fill_absent(sums, torch.tensor([True] * 3)).tolist() == sums.tolist()


@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=1, max_size=5).filter(any))
def test_absent_classes_equal_naive(seed, present):
    sums = np.random.default_rng(seed).uniform(0, 5, (4, len(present)))
    filled = fill_absent(torch.as_tensor(sums), torch.tensor(present))
    np.testing.assert_array_equal(filled, naive.fill_absent(sums, present))


def test_leaving_out_by_hand():
    # Keys 0, 1, 2 of class 0 and 3 of class 1 with the weights 1, 2, 3, 1; values are already weighted.
    # Row of key 1: class 0 keeps 0.5 + 1.5 = 2, scaled by (1+2+3)/(1+3) = 1.5 → 3; class 1: 0.25.
    # Row of key 3, alone in its class: 0 is left of class 1; class 0: 0.5 + 0.5 + 0.5.
    values = torch.tensor([[0.5, 2.0, 1.5, 0.25], [0.5, 0.5, 0.5, 1.0]])
    sums = leave_one_out_sums(
        values,
        torch.tensor([0, 0, 0, 1]),
        2,
        own=torch.tensor([1, 3]),
        key_weights=torch.tensor([1.0, 2, 3, 1]),
    )
    assert sums.tolist() == [[3, 0.25], [1.5, 0]]


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any),
    st.booleans(),
    st.floats(0, 10),
)
def test_leaving_out_equals_removing_and_computing_again(seed, shots, weighted, beta):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(shots)), shots))
    X = naive.unit(rng.normal(size=(len(y), 5)))
    own = rng.integers(len(y), size=6)  # several views of some images, none of others
    rows = naive.unit(X[own] + 0.3 * rng.normal(size=(6, 5)))
    w = rng.uniform(0.5, 2, len(y)) if weighted else np.ones(len(y))
    values = affinity(torch.as_tensor(rows @ X.T), beta=beta) * torch.as_tensor(w)
    sums = leave_one_out_sums(
        values, torch.as_tensor(y), len(shots), own=torch.as_tensor(own), key_weights=torch.as_tensor(w)
    )
    expected = naive.leave_one_out_sums(rows, own, X, y, len(shots), beta, w)
    np.testing.assert_allclose(sums, expected, rtol=1e-8, atol=1e-10)
