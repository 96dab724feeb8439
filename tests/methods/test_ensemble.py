"""Several methods as one: the mean of what they say, and the choice of who has a say."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from reference.tasks import make_task

from fewclip.errors import ParameterError
from fewclip.evaluation.left_out import refit
from fewclip.method_state import method_state, restore_method
from fewclip.methods import APE, Auto, Ensemble, TipAdapter, ZeroShot
from fewclip.methods.auto import CAUTION
from fewclip.selection import standard_errors

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = make_task((4, 4, 4, 4, 4), noise=0.9, text_noise=1.2)


def fitted(*, kind=Ensemble, task=TASK, **parameters):
    return kind(task.T, **parameters).fit(task.X, task.y)


def test_it_says_the_weighted_mean_of_what_its_members_say():
    both = fitted(methods=("tip-adapter", "clip-adapter"), weights=(3, 1))
    alone = [fitted(kind=type(member)) for member in both.members_]
    expected = np.log(0.75 * alone[0].predict_proba(TASK.Xq) + 0.25 * alone[1].predict_proba(TASK.Xq))
    np.testing.assert_allclose(both.predict_logits(TASK.Xq), expected, atol=2e-4)
    assert both.weights_ == [0.75, 0.25]


def test_one_member_alone_decides_as_it_does():
    one = fitted(methods=["tip-adapter"])
    np.testing.assert_array_equal(one.predict(TASK.Xq), fitted(kind=TipAdapter).predict(TASK.Xq))


def test_members_may_have_settings_of_their_own():
    clf = fitted(methods=(APE(alpha=1.5, n_channels=10), "zero-shot"))
    assert (clf.members_[0].alpha_, clf.members_[0].n_channels_) == (1.5, 10)
    assert isinstance(clf.members_[1], ZeroShot)


def test_members_take_over_what_they_share():
    clf = fitted(methods=("tip-adapter",), logit_scale=30.0, selection="none", class_balance=False)
    member = clf.members_[0]
    assert (member.logit_scale, member.selection, member.class_balance) == (30.0, "none", False)


def test_a_member_without_weight_is_not_kept():
    clf = fitted(methods=("tip-adapter", "zero-shot"), weights=(1, 0))
    assert [type(member) for member in clf.members_] == [TipAdapter]
    assert [row["weight"] for row in clf.selection_.table] == [1.0, 0.0]


@pytest.mark.parametrize("kind", [Ensemble, Auto])
def test_it_is_saved_and_loaded_as_a_whole(kind):
    clf = fitted(kind=kind, methods=("ape", TipAdapter(beta=3.0)), random_state=2)
    config, tensors = method_state(clf)
    again = restore_method(config, tensors, device="cpu")
    np.testing.assert_array_equal(again.predict_logits(TASK.Xq), clf.predict_logits(TASK.Xq))
    np.testing.assert_array_equal(again.predict_proba(TASK.Xq), clf.predict_proba(TASK.Xq))
    assert again.get_params(deep=False).keys() == clf.get_params(deep=False).keys()
    assert again.methods[0] == "ape"
    assert again.methods[1].beta == 3.0
    assert not [name for name in tensors if name.startswith("members_.0.support_")]  # kept once


def test_its_evidence_adds_up():
    clf = fitted(methods=("tip-adapter", "ape"))
    text, image, _ = clf.evidence(TASK.Xq)
    np.testing.assert_allclose(text + image, clf.predict_logits(TASK.Xq), atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"methods": ("nearest",)}, ["methods", "nearest", "tip-adapter"]),
        ({"methods": ()}, ["methods", "at least one"]),
        ({"methods": "ape"}, ["methods", "'ape'"]),
        ({"methods": ("ensemble",)}, ["methods", "ensemble"]),
        ({"methods": ("ape",), "weights": (1, 2)}, ["weights", "1 numbers"]),
        ({"methods": ("ape",), "weights": (0,)}, ["weights", "above 0"]),
        ({"methods": ("ape",), "weights": (-1.0,)}, ["weights", "-1.0"]),
        ({"methods": ("ape",), "weights": "best"}, ["weights", "best"]),
    ],
)
def test_bad_members_and_weights_are_named(parameters, words):
    with pytest.raises(ParameterError) as caught:
        fitted(**parameters)
    assert [word for word in words if word not in str(caught.value)] == []


# ---- auto ----


def test_auto_leaves_out_what_is_clearly_worse_and_says_so():
    task = make_task((8, 8, 8, 8, 8), noise=0.7, text_noise=6.0)
    clf = fitted(kind=Auto, task=task, methods=("zero-shot", "tip-adapter"))
    weights = {row["method"]: row["weight"] for row in clf.selection_.table}
    assert weights == {"zero-shot": 0.0, "tip-adapter": 1.0}
    assert "clearly worse: zero-shot" in clf.selection_.note
    assert clf.score(task.Xq, task.yq) > 0.8


def test_auto_averages_what_it_cannot_tell_apart():
    clf = fitted(kind=Auto, methods=("tip-adapter", "ape", "tip-x"))
    table = {row["method"]: row for row in clf.selection_.table}
    assert len(table) == 3
    assert sum(row["weight"] for row in table.values()) == pytest.approx(1)
    assert all(
        0 <= row["accuracy"] <= 1 and row["score"] < 0 and row["seconds"] >= 0 for row in table.values()
    )
    assert clf.selection_.estimate is not None


def test_auto_never_begins_what_would_end_too_late(monkeypatch):
    class Slow(TipAdapter):
        def _fit(self, support, validation):
            time.sleep(0.05)
            return super()._fit(support, validation)

    clf = fitted(kind=Auto, methods=(Slow(), Slow(), Slow()), time_limit=0.06)
    assert len(clf.members_) == 1
    assert "Not tried within 0.06 s" in clf.selection_.note


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, "soon"])
def test_a_time_limit_is_seconds(limit):
    with pytest.raises(ParameterError, match="time_limit"):
        fitted(kind=Auto, methods=("ape",), time_limit=limit)


def test_with_one_image_a_class_auto_compares_nothing_and_says_so():
    task = make_task((1, 1, 1, 1, 1))
    clf = fitted(kind=Auto, task=task)
    assert len({row["weight"] for row in clf.selection_.table}) == 1
    assert "Nothing can be held out" in clf.selection_.note


def test_auto_respects_the_noise_of_few_labels():
    weights = torch.ones(40, dtype=torch.float64)
    gap = torch.zeros(40, dtype=torch.float64)
    gap[:3], gap[3:5] = 1.0, -1.0  # three images more, two fewer: one in forty says nothing
    assert 0 < standard_errors(gap, weights) < 1
    gap[:15] = 1.0
    assert standard_errors(gap, weights) > CAUTION
    alike = torch.zeros(4, dtype=torch.float64)
    alike[0] = 1.0
    assert standard_errors(alike, torch.ones(4, dtype=torch.float64)) < CAUTION  # one of four images


def test_a_mean_of_calibrated_opinions_is_never_made_surer():
    for seed in range(4):
        task = make_task((6,) * 5, noise=0.4, text_noise=0.8, seed=seed)  # easy: more certainty would pay
        clf = fitted(task=task, methods=("tip-adapter", "gda"))
        assert clf.temperature_ >= 1
        parts = [m.predict_proba(task.Xq) for m in clf.members_]
        if clf.temperature_ == 1:
            np.testing.assert_allclose(clf.predict_proba(task.Xq), np.mean(parts, 0), atol=1e-5)


def test_one_member_alone_is_estimated_as_it_estimates_itself():
    one, alone = fitted(methods=("tip-adapter",)).selection_, fitted(kind=TipAdapter).selection_
    assert one.estimate.accuracy == pytest.approx(alone.estimate.accuracy, abs=1e-6)
    assert (one.estimate.zero_shot, one.estimate.kind) == (alone.estimate.zero_shot, alone.estimate.kind)
    assert one.note.startswith("tip-adapter alone.")


def test_an_estimate_is_not_flattered_by_the_choice_of_settings():
    excess = []
    for seed in range(8):
        task = make_task((4, 4, 4, 4, 4), noise=1.6, text_noise=1.5, n_queries=200, seed=seed)
        clf = fitted(task=task, methods=("tip-adapter", "ape", "tip-x"))
        excess.append(clf.selection_.estimate.accuracy - clf.score(task.Xq, task.yq))
    assert abs(np.mean(excess)) < 0.08  # 20 images of a draw tell its accuracy to 0.1


@pytest.mark.parametrize("kind", [Ensemble, Auto])
def test_what_was_chosen_is_handed_on_to_a_fit_on_fewer_images(kind):
    clf = fitted(kind=kind, methods=("tip-adapter", "proker"))
    fewer = refit(clf, np.flatnonzero(np.arange(len(TASK.y)) % 4))
    assert [type(member) for member in fewer.members_] == [type(member) for member in clf.members_]
    for before, after in zip(clf.members_, fewer.members_, strict=True):
        assert after.selection_.settings["beta"] == before.selection_.settings["beta"]


def test_auto_takes_validation_images_where_they_are_given():
    half = np.arange(len(TASK.Xq)) % 2 == 0
    clf = Auto(TASK.T, methods=("tip-adapter", "ape")).fit(
        TASK.X, TASK.y, X_val=TASK.Xq[half], y_val=TASK.yq[half]
    )
    assert clf.selection_.protocol == "full"
    assert clf.selection_.labels_used == half.sum()


def test_what_was_compared_can_be_drawn():
    pytest.importorskip("matplotlib")
    clf = fitted(kind=Auto, methods=("tip-adapter", "ape"))
    axes = clf.selection_.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ape", "tip-adapter"]
