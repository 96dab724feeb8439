"""Sentences to what the text tower of a model of transformers takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewclip.encoders._hf_files import Translated, transformers_library
from fewclip.encoders._runtime import OpenedOnce, warn_of_cut
from fewclip.encoders.families import Family
from fewclip.errors import EncoderError

_FILES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_HASHED = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model")


class TextInputs:
    """Tokens of sentences as the family was trained on them.

    Args:
        folder: Of the model.
        family: How it treats text.
        config: What its config.json says.
        name: The encoder's, for errors.

    Attributes:
        max_tokens: What the tower sees at most.
    """

    def __init__(self, folder: Path, family: Family, config: Mapping[str, Any], name: str) -> None:
        self.folder, self.family, self.name = folder, family, name
        positions = (config.get("text_config") or {}).get("max_position_embeddings") or family.max_tokens
        self.max_tokens = min(family.max_tokens, int(positions))
        self._open = OpenedOnce().get

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each sentence, tokenised once; longer ones are cut, with a warning.

        Raises:
            EncoderError: The folder has no tokenizer.
        """
        sentences = [self.family.canonical(text) for text in texts]
        rows: list[list[int]] = self._tokenizer()(sentences, verbose=False)["input_ids"]
        long = [len(row) > self.max_tokens for row in rows]
        warn_of_cut(texts, long, self.max_tokens)
        for i in np.flatnonzero(long):  # where special tokens go, the tokenizer knows
            options = {"truncation": True, "max_length": self.max_tokens}
            rows[i] = self._tokenizer()(sentences[i], **options)["input_ids"]
        return rows

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """A batch of token ids, (n, length) int64, and the attention mask where the family has one."""
        tokenizer = self._tokenizer()
        length = self.max_tokens if self.family.pad_to else max(map(len, rows))
        ids = np.full((len(rows), length), self.pad_token, dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            where = slice(length - len(row), None) if tokenizer.padding_side == "left" else slice(len(row))
            ids[i, where], mask[i, where] = row, 1
        # SigLIP was trained without a mask: with one its features are others.
        return {"input_ids": ids, "attention_mask": mask} if self.family.mask else {"input_ids": ids}

    @property
    def pad_token(self) -> int:
        """The id that fills short rows."""
        return int(self._tokenizer().pad_token_id or 0)

    def facts(self) -> dict[str, Any]:
        """What changes features, for a fingerprint."""
        family = self.family
        paths = [self.folder / name for name in _HASHED if (self.folder / name).is_file()]
        return {
            "text": [family.pad_to, family.mask, family.canonical.__name__, self.max_tokens],
            "tokenizer": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths],
        }

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

    def _tokenizer(self) -> Any:
        return self._open("tokenizer", self._load)

    def _load(self) -> Any:
        if not any((self.folder / name).is_file() for name in _FILES):
            raise EncoderError(
                f"encoder {self.name}",
                expected=f"a tokenizer, one of {', '.join(_FILES)}",
                got="a folder without",
                fix="Copy the tokenizer's files into the folder; images can be encoded without.",
            )
        with Translated(self.name, "a tokenizer that transformers can open"):
            return transformers_library().AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
