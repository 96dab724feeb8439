"""add, remove and sort on the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import FakeEncoder, draw_folder, drawing, fewclip

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.errors import DataError, ParameterError
from fewclip.persistence import read_adapter
from fewclip.sorting import plan_sorting

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "fake_encoder")


def shots(adapter: Path) -> dict[str, int]:
    config = read_adapter(adapter).config
    return dict(zip(config["method"]["classes"], config["fit"]["shots"], strict=True))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "few", n=3)
    ran = fewclip(
        "fit",
        tmp_path / "few",
        "-o",
        tmp_path / "a.adapter",
        "--encoder",
        "fake",
        "--method",
        "tip-adapter",
        "-q",
    )
    assert ran.code == 0, ran.err
    return tmp_path / "a.adapter"


# ---- add, remove ----


def test_add_photos_a_class_and_class_folders(adapter, tmp_path):
    new = draw_folder(tmp_path / "new", ["yellow"], n=2) / "yellow"
    ran = fewclip("add", adapter, new, "--label", "yellow")
    assert ran.code == 0, ran.err
    assert "2 images encoded" in ran.err
    assert shots(adapter) == {"blue": 3, "green": 3, "red": 3, "yellow": 2}
    more = draw_folder(tmp_path / "more", ["red", "grey"], n=1, first=9)
    ran = fewclip("add", adapter, more, "-o", tmp_path / "b.adapter", "--json", "-q")
    assert json.loads(ran.out)["shots"] == {"blue": 3, "green": 3, "grey": 1, "red": 4, "yellow": 2}
    assert "grey" not in shots(adapter)
    assert fewclip("add", adapter, more, "-o", tmp_path / "b.adapter").code == 1  # never overwritten
    assert fewclip("predict", tmp_path / "b.adapter", more, "-q").code == 0


def test_remove_photos_and_classes(adapter):
    ran = fewclip("remove", adapter, "--image", "red/00.png", "--image", "blue/01.png", "--label", "green")
    assert ran.code == 0, ran.err
    assert shots(adapter) == {"blue": 2, "red": 2}
    assert "0 images encoded" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["remove"], "--image, --label: expected at least one"),
        (["remove", "--label", "pink"], "pink"),
        (["remove", "--image", "red/99.png"], "a name that none of them has"),
        (["remove", "--label", "red", "--label", "blue"], "expected two classes"),
        (["add", "x.png", "y.png"], "--label: expected a class for several images"),
        (["add", "x.png", "--label", "red"], "x.png"),
    ],
)
def test_what_goes_wrong_leaves_the_adapter_as_it_was(adapter, arguments, message):
    before = {path: path.read_bytes() for path in adapter.rglob("*") if path.is_file()}
    ran = fewclip(arguments[0], adapter, *arguments[1:])
    assert ran.code == 1
    assert message in ran.err
    assert {path: path.read_bytes() for path in adapter.rglob("*") if path.is_file()} == before


# ---- sort ----


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    (folder / "sub").mkdir(parents=True)
    for colour in ("blue", "green"):
        drawing(colour, 40).save(folder / f"{colour}.png")
    drawing("red", 41).save(folder / "sub" / "red.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def predicted(adapter: Path, new: Path) -> dict[str, tuple[str, float]]:
    rows = csv.DictReader(fewclip("predict", adapter, new, "-q").out.splitlines())
    return {os.path.relpath(r["path"], new): (r["label"], float(r["score"] or 0)) for r in rows}


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_sort_plans_first_and_copies_with_yes(adapter, new, tmp_path):
    out = tmp_path / "out"
    ran = fewclip("sort", adapter, new, out)
    assert ran.code == 3  # one image cannot be read
    assert not out.exists()
    assert "nothing was changed" in ran.err
    assert "leave" in ran.out
    assert "broken.jpg: cannot be read" in ran.out
    ran = fewclip("sort", adapter, new, out, "--yes")
    expected = {f"{label}/{name}" for name, (label, _) in predicted(adapter, new).items() if label}
    assert tree(out) == expected
    assert len(expected) == 3
    assert tree(new) == {"blue.png", "green.png", "sub/red.png", "broken.jpg"}
    for name in expected:
        assert (out / name).read_bytes() == (new / name.partition("/")[2]).read_bytes()
    again = fewclip("sort", adapter, new, out, "--yes")
    assert "there     3 already" in again.out


def test_unsure_images_have_a_folder_of_their_own(adapter, new, tmp_path):
    found = predicted(adapter, new)
    scores = sorted(score for label, score in found.values() if label)
    limit = (scores[0] + scores[1]) / 2
    ran = fewclip("sort", adapter, new, tmp_path / "out", "--min-score", limit, "--yes", "--link", "--json")
    document = json.loads(ran.out)
    assert document["done"] is True
    unsure = [name for name, (label, score) in found.items() if label and score < limit]
    assert {f"_unsure/{name}" for name in unsure} == {
        n for n in tree(tmp_path / "out") if n.startswith("_unsure")
    }
    assert len(unsure) == 1
    for path in (tmp_path / "out").rglob("*.png"):
        assert path.is_symlink()
        assert path.resolve().is_relative_to(new.resolve())


# The rest on the functions themselves.


@pytest.fixture
def classifier(tmp_path: Path) -> FewShotClassifier:
    clf = FewShotClassifier(FakeEncoder(noise=0), "zero-shot", store=FeatureStore.in_memory(), progress=False)
    return clf.fit(draw_folder(tmp_path / "few", n=2))


def test_nothing_is_overwritten(classifier, new, tmp_path):
    out = tmp_path / "out"
    label = {step.name: step for step in plan_sorting(classifier, new, out).steps}[f"{new}/blue.png"].label
    (out / label).mkdir(parents=True)
    (out / label / "blue.png").write_text("mine")
    plan = plan_sorting(classifier, new, out)
    assert [step.note for step in plan.staying] == ["another file is there", plan.staying[1].note]
    late = next(step.target for step in plan.steps if step.target)
    late.parent.mkdir(parents=True, exist_ok=True)
    late.write_text("came in between")
    for link in (False, True):
        done = type(plan)(plan.steps, plan.out, link).execute()
        assert "something of this name is in the way" in [step.note for step in done.steps]
    assert (out / label / "blue.png").read_text() == "mine"
    assert late.read_text() == "came in between"
    assert not [path for path in out.rglob(".*")]


def test_sorted_images_are_not_sorted_again(classifier, new):
    plan = plan_sorting(classifier, new, new / "sorted").execute()
    assert len(tree(new / "sorted")) == 3
    again = plan_sorting(classifier, new, new / "sorted")
    assert [step.name for step in again.steps] == [step.name for step in plan.steps]
    assert all(step.target is None for step in again.steps)
    shutil.rmtree(new / "sub")
    for path in new.glob("*.*"):
        path.unlink()
    with pytest.raises(DataError, match="only those that are sorted already"):
        plan_sorting(classifier, new, new / "sorted")
    with pytest.raises(DataError, match="another folder than the images'"):
        plan_sorting(classifier, new, new)
    with pytest.raises(ParameterError, match="min_score"):
        plan_sorting(classifier, new, new / "x", min_score=2)


def test_two_images_of_one_name_do_not_meet(classifier, new, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "g" / folder).mkdir(parents=True)
        drawing("red", 60).save(tmp_path / "g" / folder / "x.png")
    plan = plan_sorting(classifier, str(tmp_path / "g" / "*" / "x.png"), tmp_path / "out")
    assert [bool(step.target) for step in plan.steps] == [True, False]
    assert "goes to the same place" in plan.steps[1].note
    plan = plan_sorting(classifier, tmp_path / "g", tmp_path / "out")  # a folder keeps them apart
    assert all(step.target for step in plan.steps)


@pytest.mark.parametrize(
    ("labels", "folders"),
    [
        (["../up", "b"], {"_up"}),
        (["a/b", "c:d"], {"a_b", "c_d"}),
        (["..", "x"], {"_"}),
        (["con\x07", "x"], {"con_"}),
    ],
)
def test_labels_never_lead_out_of_the_folder(tmp_path, labels, folders):
    rng = np.random.default_rng(0)
    clf = FewShotClassifier(FakeEncoder(), "zero-shot", store=FeatureStore.in_memory(), progress=False)
    clf.fit([drawing("red", 0), drawing("blue", 0)], labels)
    (tmp_path / "in").mkdir()
    for i in range(3):
        drawing(("red", "blue")[int(rng.integers(2))], 70 + i).save(tmp_path / "in" / f"{i}.png")
    plan = plan_sorting(clf, tmp_path / "in", tmp_path / "out")
    places = {step.target.relative_to(tmp_path / "out").parts[0] for step in plan.steps if step.target}
    assert places <= folders | {label for label in labels if label.isalnum()}


@pytest.mark.parametrize("labels", [["a/b", "a:b"], ["_unsure", "x"]])
def test_classes_that_would_share_a_folder_are_refused(tmp_path, labels):
    clf = FewShotClassifier(FakeEncoder(), "zero-shot", store=FeatureStore.in_memory(), progress=False)
    clf.fit([drawing("red", 0), drawing("blue", 0)], labels)
    with pytest.raises(DataError, match="expected a folder of its own"):
        plan_sorting(clf, draw_folder(tmp_path / "in", ["red"], n=1), tmp_path / "out")
