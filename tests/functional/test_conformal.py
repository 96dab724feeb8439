"""Conformal scores, their quantile, and answers with a guarantee, against loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fewclip.functional.conformal import (
    Regularised,
    conformal_quantile,
    labels_needed,
    places,
    row_numbers,
)
from fewclip.functional.selective import (
    answers_needed,
    binomial_upper_bound,
    risk_coverage,
    safe_threshold,
)


@pytest.mark.parametrize(("coverage", "n"), [(0.95, 19), (0.9, 9), (0.99, 99), (0.5, 1)])
def test_labels_needed(coverage, n):
    assert labels_needed(coverage) == n
    assert conformal_quantile(torch.rand(n), coverage) < math.inf
    assert conformal_quantile(torch.rand(n - 1), coverage) == math.inf


def test_the_quantile_by_hand():
    scores = torch.tensor([0.3, 0.1, 0.2, 0.4, 0.6, 0.5, 0.7, 0.9, 0.8])
    assert conformal_quantile(scores, 0.5) == pytest.approx(0.5)  # the 5th of 9
    assert conformal_quantile(scores, 0.9) == pytest.approx(0.9)  # the 9th


def test_places_and_raps_against_loops():
    p = np.random.default_rng(0).dirichlet(np.ones(6), 20)
    above, rank = places(torch.as_tensor(p))
    rule = Regularised(penalty=0.1, free=2)
    for i in range(20):
        for y in range(6):
            larger = [p[i, j] for j in range(6) if p[i, j] > p[i, y]]
            assert float(above[i, y]) == pytest.approx(sum(larger))
            assert int(rank[i, y]) == len(larger) + 1
            expected = sum(larger) + 0.3 * p[i, y] + 0.1 * max(0, len(larger) + 1 - 2)
            got = rule.score(torch.as_tensor(p[i, y]), above[i, y], rank[i, y].double(), torch.tensor(0.3))
            assert float(got) == pytest.approx(expected)


def test_row_numbers_are_even_and_of_the_row_alone():
    z = torch.as_tensor(np.random.default_rng(0).normal(0, 3, (4000, 7)), dtype=torch.float32)
    u = row_numbers(z)
    assert bool(((u >= 0) & (u < 1)).all())
    assert np.abs(np.histogram(u, 10, (0, 1))[0] / 4000 - 0.1).max() < 0.03
    torch.testing.assert_close(row_numbers(z[17:18]), u[17:18])


def test_the_bound_is_clopper_and_pearsons():
    assert binomial_upper_bound(0, 45, 0.1) == pytest.approx(1 - 0.1 ** (1 / 45))
    assert binomial_upper_bound(3, 3, 0.1) == 1
    assert answers_needed(0.05, 0.1) == 45
    bound = binomial_upper_bound(4, 80, 0.1)
    assert sum(math.comb(80, k) * bound**k * (1 - bound) ** (80 - k) for k in range(5)) == pytest.approx(0.1)


def test_answers_fail_in_at_most_their_share():
    rng = np.random.default_rng(0)
    top = rng.beta(2, 1, 20000)
    right = rng.random(20000) < top  # surer is more often right
    failed, answered = 0, []
    for _ in range(500):
        chosen = rng.permutation(20000)[:300]
        t = safe_threshold(torch.as_tensor(top[chosen]), torch.as_tensor(right[chosen]), risk=0.2, delta=0.1)
        rest = np.delete(np.arange(20000), chosen)
        kept = top[rest] > t
        answered.append(kept.mean())
        failed += kept.any() and (~right[rest][kept]).mean() > 0.2
    assert failed / 500 <= 0.1 + 2 * math.sqrt(0.09 / 500)
    assert np.mean(answered) > 0.2  # of at most 0.36: it is above 0.6 that 0.8 of the answers are right


def test_risk_and_coverage_by_hand():
    share, risk = risk_coverage(torch.tensor([0.5, 0.9, 0.7]), torch.tensor([False, True, True]))
    np.testing.assert_allclose(share, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3])
