"""CLIP and its relatives through transformers: from the hub, its cache, or a folder. No torchvision."""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewclip.data import display_path
from fewclip.encoders._batches import Source, check_list, input_batches
from fewclip.encoders._runtime import OpenedOnce, import_extra, n_processors, warn_of_cut
from fewclip.encoders.families import FAMILIES, Family
from fewclip.encoders.preprocessing import Preprocessing
from fewclip.errors import EncoderError, ParameterError

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]  # of a hub repository; no pickled weights


class HFEncoder:
    """A two-tower model of transformers: CLIP, MetaCLIP, SigLIP, SigLIP 2, ChineseCLIP, AltCLIP, ALIGN.

    Args:
        source: ``ORG/NAME`` or ``ORG/NAME@REVISION`` on the Hugging Face hub (downloaded once; the
            environment variable HF_HUB_OFFLINE=1 forbids it), or a folder with config.json.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda:1``, …
        batch_size: Images or texts per run, at least 1. Changes memory and speed, not results.

    Attributes:
        name: The name that opens it again.
        preprocessing: From the folder's preprocessor_config.json; None where transformers' processor does it.

    Raises:
        MissingExtraError: transformers is not installed.
        EncoderError: Not such a model, no safetensors weights, or not cached and no network.
    """

    def __init__(self, source: str | Path, *, device: str = "auto", batch_size: int = 32) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ParameterError(
                "batch_size of HFEncoder",
                expected="an integer of at least 1",
                got=repr(batch_size),
                fix="Use 32.",
            )
        self.source, self.device, self.batch_size = str(source), device, batch_size
        _transformers()
        self._folder = _folder(self.source)
        self.name = f"hf:{self.source}"
        self._config = _json(self._folder / "config.json")
        self._family = self._family_of(self._config.get("model_type"))
        self._open = OpenedOnce().get
        options = _optional_json(self._folder / "preprocessor_config.json")
        if options is None:
            options = (_optional_json(self._folder / "processor_config.json") or {}).get(
                "image_processor", {}
            )
        self.preprocessing: Preprocessing | None = None
        if not self._family.own_processor:
            self.preprocessing = Preprocessing.from_config(
                {**self._default_processor(), **options}, square=self._family.square
            )
        weights = sorted(self._folder.glob("*.safetensors"))
        if not weights:
            raise EncoderError(
                f"encoder {self.name}",
                expected="weights as safetensors",
                got="a folder without",
                fix="Convert them: AutoModel.from_pretrained(…).save_pretrained(FOLDER) writes safetensors.",
            )
        self._weights = weights

    # ---- the protocol ----

    @property
    def dim(self) -> int:
        """Channels d."""
        return self._open("dim", self._dim)

    @property
    def logit_scale(self) -> float:
        """The model's own factor on cosines: exp of the learnt number; ALIGN learns its inverse."""
        model = self._model()
        if hasattr(model, "temperature"):
            return 1 / float(model.temperature)
        return float(model.logit_scale.detach().exp())

    @property
    def fingerprint(self) -> str:
        """``hf-MODEL_TYPE:`` and 16 hexadecimal digits over weights, preprocessing, text handling."""
        return self._open("fingerprint", self._fingerprint)

    def encode_images(self, images: Sequence[Source]) -> np.ndarray:
        """Unit-norm float32 features, (n, d), of PIL images or paths.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
        """
        check_list("images", images)
        if len(images) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        if self._family.own_processor:
            batches = input_batches(images, np.asarray, batch_size=1, threads=n_processors())
            return np.concatenate([self._images(self._processed(batch[0])) for batch in batches])
        assert self.preprocessing is not None
        batches = input_batches(
            images, self.preprocessing, batch_size=self.batch_size, threads=n_processors()
        )
        torch = importlib.import_module("torch")
        return np.concatenate([self._images({"pixel_values": torch.from_numpy(batch)}) for batch in batches])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm float32 features, (n, d), of sentences; longer ones are cut, with a warning.

        Raises:
            EncoderError: The folder has no tokenizer.
        """
        check_list("texts", texts)
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        if len(texts) == 0:
            return out
        sentences = [self._family.canonical(text) for text in texts]
        most = self._max_tokens()
        warn_of_cut(texts, [len(ids) > most for ids in self._tokenizer()(sentences)["input_ids"]], most)
        for start in range(0, len(texts), self.batch_size):
            part = sentences[start : start + self.batch_size]
            tokens = dict(self._tokens(part))
            if not self._family.mask:
                tokens.pop("attention_mask", None)  # trained without: with it the features are others
            out[start : start + len(part)] = self._run("get_text_features", tokens)
        return out

    # ---- export ----

    @property
    def model_type(self) -> str:
        """As config.json has it."""
        return self._config["model_type"]

    def export_towers(self, image: Path, text: Path) -> dict[str, Any]:
        """Writes both towers as ONNX, features not yet of unit norm; returns what a tokenizer must know."""
        torch = importlib.import_module("torch")
        model, family = self._model(), self._family
        assert self.preprocessing is not None
        pixels = torch.zeros(2, *self.preprocessing(Image.new("RGB", (64, 64))).shape)
        tokens = dict(self._tokens([family.canonical(words) for words in ("a photo of a dog", "cat")]))
        names = ["input_ids", "attention_mask"] if family.mask else ["input_ids"]

        class Tower(torch.nn.Module):
            def __init__(self, what: str, names: list[str]) -> None:
                super().__init__()
                self.model, self.what, self.names = model, what, names

            def forward(self, *inputs: Any) -> Any:
                found = getattr(self.model, self.what)(**dict(zip(self.names, inputs, strict=True)))
                return found if isinstance(found, torch.Tensor) else found.pooler_output

        length = {} if family.pad_to else {1: "length"}
        jobs = (
            (image, Tower("get_image_features", ["pixel_values"]), (pixels,), ["pixel_values"], {}),
            (text, Tower("get_text_features", names), tuple(tokens[n] for n in names), names, length),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: what it would break is compared afterwards
            for path, tower, inputs, inputs_of, axes in jobs:
                torch.onnx.export(
                    tower.train(False), inputs, str(path), input_names=inputs_of, output_names=["features"],
                    dynamic_axes={"features": {0: "n"}, **{name: {0: "n", **axes} for name in inputs_of}},
                    dynamo=False, opset_version=17,
                )  # fmt: skip
        return {"max_tokens": self._max_tokens(), "pad_token": int(self._tokenizer().pad_token_id or 0)}

    def save_tokenizer(self, path: Path) -> None:
        """Writes the tokenizer as one tokenizer.json."""
        backend = getattr(self._tokenizer(), "backend_tokenizer", None)
        if backend is None:
            raise EncoderError(
                f"the tokenizer of {self.name}",
                expected="one of the tokenizers library",
                got=type(self._tokenizer()).__name__,
                fix="Save it as a fast tokenizer (tokenizer.json) first.",
            )
        backend.save(str(path))

    # ---- pickling and copying ----

    def __repr__(self) -> str:
        return f"HFEncoder({self.source!r}, device={self.device!r}, batch_size={self.batch_size})"

    def __deepcopy__(self, memo: dict[int, Any]) -> HFEncoder:
        return self  # frozen, and safe to share

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "device": self.device, "batch_size": self.batch_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        HFEncoder.__init__(self, state["source"], device=state["device"], batch_size=state["batch_size"])

    # ---- towers ----

    def _images(self, inputs: dict[str, Any]) -> np.ndarray:
        return self._run("get_image_features", inputs)

    def _run(self, what: str, inputs: dict[str, Any]) -> np.ndarray:
        torch = importlib.import_module("torch")
        model = self._model()
        device = next(model.parameters()).device
        with torch.inference_mode():
            found = getattr(model, what)(**{key: value.to(device) for key, value in inputs.items()})
            found = found if isinstance(found, torch.Tensor) else found.pooler_output  # transformers 5
            return torch.nn.functional.normalize(found.float(), dim=-1).cpu().numpy()

    def _model(self) -> Any:
        return self._open("model", self._load_model)

    def _load_model(self) -> Any:
        torch, transformers = importlib.import_module("torch"), _transformers()
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        with self._as_encoder_error("a model that transformers can open"):
            model = transformers.AutoModel.from_pretrained(
                self._folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
            )
            return model.train(False).to(device)

    def _processed(self, image: np.ndarray) -> dict[str, Any]:
        processor = self._open("processor", self._load_processor)
        return dict(processor(images=Image.fromarray(image), return_tensors="pt"))

    def _load_processor(self) -> Any:
        with self._as_encoder_error("a processor that transformers can open"):
            return _transformers().AutoImageProcessor.from_pretrained(
                self._folder, local_files_only=True, backend="pil"
            )

    def _default_processor(self) -> dict[str, Any]:
        """What transformers takes where the configuration is silent: its class's own values."""
        kind = "SiglipImageProcessorPil" if self._family.square else "CLIPImageProcessorPil"
        found = getattr(_transformers(), kind, None)
        names = ("size", "crop_size", "resample", "image_mean", "image_std", "do_center_crop", "do_resize")
        names += ("do_rescale", "do_normalize")
        values = {name: getattr(found, name, None) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    # ---- text ----

    def _tokens(self, texts: list[str]) -> Any:
        padding = "max_length" if self._family.pad_to else True
        return self._tokenizer()(
            texts, padding=padding, truncation=True, max_length=self._max_tokens(), return_tensors="pt"
        )

    def _max_tokens(self) -> int:
        text = self._config.get("text_config") or {}
        positions = text.get("max_position_embeddings") or self._family.max_tokens
        return min(self._family.max_tokens, int(positions))

    def _tokenizer(self) -> Any:
        return self._open("tokenizer", self._load_tokenizer)

    def _load_tokenizer(self) -> Any:
        names = (
            "tokenizer.json",
            "vocab.json",
            "vocab.txt",
            "spiece.model",
            "tokenizer.model",
            "sentencepiece.bpe.model",
        )
        if not any((self._folder / name).is_file() for name in names):
            raise EncoderError(
                f"encoder {self.name}",
                expected=f"a tokenizer, one of {', '.join(names)}",
                got="a folder without",
                fix="Copy the tokenizer's files into the folder; images can be encoded without.",
            )
        with self._as_encoder_error("a tokenizer that transformers can open"):
            return _transformers().AutoTokenizer.from_pretrained(self._folder, local_files_only=True)

    # ---- pieces ----

    def _family_of(self, model_type: Any) -> Family:
        if model_type in FAMILIES:
            return FAMILIES[model_type]
        raise EncoderError(
            f"encoder {self.name}",
            expected=f"a model_type among {', '.join(FAMILIES)} in config.json",
            got=repr(model_type),
            fix="Wrap another model in an object of your own, see fewclip.encoders.Encoder.",
        )

    def _dim(self) -> int:
        """Channels; configurations call them by too many names, so the model is asked."""
        return int(self.encode_images([Image.new("RGB", (64, 64))]).shape[1])

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self._weights:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        family = self._family
        relevant = {
            "config": {key: value for key, value in self._config.items() if key not in _IRRELEVANT},
            "preprocessing": self.preprocessing.to_config()
            if self.preprocessing
            else self._processor_files(),
            "text": [family.pad_to, family.mask, family.canonical.__name__, self._max_tokens()],
            "tokenizer": self._tokenizer_files(),
            "pooling": "the model's own",
        }
        digest.update(json.dumps(relevant, sort_keys=True).encode())
        return f"hf-{self._config['model_type']}:{digest.hexdigest()[:16]}"

    def _processor_files(self) -> Any:
        return _optional_json(self._folder / "preprocessor_config.json")

    def _tokenizer_files(self) -> list[str]:
        names = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model")
        paths = [self._folder / name for name in names if (self._folder / name).is_file()]
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    def _as_encoder_error(self, expected: str) -> _Translated:
        return _Translated(self.name, expected)


_IRRELEVANT = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


class _Translated:
    """Turns what transformers raises into an EncoderError."""

    def __init__(self, name: str, expected: str) -> None:
        self.name, self.expected = name, expected

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, EncoderError):
            raise EncoderError(
                f"encoder {self.name}",
                expected=self.expected,
                got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}",
                fix="Check that config.json, *.safetensors, tokenizer, preprocessor_config.json are there.",
            ) from error


