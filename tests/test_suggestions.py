"""Images to label next: the greedy choice against a naive one, and from a pool on the command line."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch
from helpers import FakeEncoder, draw_folder, draw_list, fewclip

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.errors import DataError
from fewclip.functional.suggestion import doubt, spokesmen

pytestmark = pytest.mark.usefixtures("one_thread")


def test_doubt_by_hand():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.2, 0.3, 0.5]])
    torch.testing.assert_close(doubt(p), torch.tensor([1.0, 0.2, 0.8]))


def test_the_lazy_choice_is_the_greedy_one():
    rng = np.random.default_rng(0)
    x, labelled = rng.normal(size=(40, 5)), rng.normal(size=(3, 5))
    x, labelled = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, labelled))
    w = rng.random(40)
    near, reached, expected = np.exp(8 * (x @ x.T - 1)), np.exp(8 * ((x @ labelled.T).max(1) - 1)), []
    for _ in range(8):
        gains = [
            sum(w[j] * max(0, near[i, j] - reached[j]) for j in range(40)) if i not in expected else -1
            for i in range(40)
        ]
        expected.append(int(np.argmax(gains)))
        reached = np.maximum(reached, near[expected[-1]])
    got = spokesmen(torch.as_tensor(x), torch.as_tensor(labelled), torch.as_tensor(w), 8, sharpness=8.0)
    assert got.tolist() == expected
    assert len(spokesmen(torch.as_tensor(x), torch.as_tensor(labelled), torch.as_tensor(w), 99)) == 40


def test_a_class_without_labels_is_asked_for_first(tmp_path):
    clf = FewShotClassifier(FakeEncoder(), "tip-adapter", store=FeatureStore(tmp_path / "s"), progress=False)
    images, labels = draw_list(("blue", "green"), n=4)
    clf.fit(images, labels)
    pool = draw_list(("blue", "green", "yellow"), n=6, first=10)[0] + images  # labelled ones do not return
    names = [str(i) for i in range(len(pool))]
    found = clf.suggest(pool, 4, names=names)
    assert len({item.name for item in found}) == 4
    assert any(12 <= int(item.name) < 18 for item in found[:2])
    assert all(int(item.name) < 18 for item in clf.suggest(pool, 99, names=names))
    with pytest.raises(DataError, match="not labelled yet"):
        clf.suggest(images, 2)


def test_the_command_line(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr("fewclip.intake.load_encoder", lambda name: FakeEncoder())
    monkeypatch.setattr("fewclip.intake.opens_by_name", lambda name: True)
    train, pool = draw_folder(tmp_path / "train", n=3), draw_folder(tmp_path / "pool", n=4, first=30)
    adapter = tmp_path / "a.adapter"
    assert fewclip("fit", train, "-o", adapter, "--method", "tip-adapter", "-q").code == 0
    ran = fewclip("suggest", adapter, pool, "-n", "5", "-q")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert ran.code == 0, ran.err
    assert len(rows) == 5
    assert all(0 <= float(row["doubt"]) <= 1 and row["guess"] in ("blue", "green", "red") for row in rows)
    ran = fewclip("suggest", adapter, pool, "-n", "2", "-o", tmp_path / "next.csv")
    assert (tmp_path / "next.csv").read_text().count("\n") == 3
    assert fewclip("suggest", adapter, pool, "-o", tmp_path / "next.parquet").code == 1
