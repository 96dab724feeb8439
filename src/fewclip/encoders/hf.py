"""CLIP and its relatives through transformers: from the hub, its cache, or a folder. No torchvision."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewclip.encoders._batches import Source, check_list, input_batches
from fewclip.encoders._hf_files import (
    Translated,
    model_folder,
    optional_json,
    read_json,
    transformers_library,
    without_bars,
)
from fewclip.encoders._runtime import OpenedOnce, n_processors
from fewclip.encoders.families import FAMILIES, Family
from fewclip.encoders.hf_text import TextInputs
from fewclip.encoders.preprocessing import Preprocessing
from fewclip.errors import EncoderError, ParameterError

_MANY_WORDS = 100_000  # English vocabularies have 30,000 to 50,000 pieces, multilingual ones 250,000
_IRRELEVANT = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


class HFEncoder:
    """A two-tower model of transformers: CLIP, MetaCLIP, SigLIP, SigLIP 2, ChineseCLIP, AltCLIP, ALIGN.

    Args:
        source: ``ORG/NAME`` or ``ORG/NAME@REVISION`` on the Hugging Face hub (downloaded once; the
            environment variable HF_HUB_OFFLINE=1 forbids it), or a folder with config.json.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda:1``, …
        batch_size: Images or texts per run, at least 1. Changes memory and speed, not results.
        folder: Where its files are, if that is known already.

    Attributes:
        name: The name that opens it again.
        preprocessing: From the folder's preprocessor_config.json; None where transformers' processor does it.
        text: Turns sentences into tokens.

    Raises:
        MissingExtraError: transformers is not installed.
        EncoderError: Not such a model, no safetensors weights, or not cached and no network.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        device: str = "auto",
        batch_size: int = 32,
        folder: Path | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ParameterError(
                "batch_size of HFEncoder",
                expected="an integer of at least 1",
                got=repr(batch_size),
                fix="Use 32.",
            )
        self.source, self.device, self.batch_size = str(source), device, batch_size
        transformers_library()
        self._folder = model_folder(self.source) if folder is None else folder
        self.name = f"hf:{self.source}"
        self._config = read_json(self._folder / "config.json")
        self._family = self._family_of(self._config.get("model_type"))
        self._open = OpenedOnce().get
        options = optional_json(self._folder / "preprocessor_config.json")
        if options is None:
            options = (optional_json(self._folder / "processor_config.json") or {}).get("image_processor", {})
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
        self.text = TextInputs(self._folder, self._family, self._config, self.name)

    # ---- the protocol ----

    @property
    def dim(self) -> int:
        """Channels d."""
        return self._open("dim", self._dim)

    @property
    def logit_scale(self) -> float:
        """The model's own factor on cosines: exp of the learnt number; ALIGN learns its inverse."""
        return self._open("logit_scale", self._logit_scale)

    @property
    def multilingual(self) -> bool:
        """Whether the text tower knows other languages than English: by its kind, or by its vocabulary."""
        words = (self._config.get("text_config") or {}).get("vocab_size") or 0
        return self._family.multilingual or int(words) >= _MANY_WORDS

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
        torch = importlib.import_module("torch")
        ids = self.text.ids(texts)
        for start in range(0, len(texts), self.batch_size):
            batch = self.text.padded(ids[start : start + self.batch_size])
            tokens = {name: torch.from_numpy(value) for name, value in batch.items()}
            out[start : start + self.batch_size] = self._run("get_text_features", tokens)
        return out

    @property
    def model_type(self) -> str:
        """As config.json has it."""
        return self._config["model_type"]

    # ---- pickling and copying ----

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r}, device={self.device!r}, batch_size={self.batch_size})"

    def __deepcopy__(self, memo: dict[int, Any]) -> HFEncoder:
        return self  # frozen, and safe to share

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "device": self.device, "batch_size": self.batch_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        HFEncoder.__init__(self, **state)

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
        torch, transformers = importlib.import_module("torch"), transformers_library()
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        with self._as_encoder_error("a model that transformers can open"), without_bars():
            model = transformers.AutoModel.from_pretrained(
                self._folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
            )
            return model.train(False).to(device)

    def _processed(self, image: np.ndarray) -> dict[str, Any]:
        processor = self._open("processor", self._load_processor)
        return dict(processor(images=Image.fromarray(image), return_tensors="pt"))

    def _load_processor(self) -> Any:
        with self._as_encoder_error("a processor that transformers can open"):
            return transformers_library().AutoImageProcessor.from_pretrained(
                self._folder, local_files_only=True, backend="pil"
            )

    def _default_processor(self) -> dict[str, Any]:
        """What transformers takes where the configuration is silent: its class's own values."""
        kind = "SiglipImageProcessorPil" if self._family.square else "CLIPImageProcessorPil"
        found = getattr(transformers_library(), kind, None)
        names = ("size", "crop_size", "resample", "image_mean", "image_std", "do_center_crop", "do_resize")
        names += ("do_rescale", "do_normalize")
        values = {name: getattr(found, name, None) for name in names}
        return {name: value for name, value in values.items() if value is not None}

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
        """Channels, without opening the weights: a second run needs nothing else of them."""
        with self._as_encoder_error("a configuration that transformers can open"):
            config = transformers_library().AutoConfig.from_pretrained(self._folder, local_files_only=True)
        projected = getattr(config, "projection_dim", None)
        return int(config.vision_config.hidden_size if projected is None else projected)

    def _logit_scale(self) -> float:
        numbers = _numbers(self._weights)
        if "temperature" in numbers:
            return 1 / numbers["temperature"]
        if "logit_scale" in numbers:
            return float(np.exp(numbers["logit_scale"]))
        raise EncoderError(
            f"encoder {self.name}",
            expected="weights with logit_scale or temperature",
            got="weights without",
            fix="Copy the weights of the whole model, not of one tower.",
        )

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in self._weights:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        relevant = {
            "config": {key: value for key, value in self._config.items() if key not in _IRRELEVANT},
            "preprocessing": self.preprocessing.to_config()
            if self.preprocessing
            else self._processor_files(),
            **self.text.facts(),
            "pooling": "the model's own",
        }
        digest.update(json.dumps(relevant, sort_keys=True).encode())
        return f"hf-{self._config['model_type']}:{digest.hexdigest()[:16]}"

    def _processor_files(self) -> Any:
        return optional_json(self._folder / "preprocessor_config.json")

    def _as_encoder_error(self, expected: str) -> Translated:
        return Translated(self.name, expected)


def _numbers(weights: Sequence[Path]) -> dict[str, float]:
    """The single numbers among the weights that scale cosines; nothing else is read."""
    from safetensors import safe_open

    found = {}
    for path in weights:
        with safe_open(path, framework="pt") as file:
            for name in {"logit_scale", "temperature"} & set(file.keys()):
                found[name] = float(file.get_tensor(name))
    return found
