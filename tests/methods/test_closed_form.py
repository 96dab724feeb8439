"""Closed-form and training-free heads: their formulas, what leaving out equals, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import closed_form as slow
from reference.naive import channels, unit
from reference.tasks import make_task

from fewclip.errors import ParameterError
from fewclip.functional import (
    KernelPath,
    gda_head,
    gda_left_out,
    gda_logits,
    guided_text,
    proker_coefficients,
    proker_kernel,
    proker_large,
    proker_logits,
    proker_residuals,
    ss_text_logits,
    text_samples,
    timo_logits,
)
from fewclip.functional.gda import gda_noise, scatter, shot_bias
from fewclip.methods import GDA, TIMO, TIMOS, ProKeR, SSText

pytestmark = pytest.mark.usefixtures("one_thread")


def tensors(task):
    return (torch.as_tensor(a) for a in (task.Xq, task.X, task.y, task.T))


def draw(caltech, k, seed=0):
    """k labelled images a class of Caltech-101, and everything that is needed beside them."""
    rng, y = np.random.default_rng(seed), caltech["train_labels"]
    kept = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:k] for c in range(y.max() + 1)])
    return caltech["train_features"][kept].astype(np.float32), y[kept]


def gain(caltech, method, k, seed=0):
    """Accuracy on validation images over zero-shot's, in points."""
    T = caltech["text_features"].astype(np.float32)
    V, v = caltech["val_features"].astype(np.float32), caltech["val_labels"]
    return 100 * (method(T).fit(*draw(caltech, k, seed)).score(V, v) - ((V @ T.T).argmax(1) == v).mean())


# ---- GDA ----


@pytest.mark.parametrize(("rows", "d"), [(40, 30), (1500, 300), (2100, 256), (1100, 600)])
def test_the_scatter_is_a_product(rows, d):
    deviations = torch.randn(rows, d, generator=torch.Generator().manual_seed(d)).double()
    found = scatter(deviations)
    torch.testing.assert_close(found.double(), deviations.T @ deviations, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(found, found.T)


@pytest.mark.parametrize("d", [6, 40], ids=["more rows than channels", "fewer"])
@pytest.mark.parametrize("shots", [(4, 4, 4), (5, 1, 3), (1, 1, 1), (1, 7, 1)])
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_gda_is_its_formula(d, shots, tau):
    task = make_task(shots, d=d)
    expected = slow.gda(task.Xq, task.X, task.y, task.T, alpha=0.3, s=50, tau=tau)
    clf = GDA(task.T, alpha=0.3, text_scatter=tau, logit_scale=50.0).fit(task.X, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=2e-3)
    if tau == 0:
        logits = gda_logits(*tensors(task), alpha=0.3, logit_scale=50.0)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=2e-3)
        by_alpha = GDA(task.T, alpha=0.3, logit_scale=50.0).fit(task.X, task.y)
        np.testing.assert_allclose(by_alpha.predict_logits(task.Xq), expected, rtol=1e-4, atol=2e-3)


def test_noise_and_bias_of_unequal_shots_by_a_naive_transcription():
    task = make_task((5, 2, 1, 4))
    _, X, y, _ = tensors(task)
    rows, labels = X.double().numpy(), y.numpy()
    means = np.stack([rows[labels == c].mean(0) for c in range(4)])
    Y = rows - means[labels]
    W = Y.T @ Y
    P = X.shape[1] * np.linalg.inv(W + np.trace(W) / (len(X) - 1) * np.eye(X.shape[1]))
    noise = sum(row @ P @ row for row in Y) / (len(X) - 4)
    assert gda_noise(X, y, 4) == pytest.approx(noise, rel=1e-6)
    k = np.array([5, 2, 1, 4])
    expected = 0.5 * noise * (1 / k - (1 / k).mean())
    np.testing.assert_allclose(shot_bias(noise, torch.as_tensor(k)), expected, rtol=1e-9)
    assert shot_bias(noise, torch.tensor([3, 3, 0])).tolist() == [0.0, 0.0, 0.0]


