"""Affinities by channel: an integral, and sums that are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewclip.functional import affinity_by_channel, unit


def task(seed: int = 0, m: int = 5, d: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = unit(torch.randn(m + 1, d, generator=generator))
    return rows[0], rows[1:]


@pytest.mark.parametrize("beta", [0.0, 0.5, 5.5, 40.0])
def test_rows_add_up(beta):
    query, keys = task()
    cosines = (keys.double() @ query.double()).numpy()
    expected = np.exp(-beta * (1 - cosines)) - np.exp(-beta)
    assert affinity_by_channel(query, keys, beta=beta).sum(1).numpy() == pytest.approx(expected, abs=1e-12)


def test_it_is_the_gradient_integrated_along_the_way():
    query, keys = task(1)
    steps = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    total = torch.zeros(5, 7, dtype=torch.float64)
    for t in steps:
        point = (t * query.double()).requires_grad_()
        for i in range(5):
            value = torch.exp(-3.0 * (1 - keys[i].double() @ point))
            (gradient,) = torch.autograd.grad(value, point)
            total[i] += gradient * query.double() / 300
    assert affinity_by_channel(query, keys, beta=3.0).numpy() == pytest.approx(total.numpy(), abs=1e-5)


def test_a_case_worked_by_hand():
    query, keys = torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    parts = affinity_by_channel(query, keys, beta=2.0)
    assert parts.tolist() == [[pytest.approx(1 - np.exp(-2)), 0], [0, 0]]


def test_channels_that_cancel_are_finite():
    query = torch.tensor([1.0, 1.0]) / 2**0.5
    key = torch.tensor([[1.0, -1.0]]) / 2**0.5
    parts = affinity_by_channel(query, key, beta=4.0)
    slope = 4 * np.exp(-4)
    assert parts.numpy() == pytest.approx(np.array([[slope / 2, -slope / 2]]), abs=1e-5)
