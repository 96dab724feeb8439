"""What can go wrong, as types a caller can catch.

::

    FewclipError                  everything below; the CLI prints it and exits with 1
    ├── InputError (ValueError)   arguments of a Python call
    │   ├── FeatureError          features: shape, dimension, NaN, a zero row
    │   ├── LabelError            labels, classes, groups
    │   └── ParameterError        a constructor parameter or an option
    ├── DataError (ValueError)    what lies on disk: a folder, a table, a split
    │   └── ImageError            one image
    ├── EncoderError              an encoder: unknown, incomplete, or another than the adapter's
    ├── TrainingError             the loss of a trained method is not finite
    ├── AdapterError              a saved adapter: absent, foreign, damaged, or in the way
    ├── StoreError                the feature store cannot be read or changed by hand
    └── MissingExtraError (ImportError)   an optional package is not installed

Every error names the item, what was expected, what came instead, and what to do.
"""

from __future__ import annotations

from typing import Any


class FewclipError(Exception):
    """Base class of all errors that fewclip raises on purpose.

    Args:
        item: What the error is about, as the user knows it: a path, a parameter, a class name.
        expected: What would have been right.
        got: What came instead.
        fix: One sentence: what to do now.
    """

    def __init__(self, item: str, *, expected: str, got: str, fix: str) -> None:
        self.item = item
        self.expected = expected
        self.got = got
        self.fix = fix
        super().__init__(f"{item}: expected {expected}, got {got}. {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default reduction, which worker processes rely on.
        return _rebuild, (type(self), self.item, self.expected, self.got, self.fix)


def _rebuild(kind: type[FewclipError], item: str, expected: str, got: str, fix: str) -> FewclipError:
    return kind(item, expected=expected, got=got, fix=fix)


class InputError(FewclipError, ValueError):
    """An argument of a Python call is not usable."""


class FeatureError(InputError):
    """Features have a wrong shape or dimension, or hold NaN, infinity or a zero row."""


class LabelError(InputError):
    """Labels, classes or groups do not fit the features, the text features, or each other."""


class ParameterError(InputError):
    """A constructor parameter or a command-line option has a value outside its range."""


class DataError(FewclipError, ValueError):
    """A folder, table or split on disk cannot be read as labelled images."""


class ImageError(DataError):
    """One image cannot be decoded, or should not be."""


class EncoderError(FewclipError):
    """An encoder is unknown, incomplete, or not the one that the features come from."""


class TrainingError(FewclipError):
    """The loss of a trained method is not finite."""


class AdapterError(FewclipError):
    """A saved adapter is absent, foreign, damaged, or would be overwritten."""


class StoreError(FewclipError):
    """The feature store cannot be read or changed, and the user asked for nothing else."""


class MissingExtraError(FewclipError, ImportError):
    """An optional package is needed and not installed."""
