"""Ready features in place of images: every kind of file, and every command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from reference.tasks import make_task
from safetensors.numpy import save_file
from typer.testing import CliRunner

from fewclip import FewShotClassifier
from fewclip.cli.app import app
from fewclip.data import is_features, read_features
from fewclip.errors import DataError, EncoderError, FeatureError
from fewclip.methods import APE

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = make_task((4, 3, 5), n_queries=12)
NAMES = np.array(["cat", "dog", "yak"])


def write(path, **more):
    arrays = {
        "features": TASK.X,
        "labels": NAMES[TASK.y],
        "text_features": TASK.T,
        "class_names": NAMES,
    } | more
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_a_fit_on_ready_features_is_that_of_the_method(tmp_path):
    clf = FewShotClassifier(progress=False).fit(write(tmp_path / "train.npz"))
    bare = APE(TASK.T, classes=NAMES).fit(TASK.X, NAMES[TASK.y])
    np.savez(tmp_path / "new.npz", features=TASK.Xq)
    np.testing.assert_allclose(
        clf.predict_proba(tmp_path / "new.npz"), bare.predict_proba(TASK.Xq), atol=1e-5
    )
    write(tmp_path / "test.npz", features=TASK.Xq, labels=NAMES[TASK.yq])
    assert clf.evaluate(tmp_path / "test.npz").accuracy == pytest.approx(bare.score(TASK.Xq, NAMES[TASK.yq]))
    clf.save_pretrained(tmp_path / "a.adapter")
    again = FewShotClassifier.from_pretrained(tmp_path / "a.adapter", progress=False)
    np.testing.assert_array_equal(again.predict(tmp_path / "new.npz"), bare.predict(TASK.Xq))
    with pytest.raises(EncoderError, match="ready features"):
        again.predict([Image.new("RGB", (9, 9))])


def test_numbers_are_named_and_rows_of_a_group_are_views(tmp_path):
    groups = np.arange(12) // 2
    y = np.repeat([0, 1, 2], 4)
    path = write(tmp_path / "g.npz", labels=y, groups=groups)
    clf = FewShotClassifier(progress=False).fit(path)
    assert list(clf.classes_) == list(NAMES)
    assert len(clf.method_.support_features_) == 6
    write(tmp_path / "bad.npz", labels=y, groups=np.arange(12) // 5)
    with pytest.raises(DataError, match="one label for all views"):
        FewShotClassifier(progress=False).fit(tmp_path / "bad.npz")


def test_without_text_class_means_stand_in(tmp_path):
    path = write(tmp_path / "v.npz", text_features=None, class_names=None)
    clf = FewShotClassifier(method="tip-adapter", progress=False).fit(path)
    assert clf.method_.text_features_.shape == (3, 24)


def test_every_kind_of_file_gives_the_same(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    npz = read_features(write(tmp_path / "a.npz"))
    save_file(
        {"features": TASK.X, "labels": TASK.y, "text_features": TASK.T}, tmp_path / "a.safetensors",
        metadata={"class_names": json.dumps(NAMES.tolist())},
    )  # fmt: skip
    pq.write_table(
        pa.table({"features": TASK.X.tolist(), "label": NAMES[TASK.y].tolist()}), tmp_path / "a.parquet"
    )
    np.save(tmp_path / "a.npy", TASK.X)
    for name in ("a.safetensors", "a.parquet", "a.npy"):
        found = read_features(tmp_path / name)
        np.testing.assert_array_equal(found.features, TASK.X)
        if name != "a.npy":
            assert found.rows(grouped=True)[1] == npz.rows(grouped=True)[1]


def test_the_published_cache_layout(tmp_path):
    one_hot = np.eye(3, dtype=np.float32)[TASK.y]
    torch.save(torch.tensor(TASK.X.T), tmp_path / "keys_16shots.pt")
    torch.save(torch.tensor(one_hot), tmp_path / "values_16shots.pt")
    torch.save(torch.tensor(TASK.Xq), tmp_path / "val_f.pt")
    torch.save(torch.tensor(TASK.yq), tmp_path / "val_l.pt")
    assert is_features(tmp_path)
    train, val = read_features(tmp_path), read_features(tmp_path, prefer="val")
    np.testing.assert_array_equal(train.features, TASK.X)
    np.testing.assert_array_equal(train.labels, TASK.y)
    np.testing.assert_array_equal(val.labels, TASK.yq)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save(Bomb(), tmp_path / "keys_16shots.pt")
    torch.save(Bomb(), tmp_path / "values_16shots.pt")
    np.savez(tmp_path / "a.npz", features=np.array([Bomb()], dtype=object))
    for path in (tmp_path, tmp_path / "a.npz"):
        with pytest.raises(DataError):
            read_features(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"features": TASK.X[0]}, "features"), ({"labels": NAMES[:2]}, "labels"),
        ({"text_features": TASK.T[:, :5]}, "text_features"), ({"text_features": TASK.T[:2]}, "text_features"),
        ({"features": np.where(TASK.X > 0.4, np.nan, TASK.X)}, "row"), ({"labels": TASK.y + 1}, "labels"),
        ({"class_names": np.array(["cat", "dog", "cow"])}, "labels"), ({"features": None}, "features"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, wrong, what):
    with pytest.raises(DataError, match=what):
        FewShotClassifier(progress=False).fit(write(tmp_path / "w.npz", **wrong))


def test_features_of_another_encoder_are_refused_with_both_named(tmp_path):
    clf = FewShotClassifier(progress=False).fit(write(tmp_path / "a.npz", fingerprint="clip:1"))
    np.savez(tmp_path / "b.npz", features=TASK.Xq, fingerprint="clip:2")
    with pytest.raises(EncoderError, match=r"clip:1.*clip:2"):
        clf.predict(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", features=TASK.Xq[:, :7])
    with pytest.raises(FeatureError, match="24 channels"):
        clf.predict(tmp_path / "c.npz")


def test_every_command_reads_them(tmp_path):
    run = CliRunner().invoke
    write(tmp_path / "a.npz")
    write(tmp_path / "t.npz", features=TASK.Xq, labels=NAMES[TASK.yq])
    adapter = str(tmp_path / "a.adapter")
    for arguments in (
        ["fit", str(tmp_path / "a.npz"), "-o", adapter, "--val", str(tmp_path / "t.npz")],
        ["predict", adapter, str(tmp_path / "t.npz"), "-o", str(tmp_path / "p.csv")],
        ["evaluate", adapter, str(tmp_path / "t.npz")],
        ["info", adapter],
    ):
        result = run(app, arguments)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
    rows = (tmp_path / "p.csv").read_text().splitlines()
    assert len(rows) == 1 + 12
    assert rows[1].startswith("row 0,")
