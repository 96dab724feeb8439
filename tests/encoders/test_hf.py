"""hf: encoders, with small randomly initialised models of the real classes, saved to a folder and loaded."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore
from fewclip.encoders import Encoder, TokenEncoder, load_encoder
from fewclip.encoders.hf_tokens import TOKEN_TYPES
from fewclip.encoders.preprocessing import Preprocessing
from fewclip.errors import EncoderError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGHT = {"image_size": 32, "patch_size": 8, **SMALL}
WORDS = ["a", "photo", "of", "the", "cat", "dog", "big", "red", "sea", "bass"]


def build(kind):
    """A small model, its Pillow image processor."""
    t = transformers
    text = {"vocab_size": 64, "max_position_embeddings": 77, **SMALL}
    clip = t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    siglip = t.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    if kind == "clip":
        text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        return t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=SIGHT, projection_dim=24)), clip
    if kind == "metaclip_2":
        text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        config = t.MetaClip2Config(text_config=text, vision_config=SIGHT, projection_dim=24)
        return t.MetaClip2Model(config), clip
    if kind == "chinese_clip":
        config = t.ChineseCLIPConfig(text_config=text, vision_config=SIGHT, projection_dim=24)
        processor = t.ChineseCLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
        return t.ChineseCLIPModel(config), processor
    if kind == "altclip":
        config = t.AltCLIPConfig(
            text_config={**text, "max_position_embeddings": 514, "project_dim": 24, "pad_token_id": 0},
            vision_config=SIGHT,
            projection_dim=24,
        )
        return t.AltCLIPModel(config), clip
    if kind == "align":
        text |= {"max_position_embeddings": 64, "pad_token_id": 0}
        blocks = {"kernel_sizes": [3], "in_channels": [32], "out_channels": [24], "strides": [2]}
        sight = {"image_size": 32, "depth_divisor": 8, "hidden_dim": 24, "num_block_repeats": [1], **blocks}
        sight |= {"width_coefficient": 1.0, "depth_coefficient": 1.0, "expand_ratios": [1]}
        config = t.AlignConfig(text_config=text, vision_config=sight, projection_dim=24)
        processor = t.EfficientNetImageProcessorPil(size={"height": 32, "width": 32}, include_top=False)
        return t.AlignModel(config), processor
    if kind == "siglip":
        text["max_position_embeddings"] = 64
        return t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=SIGHT)), siglip
    if kind == "siglip2":
        text["max_position_embeddings"] = 64
        sight = {"num_patches": 16, "patch_size": 8, **SMALL}
        processor = t.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
        return t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=sight)), processor
    raise AssertionError(kind)


def tokenizer():
    """Words of a small vocabulary between <s> and </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


