"""Tests on other images: corruptions and other data sets."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import BlindEncoder, FakeEncoder, FakeTokenEncoder, draw_folder, drawing
from PIL import Image

from fewclip.data import FeatureStore
from fewclip.errors import DataError, ParameterError
from fewclip.evaluation.bench import BenchSet, Plan, expand_shifts, read_cells, run_bench, write_bench_report
from fewclip.evaluation.bench import run as run_module
from fewclip.evaluation.bench.places import match_classes
from fewclip.evaluation.bench.shifts import KINDS, corrupt, split_shift
from fewclip.methods import METHODS

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture
def encoder(monkeypatch):
    made = FakeEncoder()
    monkeypatch.setattr(run_module, "load_encoder", lambda name: made)
    return made


def run(plan: Plan, folder, **options):
    options = {"store": FeatureStore.in_memory(), **options}
    return run_bench(plan, folder, progress=False, **options)


def plan_of(tmp_path, classes=("blue", "green", "red"), **more) -> Plan:
    train = draw_folder(tmp_path / "train", classes, n=3)
    test = draw_folder(tmp_path / "test", classes, n=4, first=10)
    one = BenchSet("photos", str(train), str(test), transfer=more.pop("transfer", {}))
    given = {"methods": ["zero-shot", "tip-adapter"], "shots": [2], "seeds": [0], "selections": ["none"]}
    return Plan([one], **given | more)


# ---- corruptions ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_the_same_every_time_and_grows_with_its_severity(kind):
    image = drawing("green", 1, size=(64, 48))
    pixels = np.asarray(image, dtype=float)
    distances = []
    for severity in range(1, 6):
        once, again = (np.asarray(corrupt(image, f"{kind}-{severity}", key="k")) for _ in range(2))
        np.testing.assert_array_equal(once, again)
        assert once.shape == pixels.shape
        distances.append(np.abs(once - pixels).mean())
    assert np.all(np.diff(distances) > 0)
    np.testing.assert_array_equal(np.asarray(image), pixels)  # the image itself stays


def test_noise_depends_on_the_image_and_large_images_are_reduced():
    image = Image.new("RGB", (40, 30), (128, 128, 128))
    one, other = (np.asarray(corrupt(image, "noise-1", key=key), dtype=float) for key in "ab")
    assert not np.array_equal(one, other)
    assert one.std() == pytest.approx(0.08 * 255, rel=0.1)
    assert corrupt(Image.new("RGB", (1024, 512)), "jpeg-1", key="k").size == (512, 256)
    bright = corrupt(Image.new("RGB", (8, 8), (100, 50, 50)), "brightness-1", key="k")
    assert max(bright.getpixel((0, 0))) == pytest.approx(100 + 26, abs=1)


def test_names_of_shifts():
    assert expand_shifts(["blur"], (1, 3)) == ("blur-1", "blur-3")
    assert len(expand_shifts(["all"])) == 20
    assert expand_shifts(["blur-2", "blur-2"]) == ("blur-2",)
    assert split_shift("jpeg-5") == ("jpeg", 5)
    for wrong in ("fog", "blur-6", "blur-0", ""):
        with pytest.raises(ParameterError, match="shift"):
            expand_shifts([wrong])


def test_corrupted_images_are_cells_of_their_own_and_encoded_once(tmp_path, encoder):
    plan, store = plan_of(tmp_path, shifts=expand_shifts(["noise", "blur"], [5])), FeatureStore.in_memory()
    assert run(plan, tmp_path / "runs", store=store).done == 6
    cells = {(c["method"], c["shift"]): c for c in read_cells(tmp_path / "runs")}
    assert {shift for _, shift in cells} == {None, "noise-5", "blur-5"}
    seen = encoder.seen
    assert seen <= 9 + 12 * 3
    assert run(plan, tmp_path / "again", store=store).done == 6
    assert encoder.seen == seen
    again = {(c["method"], c["shift"]): c for c in read_cells(tmp_path / "again")}
    assert all(again[key]["metrics"] == cell["metrics"] for key, cell in cells.items())
    # By hand: the corrupted images through the encoder, the method on its own.
    cell = cells["tip-adapter", "noise-5"]
    assert cell["metrics"]["nll"] != cells["tip-adapter", None]["metrics"]["nll"]
    page = write_bench_report(tmp_path / "runs", tmp_path / "report").read_text(encoding="utf-8")
    assert "Corrupted test images: photos" in page


def test_spatial_tokens_of_corrupted_images(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "load_encoder", lambda name: FakeTokenEncoder())
    plan = plan_of(tmp_path, methods=["calip"], shifts=["brightness-5"])
    assert run(plan, tmp_path / "runs").done == 2
    clean, bright = read_cells(tmp_path / "runs")
    assert clean["metrics"]["nll"] != bright["metrics"]["nll"]


def test_one_place_that_fails_leaves_the_others(tmp_path, monkeypatch):
    class Short(FakeEncoder):
        def encode_images(self, images):
            if not isinstance(images[0], Image.Image):
                return super().encode_images(images)
            raise RuntimeError("no pictures")

    monkeypatch.setattr(run_module, "load_encoder", lambda name: Short())
    outcome = run(plan_of(tmp_path, shifts=["blur-1"]), tmp_path / "runs")
    assert (outcome.done, outcome.failed, outcome.first_error) == (2, 2, "RuntimeError: no pictures")
    assert {c["shift"] for c in read_cells(tmp_path / "runs") if c["error"]} == {"blur-1"}


def test_ready_features_cannot_be_corrupted(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", features=rng.normal(size=(6, 4)), labels=np.arange(6) % 2)
    one = BenchSet("a", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))
    with pytest.raises(ParameterError, match="ready features"):
        run(Plan([one], methods=["tip-adapter"], shots=[1], shifts=["blur-1"]), tmp_path / "runs")


# ---- transfer ----


def test_classes_are_matched_by_name():
    source, target = ["Sea_Bass", "cod", "eel", "ray", "Ray"], ["sea bass", "cod", "trout", "RAY", "eel"]
    assert match_classes(source, target) == {"cod": "cod", "eel": "eel", "sea bass": "Sea_Bass"}
    assert match_classes([1, 2], [2, 3]) == {2: 2}


def test_transfer_tests_the_classes_in_common_among_themselves(tmp_path, encoder):
    other = draw_folder(tmp_path / "other", ("red", "green", "grey"), n=3, first=30)
    (other / "green").rename(other / "Green")
    plan = plan_of(tmp_path, transfer={"sketches": str(other)})
    said: list[str] = []
    assert run(plan, tmp_path / "runs", say=said.append).done == 4
    assert said[0] == (
        "photos → sketches: 2 classes in common, told apart from each other; 1 of photos left out (blue); "
        "1 of sketches left out (grey)"
    )
    cells = {(c["method"], c["test"]): c for c in read_cells(tmp_path / "runs")}
    cell = cells["tip-adapter", "sketches"]
    assert (cell["n_test"], cell["n_classes_tested"], cell["note"]) == (6, 2, said[0])
    assert cells["tip-adapter", "photos"]["n_test"] == 12
    # By hand.
    images = sorted((tmp_path / "train").glob("*/*.png"))
    X, y = encoder.encode_images(images), np.array([path.parent.name for path in images])
    rows = [i for i, path in enumerate(images) if f"{path.parent.name}/{path.name}" in
            {"/".join(name.split("/")[-2:]) for name in cell["images"]}]  # fmt: skip
    text = encoder.encode_texts([f"a photo of a {name}." for name in ("blue", "green", "red")])
    method = METHODS["tip-adapter"](text, logit_scale=20.0, selection="none", random_state=0)
    method.fit(X[rows], y[rows])
    paths = sorted((other / "Green").iterdir()) + sorted((other / "red").iterdir())
    p = method.predict_proba(encoder.encode_images(paths))[:, 1:]
    right = p.argmax(1) == np.repeat([0, 1], 3)
    assert cell["metrics"]["acc1"] == pytest.approx(right.mean())
    nll = -np.log((p / p.sum(1, keepdims=True))[np.arange(6), np.repeat([0, 1], 3)]).mean()
    assert cell["metrics"]["nll"] == pytest.approx(nll, rel=1e-5)
    page = write_bench_report(tmp_path / "runs", tmp_path / "report").read_text(encoding="utf-8")
    assert "Transfer: photos" in page
    assert "1 of sketches left out (grey)" in page


def test_without_classes_in_common_nothing_runs(tmp_path, encoder):
    other = draw_folder(tmp_path / "other", ("grey", "red"), n=2, first=30)
    with pytest.raises(DataError, match="at least two classes"):
        run(plan_of(tmp_path, transfer={"sketches": str(other)}), tmp_path / "runs")
    with pytest.raises(ParameterError, match="transfer"):
        plan_of(tmp_path, transfer={"photos": str(other)})


def test_a_resumed_run_needs_no_encoder_for_what_is_there(tmp_path, encoder, monkeypatch):
    plan = plan_of(tmp_path, shifts=["blur-1"])
    run(plan, tmp_path / "runs")
    monkeypatch.setattr(run_module, "load_encoder", lambda name: BlindEncoder())
    assert run(plan, tmp_path / "runs").known == 4
