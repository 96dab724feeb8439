"""Linear heads that start at the text: formulas, what is minimised, and what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import linear, naive
from reference.tasks import make_task

from fewclip.errors import ParameterError, TrainingError
from fewclip.functional import clap_penalties, cosine_head_logits, text_pull
from fewclip.methods import CLAP, METHODS, LinearProbe

pytestmark = pytest.mark.usefixtures("one_thread")
PULLED = [LinearProbe, CLAP]
pulled = pytest.mark.parametrize("Method", PULLED)
TASK = make_task((3, 2, 4), d=6, noise=1.5, text_noise=1.5, n_queries=20)
BARE = {"logit_scale": 8.0, "safe": False}


def held(Method, X, y, T):
    return linear.clap_held(X, y, T, 8.0) if Method is CLAP else np.ones(len(T))


# ---- formulas ----


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.integers(1, 5), st.floats(0.5, 100))
def test_pieces_equal_the_naive_formulas(seed, c, s):
    rng = np.random.default_rng(seed)
    task = make_task((2,) * c, d=4, seed=seed)
    u, f, T = rng.normal(size=(c, 4)), naive.unit(task.Xq[:5]), naive.unit(task.T)
    tensors = [torch.as_tensor(a) for a in (f, u, T)]
    np.testing.assert_allclose(
        cosine_head_logits(*tensors[:2], logit_scale=s), linear.cosine_head(f, u, s), rtol=1e-9, atol=1e-9
    )
    ours = text_pull(*tensors[1:], norm=9.0).mean()
    assert float(ours) == pytest.approx(linear.pull(u, T, 9.0, np.ones(c)))
    z = torch.as_tensor(s * naive.unit(task.X) @ T.T)
    ours = clap_penalties(z, torch.as_tensor(task.y), c)
    np.testing.assert_allclose(ours, linear.clap_held(naive.unit(task.X), task.y, T, s), atol=1e-9)


def test_a_head_worked_by_hand():
    # Weights of any norm count by their direction: (3, 4)/5 on (1, 0) is 0.6.
    z = cosine_head_logits(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]]), logit_scale=10.0
    )
    assert z.tolist() == [[pytest.approx(6.0), 0.0]]
    # R² ‖u − T‖² = 4 · (1 + 1).
    pull = text_pull(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0]]), norm=2.0)
    assert pull.tolist() == [8.0]
    # Zero-shot logits (0, log 3) give class 1 three quarters, (log 3, 0) one quarter: the mean is a half.
    z = torch.tensor([[0.0, np.log(3.0)], [np.log(3.0), 0.0], [0.0, 0.0]])
    assert clap_penalties(z, torch.tensor([1, 1, 0]), 3).tolist() == pytest.approx([0.5, 0.5, 0.0])


# ---- what is learnt ----


@pulled
@pytest.mark.parametrize("balanced", [True, False])
def test_the_learnt_weights_are_where_the_naive_loss_is_flat(Method, balanced):
    clf = Method(TASK.T, penalty=0.05, text_norm=3.0, class_balance=balanced, max_steps=500, **BARE)
    clf.fit(TASK.X, TASK.y)
    X, T = naive.unit(TASK.X), naive.unit(TASK.T)
    weights, pulls = linear.row_weights(TASK.y, 3, balanced=balanced), held(Method, X, TASK.y, T)

    def loss(u):
        z = linear.cosine_head(X, u, 8.0)
        return linear.cross_entropy(z, TASK.y, weights) + 0.05 * linear.pull(u, T, 3.0, pulls)

    u = clf.weights_.double().numpy()
    assert np.abs(linear.gradient(loss, u)).max() < 1e-4 * np.abs(linear.gradient(loss, T)).max()
    assert loss(u) < loss(T)
    expected = linear.cosine_head(naive.unit(TASK.Xq), u, 8.0)
    np.testing.assert_allclose(clf.predict_logits(TASK.Xq), expected, atol=1e-4)


@pulled
def test_a_strong_pull_stays_at_the_text_and_no_steps_are_zero_shot(Method):
    zero_shot = 8 * TASK.Xq @ TASK.T.T
    still = Method(TASK.T, max_steps=0, **BARE).fit(TASK.X, TASK.y)
    np.testing.assert_allclose(still.predict_logits(TASK.Xq), zero_shot, atol=1e-4)
    strong = Method(TASK.T, penalty=1e6, **BARE).fit(TASK.X, TASK.y)
    np.testing.assert_allclose(strong.predict_logits(TASK.Xq), zero_shot, atol=1e-2)


@pulled
def test_all_views_of_an_image_share_its_weight(Method):
    # Each image twice, one of them three times: nothing changes but the number of rows.
    repeats = np.array([2] * 8 + [3])
    X, y, groups = (np.repeat(a, repeats, axis=0) for a in (TASK.X, TASK.y, np.arange(9)))
    one = Method(TASK.T, penalty=0.05, **BARE).fit(TASK.X, TASK.y).predict_logits(TASK.Xq)
    other = Method(TASK.T, penalty=0.05, **BARE).fit(X, y, groups=groups).predict_logits(TASK.Xq)
    np.testing.assert_allclose(other, one, atol=1e-3)


@pulled
def test_a_class_without_images_keeps_its_text_and_gets_the_largest_gain(Method):
    task = make_task((4, 0, 4), noise=2, text_noise=2)
    clf = Method(task.T, classes=range(3), penalty=0.01, **BARE).fit(task.X, task.y)
    np.testing.assert_allclose(clf.weights_[1], task.T[1], atol=1e-5)
    _, images, _ = clf.evidence(task.Xq)
    np.testing.assert_allclose(images[:, 1], images[:, [0, 2]].max(1), atol=1e-4)
    assert np.abs(images).max() > 0.1
    bare = Method(task.T, classes=range(3), penalty=0.01, class_balance=False, **BARE).fit(task.X, task.y)
    assert np.abs(bare.weights_[1].numpy() - task.T[1]).max() > 1e-3  # pushed away, as published


# ---- what is chosen ----


@pulled
def test_the_pull_is_chosen_and_an_explicit_one_is_kept(Method):
    task = make_task((4,) * 8, noise=1.0, text_noise=3.0, n_queries=200)
    chosen = Method(task.T, logit_scale=20.0).fit(task.X, task.y)
    assert chosen.penalty_ in Method._PATH
    assert chosen.selection_.settings["penalty"] == chosen.penalty_
    assert {row["penalty"] for row in chosen.selection_.table} == set(Method._PATH)
    assert "4 folds" in chosen.selection_.note
    given = Method(task.T, logit_scale=20.0, penalty=1.0).fit(task.X, task.y)
    assert given.penalty_ == 1.0
    assert chosen.score(task.Xq, task.yq) > given.score(task.Xq, task.yq) - 0.05
    none = Method(task.T, selection="none").fit(task.X, task.y)
    assert (none.penalty_, none.mix_, none.selection_.protocol) == (Method._DEFAULT, 1.0, "none")


@pulled
def test_validation_labels_choose_on_all_images(Method):
    task = make_task((4,) * 5, noise=1.5, text_noise=2.0, n_queries=100)
    half = np.arange(100) % 2 == 0
    clf = Method(task.T, logit_scale=20.0).fit(task.X, task.y, X_val=task.Xq[half], y_val=task.yq[half])
    assert (clf.selection_.protocol, clf.selection_.labels_used) == ("full", 50)
    best = max(row["accuracy"] for row in clf.selection_.table)
    assert clf.score(task.Xq[half], task.yq[half]) == pytest.approx(best, abs=1e-6)


@pulled
def test_noise_leads_back_to_the_text(Method):
    task = make_task((4,) * 10, noise=0.8, text_noise=0.8, n_queries=50)
    noise = np.random.default_rng(0).normal(size=task.X.shape).astype(np.float32)
    clf = Method(task.T, logit_scale=20.0).fit(noise, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), 20 * task.Xq @ task.T.T, atol=1e-3)


@pulled
def test_the_head_travels_with_the_adapter(Method):
    from fewclip.method_state import method_state, restore_method

    clf = Method(TASK.T, **BARE).fit(TASK.X, TASK.y)
    again = restore_method(*method_state(clf), device="cpu")
    np.testing.assert_array_equal(again.predict_logits(TASK.Xq), clf.predict_logits(TASK.Xq))


# ---- errors ----


@pulled
@pytest.mark.parametrize(
    "wrong",
    [{"penalty": -1}, {"penalty": "best"}, {"penalty": np.nan}, {"text_norm": 0}, {"max_steps": 1.5}],
)
def test_wrong_parameters_are_named(Method, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Method(TASK.T, **wrong).fit(TASK.X, TASK.y)


def test_a_loss_that_is_not_finite_says_what_to_change():
    from fewclip.methods.solvers import lbfgs

    with pytest.raises(TrainingError, match="penalty"):
        lbfgs(
            {"x": torch.ones(2)},
            lambda p: torch.log(-p["x"]).sum(),
            max_steps=3,
            tolerance=1e-5,
            what="penalty=",
        )


def test_on_real_features_the_heads_gain(caltech):
    T, X, y = caltech["text_features"], caltech["train_features"], caltech["train_labels"]
    some = np.arange(len(y)) % 16 < 2
    zero_shot = METHODS["zero-shot"](T).fit(X[some], y[some])
    val = caltech["val_features"], caltech["val_labels"]
    for Method in PULLED:
        assert Method(T).fit(X[some], y[some]).score(*val) >= zero_shot.score(*val) + 0.005