KINDS = ("clip", "metaclip_2", "chinese_clip", "altclip", "align", "siglip", "siglip2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp(kind)
            model, processor = build(kind)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            tokenizer().save_pretrained(folder)
            made[kind] = folder
    return made


def photos(n=5, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(9, 90, size=(n, 2))
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in sizes]


def unit(found):
    found = found if isinstance(found, torch.Tensor) else found.pooler_output
    return torch.nn.functional.normalize(found, dim=-1).detach().numpy()


kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_features_are_those_of_transformers(folders, kind):
    folder, images = folders[kind], photos()
    encoder = load_encoder(f"hf:{folder}")
    assert isinstance(encoder, Encoder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = unit(model.get_image_features(**processor(images=images, return_tensors="pt")))
    np.testing.assert_allclose(encoder.encode_images(images), expected, atol=1e-5)
    assert encoder.dim == expected.shape[1]
    texts = ["a photo of the cat", "dog"]
    words = transformers.AutoTokenizer.from_pretrained(folder)
    if kind.startswith("siglip"):
        tokens = dict(words(texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt"))
        tokens = {"input_ids": tokens["input_ids"]}
    elif kind == "align":
        tokens = words(texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    else:
        tokens = words(texts, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    expected = unit(model.get_text_features(**tokens))
    np.testing.assert_allclose(encoder.encode_texts(texts), expected, atol=1e-5)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    scale = 1 / model.temperature if kind == "align" else model.logit_scale.exp()
    assert encoder.logit_scale == pytest.approx(float(scale.detach()))
    assert all(np.allclose(np.linalg.norm(f, axis=1), 1, atol=1e-5) for f in (encoder.encode_texts(texts),))


@kinds
def test_what_a_second_run_asks_needs_no_weights(folders, kind, monkeypatch):
    from fewclip.encoders.hf import HFEncoder

    expected = load_encoder(folders[kind]).encode_images(photos(1)).shape[1]
    monkeypatch.setattr(HFEncoder, "_load_model", lambda _: pytest.fail("the weights were opened"))
    encoder = load_encoder(folders[kind])
    assert encoder.dim == expected
    assert encoder.fingerprint.startswith(f"hf-{kind}:")
    assert encoder.logit_scale > 0


@kinds
def test_the_clip_family_has_spatial_tokens_and_the_others_do_not(folders, kind):
    encoder, images = load_encoder(folders[kind]), photos(3)
    assert isinstance(encoder, TokenEncoder) == (kind in TOKEN_TYPES)
    if not isinstance(encoder, TokenEncoder):
        return
    tokens = encoder.encode_image_tokens(images)
    assert tokens.shape == (3, 1 + 16, 24)
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(tokens[:, 0], encoder.encode_images(images), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=-1), 1, atol=1e-5)
    assert encoder.encode_image_tokens([]).shape[0] == 0


def test_spatial_tokens_are_the_patches_row_by_row(folders):
    """One layer of attention apart, a patch that differs shows in its own token first."""
    encoder = load_encoder(folders["clip"])
    plain = Image.new("RGB", (32, 32), (90, 120, 60))
    for place in (0, 3, 6, 15):
        changed = plain.copy()
        x, y = place % 4 * 8, place // 4 * 8
        changed.paste((200, 30, 220), (x, y, x + 8, y + 8))
        before, after = encoder.encode_image_tokens([plain, changed])
        assert np.abs(after - before)[1:].max(1).argmax() == place


def test_calip_takes_the_tokens_of_the_encoder(folders, tmp_path):
    classifier = FewShotClassifier(
        str(folders["clip"]), "calip", store=FeatureStore.in_memory(), progress=False
    )
    images, labels = photos(6), ["cat", "dog"] * 3
    probabilities = classifier.fit(images, labels).predict_proba(images)
    tokens = classifier.encoder_.encode_image_tokens(images)
    np.testing.assert_allclose(probabilities, classifier.method_.predict_proba(tokens), atol=1e-5)


@kinds
def test_sentences_are_tokenised_once(folders, kind):
    encoder = load_encoder(folders[kind])
    seen, tokenizer = [], encoder.text._tokenizer()

    def counted(texts, **options):
        seen.extend([texts] if isinstance(texts, str) else texts)
        return tokenizer(texts, **options)

    encoder.text._tokenizer = lambda: Counted(tokenizer, counted)
    encoder.encode_texts(["cat", "dog", "big red sea bass"] * 20)
    assert len(seen) == 60
    with pytest.warns(UserWarning, match="1 of 2 sentences"):
        encoder.encode_texts(["cat", "cat " * 100])
    assert len(seen) == 63  # the long one once more, to be cut


class Counted:
    """A tokenizer that says what it is asked."""

    def __init__(self, tokenizer, call):
        self.tokenizer, self.call = tokenizer, call

    def __call__(self, texts, **options):
        return self.call(texts, **options)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def test_a_cut_sentence_keeps_its_end_mark(folders):
    rows = load_encoder(folders["clip"]).text
    with pytest.warns(UserWarning, match="more than 77 tokens"):
        (ids,) = rows.ids(["cat " * 100])
    assert (len(ids), ids[0], ids[-1]) == (77, 1, 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("clip", False), ("siglip", False), ("align", False)]
    + [(kind, True) for kind in ("altclip", "chinese_clip", "siglip2", "metaclip_2")],
)
def test_encoders_say_whether_they_know_other_languages(folders, kind, expected):
    encoder = load_encoder(folders[kind])
    assert encoder.multilingual is expected
    classifier = FewShotClassifier(encoder, "zero-shot", store=FeatureStore.in_memory(), progress=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(photos(4), ["猫", "犬"] * 2)
    assert any("English" in str(w.message) for w in caught) is not expected


def test_a_large_vocabulary_is_that_of_many_languages(folders, tmp_path):
    for path in folders["siglip"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["vocab_size"] = 250_000
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_encoder(tmp_path).multilingual


def test_weights_of_one_tower_alone_are_named(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in folders["clip"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("logit_scale")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="logit_scale or temperature"):
        _ = load_encoder(tmp_path).logit_scale


@pytest.mark.parametrize("shape", ["shortest edge and crop", "square", "crop larger than the image"])
def test_preprocessing_is_bit_equal_on_200_odd_sizes(shape):
    t = transformers
    processor = {
        "shortest edge and crop": lambda: t.CLIPImageProcessorPil(),
        "square": lambda: t.SiglipImageProcessorPil(size={"height": 37, "width": 53}),
        "crop larger than the image": lambda: t.CLIPImageProcessorPil(
            do_resize=False, crop_size={"height": 61, "width": 40}
        ),
    }[shape]()
    ours = Preprocessing.from_config(processor.to_dict())
    rng = np.random.default_rng(0)
    for _ in range(200):
        h, w = rng.integers(1, 300, 2)
        image = Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        expected = np.asarray(processor(images=image, return_tensors="np")["pixel_values"][0])
        np.testing.assert_array_equal(ours(image), expected)


def test_the_rounding_of_the_crop_belongs_to_the_configuration():
    base = {"do_resize": False, "crop_size": 4, "do_rescale": False, "do_normalize": False}
    image = Image.fromarray(np.arange(49 * 3, dtype=np.uint8).reshape(7, 7, 3))
    floor, rounded = (Preprocessing.from_config({**base, "crop_rounding": r}) for r in ("floor", "round"))
    np.testing.assert_array_equal(floor(image), np.asarray(image).transpose(2, 0, 1)[:, 1:5, 1:5])
    np.testing.assert_array_equal(rounded(image), np.asarray(image).transpose(2, 0, 1)[:, 2:6, 2:6])
    assert floor.to_config() != rounded.to_config()
    assert Preprocessing.from_dict(json.loads(json.dumps(floor.to_config()))) == floor
    with pytest.raises(EncoderError, match="crop_rounding"):
        Preprocessing.from_config({**base, "crop_rounding": "up"})


def test_a_bare_folder_is_read_as_hf(folders):
    assert load_encoder(str(folders["clip"])).fingerprint == load_encoder(f"hf:{folders['clip']}").fingerprint


def test_siglip_text_is_canonical_and_padded(folders):
    encoder = load_encoder(folders["siglip"])
    plain = encoder.encode_texts(["a photo of the big cat"])
    np.testing.assert_array_equal(encoder.encode_texts(["A photo, of the  BIG cat!"]), plain)
    both = encoder.encode_texts(["a photo of the big cat", "dog"])
    np.testing.assert_allclose(both[:1], plain, atol=1e-6)  # whatever comes along


def test_long_sentences_are_cut_with_a_warning(folders):
    encoder = load_encoder(folders["clip"])
    with pytest.warns(UserWarning, match="1 of 2 sentences have more than 77 tokens"):
        encoder.encode_texts(["cat", "cat " * 100])


def test_the_fingerprint_knows_weights_and_preprocessing(folders, tmp_path):
    def copy(name):
        target = tmp_path / name
        target.mkdir()
        for path in folders["clip"].iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    same, other = copy("same"), copy("other")
    first = load_encoder(folders["clip"]).fingerprint
    assert first.startswith("hf-clip:")
    assert load_encoder(same).fingerprint == first
    options = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**options, "resample": 2}))
    assert load_encoder(other).fingerprint != first
    weights = copy("weights")
    blob = bytearray((weights / "model.safetensors").read_bytes())
    blob[-1] ^= 1
    (weights / "model.safetensors").write_bytes(bytes(blob))
    assert load_encoder(weights).fingerprint != first


def test_without_a_tokenizer_images_still_work(folders, tmp_path):
    for path in folders["clip"].iterdir():
        if "token" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    encoder = load_encoder(tmp_path)
    assert encoder.encode_images(photos(1)).shape == (1, 24)
    with pytest.raises(EncoderError, match="tokenizer"):
        encoder.encode_texts(["cat"])


def test_what_cannot_be_opened_says_why(folders, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="model_type among clip"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_bytes((folders["clip"] / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(EncoderError, match="safetensors"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"config\.json"):
        load_encoder(f"hf:{tmp_path}")
    with pytest.raises(EncoderError, match="ORG/NAME"):
        load_encoder("hf:clip")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="Hugging Face cache") as caught:
        load_encoder("hf:nobody/nothing-of-the-kind")
    assert "model.safetensors" in caught.value.fix
    assert "nobody/nothing-of-the-kind" in caught.value.fix


def test_your_own_by_module_and_callable(tmp_path, monkeypatch):
    (tmp_path / "mine_own.py").write_text(
        "class Mine:\n    name = 'mine'; dim = 2; logit_scale = 1.0; fingerprint = 'mine:1'\n"
        "    def encode_images(self, images): ...\n    def encode_texts(self, texts): ...\n"
        "def half(): return object()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_encoder("mine_own:Mine").fingerprint == "mine:1"
    assert load_encoder(f"{tmp_path / 'mine_own.py'}:Mine").fingerprint == "mine:1"
    with pytest.raises(EncoderError, match="without name"):
        load_encoder("mine_own:half")
    with pytest.raises(EncoderError, match="no attribute 'Absent'"):
        load_encoder("mine_own:Absent")
    with pytest.raises(EncoderError, match="No module"):
        load_encoder("no_such_module_here:Mine")
