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
from fewclip.functional import (
    clap_penalties,
    cosine_head_logits,
    linear_adapter_logits,
    lp_plus_plus_logits,
    task_res_weights,
    text_basis,
    text_pull,
)
from fewclip.methods import CLAP, METHODS, CrossModalProbe, LinearAdapter, LinearProbe, LPPlusPlus, TaskRes

pytestmark = pytest.mark.usefixtures("one_thread")
PULLED = [LinearProbe, CLAP]
pulled = pytest.mark.parametrize("Method", PULLED)
FAMILY = [*PULLED, TaskRes, LPPlusPlus, CrossModalProbe, LinearAdapter]
family = pytest.mark.parametrize("Method", FAMILY)
# Settings that move a head well away from the text.
LOOSE = {
    LinearProbe: {"penalty": 0.01}, CLAP: {"penalty": 0.01}, TaskRes: {"residual_scale": 2.0}, LPPlusPlus: {},
    CrossModalProbe: {"penalty": 0.01}, LinearAdapter: {"penalty": 0.01},
}  # fmt: skip
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


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.integers(1, 5), st.floats(0.5, 100))
def test_more_pieces_equal_the_naive_formulas(seed, c, s):
    rng = np.random.default_rng(seed)
    task = make_task((2,) * c, d=4, seed=seed)
    f, T = naive.unit(task.Xq[:5]), naive.unit(task.T)
    w, b, a, delta = rng.normal(size=(c, 4)), rng.normal(size=c), rng.normal(size=c), rng.normal(size=(4, 4))
    tf, tT, tw, tb, ta, td = (torch.as_tensor(v) for v in (f, T, w, b, a, delta))
    ours = s * tf @ task_res_weights(tT, tw, text_norm=9.0).T
    np.testing.assert_allclose(ours, linear.task_res(f, T, w, 9.0, s), rtol=1e-9, atol=1e-9)
    ours = lp_plus_plus_logits(tf, tT, weights=tw, bias=tb, text_weights=ta)
    np.testing.assert_allclose(ours, linear.lp_plus_plus(f, T, w, b, a), rtol=1e-9, atol=1e-9)
    ours = linear_adapter_logits(tf, tT, td, logit_scale=s)
    np.testing.assert_allclose(ours, linear.linear_adapter(f, T, delta, s), rtol=1e-9, atol=1e-9)
    Q = text_basis(tT)
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-9)
    centred = T - T.mean(0)
    np.testing.assert_allclose(centred @ Q.numpy() @ Q.numpy().T, centred, atol=1e-4)
    ours = linear_adapter_logits(tf, tT, td[:, : Q.shape[1]], basis=Q, logit_scale=s)
    expected = linear.linear_adapter(f, T, delta[:, : Q.shape[1]] @ Q.numpy().T, s)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


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


def test_other_heads_worked_by_hand():
    e = torch.eye(2)
    # R T + a r = (3, 0) + (0, 4): direction (0.6, 0.8).
    weights = task_res_weights(e[:1], torch.tensor([[0.0, 4.0]]), text_norm=3.0)
    np.testing.assert_allclose(weights, [[0.6, 0.8]], atol=1e-6)
    # f · w = 2, b = 1, a · f · T = 3 for class 0; f · T = 0 for class 1.
    parts = {"weights": torch.tensor([[2.0, 5.0], [0.5, 0.0]]), "bias": torch.tensor([1.0, -1.0])}
    z = lp_plus_plus_logits(e[:1], e, **parts, text_weights=torch.tensor([3.0, 7.0]))
    assert z.tolist() == [[6.0, -0.5]]
    # f + f Δ = (1, 0) + (-0.4, 0.8) = (0.6, 0.8).
    z = linear_adapter_logits(e[:1], e, torch.tensor([[-0.4, 0.8], [0.0, 0.0]]), logit_scale=10.0)
    np.testing.assert_allclose(z, [[6.0, 8.0]], atol=1e-5)
    # Two texts differ along one line only.
    basis = text_basis(e)
    np.testing.assert_allclose(basis.abs(), np.full((2, 1), 0.5**0.5), atol=1e-6)


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


