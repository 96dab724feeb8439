"""The order and the groups of a confusion matrix."""

from __future__ import annotations

import numpy as np

from fewclip.evaluation import Evaluation, sections
from fewclip.evaluation.confusion import cluster, matrix_view


def blocks(c: int, size: int, *, shuffled: bool) -> tuple[np.ndarray, np.ndarray]:
    """A matrix whose classes are confused within groups of ``size``, and the group of each class."""
    group = np.arange(c) // size
    if shuffled:
        group = np.random.default_rng(0).permutation(group)
    return np.where(group[:, None] == group, 4, 0) + 4 * np.eye(c, dtype=int), group


def test_what_is_confused_stands_together():
    confusion, group = blocks(30, 3, shuffled=True)
    found = cluster(confusion)
    assert sorted(found.order.tolist()) == list(range(30))
    assert (np.diff(group[found.order]) != 0).sum() == 9  # ten groups, each in one piece
    assert sorted(map(sorted, found.groups)) == sorted(np.flatnonzero(group == g).tolist() for g in range(10))
    assert found.mistakes == (24,) * 10


def test_few_classes_keep_their_order():
    confusion, _ = blocks(6, 2, shuffled=True)
    assert cluster(confusion).order.tolist() == list(range(6))


def test_of_many_classes_those_with_mistakes_are_kept_and_absent_ones_are_not():
    confusion = 5 * np.eye(40, dtype=int)
    confusion[7, 30], confusion[12, 3] = 2, 1
    confusion[20, 20] = 0
    assert set(cluster(confusion, max_classes=4).order.tolist()) == {3, 7, 12, 30}
    assert set(range(40)) - set(cluster(confusion).order.tolist()) == {20}


def test_without_mistakes_there_are_no_groups():
    found = cluster(3 * np.eye(20, dtype=int))
    assert (found.groups, found.mistakes) == ((), ())
    assert cluster(np.array([[3]])).order.tolist() == [0]


def test_squares_lie_where_they_belong():
    view = matrix_view(np.array([[3, 1], [0, 2]]), np.array([0, 1]), ["cat", "dog"])
    assert [(c["x"] - view["margin"], c["y"] - view["margin"], c["n"]) for c in view["cells"]] == [
        (0, 0, 3),
        (view["cell"], 0, 1),
        (view["cell"], view["cell"], 2),
    ]
    assert [c["kind"] for c in view["cells"]] == ["hit", "miss", "hit"]
    assert view["cells"][1]["title"] == "cat taken for dog: 1 of 4"
    assert view["cells"][0]["title"] == "cat: 3 of 4 right"


def test_the_section_says_what_it_shows():
    classes = np.array([f"class {k:03d}" for k in range(120)])
    truth = np.repeat(np.arange(120), 2)
    wrong = np.where(np.arange(240) % 2, truth, truth ^ 1)
    e = Evaluation.from_predictions(classes[truth], np.eye(120)[wrong], classes)
    section = sections.confusion_section(e)
    assert "Of 120 classes the 100 with most mistakes are shown" in section.hint
    assert len(section.view["groups"]) == 6
    assert section.view["groups"][0]["mistakes"] == "2 of 120 mistakes"
