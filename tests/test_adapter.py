"""Adapters on disk: written whole or not at all, read without trust, the same predictions everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, FakeEncoder, draw_folder, draw_list, drawing
from safetensors.numpy import load_file, save

from fewclip import FewShotClassifier
from fewclip.adapter import Adapter
from fewclip.data import FeatureStore, image_key
from fewclip.errors import AdapterError, EncoderError, FewclipError
from fewclip.methods import APE, METHODS
from fewclip.persistence import read_adapter

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")

GOLDEN = Path(__file__).with_name("golden")


def fit(images, labels=None, method="ape", encoder=None, **options) -> FewShotClassifier:
    made = FewShotClassifier(
        encoder or FakeEncoder(), method, store=FeatureStore.in_memory(), progress=False, **options
    )
    return made.fit(images, labels)


def load(folder, encoder=None) -> FewShotClassifier:
    return FewShotClassifier.from_pretrained(
        folder, encoder=encoder or FakeEncoder(), store=FeatureStore.in_memory(), progress=False
    )


@pytest.fixture
def photos(tmp_path) -> Path:
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def new(tmp_path) -> Path:
    return draw_folder(tmp_path / "new", n=2, first=50)


@pytest.fixture
def saved(tmp_path, photos) -> Path:
    return fit(photos).save_pretrained(tmp_path / "colours.adapter")


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def change(folder: Path, edit) -> None:
    """Rewrites config.json after ``edit`` has changed it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    edit(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def change_tensors(folder: Path, edit) -> None:
    """Rewrites the tensors after ``edit`` has changed them, with the right checksum."""
    import hashlib

    tensors = load_file(folder / "adapter.safetensors")
    edit(tensors)
    blob = save(tensors)
    (folder / "adapter.safetensors").write_bytes(blob)
    change(folder, lambda c: c["checksum"].update({"adapter.safetensors": hashlib.sha256(blob).hexdigest()}))


# ---- save, then load ----


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shots", [1, 4])
def test_predictions_are_the_same_bits(tmp_path, photos, new, method, shots):
    fitted = FewShotClassifier(FakeEncoder(), method, progress=False).fit(photos, shots=shots)
    loaded = load(fitted.save_pretrained(tmp_path / "a"))
    np.testing.assert_array_equal(loaded.predict_proba(new), fitted.predict_proba(new))
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
    assert loaded.predict(new).dtype == fitted.predict(new).dtype
    assert str(loaded.explain(new / "red" / "50.png")) == str(fitted.explain(new / "red" / "50.png"))


@pytest.mark.parametrize(
    "method",
    [
        APE(alpha=1.0, beta=5.5, gamma=0.2, n_channels=20),
        APE(n_channels=0.25, criterion_weights=(0.5, 0.5), class_balance=False),
        APE(alpha=np.float64(1.5), beta=np.float64(2.0)),
    ],
)
def test_settings_of_ones_own_come_back(tmp_path, photos, new, method):
    fitted = fit(photos, method=method, views=2)
    loaded = load(fitted.save_pretrained(tmp_path / "a"))
    np.testing.assert_array_equal(loaded.predict_proba(new), fitted.predict_proba(new))
    assert loaded.method_.criterion_weights == method.criterion_weights
    assert (loaded.method_.alpha, loaded.method_.n_channels) == (method.alpha, method.n_channels)


def test_integer_labels_come_back_as_integers(tmp_path):
    images, names = draw_list()
    labels = [("blue", "green", "red").index(name) + 8 for name in names]
    loaded = load(fit(images, labels).save_pretrained(tmp_path / "a"))
    assert np.issubdtype(loaded.classes_.dtype, np.integer)
    assert loaded.predict(images).tolist() == labels
    assert loaded.explain(images[0]).neighbours[0].support.label == 8


def test_prompts_summary_and_support_come_back(saved, photos):
    fitted, loaded = fit(photos), load(saved)
    assert loaded.adapter_.prompts == fitted.adapter_.prompts
    assert loaded.adapter_.support == fitted.adapter_.support
    assert loaded.summary_.shots == {"blue": 4, "green": 4, "red": 4}
    first, second = (str(s).split("time")[0].replace(str(photos), "photos") for s in
                     (fitted.summary_, loaded.summary_))  # fmt: skip
    assert first == second


def test_a_class_without_images_comes_back(tmp_path, photos, new):
    (photos / "yellow").mkdir()
    with pytest.warns(UserWarning, match="yellow"):
        fitted = fit(photos)
    loaded = load(fitted.save_pretrained(tmp_path / "a"))
    np.testing.assert_array_equal(loaded.predict_proba(new), fitted.predict_proba(new))
    assert loaded.summary_.shots["yellow"] == 0


def test_an_adapter_is_moved_without_its_images(saved, photos, new, tmp_path, monkeypatch):
    expected = load(saved).predict_proba(new)
    neighbours = load(saved).explain(new / "red" / "50.png").neighbours
    (tmp_path / "elsewhere").mkdir()
    saved.rename(tmp_path / "elsewhere" / "renamed")
    shutil.rmtree(photos)
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load("renamed")
    np.testing.assert_array_equal(loaded.predict_proba(new), expected)
    explained = loaded.explain(new / "red" / "50.png")
    assert explained.neighbours == neighbours
    assert max(explained.neighbours[0].support.image().size) <= 64


def test_save_and_load_again_change_nothing(saved, tmp_path, new):
    again = load(load(saved).save_pretrained(tmp_path / "again"))
    np.testing.assert_array_equal(again.predict_proba(new), load(saved).predict_proba(new))
    first, second = content(saved), content(tmp_path / "again")
    assert first["adapter.safetensors"] == second["adapter.safetensors"]
    assert first["config.json"] == second["config.json"]


def test_a_loaded_classifier_may_be_fitted_again(saved, photos, new):
    loaded = load(saved)
    expected = fit(photos).predict_proba(new)
    np.testing.assert_array_equal(loaded.fit(photos).predict_proba(new), expected)


def test_text_and_path_open_the_same(saved, new):
    np.testing.assert_array_equal(load(str(saved)).predict_proba(new), load(saved).predict_proba(new))


# ---- what is in it ----


def test_the_files_of_an_adapter(saved, photos):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    assert set(content(saved)) == {
        "config.json",
        "adapter.safetensors",
        "README.md",
        *(entry["thumbnail"] for entry in config["support"]),
    }
    assert config["format_version"] == 1
    assert config["method"]["name"] == "ape"
    assert config["method"]["classes"] == ["blue", "green", "red"]
    assert config["encoder"] == {"name": "fake", "fingerprint": "fake-1"}
    assert config["prompts"] == [[f"a photo of a {name}."] for name in ("blue", "green", "red")]
    assert {"alpha", "beta", "gamma", "n_channels"} <= set(config["method"]["selection"]["settings"])
    assert {"python", "fewclip", "torch", "numpy"} <= set(config["versions"])
    assert [entry["name"] for entry in config["support"]] == [
        p.relative_to(photos).as_posix() for p in sorted(photos.glob("*/*"))
    ]
    assert config["support"][0]["sha256"] == image_key(photos / "blue" / "00.png")


def test_the_card_lists_classes_and_says_that_it_contains_pictures(saved):
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# colours.adapter")
    for part in ("| blue | 4 |", "| green | 4 |", "| red | 4 |", "Pictures", "12 labelled images", "fake-1"):
        assert part in card


def test_the_commands_of_a_card_can_be_copied(tmp_path, photos):
    fit(photos).save_pretrained(tmp_path / "my_best colours.adapter")
    card = (tmp_path / "my_best colours.adapter" / "README.md").read_text(encoding="utf-8")
    assert "fewclip predict 'my_best colours.adapter' IMAGES" in card
    python = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert python is not None
    assert re.search(r"""from_pretrained\((['"])my_best colours\.adapter\1\)""", python.group(1))


def test_names_cannot_break_the_card(tmp_path):
    labels = ["red|<script>", "`blue`\n# title"]
    images = [image for image in draw_list(("red", "blue"), 2)[0]]
    fitted = fit(images, [label for label in labels for _ in range(2)])
    card = (fitted.save_pretrained(tmp_path / "a") / "README.md").read_text(encoding="utf-8")
    rows = [line for line in card.splitlines() if line.startswith("| ") and " 2 |" in line]
    assert len(rows) == 2
    assert not any(line.startswith("# title") for line in card.splitlines())
    assert all("<script>" not in row.replace(r"\<script\>", "") for row in rows)


def absolute_paths_in(folder: Path, root: Path) -> list[str]:
    text = (folder / "config.json").read_text(encoding="utf-8") + (folder / "README.md").read_text("utf-8")
    return [line for line in text.splitlines() if str(root) in line]


def test_no_absolute_path_from_a_folder(saved, tmp_path):
    assert absolute_paths_in(saved, tmp_path) == []


def test_no_absolute_path_from_a_folder_with_unreadable_images(photos, tmp_path):
    (photos / "red" / "x.jpg").touch()
    made = FewShotClassifier(FakeEncoder(), progress=False).fit(photos, skip_unreadable=True)
    assert absolute_paths_in(made.save_pretrained(tmp_path / "a"), tmp_path) == []


def test_no_absolute_path_from_a_list(photos, tmp_path):
    paths = sorted(photos.glob("*/*"))
    made = fit(paths, [path.parent.name for path in paths])
    assert absolute_paths_in(made.save_pretrained(tmp_path / "a"), tmp_path) == []


def test_no_absolute_path_from_a_table(photos, tmp_path):
    rows = "".join(f"{path},{path.parent.name}\n" for path in sorted(photos.glob("*/*")))
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    made = fit(tmp_path / "labels.csv")
    assert absolute_paths_in(made.save_pretrained(tmp_path / "a"), tmp_path) == []


def test_no_absolute_path_from_the_skipped_rows_of_a_table(photos, tmp_path):
    rows = "".join(f"{path},{path.parent.name}\n" for path in sorted(photos.glob("*/*")))
    (tmp_path / "labels.csv").write_text(f"path,label\n{rows}{tmp_path / 'gone.png'},red\n")
    made = FewShotClassifier(FakeEncoder(), store=FeatureStore.in_memory(), progress=False)
    with pytest.warns(UserWarning, match="left out"):
        made.fit(tmp_path / "labels.csv", skip_unreadable=True)
    assert absolute_paths_in(made.save_pretrained(tmp_path / "a"), tmp_path) == []


def test_no_file_of_an_adapter_is_a_pickle(saved):
    for name, data in content(saved).items():
        assert not data.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), name
        assert Path(name).suffix in {".json", ".md", ".safetensors", ".jpg"}
    assert load_file(saved / "adapter.safetensors")


