"""Features that exist already, in a file: read as images are, one row or one group of views an image."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewclip.data._display import display_path
from fewclip.data._parquet import load_pyarrow
from fewclip.data._split_arrays import SPLITS, split_arrays
from fewclip.errors import DataError, MissingExtraError

SUFFIXES = (".npz", ".npy", ".safetensors", ".parquet")
_KEYS = re.compile(r"keys_(\d+)shots?\.pt")


@dataclass(frozen=True)
class FeatureRow:
    """What stands where an image would: its features.

    Attributes:
        features: One row a view, (v, d), float32.
        name: What to call it.
        fingerprint: Of the encoder that made them; "" if unknown.
    """

    features: np.ndarray
    name: str
    fingerprint: str = ""

    @property
    def key(self) -> str:
        """The sha256, in hex, of the features."""
        return hashlib.sha256(np.ascontiguousarray(self.features, dtype="<f4").tobytes()).hexdigest()


@dataclass(frozen=True)
class ReadyFeatures:
    """The content of a file of features.

    Attributes:
        features: (n, d), float32.
        labels: One a row, or None.
        groups: Rows that share a value are views of one image; None: every row its own.
        paths: What to call each row, or None.
        text_features: (c, d) in the order of ``class_names``, or of the sorted labels; or None.
        class_names: The labels of the rows of ``text_features``; or, where labels are numbers below their
            count, the name of each number.
        encoder, fingerprint: Of the encoder that made them; "" if the file does not say.
        logit_scale: Its factor on cosines; None if the file does not say.
        origin: The file, safe to print.
    """

    features: np.ndarray
    origin: str
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    paths: tuple[str, ...] | None = None
    text_features: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    encoder: str = ""
    fingerprint: str = ""
    logit_scale: float | None = None

    def rows(self, *, grouped: bool) -> tuple[tuple[FeatureRow, ...], tuple[Any, ...]]:
        """The images and the label of each, None without; ``grouped``: views of an image together."""
        names = self.paths or tuple(f"row {i}" for i in range(len(self.features)))
        first: dict[Any, list[int]] = {}
        groups = range(len(self.features)) if self.groups is None or not grouped else self.groups.tolist()
        for i, group in enumerate(groups):
            first.setdefault(group, []).append(i)
        labels = self._labels()
        for group, members in first.items():
            if len({labels[i] for i in members}) > 1:
                raise DataError(
                    f"{self.origin}, group {group!r}",
                    expected="one label for all views of an image",
                    got="two",
                    fix="Check groups and labels.",
                )
        return (
            tuple(
                FeatureRow(self.features[members], names[members[0]], self.fingerprint)
                for members in first.values()
            ),
            tuple(labels[members[0]] for members in first.values()),
        )

    def classes(self) -> tuple[Any, ...]:
        """All labels, sorted, with those that have text features and no row."""
        known = set(self._labels()) - {None}
        return tuple(sorted(known | set(self.class_names or ())))

    def text_by_class(self) -> np.ndarray | None:
        """Text features in the order of ``classes``, (c, d).

        Raises:
            DataError: Their number is not that of the classes.
        """
        if self.text_features is None:
            return None
        names = list(self.class_names or self.classes())
        if len(names) != len(self.text_features):
            raise DataError(
                f"{self.origin}, text_features",
                expected=f"one row for each of {len(names)} classes",
                got=f"{len(self.text_features)}",
                fix="Add class_names: the label of each row of text_features.",
            )
        rows = dict(zip(names, self.text_features, strict=True))
        return np.stack([rows[label] for label in self.classes()])

    def _labels(self) -> list[Any]:
        if self.labels is None:
            return [None] * len(self.features)
        labels = self.labels.tolist()
        if self.class_names is not None and self.labels.dtype.kind in "iu":
            return [self.class_names[label] for label in labels]
        return labels


def is_features(source: object) -> bool:
    """Whether a path names a file of features, or a folder in the published few-shot cache layout."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if path.suffix.lower() == ".parquet":
        return path.is_file() and "features" in _columns(path)
    if path.suffix.lower() in SUFFIXES:
        return True
    return path.is_dir() and bool(_cache_files(path))


