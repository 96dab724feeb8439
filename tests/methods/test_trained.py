"""The trained methods: what they learn, what they may look at, and the formulas that they predict with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import naive
from reference.tasks import make_task

from fewclip.errors import ParameterError, TrainingError
from fewclip.methods import APET, METHODS, CLIPAdapter, TipAdapter, TipAdapterF

pytestmark = pytest.mark.usefixtures("one_thread")
TRAINED = [CLIPAdapter, TipAdapterF, APET]
trained = pytest.mark.parametrize("Method", TRAINED)
TASK = make_task((5, 5, 5), noise=2.5, text_noise=2.5, n_queries=60)


@trained
def test_learning_lowers_the_loss_and_history_says_so(Method):
    clf = Method(TASK.T, logit_scale=20.0, epochs=30).fit(TASK.X, TASK.y)
    history = clf.history_
    assert [entry["epoch"] for entry in history] == list(range(1, 31))
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 <= entry["accuracy"] <= 1 for entry in history)


@trained
def test_the_first_loss_leaves_the_own_key_out(Method):
    # The first full batch is met untrained: its loss is the cross-entropy of the start, each image judged
    # by the other four of its class, whose sum counts 5/4.
    settings = {} if Method is CLIPAdapter else {"alpha": 2.0, "beta": 3.0}
    first = Method(TASK.T, logit_scale=20.0, epochs=1, **settings).fit(TASK.X, TASK.y).history_[0]["loss"]
    logits = 20 * TASK.X @ TASK.T.T
    if Method is CLIPAdapter:
        start = Method(TASK.T, logit_scale=20.0, epochs=0, safe=False)
        logits = start.fit(TASK.X, TASK.y).predict_logits(TASK.X)
    for i, label in enumerate(TASK.y if settings else []):
        for j in range(15):
            if i != j:
                share = 5 / 4 if TASK.y[j] == label else 1
                logits[i, TASK.y[j]] += 2 * share * np.exp(-3 * (1 - TASK.X[i] @ TASK.X[j]))
    p = [naive.softmax(row)[label] for row, label in zip(logits, TASK.y, strict=True)]
    assert first == pytest.approx(-np.log(p).mean(), rel=1e-4)


@trained
def test_one_step_of_adamw_worked_by_hand(Method):
    # Step one of Adam moves by lr·g/(|g| + eps): lr where the gradient is large, after p(1 − lr·decay).
    lr, decay = 1e-3, 0.3
    step = {"learning_rate": lr, "weight_decay": decay, "batch_size": None, "logit_scale": 20.0}
    before = Method(TASK.T, epochs=0, **step).fit(TASK.X, TASK.y)
    after = Method(TASK.T, epochs=1, **step).fit(TASK.X, TASK.y)
    name = {CLIPAdapter: "image_up_", TipAdapterF: "keys_", APET: "residual_"}[Method]
    moved = getattr(after, name) - (1 - lr * decay) * getattr(before, name)
    assert float(moved.abs().max()) <= lr * (1 + 1e-3)
    assert float(moved.abs().max()) >= 0.5 * lr


def test_without_epochs_it_is_the_training_free_cache():
    free = TipAdapter(TASK.T, alpha=2.0, beta=3.0).fit(TASK.X, TASK.y).predict_logits(TASK.Xq)
    for Method in (TipAdapterF, APET):
        still = Method(TASK.T, alpha=2.0, beta=3.0, epochs=0).fit(TASK.X, TASK.y)
        np.testing.assert_allclose(still.predict_logits(TASK.Xq), free, atol=1e-3)
        assert still.history_ == []


def test_number_of_parameters():
    assert APET(TASK.T, n_channels=10).fit(TASK.X, TASK.y).n_parameters_ == 3 * 10 + 15
    assert TipAdapterF(TASK.T).fit(TASK.X, TASK.y).n_parameters_ == 15 * 24
    assert CLIPAdapter(TASK.T).fit(TASK.X, TASK.y).n_parameters_ == 2 * 24 * 6
    assert CLIPAdapter(TASK.T, side="both").fit(TASK.X, TASK.y).n_parameters_ == 4 * 24 * 6


@settings(max_examples=10)
@given(st.integers(0, 2**20), st.floats(0, 3), st.floats(0.1, 5), st.integers(1, 24))
def test_ape_t_predicts_by_the_naive_formula(seed, alpha, beta, n_channels):
    task = make_task((2, 2, 2), seed=seed, n_queries=5)
    clf = APET(task.T, alpha=alpha, beta=beta, n_channels=n_channels, epochs=3, logit_scale=30.0)
    clf.fit(task.X, task.y)
    R, v = clf.residual_.numpy(), clf.key_weights_.numpy()
    kept = naive.channels(naive.unit(task.T), n_channels, (0.2, 0.8))
    np.testing.assert_array_equal(clf.residual_channels_, kept)
    f, X, T = (naive.unit(a) for a in (task.Xq, task.X, task.T))
    expected = naive.ape_t(f, X, task.y, T, kept, R, v, alpha, beta, 30.0)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-3)


@settings(max_examples=10)
@given(st.integers(0, 2**20), st.floats(0, 1))
def test_clip_adapter_predicts_by_the_naive_formula(seed, ratio):
    task = make_task((2, 3, 2), seed=seed, n_queries=5)
    f, T = naive.unit(task.Xq), naive.unit(task.T)
    bare = {"residual_ratio": ratio, "epochs": 2, "safe": False}
    image = CLIPAdapter(task.T, random_state=seed, **bare).fit(task.X, task.y)
    down, up = image.image_down_.numpy(), image.image_up_.numpy()
    assert (down.shape, up.shape) == ((6, 24), (24, 6))
    expected = naive.clip_adapter(f, T, down, up, ratio, 100)
    np.testing.assert_allclose(image.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-3)
    text = CLIPAdapter(task.T, side="text", **bare).fit(task.X, task.y)
    assert text.image_down_ is None
    # The adapter on the text side: the roles of the two swap.
    expected = naive.clip_adapter(T, f, text.text_down_.numpy(), text.text_up_.numpy(), ratio, 100).T
    np.testing.assert_allclose(text.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-3)


def test_tip_adapter_f_predicts_with_the_keys_it_learnt():
    clf = TipAdapterF(TASK.T, alpha=2.0, beta=3.0, epochs=5).fit(TASK.X, TASK.y)
    keys = clf.keys_.numpy()
    assert np.abs(keys - TASK.X).max() > 1e-4
    expected = naive.tip_adapter(
        naive.unit(TASK.Xq), keys, TASK.y, naive.unit(TASK.T), alpha=2.0, beta=3.0, s=100
    )
    np.testing.assert_allclose(clf.predict_logits(TASK.Xq), expected, rtol=1e-4, atol=1e-3)


@trained
def test_every_view_is_drawn_in_time_and_only_one_an_epoch(Method):
    # Two views of each image, far apart: with one epoch only one view can have been learnt.
    rng = np.random.default_rng(0)
    X = np.repeat(TASK.X, 2, axis=0) + 0.5 * rng.normal(size=(30, 24)).astype(np.float32)
    y, groups = np.repeat(TASK.y, 2), np.repeat(np.arange(15), 2)
    one = Method(TASK.T, epochs=1, random_state=0).fit(X, y, groups=groups)
    other = Method(TASK.T, epochs=1, random_state=1).fit(X, y, groups=groups)
    again = Method(TASK.T, epochs=1, random_state=0).fit(X, y, groups=groups)
    np.testing.assert_array_equal(one.predict_logits(TASK.Xq), again.predict_logits(TASK.Xq))
    assert one.history_[0]["loss"] != other.history_[0]["loss"]  # other views were drawn
    assert len(one.support_features_) == 15


@trained
def test_early_stopping_takes_the_epoch_of_the_smallest_held_out_loss(Method):
    val = make_task((20, 20, 20), noise=2, text_noise=2, seed=0)
    parameters = {"epochs": 12, "learning_rate": 0.02, "logit_scale": 20.0}
    clf = Method(TASK.T, early_stopping=True, **parameters).fit(TASK.X, TASK.y, X_val=val.Xq, y_val=val.yq)
    losses = [entry["held_out_loss"] for entry in clf.history_]
    assert losses[-1] == min(losses)
    crossfit = Method(TASK.T, early_stopping=True, **parameters).fit(TASK.X, TASK.y)
    assert 1 <= len(crossfit.history_) <= 12
    single = make_task((1, 1, 1))
    assert len(Method(single.T, early_stopping=True, epochs=7).fit(single.X, single.y).history_) == 7


@trained
def test_a_loss_that_is_not_finite_says_what_to_change(Method):
    with pytest.raises(TrainingError, match="learning_rate"):
        Method(TASK.T, learning_rate=1e30, epochs=50).fit(TASK.X, TASK.y)


@trained
@pytest.mark.parametrize(
    "wrong",
    [{"epochs": -1}, {"epochs": 1.5}, {"learning_rate": -1}, {"batch_size": 0}, {"weight_decay": "x"}],
)
def test_wrong_sizes_are_named(Method, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Method(TASK.T, **wrong).fit(TASK.X, TASK.y)


@pytest.mark.parametrize("wrong", [{"side": "left"}, {"residual_ratio": 1.1}, {"residual_ratio": "auto"}])
def test_wrong_parameters_of_clip_adapter(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        CLIPAdapter(TASK.T, **wrong).fit(TASK.X, TASK.y)


def test_a_class_without_images_keeps_its_text():
    task = make_task((4, 0, 4), noise=2)
    clf = APET(task.T, classes=range(3), learning_rate=0.05).fit(task.X, task.y)
    assert not bool(clf.residual_[1].any())
    assert bool(clf.residual_[0].any())


def test_validation_labels_choose_alpha_and_beta_after_training():
    val = make_task((9, 9, 9), noise=2, seed=1)
    clf = APET(TASK.T).fit(TASK.X, TASK.y, X_val=val.X, y_val=val.y)
    assert clf.selection_.protocol == "full"
    assert clf.selection_.labels_used == 27
    fixed = APET(TASK.T, alpha=1.0, beta=2.0).fit(TASK.X, TASK.y, X_val=val.X, y_val=val.y)
    assert (fixed.alpha_, fixed.beta_) == (1.0, 2.0)


@trained
def test_a_progress_bar_is_shown_when_asked_for(Method, capsys):
    Method(TASK.T, verbose=True).fit(TASK.X, TASK.y)
    captured = capsys.readouterr()
    assert "loss" in captured.err
    assert "accuracy" in captured.err
    assert captured.out == ""
    Method(TASK.T).fit(TASK.X, TASK.y)
    assert capsys.readouterr().err == ""


def test_on_real_features_training_is_worth_its_time(caltech):
    T, X, y = caltech["text_features"], caltech["train_features"], caltech["train_labels"]
    scores = {
        Method: Method(T).fit(X, y).score(caltech["val_features"], caltech["val_labels"])
        for Method in TRAINED
    }
    zero_shot = (caltech["val_features"] @ T.T).argmax(1) == caltech["val_labels"]
    assert scores[APET] >= scores[TipAdapterF] - 0.002
    assert min(scores.values()) >= zero_shot.mean() + 0.01
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["clip-adapter", "tip-adapter-f", "ape-t"])
def test_no_epochs_and_early_stopping_is_no_training(name):
    task = make_task()
    clf = METHODS[name](task.T, epochs=0, early_stopping=True, random_state=0).fit(task.X, task.y)
    assert clf.history_ == []
