"""Files of features that hold train, val and test."""

from __future__ import annotations

import numpy as np
import pytest
from reference.tasks import make_task
from safetensors.numpy import save_file

from fewclip.data import read_features
from fewclip.data._split_arrays import split_arrays
from fewclip.errors import DataError

TASK = make_task((4, 3, 5), n_queries=12)
ARRAYS = {
    "train_features": TASK.X, "train_labels": TASK.y, "val_features": TASK.Xq, "val_labels": TASK.yq,
    "text_features": TASK.T,
}  # fmt: skip


def test_the_wanted_split_and_what_is_common():
    keys = ["train_features", "train_labels", "validation_features", "text_features", "class_names"]
    assert split_arrays(keys, "val", "f") == {
        "features": "validation_features", "text_features": "text_features", "class_names": "class_names",
    }  # fmt: skip
    assert split_arrays(["features", "labels"], "val", "f") == {"features": "features", "labels": "labels"}


def test_npz_and_safetensors(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS, class_names=np.array(["ant", "bee", "cat"]))
    save_file({k: np.ascontiguousarray(v) for k, v in ARRAYS.items()}, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        train, val = (read_features(tmp_path / name, prefer=split) for split in ("train", "val"))
        np.testing.assert_array_equal(train.features, TASK.X)
        np.testing.assert_array_equal(val.features, TASK.Xq)
        np.testing.assert_array_equal(val.labels, TASK.yq)
        np.testing.assert_array_equal(val.text_features, TASK.T)
    assert read_features(tmp_path / "a.npz").classes() == ("ant", "bee", "cat")


def test_a_split_that_is_not_there_is_no_other_one(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    with pytest.raises(DataError, match=r"split 'test'.*got those of train, val"):
        read_features(tmp_path / "a.npz", prefer="test")
