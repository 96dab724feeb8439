"""The exact α, against counting at every breakpoint and between them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.memory import peak_growth

from fewclip.functional import best_alpha, spread, winning_intervals


def best(A, B, y):
    alpha, n_correct = best_alpha(torch.as_tensor(A), torch.as_tensor(B), torch.as_tensor(y))
    assert isinstance(alpha, float)
    assert isinstance(n_correct, int)
    return alpha, n_correct


def strictly_right(A, B, y, alpha):
    z = np.asarray(A, np.float64) + alpha * np.asarray(B, np.float64)
    own = z[np.arange(len(y)), y]
    z[np.arange(len(y)), y] = -np.inf
    return int((own > z.max(1)).sum())


def mean_spread(logits):
    return float(
        np.mean([math.sqrt(np.mean((row - np.mean(row)) ** 2)) for row in np.asarray(logits, float)])
    )


def brute_force(A, B, y):
    """Largest strict count over all α ≥ 0 for a stack of integer problems (k, n, c) with |values| ≤ 3.

    Differences of cache logits are at most 6, so every breakpoint is a multiple of 1/60 and every middle of
    two a multiple of 1/120: the comparison is exact in integers.
    """
    k, n, c = A.shape
    own = y[:, :, None]
    lead, gain = A - np.take_along_axis(A, own, 2), np.take_along_axis(B, own, 2) - B
    crossing = np.where(gain == 0, 0, lead * 60 // np.where(gain == 0, 1, gain)).reshape(k, n * c)
    ends = np.sort(np.concatenate([np.zeros((k, 1), int), crossing.clip(min=0)], 1), 1)
    middles = np.concatenate([ends[:, 1:] + ends[:, :-1], 2 * ends[:, -1:] + 120], 1)
    most = np.zeros(k, int)
    for alphas in np.concatenate([2 * ends, middles], 1).T:  # in units of 1/120
        z = 120 * A + alphas[:, None, None] * B
        mine = np.take_along_axis(z, own, 2)
        rivals = z.copy()
        np.put_along_axis(rivals, own, np.iinfo(int).min, 2)
        most = np.maximum(most, (mine > rivals).all(2).sum(1))
    return most


def integer_problems(rng, k, n, c, reach):
    A, B = (rng.integers(-reach, reach + 1, (k, n, c)) for _ in range(2))
    y = rng.integers(c, size=(k, n))
    if n > 1:  # equal rows, and rows where the cache says nothing
        A[::3, 1], B[::3, 1], y[::3, 1] = A[::3, 0], B[::3, 0], y[::3, 0]
        B[::5, -1] = 1
    B[::7] = 0
    return A, B, y


def test_no_alpha_beats_it_on_ten_thousand_integer_cases():
    rng = np.random.default_rng()
    seen, never = 0, 0
    for n, c, reach in [
        (1, 1, 3),
        (1, 2, 1),
        (2, 3, 1),
        (3, 2, 2),
        (4, 4, 3),
        (6, 3, 2),
        (8, 2, 3),
        (5, 5, 1),
    ]:
        A, B, y = integer_problems(rng, 1250, n, c, reach)
        most = brute_force(A, B, y)
        for i in range(len(A)):
            alpha, n_correct = best(A[i], B[i], y[i])
            case = f"A={A[i].tolist()}, B={B[i].tolist()}, y={y[i].tolist()}: α={alpha}"
            assert n_correct == most[i], case
            assert alpha >= 0, case
            assert math.isfinite(alpha), case
            assert strictly_right(A[i], B[i], y[i], alpha) == n_correct, case
            if n_correct == 0:
                assert alpha == 0, case
                never += 1
        seen += len(A)
    assert seen == 10_000
    assert never > 100


def test_the_brute_force_agrees_with_naive_fractions():
    rng = np.random.default_rng(0)
    A, B, y = integer_problems(rng, 40, 4, 3, 3)
    for a, b, labels, most in zip(A, B, y, brute_force(A, B, y), strict=True):
        intervals, points = naive.plateaus(a, b, labels)
        assert most == max([*points.values(), *(count for _, _, count in intervals)])


small = st.integers(-4, 4)


@st.composite
def problems(draw):
    n, c = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    matrix = st.lists(st.lists(small, min_size=c, max_size=c), min_size=n, max_size=n)
    return draw(matrix), draw(matrix), draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))


@settings(max_examples=400)
@given(problems())
def test_which_plateau_is_returned(problem):
    A, B, y = problem
    alpha, n_correct = best(np.array(A, np.float64), np.array(B, np.float64), np.array(y))
    intervals, points = naive.plateaus(A, B, y)
    most = max([*points.values(), *(count for _, _, count in intervals)])
    assert n_correct == most
    if points[Fraction(0)] == most:  # nothing right is a case of it
        assert alpha == 0
        return
    top = [(a, b) for a, b, count in naive.merged_plateaus(intervals, points) if count == most]
    inside = [(a, b) for a, b in top if a < Fraction(alpha) < b]
    assert len(inside) == 1
    if any(start == 0 for start, _ in top):
        assert inside[0][0] == 0  # reaches 0 without containing it: infinitely wide in log α
        return
    unit_alpha = mean_spread(A) / mean_spread(B) if mean_spread(B) else 0.0
    widths, middles = [], []
    for start, stop in top:
        if stop == math.inf and start >= unit_alpha * (1 - 1e-9):
            if len(top) > 1:
                return  # how wide such a plateau counts is not said
            widths.append(0.0)
            middles.append(2 * float(start))
            continue
        end = unit_alpha if stop == math.inf else float(stop)
        widths.append(math.log(end / float(start)))
        middles.append(math.sqrt(float(start) * end))
    widest = [m for w, m in zip(widths, middles, strict=True) if w >= max(widths) - 1e-12]
    assert alpha == pytest.approx(min(widest), rel=1e-9)  # equal plateaus: the weaker cache


def test_a_plateau_with_two_ends_by_hand():
    # Label 0 throughout. Row 0: 0 + α against 1: right for α > 1. Row 1: 4 against 0 + α: right for α < 4.
    # Both on (1, 4): the middle in log α is 2.
    A, B = np.array([[0.0, 1.0], [4.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert best(A, B, np.array([0, 0])) == (pytest.approx(2.0), 2)


def test_a_plateau_without_end_stops_at_strength_one():
    # Label 0 twice.
    # Row 0: A = (0, 1), B = (1, 0): right for α > 1; spreads 0.5 and 0.5. Row 1: A = (15.5, 0),
    # B = (0.5, −0.5): always right; spreads 7.75 and 0.5. Means 4.125 and 0.5: strength 1 at α = 8.25.
    # (1, 8.25) has its middle at √8.25.
    A, B = np.array([[0.0, 1.0], [15.5, 0.0]]), np.array([[1.0, 0.0], [0.5, -0.5]])
    assert best(A, B, np.array([0, 0])) == (pytest.approx(math.sqrt(8.25)), 2)


def test_a_plateau_beyond_strength_one_gives_twice_its_start():
    # Right for α > 2: (0, 2) + α (1, 0); spreads 1 and 0.5, strength 1 at α = 2: not inside, so 4.
    assert best(np.array([[0.0, 2.0]]), np.array([[1.0, 0.0]]), np.array([0])) == (pytest.approx(4.0), 1)
    # Two rows, right for α > 1 and α > 10; spreads (0.5 + 5)/2 and 0.5: strength 1 at 5.5 < 10, so 20.
    A, B = np.array([[0.0, 1.0], [0.0, 10.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert best(A, B, np.array([0, 0])) == (pytest.approx(20.0), 2)


def test_zero_wins_ties_and_the_weaker_of_equal_plateaus():
    # Row 0 right below 1, row 1 right above 2: one right either way, so 0
    A, B = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    assert best(A, B, np.array([0, 0])) == (0.0, 1)
    # A tie at α = 0 is not right: row (0, 0) + α (1, 0) on (0, ∞)
    alpha, n_correct = best(np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.array([0]))
    assert alpha > 0
    assert n_correct == 1
    # Rows of three classes, right on (1, 2) and on (4, 8), equally wide in log α: √2, not √32.
    # Label 0: against class 1: −lo + α > 0; against class 2: hi − α > 0.
    A, B = np.array([[0.0, 1, -2], [0.0, 4, -8]]), np.array([[0.0, -1, 1], [0.0, -1, 1]])
    assert best(A, B, np.array([0, 0])) == (pytest.approx(math.sqrt(2)), 1)
    # (3, 9) and (1/3, 1): the ratios differ only by rounding
    A, B = np.array([[0.0, 3, -9], [0.0, 1, -3]]), np.array([[0.0, -1, 1], [0.0, -3, 3]])
    assert best(A, B, np.array([0, 0])) == (pytest.approx(math.sqrt(1 / 3)), 1)


def test_equal_plateaus_whose_widths_differ_by_rounding_go_to_the_weaker_cache():
    # Right on (1, k) and on (k, k²) for many k: equally wide in log α, and never overlapping.
    for k in range(2, 200):
        A = np.array([[0.0, 1, -k], [0.0, k, -(k**2)]])
        B = np.array([[0.0, -1, 1], [0.0, -1, 1]])
        assert best(A / 7, B / 7, np.array([0, 0]))[0] == pytest.approx(math.sqrt(k)), k


def test_nothing_ever_right():
    A, B = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 2.0]])
    assert best(A, B, np.array([0, 0])) == (0.0, 0)


def test_one_class_is_always_right():
    assert best(np.array([[3.0], [-1.0]]), np.array([[1.0], [2.0]]), np.array([0, 0])) == (0.0, 2)


def test_a_silent_cache_gives_zero():
    A = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert best(A, np.zeros((2, 2)), np.array([0, 0])) == (0.0, 1)


def test_intervals_by_hand():
    # lo 1 from class 1, hi 2 from class 2; never right where an equal cache does not help; always right alone
    A = torch.tensor([[0.0, 1, -2], [0, 1, -2], [0, -1, -1]], dtype=torch.float64)
    B = torch.tensor([[0.0, -1, 1], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    lo, hi = winning_intervals(A, B, torch.tensor([0, 0, 0]))
    assert lo.tolist() == [1, math.inf, -math.inf]
    assert hi.tolist() == [2, -math.inf, math.inf]
    assert lo.dtype == hi.dtype == torch.float64


def test_float32_inputs_are_decided_in_float64():
    # Exact in float32, but A + αB is not: 2^24 + α against 2^24 with α ≈ 1 rounds to even in float32.
    # Right for α > 0 in real numbers; (0, ∞) reaches 0 without containing it.
    A = np.array([[2.0**24, 2.0**24]] * 3, np.float32)
    B = np.array([[1.0, 0.0]] * 3, np.float32)
    alpha, n_correct = best(A, B, np.array([0, 0, 1]))
    assert n_correct == 2
    assert strictly_right(A, B, np.array([0, 0, 1]), alpha) == 2
    # 2^24 + 1 is no float32: differences must be taken after the conversion
    A, B = np.array([[2.0**24, -1.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    lo, hi = winning_intervals(torch.as_tensor(A), torch.as_tensor(B), torch.tensor([0]))
    assert hi.item() == 2**24 + 1
    assert lo.item() == -math.inf


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 6))
def test_real_logits_no_dense_grid_beats_it(seed, n, c):
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(n, c)), rng.normal(size=(n, c))
    y = rng.integers(c, size=n)
    alpha, n_correct = best(A, B, y)
    assert strictly_right(A, B, y, alpha) == n_correct
    for other in [0.0, *np.geomspace(1e-4, 1e4, 400)]:
        assert strictly_right(A, B, y, other) <= n_correct


def test_rows_beyond_one_tile_are_all_counted():
    # 4,100 rows × 1,100 classes do not fit into one tile
    rng = np.random.default_rng(0)
    A, B = (rng.normal(size=(4100, 1100)).astype(np.float32) for _ in range(2))
    y = A.argmax(1)
    y[2000:] = B[2000:].argmax(1)
    alpha, n_correct = best(A, B, y)
    assert strictly_right(A, B, y, alpha) == n_correct
    assert n_correct >= 2000


def test_spread_by_hand():
    # Standard deviations (population) of the rows: 1 and 3
    assert spread(torch.tensor([[1.0, 3.0], [0.0, 6.0]])) == pytest.approx(2.0)


BIG = """
import torch
from fewclip.functional import best_alpha
g = torch.Generator().manual_seed(0)
A = torch.rand(50_000, 1000, generator=g)
B = torch.rand(50_000, 1000, generator=g)
y = torch.randint(1000, (50_000,), generator=g)
best_alpha(A[:50], B[:50], y[:50])
"""


def test_fifty_thousand_rows_of_a_thousand_classes_within_a_gibibyte():
    assert 0 < peak_growth(BIG, "assert best_alpha(A, B, y)[1] > 0") < 1024


def test_two_classes_one_row_that_turns_exactly_at_strength_one():
    # With two classes a spread is half the difference: the row turns where the strength is 1, up to
    # rounding. A plateau that starts there starts beyond: twice its start, and the row is right.
    rng = np.random.default_rng(0)
    for _ in range(2000):
        lead, gain = rng.uniform(0.1, 3, 2)
        A, B = np.array([[0.0, lead]]) + rng.normal(), np.array([[gain, 0.0]]) + rng.normal()
        assert best(A, B, np.array([0])) == (pytest.approx(2 * lead / gain), 1), (A, B)
