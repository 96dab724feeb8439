"""Labelled images of every kind: what is read, what is said about it, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import FakeEncoder, draw_folder, drawing, fewclip
from PIL import Image

from fewclip import FewShotClassifier
from fewclip.data import (
    FeatureStore,
    StoredImage,
    find_splits,
    image_key,
    labelled_sources,
    load_image,
    named_sources,
    read_labelled,
)
from fewclip.errors import DataError, ImageError, LabelError

pytestmark = pytest.mark.usefixtures("one_thread")
COLOURS = ("blue", "green", "red")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """data/images/blue/00.png and so on: two photos of each of three colours."""
    return draw_folder(tmp_path / "data" / "images", n=2).parent


def png(colour: str, number: int) -> bytes:
    stream = io.BytesIO()
    drawing(colour, number).save(stream, "PNG")
    return stream.getvalue()


def fit(images, **more) -> FewShotClassifier:
    clf = FewShotClassifier(FakeEncoder(), "tip-adapter", store=FeatureStore.in_memory(), progress=False)
    return clf.fit(images, **more)


# ---- tables ----


def test_a_parquet_table_of_paths(photos):
    frame = pd.DataFrame(
        {
            "Path": ["images/red/00.png", "images/blue/00.png"],
            "label": ["red", "blue"],
            "split": ["train", "test"],
        }
    )
    frame.to_parquet(photos / "t.parquet")
    found = read_labelled(photos / "t.parquet")
    assert (found.labels, found.names, found.split) == (("red",), ("images/red/00.png",), "train")
    assert found.sources == (photos / "images/red/00.png",)
    assert found.columns == (("path", "Path"), ("label", "label"), ("split", "split"))
    assert find_splits(photos / "t.parquet") == ["test", "train"]


def test_a_parquet_file_of_hugging_face_holds_images_and_names_of_numbers(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["blue", "red"])}
    )
    rows = {"image": [{"bytes": png("red", 0), "path": "r.png"}, {"bytes": png("blue", 0), "path": None}],
            "label": [1, 0]}  # fmt: skip
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "t.parquet"))
    found = read_labelled(tmp_path / "t.parquet")
    assert found.labels == ("red", "blue")
    assert found.names == ("r.png", "row 1")
    assert image_key(found.sources[0]) == image_key(png("red", 0))


def test_a_parquet_file_of_something_else_is_named(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="columns path and label, got 'a'"):
        read_labelled(tmp_path / "t.parquet")
    (tmp_path / "u.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"u\.parquet: expected a Parquet table"):
        read_labelled(tmp_path / "u.parquet")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_with_metadata_is_read_by_it(photos, name):
    rows = [("red/00.png", "red"), ("red/01.png", "wine"), ("green/00.png", "green")]
    text = (
        "file_name,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
        if name.endswith("csv")
        else "".join(json.dumps({"file_name": path, "label": label}) + "\n" for path, label in rows)
    )
    (photos / "images" / name).write_text(text)
    found = read_labelled(photos / "images")
    assert found.names == ("red/00.png", "red/01.png", "green/00.png")
    assert found.labels == ("red", "wine", "green")
    assert found.columns == (("path", "file_name"), ("label", "label"))
    assert "metadata" in found.kind


def test_metadata_in_every_split(tmp_path):
    for split, label in (("train", "red"), ("validation", "blue")):
        (tmp_path / split).mkdir()
        drawing(label, 0).save(tmp_path / split / "a.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\na.png,{label}\n")
    assert find_splits(tmp_path) == ["train", "val"]
    assert read_labelled(tmp_path, split="val").labels == ("blue",)
    assert read_labelled(tmp_path).sources == (tmp_path / "train" / "a.png",)


def test_metadata_without_labels_leaves_the_class_folders(photos):
    (photos / "images" / "metadata.csv").write_text("file_name,caption\nred/00.png,a red thing\n")
    found = read_labelled(photos / "images")
    assert found.kind == "class folders"
    assert ("metadata.csv", "not an image file (.csv)") in found.skipped


def test_rows_without_a_split_are_counted(photos):
    (photos / "t.csv").write_text("path,label,split\nimages/red/00.png,red,train\nimages/red/01.png,red,\n")
    assert read_labelled(photos / "t.csv").skipped == (("line 3: images/red/01.png", "no split"),)


# ---- COCO ----


def coco(**more) -> dict:
    return {
        "info": {},
        "images": [{"id": i, "file_name": f"{c}/00.png"} for i, c in enumerate(COLOURS)]
        + [{"id": 9, "file_name": "red/01.png"}],
        "annotations": [{"image_id": 0, "category_id": 7}, {"image_id": 1, "category_id": 5},
                        {"image_id": 0, "category_id": 7, "bbox": [0, 0, 1, 1]}],
        "categories": [{"id": 7, "name": "blue"}, {"id": 5, "name": "green"}, {"id": 6, "name": "absent"}],
        **more,
    }  # fmt: skip


def test_coco_with_one_category_an_image(photos):
    (photos / "labels.json").write_text(json.dumps(coco()))
    with pytest.warns(UserWarning, match="absent"):
        found = read_labelled(photos / "labels.json")
    assert dict(zip(found.names, found.labels, strict=True)) == {
        "blue/00.png": "blue",
        "green/00.png": "green",
    }
    assert found.sources[0] == photos / "images" / "blue" / "00.png"
    assert found.skipped == (("red/00.png", "no annotation"), ("red/01.png", "no annotation"))
    assert found.classes == ("absent", "blue", "green")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"annotations": [{"image_id": 2, "category_id": 7}, {"image_id": 2, "category_id": 5}]},
         r"red/00\.png: expected one category an image, got 'blue' and 'green'"),
        ({"annotations": [{"image_id": 2, "category_id": 1}]}, "annotations 0: .* category 1"),
        ({"annotations": [{"image_id": 77, "category_id": 7}]}, "annotations 0: .* image 77"),
        ({"annotations": [{"image_id": 2}]}, "annotations 0: .* with image_id and category_id"),
        ({"categories": [{"id": 7, "name": "x"}, {"id": 7, "name": "y"}]}, "categories: .* 7 twice"),
        ({"categories": [{"id": 7, "name": "x"}, {"id": 5, "name": "x"}]}, "'x' twice"),
        ({"images": None}, "none with a list of images"),
        ({"images": [{"id": [], "file_name": "a"}]}, "images 0"),
    ],
)  # fmt: skip
def test_coco_that_is_not_clear_is_refused(photos, more, message):
    (photos / "labels.json").write_text(json.dumps(coco(**more)))
    with pytest.raises(DataError, match=message):
        read_labelled(photos / "labels.json")


@pytest.mark.parametrize("text", ["[1, 2]", "{}", "nonsense", "[" * 100_000, '"x"'])
def test_json_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_labelled(tmp_path / "x.json")


# ---- split_zhou ----


def zhou(*, number: int = 1) -> dict:
    return {
        "train": [["blue/00.png", 0, "sky_blue"], ["red/00.png", number, "wine-red"]],
        "val": [["blue/01.png", 0, "sky_blue"]],
        "test": [["red/01.png", 1, "wine-red"], ["red/gone.png", 1, "wine-red"]],
    }


def test_split_zhou_finds_its_images_and_cleans_names_as_usual(photos):
    (photos / "split_zhou_Colours.json").write_text(json.dumps(zhou()))
    for path in (photos, photos / "split_zhou_Colours.json"):
        found = read_labelled(path)
        assert found.labels == ("sky_blue", "wine-red")
        assert found.sources == (photos / "images/blue/00.png", photos / "images/red/00.png")
        assert found.called == {"sky_blue": "sky blue", "wine-red": "wine-red"}
        assert find_splits(path) == ["test", "train", "val"]
    test = read_labelled(photos, split="test")
    assert test.broken == (("test 1: red/gone.png", "no such file"),)
    assert "Colours" in test.kind
    encoder = FakeEncoder()
    FewShotClassifier(encoder, store=FeatureStore.in_memory(), progress=False).fit(photos)
    assert sorted(encoder.texts) == ["a photo of a sky blue.", "a photo of a wine-red."]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (zhou(number=0), "one number for each name"),
        ({"train": [["a.jpg", 0]]}, r"train 0: expected \[path, label, name\]"),
        ({"train": [["a.jpg", 0, "x"], ["b.jpg", 1, "x"]]}, "one number for each name"),
        ({"training": []}, "expected splits"),
        ([], "expected splits"),
    ],
)
def test_split_zhou_that_is_not_clear_is_refused(photos, document, message):
    (photos / "split_zhou_X.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        read_labelled(photos / "split_zhou_X.json")


# ---- webdataset ----


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(n: int = 4) -> dict[str, bytes]:
    found = {}
    for k, colour in enumerate(COLOURS):
        for i in range(n):
            found |= {f"{k}{i}.png": png(colour, i), f"{k}{i}.cls": str(k).encode()}
    return found


def test_a_tar_is_read_in_place(tmp_path, monkeypatch):
    path = tar(tmp_path / "train.tar", samples() | {"00.json": b"{}", "x/9.cls": b"1"})
    (tmp_path / "classnames.txt").write_text("blue\ngreen\nred\n")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(tarfile.TarFile, "extractall", None)
    found = read_labelled(path)
    assert found.labels[:5] == ("blue", "blue", "blue", "blue", "green")
    assert found.names[0] == "00.png"
    assert image_key(found.sources[0]) == image_key(png("blue", 0))
    assert load_image(found.sources[5]).tobytes() == drawing("green", 1).tobytes()
    assert dict(found.skipped) == {
        "00.json": "neither an image nor a class",
        "x/9.cls": "a class without an image",
    }
    clf = fit(path)
    assert clf.predict(path).tolist() == list(found.labels)
    assert clf.predict([found.sources[0], drawing("red", 9)]).tolist() == ["blue", "red"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_shards_has_the_splits_of_their_names(tmp_path):
    tar(tmp_path / "train-0.tar", {"a.jpg": png("red", 0), "a.cls": b"red"})
    tar(
        tmp_path / "train-1.tar",
        {"a.jpg": png("red", 1), "a.cls": b"red", "b.jpg": png("blue", 0), "b.cls": b"blue"},
    )
    tar(tmp_path / "test" / "0.tar", {"a.jpg": png("red", 2), "a.cls": b"red"})
    (tmp_path / "test" / "nshards.txt").write_text("1")
    assert find_splits(tmp_path) == ["test", "train"]
    assert read_labelled(tmp_path).names == ("train-0.tar/a.jpg", "train-1.tar/a.jpg", "train-1.tar/b.jpg")
    assert read_labelled(tmp_path, split="test").names == ("test/0.tar/a.jpg",)


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_no_trick_in_a_tar_reads_or_writes_elsewhere(tmp_path):
    secret = tmp_path / "secret.png"
    drawing("red", 0).save(secret)
    members = {
        "../../up.png": png("blue", 0), "../../up.cls": b"blue",
        "/abs.png": png("green", 0), "/abs.cls": b"green",
        "1": link("l.png", str(secret), tarfile.SYMTYPE), "l.cls": b"red",
        "2": link("h.png", str(secret), tarfile.LNKTYPE),
        "3": link("d.png", "", tarfile.CHRTYPE),
        "bad\x1b[2J.png": png("red", 1),
        "long.png": png("red", 2), "long.cls": b"x" * 5000,
        "._m.png": b"",
    }  # fmt: skip
    path = tar(tmp_path / "deep" / "er" / "t.tar", members)
    found = read_labelled(path)
    assert found.names == ("../../up.png", "/abs.png")
    assert all(isinstance(source, StoredImage) for source in found.sources)
    reasons = dict(found.skipped)
    assert reasons["l.png"] == reasons["h.png"] == "a link, which is not followed"
    assert reasons["d.png"] == "not a regular file"
    assert reasons["sample bad\\x1b[2J: bad\\x1b[2J.png"] == "no label"
    assert reasons["sample long: long.png"] == "no label"
    assert not (tmp_path / "up.png").exists()


def test_damaged_tars_are_named(tmp_path):
    whole = tar(tmp_path / "a.tar", {"a.png": png("red", 0), "a.cls": b"red"}).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:700])
    (tmp_path / "c.tar").write_bytes(b"no archive at all" * 100)
    tar(tmp_path / "d.tar", {"a.png": png("red", 0), "a.cls": b"red"}, "w:gz")
    for name in ("b.tar", "c.tar", "d.tar"):
        with pytest.raises(DataError, match=name):
            read_labelled(tmp_path / name)
    found = read_labelled(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(whole[:600])
    with pytest.raises(ImageError, match=r"a\.png: expected \d+ bytes, got 88"):
        load_image(found.sources[0])


def test_a_number_without_a_name_is_refused(tmp_path):
    (tmp_path / "classnames.txt").write_text("blue\n")
    with pytest.raises(DataError, match="a class below 1"):
        read_labelled(tar(tmp_path / "a.tar", {"a.png": png("red", 0), "a.cls": b"3"}))


# ---- data frames ----


def test_a_data_frame_of_paths(photos, monkeypatch):
    monkeypatch.chdir(photos)
    frame = pd.DataFrame({
        "file_name": [f"images/{c}/0{i}.png" for c in COLOURS for i in range(2)],
        "class": [c for c in COLOURS for _ in range(2)],
    })  # fmt: skip
    found = labelled_sources(frame)
    assert found.labels == ("blue", "blue", "green", "green", "red", "red")
    assert found.columns == (("path", "file_name"), ("label", "class"))
    assert "DataFrame of 6 rows" in found.describe()
    clf = fit(frame)
    expected = fit(photos / "images").predict_proba(photos / "images")
    np.testing.assert_allclose(clf.predict_proba(frame.drop(columns="class")), expected, atol=1e-6)
    np.testing.assert_array_equal(fit(frame["file_name"], labels=frame["class"]).classes_, list(COLOURS))


def test_a_data_frame_may_hold_the_images_and_numbers_as_labels():
    frame = pd.DataFrame(
        {"image": [drawing("red", 0), png("red", 1), {"bytes": png("blue", 0), "path": None}, None],
         "label": [3, 3, np.nan, 1]}
    )  # fmt: skip
    with pytest.warns(UserWarning, match="no images of 1"):
        found = labelled_sources(frame)
    assert found.labels == (3, 3)
    assert all(type(label) is int for label in found.labels)
    assert found.broken == (("row 2: ", "no label"), ("row 3: ", "no path"))


def test_a_data_frame_with_splits_and_one_without_columns(photos):
    frame = pd.DataFrame(
        {
            "path": [str(photos / f"images/{c}/00.png") for c in COLOURS],
            "label": COLOURS,
            "split": ["train", "val", "train"],
        }
    )
    assert labelled_sources(frame).labels == ("blue", "red")
    assert labelled_sources(frame, prefer="val").labels == ("green",)
    with pytest.raises(DataError, match="got 'x'"):
        labelled_sources(pd.DataFrame({"x": [1]}))


# ---- Hugging Face ----


class StandIn:
    """What the reader asks of a data set: features, column_names, a column, a row, a length."""

    def __init__(self, rows: list[dict], features: dict) -> None:
        self.rows, self.features, self.column_names = rows, features, list(features)
        self.opened: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            return [row[key] for row in self.rows]
        self.opened.append(key)
        return self.rows[key]


class ClassLabel(SimpleNamespace):
    pass


ClassLabel.__name__ = "ClassLabel"
HFImage = type("Image", (), {})


def stand_in(labels: list[int], *, image: str = "picture", label: str = "kind") -> StandIn:
    rows = [{image: drawing(COLOURS[max(k, 0)], i), label: k} for i, k in enumerate(labels)]
    return StandIn(rows, {image: HFImage(), label: ClassLabel(names=list(COLOURS))})


def test_a_data_set_is_known_by_its_features_and_read_lazily():
    data = stand_in([0, 0, 2, 2, -1])
    with pytest.warns(UserWarning, match="no images of green"):
        found = labelled_sources(data)
    assert found.labels == ("blue", "blue", "red", "red")
    assert found.columns == (("image", "picture"), ("label", "kind"))
    assert found.broken == (("row 4: ", "no label"),)
    assert data.opened == []
    assert load_image(found.sources[2]).tobytes() == drawing("red", 2).tobytes()
    assert data.opened == [2]
    assert len(named_sources(data)) == 5


def test_splits_of_data_sets():
    data = {"train": stand_in([0, 1, 2]), "validation": stand_in([1]), "test": stand_in([2, 2])}
    assert find_splits(data) == ["test", "train", "val"]
    assert labelled_sources(data).labels == COLOURS
    assert labelled_sources(data, prefer="val").labels == ("green",)
    assert len(named_sources(data)) == 2
    with pytest.raises(DataError, match="the split 'test'"):
        labelled_sources({"train": stand_in([0])}, prefer="test")


def test_what_is_not_clear_in_a_data_set_is_refused():
    two = stand_in([0])
    two.features |= {"coarse": ClassLabel(names=["x"])}
    with pytest.raises(DataError, match=r"one column of labels, got kind, coarse.*rename_column"):
        labelled_sources(two)
    stream = SimpleNamespace(features={}, column_names=["image", "label"])
    with pytest.raises(DataError, match="got a stream"):
        labelled_sources(stream)
    with pytest.raises(LabelError, match="one label for each image"):
        labelled_sources(object())


def test_real_data_sets_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(COLOURS))}
    )
    rows = {
        "image": [{"bytes": png(c, i), "path": f"{c}.png"} for c in COLOURS for i in range(3)],
        "label": [k for k in range(3) for _ in range(3)],
    }
    data = datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features=features))
    found = labelled_sources(data)
    assert found.labels == tuple(c for c in COLOURS for _ in range(3))
    assert image_key(found.sources[4]) == image_key(png("green", 1))
    clf = fit(data)
    np.testing.assert_array_equal(clf.predict(data["train"]), found.labels)
    with pytest.raises(DataError, match="got a stream"):
        labelled_sources(data["train"].to_iterable_dataset())


# ---- what is said ----


def test_data_info_and_fit_say_the_same(photos, own_cache):
    (photos / "images" / "red" / "notes.txt").write_text("x")
    (photos / "images" / "stray.png").write_bytes(png("red", 5))
    ran = fewclip("data", "info", photos / "images")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].endswith("images, class folders")
    assert lines[1] == "images    6 images of 3 classes (smallest: blue with 2; largest: red with 2)"
    assert "1 × not an image file (.txt) (red/notes.txt)" in lines[2]
    assert "1 × an image outside the class folders (stray.png)" in lines[2]
    assert lines[3] == "repeated  no image occurs twice"
    fitted = fewclip("fit", photos / "images", "-o", photos / "a.adapter", "--method", "tip-adapter")
    assert fitted.code == 0
    assert fitted.err.startswith("\n".join(lines[:3]))


def test_data_info_as_json_has_every_split(photos):
    (photos / "split_zhou_Colours.json").write_text(json.dumps(zhou()))
    document = json.loads(fewclip("data", "info", photos, "--json").out)
    assert document["kind"] == "split_zhou JSON of Colours"
    assert {split: part["images"] for split, part in document["splits"].items()} == {
        "test": 1,
        "train": 2,
        "val": 1,
    }
    assert document["duplicates"]["across_splits"] == []
    assert fewclip("data", "info", photos / "none").code == 1


def test_a_tar_on_the_command_line(tmp_path, own_cache):
    train = tar(tmp_path / "train.tar", samples(2))
    (tmp_path / "classnames.txt").write_text("blue\ngreen\nred\n")
    adapter = tmp_path / "a.adapter"
    assert fewclip("fit", train, "-o", adapter, "--method", "tip-adapter", "-q").code == 0
    ran = fewclip("predict", adapter, train, "-q")
    assert [row.split(",")[0] for row in ran.out.splitlines()[1:]] == [
        n for n in samples(2) if n.endswith("png")
    ]


def test_validation_images_that_were_trained_on_are_named_and_left_out(photos):
    val = draw_folder(photos / "val", n=1, first=0)  # the first of each colour is a training image
    with pytest.raises(DataError, match="validation images that are not among the training images, got 3"):
        fit(photos / "images", val=val)
    draw_folder(val, n=2, first=7)
    with pytest.warns(
        UserWarning, match=r"3 of 9 validation images .* left out: blue/00\.png, green/00\.png"
    ):
        clf = fit(photos / "images", val=val)
    assert clf.method_.selection_.labels_used == 6


def test_an_unreadable_row_of_a_data_set_is_an_error_of_its_own():
    data = stand_in([0, 0, 1, 2])
    data.rows[1]["picture"] = {"bytes": b"no image", "path": None}
    data.rows[2]["picture"] = None
    with pytest.raises(ImageError, match=r"row 1: .*2 of 4 images cannot be read"):
        fit(data)
    clf = FewShotClassifier(FakeEncoder(), "tip-adapter", store=FeatureStore.in_memory(), progress=False)
    clf.fit(draw := stand_in([0, 0, 1, 2]), skip_unreadable=True)
    rows = list(clf.classify(data))
    assert [row.error is None for row in rows] == [True, False, False, True]
    assert len(draw) == 4


def test_a_picture_of_pillow_in_a_list_still_works():
    assert named_sources([Image.new("RGB", (3, 3))])[0].name == "images[0]"


def test_damaged_archives_are_refused_or_read_and_nothing_else(tmp_path):
    whole = tar(tmp_path / "a.tar", {"d/a.png": png("red", 0), "d/a.cls": b"red"}).read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(80):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            content[int(rng.integers(0, 5000))] = int(rng.integers(0, 256))
        (tmp_path / "a.tar").write_bytes(content)
        try:
            for source in read_labelled(tmp_path / "a.tar").sources:
                load_image(source)
            outcomes.add("read")
        except DataError:  # of which ImageError is a kind
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_images_in_an_archive_are_evaluated_and_explained(tmp_path):
    (tmp_path / "classnames.txt").write_text("blue\ngreen\nred\n")
    clf = fit(tar(tmp_path / "train.tar", samples(2)))
    new = {name.replace(".", "x."): content for name, content in samples(5).items() if name[1] in "34"}
    evaluation = clf.evaluate(tar(tmp_path / "test.tar", new))
    assert len(evaluation.labels) == 6
    assert evaluation.names[0] == "03x.png"
    explanation = clf.explain(read_labelled(tmp_path / "test.tar").sources[0])
    assert explanation.name == "03x.png"
    assert {near.support.name for near in explanation.neighbours} <= set(samples(2))
