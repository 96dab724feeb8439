"""The second run: nothing is encoded, read or opened that the store knows, and the result is the same."""

from __future__ import annotations

import sqlite3
import time
import warnings

import numpy as np
import pytest
from helpers import BlindEncoder, FakeEncoder, draw_folder, drawing, grocery

from fewclip import FewShotClassifier
from fewclip.data import FeatureStore, image_key
from fewclip.data import thumbnails as thumbnails_module
from fewclip.data.thumbnails import KIND, make_thumbnails
from fewclip.encoders import pocket as pocket_module
from fewclip.encoders._runtime import warn_of_cut
from fewclip.encoders.features import encode_sources
from fewclip.encoders.pocket import PocketEncoder
from fewclip.encoders.text_features import encode_prompts
from fewclip.errors import EncoderError

pytestmark = pytest.mark.usefixtures("one_thread")


class SilentEncoder(BlindEncoder):
    """Neither images nor texts may reach it."""

    def encode_texts(self, texts):
        raise AssertionError(f"{len(texts)} sentences reached the encoder; their features are in the store")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def store(tmp_path):
    with FeatureStore(tmp_path / "features.sqlite") as opened:
        yield opened


def fit(photos, encoder, store):
    return FewShotClassifier(encoder, store=store, progress=False).fit(photos)


def test_nothing_reaches_the_encoder_and_the_result_is_the_same(photos, store, monkeypatch):
    first = fit(photos, FakeEncoder(), store)
    store.close()

    def no_picture(_):
        raise AssertionError("an image was decoded for a thumbnail that is in the store")

    monkeypatch.setattr(thumbnails_module, "_thumbnail", no_picture)
    second = fit(photos, SilentEncoder(), FeatureStore(store.path))
    queries = [drawing("red", 50), drawing("blue", 51)]
    first.encoder_ = second.encoder_ = FakeEncoder()
    np.testing.assert_array_equal(first.predict_proba(queries), second.predict_proba(queries))
    assert second.adapter_.support == first.adapter_.support
    assert second.adapter_.summary.n_encoded == 0


def test_other_sentences_and_other_encoders_are_encoded(store):
    encoder = FakeEncoder()
    prompts = [["a red thing."], ["a blue thing.", "a sea."]]
    first = encode_prompts(encoder, prompts, store=store)
    assert [len(rows) for rows in first] == [1, 2]
    again = encode_prompts(SilentEncoder(), prompts, store=store)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for change in ([["a red thing."], ["a blue thing."]], prompts[::-1]):
        with pytest.raises(AssertionError, match="sentences reached"):
            encode_prompts(SilentEncoder(), change, store=store)
    with pytest.raises(AssertionError, match="sentences reached"):
        encode_prompts(SilentEncoder("fake-2"), prompts, store=store)


def test_a_sentence_that_was_cut_warns_every_time(store):
    class Short(FakeEncoder):
        def encode_texts(self, texts):
            warn_of_cut(texts, [len(text) > 20 for text in texts], 7)
            return super().encode_texts(texts)

    for _ in range(2):
        with pytest.warns(UserWarning, match="more than 7 tokens"):
            encode_prompts(Short(), [["a red thing that is long"]], store=store)
    encode_prompts(Short(), [["a red thing"]], store=store)
    encode_prompts(SilentEncoder(), [["a red thing"]], store=store)


def test_an_encoder_that_loses_sentences_is_found_out():
    class Short(FakeEncoder):
        def encode_texts(self, texts):
            return super().encode_texts(texts[:-1])

    with pytest.raises(EncoderError, match=r"shape \(2, 52\), got \(1, 52\)"):
        encode_prompts(Short(), [["red"], ["blue"]])


def test_thumbnails_are_kept_by_content(photos, store):
    paths = sorted(photos.glob("*/*.png"))[:3]
    sources = [*paths, drawing("red", 3), paths[0]]
    keys = [image_key(source) for source in sources]
    made = make_thumbnails(sources, keys, store=store)
    assert made == make_thumbnails(sources, keys)
    assert made[0] == made[-1]
    for path in paths:
        path.unlink()
    assert make_thumbnails(sources, keys, store=store) == made
    assert store.get_bytes(keys, kind=KIND) == dict(zip(keys, made, strict=True))


def test_a_damaged_thumbnail_is_made_again(photos, store):
    path = next(photos.glob("*/*.png"))
    key = image_key(path)
    (made,) = make_thumbnails([path], [key], store=store)
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE features SET data = ? WHERE fingerprint = ?", (made[:-1] + b"?", KIND))
    connection.close()
    assert store.get_bytes([key], kind=KIND) == {}
    assert make_thumbnails([path], [key], store=store) == [made]
    assert store.get_bytes([key], kind=KIND) == {key: made}


def test_bytes_and_features_are_not_mixed_up(store):
    store.put_bytes({"a": b"\0" * 8}, kind="x")
    store.put_many({"b": np.zeros(2)}, fingerprint="x")
    assert store.get_many(["a", "b"], fingerprint="x").keys() == {"b"}
    assert store.get_bytes(["a", "b"], kind="x") == {"a": b"\0" * 8}
    assert store.clear(fingerprint="x") == 2


def test_a_store_that_cannot_be_written_changes_nothing(photos, tmp_path, caplog):
    blocked = FeatureStore(tmp_path / "file" / "features.sqlite")
    (tmp_path / "file").write_text("not a folder")
    usual, without = fit(photos, FakeEncoder(), FeatureStore.in_memory()), fit(photos, FakeEncoder(), blocked)
    assert usual.adapter_.support == without.adapter_.support
    np.testing.assert_array_equal(usual.method_.text_features_, without.method_.text_features_)


def test_pocket_is_not_even_opened(tmp_path, monkeypatch):
    photos = draw_folder(tmp_path / "photos", n=2)
    store = FeatureStore(tmp_path / "features.sqlite")
    fit(photos, "pocket", store)

    def no_session(*_):
        raise AssertionError("a tower was opened although everything is in the store")

    monkeypatch.setattr(pocket_module, "onnx_session", no_session)
    second = fit(photos, "pocket", FeatureStore(store.path))
    assert second.adapter_.summary.n_encoded == 0


def test_features_of_photos_come_50_times_faster_the_second_time(tmp_path):
    paths = sorted(grocery("train").glob("*/*.jpg"))[:48]

    def seconds(encoder):
        with FeatureStore(tmp_path / "features.sqlite") as store, warnings.catch_warnings():
            started = time.perf_counter()
            found = encode_sources(paths, encoder, store=store, progress=False)
            return time.perf_counter() - started, found

    encoder = PocketEncoder(threads=1)
    encoder.encode_images(paths[:1])  # opened: the first run is not made to look slow
    first, encoded = seconds(encoder)
    again = [seconds(encoder) for _ in range(3)]
    assert (encoded.n_encoded, again[0][1].n_encoded) == (48, 0)
    np.testing.assert_array_equal(again[0][1].features, encoded.features)
    assert first / min(spent for spent, _ in again) >= 50