def test_means_of_few_images_have_no_less_chance():
    share, scores = [], []
    for seed in range(12):
        task = make_task((12, 2) * 5, d=32, noise=1.5, text_noise=3.0, n_queries=200, seed=seed)
        for balanced in (True, False):
            clf = GDA(task.T, class_balance=balanced, safe=False).fit(task.X, task.y)
            predicted = clf.predict(task.Xq)
            share.append((predicted % 2 == 1).mean())
            scores.append((predicted == task.yq).mean())
    corrected, published = np.reshape(share, (-1, 2)).mean(0)
    assert published < corrected < 0.6
    better, bare = np.reshape(scores, (-1, 2)).mean(0)
    assert better > bare


def test_where_alpha_is_given_scores_are_the_papers():
    task = make_task((12, 2, 5))
    clfs = [GDA(task.T, alpha=0.3, class_balance=balanced).fit(task.X, task.y) for balanced in (True, False)]
    np.testing.assert_array_equal(*(clf.predict_logits(task.Xq) for clf in clfs))


def test_many_rows_give_the_same_gda(monkeypatch):
    task = make_task((40, 30, 50), d=24)
    _, X, y, T = tensors(task)
    exact = gda_head(X, y, 3, text_features=T, text_scatter=0.5)
    monkeypatch.setattr("fewclip.functional.gda._MANY_ROWS", 100)
    monkeypatch.setattr("fewclip.functional.gda._TILE_ROWS", 32)
    many = gda_head(X, y, 3, text_features=T, text_scatter=0.5)
    np.testing.assert_allclose(many.weights, exact.weights, rtol=1e-4, atol=1e-4 * exact.weights.abs().max())
    np.testing.assert_allclose(many.bias, exact.bias, rtol=1e-4)


def test_gda_by_hand():
    # One channel matters: classes at (1, 0) and (0, 1), each with two rows 0.2 apart along one axis.
    X = torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]])
    y, d = torch.tensor([0, 0, 1, 1]), 2
    # W = diag(0.02, 0.02), tr W/(m − 1) = 0.04/3, so P = 2/(0.02 + 0.04/3) I = 60 I.
    head = gda_head(X, y, d)
    np.testing.assert_allclose(head.weights, 60 * np.eye(2), atol=1e-4)
    np.testing.assert_allclose(head.bias, [-30, -30], atol=1e-4)
    np.testing.assert_allclose(head(torch.tensor([[0.5, 0.25]])), [[0.0, -15.0]], atol=1e-4)


def one_by_one(y):
    return [torch.tensor([i]) for i in range(len(y))]


def one_of_every_class(y):
    rows = [torch.as_tensor(np.flatnonzero(y == c)) for c in np.unique(y)]
    return [torch.tensor([int(r[i]) for r in rows if i < len(r)]) for i in range(max(map(len, rows)))]


@pytest.mark.parametrize("parts", [one_by_one, one_of_every_class])
@pytest.mark.parametrize("d", [5, 40], ids=["more rows than channels", "fewer"])
@pytest.mark.parametrize("shots", [(2, 2, 2), (6, 6, 6), (9, 1, 3, 0, 2), (1, 1, 1), (12, 12, 12)])
@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_leaving_out_by_downdates_is_fitting_again(parts, d, shots, tau):
    task = make_task(shots, d=d)
    _, X, y, T = tensors(task)
    left_out = parts(task.y)
    found = gda_left_out(X, y, len(T), left_out, text_features=T, text_scatter=tau)
    for part, (scores, present) in zip(left_out, found, strict=True):
        rest = ~torch.isin(torch.arange(len(y)), part)
        if not rest.any():
            continue
        again = gda_head(X[rest], y[rest], len(T), text_features=T, text_scatter=tau)
        expected = again(X[part])
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        np.testing.assert_array_equal(present, np.bincount(y[rest], minlength=len(T)) > 0)


def test_views_of_an_image_leave_together_and_without_text_too():
    task = make_task((6, 4, 8), d=12)
    _, X, y, _ = tensors(task)
    left_out = [torch.tensor([0, 1]), torch.tensor([10, 11, 12])]
    for part, (scores, _) in zip(left_out, gda_left_out(X, y, 3, left_out), strict=True):
        rest = ~torch.isin(torch.arange(len(y)), part)
        np.testing.assert_allclose(scores, gda_head(X[rest], y[rest], 3)(X[part]), rtol=1e-4, atol=1e-3)


