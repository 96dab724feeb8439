"""The layouts of the papers' data sets, on miniature copies that the tests build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import drawing, fewclip

from fewclip.data import find_splits, read_labelled
from fewclip.errors import DataError

WNIDS = ("n01440764", "n02012849", "n03126707")
NAMES = ("tench", "crane", "crane")  # a bird and a machine: two classes, one name

# Folder, file of the splits, folder that its paths are relative to, three classes as the file writes them,
# and what their prompts call the second.
ZHOU = [
    ("caltech-101", "Caltech101", "101_ObjectCategories", ("accordion", "Leopards", "wild_cat"), "leopard"),
    ("oxford_pets", "OxfordPets", "images", ("abyssinian", "american_bulldog", "pug"), "american bulldog"),
    ("stanford_cars", "StanfordCars", "", ("2012 Audi A4", "1998 Eagle Talon", "Fisker"), "1998 Eagle Talon"),
    ("oxford_flowers", "OxfordFlowers", "jpg", ("pink primrose", "hard-leaved pocket orchid", "rose"),
     "hard-leaved pocket orchid"),
    ("food-101", "Food101", "images", ("apple_pie", "baby_back_ribs", "pho"), "baby back ribs"),
    ("sun397", "SUN397", "SUN397", ("abbey", "outdoor_apse", "zen_garden"), "outdoor apse"),
    ("dtd", "DescribableTextures", "images", ("banded", "polka-dotted", "zigzagged"), "polka-dotted"),
    ("eurosat", "EuroSAT", "2750", ("Forest", "AnnualCrop", "River"), "Annual Crop Land"),
    ("ucf101", "UCF101", "UCF-101-midframes", ("Archery", "Apply_Eye_Makeup", "Typing"), "Apply Eye Makeup"),
]  # fmt: skip


def photo(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing("red", number).save(path)


def build_zhou(root: Path, file: str, folder: str, classes: tuple[str, ...]) -> Path:
    document: dict[str, list] = {"train": [], "val": [], "test": []}
    for k, rows in enumerate(document.values()):
        for label, name in enumerate(classes):
            path = f"{name.lower().replace(' ', '_')}/image_{k}.png"
            photo(root / folder / path, 10 * k + label)
            rows.append([path, label, name])
    (root / f"split_zhou_{file}.json").write_text(json.dumps(document))
    (root / "README.txt").write_text("about the data set")
    return root


@pytest.mark.parametrize(("folder", "file", "images", "classes", "called"), ZHOU, ids=[z[1] for z in ZHOU])
def test_nine_data_sets_by_the_splits_of_coop(tmp_path, folder, file, images, classes, called):
    root = build_zhou(tmp_path / folder, file, images, classes)
    assert find_splits(root) == ["test", "train", "val"]
    for split in ("train", "val", "test"):
        found = read_labelled(root, split=split)
        assert found.labels == classes
        assert found.skipped == ()
        assert all(Path(str(source)).is_file() for source in found.sources)
        assert found.called[classes[1]] == called
    assert read_labelled(root).kind == f"split_zhou JSON of {file}"


def test_fgvc_aircraft(tmp_path):
    lines = {
        "train": ["0034309 707-320", "0034958 Boeing 717"],
        "val": ["1025794 707-320"],
        "test": ["22 A300B4"],
    }
    for base in (tmp_path / "fgvc_aircraft", tmp_path / "fgvc-aircraft-2013b" / "data"):
        for k, (split, rows) in enumerate(lines.items()):
            for i, row in enumerate(rows):
                photo(base / "images" / f"{row.split()[0]}.jpg", 10 * k + i)
            (base / f"images_variant_{split}.txt").write_text("\n".join(rows) + "\n")
        (base / "variants.txt").write_text("707-320\nBoeing 717\nA300B4\n")
    for root in (tmp_path / "fgvc_aircraft", tmp_path / "fgvc-aircraft-2013b"):
        with pytest.warns(UserWarning, match="no images of A300B4"):
            train = read_labelled(root)
        assert train.labels == ("707-320", "Boeing 717")
        assert train.called["707-320"] == "707-320"
        assert read_labelled(root, split="test").labels == ("A300B4",)
        assert find_splits(root) == ["test", "train", "val"]


def names_file(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    lines = [f"{wnid} {name}" for wnid, name in zip(WNIDS, NAMES, strict=True)]
    (root / "classnames.txt").write_text("\n".join(lines) + "\n")


LABELS = ("crane (n02012849)", "crane (n03126707)", "tench")


def test_imagenet(tmp_path):
    root = tmp_path / "imagenet"
    names_file(root)
    for i, wnid in enumerate(WNIDS):
        photo(root / "images" / "train" / wnid / f"{wnid}_1.png", i)
        photo(root / "images" / "val" / wnid / "ILSVRC2012_val_1.png", 10 + i)
    photo(root / "images" / "train" / "n99999999" / "x.png", 30)
    assert find_splits(root) == ["test", "train"]
    train = read_labelled(root)
    assert train.kind == "ImageNet"
    assert train.classes == LABELS
    assert train.labels == ("tench", *LABELS[:2])
    assert train.called == {LABELS[0]: "crane", LABELS[1]: "crane", "tench": "tench"}
    assert train.skipped == (("n99999999/x.png", "in no folder of classnames.txt"),)
    assert read_labelled(root, split="test").classes == LABELS
    with pytest.raises(
        DataError, match="the split 'val', got train, test"
    ):  # the test images are no validation
        read_labelled(root, split="val")


VARIANTS = [
    ("imagenetv2", "imagenetv2-matched-frequency-format-val", ("0", "1", "2"), "ImageNet-V2"),
    ("imagenet-sketch", "images", WNIDS, "ImageNet-Sketch"),
    ("imagenet-adversarial", "imagenet-a", WNIDS, "ImageNet-A"),
    ("imagenet-rendition", "imagenet-r", WNIDS, "ImageNet-R"),
]


@pytest.mark.parametrize(("folder", "inner", "folders", "name"), VARIANTS, ids=[v[3] for v in VARIANTS])
def test_variants_of_imagenet_have_its_labels(tmp_path, folder, inner, folders, name):
    root = tmp_path / folder
    for i, one in enumerate(folders):
        photo(root / inner / one / "1.png", i)
    (root / inner / "README.txt").write_text("x")
    names_file(tmp_path / "imagenet")  # the variants take the names of ImageNet beside them
    for path in (root, root / inner) if inner != "images" else (root,):
        found = read_labelled(path, prefer="test")
        assert (found.kind, found.split) == (name, "test")
        assert dict(zip(found.names, found.labels, strict=True))[f"{folders[1]}/1.png"] == LABELS[0]
        assert found.classes == LABELS
    with pytest.raises(DataError, match="the split 'train', got test"):
        read_labelled(root)


def test_variants_without_names_say_so(tmp_path):
    for one in WNIDS:
        photo(tmp_path / "a" / "imagenet-a" / one / "1.png", 0)
        photo(tmp_path / "v2" / VARIANTS[0][1] / str(WNIDS.index(one)) / "1.png", 0)
    found = read_labelled(tmp_path / "a", prefer="test")
    assert found.labels == WNIDS
    assert "WordNet ids" in found.describe()
    with pytest.raises(DataError, match=r"expected classnames\.txt"):
        read_labelled(tmp_path / "v2", prefer="test")
    (tmp_path / "a" / "classnames.txt").write_text("tench\n")
    with pytest.raises(DataError, match="line 1: expected a WordNet id"):
        read_labelled(tmp_path / "a", prefer="test")


def test_class_folders_with_numbers_are_no_imagenet(tmp_path):
    for one in ("0", "1"):
        photo(tmp_path / "digits" / one / "1.png", int(one))
    assert read_labelled(tmp_path / "digits").kind == "class folders"


def test_data_info_of_a_data_set(tmp_path):
    ran = fewclip("data", "info", build_zhou(tmp_path / "dtd", *ZHOU[6][1:4]))
    assert "dtd, split_zhou JSON of DescribableTextures, split train" in ran.out
    assert "names     from the data, such as banded = 'banded'" in ran.out
    assert ran.out.count("3 images of 3 classes") == 3
