"""From images to features: one row or one error for every image, and nothing encoded twice."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers import BlindEncoder, FakeEncoder, draw_folder, draw_list, drawing
from tqdm import tqdm

from fewclip.data import FeatureStore, image_key
from fewclip.encoders import Encoder
from fewclip.encoders.features import encode_sources
from fewclip.errors import FewclipError, ImageError, ParameterError


def encode(sources, encoder=None, **options):
    return encode_sources(sources, encoder or FakeEncoder(), progress=False, **options)


@pytest.fixture
def paths(tmp_path):
    return sorted(draw_folder(tmp_path / "photos", n=3).glob("*/*.png"))


def test_the_fake_encoder_fulfils_the_protocol():
    assert isinstance(FakeEncoder(), Encoder)


def test_rows_are_what_the_encoder_gives_in_order(paths):
    encoded = encode(paths)
    np.testing.assert_array_equal(encoded.features, FakeEncoder().encode_images(paths))
    assert encoded.features.dtype == np.float32
    assert encoded.images.tolist() == list(range(9))
    assert encoded.keys == [image_key(path) for path in paths]
    assert (encoded.errors, encoded.n_encoded) == ({}, 9)


@pytest.mark.parametrize("batch_size", [1, 2, 8, 9, 100])
@pytest.mark.parametrize("views", [1, 3])
def test_batches_change_nothing(paths, batch_size, views):
    expected = encode(paths, views=views)
    encoded = encode(paths, views=views, batch_size=batch_size)
    np.testing.assert_array_equal(encoded.features, expected.features)
    np.testing.assert_array_equal(encoded.images, expected.images)


def test_no_sources_give_no_rows():
    encoded = encode([])
    assert encoded.features.shape == (0, FakeEncoder.dim)
    assert (len(encoded.images), encoded.keys, encoded.errors, encoded.n_encoded) == (0, [], {}, 0)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_an_unreadable_image_is_an_error_of_its_own(paths, tmp_path, batch_size):
    text, gone, empty = tmp_path / "text.jpg", tmp_path / "gone.jpg", tmp_path / "empty.jpg"
    text.write_text("no image")
    empty.touch()
    sources = [text, *paths[:2], gone, paths[2], empty]
    encoded = encode(sources, batch_size=batch_size)
    assert list(encoded.errors) == [0, 3, 5]
    for i, error in encoded.errors.items():
        assert isinstance(error, ImageError)
        assert sources[i].name in str(error)
    assert encoded.images.tolist() == [1, 2, 4]
    np.testing.assert_array_equal(encoded.features, FakeEncoder().encode_images(paths[:3]))


def test_all_unreadable(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    encoded = encode([tmp_path / "a.jpg"] * 2)
    assert encoded.features.shape == (0, FakeEncoder.dim)
    assert list(encoded.errors) == [0, 1]


def test_duplicates_give_rows_each(paths):
    encoded = encode([paths[0], paths[1], paths[0], paths[0]], batch_size=2)
    assert encoded.images.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(encoded.features[[2, 3]], encoded.features[[0, 0]])


def test_what_is_stored_is_not_encoded_again(paths, tmp_path):
    with FeatureStore(tmp_path / "f.sqlite") as store:
        first = encode(paths, store=store)
    with FeatureStore(tmp_path / "f.sqlite") as store:
        second = encode(paths, BlindEncoder(), store=store)
    np.testing.assert_array_equal(second.features, first.features)
    assert (first.n_encoded, second.n_encoded) == (9, 0)


def test_only_what_is_new_is_encoded(paths):
    store, encoder = FeatureStore.in_memory(), FakeEncoder()
    encode(paths[:4], store=store)
    encoded = encode(paths, encoder, store=store)
    assert encoder.seen == encoded.n_encoded == 5
    np.testing.assert_array_equal(encoded.features, encode(paths).features)


def test_a_renamed_file_is_known_and_a_changed_one_is_not(paths):
    store = FeatureStore.in_memory()
    encode(paths[:2], store=store)
    moved = paths[0].rename(paths[0].with_name("moved.png"))
    paths[1].write_bytes(paths[2].read_bytes())
    encoder = FakeEncoder()
    encode([moved], BlindEncoder(), store=store)
    encode([paths[1]], encoder, store=store)
    assert encoder.seen == 1


def test_features_of_another_encoder_are_not_taken(paths):
    store, other = FeatureStore.in_memory(), FakeEncoder("fake-2")
    encode(paths, store=store)
    assert encode(paths, other, store=store).n_encoded == 9


def test_stored_features_of_another_dimension_are_not_taken(paths):
    store = FeatureStore.in_memory()
    store.put_many({image_key(paths[0]): np.ones(3, np.float32)}, fingerprint="fake-1")
    encoded = encode(paths[:1], store=store)
    assert encoded.n_encoded == 1
    assert encoded.features.shape == (1, FakeEncoder.dim)


def test_views_stand_together_and_depend_on_the_image_and_the_seed_alone(paths):
    encoded = encode(paths[:3], views=4)
    assert encoded.images.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(np.unique(encoded.features, axis=0)) > 6
    alone = encode([paths[2]], views=4)
    np.testing.assert_array_equal(alone.features, encoded.features[8:])
    other = encode(paths[:3], views=4, random_state=1)
    assert not np.array_equal(other.features, encoded.features)


def test_views_are_stored_apart_from_images_and_from_other_seeds(paths):
    store = FeatureStore.in_memory()
    plain = encode(paths, store=store)
    views = encode(paths, store=store, views=2)
    other = encode(paths, store=store, views=2, random_state=5)
    assert views.n_encoded == other.n_encoded == 9
    for expected, options in (
        (plain, {}),
        (views, {"views": 2}),
        (other, {"views": 2, "random_state": 5}),
    ):
        again = encode(paths, BlindEncoder(), store=store, **options)
        np.testing.assert_array_equal(again.features, expected.features)


def test_more_views_than_are_stored_are_encoded(paths):
    store = FeatureStore.in_memory()
    encode(paths[:1], store=store, views=2)
    encoded = encode(paths[:1], store=store, views=3)
    np.testing.assert_array_equal(encoded.features, encode(paths[:1], views=3).features)


@pytest.mark.parametrize("views", [0, -1])
def test_an_impossible_number_of_views_is_refused(paths, views):
    with pytest.raises(ParameterError, match="views"):
        encode(paths, views=views)


def test_an_encoder_that_loses_rows_is_found_out(paths):
    class Losing(FakeEncoder):
        def encode_images(self, images):
            return super().encode_images(images)[1:]

    with pytest.raises(FewclipError):
        encode(paths, Losing())


def test_pil_images_are_known_by_their_pixels():
    store = FeatureStore.in_memory()
    images, _ = draw_list(n=2)
    encode(images, store=store)
    assert encode([image.copy() for image in images], BlindEncoder(), store=store).n_encoded == 0
    assert encode([drawing("red", 99)], store=store).n_encoded == 1


def test_a_bar_of_the_caller_is_advanced_by_every_image(paths, tmp_path):
    with tqdm(total=10, file=io.StringIO()) as bar:
        encode_sources([*paths, tmp_path / "gone.jpg"], FakeEncoder(), batch_size=4, progress=bar)
        assert bar.n == 10


def test_no_progress_is_silent(paths, capsys):
    encode(paths)
    assert capsys.readouterr() == ("", "")
