"""Photos and classes that come to a fitted classifier or leave it: ``update`` and ``remove``."""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from fewclip.adapter import Adapter
from fewclip.data import Names, Prompts, labelled_sources, renamed_classes
from fewclip.data.sources import Images, Source, check_rows
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import EncodedImages
from fewclip.evaluation.metrics import check_labels
from fewclip.methods import FewShotMethod
from fewclip.support_set import Support, find_support, labels_like, refitted, texts_of_new_classes


class Updatable:
    """What of ``FewShotClassifier`` changes a fitted classifier."""

    class_names: Names | None
    templates: str | Sequence[str] | None
    classes_: np.ndarray
    encoder_: Encoder

    @abstractmethod
    def _fitted(self) -> Adapter: ...

    @abstractmethod
    def _take(self, adapter: Adapter, encoder: Encoder) -> None: ...

    @abstractmethod
    def _encode(
        self, sources: Sequence[Source], encoder: Encoder, method: FewShotMethod, *, views: int = 1
    ) -> EncodedImages: ...

    @abstractmethod
    def _validation(
        self, val: Images, encoder: Encoder, method: FewShotMethod, known: list[str], skip_unreadable: bool
    ) -> dict[str, np.ndarray]: ...

    def update(
        self,
        images: Images,
        labels: Sequence[Any] | None = None,
        *,
        prompts: Prompts | None = None,
        val: Images | None = None,
        skip_unreadable: bool = False,
    ) -> Self:
        """Adds labelled images, of known or of new classes, without encoding the others again.

        The method is fitted anew on the features that the classifier keeps and on the new ones, and its
        settings are chosen anew: the outcome is that of ``fit`` on all images.

        Args:
            images, labels: As for ``fit``.
            prompts: Sentences of new classes; else the templates of the other classes.
            val: Labelled images that the settings may be chosen on.
            skip_unreadable: Leave out images that cannot be read instead of raising.

        Raises:
            AdapterError: The classifier does not keep the features of its images.
            LabelError: An image is there with another label.
            ImageError: An image cannot be read.
        """
        start, adapter = time.perf_counter(), self._fitted()
        base = Support.of(adapter)
        data = labelled_sources(images, labels)
        check_rows(data, skip_unreadable)
        wanted = labels_like(base.classes, data.labels)
        names = labels_like(base.classes, data.classes)
        data = replace(data, labels=tuple(wanted), classes=tuple(names))
        encoded = self._encode(data.sources, self.encoder_, adapter.method, views=base.views)
        encoded.require(data.origin, skip_unreadable=skip_unreadable)
        new = [label for label in data.classes if label not in base.prompts]
        called = {
            label: name for label, name in {**data.called, **(self.class_names or {})}.items() if label in new
        }
        texts = texts_of_new_classes(
            base, new, self.encoder_, templates=self.templates, prompts=prompts, called=called
        )
        renamed = dict(renamed_classes(new, [texts[label][0] for label in new], called))
        now = base.with_classes(texts, {label: renamed[str(label)] for label in new if str(label) in renamed})
        now = now.with_images(data, encoded)
        known = [image.sha256 for image in now.support]
        self._refit(now, val, known, skip_unreadable, start, encoded.n_encoded, data.skipped)
        return self

    def remove(
        self,
        *,
        images: Sequence[str | Path] = (),
        labels: Sequence[Any] = (),
        val: Images | None = None,
    ) -> Self:
        """Takes labelled images or whole classes away; see ``update``.

        A class that loses its last image lives on its text, or goes if it has none.

        Args:
            images: Their names (``adapter_.support``), ends of names, or files with their content.
            labels: Classes that go with their images and their text.
            val: Labelled images that the settings may be chosen on.

        Raises:
            AdapterError: The classifier does not keep the features of its images.
            DataError: No such image; or fewer than two classes would be left.
            LabelError: No such class.
        """
        start, adapter = time.perf_counter(), self._fitted()
        base = Support.of(adapter)
        gone = labels_like(base.classes, labels)
        if gone:
            check_labels("labels", np.array(gone), self.classes_)
        now = base.without(find_support(base, images), set(gone))
        self._refit(now, val, [image.sha256 for image in now.support], False, start, 0, ())
        return self

    def _refit(
        self,
        now: Support,
        val: Images | None,
        known: list[str],
        skip_unreadable: bool,
        start: float,
        n_encoded: int,
        skipped: Sequence[tuple[str, str]],
    ) -> None:
        adapter = self._fitted()
        validation = (
            {} if val is None
            else self._validation(val, self.encoder_, adapter.method, known, skip_unreadable)
        )  # fmt: skip
        if getattr(adapter.method, "held_out_kind_", "") == "calibration":
            warnings.warn(
                "guarantees no longer rest on the images of calibrate; call it again with them",
                stacklevel=3,
            )
        changed = refitted(adapter, now, validation=validation, n_encoded=n_encoded, skipped=skipped)
        summary = replace(changed.summary, seconds=time.perf_counter() - start)
        self._take(replace(changed, summary=summary), self.encoder_)
