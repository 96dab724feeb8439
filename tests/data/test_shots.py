"""Few-shot draws and hold-outs: balanced, deterministic, nested, class by class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewclip.data.shots import draw_shots, holdout_split
from fewclip.errors import ParameterError

labels_strategy = st.lists(st.sampled_from(["cat", "dog", "sea bass", "ж"]), max_size=60)
seeds = st.integers(-(2**40), 2**40)


@given(labels_strategy, st.integers(1, 20), seeds)
def test_a_draw_is_balanced_sorted_and_nested(labels, shots, seed):
    drawn = draw_shots(labels, shots, seed=seed)
    assert drawn.dtype == np.int64
    assert list(drawn) == sorted(set(drawn))
    assert Counter(labels[i] for i in drawn) == {
        name: min(shots, count) for name, count in Counter(labels).items()
    }
    assert set(drawn) <= set(draw_shots(labels, 2 * shots, seed=seed))
    np.testing.assert_array_equal(drawn, draw_shots(np.array(labels, dtype=object), shots, seed=seed))


@given(labels_strategy, st.integers(1, 5), seeds)
def test_a_class_draws_the_same_without_the_others(labels, shots, seed):
    drawn = draw_shots(labels, shots, seed=seed)
    cats = [index for index, label in enumerate(labels) if label == "cat"]
    alone = draw_shots(["cat"] * len(cats), shots, seed=seed)
    assert [index for index in drawn if labels[index] == "cat"] == [cats[index] for index in alone]


def test_seeds_differ_and_every_example_gets_its_turn():
    labels = ["a"] * 10 + ["b"] * 10
    draws = [tuple(draw_shots(labels, 2, seed=seed)) for seed in range(100)]
    assert len(set(draws)) > 80
    assert {index for draw in draws for index in draw} == set(range(20))


def test_a_published_draw_stays_what_it_is():
    assert draw_shots(["a"] * 10 + ["b"] * 10, 3, seed=0).tolist() == [1, 4, 6, 10, 17, 19]


def test_numbers_may_be_labels():
    assert len(draw_shots(np.array([0, 1, 0, 1, 1]), 1, seed=0)) == 2


@pytest.mark.parametrize("shots", [0, -1, 1.5, True, None])
def test_shots_below_one_are_refused(shots):
    with pytest.raises(ParameterError, match="an integer of at least 1"):
        draw_shots(["a"], shots, seed=0)


@given(labels_strategy, st.floats(0.01, 0.99), seeds)
def test_a_holdout_is_stratified_and_complete(labels, fraction, seed):
    train, test = holdout_split(labels, test_fraction=fraction, seed=seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert list(train) == sorted(train)
    assert list(test) == sorted(test)
    held = Counter(labels[i] for i in test)
    for name, count in Counter(labels).items():
        assert held[name] == (0 if count == 1 else min(max(round(fraction * count), 1), count - 1))
    again = holdout_split(labels, test_fraction=fraction, seed=seed)
    np.testing.assert_array_equal(test, again[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ParameterError, match=r"a number in \(0, 1\)"):
        holdout_split(["a", "a"], test_fraction=fraction, seed=0)