def test_alpha_of_a_strength_does_not_depend_on_the_size_of_scores():
    # Folds of two shots leave one image a class: their scores are several times as large as the fitted ones.
    task = make_task((2,) * 12, d=64, n_queries=240, noise=0.5, text_noise=2.0)
    clf = GDA(task.T, logit_scale=20.0).fit(task.X, task.y)
    text, image, _ = clf.evidence(task.Xq)
    assert clf.selection_.strength > 0
    assert image.std(1).mean() / text.std(1).mean() == pytest.approx(clf.selection_.strength, rel=0.3)
    assert clf.selection_.settings["alpha"] == clf.alpha_


def test_where_the_text_is_perfect_gda_leaves_it_alone():
    task = make_task((4,) * 10, d=64, text_noise=0.0, noise=3.0)
    wrong = np.random.default_rng(0).permutation(task.y)
    assert GDA(task.T).fit(task.X, wrong).alpha_ == 0


def test_gda_on_real_features(caltech):
    assert gain(caltech, GDA, 1) > 0.5
    assert gain(caltech, GDA, 4) > 1.5


@pytest.mark.parametrize("value", [-1.0, "best", np.nan, np.inf, None, True])
def test_gda_refuses_settings_that_mean_nothing(value):
    task = make_task()
    for name in ("alpha", "text_scatter"):
        with pytest.raises(ParameterError, match=rf"{name}.*GDA"):
            GDA(task.T, **{name: value}).fit(task.X, task.y)


# ---- ProKeR ----


@pytest.mark.parametrize(("beta", "ridge"), [(1.5, 0.05), (4.0, 10.0)])
def test_proker_is_its_formula(beta, ridge):
    task = make_task((4, 4, 4))
    expected = slow.proker(task.Xq, task.X, task.y, task.T, s=50, beta=beta, ridge=ridge)
    logits = proker_logits(*tensors(task), beta=beta, ridge=ridge, logit_scale=50.0)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    clf = ProKeR(task.T, alpha=1.0, beta=beta, ridge=ridge, logit_scale=50.0).fit(task.X, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-3)
    bare = ProKeR(task.T, safe=False, beta=beta, ridge=ridge, logit_scale=50.0).fit(task.X, task.y)
    np.testing.assert_allclose(bare.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-3)
    half = ProKeR(task.T, alpha=0.5, beta=beta, ridge=ridge, logit_scale=50.0).fit(task.X, task.y)
    text = 50 * task.Xq @ task.T.T
    np.testing.assert_allclose(half.predict_logits(task.Xq) - text, (expected - text) / 2, atol=1e-3)


def test_unequal_shots_weigh_the_ridge():
    task = make_task((5, 1, 3))
    w = np.array([3 / 5, 3 / 1, 3 / 3])[task.y]
    common = {"s": 50, "beta": 2.0, "ridge": 0.1}
    for balanced in (True, False):
        clf = ProKeR(task.T, alpha=1.0, beta=2.0, ridge=0.1, logit_scale=50.0, class_balance=balanced).fit(
            task.X, task.y
        )
        expected = slow.proker(task.Xq, task.X, task.y, task.T, w=w if balanced else None, **common)
        np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-3)


def test_proker_by_hand():
    # One image of each of two classes, at right angles, exactly on its text, β = ln 2: K has ones and halves.
    X, y = torch.eye(2), torch.arange(2)
    # L − X Tᵀ = 0: the text explains all, and nothing is added.
    np.testing.assert_allclose(proker_logits(X, X, y, X, beta=1.0, ridge=0.1, logit_scale=7.0), 7 * X)
    # With the texts swapped L − X Tᵀ = (1, −1; −1, 1), an eigenvector of K of the value 1 − ½. λ = ½: a is
    # half of it, and k(X₀, X) a = (1 − ½)·½ = ¼.
    logits = proker_logits(X, X, y, X.flip(0), beta=float(np.log(2)), ridge=0.5, logit_scale=1.0)
    np.testing.assert_allclose(logits[0], [0.25, 1 - 0.25], atol=1e-6)