# ---- where the files are ----


def _folder(source: str) -> Path:
    """The folder of a local model, or of a hub model in the cache, downloaded if that is allowed."""
    path = Path(source).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return path
        raise EncoderError(
            f"encoder {display_path(path)}",
            expected="a folder with config.json",
            got="one without",
            fix="Check the path.",
        )
    repository, _, revision = source.partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise EncoderError(
            f"encoder 'hf:{source}'",
            expected="ORG/NAME of the Hugging Face hub, or a folder with config.json",
            got="neither",
            fix="Check the name or the path.",
        )
    hub = importlib.import_module("huggingface_hub")
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=_WANTED))
    except Exception as error:  # offline, no network, no such repository: the hub has a dozen kinds of them
        raise EncoderError(
            f"encoder 'hf:{source}'",
            expected="its files in the Hugging Face cache, or a connection to download them",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
            fix=(
                f"With a connection: hf download {repository}. Or copy config.json, model.safetensors, "
                "preprocessor_config.json and the tokenizer's files from "
                f"https://huggingface.co/{repository} into a folder, and pass that folder."
            ),
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            display_path(path), expected="a JSON file", got=str(error), fix="Copy the file again."
        ) from error


def _optional_json(path: Path) -> dict[str, Any] | None:
    return _json(path) if path.is_file() else None


def _transformers() -> Any:
    return import_extra("transformers", extra="hf", purpose="hf: encoders")
