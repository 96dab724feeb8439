"""An adapter: a fitted method with all that a classifier needs to use and to explain it, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from fewclip import card
from fewclip.data import FeatureStore, LabelledSources, display_path
from fewclip.data.sources import portable_names
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import EncodedImages
from fewclip.explanation import SupportImage, make_support
from fewclip.method_state import method_state, restore_method
from fewclip.methods import FewShotMethod, method_name
from fewclip.persistence import read_adapter, write_adapter
from fewclip.summary import Summary
from fewclip.versions import installed_versions


@dataclass(frozen=True)
class TrainingRows:
    """What a method was fitted on: enough to fit it again without its images.

    Attributes:
        features: One row a view, (r, d).
        images: Which support image each row is a view of, (r,).
        text: Whether the classes have text features; else class means stand in.
    """

    features: np.ndarray
    images: np.ndarray
    text: bool

    @classmethod
    def of(cls, method: FewShotMethod, encoded: EncodedImages) -> Self | None:
        """Those of a fit; None with spatial tokens, which are too many to be kept."""
        if encoded.features.ndim != 2:
            return None
        places = np.unique(encoded.images, return_inverse=True)[1]
        return cls(encoded.features, places, method.text_features is not None)

    def to_disk(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(configuration, arrays): rows that are the method's keys are not written twice."""
        if np.array_equal(self.images, np.arange(len(self.features))):
            return {"text": self.text, "rows": "keys"}, {}
        arrays = {"training.features": self.features, "training.images": self.images}
        return {"text": self.text, "rows": "views"}, arrays

    @classmethod
    def from_disk(
        cls, config: Mapping[str, Any] | None, tensors: Mapping[str, np.ndarray], method: FewShotMethod
    ) -> Self | None:
        """The rows that ``to_disk`` took apart; None where an adapter has none."""
        if config is None:
            return None
        keys = method.support_features_.cpu().numpy()
        if config["rows"] == "keys":
            return cls(keys, np.arange(len(keys)), bool(config["text"]))
        features, images = tensors["training.features"], tensors["training.images"]
        if features.shape != (len(images), keys.shape[1]) or set(images.tolist()) != set(range(len(keys))):
            raise ValueError("training rows that do not go with the support images")
        return cls(features, images, bool(config["text"]))


@dataclass(frozen=True)
class Adapter:
    """What ``FewShotClassifier.fit`` makes, and what lies on disk.

    Attributes:
        method: The fitted method.
        encoder_name: Opens the encoder again.
        fingerprint: Of the encoder that the features come from.
        prompts: The sentences of each class, by label in the order of ``method.classes_``.
        support: The labelled images, in the order of the method's keys.
        summary: What the fit did.
        rows: What the method was fitted on; None if that is not kept.
    """

    method: FewShotMethod
    encoder_name: str
    fingerprint: str
    prompts: Mapping[Any, list[str]]
    support: tuple[SupportImage, ...]
    summary: Summary
    rows: TrainingRows | None = None

    @classmethod
    def of(
        cls,
        method: FewShotMethod,
        encoder: Encoder,
        data: LabelledSources,
        encoded: EncodedImages,
        prompts: Mapping[Any, list[str]],
        *,
        renamed: Sequence[tuple[str, str]] = (),
        seconds: float,
        store: FeatureStore | None = None,
    ) -> Self:
        """The adapter of a fitted method, with thumbnails of the images that could be read."""
        kept = sorted(set(encoded.images.tolist()))
        support, names = data.take(kept), portable_names(data.names)
        summary = Summary(
            method=method_name(method),
            encoder=encoder.name,
            shots=support.shots(),
            selection=method.selection_,
            n_features=encoder.dim,
            seconds=seconds,
            n_encoded=encoded.n_encoded,
            skipped=(*data.skipped, *((names[i], "cannot be read") for i in encoded.errors)),
            origin=data.origin,
            renamed=renamed,
            scores=method.calibration_note(),
        )
        thumbnails = make_support(
            support.sources,
            [names[i] for i in kept],
            support.labels,
            [encoded.keys[i] for i in kept],
            store=store,
        )
        rows = TrainingRows.of(method, encoded)
        return cls(method, encoder.name, encoder.fingerprint, prompts, thumbnails, summary, rows)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the adapter's folder.

        Raises:
            AdapterError: The path is taken, or cannot be written.
        """
        method, tensors = method_state(self.method)
        training, arrays = (None, {}) if self.rows is None else self.rows.to_disk()
        paths = [f"thumbnails/{i:05d}.jpg" if im.thumbnail else None for i, im in enumerate(self.support)]
        pictures = zip(paths, self.support, strict=True)
        thumbnails = {path: image.thumbnail for path, image in pictures if path is not None}
        facts = self.summary.facts()
        config = {
            "method": method,
            "encoder": {"name": self.encoder_name, "fingerprint": self.fingerprint},
            "prompts": list(self.prompts.values()),
            "support": [
                {"name": image.name, "label": image.label, "sha256": image.sha256, "thumbnail": path}
                for image, path in zip(self.support, paths, strict=True)
            ],
            "fit": facts,
            "training": training,
            "versions": installed_versions(),
        }
        readme = card.write(
            display_path(Path(folder).name),
            config,
            str(replace(self.summary, origin=facts["origin"], skipped=facts["skipped"])),
        )
        files = {"README.md": readme.encode(), **thumbnails}
        return write_adapter(
            folder, config=config, tensors=tensors | arrays, files=files, overwrite=overwrite
        )

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Reads the folder that ``save`` wrote.

        Args:
            folder: Where.
            device: Where the method computes.

        Raises:
            AdapterError: No adapter there, or a damaged one.
        """
        stored = read_adapter(folder)
        config = stored.config
        with stored.well_formed():
            method = restore_method(config["method"], stored.tensors, device=device)
            prompts = dict(zip(method.classes_.tolist(), config["prompts"], strict=True))
            support = tuple(
                SupportImage(
                    entry["name"],
                    entry["label"],
                    entry["sha256"],
                    b"" if entry["thumbnail"] is None else stored.file(entry["thumbnail"]),
                )
                for entry in config["support"]
            )
            encoder = config["encoder"]
            if not all(isinstance(encoder[key], str) for key in ("name", "fingerprint")):
                raise ValueError("an encoder whose name or fingerprint is no text")
            summary = Summary.from_facts(
                config["fit"],
                method=method_name(method),
                encoder=encoder["name"],
                classes=method.classes_.tolist(),
                selection=method.selection_,
                scores=method.calibration_note(),
            )
            str(summary)  # raises if a figure in it is none
            if len(support) != len(method.support_labels_):
                raise ValueError(f"{len(support)} support images for {len(method.support_labels_)} keys")
            rows = TrainingRows.from_disk(config.get("training"), stored.tensors, method)
            return cls(method, encoder["name"], encoder["fingerprint"], prompts, support, summary, rows)