@pytest.mark.parametrize("parts", [one_by_one, one_of_every_class])
@pytest.mark.parametrize("shots", [(3, 3, 3), (6, 1, 3, 0, 2)])
@pytest.mark.parametrize("weighted", [True, False])
def test_leaving_out_of_a_kernel_path_is_fitting_again(parts, shots, weighted):
    task = make_task(shots)
    _, X, y, T = tensors(task)
    w = torch.rand(len(y), generator=torch.Generator().manual_seed(0)) + 0.5 if weighted else None
    path, R = KernelPath(X, beta=1.7, weights=w), proker_residuals(X, y, T)
    for ridge in (0.003, 0.1, 20.0):
        left_out = parts(task.y)
        for part, scores in zip(left_out, path.left_out(R, left_out, ridge=ridge), strict=True):
            rest = ~torch.isin(torch.arange(len(y)), part)
            again = slow.proker_correction(
                *(task.X[part.numpy()], task.X[rest.numpy()], task.y[rest.numpy()], task.T),
                beta=1.7, ridge=ridge, w=None if w is None else w[rest].numpy(),
            )  # fmt: skip
            np.testing.assert_allclose(scores, again, atol=1e-4 * np.abs(again).max())
        exact = proker_coefficients(X, R, beta=1.7, ridge=ridge, weights=w)
        np.testing.assert_allclose(path.coefficients(R, ridge=ridge), exact, rtol=1e-6, atol=1e-9)


def test_many_rows_keep_the_stated_bound():
    task = make_task((60,) * 6, d=32, n_queries=100)
    Xq, X, y, T = tensors(task)
    R, w = proker_residuals(X, y, T), torch.linspace(0.5, 2, len(y))
    for tolerance in (0.05, 1e-4):
        for settings in ({"beta": 1.7, "ridge": 0.1}, {"beta": 6.0, "ridge": 0.01, "weights": w}):
            a, bound = proker_large(X, R, **settings, n_landmarks=40, tolerance=tolerance)
            error = proker_kernel(Xq, X, beta=settings["beta"]) @ (a - proker_coefficients(X, R, **settings))
            assert error.abs().max() <= bound <= tolerance * 1.01


def test_a_large_fit_says_how_exact_it_is(monkeypatch):
    task = make_task((8,) * 6)
    exact = ProKeR(task.T, alpha=1.0, beta=2.0, ridge=0.1).fit(task.X, task.y)
    monkeypatch.setattr("fewclip.methods.proker.EXACT_ROWS", 20)
    monkeypatch.setattr("fewclip.methods.proker.JUDGED_ROWS", 24)
    large = ProKeR(task.T, alpha=1.0, beta=2.0, ridge=0.1).fit(task.X, task.y)
    difference = np.abs(large.predict_logits(task.Xq) - exact.predict_logits(task.Xq)).max()
    assert exact.error_bound_ == 0
    assert difference <= large.error_bound_ + 1e-4 <= 0.02
    assert ProKeR(task.T).fit(task.X, task.y).selection_.estimate.n_images == 24
    val = make_task((5,) * 6, seed=3)
    full = ProKeR(task.T).fit(task.X, task.y, X_val=val.X, y_val=val.y)
    assert len(full.selection_.table) == 1


def test_proker_on_real_features(caltech):
    assert gain(caltech, ProKeR, 2) > 0.8


@pytest.mark.parametrize("name", ["alpha", "beta", "ridge"])
def test_proker_refuses_settings_that_mean_nothing(name):
    task = make_task()
    for value in (-1.0, "best", np.nan, None, *([0] if name == "ridge" else [])):
        with pytest.raises(ParameterError, match=rf"{name}.*ProKeR"):
            ProKeR(task.T, **{name: value}).fit(task.X, task.y)


# ---- refined channels ----


def test_scores_on_refined_channels():
    task = make_task((4, 3, 5), d=30)
    kept = channels(task.T, 12, (0.2, 0.8))
    f, X, T = (unit(a[:, kept]) for a in (task.Xq, task.X, task.T))
    text = 50 * task.Xq @ task.T.T
    for n_channels in (12, 0.4):
        clf = GDA(task.T, alpha=0.3, n_channels=n_channels, logit_scale=50.0).fit(task.X, task.y)
        expected = text + 0.3 * slow.gda_scores(f, X, task.y, T)
        np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=2e-3)
        assert clf.selection_.settings["n_channels"] == 12
        assert len(clf.channels_) == 12
    clf = ProKeR(
        task.T, beta=2.0, ridge=0.1, n_channels=12, class_balance=False, safe=False, logit_scale=50.0
    )
    K = np.exp(-2 * (1 - X @ X.T)) / 0.1 + np.eye(len(X))
    a = np.linalg.solve(K, np.eye(3)[task.y] - task.X @ task.T.T)
    expected = text + 50 * np.exp(-2 * (1 - f @ X.T)) @ a
    np.testing.assert_allclose(
        clf.fit(task.X, task.y).predict_logits(task.Xq), expected, rtol=1e-4, atol=2e-3
    )