def test_lp_plus_plus_descends_as_written():
    task = make_task((3, 3, 3), d=6, noise=1.5, text_noise=1.5, n_queries=10)
    clf = LPPlusPlus(task.T, epochs=25, **BARE).fit(task.X, task.y)
    w, b, a = linear.fit_lp_plus_plus(naive.unit(task.X), task.y, naive.unit(task.T), 8.0, 25)
    np.testing.assert_allclose(clf.weights_, w, atol=1e-4)
    np.testing.assert_allclose(clf.bias_, b, atol=1e-4)
    np.testing.assert_allclose(clf.text_weights_, a, atol=1e-4)
    expected = linear.lp_plus_plus(naive.unit(task.Xq), naive.unit(task.T), w, b, a)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, atol=1e-3)


def test_one_step_of_task_res_worked_by_hand():
    # Step one of Adam moves by a·lr·g/(|g| + eps): a·lr where the gradient is large.
    clf = TaskRes(TASK.T, residual_scale=0.5, epochs=1, learning_rate=0.01, **BARE).fit(TASK.X, TASK.y)
    X, T = naive.unit(TASK.X), naive.unit(TASK.T)
    weights = linear.row_weights(TASK.y, 3)

    def loss(r):
        return linear.cross_entropy(linear.task_res(X, T, r, 9.0, 8.0), TASK.y, weights)

    g = linear.gradient(loss, np.zeros_like(T))
    np.testing.assert_allclose(clf.residual_, -0.005 * g / (np.abs(g) + 1e-4), atol=2e-6)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_cross_modal_learns_prompts_like_images_and_is_averaged_with_the_text(share):
    rng = np.random.default_rng(0)
    prompts = [naive.unit(t + 0.2 * rng.normal(size=(p, 6))) for t, p in zip(TASK.T, (1, 2, 3), strict=True)]
    clf = CrossModalProbe(prompts, penalty=0.05, text_norm=3.0, text_share=share, max_steps=500, **BARE)
    clf.fit(TASK.X, TASK.y)
    X, T = naive.unit(TASK.X), naive.unit([p.mean(0) for p in prompts])
    samples, owners = np.concatenate(prompts), np.repeat(np.arange(3), (1, 2, 3))

    def loss(w):
        images = linear.cross_entropy(8 * X @ w.T, TASK.y, linear.row_weights(TASK.y, 3))
        texts = linear.cross_entropy(8 * samples @ w.T, owners, linear.row_weights(owners, 3))
        return (images + texts) / 2 + 0.05 * linear.pull(w, T, 3.0, np.ones(3))

    w = (clf.weights_.double().numpy() - share * T) / (1 - share)
    assert np.abs(linear.gradient(loss, w)).max() < 1e-4 * np.abs(linear.gradient(loss, T)).max()
    np.testing.assert_allclose(
        clf.predict_logits(TASK.Xq), 8 * naive.unit(TASK.Xq) @ clf.weights_.numpy().T, atol=1e-4
    )


@pytest.mark.parametrize("span", [True, False])
def test_the_linear_adapter_is_where_the_naive_loss_is_flat(span):
    clf = LinearAdapter(TASK.T, penalty=0.1, span=span, max_steps=500, **BARE).fit(TASK.X, TASK.y)
    X, T, weights = naive.unit(TASK.X), naive.unit(TASK.T), linear.row_weights(TASK.y, 3)
    Q = clf.basis_.double().numpy() if span else np.eye(6)
    assert clf.n_parameters_ == (6 * 2 if span else 6 * 6)

    def loss(A):
        z = linear.linear_adapter(X, T, A @ Q.T, 8.0)
        return linear.cross_entropy(z, TASK.y, weights) + 0.1 * (A**2).sum()

    A = clf.delta_.double().numpy()
    assert np.abs(linear.gradient(loss, A)).max() < 1e-4 * np.abs(linear.gradient(loss, 0 * A)).max()
    expected = linear.linear_adapter(naive.unit(TASK.Xq), T, A @ Q.T, 8.0)
    np.testing.assert_allclose(clf.predict_logits(TASK.Xq), expected, atol=1e-4)


