"""One suite for every method: scikit-learn's contract on features, and what this library adds to it."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest
import torch
from reference import naive
from reference.tasks import make_task
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import fewclip.methods
from fewclip.errors import FeatureError, InputError, LabelError, ParameterError
from fewclip.methods import METHODS

pytestmark = pytest.mark.usefixtures("one_thread")
methods = pytest.mark.parametrize("Method", METHODS.values(), ids=METHODS.keys())
CACHE = {name: cls for name, cls in METHODS.items() if name in ("tip-adapter", "tip-x", "ape")}
LINEAR_NAMES = ("linear-probe", "clap", "task-res", "lp++", "cross-modal", "linear-adapter")
LINEAR = {name: METHODS[name] for name in LINEAR_NAMES}
TRAINED = LINEAR | {name: METHODS[name] for name in ("clip-adapter", "tip-adapter-f", "ape-t")}
cache_methods = pytest.mark.parametrize("Method", CACHE.values(), ids=CACHE.keys())
NAMES = np.array(["zebra", "ant", "Mole rat", "yak", "bee"])  # deliberately unsorted

# What each method has besides the common parameters, at values that give the published formula.
PUBLISHED = {
    "ZeroShot": {},
    "Ensemble": {"methods": ("tip-adapter", "ape")},
    "Auto": {"methods": ("tip-adapter", "ape")},
    "TipAdapter": {"alpha": 2.0, "beta": 4.0},
    "CALIP": {},
    "CLIPAdapter": {},
    "TipAdapterF": {"alpha": 2.0, "beta": 4.0},
    "APET": {"alpha": 0.5, "beta": 4.0, "n_channels": 12},
    "TipX": {"alpha": 2.0, "beta": 4.0, "gamma": 0.5},
    "APE": {"alpha": 0.5, "beta": 4.0, "gamma": 0.3, "n_channels": 12},
    "GDA": {"alpha": 0.5},
    "ProKeR": {"alpha": 1.0, "beta": 2.0, "ridge": 0.1},
    "SSText": {"safe": False},
    "TIMO": {"alpha": 0.5},
    "TIMOS": {"alpha": 0.5, "guidance": 20.0, "n_prompts": None},
    "LinearProbe": {"penalty": 0.1, "safe": False},
    "CLAP": {"penalty": 1.0, "safe": False},
    "TaskRes": {"residual_scale": 0.5, "safe": False},
    "LPPlusPlus": {"safe": False},
    "CrossModalProbe": {"penalty": 0.1, "safe": False},
    "LinearAdapter": {"penalty": 0.25, "safe": False},
}
OF_VIEWS = {
    "Ensemble",
    "Auto",
    "GDA",
    "ProKeR",
    "TIMO",
    "TIMOS",
}  # look at every view, not at the mean of an image's views
SCALED = {"Ensemble", "Auto", "ProKeR", "SSText"}  # the logit scale belongs to more than the text term
NO_CACHE = {
    "Ensemble",
    "Auto",
    "CLIPAdapter",
    "APET",
    "GDA",
    "ProKeR",
    "SSText",
    "TIMO",
    "TIMOS",
    *(Method.__name__ for Method in LINEAR.values()),
}  # what the images taught is not only in keys


def published(Method, T=None, **parameters):
    return Method(T, **(PUBLISHED[Method.__name__] | parameters))


@parametrize_with_checks([Method() for Method in METHODS.values()])
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::FutureWarning:sklearn")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# ---- registry and parameters ----


@methods
def test_every_method_is_exported_and_lives_on_text_alone(Method):
    assert getattr(fewclip.methods, Method.__name__) is Method
    assert Method.__name__ in fewclip.methods.__all__
    task = make_task()
    clf = Method(text_features=task.T)
    assert clf.fit(task.X, task.y) is clf
    assert clf.predict(task.Xq).shape == (len(task.Xq),)


@methods
def test_the_common_parameters_have_their_documented_defaults(Method):
    defaults = Method().get_params()
    common = {
        "text_features": None, "classes": None, "logit_scale": 100.0, "selection": "auto",
        "class_balance": True, "calibration": "auto", "device": "auto", "random_state": None,
    }  # fmt: skip
    assert common.items() <= defaults.items()
    tuned = {"alpha", "beta", "gamma", "n_channels"} & defaults.keys()
    assert all(defaults[name] == "auto" for name in tuned)
    kinds = [p.kind for p in list(inspect.signature(Method).parameters.values())[1:]]
    assert set(kinds) == {inspect.Parameter.KEYWORD_ONLY}


@methods
def test_clone_and_parameters(Method):
    task = make_task()
    clf = published(Method, task.T, logit_scale=30.0, random_state=3)
    copy = clone(clf)
    assert copy is not clf
    assert copy.get_params().keys() == clf.get_params().keys()
    np.testing.assert_array_equal(copy.text_features, task.T)
    copy.set_params(logit_scale=50.0)
    assert (clf.logit_scale, copy.logit_scale) == (30.0, 50.0)
    before = {k: v for k, v in clf.get_params().items() if k != "text_features"}
    clf.fit(task.X, task.y)
    assert {k: v for k, v in clf.get_params().items() if k != "text_features"} == before
    np.testing.assert_array_equal(
        clone(clf).fit(task.X, task.y).predict_logits(task.Xq), clf.predict_logits(task.Xq)
    )


@methods
def test_pickling_keeps_predictions(Method):
    task = make_task()
    clf = Method(task.T).fit(task.X, task.y)
    again = pickle.loads(pickle.dumps(clf))  # noqa: S301 - our own bytes, as joblib's workers do
    np.testing.assert_array_equal(again.predict_logits(task.Xq), clf.predict_logits(task.Xq))


@methods
def test_unfitted_says_so(Method):
    with pytest.raises(NotFittedError):
        Method(np.eye(4)).predict(np.eye(4))


@methods
def test_pipeline_and_cross_validation(Method):
    task = make_task((6, 6, 6), noise=0.5, text_noise=0.5)
    pipeline = make_pipeline(FunctionTransformer(), Method(task.T, classes=NAMES[:3]))
    scores = cross_val_score(pipeline, task.X, NAMES[task.y], cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.8


# ---- outputs ----


@methods
def test_shapes_dtypes_probabilities_and_the_winner(Method):
    task = make_task((4, 1, 3, 2, 4))
    clf = Method(task.T, calibration="none").fit(task.X, NAMES[task.y])
    n, c = len(task.Xq), 5
    logits, probabilities, labels = (
        clf.predict_logits(task.Xq),
        clf.predict_proba(task.Xq),
        clf.predict(task.Xq),
    )
    assert logits.shape == probabilities.shape == (n, c)
    assert logits.dtype == np.float32
    assert labels.shape == (n,)
    assert clf.classes_.tolist() == sorted(NAMES)
    assert clf.n_features_in_ == 24
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (probabilities >= 0).all()
    np.testing.assert_array_equal(labels, clf.classes_[logits.argmax(1)])
    np.testing.assert_array_equal(labels, clf.classes_[probabilities.argmax(1)])
    assert clf.temperature_ == 1
    shifted = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, shifted / shifted.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(clf.decision_function(task.Xq), logits)
    assert all(
        isinstance(output, np.ndarray) for output in (logits, probabilities, labels, *clf.evidence(task.Xq))
    )


@methods
def test_two_classes_have_one_decision_value(Method):
    task = make_task((3, 5), noise=2, text_noise=2)
    clf = Method(task.T).fit(task.X, NAMES[task.y])
    decision, logits = clf.decision_function(task.Xq), clf.predict_logits(task.Xq)
    assert decision.shape == (len(task.Xq),)
    np.testing.assert_allclose(decision, logits[:, 1] - logits[:, 0], atol=1e-5)
    np.testing.assert_array_equal(decision > 0, clf.predict(task.Xq) == clf.classes_[1])


@methods
def test_one_class_is_allowed(Method):
    task = make_task((4,))
    clf = Method(task.T).fit(task.X, ["only"] * 4)
    assert set(clf.predict(task.Xq)) == {"only"}
    np.testing.assert_array_equal(clf.predict_proba(task.Xq), np.ones((len(task.Xq), 1)))


@methods
def test_a_row_does_not_depend_on_its_neighbours(Method):
    task = make_task((4, 1, 3, 0, 4), noise=2)
    clf = Method(task.T, classes=range(5)).fit(task.X, task.y)
    batch = clf.predict_logits(task.Xq)
    alone = np.concatenate([clf.predict_logits(row[None]) for row in task.Xq])
    np.testing.assert_allclose(alone, batch, rtol=1e-5, atol=1e-4)  # logits reach 400 in float32
    reverse = clf.predict_logits(task.Xq[::-1].copy())[::-1]
    np.testing.assert_allclose(reverse, batch, rtol=1e-5, atol=1e-4)


@methods
def test_strided_and_read_only_arrays(Method):
    task = make_task((4, 1, 3))
    expected = Method(task.T).fit(task.X, task.y).predict_logits(task.Xq)
    X, T, Xq = task.X.copy(), task.T.copy(), task.Xq.copy()
    for array in (X, T, Xq):
        array.flags.writeable = False
    np.testing.assert_array_equal(Method(T).fit(X, task.y).predict_logits(Xq), expected)
    turned = Method(task.T[::-1], classes=[2, 1, 0]).fit(task.X[::-1], task.y[::-1])
    np.testing.assert_allclose(turned.predict_logits(task.Xq[::-1])[::-1], expected, rtol=1e-5, atol=1e-3)
    wide = np.repeat(task.Xq, 2, axis=1)[:, ::2]
    np.testing.assert_allclose(Method(task.T).fit(task.X, task.y).predict_logits(wide), expected, atol=1e-4)


@methods
def test_the_order_of_the_support_does_not_matter(Method):
    task = make_task((4, 1, 3, 2, 4), noise=2, text_noise=2)
    order = np.random.default_rng(0).permutation(len(task.y))
    one = Method(task.T).fit(task.X, task.y)
    other = Method(task.T).fit(task.X[order], task.y[order])
    for name, value in one.selection_.settings.items():
        assert other.selection_.settings[name] == pytest.approx(value, rel=1e-6), name
    np.testing.assert_allclose(
        other.predict_logits(task.Xq), one.predict_logits(task.Xq), rtol=1e-5, atol=1e-3
    )


@methods
@pytest.mark.parametrize("seed", range(3))
def test_the_order_decides_nothing_where_all_settings_are_right(Method, seed):
    # Every setting is right on every image: ties must not be decided by rounding.
    task = make_task((5, 6, 4, 7), noise=0.4, text_noise=2, d=200, seed=seed)
    order = np.random.default_rng(seed).permutation(len(task.y))
    one = Method(task.T, logit_scale=20.0).fit(task.X, task.y).selection_
    other = Method(task.T, logit_scale=20.0).fit(task.X[order], task.y[order]).selection_
    assert other.settings == pytest.approx(one.settings, rel=1e-5)
    if one.estimate:
        assert other.estimate.accuracy == pytest.approx(one.estimate.accuracy, abs=1e-6)


@pytest.mark.parametrize("Method", [*CACHE.values(), METHODS["tip-adapter-f"], METHODS["ape-t"]])
@pytest.mark.parametrize("shots", [1, 5])
def test_of_two_classes_the_images_count_by_default(Method, shots):
    task = make_task((shots, shots), noise=0.6, text_noise=3)
    clf = Method(task.T, logit_scale=20.0, selection="none").fit(task.X, task.y)
    assert clf.alpha_ > 0
    text, image, _ = clf.evidence(task.Xq)
    assert np.abs(image).max() > 1e-2 * np.abs(text).max()


@pytest.mark.parametrize("Method", [method for method in METHODS.values() if method is not METHODS["calip"]])
def test_spatial_tokens_are_refused_by_name_elsewhere(Method):
    task = make_task()
    with pytest.raises(FeatureError, match=r"X\[:, 0\]"):
        Method(task.T).fit(np.stack([task.X] * 3, axis=1), task.y)


@methods
def test_the_same_seed_gives_the_same_state(Method):
    task, val = make_task((4, 3, 5), noise=2), make_task((9, 9, 9), noise=2, seed=1)
    global_state = torch.get_rng_state()

    def fit():
        clf = Method(task.T, random_state=7)
        if Method.__name__ not in ("ZeroShot", "CALIP"):
            clf.set_params(selection="fewshot")
        return clf.fit(task.X, task.y, X_val=val.X, y_val=val.y)

    one, other = fit(), fit()
    assert one.selection_.settings == other.selection_.settings
    np.testing.assert_array_equal(one.predict_logits(task.Xq), other.predict_logits(task.Xq))
    assert torch.equal(torch.get_rng_state(), global_state)


@methods
def test_fitting_again_forgets_the_first_time(Method):
    task, other = make_task((4, 1, 3)), make_task((2, 2, 5), seed=5)
    again = Method(task.T).fit(other.X, NAMES[other.y]).fit(task.X, task.y)
    fresh = Method(task.T).fit(task.X, task.y)
    assert again.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(again.predict_logits(task.Xq), fresh.predict_logits(task.Xq))


@methods
def test_inputs_stay_as_they_are(Method):
    task = make_task((4, 1, 3))
    X, T, Xq = 3 * task.X, 2 * task.T, 5 * task.Xq
    copies = X.copy(), T.copy(), Xq.copy()
    Method(T).fit(X, task.y).predict(Xq)
    for array, copy in zip((X, T, Xq), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# ---- classes ----


@methods
def test_unequal_shots(Method):
    task = make_task((12, 1, 1, 12, 2), noise=0.5, text_noise=0.5, n_queries=200)
    clf = Method(task.T).fit(task.X, task.y)
    predicted = clf.predict(task.Xq)
    for k in range(5):
        assert (predicted[task.yq == k] == k).mean() >= 0.9


@methods
def test_a_class_without_images_lives_on_its_text(Method):
    task = make_task((6, 6, 0, 6, 0), noise=0.4, text_noise=0.4, n_queries=200)
    clf = Method(task.T, classes=range(5)).fit(task.X, task.y)
    assert clf.classes_.tolist() == [0, 1, 2, 3, 4]
    assert clf.predict(task.T).tolist() == [0, 1, 2, 3, 4]
    absent = np.isin(task.yq, (2, 4))
    zero_shot = naive.zero_shot(task.Xq, task.T, 100).argmax(1) == task.yq
    assert (clf.predict(task.Xq) == task.yq)[absent].mean() >= zero_shot[absent].mean() - 0.1


@methods
def test_string_labels_and_text_rows_in_any_order(Method):
    task = make_task((4, 1, 3, 2, 4))
    expected = Method(task.T).fit(task.X, task.y).predict_logits(task.Xq)  # columns by index of NAMES
    clf = Method(task.T, classes=NAMES).fit(task.X, NAMES[task.y])
    order = np.argsort(NAMES)
    assert clf.classes_.tolist() == NAMES[order].tolist()
    tolerance = 1e-3 + 1e-6 * np.abs(expected).max()  # logits of strong images reach thousands in float32
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected[:, order], atol=tolerance)
    np.testing.assert_allclose(clf.text_features_, task.T[order], atol=1e-6)
    # scikit-learn's log-loss takes columns in the order of the sorted labels
    p = clf.predict_proba(task.Xq)
    own = p[np.arange(len(task.yq)), np.argsort(order)[task.yq]].clip(min=np.finfo(p.dtype).eps)
    assert log_loss(NAMES[task.yq], p, labels=sorted(NAMES)) == pytest.approx(-np.log(own).mean(), rel=1e-3)
    assert clf.score(task.Xq, NAMES[task.yq]) == pytest.approx(
        (clf.predict(task.Xq) == NAMES[task.yq]).mean()
    )
    shuffled = np.array([3, 0, 4, 1, 2])
    again = Method(task.T[shuffled], classes=NAMES[shuffled].tolist()).fit(task.X, NAMES[task.y].tolist())
    expected = clf.predict_logits(task.Xq)
    np.testing.assert_allclose(again.predict_logits(task.Xq), expected, atol=tolerance)


@methods
def test_integer_labels_need_not_be_indices(Method):
    task = make_task((4, 1, 3))
    values = np.array([30, -5, 7])
    clf = Method(task.T, classes=values).fit(task.X, values[task.y])
    assert clf.classes_.tolist() == [-5, 7, 30]
    assert clf.predict(task.X[[0, 4, 5]]).tolist() == [30, -5, 7]
    expected = Method(task.T).fit(task.X, task.y).predict_logits(task.Xq)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected[:, [1, 2, 0]], atol=1e-3)


@methods
def test_object_labels(Method):
    task = make_task((4, 1, 3))
    clf = Method(task.T, classes=NAMES[:3].astype(object)).fit(task.X, NAMES[task.y].astype(object))
    expected = Method(task.T, classes=NAMES[:3]).fit(task.X, NAMES[task.y])
    np.testing.assert_array_equal(clf.predict(task.Xq), expected.predict(task.Xq))


@methods
def test_without_text_the_class_means_stand_in(Method):
    task = make_task((5, 5, 5), noise=0.5)
    means = naive.unit([task.X[task.y == k].mean(0) for k in range(3)])
    clf = Method().fit(task.X, NAMES[task.y])
    np.testing.assert_allclose(clf.text_features_, means[np.argsort(NAMES[:3])], atol=1e-6)
    assert clf.score(task.Xq, NAMES[task.yq]) >= 0.9
    one, other = published(Method).fit(task.X, task.y), published(Method, means).fit(task.X, task.y)
    np.testing.assert_allclose(one.predict_logits(task.Xq), other.predict_logits(task.Xq), atol=1e-3)


# ---- views, types, prompts ----


@methods
def test_groups_of_views(Method):
    task = make_task((6, 4, 8), noise=2)
    order = np.random.default_rng(0).permutation(18)
    X, y, groups = task.X[order], task.y[order], np.array([f"g{i // 2}" for i in range(18)])[order]
    keys, labels = naive.keys_of_groups(X, y, groups)
    clf = published(Method, task.T).fit(7 * X, y, groups=groups)
    assert len(clf.support_features_) == len(clf.support_labels_) == 9
    np.testing.assert_allclose(clf.support_features_, keys, atol=1e-6)
    np.testing.assert_array_equal(clf.support_labels_, labels)
    if Method in TRAINED.values() or Method.__name__ in OF_VIEWS:
        return  # every epoch draws one view; tests of the training look at that
    by_hand = published(Method, task.T).fit(keys, labels)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), by_hand.predict_logits(task.Xq), atol=1e-3)


@methods
def test_scale_of_features_does_not_matter(Method):
    task = make_task((4, 1, 3))
    scales = np.geomspace(1e-3, 1e3, len(task.X))[:, None]
    one = Method(task.T).fit(task.X, task.y).predict_logits(task.Xq)
    other = Method(50 * task.T).fit(scales * task.X, task.y).predict_logits(0.01 * task.Xq)
    np.testing.assert_allclose(other, one, atol=1e-3)


@methods
@pytest.mark.parametrize("scale", [1e-15, 1e-30, 1e25])
def test_extreme_scales_are_normalised_or_refused_but_never_silently_wrong(Method, scale):
    task = make_task((4, 1, 3))
    one = published(Method, task.T).fit(task.X, task.y).predict_logits(task.Xq)
    X, Xq = scale * task.X.astype(np.float64), scale * task.Xq.astype(np.float64)
    try:
        other = published(Method, task.T).fit(X, task.y).predict_logits(Xq)
    except FeatureError:
        return
    np.testing.assert_allclose(other, one, atol=1e-3)


@methods
def test_torch_tensors(Method):
    task = make_task((4, 1, 3))
    expected = Method(task.T).fit(task.X, task.y).predict_logits(task.Xq)
    T, X, y, Xq = (torch.as_tensor(a) for a in (task.T, task.X, task.y, task.Xq))
    for tensor in (T, X, Xq):
        tensor.requires_grad_()
    clf = Method(T, classes=torch.arange(3)).fit(X, y, groups=torch.arange(8))
    outputs = clf.predict_logits(Xq), clf.predict_proba(Xq), clf.predict(Xq), *clf.evidence(Xq)
    assert all(isinstance(output, np.ndarray) for output in outputs)
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-6, atol=1e-4)


@methods
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-3), (np.float16, 1.0), (">f4", 1e-4)])
def test_other_float_types(Method, dtype, tolerance):
    task = make_task((4, 1, 3))
    expected = published(Method, task.T).fit(task.X, task.y).predict_logits(task.Xq)
    T, X, Xq = (a.astype(dtype) for a in (task.T, task.X, task.Xq))
    logits = published(Method, T).fit(X, task.y).predict_logits(Xq)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=tolerance)


@methods
def test_half_precision_torch(Method):
    task = make_task((4, 1, 3))
    expected = published(Method, task.T).fit(task.X, task.y).predict_logits(task.Xq)
    for dtype, tolerance in ((torch.float16, 1.0), (torch.bfloat16, 5.0)):
        T, X, Xq = (torch.as_tensor(a).to(dtype) for a in (task.T, task.X, task.Xq))
        logits = published(Method, T).fit(X, task.y).predict_logits(Xq)
        np.testing.assert_allclose(logits, expected, atol=tolerance)


@methods
def test_lists_work(Method):
    task = make_task((2, 1, 3))
    expected = Method(task.T).fit(task.X, task.y).predict_logits(task.Xq)
    clf = Method(task.T.tolist(), classes=[0, 1, 2]).fit(task.X.tolist(), task.y.tolist())
    np.testing.assert_allclose(clf.predict_logits(task.Xq.tolist()), expected, atol=1e-4)


@methods
def test_prompts_are_averaged(Method):
    task, rng = make_task((4, 1, 3)), np.random.default_rng(0)
    # Different numbers of prompts, of different lengths: a row is the unit mean of unit prompts.
    prompts = [
        rng.uniform(0.5, 5, (p, 1)) * (T + 0.1 * rng.normal(size=(p, 24)))
        for p, T in zip((1, 3, 7), task.T, strict=True)
    ]
    means = naive.unit([naive.unit(rows).mean(0) for rows in prompts])
    one = Method(prompts).fit(task.X, task.y)
    other = Method(means).fit(task.X, task.y)
    np.testing.assert_allclose(one.text_features_, means, atol=1e-6)
    if Method.__name__ not in ("TIMO", "TIMOS"):  # which look at every prompt
        np.testing.assert_allclose(one.predict_logits(task.Xq), other.predict_logits(task.Xq), atol=1e-3)
    named = Method([torch.as_tensor(prompts[i]) for i in (2, 0, 1)], classes=[2, 0, 1]).fit(task.X, task.y)
    np.testing.assert_allclose(named.predict_logits(task.Xq), one.predict_logits(task.Xq), atol=1e-3)


# ---- formulas ----


@cache_methods
def test_without_class_balance_it_is_the_bare_formula(Method):
    task = make_task((7, 1, 3, 0))
    clf = published(Method, task.T, classes=range(4), class_balance=False).fit(task.X, task.y)
    f, X, T = (naive.unit(a) for a in (task.Xq, task.X, task.T))
    if Method.__name__ == "TipAdapter":
        expected = naive.tip_adapter(f, X, task.y, T, alpha=2.0, beta=4.0, s=100)
    elif Method.__name__ == "TipX":
        expected = naive.tip_x(f, X, task.y, T, alpha=2.0, beta=4.0, gamma=0.5, tau=0.5, s=100)
    else:
        kept = naive.channels(T, 12, (0.7, 0.3), X, task.y)
        expected = naive.ape(f, X, task.y, T, kept=kept, alpha=0.5, beta=4.0, gamma=0.3, s=100)
    np.testing.assert_allclose(clf.predict_logits(task.Xq), expected, atol=1e-3)


@methods
def test_equal_shots_need_no_balance(Method):
    task = make_task((3, 3, 3))
    one = published(Method, task.T).fit(task.X, task.y)
    other = published(Method, task.T, class_balance=False).fit(task.X, task.y)
    np.testing.assert_allclose(one.predict_logits(task.Xq), other.predict_logits(task.Xq), atol=1e-4)


@pytest.mark.parametrize(
    "Method", [m for m in METHODS.values() if m not in TRAINED.values() and m.__name__ not in SCALED]
)
def test_logit_scale_belongs_to_the_text_term(Method):
    task = make_task((3, 3, 3))
    one = published(Method, task.T, logit_scale=100.0).fit(task.X, task.y).predict_logits(task.Xq)
    other = published(Method, task.T, logit_scale=20.0).fit(task.X, task.y).predict_logits(task.Xq)
    np.testing.assert_allclose(one - other, 80 * task.Xq @ task.T.T, atol=1e-3)


@methods
@pytest.mark.parametrize("shots", [(3, 3, 3), (6, 1, 3)], ids=["equal shots", "unequal shots"])
def test_evidence_adds_up(Method, shots):
    task = make_task(shots)
    clf = Method(task.T).fit(task.X, NAMES[task.y])
    text, image, contributions = clf.evidence(task.Xq)
    np.testing.assert_allclose(text + image, clf.predict_logits(task.Xq), atol=1e-3)
    np.testing.assert_allclose(text, 100 * task.Xq @ task.T.T, atol=1e-3)
    assert contributions.shape == (len(task.Xq), len(task.X))
    labels = np.asarray(clf.support_labels_)
    if Method.__name__ != "TipX":  # whose affinities are negative
        assert (contributions >= 0).all()
    if Method.__name__ in NO_CACHE:
        return  # what the images taught is not only in the cache
    sums = np.stack([contributions[:, labels == k].sum(1) for k in range(3)], axis=1)
    np.testing.assert_allclose(sums, image, atol=1e-3)
    if Method in CACHE.values() and clf.alpha_ > 0:
        assert np.abs(contributions).max() > 0


@cache_methods
def test_evidence_of_a_class_without_images(Method):
    task = make_task((3, 3, 0))
    clf = published(Method, task.T, classes=range(3)).fit(task.X, task.y)
    text, image, contributions = clf.evidence(task.Xq)
    np.testing.assert_allclose(text + image, clf.predict_logits(task.Xq), atol=1e-3)
    np.testing.assert_allclose(image[:, 2], image[:, :2].max(1), atol=1e-3)
    np.testing.assert_allclose(contributions.sum(1), image[:, :2].sum(1), atol=1e-2)


# ---- bad input: one typed error that names the item, what was expected, what came, and what to do ----

TASK = make_task((4, 2, 3))
VAL = make_task((2, 2, 2), seed=1)


def spoiled(array, row, value):
    array = array.astype(np.float64)
    array[row] = value
    return array


def fits(T=TASK.T, X=TASK.X, y=TASK.y, *, fit=None, **parameters):
    return lambda Method: Method(T, **parameters).fit(X, y, **(fit or {}))


def predicts(X):
    return lambda Method: Method(TASK.T).fit(TASK.X, TASK.y).predict(X)


def val(X=VAL.X, y=VAL.y):
    return {"X_val": X, "y_val": y}


BAD_INPUT = {
    # what: (call, error, words that the message must contain)
    "NaN in X": (fits(X=spoiled(TASK.X, (2, 3), np.nan)), FeatureError, ["X", "NaN"]),
    "infinity in X": (fits(X=spoiled(TASK.X, (2, 3), np.inf)), FeatureError, ["X", "inf"]),
    "zero row of X": (fits(X=spoiled(TASK.X, 2, 0)), FeatureError, ["X row 2", "zero"]),
    "one-dimensional X": (fits(X=TASK.X[0]), FeatureError, ["1D"]),
    "no rows": (fits(X=TASK.X[:0], y=TASK.y[:0]), InputError, ["0 sample"]),
    "labels for other rows": (fits(y=TASK.y[:-1]), LabelError, ["8", "9"]),
    "continuous labels": (fits(y=TASK.y + 0.5), LabelError, ["y", "continuous"]),
    "NaN at predict": (predicts(spoiled(TASK.Xq, (2, 3), np.nan)), FeatureError, ["X", "NaN"]),
    "infinity at predict": (predicts(spoiled(TASK.Xq, (2, 3), -np.inf)), FeatureError, ["X", "inf"]),
    "zero row at predict": (predicts(spoiled(TASK.Xq, 5, 0)), FeatureError, ["X row 5", "zero"]),
    "other dimension at predict": (predicts(TASK.Xq[:, :20]), FeatureError, ["20", "24"]),
    "text of another dimension": (fits(TASK.T[:, :20]), FeatureError, ["text_features", "24", "20"]),
    "ragged prompts": (
        fits([TASK.T, TASK.T[:, :20], TASK.T]),
        FeatureError,
        ["text_features row 1", "24", "20"],
    ),
    "NaN in text": (fits(spoiled(TASK.T, (1, 3), np.nan)), FeatureError, ["text_features row 1", "NaN"]),
    "infinity in text": (fits(spoiled(TASK.T, (1, 3), np.inf)), FeatureError, ["text_features row 1", "inf"]),
    "zero row of text": (fits(spoiled(TASK.T, 1, 0)), FeatureError, ["text_features row 1", "zero"]),
    "prompts that cancel out": (
        fits([*TASK.T[:2], [TASK.T[2], -TASK.T[2]]]),
        FeatureError,
        ["text_features row 2"],
    ),
    "no prompts of a class": (fits([*TASK.T[:2], TASK.T[:0]]), FeatureError, ["text_features row 2"]),
    "text that is a number": (fits(3.0), InputError, ["text_features"]),
    "too few text rows": (fits(TASK.T[:2]), LabelError, ["text_features", "3", "2"]),
    "too many text rows": (
        fits(np.vstack([TASK.T, TASK.T])),
        LabelError,
        ["text_features", "3", "6", "classes"],
    ),
    "text rows without classes": (fits(classes=[0, 1, 2, 3]), LabelError, ["text_features", "4", "3"]),
    "label outside classes": (
        fits(y=NAMES[TASK.y], classes=["zebra", "ant", "cow"]),
        LabelError,
        ["'Mole rat'", "classes"],
    ),
    "object label outside classes": (
        fits(y=NAMES[TASK.y].astype(object), classes=["zebra", "ant", "cow"]),
        LabelError,
        ["'Mole rat'", "classes"],
    ),
    "integer label outside classes": (fits(classes=[0, 1, 7]), LabelError, ["2", "classes"]),
    "integer labels, string classes": (fits(classes=["0", "1", "2"]), LabelError, ["0", "classes"]),
    "string labels, integer classes": (fits(y=NAMES[TASK.y], classes=[0, 1, 2]), LabelError, ["classes"]),
    "duplicate classes": (fits(classes=[0, 1, 1]), LabelError, ["classes", "3", "2"]),
    "class with neither text nor image": (fits(None, classes=[0, 1, 2, 3]), LabelError, ["3", "text"]),
    "group with two labels": (
        fits(fit={"groups": ["a", "a", "a", "a", "a", "b", "c", "d", "e"]}),
        LabelError,
        ["group 'a'", "label"],
    ),
    "groups for other rows": (fits(fit={"groups": [1, 2, 3]}), LabelError, ["groups", "9", "3"]),
    "y_val without X_val": (fits(fit={"y_val": VAL.y}), InputError, ["X_val", "y_val"]),
    "X_val without y_val": (fits(fit={"X_val": VAL.X}), InputError, ["X_val", "y_val"]),
    "full without X_val": (fits(selection="full"), InputError, ["X_val", "full"]),
    "fewshot without X_val": (fits(selection="fewshot"), InputError, ["X_val", "fewshot"]),
    "validation images of the fit": (
        fits(fit=val(np.vstack([VAL.X, TASK.X[:1]]), [*VAL.y, 0])),
        FeatureError,
        ["X_val row 6", "X"],
    ),
    "zero row of X_val": (fits(fit=val(spoiled(VAL.X, 4, 0))), FeatureError, ["X_val row 4", "zero"]),
    "NaN in X_val": (fits(fit=val(spoiled(VAL.X, (4, 0), np.nan))), FeatureError, ["X_val", "NaN"]),
    "X_val of another dimension": (fits(fit=val(VAL.X[:, :20])), FeatureError, ["X_val", "20", "24"]),
    "labels for other rows of X_val": (fits(fit=val(y=VAL.y[:-1])), InputError, ["y_val", "5", "6"]),
    "y_val outside the classes": (fits(fit=val(y=VAL.y + 1)), LabelError, ["y_val", "3"]),
    "unknown selection": (fits(selection="cv"), ParameterError, ["selection", "'cv'", "loo"]),
    "logit_scale of zero": (fits(logit_scale=0.0), ParameterError, ["logit_scale", "0"]),
    "logit_scale that is NaN": (fits(logit_scale=np.nan), ParameterError, ["logit_scale", "nan"]),
    "logit_scale that is infinite": (fits(logit_scale=np.inf), ParameterError, ["logit_scale", "inf"]),
    "logit_scale that is a word": (fits(logit_scale="auto"), ParameterError, ["logit_scale", "auto"]),
    "unknown device": (fits(device="gpu"), ParameterError, ["device", "gpu"]),
}

BAD_SETTINGS = {
    "negative alpha": ({"alpha": -0.1}, "alpha", "-0.1"),
    "infinite alpha": ({"alpha": np.inf}, "alpha", "inf"),
    "alpha that is NaN": ({"alpha": np.nan}, "alpha", "nan"),
    "alpha that is a word": ({"alpha": "best"}, "alpha", "best"),
    "no alpha": ({"alpha": None}, "alpha", "None"),
    "negative beta": ({"beta": -1}, "beta", "-1"),
    "negative gamma": ({"gamma": -1.0}, "gamma", "-1"),
    "no channels": ({"n_channels": 0}, "n_channels", "0"),
    "more channels than there are": ({"n_channels": 25}, "n_channels", "24"),
    "fraction above one": ({"n_channels": 1.5}, "n_channels", "1.5"),
    "fraction of zero": ({"n_channels": 0.0}, "n_channels", "0.0"),
    "channels that are a word": ({"n_channels": "all"}, "n_channels", "all"),
    "one criterion weight": ({"criterion_weights": (0.7,)}, "criterion_weights", "0.7"),
    "negative criterion weight": ({"criterion_weights": (-0.7, 0.3)}, "criterion_weights", "-0.7"),
}


def check_message(error, words):
    assert all(isinstance(part, str) and part for part in (error.item, error.expected, error.got, error.fix))
    message = str(error)
    for part in (error.item, error.expected, error.got, error.fix):
        assert part in message
    assert [word for word in words if word not in message] == []


@methods
@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_gets_one_typed_error(Method, what):
    call, kind, words = BAD_INPUT[what]
    with pytest.raises(kind) as caught:
        call(Method)
    check_message(caught.value, words)


@pytest.mark.parametrize(
    ("Method", "what"),
    [
        pytest.param(Method, what, id=f"{name}-{what}")
        for name, Method in CACHE.items()
        for what, (parameters, *_) in BAD_SETTINGS.items()
        if parameters.keys() <= Method().get_params().keys()
    ],
)
@pytest.mark.parametrize("selection", ["loo", "none"])
def test_settings_out_of_range(Method, what, selection):
    parameters, name, got = BAD_SETTINGS[what]
    with pytest.raises(ParameterError) as caught:
        Method(TASK.T, selection=selection, **parameters).fit(TASK.X, TASK.y)
    check_message(caught.value, [name, got, Method.__name__])


@methods
def test_a_zero_row_of_integers_has_zero_logits_as_scikit_learn_demands(Method):
    # check_estimator passes integer rows of zeros and wants no error; encoders give floating-point rows.
    method = Method(np.eye(3)).fit(np.eye(3, dtype=int), [0, 1, 2])
    text, _, _ = method.evidence(np.zeros((1, 3), dtype=int))
    np.testing.assert_array_equal(text, np.zeros((1, 3)))
