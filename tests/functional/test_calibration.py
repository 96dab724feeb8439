"""Calibration: temperature and evenness, zero-shot's range, and what few labels do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewclip.functional import (
    Calibration,
    best_calibration,
    best_temperature,
    held_to_range,
)


def made_up(n=400, c=5, temperature=1.0, seed=0):
    """Logits, and labels drawn from softmax(z / temperature)."""
    rng = np.random.default_rng(seed)
    z = torch.as_tensor(rng.normal(0, 3, (n, c)), dtype=torch.float32)
    p = torch.softmax(z.double() / temperature, 1)
    y = (torch.as_tensor(rng.random(n))[:, None] > p.cumsum(1)).sum(1).clamp(max=c - 1)
    return z, y, torch.ones(n)


def naive_loss(z, y, w, t, prior):
    z, total = z.numpy().astype(float) / t, 0.0
    for i in range(len(z)):
        total -= float(w[i]) * (z[i, int(y[i])] - np.log(np.exp(z[i]).sum()))
    return total + prior / 2 * np.log(t) ** 2


@pytest.mark.parametrize("prior", [0.0, 4.0])
def test_the_temperature_is_the_minimum_of_the_naive_loss(prior):
    z, y, w = made_up(60, temperature=2.0)
    w = w * torch.linspace(0.5, 1.5, 60)
    t = best_temperature(z, y, w, prior=prior)
    grid = np.geomspace(t / 2, t * 2, 201)
    losses = [naive_loss(z, y, w, g, prior) for g in grid]
    assert abs(np.log(grid[int(np.argmin(losses))] / t)) < 0.01


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true):
    assert best_temperature(*made_up(4000, temperature=true)) == pytest.approx(true, rel=0.1)


def test_few_labels_stay_near_one_and_many_do_not():
    z, y, w = made_up(4, temperature=8.0)
    few, many = best_temperature(z, y, w), best_temperature(z.repeat(100, 1), y.repeat(100), w.repeat(100))
    assert abs(np.log(few)) < abs(np.log(many))
    right = torch.tensor([[5.0, 0.0]] * 3)  # all right: without a prior T would be 0
    labels = torch.zeros(3, dtype=torch.int64)
    assert 0.1 < best_temperature(right, labels, torch.ones(3)) < 1


def test_nothing_known_gives_the_encoders_scale():
    empty = torch.empty(0, 3), torch.empty(0, dtype=torch.int64), torch.empty(0)
    assert best_temperature(*empty) == 1


def test_rows_that_are_too_large_are_evened_and_keep_their_order():
    z, y, w = made_up(600)
    size = torch.where(torch.arange(600) % 2 == 0, 1.0, 20.0)[:, None]
    found = best_calibration(z * size, y, w, n_images=600)
    assert found.evenness == 1
    scaled = found.scaled(z * size)
    torch.testing.assert_close(torch.argsort(scaled, 1), torch.argsort(z, 1))
    plain = Calibration(best_temperature(z * size, y, w))
    losses = [
        -torch.log_softmax(f.scaled(z * size).double(), 1).gather(1, y[:, None]).mean()
        for f in (found, plain)
    ]
    assert losses[0] < losses[1] - 0.1


def test_two_classes_have_nothing_but_their_size():
    z, y, w = made_up(50, c=2)
    assert best_calibration(z, y, w, n_images=50).evenness == 0


def test_a_row_held_to_a_range_by_hand():
    z = torch.tensor([[0.0, 5.0, 10.0], [2.0, 2.0, 2.0]])
    held = held_to_range(z, torch.tensor([20.0, 1.0]), torch.tensor([24.0, 3.0]))
    torch.testing.assert_close(held, torch.tensor([[20.0, 22.0, 24.0], [1.0, 1.0, 1.0]]))
