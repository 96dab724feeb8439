"""Folders, splits, tables and globs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from fewclip.data import LabelledSources, find_images, read_labelled
from fewclip.errors import DataError

needs_links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


def fill(root: Path, *files: str) -> Path:
    """Files (and, with a final slash, folders) below a root; reading never looks into them."""
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


# Class folders


def test_class_folders_are_read_in_sorted_order(tmp_path):
    found = read_labelled(fill(tmp_path, "b/2.jpg", "b/10.PNG", "a/x.webp", "a/deep/er/y.tiff"))
    assert found.names == ("a/deep/er/y.tiff", "a/x.webp", "b/10.PNG", "b/2.jpg")
    assert found.labels == ("a", "a", "b", "b")
    assert found.sources == tuple(tmp_path / name for name in found.names)
    assert found.classes == ("a", "b")
    assert found.skipped == ()
    assert found.origin == str(tmp_path)
    assert len(found) == 4


def test_names_do_not_depend_on_how_the_folder_is_given(tmp_path, monkeypatch):
    fill(tmp_path, "d/a/1.jpg", "d/b/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert read_labelled("d").names == read_labelled("./d/").names == read_labelled(tmp_path / "d").names


def test_everything_else_is_skipped_with_a_reason(tmp_path):
    fill(tmp_path, "a/1.jpg", "a/notes.txt", "a/README", "a/.hidden.jpg", "a/Thumbs.db", "a/.git/x.jpg")
    fill(tmp_path, "b/1.jpg", "__MACOSX/._1.jpg", "desktop.ini", ".DS_Store", "stray.jpg", "labels.csv")
    found = read_labelled(tmp_path)
    assert found.classes == ("a", "b")
    assert dict(found.skipped) == {
        ".DS_Store": "hidden or system file",
        "__MACOSX": "hidden or system file",
        "a/.git": "hidden or system file",
        "a/.hidden.jpg": "hidden or system file",
        "a/README": "not an image file (no suffix)",
        "a/Thumbs.db": "hidden or system file",
        "a/notes.txt": "not an image file (.txt)",
        "desktop.ini": "hidden or system file",
        "labels.csv": "not an image file (.csv)",
        "stray.jpg": "an image outside the class folders",
    }


def test_an_empty_class_folder_is_a_class_and_is_named(tmp_path):
    fill(tmp_path, "a/1.jpg", "zebra/", "okapi/only.txt")
    with pytest.warns(UserWarning, match="no images of okapi, zebra"):
        found = read_labelled(tmp_path)
    assert found.classes == ("a", "okapi", "zebra")
    assert set(found.labels) == {"a"}


def test_a_folder_called_like_an_image_is_a_folder(tmp_path):
    assert read_labelled(fill(tmp_path, "a/x.jpg/1.jpg", "b/1.jpg")).names == ("a/x.jpg/1.jpg", "b/1.jpg")


@needs_links
def test_links_are_followed_but_never_in_circles(tmp_path):
    fill(tmp_path, "data/a/1.jpg", "data/b/1.jpg", "elsewhere/2.jpg", "elsewhere/more/3.jpg")
    data = tmp_path / "data"
    (data / "a" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    (data / "c").symlink_to(tmp_path / "elsewhere")
    (data / "a" / "up").symlink_to(data)
    (data / "b" / "self").symlink_to(data / "b")
    (data / "b" / "above").symlink_to(tmp_path)
    (data / "loop").symlink_to(data)
    (data / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (data / "b" / "knot.jpg").symlink_to(data / "b" / "knot.jpg")
    (tmp_path / "elsewhere" / "back").symlink_to(data)
    found = read_labelled(data)
    assert found.names == ("a/1.jpg", "a/link.jpg", "b/1.jpg", "c/2.jpg", "c/more/3.jpg")
    back = "a link back to a folder that was read already"
    assert dict(found.skipped) == {
        "a/up": back,
        "b/above": back,
        "b/gone.jpg": "a broken link",
        "b/knot.jpg": found_reason(found, "b/knot.jpg"),
        "b/self": back,
        "c/back": back,
        "loop": back,
    }


def found_reason(found: LabelledSources, name: str) -> str:
    reason = dict(found.skipped)[name]
    assert "link" in reason
    return reason


@needs_links
def test_a_web_of_links_ends(tmp_path):
    for level in range(25):
        folder = fill(tmp_path, f"web/{level}/") / "web" / str(level)
        (folder / "left").symlink_to(tmp_path / "web" / str(level + 1))
        (folder / "right").symlink_to(tmp_path / "web" / str(level + 1))
    fill(tmp_path, "web/25/1.jpg", "data/a/")
    (tmp_path / "data" / "a" / "in").symlink_to(tmp_path / "web" / "0")
    assert len(read_labelled(tmp_path / "data")) == 1


def test_a_name_that_is_not_utf8_is_displayed(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system refuses the name")
    open(os.path.join(folder, b"\xff.jpg"), "wb").close()
    found = read_labelled(tmp_path)
    assert found.names == (r"caf\xe9/\xff.jpg",)
    assert found.classes == (r"caf\xe9",)
    assert found.sources[0].exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "0 images directly in the folder and no class folders"),
        ([f"{i}.jpg" for i in range(37)], "37 images directly in the folder and no class folders"),
        (["a.jpg", "b.txt"], "1 image directly in the folder"),
        (["a/", "b/x.txt"], "at least one image, got 2 classes and 1 other entries"),
        (["Cat/1.jpg", "cat/1.jpg"], "got 'Cat' and 'cat'"),
    ],
)
def test_folders_without_classes_are_refused(tmp_path, files, message):
    fill(tmp_path, *files)
    if "cat/1.jpg" in files and len(os.listdir(tmp_path)) == 1:
        pytest.skip("this file system ignores case")
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path)


def test_what_is_neither_folder_nor_table_is_refused(tmp_path):
    fill(tmp_path, "data.zip")
    with pytest.raises(DataError, match="got nothing at this path"):
        read_labelled(tmp_path / "none")
    with pytest.raises(DataError, match="got another kind of file"):
        read_labelled(tmp_path / "data.zip")


def test_the_summary_is_one_line(tmp_path):
    fill(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", "b/x.txt", "c/")
    with pytest.warns(UserWarning, match="no images of c"):
        found = read_labelled(tmp_path)
    expected = "3 images of 3 classes (smallest: c with 0; largest: b with 2), 1 skipped"
    assert found.summary() == expected


@pytest.mark.parametrize("locked", ["", "a"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, locked):
    fill(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / locked).chmod(0)
    try:
        if os.access(tmp_path / locked, os.R_OK):
            pytest.skip("this user reads everything")
        with pytest.raises(DataError, match="Permission denied in"):
            read_labelled(tmp_path)
    finally:
        (tmp_path / locked).chmod(0o755)


# Splits


def test_splits_are_recognised_and_train_is_the_default(tmp_path):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "valid/a/2.jpg", "test/a/3.jpg", "README.md", ".cache/x")
    assert read_labelled(tmp_path).names == ("a/1.jpg", "b/1.jpg")
    assert read_labelled(tmp_path, split="test").names == ("a/3.jpg",)
    for name in ("val", "valid", "validation"):
        assert read_labelled(tmp_path, split=name).names == ("a/2.jpg",)
    assert read_labelled(tmp_path / "test").names == ("a/3.jpg",)


def test_the_exact_name_of_a_split_wins(tmp_path):
    fill(tmp_path, "val/a/1.jpg", "valid/a/2.jpg")
    assert read_labelled(tmp_path, split="valid").names == ("a/2.jpg",)
    assert read_labelled(tmp_path, split="val").names == ("a/1.jpg",)


def test_a_class_may_be_called_train(tmp_path):
    assert read_labelled(fill(tmp_path / "1", "train/1.jpg", "bus/1.jpg")).classes == ("bus", "train")
    assert read_labelled(fill(tmp_path / "2", "train/old/1.jpg", "bus/1.jpg")).classes == ("bus", "train")
    assert read_labelled(fill(tmp_path / "3", "train/1.jpg", "test/1.jpg")).classes == ("test", "train")


def test_unlabelled_images_beside_a_split_are_no_class(tmp_path):
    fill(tmp_path, "train/a/1.jpg", "test/1.jpg", "val/")
    with pytest.raises(DataError, match="got 'test' with files directly in it beside 'train'"):
        read_labelled(tmp_path)
    assert read_labelled(tmp_path, split="train").classes == ("a",)


def test_a_split_that_is_not_there_is_named(tmp_path):
    fill(tmp_path, "s/test/a/1.jpg", "s/val/a/1.jpg", "c/a/1.jpg")
    with pytest.raises(DataError, match="the split 'train', got test, val"):
        read_labelled(tmp_path / "s")
    with pytest.raises(DataError, match="got no splits"):
        read_labelled(tmp_path / "c", split="test")


# Tables


def table(root: Path, name: str, text: str, *, encoding: str = "utf-8") -> Path:
    fill(root, "img/1.jpg", "img/2.jpg", "img/3.jpg")
    (root / name).write_text(text, encoding=encoding)
    return root / name


@pytest.mark.parametrize("path", ["path", "file", "filename", "file_name", "image", " Path "])
@pytest.mark.parametrize("label", ["label", "class", "class_name"])
def test_csv_columns_have_aliases(tmp_path, path, label):
    found = read_labelled(table(tmp_path, "t.csv", f"id,{path},{label}\n0,img/2.jpg,b\n1,img/1.jpg, a \n"))
    assert found.names == ("img/2.jpg", "img/1.jpg")
    assert found.labels == ("b", "a")
    assert found.classes == ("a", "b")
    assert found.sources[0] == tmp_path / "img" / "2.jpg"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "path\tlabel\nimg/1.jpg\ta\n"),
        ("t.csv", "path;label\r\nimg/1.jpg;a\r\n"),
        ("t.csv", '"path","label"\n"img/1.jpg","a"\n\n'),
        ("t.jsonl", '{"path": "img/1.jpg", "label": "a"}\n\n'),
        ("t.ndjson", '{"image": "img/1.jpg", "class": "a", "extra": [1]}'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_all_kinds(tmp_path, name, text, encoding):
    found = read_labelled(table(tmp_path, name, text, encoding=encoding))
    assert (found.names, found.labels) == (("img/1.jpg",), ("a",))


def test_a_table_may_have_splits(tmp_path):
    text = "path,label,split\nimg/1.jpg,a,train\nimg/2.jpg,b,validation\nimg/3.jpg,a,\n"
    file = table(tmp_path, "t.csv", text)
    assert read_labelled(file).names == ("img/1.jpg",)
    assert read_labelled(file, split="val").names == ("img/2.jpg",)
    with pytest.raises(DataError, match="the split 'test', got train, validation"):
        read_labelled(file, split="test")


def test_a_split_of_a_table_without_splits_is_refused(tmp_path):
    with pytest.raises(DataError, match="the split 'test', got no split column"):
        read_labelled(table(tmp_path, "t.csv", "path,label\nimg/1.jpg,a\n"), split="test")


def test_rows_that_lead_nowhere_are_skipped_with_their_line(tmp_path):
    rows = [
        {"path": "img/1.jpg", "label": 7},
        {"path": "img/none.jpg", "label": "ghost"},
        {"path": "img/2.jpg"},
        {"label": "x"},
        {"path": "img/2.jpg", "label": None},
    ]
    file = table(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.warns(UserWarning, match="no images of ghost, x"):
        found = read_labelled(file)
    assert (found.names, found.labels, found.classes) == (("img/1.jpg",), ("7",), ("7", "ghost", "x"))
    assert found.skipped == (
        ("line 2: img/none.jpg", "no such file"),
        ("line 3: img/2.jpg", "no label"),
        ("line 4: ", "no path"),
        ("line 5: img/2.jpg", "no label"),
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "t.csv",
            "picture,label\nimg/1.jpg,a\n",
            "got 'picture', 'label'. Name the column of the path one of",
        ),
        ("t.csv", "path,kind\nimg/1.jpg,a\n", "got 'path', 'kind'. Name the column of the label one of"),
        ("t.csv", "", "got no columns"),
        ("t.csv", "path,label\n", "at least one image"),
        ("t.csv", "path,label\nx.jpg,a\ny.jpg,a\n", "none in 2 rows; line 2: x.jpg: no such file"),
        ("t.csv", "path,label\nimg/1.jpg,Cat\nimg/2.jpg,cat\n", "'Cat' and 'cat'"),
        ("t.jsonl", '{"path": "img/1.jpg"', r"line 1: expected a JSON object"),
        ("t.jsonl", '["img/1.jpg", "a"]', r"line 1: expected a JSON object"),
        ("t.jsonl", '{"p": "img/1.jpg"}', "got 'p'"),
        ("t.jsonl", "[" * 100_000, "expected a JSON object"),
        ("t.csv", "path,label\n" + "x" * 200_000 + ",a\n", "field larger than field limit"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_labelled(table(tmp_path, name, text))


def test_a_binary_file_called_csv_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError):
        read_labelled(tmp_path / "t.csv")


# Images to classify


def names(*sources: str | Path) -> list[str]:
    return [found.name for found in find_images(sources)]


@pytest.fixture
def new(tmp_path, monkeypatch) -> Path:
    fill(
        tmp_path, "new/b.jpg", "new/a.PNG", "new/sub/c.webp", "new/notes.txt", "new/.h.jpg", "new/.git/x.jpg"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_images_at_any_depth(new):
    expected = ["new/a.PNG", "new/b.jpg", "new/sub/c.webp"]
    assert names("new") == names("new/") == names(Path("new")) == expected
    assert names(".") == [f"./{name}" for name in expected]
    assert names(new / "new") == [f"{new}/{name}" for name in expected]
    assert all(found.path.exists() for found in find_images(["new"]))


def test_a_named_file_is_kept_whatever_it_is(new):
    assert names("new/notes.txt", "none.jpg", "./new/.h.jpg") == ["new/notes.txt", "none.jpg", "./new/.h.jpg"]


def test_globs_are_expanded(new):
    assert names("new/*.jpg") == ["new/b.jpg"]
    assert names("new/**/*.webp") == ["new/sub/c.webp"]
    assert names("n*") == ["new/a.PNG", "new/b.jpg", "new/sub/c.webp"]


def test_a_file_with_brackets_in_its_name_is_no_glob(new):
    fill(new, "new/[1].jpg")
    assert names("new/[1].jpg") == ["new/[1].jpg"]


def test_order_follows_the_arguments_and_every_argument_gets_its_rows(new):
    assert names("new/sub", "new/b.jpg", "new/b.jpg", "./new/b.jpg") == [
        "new/sub/c.webp",
        "new/b.jpg",
        "new/b.jpg",
        "./new/b.jpg",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none/*.jpg", "none/\\*.jpg: expected images, got a glob that matches none"),
        ("empty", "empty: expected a folder with images, got nothing"),
        ("text", "got 1 other entry"),
    ],
)
def test_folders_and_globs_without_images_are_refused(new, source, message):
    fill(new, "empty/", "text/a.txt")
    with pytest.raises(DataError, match=message):
        find_images(["new", source])
    with pytest.raises(DataError, match="at least one path"):
        find_images([])


def test_results_name_undecodable_bytes(new):
    path = os.path.join(os.fsencode(new), b"new", b"\xe9.jpg")
    try:
        open(path, "wb").close()
    except OSError:
        pytest.skip("this file system refuses the name")
    assert r"new/\xe9.jpg" in names("new")
    assert names("new/*\udce9.jpg") == [r"new/\xe9.jpg"]


@needs_links
def test_a_folder_that_links_to_itself_ends(new):
    (new / "new" / "again").symlink_to(new / "new")
    assert names("new") == ["new/a.PNG", "new/b.jpg", "new/sub/c.webp"]


def test_reading_again_after_a_copy_gives_the_same(new):
    fill(new, "d/a/1.jpg", "d/b/1.jpg")
    shutil.copytree(new / "d", new / "copy")
    first, second = read_labelled("d"), read_labelled("copy")
    assert (first.names, first.labels) == (second.names, second.labels)