def test_no_source_file_opens_pickles():
    forbidden = re.compile(
        r"\bc?[pP]ickle\.(loads?|Unpickler)|\bimport (pickle|joblib|dill|shelve|marshal)\b|"
        r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|\btorch\.load\b|\bjoblib\.load\b|\beval\(|\bexec\("
    )
    sources = sorted((ROOT / "src").rglob("*.py"))
    assert len(sources) > 20
    found = [f"{p.name}: {m.group()}" for p in sources for m in [forbidden.search(p.read_text("utf-8"))] if m]
    assert found == []
    # Tensors of other programs come through torch's loader of weights alone, never another way.
    loads = [
        line for p in sources for line in p.read_text("utf-8").splitlines() if "serialization.load" in line
    ]
    assert all("weights_only=True" in line for line in loads)
    assert len(loads) == 1


# ---- targets ----


def test_an_existing_adapter_is_refused_unless_allowed(saved, photos, new):
    fitted = fit(photos, method="tip-adapter")
    before = content(saved)
    with pytest.raises(AdapterError, match=r"colours\.adapter.*overwrite"):
        fitted.save_pretrained(saved)
    assert content(saved) == before
    fitted.save_pretrained(saved, overwrite=True)
    np.testing.assert_array_equal(load(saved).predict_proba(new), fitted.predict_proba(new))
    assert [p.name for p in saved.parent.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_but_an_adapter_is_ever_overwritten(tmp_path, photos, overwrite):
    fitted = fit(photos)
    file, full, empty = tmp_path / "file", tmp_path / "full", tmp_path / "empty"
    file.write_text("mine")
    empty.mkdir()
    full.mkdir()
    (full / "config.json").write_text("{}")
    for target in (file, full, photos):
        before = target.read_bytes() if target.is_file() else content(target)
        with pytest.raises(AdapterError, match="something else that exists"):
            fitted.save_pretrained(target, overwrite=overwrite)
        assert (target.read_bytes() if target.is_file() else content(target)) == before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_broken_link_is_not_overwritten(tmp_path, photos):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AdapterError):
        fit(photos).save_pretrained(tmp_path / "link", overwrite=True)


def test_folders_above_are_made(tmp_path, photos):
    assert (fit(photos).save_pretrained(tmp_path / "a" / "b" / "c") / "config.json").is_file()


def test_a_place_that_cannot_be_written_is_named(tmp_path, photos):
    (tmp_path / "file").touch()
    with pytest.raises(AdapterError, match="place to write"):
        fit(photos).save_pretrained(tmp_path / "file" / "a.adapter")


# ---- a fall in the middle ----


def failing(original, at: int, error: BaseException):
    """A function that raises at its ``at``-th call."""
    calls = []

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) == at:
            raise error
        return original(*arguments, **options)

    return call


def rest(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("function", "at"), [("fsync", 1), ("fsync", 7), ("fsync", 15), ("rename", 1), ("rename", 2)]
)
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_fall_leaves_the_old_adapter_whole_and_no_debris(
    saved, photos, tmp_path, monkeypatch, function, at, error
):
    fitted, before, around = fit(photos, method="zero-shot"), content(saved), rest(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing(getattr(os, function), at, error))
        with pytest.raises(AdapterError if isinstance(error, OSError) else KeyboardInterrupt):
            fitted.save_pretrained(saved, overwrite=True)
    assert content(saved) == before
    assert rest(tmp_path) == around


@pytest.mark.parametrize(("function", "at"), [("fsync", 1), ("rename", 1)])
def test_a_fall_of_a_first_save_leaves_nothing(photos, tmp_path, monkeypatch, function, at):
    fitted, around = fit(photos), rest(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing(getattr(os, function), at, OSError("disk full")))
        with pytest.raises(AdapterError, match="disk full"):
            fitted.save_pretrained(tmp_path / "a.adapter")
    assert rest(tmp_path) == around


# ---- what is not an adapter, or no longer ----


def test_nothing_and_other_folders_are_refused(tmp_path, photos):
    with pytest.raises(AdapterError, match=r"nowhere.*fewclip fit"):
        load(tmp_path / "nowhere")
    with pytest.raises(AdapterError, match="folder without one"):
        load(photos)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(AdapterError, match="something else"):
        load(tmp_path / "model")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(AdapterError):
        load(file)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"text"', '{"kind": "fewclip adapter"}', "\xff"]
)
def test_a_damaged_configuration_is_an_adapter_error(saved, text):
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AdapterError):
        load(saved)


