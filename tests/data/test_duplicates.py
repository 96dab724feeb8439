"""The same image twice: across splits, across classes, within one class."""

from __future__ import annotations

import io
import shutil
import tarfile

import pytest
from helpers import FakeEncoder, draw_folder, drawing, fewclip

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore, labelled_sources, read_labelled
from fewclip.data.duplicates import find_duplicates


def names(groups):
    return [sorted(str(place) for place in group) for group in groups]


@pytest.fixture
def splits(tmp_path):
    draw_folder(tmp_path / "d" / "train", n=2)
    draw_folder(tmp_path / "d" / "test", n=2, first=5)
    return tmp_path / "d"


def test_all_kinds_are_told_apart(splits):
    shutil.copy(splits / "train/red/00.png", splits / "test/red/copy.png")
    shutil.copy(splits / "train/blue/00.png", splits / "train/green/copy.png")
    shutil.copy(splits / "test/blue/05.png", splits / "test/blue/again.png")
    shutil.copy(splits / "train/green/01.png", splits / "test/blue/both.png")
    found = find_duplicates({s: read_labelled(splits, split=s) for s in ("train", "test")})
    both = ["test: blue/both.png (blue)", "train: green/01.png (green)"]
    assert names(found.across_splits) == [both, ["test: red/copy.png (red)", "train: red/00.png (red)"]]
    assert names(found.across_classes) == [
        ["train: blue/00.png (blue)", "train: green/copy.png (green)"],
        both,
    ]
    assert names(found.within_class) == [["test: blue/05.png (blue)", "test: blue/again.png (blue)"]]
    ran = fewclip("data", "info", splits)
    assert (
        "2 images in two splits (a test on images of the training says too much): train: green/01" in ran.out
    )


def test_without_duplicates_it_says_so(splits):
    found = find_duplicates({s: read_labelled(splits, split=s) for s in ("train", "test")})
    assert found.items() == [("repeated", "no image occurs twice")]


def test_files_of_one_size_with_other_content_differ(tmp_path):
    for label, byte in (("a", b"x"), ("b", b"y")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(byte * 100)
    assert find_duplicates({"": read_labelled(tmp_path)}).across_classes == ()


def test_what_cannot_be_read_is_counted_not_compared(splits):
    data = read_labelled(splits)
    (splits / "train/red/00.png").unlink()
    found = find_duplicates({"train": data})
    assert [place.name for place in found.unreadable] == ["red/00.png"]
    assert found.items() == [("unknown", "1 image cannot be read")]


def test_a_file_and_the_member_of_an_archive_are_compared(tmp_path):
    content = io.BytesIO()
    drawing("red", 0).save(content, "PNG")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, data in (("a.png", content.getvalue()), ("a.cls", b"wine")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    parts = {
        "train": read_labelled(draw_folder(tmp_path / "f", ["red"], n=1)),
        "test": read_labelled(tmp_path / "t.tar"),
    }
    assert len(find_duplicates(parts).across_classes) == 1


def test_pictures_in_memory_are_compared_by_their_pixels():
    images = [drawing("red", 0), drawing("red", 0), drawing("red", 1)]
    found = find_duplicates({"": labelled_sources(images, ["a", "b", "a"])})
    assert names(found.across_classes) == [["images[0] (a)", "images[1] (b)"]]


def test_fit_names_images_with_two_labels(splits):
    for i in range(2):
        shutil.copy(splits / f"train/blue/0{i}.png", splits / f"train/green/copy{i}.png")
    clf = FewShotClassifier(FakeEncoder(), "zero-shot", store=FeatureStore.in_memory(), progress=False)
    with pytest.warns(
        UserWarning, match=r"two labels: blue/00\.png \(blue\) and green/copy0\.png \(green\); blue/01"
    ):
        clf.fit(splits / "train")
