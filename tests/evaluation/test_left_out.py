"""Learning curves and left-out probabilities: what is asked about was never seen."""

from __future__ import annotations

import numpy as np
import pytest

from fewclip.errors import DataError
from fewclip.evaluation.left_out import LearningPoint, forecast, refit, study_left_out
from fewclip.methods import APE, TipAdapter, ZeroShot

pytestmark = pytest.mark.usefixtures("one_thread")


def task(shots=(4, 4, 4), d=12, seed=0):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(shots), d))
    y = np.repeat(np.arange(len(shots)), shots)
    return means + 0.8 * rng.normal(size=means.shape), means[y] + 0.8 * rng.normal(size=(len(y), d)), y


def fitted(shots=(4, 4, 4), method=None, **options):
    text, X, y = task(shots, **options)
    method = method or TipAdapter(alpha=3.0, beta=4.0)
    classes = np.array(["a", "b", "c", "d"])[: len(shots)]
    return method.set_params(text_features=text, classes=classes, logit_scale=20.0).fit(X, classes[y])


def test_probabilities_are_those_of_a_fit_without_the_image():
    method = fitted()
    study = study_left_out(method)
    X, y = method.support_features_.numpy(), method.support_labels_.numpy()
    for place in range(4):  # four images a class, four folds: one of every class at a time
        rest = np.flatnonzero(np.arange(12) % 4 != place)
        other = TipAdapter(
            method.text_features_, classes=method.classes_, alpha=3.0, beta=4.0, logit_scale=20.0
        ).fit(X[rest], method.classes_[y[rest]])
        asked = np.arange(place, 12, 4)
        assert study.probabilities[asked] == pytest.approx(other.predict_proba(X[asked]), abs=1e-6)


def test_the_curve_by_hand():
    """One shot of each class at a time, against fits on the first k of the others."""
    method = fitted(seed=3)
    curve = study_left_out(method).curve
    assert [point.shots for point in curve.points] == [1, 2, 3]
    X, y = method.support_features_.numpy(), method.support_labels_.numpy()
    for point in curve.points:
        right = []
        for place in range(4):
            others = [p for p in range(4) if p != place][: point.shots]
            rows = [4 * c + p for c in range(3) for p in others]
            other = refit(method, np.array(rows))
            asked = np.arange(place, 12, 4)
            right += (other.predict(X[asked]) == method.classes_[y[asked]]).tolist()
        assert point.accuracy == pytest.approx(np.mean(right))
        assert point.low <= point.accuracy <= point.high
    assert curve.n_images == 12


def test_classes_weigh_alike_and_an_only_image_stays():
    method = fitted((6, 2, 1))
    study = study_left_out(method)
    assert np.isnan(study.probabilities[8]).all()
    assert np.isfinite(study.probabilities[:8]).all()
    assert study.curve.n_images == 8
    right = study.probabilities.argmax(1) == method.support_labels_.numpy()
    assert study.curve.points[-1].accuracy == pytest.approx((right[:6].mean() + right[6:8].mean()) / 2)


def test_one_image_a_class_is_refused():
    with pytest.raises(DataError, match="one a class"):
        study_left_out(fitted((1, 1, 1)))


def test_settings_of_validation_images_are_chosen_anew():
    text, X, y = task()
    method = APE(text, logit_scale=20.0, selection="full").fit(X, y, X_val=X + 0.01, y_val=y)
    assert refit(method, np.arange(12)).selection_.protocol == "loo"


def test_what_learns_nothing_has_a_flat_curve():
    curve = study_left_out(fitted(method=ZeroShot())).curve
    assert len({point.accuracy for point in curve.points}) == 1
    assert curve.forecast == ()


def test_the_guess_goes_on_with_the_same_power():
    points = [LearningPoint(k, 1 - 0.6 * k**-0.5, 0, 1) for k in (1, 2, 4)]
    assert forecast(points) == (
        (8, pytest.approx(1 - 0.6 * 8**-0.5)),
        (16, pytest.approx(1 - 0.6 * 16**-0.5)),
    )
    assert forecast(points[:1]) == ()
    assert forecast([LearningPoint(k, a, 0, 1) for k, a in ((1, 0.8), (2, 0.7))]) == ()
    assert forecast([LearningPoint(k, a, 0, 1) for k, a in ((1, 0.8), (2, 1.0))]) == ()


def test_words_and_json():
    curve = study_left_out(fitted()).curve
    assert "3 shots" in str(curve)
    assert curve.to_json()["points"][0]["shots"] == 1
