"""The exception tree: what a caller can catch, what a message says, and that it survives a process border."""

from __future__ import annotations

import copy
import pickle

import pytest

from fewclip import errors
from fewclip.errors import (
    AdapterError,
    DataError,
    EncoderError,
    FeatureError,
    FewclipError,
    ImageError,
    InputError,
    LabelError,
    MissingExtraError,
    ParameterError,
    StoreError,
    TrainingError,
)

TREE = {
    FewclipError: (Exception,),
    InputError: (FewclipError, ValueError),
    FeatureError: (InputError,),
    LabelError: (InputError,),
    ParameterError: (InputError,),
    DataError: (FewclipError, ValueError),
    ImageError: (DataError,),
    EncoderError: (FewclipError,),
    TrainingError: (FewclipError,),
    StoreError: (FewclipError,),
    AdapterError: (FewclipError,),
    MissingExtraError: (FewclipError, ImportError),
}
every_error = pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)


def make(kind):
    return kind("photo.jpg", expected="a JPEG", got="0 bytes", fix="Copy it again.")


def test_the_tree_is_complete():
    found = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)}
    assert found == set(TREE)


@every_error
def test_place_in_the_tree(kind):
    assert kind.__bases__ == TREE[kind]
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__
    with pytest.raises(FewclipError):
        raise make(kind)


def test_built_in_types_catch_them():
    values = {kind for kind in TREE if issubclass(kind, ValueError)}
    assert values == {InputError, FeatureError, LabelError, ParameterError, DataError, ImageError}
    assert {kind for kind in TREE if issubclass(kind, ImportError)} == {MissingExtraError}
    assert not any(issubclass(kind, OSError | TypeError | RuntimeError) for kind in TREE)


@every_error
def test_a_message_has_its_four_parts(kind):
    error = make(kind)
    assert str(error) == "photo.jpg: expected a JPEG, got 0 bytes. Copy it again."
    parts = (error.item, error.expected, error.got, error.fix)
    assert parts == ("photo.jpg", "a JPEG", "0 bytes", "Copy it again.")


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_they_survive_pickling(kind, protocol):
    error = make(kind)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.item, again.expected, again.got, again.fix) == (
        error.item,
        error.expected,
        error.got,
        error.fix,
    )


@every_error
def test_they_survive_copying(kind):
    error = copy.deepcopy(make(kind))
    assert type(error) is kind
    assert str(error) == str(make(kind))


@every_error
def test_all_parts_are_required(kind):
    with pytest.raises(TypeError):
        kind("photo.jpg")
    with pytest.raises(TypeError):
        kind("photo.jpg", expected="a JPEG", got="0 bytes")