def test_a_deeply_nested_configuration_is_an_adapter_error(saved):
    (saved / "config.json").write_text("[" * 100_000)
    with pytest.raises(AdapterError):
        load(saved)


@pytest.mark.parametrize("version", [2, 0, "1", None, [1]])
def test_another_format_version_is_refused(saved, version):
    change(saved, lambda c: c.update(format_version=version))
    with pytest.raises(AdapterError, match="format version 1"):
        load(saved)


def test_damaged_tensors_are_found(saved):
    path = saved / "adapter.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:5], b"", whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        path.write_bytes(damaged)
        with pytest.raises(AdapterError, match=r"adapter\.safetensors.*checksum"):
            load(saved)
    path.unlink()
    with pytest.raises(AdapterError, match=r"adapter\.safetensors"):
        load(saved)


def test_tensors_with_a_right_checksum_that_are_none(saved):
    import hashlib

    (saved / "adapter.safetensors").write_bytes(b"no tensors")
    checksum = {"adapter.safetensors": hashlib.sha256(b"no tensors").hexdigest()}
    change(saved, lambda c: c.update(checksum=checksum))
    with pytest.raises(AdapterError, match=r"adapter\.safetensors"):
        load(saved)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["method"].update(name="banana"),
        lambda c: c["method"].update(name="zero-shot"),
        lambda c: c["method"]["params"].update(banana=1),
        lambda c: c["method"]["params"].update(self=1),
        lambda c: c["method"]["state"].update(predict=1),
        lambda c: c["method"]["state"].update(__class__=1),
        lambda c: c["method"]["state"].update(_logits_=1),
        lambda c: c["method"]["state"].update(fit=1),
        lambda c: c["method"]["classes"].append("yellow"),
        lambda c: c["method"]["classes"].pop(),
        lambda c: c["method"].update(classes=["red", "green", "blue"]),
        lambda c: c["method"].update(classes=["red", "red", "red"]),
        lambda c: c["prompts"].pop(),
        lambda c: c["fit"]["shots"].pop(),
        lambda c: c["support"].pop(),
        lambda c: c.update(support=[]),
        lambda c: c["support"][0].update(thumbnail="../../photos/blue/00.png"),
        lambda c: c["support"][0].update(thumbnail="thumbnails/99999.jpg"),
        lambda c: c["support"][0].update(thumbnail=os.path.abspath(__file__)),
        lambda c: c["support"][0].update(thumbnail="nul\0byte"),
        lambda c: c["support"][0].pop("sha256"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(saved, edit):
    change(saved, edit)
    with pytest.raises(AdapterError):
        load(saved)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_thumbnail_that_is_a_link_out_of_the_folder_is_refused(saved, tmp_path):
    (tmp_path / "secret").write_text("secret")
    path = saved / "thumbnails" / "00000.jpg"
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(AdapterError, match="leads out"):
        load(saved)


def paths_in(value, prefix=()):
    """Every place in a JSON document."""
    if prefix:
        yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if not (isinstance(value, list) and key > 1):
            yield from paths_in(inner, (*prefix, key))


def at(config, place):
    for key in place[:-1]:
        config = config[key]
    return config, place[-1]


def test_whatever_changes_in_the_configuration_is_right_or_an_adapter_error(saved, new):
    """Every value missing or of another type: the adapter opens and works, or says what is wrong with it."""
    original = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    image, broken = new / "red" / "50.png", []
    for place in paths_in(original):
        for change_to in ("missing", None, "text", -3, 1e400, [], {}, [[1, 2]]):
            config = deepcopy(original)
            parent, key = at(config, place)
            if change_to == "missing":
                del parent[key]
            else:
                parent[key] = change_to
            (saved / "config.json").write_text(json.dumps(config), encoding="utf-8")
            try:
                loaded = load(saved)
                loaded.explain(image)
                str(loaded.summary_)
            except FewclipError:
                continue
            except Exception as error:
                broken.append(f"{'.'.join(map(str, place))} = {change_to!r}: {type(error).__name__}: {error}")
    assert broken == [], "\n".join(broken)


@pytest.mark.parametrize(
    "edit",
    [
        lambda t: t.pop("text_features_"),
        lambda t: t.pop("support_features_"),
        lambda t: t.update(text_features_=t["text_features_"][:, :5].copy()),
        lambda t: t.update(text_features_=t["text_features_"][:2].copy()),
        lambda t: t.update(support_features_=t["support_features_"][:2].copy()),
        lambda t: t.update(support_features_=t["support_features_"][:, :5].copy()),
        lambda t: t.update(support_labels_=t["support_labels_"] + 3),
        lambda t: t.update(support_labels_=t["support_labels_"].astype(np.float32)),
        lambda t: t.update(text_features_=np.full_like(t["text_features_"], np.nan)),
        lambda t: t.update(predict=t["text_features_"].copy()),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved, edit, new):
    change_tensors(saved, edit)
    with pytest.raises(AdapterError):
        load(saved).explain(new / "red" / "50.png")


# ---- the encoder ----


def test_another_encoder_is_refused_with_both_fingerprints(saved):
    with pytest.raises(EncoderError, match=r"fake-1.*fake-2"):
        load(saved, FakeEncoder("fake-2"))


def test_the_pocket_encoder_is_not_the_fake_one(saved):
    with pytest.raises(EncoderError, match=r"fake-1.*pocket-1:"):
        FewShotClassifier.from_pretrained(saved, encoder="pocket")


def test_an_encoder_object_has_to_be_passed_again(saved):
    with pytest.raises(EncoderError, match="encoder="):
        FewShotClassifier.from_pretrained(saved)


def test_reading_an_adapter_needs_no_encoder(saved):
    assert Adapter.load(saved).encoder_name == "fake"
    assert read_adapter(saved).tensors["text_features_"].shape == (3, FakeEncoder.dim)


def test_the_card_says_how_settings_were_chosen(photos, tmp_path):
    fitted = fit(photos)
    card = (fitted.save_pretrained(tmp_path / "a.adapter") / "README.md").read_text(encoding="utf-8")
    assert "## How its settings were chosen" in card
    assert f"Protocol `loo`, {len(fitted.method_.selection_.table)} settings tried" in card
    assert "labels used beyond those above: 0" in card
    zero_shot = fit(photos, method="zero-shot").save_pretrained(tmp_path / "z.adapter") / "README.md"
    assert "How its settings" not in zero_shot.read_text(encoding="utf-8")


# ---- adapters that users keep ----


def test_every_method_has_a_golden_adapter():
    assert {path.stem for path in GOLDEN.glob("*.adapter")} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_golden_adapters_load_for_ever_and_predict_what_they_did(name):
    loaded = FewShotClassifier.from_pretrained(
        GOLDEN / f"{name}.adapter", encoder=FakeEncoder(), progress=False
    )
    assert loaded.summary_.method == name
    queries = np.load(GOLDEN / "queries.npy", allow_pickle=False)
    logits = loaded.method_.predict_logits(queries if loaded.method_.uses_tokens else queries[:, 0])
    np.testing.assert_allclose(
        logits, np.load(GOLDEN / f"{name}.npy", allow_pickle=False), rtol=1e-5, atol=1e-4
    )
    assert len(loaded.adapter_.support) == 12
    assert {image.label for image in loaded.adapter_.support} == {"blue", "green", "red"}
    assert str(loaded.summary_)
    assert loaded.explain(drawing("red", 60)).label in ("blue", "green", "red")
