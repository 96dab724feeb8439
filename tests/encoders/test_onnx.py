"""onnx: encoders, exported from small random models of the real classes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from fewclip.encoders import Encoder, load_encoder
from fewclip.errors import EncoderError

pytest.importorskip("transformers")
pytest.importorskip("onnx")
from encoders.test_hf import folders, photos  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["clip", "metaclip_2", "siglip"])
def test_the_exported_towers_are_those_of_torch(folders, tmp_path, kind):  # noqa: F811
    from fewclip.encoders.onnx import export_encoder

    ours = load_encoder(folders[kind])
    exported = load_encoder(f"onnx:{export_encoder(ours, tmp_path / 'out')}")
    assert isinstance(exported, Encoder)
    assert exported.multilingual is ours.multilingual
    assert (exported.dim, exported.logit_scale) == (ours.dim, pytest.approx(ours.logit_scale))
    images, texts = photos(5), ["a photo of the cat", "Dog!", "big red sea bass"]
    np.testing.assert_allclose(exported.encode_images(images), ours.encode_images(images), atol=1e-4)
    np.testing.assert_allclose(exported.encode_texts(texts), ours.encode_texts(texts), atol=1e-4)
    assert exported.encode_texts([]).shape == exported.encode_images([]).shape == (0, ours.dim)
    with pytest.raises(EncoderError, match="new path"):
        export_encoder(ours, tmp_path / "out")


def test_int8_is_close_and_another_encoder(folders, tmp_path):  # noqa: F811
    from fewclip.encoders.onnx import export_encoder

    ours = load_encoder(folders["clip"])
    small = load_encoder(f"onnx:{export_encoder(ours, tmp_path / 'small', int8=True)}")
    exact = load_encoder(f"onnx:{export_encoder(ours, tmp_path / 'exact')}")
    images, texts = photos(5), ["a photo of the cat", "dog", "big red sea bass"]
    assert (small.encode_images(images) * ours.encode_images(images)).sum(1).min() >= 0.999
    assert (small.encode_texts(texts) * ours.encode_texts(texts)).sum(1).min() >= 0.999
    sizes = [(tmp_path / name / "image.onnx").stat().st_size for name in ("small", "exact")]
    assert sizes[0] < sizes[1]
    assert small.fingerprint != exact.fingerprint


def test_it_runs_without_transformers_and_torch_models(folders, tmp_path):  # noqa: F811
    result = CliRunner().invoke(_app(), ["export-encoder", str(folders["clip"]), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    program = (
        "import sys; from fewclip.encoders import load_encoder\n"
        f"e = load_encoder('onnx:{tmp_path / 'out'}'); e.encode_texts(['cat'])\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_what_is_damaged_or_foreign_is_named(folders, tmp_path):  # noqa: F811
    from fewclip.encoders.onnx import MANIFEST, export_encoder

    with pytest.raises(EncoderError, match="export-encoder wrote"):
        load_encoder(f"onnx:{tmp_path}")
    out = export_encoder(load_encoder(folders["clip"]), tmp_path / "out")
    blob = bytearray((out / "image.onnx").read_bytes())
    blob[-1] ^= 1
    (out / "image.onnx").write_bytes(bytes(blob))
    with pytest.raises(EncoderError, match=r"image\.onnx"):
        load_encoder(f"onnx:{out}").encode_images(photos(1))
    manifest = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps({**manifest, "format_version": 9}))
    with pytest.raises(EncoderError, match="another version"):
        load_encoder(f"onnx:{out}")
    with pytest.raises(EncoderError, match="clip, metaclip_2 or siglip"):
        export_encoder(load_encoder("pocket"), tmp_path / "pocket")
    with pytest.raises(EncoderError, match="altclip"):
        export_encoder(load_encoder(folders["altclip"]), tmp_path / "alt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def _app():
    from fewclip.cli.app import app

    return app
