"""Views of an image stay together in cross-validation, by scikit-learn's metadata routing."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from reference.tasks import make_task
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from fewclip.methods import APE, TipAdapter

pytestmark = pytest.mark.usefixtures("one_thread")
VIEWS = 3
TASK = make_task((4, 3, 5), n_queries=12)
NAMES = np.array(["cat", "dog", "yak"])
PLAIN = {"classes": NAMES, "selection": "none", "calibration": "none", "safe": False}  # quick fits


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def views(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(X, y, image): three noisy views of each image, shuffled; neighbouring rows say nothing."""
    rng = np.random.default_rng(seed)
    image = rng.permutation(np.repeat(np.arange(len(TASK.X)), VIEWS))
    X = TASK.X[image] + 0.05 * rng.normal(size=(len(image), TASK.X.shape[1]))
    return X.astype(np.float32), NAMES[TASK.y][image], image


class Recorder(TipAdapter):
    """Tip-Adapter that notes what each of its fits was given."""

    fits: list = []  # noqa: RUF012 (shared by clones on purpose)

    def fit(self, X, y, *, groups=None, X_val=None, y_val=None):
        type(self).fits.append((np.asarray(X), None if groups is None else np.asarray(groups)))
        return super().fit(X, y, groups=groups, X_val=X_val, y_val=y_val)


def recorder(**more) -> Recorder:
    Recorder.fits = []
    return Recorder(TASK.T, **PLAIN, **more)


def test_no_image_straddles_the_folds_and_fit_gets_its_groups(routing):
    X, y, image = views()
    method = recorder().set_fit_request(groups=True)
    scores = cross_val_score(method, X, y, cv=GroupKFold(4), params={"groups": image})
    assert len(scores) == len(Recorder.fits) == 4
    for rows, groups in Recorder.fits:
        assert len(rows) == len(groups)
        whole = {int(k): int(n) for k, n in zip(*np.unique(groups, return_counts=True), strict=True)}
        assert set(whole.values()) == {VIEWS}  # an image is in a fold with all its views, or not at all
        for row, group in zip(rows, groups, strict=True):
            assert image[int((row == X).all(1).argmax())] == group


def test_a_score_is_that_of_the_folds_by_hand(routing):
    X, y, image = views()
    method = TipAdapter(TASK.T, **PLAIN).set_fit_request(groups=True)
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(method, X, y, cv=folds, params={"groups": image})
    by_hand = [
        TipAdapter(TASK.T, **PLAIN).fit(X[a], y[a], groups=image[a]).score(X[b], y[b])
        for a, b in folds.split(X, y, image)
    ]
    assert scores == pytest.approx(by_hand)


def test_grid_search_fits_one_key_an_image(routing):
    X, y, image = views()
    method = TipAdapter(TASK.T, **PLAIN).set_fit_request(groups=True)
    search = GridSearchCV(method, {"alpha": [0.1, 1.0, 3.0]}, cv=GroupKFold(3)).fit(X, y, groups=image)
    assert search.best_params_["alpha"] in (0.1, 1.0, 3.0)
    assert len(search.best_estimator_.support_features_) == len(TASK.X)
    assert set(search.predict(TASK.Xq)) <= set(NAMES)


def test_a_pipeline_routes_to_its_last_step(routing):
    X, y, image = views()
    pipeline = make_pipeline(Normalizer(), APE(TASK.T, **PLAIN).set_fit_request(groups=True))
    scores = cross_val_score(pipeline, X, y, cv=GroupKFold(3), params={"groups": image})
    assert np.isfinite(scores).all()
    assert len(pipeline.fit(X, y, groups=image)[-1].support_features_) == len(TASK.X)


def test_without_a_request_scikit_learn_does_not_guess(routing):
    X, y, image = views()
    with pytest.raises(UnsetMetadataPassedError, match="groups"):
        cross_val_score(recorder(), X, y, cv=GroupKFold(3), params={"groups": image}, error_score="raise")
    unasked = recorder().set_fit_request(groups=False)
    cross_val_score(unasked, X, y, cv=GroupKFold(3), params={"groups": image})
    assert all(groups is None for _, groups in Recorder.fits)


def test_a_clone_keeps_its_request(routing):
    method = clone(TipAdapter(TASK.T).set_fit_request(groups=True))
    assert method.get_metadata_routing().fit.requests["groups"] is True


def test_views_that_straddle_folds_flatter_the_score(routing):
    """Why it matters: labels are random, so no honest score can be far above chance."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=(24, 64))
    image = np.repeat(np.arange(24), VIEWS)
    X = base[image] + 0.05 * rng.normal(size=(len(image), 64))
    y = rng.permutation(np.tile(NAMES, 8))[image]
    method = TipAdapter(alpha=5.0, beta=5.5, safe=False, calibration="none").set_fit_request(groups=True)
    shuffled = rng.permutation(len(X))
    folds = [(np.setdiff1d(shuffled, part), part) for part in np.array_split(shuffled, 4)]
    honest = cross_val_score(method, X, y, cv=GroupKFold(4), params={"groups": image}).mean()
    flattering = cross_val_score(method, X, y, cv=folds, params={"groups": image}).mean()
    assert flattering > 0.9
    assert honest < 0.6
