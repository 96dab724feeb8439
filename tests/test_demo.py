"""The demo on folders of drawn photos: a table, a report, an adapter, and commands that run."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from helpers import COLOURS, BlindEncoder, FakeEncoder, Ran, draw_folder, fetches, fewclip

from fewclip import FewShotClassifier
from fewclip.data import draw_shots, labelled_sources
from fewclip.demo import DEFAULT_METHODS, run_demo
from fewclip.encoders import ENCODERS
from fewclip.errors import DataError, FewclipError, ImageError, ParameterError
from fewclip.methods import METHODS, ZeroShot

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread", "encoders")


@pytest.fixture
def encoders(monkeypatch):
    """ "fake" opens the fake encoder, "blind" the one that must not be shown an image."""
    monkeypatch.setitem(ENCODERS, "fake", "helpers:FakeEncoder")
    monkeypatch.setitem(ENCODERS, "blind", "helpers:BlindEncoder")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos", n=12)


def demo(images, output, encoder="fake", **options):
    return run_demo(images, output, encoder=encoder, progress=False, **options)


def next_commands(ran: Ran) -> list[list[str]]:
    """The commands below "Try next:", as a shell would split them."""
    lines = ran.err.split("Try next:")[1].splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_it_compares_reports_and_keeps_an_adapter(photos, tmp_path):
    out = tmp_path / "out"
    ran = fewclip("demo", photos, "-o", out, "--encoder", "fake", "--shots", "1,4")
    assert ran.code == 0
    for method in DEFAULT_METHODS:
        assert re.search(rf"{method}\s.*\d", ran.out)
    for part in (
        "18 images to draw from",
        "18 to test on",
        str(out / "report" / "index.html"),
        "peak memory",
    ):
        assert part in ran.err
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert fetches(page) == []
    loaded = FewShotClassifier.from_pretrained(out / "demo.adapter", encoder=FakeEncoder(), progress=False)
    assert loaded.classes_.tolist() == ["blue", "green", "red"]
    assert loaded.summary_.method == "auto"
    assert sorted(path.name for path in out.iterdir()) == ["demo.adapter", "report"]


def test_calip_is_given_spatial_tokens_and_the_others_are_not(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "fake", "helpers:FakeTokenEncoder")
    seen = []

    def spy(self, rows):
        seen.append(rows.ndim)
        return ZeroShot.predict(self, rows)

    monkeypatch.setattr(METHODS["calip"], "predict", spy)
    plain = demo(photos, tmp_path / "a", methods=("zero-shot", "ape"), shots=(2,))
    both = demo(photos, tmp_path / "b", methods=("zero-shot", "calip", "ape"), shots=(2,))
    for method in ("zero-shot", "ape"):
        assert both.row(method, 2)["mean"] == plain.row(method, 2)["mean"]
    assert both.row("calip", 2)["n"] == 3
    assert seen == [3, 3, 3]


def test_a_second_run_encodes_nothing(photos, tmp_path):
    first = demo(photos, tmp_path / "out")
    ENCODERS["fake"] = "helpers:BlindEncoder"
    second = demo(photos, tmp_path / "out")
    assert BlindEncoder.name == "fake"
    assert [row["mean"] for row in first.rows()] == [row["mean"] for row in second.rows()]


@pytest.mark.parametrize("name", ["my photos", "it's", "my [old] photos", "[/b]", "a&b;c"])
def test_the_commands_it_prints_run(tmp_path, name):
    photos = draw_folder(tmp_path / name, n=4)
    ran = fewclip("demo", photos, "-o", tmp_path / f"out of {name}", "--encoder", "fake", "--shots", "1,2")
    assert ran.code == 0
    commands = next_commands(ran)
    assert [command[:2] for command in commands] == [["fewclip", c] for c in ("explain", "fit", "predict")]
    for _, *arguments in commands:
        if arguments[0] == "fit":
            arguments += ["--encoder", "fake"]
        arguments = [str(photos) if word == "NEW_IMAGES" else word for word in arguments]
        arguments = [str(tmp_path / "p.csv") if word == "predictions.csv" else word for word in arguments]
        again = fewclip(*arguments)
        assert again.code == 0, again.err
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 13


def test_a_split_with_test_is_used(tmp_path):
    draw_folder(tmp_path / "split" / "train", n=4)
    draw_folder(tmp_path / "split" / "test", n=3, first=50)
    ran = fewclip("demo", tmp_path / "split", "-o", tmp_path / "out", "--encoder", "fake", "--shots", "1")
    assert ran.code == 0
    assert "12 images to draw from, 9 to test on" in ran.err


def test_pool_and_test_images_are_disjoint(photos, monkeypatch, tmp_path):
    seen = {}

    def compare(data, **options):
        seen["data"] = data
        return original(data, **options)

    from fewclip import demo as module

    original = module.compare
    monkeypatch.setattr(module, "compare", compare)
    demo(photos, tmp_path / "out")
    data = seen["data"]
    pool = {row.tobytes() for row in data.features}
    assert not pool & {row.tobytes() for row in data.test_features}
    assert len(data.features) == len(data.test_features) == 18
    assert data.logit_scale == FakeEncoder.logit_scale


def test_the_order_of_shots_does_not_matter(photos, tmp_path):
    first = demo(photos, tmp_path / "a", shots=(1, 4))
    second = demo(photos, tmp_path / "b", shots=(4, 1))
    assert [(r["method"], r["shots"], r["mean"]) for r in first.rows()] == [
        (r["method"], r["shots"], r["mean"]) for r in second.rows()
    ]
    adapter = FewShotClassifier.from_pretrained(
        tmp_path / "b" / "demo.adapter", encoder=FakeEncoder(), progress=False
    )
    assert set(adapter.summary_.shots.values()) == {4}


def test_draws_are_those_of_the_whole_pool(tmp_path, monkeypatch):
    photos = draw_folder(tmp_path / "photos", list(COLOURS)[:2], n=40)
    from fewclip import demo as module

    drawn = []

    def compare(data, *, shots, seeds, draw, **_):
        drawn.append([data.features[draw(data.labels, shots[-1], seed=seed)] for seed in seeds])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compare", compare)
    with pytest.raises(KeyboardInterrupt):
        demo(photos, tmp_path / "out", shots=(2,))
    pool = module._demo_data(photos, 0).pool
    for seed, features in zip(range(3), drawn[0], strict=True):
        rows = draw_shots(pool.labels, 2, seed=seed)
        expected = FakeEncoder().encode_images([pool.sources[i] for i in rows])
        np.testing.assert_allclose(features, expected, atol=1e-6)


def test_the_adapters_method_is_not_the_winner_on_test_images(photos, tmp_path):
    """Whatever the table says, the adapter is made by the default method, or by the last one named."""
    for methods, expected in (
        (("zero-shot", "tip-adapter", "auto"), "auto"),
        (("auto", "tip-adapter", "zero-shot"), "auto"),
        (("tip-adapter", "zero-shot"), "zero-shot"),
        (("zero-shot", "tip-adapter"), "tip-adapter"),
    ):
        demo(photos, tmp_path / "out", methods=methods, shots=(1,))
        config = FewShotClassifier.from_pretrained(
            tmp_path / "out" / "demo.adapter", encoder=FakeEncoder(), progress=False
        )
        assert config.summary_.method == expected


def test_shots_beyond_the_images_are_left_out(photos, tmp_path):
    assert demo(photos, tmp_path / "out", shots=(2, 16, 32)).shots == (2,)
    assert demo(photos, tmp_path / "out", shots=(16, 32)).shots == (6,)


def test_a_table_is_data_too(photos, tmp_path):
    data = labelled_sources(photos, None)
    rows = "".join(f"photos/{name},{label}\n" for name, label in zip(data.names, data.labels, strict=True))
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    assert demo(tmp_path / "labels.csv", tmp_path / "out", shots=(1,)).shots == (1,)


@pytest.mark.parametrize(("classes", "n"), [(["red", "blue", "green"], 1), (["red"], 5), (["red"], 1)])
def test_too_few_images_or_classes_are_a_typed_error(tmp_path, classes, n):
    with pytest.raises(FewclipError):
        demo(draw_folder(tmp_path / "photos", classes, n=n), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_images_and_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(DataError):
            demo(folder, tmp_path / "out")


def test_a_broken_image_is_named(photos, tmp_path):
    (photos / "red" / "zz.jpg").touch()
    with pytest.raises(ImageError, match=r"zz\.jpg"):
        demo(photos, tmp_path / "out")


def test_an_unknown_method_is_found_before_anything_is_encoded(photos, tmp_path):
    with pytest.raises(ParameterError, match="banana"):
        demo(photos, tmp_path / "out", "blind", methods=("banana",))


def test_a_class_without_images(photos, tmp_path):
    (photos / "yellow").mkdir()
    with pytest.warns(UserWarning, match="yellow"):
        demo(photos, tmp_path / "out", shots=(1,))
    adapter = FewShotClassifier.from_pretrained(
        tmp_path / "out" / "demo.adapter", encoder=FakeEncoder(), progress=False
    )
    assert "yellow" in adapter.classes_


def test_the_same_photo_in_train_and_test_is_left_out_of_the_figures(tmp_path):
    train = draw_folder(tmp_path / "split" / "train", n=4)
    draw_folder(tmp_path / "split" / "test", n=3, first=50)
    (tmp_path / "split" / "test" / "red" / "copy.png").write_bytes((train / "red" / "00.png").read_bytes())
    with pytest.warns(UserWarning, match=r"1 of 10 images"):
        demo(tmp_path / "split", tmp_path / "out", shots=(4,))
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "tested on 9 other images" in page


def test_textile_prompts_name_every_class():
    from fewclip import demo as module

    pytest.importorskip("conformal_clip_data", reason='needs the extra "demo"')
    data = module._demo_data(None, 0)
    assert set(data.prompts or ()) == set(data.pool.classes) == {"global", "local", "nominal"}
    assert any("simulated" in note for note in data.notes)
    assert not set(map(str, data.pool.sources)) & set(map(str, data.test.sources))


def test_quiet_is_the_table_alone(photos, tmp_path):
    ran = fewclip("demo", photos, "-o", tmp_path / "out", "--encoder", "fake", "--shots", "1", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "zero-shot" in ran.out


def test_unreadable_photos_may_be_left_out(photos, tmp_path):
    (photos / "red" / "broken.jpg").write_bytes(b"nothing of the kind")
    with pytest.raises(ImageError, match=r"broken\.jpg.*--skip-unreadable"):
        demo(photos, tmp_path / "out", shots=(1,))
    with pytest.warns(
        UserWarning, match=r"1 images cannot be read and are left out, the first: .*broken\.jpg"
    ):
        demo(photos, tmp_path / "out", shots=(1,), skip_unreadable=True)
    assert (tmp_path / "out" / "report" / "index.html").exists()


def test_one_class_is_refused_before_anything_is_encoded(tmp_path):
    photos = draw_folder(tmp_path / "photos", ["red"], n=4)
    with pytest.raises(DataError, match="at least two classes"):
        demo(photos, tmp_path / "out", "blind")