@pytest.mark.parametrize("Method", [GDA, ProKeR])
def test_channels_are_judged_and_refused(Method):
    task = make_task((4, 1, 3, 0), noise=2)
    for text in (task.T, None):
        classes = range(4) if text is not None else None
        clf = Method(text, classes=classes, n_channels=12).fit(task.X, task.y)
        assert clf.predict(task.Xq).shape == (40,)
    for value in (0, 25, 1.5, "most"):
        with pytest.raises(ParameterError, match=rf"n_channels.*{Method.__name__}"):
            Method(task.T, classes=range(4), n_channels=value).fit(task.X, task.y)


# ---- TIMO ----


def with_prompts(task, numbers, noise=0.5, seed=0):
    """Several prompts of each class around its text, some further from it."""
    rng = np.random.default_rng(seed)
    return [
        unit(t + noise * (1 + np.arange(p))[:, None] * rng.normal(size=(p, len(t))) / len(t) ** 0.5)
        for p, t in zip(numbers, task.T, strict=True)
    ]


@pytest.mark.parametrize("d", [6, 40], ids=["more rows than channels", "fewer"])
@pytest.mark.parametrize("shots", [(4, 4, 4), (1, 1, 1), (5, 1, 3)])
@pytest.mark.parametrize(("g", "n"), [(50.0, None), (5.0, 2)])
def test_timo_is_its_formula(d, shots, g, n):
    task = make_task(shots, d=d)
    prompts = with_prompts(task, (1, 3, 5))
    expected = slow.timo(task.Xq, task.X, task.y, prompts, alpha=0.2, s=50, g=g, n=n)
    clf = TIMO(prompts, alpha=0.2, guidance=g, n_prompts=n, logit_scale=50.0).fit(task.X, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=2e-3)
    rows, owners = torch.as_tensor(np.concatenate(prompts)).float(), torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2])
    f, X, y, _ = tensors(task)
    logits = timo_logits(f, X, y, rows, owners, 3, alpha=0.2, logit_scale=50.0, guidance=g, n_prompts=n)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=2e-3)
    order = [2, 0, 1]
    named = TIMO(
        [prompts[i] for i in order], classes=order, alpha=0.2, guidance=g, n_prompts=n, logit_scale=50.0
    )
    again = named.fit(task.X, task.y).predict_logits(task.Xq)
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=2e-3)


def test_guided_text_by_hand():
    # Prompts (1, 0) and (0, 1), the image exactly between and exactly on one of them.
    prompts, owners = torch.eye(2), torch.zeros(2, dtype=torch.int64)
    between = torch.tensor([0.5**0.5, 0.5**0.5])
    np.testing.assert_allclose(guided_text(prompts, owners, between, 1, guidance=50.0), [[0.5**0.5] * 2])
    on_one = torch.tensor([1.0, 0.0])  # a = softmax(ln 3 · (1, 0)) = (3, 1)/4
    text = guided_text(prompts, owners, on_one, 1, guidance=float(np.log(3)))
    np.testing.assert_allclose(text, np.array([[3, 1]]) / 10**0.5, rtol=1e-6)
    mean = guided_text(prompts, owners, torch.zeros(2), 1, guidance=50.0)  # a class without images
    np.testing.assert_allclose(mean, [[0.5**0.5] * 2])
    samples, classes = text_samples(prompts, owners, torch.tensor([0.2, 0.9]), n_prompts=1)
    np.testing.assert_allclose(samples, [[0, 0.9]])
    assert classes.tolist() == [0]


def test_a_class_without_images_has_no_text_samples():
    task = make_task((4, 0, 3))
    prompts = with_prompts(task, (2, 2, 2))
    clf = TIMO(prompts, classes=range(3), alpha=0.2).fit(task.X, task.y)
    np.testing.assert_array_equal(clf.weights_[1], np.zeros(24))
    np.testing.assert_allclose(clf.guided_text_[1], clf.text_features_[1], atol=1e-6)


