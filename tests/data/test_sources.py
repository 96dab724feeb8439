"""What a caller passes as images, brought into one form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import draw_folder, drawing
from PIL import Image

from fewclip.data import labelled_sources, named_sources
from fewclip.errors import DataError, FewclipError, LabelError


def test_a_folder_and_the_list_of_its_images_agree(tmp_path):
    draw_folder(tmp_path / "photos", n=2)
    folder = labelled_sources(tmp_path / "photos", None)
    listed = labelled_sources(list(folder.sources), list(folder.labels))
    assert listed.sources == folder.sources
    assert listed.labels == folder.labels == ("blue", "blue", "green", "green", "red", "red")
    assert listed.classes == folder.classes == ("blue", "green", "red")


def test_text_and_path_mean_the_same(tmp_path):
    draw_folder(tmp_path / "photos", n=1)
    assert labelled_sources(str(tmp_path / "photos"), None) == labelled_sources(tmp_path / "photos", None)


def test_what_it_gave_comes_back(tmp_path):
    data = labelled_sources(draw_folder(tmp_path / "photos", n=1), None)
    assert labelled_sources(data, None) is data
    assert [(s.source, s.name) for s in named_sources(data)] == [*zip(data.sources, data.names, strict=True)]


def test_take_keeps_the_classes(tmp_path):
    data = labelled_sources(draw_folder(tmp_path / "photos", n=2), None)
    part = data.take(np.array([4, 0]))
    assert part.names == (data.names[4], data.names[0])
    assert part.labels == ("red", "blue")
    assert part.shots() == {"blue": 1, "green": 0, "red": 1}


def test_an_empty_class_folder_is_a_class_with_a_warning_that_names_it(tmp_path):
    draw_folder(tmp_path / "photos", n=1)
    (tmp_path / "photos" / "yellow").mkdir()
    with pytest.warns(UserWarning, match="yellow"):
        data = labelled_sources(tmp_path / "photos", None)
    assert data.shots() == {"blue": 1, "green": 1, "red": 1, "yellow": 0}


@pytest.mark.parametrize("labels", [[3, 1, 3], np.array([3, 1, 3]), np.array([3, 1, 3], dtype=np.int8)])
def test_integers_stay_integers(labels):
    data = labelled_sources([drawing("red", i) for i in range(3)], labels)
    assert data.labels == (3, 1, 3)
    assert data.classes == (1, 3)
    assert all(type(label) is int for label in (*data.labels, *data.classes))


def test_numpy_strings_become_strings():
    data = labelled_sources([drawing("red", i) for i in range(2)], np.array(["b", "a"]))
    assert data.classes == ("a", "b")
    assert all(type(label) is str for label in data.labels)


def test_images_without_a_path_are_numbered():
    found = named_sources([drawing("red", 0), Path("a") / "b.jpg", "c.jpg"])
    assert [image.name for image in found] == ["images[0]", "a/b.jpg", "c.jpg"]


def test_one_image_is_a_list_of_one():
    image = drawing("red", 0)
    assert [found.source for found in named_sources(image)] == [image]


def test_a_path_in_a_list_keeps_undecodable_bytes_visible():
    assert named_sources(["caf\udce9.jpg"])[0].name == "caf\\xe9.jpg"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "one label for each image"),
        (["a"], r"one for each of the 2 images, got 1"),
        (["a", "b", "c"], r"one for each of the 2 images, got 3"),
        (["a", None], r"images\[1\]: expected a label"),
        (["a", ""], r"images\[1\]: expected a label"),
    ],
)
def test_labels_that_do_not_go_with_the_images_are_refused(labels, message):
    with pytest.raises(LabelError, match=message):
        labelled_sources([drawing("red", 0), drawing("red", 1)], labels)


def test_labels_that_cannot_be_sorted_are_a_label_error():
    with pytest.raises(LabelError):
        labelled_sources([drawing("red", 0), drawing("red", 1)], [1, "a"])


def test_a_label_that_is_no_number_is_a_label_error():
    with pytest.raises(LabelError):
        labelled_sources([drawing("red", 0), drawing("red", 1)], [1.0, float("nan")])


@pytest.mark.parametrize("thing", [None, 3, b"bytes", np.zeros((4, 4, 3), np.uint8)])
def test_what_is_no_image_is_named(thing):
    with pytest.raises(FewclipError, match=r"images\[1\]"):
        named_sources([Image.new("RGB", (4, 4)), thing])


def test_a_folder_without_images_is_refused(tmp_path):
    for read in (named_sources, lambda path: labelled_sources(path, None)):
        with pytest.raises(DataError):
            read(tmp_path)


def test_a_glob_is_a_source(tmp_path):
    draw_folder(tmp_path / "photos", n=2)
    names = [image.name for image in named_sources(str(tmp_path / "photos" / "*" / "01.png"))]
    assert [Path(name).parent.name for name in names] == ["blue", "green", "red"]
