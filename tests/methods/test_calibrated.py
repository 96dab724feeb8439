"""Calibration of every method: the winner stays, left-out images decide, and it travels with the state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.tasks import make_task

from fewclip.errors import ParameterError
from fewclip.evaluation.reliability import calibration_error, reliability
from fewclip.functional import Calibration
from fewclip.method_state import method_state, restore_method
from fewclip.methods import METHODS
from fewclip.methods.held_out import refitted_held_out
from fewclip.methods.support import Support

pytestmark = pytest.mark.usefixtures("one_thread")
methods = pytest.mark.parametrize("Method", METHODS.values(), ids=METHODS.keys())


@methods
def test_the_winner_never_changes(Method):
    task = make_task((4, 1, 3, 2, 4))
    clf = Method(task.T, random_state=0).fit(task.X, task.y)
    logits = clf.predict_logits(task.Xq)
    np.testing.assert_array_equal(clf.predict_proba(task.Xq).argmax(1), logits.argmax(1))
    clf.set_params(calibration="sals")
    p = clf.predict_proba(task.Xq)
    np.testing.assert_array_equal(p.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(p.sum(1), 1)


def temperatures(clf):
    """Of a method; of one that averages others, theirs: the mean itself is never made surer."""
    return [member.temperature_ for member in getattr(clf, "members_", [clf])]


@methods
def test_calibrated_by_images_that_the_head_has_not_learnt(Method):
    task = make_task((4, 4, 4, 4, 4))
    bare = Method(task.T, random_state=0, calibration="none").fit(task.X, task.y)
    clf = Method(task.T, random_state=0).fit(task.X, task.y)
    assert (bare.temperature_, bare.evenness_) == (1, 0)
    assert set(temperatures(clf)) != {1}
    np.testing.assert_array_equal(bare.predict_logits(task.Xq), clf.predict_logits(task.Xq))
    z = torch.as_tensor(clf.predict_logits(task.Xq)).double()
    calibration = Calibration(clf.temperature_, clf.evenness_, clf.spread_)
    np.testing.assert_allclose(clf.predict_proba(task.Xq), torch.softmax(calibration.scaled(z), 1))


@methods
def test_without_a_protocol_it_is_refitted_and_one_image_a_class_is_the_encoders_scale(Method):
    task = make_task((3, 3, 3))
    fixed = Method(task.T, selection="none", random_state=0).fit(task.X, task.y)
    assert set(temperatures(fixed)) != {1}
    one = make_task((1, 1, 1))
    clf = Method(one.T, random_state=0).fit(one.X, one.y)
    if Method.__name__ not in ("ZeroShot", "CALIP"):  # text has not seen even the only image
        assert (clf.temperature_, clf.evenness_) == (1, 0)


def test_refits_have_not_seen_what_they_judge():
    task = make_task((2, 2, 2), noise=0.1)
    X, y = torch.as_tensor(task.X), torch.as_tensor(task.y)
    images = torch.arange(len(X))
    support = Support(X, y, images, X, y, 3)
    clf = METHODS["tip-adapter"](task.T, alpha=2.0, beta=3.0).fit(task.X, task.y)
    held = refitted_held_out(clf, support, clf.selection_)
    assert held is not None
    for row, label, image in zip(held.logits, held.labels, held.images, strict=True):
        keep = np.ones(len(X), bool)
        for c in range(3):  # the fold leaves the image of the same place out of every class
            own = [int(i) for i in support.by_class()[0] if int(y[i]) == c]
            keep[own[int(support.places()[image])]] = False
        other = METHODS["tip-adapter"](task.T, alpha=2.0, beta=3.0).fit(task.X[keep], task.y[keep])
        np.testing.assert_allclose(row, other.predict_logits(task.X[[int(image)]])[0], rtol=1e-4, atol=1e-4)
        assert label == y[image]


@methods
def test_it_travels_with_the_state(Method):
    task = make_task()
    clf = Method(task.T, random_state=0).fit(task.X, task.y)
    config, tensors = method_state(clf)
    assert "held_out" not in config["selection"]
    again = restore_method(config, tensors, device="cpu")
    np.testing.assert_array_equal(again.predict_proba(task.Xq), clf.predict_proba(task.Xq))


def test_another_word_is_an_error():
    task = make_task()
    with pytest.raises(ParameterError, match="'calibration' parameter of TipAdapter: expected one of auto, "):
        METHODS["tip-adapter"](task.T, calibration="platt").fit(task.X, task.y)


@pytest.mark.parametrize("name", ["tip-adapter", "clip-adapter"])
def test_real_features_are_calibrated(name, caltech):
    T, c = caltech["text_features"], len(caltech["text_features"])
    rows = np.concatenate([np.flatnonzero(caltech["train_labels"] == k)[:4] for k in range(c)])
    clf = METHODS[name](T, random_state=0).fit(caltech["train_features"][rows], caltech["train_labels"][rows])
    X, y = caltech["val_features"], caltech["val_labels"]
    errors = []
    for calibration in ("none", "auto"):
        clf.set_params(calibration=calibration)
        if calibration == "none":
            p = torch.softmax(torch.as_tensor(clf.predict_logits(X)).double(), 1)
        else:
            p = torch.as_tensor(clf.predict_proba(X))
        right = p.argmax(1).numpy() == y
        errors.append(calibration_error(reliability(p.amax(1).numpy(), right)))
    assert errors[1] <= max(errors[0] / 2, 0.025)