def test_images_choose_good_prompts_and_timo_s_chooses_how_sharply():
    # Of eight prompts of a class seven are noise: images know the good one.
    task, rng = make_task((4,) * 20, d=64, text_noise=0.3, n_queries=400), np.random.default_rng(1)
    prompts = [unit(np.vstack([t, rng.normal(size=(7, 64)) / 8])) for t in task.T]
    timo, timo_s = (M(prompts, logit_scale=30.0).fit(task.X, task.y) for M in (TIMO, TIMOS))
    zero_shot = (task.Xq @ timo.text_features_.numpy().T).argmax(1) == task.yq
    assert timo.guided_share_ > 0.3
    assert timo.score(task.Xq, task.yq) > zero_shot.mean() + 0.05
    assert timo_s.score(task.Xq, task.yq) > zero_shot.mean() + 0.05
    assert {"guidance", "n_prompts", "alpha"} == timo_s.selection_.settings.keys()
    val = make_task((4,) * 20, d=64, seed=2)
    TIMOS(prompts).fit(task.X, task.y, X_val=val.X, y_val=val.y)


def test_useless_images_choose_no_prompts():
    task, rng = make_task((4,) * 10, d=64, text_noise=0.3), np.random.default_rng(1)
    clf = TIMO(with_prompts(task, (6,) * 10)).fit(unit(rng.normal(size=task.X.shape)), task.y)
    assert (clf.alpha_, clf.guided_share_) == (0, 0)
    np.testing.assert_allclose(clf.base_text_, clf.text_features_, atol=1e-6)


def test_timo_on_real_features(caltech):
    assert gain(caltech, TIMO, 4) > 1.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", -1.0), ("guidance", -1.0), ("guidance", "best"), ("n_prompts", 0), ("n_prompts", 1.5)],
)
def test_timo_refuses_settings_that_mean_nothing(name, value):
    task = make_task()
    with pytest.raises(ParameterError, match=rf"{name}.*TIMO"):
        TIMO(task.T, **{name: value}).fit(task.X, task.y)


# ---- SS-Text+ ----


@pytest.mark.parametrize("shots", [(3, 3, 3), (5, 1, 3)])
def test_ss_text_is_its_formula(shots):
    task = make_task(shots)
    expected = slow.ss_text(task.Xq, task.X, task.y, task.T, s=50, R=9)
    logits = ss_text_logits(*tensors(task), logit_scale=50.0, text_norm=9.0)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    clf = SSText(task.T, logit_scale=50.0, safe=False, class_balance=False).fit(task.X, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, rtol=1e-4, atol=1e-4)
    balanced = slow.ss_text(task.Xq, task.X, task.y, task.T, s=50, R=9, balanced=True)
    clf = SSText(task.T, logit_scale=50.0, safe=False).fit(task.X, task.y)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), balanced, rtol=1e-4, atol=1e-4)


def test_ss_text_by_hand():
    # R = 1, s = 2, one image a class of two: v = T + X = (1, 0) + (1, 0) and (0, 1) + (0, 1).
    X = torch.eye(2)
    # 2 v₀ − v̄ = (3, −1), unit (3, −1)/√10; w₀ = (2 − 3/√10, 1/√10).
    w = np.array([2 - 3 / 10**0.5, 1 / 10**0.5])
    expected = 2 * w / np.linalg.norm(w)
    logits = ss_text_logits(X[:1], X, torch.arange(2), X, logit_scale=2.0, text_norm=1.0)
    np.testing.assert_allclose(logits, [expected], atol=1e-6)


def test_ss_text_is_only_safe_where_something_can_be_left_out():
    rng, task = np.random.default_rng(0), make_task((3,) * 10, d=64, text_noise=0.2)
    noise = rng.normal(size=task.X.shape).astype(np.float32)
    bare = SSText(task.T, selection="none").fit(noise, task.y)
    safe = SSText(task.T).fit(noise, task.y)
    assert (bare.mix_, safe.mix_) == (1.0, 0.0)
    assert "nothing that keeps it safe" in bare.selection_.note


@pytest.mark.parametrize("value", [0, -1.0, "auto", np.nan, np.inf])
def test_ss_text_refuses_a_norm_that_means_nothing(value):
    task = make_task()
    with pytest.raises(ParameterError, match=r"text_norm.*SSText"):
        SSText(task.T, text_norm=value).fit(task.X, task.y)
