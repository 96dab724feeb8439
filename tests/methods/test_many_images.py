"""Of very many labelled images only as many are judged as fit into memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.tasks import make_task

from fewclip.methods import METHODS, TipAdapter
from fewclip.methods import leave_one_out as module
from fewclip.methods.leave_one_out import judged_images, left_out_rows
from fewclip.methods.support import Support

pytestmark = pytest.mark.usefixtures("one_thread")


def support(shots=(6, 3, 6, 1), views=2) -> Support:
    task = make_task(shots)
    keys, labels = torch.as_tensor(task.X), torch.as_tensor(task.y)
    images = torch.arange(len(keys)).repeat_interleave(views)
    return Support(keys[images], labels[images], images, keys, labels, len(shots))


def test_all_are_judged_where_they_fit():
    assert bool(judged_images(support()).all())


def test_else_one_of_every_class_then_another(monkeypatch):
    few = support()
    for n, expected in ((4, [1, 1, 1, 1]), (7, [2, 2, 2, 1]), (10, [3, 3, 3, 1]), (12, [4, 3, 4, 1])):
        monkeypatch.setattr(module, "_MOST", n * 16 * 2)  # 16 keys, two views each
        judged = judged_images(few)
        assert few.key_labels[judged].bincount(minlength=4).tolist() == expected


def test_classes_of_which_some_are_judged_weigh_as_before(monkeypatch):
    few = support()
    before = left_out_rows(few)
    monkeypatch.setattr(module, "_MOST", 7 * 16 * 2)
    after = left_out_rows(few)
    assert len(after.rows) < len(before.rows)
    for left_out in (before, after):
        sums = torch.zeros(4).index_add(0, few.labels[left_out.rows], left_out.weights)
        torch.testing.assert_close(sums[:3], sums[:1].expand(3))
    torch.testing.assert_close(before.weights.sum(), after.weights.sum())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("selection", ["none", "loo"])
def test_every_method_fits(monkeypatch, name, selection):
    task = make_task((5, 5, 5))
    monkeypatch.setattr(module, "_MOST", 6 * 15)
    clf = METHODS[name](task.T, selection=selection, random_state=0).fit(task.X, task.y)
    assert np.isfinite(clf.predict_proba(task.Xq)).all()
    assert clf.score(task.Xq, task.yq) > 0.5


def test_what_is_judged_is_still_known_well():
    task = make_task((40,) * 5, noise=1.0, text_noise=1.0)
    full = TipAdapter(task.T).fit(task.X, task.y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST", 100 * 200)
        half = TipAdapter(task.T).fit(task.X, task.y)
    assert half.selection_.estimate.n_images == 100
    assert half.selection_.estimate.accuracy == pytest.approx(full.selection_.estimate.accuracy, abs=0.05)