def read_features(source: str | Path, *, prefer: str = "train") -> ReadyFeatures:
    """Reads features.

    Args:
        source: ``.npz`` or ``.safetensors`` with ``features``, ``labels`` and, optionally, ``groups``,
            ``text_features``, ``class_names``, ``paths``, ``logit_scale``, ``encoder``, ``fingerprint``;
            with several splits, ``train_features``, ``train_labels``, ``val_features``, … instead;
            ``.npy`` with features alone; ``.parquet`` with a list column ``features`` and, optionally,
            ``label``, ``group``, ``path``; or a folder with ``keys_16shots.pt``, ``values_16shots.pt``,
            ``val_f.pt``, ``val_l.pt``, … of the published code. Nothing pickled is ever run.
        prefer: ``train``, ``val`` or ``test``: which split of such a file or folder.

    Raises:
        DataError: The file is absent, damaged, or holds something else.
        MissingExtraError: pyarrow is needed for Parquet.
    """
    path = Path(source)
    readers: dict[str, Callable[[Path], dict[str, Any]]] = {
        ".npz": lambda file: _npz(file, prefer), ".npy": _npy, ".parquet": _parquet,
        ".safetensors": lambda file: _safetensors(file, prefer),
    }  # fmt: skip
    reader = readers.get(path.suffix.lower(), lambda folder: _cache(folder, prefer))
    try:
        found = reader(path)
    except (DataError, MissingExtraError):
        raise
    except Exception as error:  # each library has its own
        raise DataError(
            display_path(path),
            expected="a file of features",
            got=f"{type(error).__name__}: {error}",
            fix="Write it again; arrays of objects and pickled tensors are not read.",
        ) from error
    return _checked(found, display_path(path))


def _checked(found: dict[str, Any], origin: str) -> ReadyFeatures:
    def wrong(what: str, expected: str, got: str) -> DataError:
        return DataError(f"{origin}, {what}", expected=expected, got=got, fix="Correct the file.")

    if "features" not in found:
        raise wrong("features", "an array (n, d)", f"only {', '.join(found) or 'nothing'}")
    features = np.asarray(found["features"])
    if features.ndim != 2 or not len(features) or features.dtype.kind != "f":
        raise wrong("features", "floating-point numbers (n, d)", f"{features.dtype} {features.shape}")
    features = features.astype(np.float32)
    bad = ~np.isfinite(features).all(1) | ~features.any(1)
    if bad.any():
        raise wrong(f"row {int(bad.argmax())}", "finite numbers, not all zero", f"{bad.sum()} such rows")
    rows: dict[str, Any] = {}
    for name in ("labels", "groups", "paths"):
        if found.get(name) is not None:
            rows[name] = np.asarray(found[name])
            if rows[name].shape != (len(features),):
                raise wrong(name, f"one value a row, ({len(features)},)", f"shape {rows[name].shape}")
    names = None if found.get("class_names") is None else tuple(str(n) for n in found["class_names"])
    labels = rows.get("labels")
    if names is not None and labels is not None and labels.dtype.kind in "iu":
        if labels.min() < 0 or labels.max() >= len(names):
            raise wrong(
                "labels", f"numbers 0 to {len(names) - 1}, as class_names has them", str(labels.max())
            )
    elif names is not None and labels is not None and not set(labels.tolist()) <= set(names):
        strange = sorted(set(labels.tolist()) - set(names))[0]
        raise wrong("labels", "labels that class_names holds", repr(strange))
    text = found.get("text_features")
    if text is not None:
        text = np.asarray(text, dtype=np.float32)
        if text.ndim != 2 or text.shape[1] != features.shape[1]:
            raise wrong("text_features", f"(c, {features.shape[1]})", f"shape {text.shape}")
    scale = found.get("logit_scale")
    return ReadyFeatures(
        features, origin, labels, rows.get("groups"),
        tuple(str(p) for p in rows["paths"]) if "paths" in rows else None, text, names,
        str(found.get("encoder") or ""), str(found.get("fingerprint") or ""),
        None if scale is None else float(np.asarray(scale)),
    )  # fmt: skip


