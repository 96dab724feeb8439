"""Where the files of a model of transformers are, and what is wrong with them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewclip.data import display_path
from fewclip.encoders._runtime import import_extra
from fewclip.errors import EncoderError

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]  # of a hub repository; no pickled weights


class Translated:
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


def model_folder(source: str) -> Path:
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


def read_json(path: Path) -> dict[str, Any]:
    """Raises EncoderError for what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            display_path(path), expected="a JSON file", got=str(error), fix="Copy the file again."
        ) from error


def optional_json(path: Path) -> dict[str, Any] | None:
    """None if there is no such file."""
    return read_json(path) if path.is_file() else None


def transformers_library() -> Any:
    """Raises MissingExtraError if it is not installed."""
    return import_extra("transformers", extra="hf", purpose="hf: encoders")


@contextmanager
def without_bars() -> Iterator[None]:
    """No bar of transformers' own for weights that are read in a moment; ``--quiet`` means quiet."""
    logging = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
