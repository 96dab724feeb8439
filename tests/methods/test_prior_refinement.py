"""Prior refinement as a feature selector."""

from __future__ import annotations

import numpy as np
import pytest
from reference.tasks import make_task
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from fewclip.errors import FeatureError, LabelError, ParameterError
from fewclip.methods import APE, PriorRefinement

pytestmark = pytest.mark.usefixtures("one_thread")


@parametrize_with_checks([PriorRefinement()])
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::FutureWarning:sklearn")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ("ape_channels", {}),
        ("ape_t_channels", {"criterion_weights": (0.2, 0.8), "use_support": False}),
    ],
)
def test_published_channels_in_order(golden, expected, options):
    selector = PriorRefinement(golden["text_features"], n_channels=256, **options)
    selector.fit(golden["support_features"], golden["support_labels"])
    np.testing.assert_array_equal(selector.channels_, golden[expected])
    assert (np.diff(selector.scores_[selector.channels_]) <= 0).all()


def test_a_case_worked_by_hand():
    # Text alone, two classes: T = (1, 0, 0), (0, 0.6, 0.8). S = 2·T_0j·T_1j / 2 = 0 on every channel.
    # V = (T_0j − T_1j)² / 2 = 0.5, 0.18, 0.32; with w = (1, 1) J = V, so channels 0, then 2, then 1.
    T = [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]]
    selector = PriorRefinement(T, n_channels=2, criterion_weights=(1.0, 1.0), use_support=False)
    selector.fit([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], ["a", "b"])
    np.testing.assert_allclose(selector.scores_, [0.5, 0.18, 0.32], rtol=1e-6)
    assert selector.channels_.tolist() == [0, 2]
    assert selector.get_support().tolist() == [True, False, True]
    assert selector.transform([[1.0, 2.0, 3.0]]).tolist() == [[1.0, 3.0]]


def test_keeps_what_ape_keeps():
    task = make_task()
    ape = APE(task.T, alpha=1.0, beta=1.0, gamma=0.0, n_channels=7).fit(task.X, task.y)
    selector = PriorRefinement(task.T, n_channels=7).fit(task.X, task.y)
    np.testing.assert_array_equal(selector.channels_, ape.channels_.numpy())


def test_in_a_pipeline_before_any_classifier(caltech):
    first = caltech["train_labels"] < 8
    X, y = caltech["train_features"][first].astype(np.float32), caltech["train_labels"][first]
    selector = PriorRefinement(caltech["text_features"][:8], n_channels=0.25)
    pipeline = make_pipeline(selector, LogisticRegression(C=100.0, max_iter=500))
    assert cross_val_score(clone(pipeline), X, y, cv=4).mean() > 0.9
    assert pipeline.fit(X, y)[-1].coef_.shape == (8, 128)


def test_text_rows_follow_their_classes():
    task = make_task()
    labels = np.array(["d", "a", "c", "b", "e"])[: len(task.T)]
    direct = PriorRefinement(task.T, classes=labels, n_channels=5).fit(task.X, labels[task.y])
    order = np.argsort(labels)
    resorted = PriorRefinement(np.asarray(task.T)[order], n_channels=5).fit(task.X, labels[task.y])
    np.testing.assert_array_equal(direct.channels_, resorted.channels_)
    np.testing.assert_allclose(direct.scores_, resorted.scores_)


@pytest.mark.parametrize("n_channels", [0, 25, 0.0, 1.5, True, "auto"])
def test_impossible_numbers_of_channels(n_channels):
    task = make_task()
    with pytest.raises(ParameterError, match="n_channels"):
        PriorRefinement(task.T, n_channels=n_channels).fit(task.X, task.y)


def test_what_does_not_fit_together():
    task = make_task()
    with pytest.raises(LabelError, match="text_features"):
        PriorRefinement(task.T[:-1]).fit(task.X, task.y)
    with pytest.raises(FeatureError, match="text_features row 0"):
        PriorRefinement(np.asarray(task.T)[:, :-1]).fit(task.X, task.y)
    with pytest.raises(LabelError, match="classes"):
        PriorRefinement(classes=[*range(len(task.T)), 99]).fit(task.X, task.y)


@pytest.mark.parametrize("weights", [(0.7,), (-1.0, 1.0), "ab", None])
def test_impossible_weights(weights):
    task = make_task()
    with pytest.raises(ParameterError, match="criterion_weights"):
        PriorRefinement(task.T, criterion_weights=weights).fit(task.X, task.y)