@family
def test_all_views_of_an_image_share_its_weight(Method):
    # Each image twice, one of them three times: nothing changes but the number of rows.
    repeats = np.array([2] * 8 + [3])
    X, y, groups = (np.repeat(a, repeats, axis=0) for a in (TASK.X, TASK.y, np.arange(9)))
    one = Method(TASK.T, **LOOSE[Method], **BARE).fit(TASK.X, TASK.y).predict_logits(TASK.Xq)
    other = Method(TASK.T, **LOOSE[Method], **BARE).fit(X, y, groups=groups).predict_logits(TASK.Xq)
    np.testing.assert_allclose(other, one, atol=1e-3)


@family
def test_a_class_without_images_keeps_its_text_and_gets_the_largest_gain(Method):
    task = make_task((4, 0, 4), noise=2, text_noise=2)
    loose = LOOSE[Method] | BARE
    clf = Method(task.T, classes=range(3), **loose).fit(task.X, task.y)
    if Method in PULLED:
        np.testing.assert_allclose(clf.weights_[1], task.T[1], atol=1e-5)
    _, images, _ = clf.evidence(task.Xq)
    np.testing.assert_allclose(images[:, 1], images[:, [0, 2]].max(1), atol=1e-4)
    assert np.abs(images).max() > 0.1
    bare = Method(task.T, classes=range(3), class_balance=False, **loose).fit(task.X, task.y)
    if Method in PULLED:
        assert np.abs(bare.weights_[1].numpy() - task.T[1]).max() > 1e-3  # pushed away, as published
    _, images, _ = bare.evidence(task.Xq)
    assert images[:, 1].mean() < images[:, [0, 2]].max(1).mean() - 0.1


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


@family
def test_noise_leads_back_to_the_text(Method):
    task = make_task((4,) * 10, noise=0.8, text_noise=0.8, n_queries=50)
    noise = np.random.default_rng(0).normal(size=task.X.shape).astype(np.float32)
    clf = Method(task.T, logit_scale=20.0).fit(noise, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), 20 * task.Xq @ task.T.T, atol=1e-3)


@family
def test_the_head_travels_with_the_adapter(Method):
    from fewclip.method_state import method_state, restore_method

    clf = Method(TASK.T, **LOOSE[Method], **BARE).fit(TASK.X, TASK.y)
    again = restore_method(*method_state(clf), device="cpu")
    np.testing.assert_array_equal(again.predict_logits(TASK.Xq), clf.predict_logits(TASK.Xq))


# ---- errors ----


@pytest.mark.parametrize(
    ("Method", "wrong"),
    [
        (LinearProbe, {"penalty": -1}), (CLAP, {"penalty": "best"}), (LinearAdapter, {"penalty": np.nan}),
        (LinearProbe, {"text_norm": 0}), (TaskRes, {"text_norm": -1}), (CLAP, {"max_steps": 1.5}),
        (LinearAdapter, {"span": 1}), (CrossModalProbe, {"text_share": 1.5}),
        (TaskRes, {"residual_scale": 0}),
        (TaskRes, {"residual_scale": "big"}), (TaskRes, {"epochs": -1}), (TaskRes, {"learning_rate": -1}),
        (LPPlusPlus, {"epochs": None}),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(Method, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Method(TASK.T, **wrong).fit(TASK.X, TASK.y)


def test_a_loss_that_is_not_finite_says_what_to_change():
    from fewclip.methods.solvers import adam, lbfgs

    start = {"x": torch.ones(2)}
    with pytest.raises(TrainingError, match="penalty"):
        lbfgs(start, lambda p: torch.log(-p["x"]).sum(), max_steps=3, tolerance=1e-5, what="penalty=")
    with pytest.raises(TrainingError, match="learning_rate"):
        adam(start, lambda p: torch.log(-p["x"]).sum(), steps=3, learning_rate=0.1, what="learning_rate=")


def test_on_real_features_the_heads_gain(caltech):
    T, X, y = caltech["text_features"], caltech["train_features"], caltech["train_labels"]
    some = np.arange(len(y)) % 16 < 2
    zero_shot = METHODS["zero-shot"](T).fit(X[some], y[some])
    val = caltech["val_features"], caltech["val_labels"]
    for Method in FAMILY:
        clf = Method(T, selection="none", calibration="none", **LOOSE[Method]).fit(X[some], y[some])
        assert clf.score(*val) >= zero_shot.score(*val) + 0.004
