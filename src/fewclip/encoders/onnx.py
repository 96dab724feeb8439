"""Towers as ONNX files: made once from an ``hf:`` encoder, then run without torch models or transformers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewclip.data import display_path
from fewclip.encoders._batches import Source, check_list, input_batches
from fewclip.encoders._runtime import (
    OpenedOnce,
    import_extra,
    n_processors,
    onnx_session,
    unit_rows,
    warn_of_cut,
)
from fewclip.encoders.families import FAMILIES
from fewclip.encoders.preprocessing import Preprocessing
from fewclip.errors import EncoderError

MANIFEST, IMAGE, TEXT, TOKENIZER = "fewclip-encoder.json", "image.onnx", "text.onnx", "tokenizer.json"
_KIND, _VERSION = "fewclip onnx encoder", 1
_NEED = {"extra": "onnx", "purpose": "onnx: encoders"}


class OnnxEncoder:
    """A folder that ``export_encoder`` wrote: two towers, tokenizer, preprocessing, logit scale.

    Args:
        folder: The folder.
        threads: Threads of ONNX Runtime; None: the number of processors.
        batch_size: Images or texts per run.

    Attributes:
        name: ``onnx:FOLDER``.
        dim: Channels d.
        logit_scale: The model's own factor on cosines.
        fingerprint: Over weights, preprocessing and text handling.
        multilingual: Whether the text tower knows other languages than English.

    Raises:
        EncoderError: Not such a folder, or a file that has changed since.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None, batch_size: int = 32) -> None:
        self.folder, self.threads, self.batch_size = Path(folder), threads, batch_size
        self.name = f"onnx:{folder}"
        self._manifest = _read_manifest(self.folder)
        try:
            self.dim = int(self._manifest["dim"])
            self.logit_scale = float(self._manifest["logit_scale"])
            self.preprocessing = Preprocessing.from_dict(self._manifest["preprocessing"])
            self._family = FAMILIES[self._manifest["model_type"]]
            self.multilingual = bool(self._manifest.get("multilingual", self._family.multilingual))
            self._max_tokens, self._pad = int(self._manifest["max_tokens"]), int(self._manifest["pad_token"])
        except (KeyError, TypeError, ValueError) as error:
            raise _bad(self.folder / MANIFEST, f"{type(error).__name__}: {error}") from error
        digest = hashlib.sha256(json.dumps(self._manifest, sort_keys=True).encode()).hexdigest()
        self.fingerprint = f"onnx-{self._manifest['model_type']}:{digest[:16]}"
        self._parts = OpenedOnce()

    def encode_images(self, images: Sequence[Source]) -> np.ndarray:
        """Unit-norm float32 features, (n, d), of PIL images or paths.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
        """
        check_list("images", images)
        batches = input_batches(
            images, self.preprocessing, batch_size=self.batch_size, threads=n_processors()
        )
        rows = [np.empty((0, self.dim), dtype=np.float32)]
        rows += [self._open(IMAGE).run(None, {"pixel_values": batch})[0] for batch in batches]
        return unit_rows(np.concatenate(rows))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm float32 features, (n, d), of sentences; longer ones are cut, with a warning."""
        check_list("texts", texts)
        rows = [np.empty((0, self.dim), dtype=np.float32)]
        if len(texts) == 0:
            return rows[0]
        encodings = self._open(TOKENIZER).encode_batch([self._family.canonical(text) for text in texts])
        warn_of_cut(texts, [bool(encoding.overflowing) for encoding in encodings], self._max_tokens)
        for start in range(0, len(texts), self.batch_size):
            ids, mask = self._padded([e.ids for e in encodings[start : start + self.batch_size]])
            inputs = {"input_ids": ids} | ({"attention_mask": mask} if self._family.mask else {})
            rows.append(self._open(TEXT).run(None, inputs)[0])
        return unit_rows(np.concatenate(rows))

    def __repr__(self) -> str:
        return f"OnnxEncoder({str(self.folder)!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxEncoder:
        return self  # frozen, and safe to share

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "threads": self.threads, "batch_size": self.batch_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OnnxEncoder.__init__(self, **state)

    def _padded(self, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        length = self._family.pad_to or max(map(len, rows))
        ids = np.full((len(rows), length), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        return ids, mask

    def _open(self, name: str) -> Any:
        """A session or the tokenizer, its checksum verified at first use."""
        return self._parts.get(name, lambda: self._opened(self.folder / name))

    def _opened(self, path: Path) -> Any:
        if _sha256(path) != self._manifest["sha256"].get(path.name):
            raise _bad(path, "another file than the one that was exported")
        if path.name == TOKENIZER:
            return self._tokenizer(path)
        return onnx_session(import_extra("onnxruntime", **_NEED), path, self.threads)

    def _tokenizer(self, path: Path) -> Any:
        tokenizer = import_extra("tokenizers", **_NEED).Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._max_tokens)
        return tokenizer


# ---- export ----


def export_encoder(encoder: Any, folder: str | Path, *, int8: bool = False) -> Path:
    """Writes both towers of an ``hf:`` encoder as ONNX, aside and renamed, after comparing them with torch.

    Args:
        encoder: An ``HFEncoder`` of the kinds clip, metaclip_2 or siglip.
        folder: A new folder.
        int8: Weights of the matrix products as 8-bit integers: smaller and faster, a little less exact.

    Returns:
        The folder; ``load_encoder("onnx:FOLDER")`` opens it.

    Raises:
        EncoderError: Another kind of encoder, a path that exists, or towers that do not agree with torch's.
        MissingExtraError: onnx is not installed.
    """
    target = Path(folder)
    kind = getattr(encoder, "model_type", None)
    if kind not in ("clip", "metaclip_2", "siglip"):
        raise EncoderError(
            f"encoder {getattr(encoder, 'name', encoder)!r}",
            expected="an hf: encoder of the kind clip, metaclip_2 or siglip",
            got=str(kind),
            fix="Use this one through transformers: hf:…",
        )
    if target.exists():
        raise EncoderError(
            display_path(target), expected="a new path", got="one that exists", fix="Choose another."
        )
    import_extra("onnx", **_NEED)
    from fewclip.encoders.hf_export import export_towers  # torch and transformers: not to run the towers

    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        towers = export_towers(encoder, aside / IMAGE, aside / TEXT)
        if int8:
            for name in (IMAGE, TEXT):
                _quantize(aside / name)
        encoder.text.save_tokenizer(aside / TOKENIZER)
        manifest = {
            "kind": _KIND, "format_version": _VERSION, "model_type": kind, "source": encoder.fingerprint,
            "dim": encoder.dim, "logit_scale": encoder.logit_scale, "int8": int8,
            "preprocessing": encoder.preprocessing.to_config(), **towers,
            "sha256": {name: _sha256(aside / name) for name in (IMAGE, TEXT, TOKENIZER)},
        }  # fmt: skip
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        _compare(encoder, OnnxEncoder(aside), int8)
        aside.chmod(0o755)
        os.rename(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _compare(torch_side: Any, onnx_side: OnnxEncoder, int8: bool) -> None:
    """Raises EncoderError unless both give the same features of noise and of two sentences."""
    from PIL import Image

    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)) for _ in range(3)]
    least = 0.99 if int8 else 1 - 1e-6
    calls: list[tuple[str, Callable[[Any], np.ndarray]]] = [
        ("images", lambda e: e.encode_images(images)),
        ("texts", lambda e: e.encode_texts(["a photo of a dog", "cat"])),
    ]
    for what, call in calls:
        cosines = (call(torch_side) * call(onnx_side)).sum(1)
        if cosines.min() < least:
            raise EncoderError(
                f"exported {what} tower", expected=f"cosines of at least {least} to torch's features",
                got=f"{cosines.min():.6f}", fix="Report it with the versions of torch and onnxruntime.",
            )  # fmt: skip


def _quantize(path: Path) -> None:
    quantization = import_extra("onnxruntime.quantization", **_NEED)
    small = path.with_suffix(".int8.onnx")
    # Seven of the eight bits: with all of them, processors without VNNI add pairs of products in 16 bits that
    # overflow, silently. Cosines of a small random tower to torch: 0.95 with eight bits, 0.9994 with seven.
    quantization.quantize_dynamic(
        path, small, weight_type=quantization.QuantType.QInt8, per_channel=True, reduce_range=True
    )
    os.replace(small, path)


# ---- pieces ----


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _bad(path, str(error)) from error
    if not isinstance(manifest, dict) or (manifest.get("kind"), manifest.get("format_version")) != (
        _KIND,
        _VERSION,
    ):
        raise _bad(path, "something else, or another version of it")
    return manifest


def _bad(path: Path, got: str) -> EncoderError:
    return EncoderError(
        display_path(path), expected="a file that fewclip export-encoder wrote", got=got,
        fix="Export it again: fewclip export-encoder hf:… FOLDER",
    )  # fmt: skip


def _sha256(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