# ---- kinds of files ----


def _npz(path: Path, prefer: str) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        chosen = split_arrays(stored.files, prefer, display_path(path))
        return {name: stored[key] for name, key in chosen.items()}


def _npy(path: Path) -> dict[str, Any]:
    return {"features": np.load(path, allow_pickle=False)}


def _safetensors(path: Path, prefer: str) -> dict[str, Any]:
    import json

    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stored:
        chosen = split_arrays(list(stored.keys()), prefer, display_path(path))
        found: dict[str, Any] = {name: stored.get_tensor(key) for name, key in chosen.items()}
        words = stored.metadata() or {}
    for name in ("class_names", "paths"):  # words are no tensors: JSON lists in the metadata
        if name in words:
            found[name] = json.loads(words[name])
    return found | {name: words[name] for name in ("encoder", "fingerprint") if name in words}


def _parquet(path: Path) -> dict[str, Any]:
    table = load_pyarrow()[1].read_table(path)
    found: dict[str, Any] = {}
    names = {"features": "features", "label": "labels", "labels": "labels", "group": "groups",
             "groups": "groups", "path": "paths", "paths": "paths"}  # fmt: skip
    columns = {name: table.column(name).to_pylist() for name in names if name in table.column_names}
    if "features" not in columns:
        return {name: None for name in table.column_names}
    kept = [i for i, row in enumerate(columns["features"]) if row is not None]  # others are error rows
    for name, values in columns.items():
        some = [values[i] for i in kept]
        if name != "features" and any(value is None for value in some):
            continue
        found[names[name]] = np.asarray(some, dtype=np.float32 if name == "features" else None)
    words = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    return found | {n: words[n] for n in ("encoder", "fingerprint", "logit_scale") if n in words}


def _columns(path: Path) -> list[str]:
    try:
        return load_pyarrow()[1].read_schema(path).names
    except MissingExtraError:
        raise
    except Exception:
        return []


def _cache_files(folder: Path) -> list[Path]:
    return [
        p for p in folder.iterdir() if _KEYS.fullmatch(p.name) or re.fullmatch(r"(val|test)_f\.pt", p.name)
    ]


def _cache(folder: Path, prefer: str) -> dict[str, Any]:
    """The published layout: keys (d, m), one-hot values (m, c), ``val_f.pt`` (n, d), ``val_l.pt`` (n,)."""
    serialization = importlib.import_module("torch.serialization")

    def load(path: Path) -> np.ndarray:
        return serialization.load(path, map_location="cpu", weights_only=True).float().numpy()

    split = SPLITS.get(prefer, "train")
    if split != "train" and (folder / f"{split}_f.pt").is_file():
        return {
            "features": load(folder / f"{split}_f.pt"),
            "labels": load(folder / f"{split}_l.pt").astype(np.int64),
        }
    keys = sorted(folder.glob("keys_*shot*.pt"), key=lambda p: int(_KEYS.fullmatch(p.name).group(1)))  # type: ignore[union-attr]
    if not keys:
        raise DataError(
            display_path(folder), expected="keys_16shots.pt and values_16shots.pt, or val_f.pt and val_l.pt",
            got="neither", fix="Check the folder.",
        )  # fmt: skip
    values = load(keys[-1].with_name(keys[-1].name.replace("keys", "values")))
    features = load(keys[-1])
    features = features.T if features.shape[0] != len(values) else features
    return {"features": features, "labels": values.argmax(1)}
