"""Logits taken apart by channel add up to the logits, for every method that has such parts."""

from __future__ import annotations

import numpy as np
import pytest

from fewclip.methods import METHODS
from fewclip.methods.channel_evidence import split_by_channel

pytestmark = pytest.mark.usefixtures("one_thread")
SPLIT = ("tip-adapter", "tip-adapter-f", "ape", "ape-t")


def task(*, absent: bool = False, unequal: bool = False):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5, 24))
    y = np.repeat(np.arange(5), 4)
    if unequal:
        y = y[3:]
    if absent:
        y = y[y != 2]
    X = means[y] + rng.normal(size=(len(y), 24))
    return means + rng.normal(size=means.shape), X, y, means + rng.normal(size=means.shape)


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("case", [{}, {"absent": True}, {"unequal": True, "absent": True}])
@pytest.mark.parametrize("alpha", ["auto", 2.0])
def test_the_parts_add_up(name, case, alpha):
    text, X, y, queries = task(**case)
    method = METHODS[name](text, classes=np.arange(5), logit_scale=20.0).set_params(alpha=alpha).fit(X, y)
    for query in queries[:3]:
        split = split_by_channel(method, query)
        total = split.text.sum(1) + split.images.sum(1) + split.base
        assert total == pytest.approx(method.predict_logits(query[None])[0], rel=1e-5, abs=1e-5)
        assert split.text.sum(1) == pytest.approx(method.evidence(query[None])[0][0], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(SPLIT)))
def test_other_methods_have_no_such_parts(name):
    text, X, y, queries = task()
    split = split_by_channel(METHODS[name](text, logit_scale=20.0).fit(X, y), queries[0])
    if split is not None:  # a method of a later date that is a plain cache
        total = split.text.sum(1) + split.images.sum(1) + split.base
        assert total == pytest.approx(
            METHODS[name](text, logit_scale=20.0).fit(X, y).predict_logits(queries[:1])[0], rel=1e-5, abs=1e-5
        )


def test_the_safe_mix_counts():
    text, X, y, queries = task()
    method = METHODS["ape-t"](text, logit_scale=20.0).fit(X, y)
    method.mix_ = 0.25
    split = split_by_channel(method, queries[0])
    total = split.text.sum(1) + split.images.sum(1) + split.base
    assert total == pytest.approx(method.predict_logits(queries[:1])[0], rel=1e-5, abs=1e-5)


def test_refined_channels_are_named_and_others_say_nothing_through_the_cache():
    text, X, y, queries = task()
    method = METHODS["ape"](text, n_channels=6, alpha=1.0, beta=2.0, gamma=0.0, logit_scale=20.0).fit(X, y)
    split = split_by_channel(method, queries[0])
    assert split.kept.tolist() == method.channels_.tolist()
    others = np.setdiff1d(np.arange(24), split.kept)
    assert (split.images[:, others] == 0).all()
    assert (split.images[:, split.kept] != 0).any()
    assert split_by_channel(METHODS["tip-adapter"](text, logit_scale=20.0).fit(X, y), queries[0]).kept is None
