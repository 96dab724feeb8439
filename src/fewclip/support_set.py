"""The support set of a fitted classifier: taken apart, changed, and fitted again on the features it keeps.

Nothing that was encoded is encoded again, and the settings are chosen anew, as if all had been there from
the start.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.base import clone

from fewclip.adapter import Adapter, TrainingRows
from fewclip.data import LabelledSources, Names, Prompts, build_prompts, clean_class_name, image_key
from fewclip.data._display import escape
from fewclip.data.sources import portable_names
from fewclip.data.templates import DEFAULT_TEMPLATES, PLACEHOLDER
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import EncodedImages
from fewclip.encoders.text_features import encode_prompts
from fewclip.errors import AdapterError, DataError, ImageError, LabelError
from fewclip.explanation import SupportImage, make_support
from fewclip.methods import FewShotMethod

_SHOWN = 3


@dataclass(frozen=True)
class Support:
    """All that a fit needs, taken apart: what is added or removed is added to or removed from this.

    Attributes:
        features: One row a view, (r, d).
        images: Which support image each row is a view of, (r,).
        support: The labelled images, (m,).
        text: One row a class by label, or None: class means stand in.
        prompts: The sentences of each class, by label.
        renamed: (label, name) of classes that their prompts call something else.
    """

    features: np.ndarray
    images: np.ndarray
    support: tuple[SupportImage, ...]
    text: Mapping[Any, np.ndarray] | None
    prompts: Mapping[Any, list[str]]
    renamed: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, adapter: Adapter) -> Support:
        """What an adapter was fitted on.

        Raises:
            AdapterError: It does not keep the features of its images.
        """
        rows, method = adapter.rows, adapter.method
        if rows is None:
            why = "spatial tokens, which are not kept" if method.uses_tokens else "none: an older adapter"
            raise AdapterError(
                "the adapter", expected="the features of its labelled images", got=why,
                fix="Fit again on all images; what is in the store is not encoded twice.",
            )  # fmt: skip
        text = dict(zip(method.classes_.tolist(), method.text_features_.cpu().numpy(), strict=True))
        renamed = tuple((str(label), str(name)) for label, name in adapter.summary.renamed)
        return cls(
            rows.features, rows.images, adapter.support, text if rows.text else None, adapter.prompts, renamed
        )

    @property
    def views(self) -> int:
        """Rows of each image."""
        return max(1, len(self.images) // max(1, len(self.support)))

    @property
    def classes(self) -> list[Any]:
        """Labels, sorted."""
        return sorted(self.prompts)

    def without(self, places: set[int], labels: set[Any]) -> Support:
        """Without these images, and without these classes."""
        kept = [i for i, image in enumerate(self.support) if i not in places and image.label not in labels]
        place = {old: new for new, old in enumerate(kept)}
        rows = [r for r, image in enumerate(self.images.tolist()) if image in place]
        alive = {self.support[i].label for i in kept} if self.text is None else set(self.prompts)
        classes = [label for label in self.prompts if label in alive - labels]
        return Support(
            self.features[rows],
            np.array([place[int(i)] for i in self.images[rows]], dtype=np.int64),
            tuple(self.support[i] for i in kept),
            None if self.text is None else {label: self.text[label] for label in classes},
            {label: self.prompts[label] for label in classes},
            tuple(entry for entry in self.renamed if entry[0] in set(map(str, classes))),
        )

    def with_images(self, data: LabelledSources, encoded: EncodedImages) -> Support:
        """With these images of classes that exist.

        Args:
            data: The images.
            encoded: Their features, as many rows each as the others have.
        """
        fresh = [i for i in self._unknown(data, encoded) if i not in encoded.errors]
        names = [
            name if "/" in name else f"{escape(str(label))}/{name}"
            for name, label in zip(portable_names(data.names), data.labels, strict=True)
        ]
        part = data.take(fresh)
        keys = [encoded.keys[i] for i in fresh]
        added = make_support(part.sources, [names[i] for i in fresh], part.labels, keys)
        place = {old: len(self.support) + new for new, old in enumerate(fresh)}
        rows = [r for r, image in enumerate(encoded.images.tolist()) if image in place]
        features = encoded.features[rows]
        return replace(
            self,
            features=np.concatenate([self.features, features]),
            images=np.concatenate([self.images, [place[int(i)] for i in encoded.images[rows]]]).astype(
                np.int64
            ),
            support=self.support + added,
        )

    def _unknown(self, data: LabelledSources, encoded: EncodedImages) -> list[int]:
        """Images that are not there yet; those that are get a warning, or an error if the label differs."""
        known = {image.sha256: image.label for image in self.support}
        there, fresh, twice = set(known), [], []
        for i, (key, label) in enumerate(zip(encoded.keys, data.labels, strict=True)):
            if known.setdefault(key or f"unreadable {i}", label) != label:
                raise LabelError(
                    data.names[i], expected=f"the label {known[key]!r}, as before", got=repr(label),
                    fix="Remove it first, if the old label is wrong: remove(images=[…]) (fewclip remove).",
                )  # fmt: skip
            (twice if key in there else fresh).append(i)
        firsts = {encoded.keys[i]: i for i in reversed(fresh)}
        twice += [i for i in fresh if encoded.keys[i] and firsts[encoded.keys[i]] != i]
        if twice:
            names = ", ".join(data.names[i] for i in twice[:_SHOWN]) + (", …" if len(twice) > _SHOWN else "")
            warnings.warn(f"{len(twice)} images are there already and are left out: {names}", stacklevel=5)
        return [i for i in fresh if i not in set(twice)]

    def with_classes(self, texts: Mapping[Any, tuple[list[str], Any]], called: Mapping[Any, str]) -> Support:
        """With further classes.

        Args:
            texts: Label → (sentences, features of them (p, d)).
            called: What a class is called, where its prompts use another name than its label.
        """
        text = (
            None if self.text is None else {**self.text, **{k: mean(rows) for k, (_, rows) in texts.items()}}
        )
        renamed = tuple((str(label), name) for label, name in called.items() if label in texts)
        return replace(
            self, text=text, prompts={**self.prompts, **{k: s for k, (s, _) in texts.items()}},
            renamed=(*self.renamed, *renamed),
        )  # fmt: skip


def mean(rows: Any) -> np.ndarray:
    """One unit row of the features of several sentences, (p, d) → (d,)."""
    rows = np.asarray(rows, dtype=np.float64).reshape(-1, np.shape(rows)[-1])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    row = rows.mean(0)
    return (row / np.linalg.norm(row)).astype(np.float32)


def labels_like(classes: Sequence[Any], labels: Iterable[Any]) -> list[Any]:
    """Labels of the type that the classifier's have: "7" is 7 where all classes are numbers.

    Raises:
        LabelError: A label of another type.
    """
    found = []
    for label in labels:
        if all(isinstance(known, int) for known in classes) and str(label).lstrip("-").isdigit():
            label = int(label)
        if not isinstance(label, type(classes[0])):
            raise LabelError(
                repr(label), expected=f"a label like {classes[0]!r}", got=type(label).__name__,
                fix="Use labels of the type that the classifier was fitted with.",
            )  # fmt: skip
        found.append(label)
    return found


def texts_of_new_classes(
    base: Support,
    new: Sequence[Any],
    encoder: Encoder,
    *,
    templates: str | Sequence[str] | None,
    prompts: Prompts | None,
    called: Names | None,
) -> dict[Any, tuple[list[str], Any]]:
    """Label → (sentences, features): by the given prompts, else by the templates of the other classes."""
    if base.text is None or not new:
        return {label: ([], None) for label in new}
    if templates is None and prompts is None:
        templates = templates_of(base)
    sentences = build_prompts(new, templates=templates, prompts=prompts, called=called)
    return dict(zip(new, zip(sentences, encode_prompts(encoder, sentences), strict=True), strict=True))


def templates_of(base: Support) -> list[str]:
    """The templates that the prompts of all classes were made of; else the default ones, with a warning."""
    names = dict(base.renamed)
    found: list[list[str]] = []
    for label, sentences in base.prompts.items():
        name = names.get(str(label), clean_class_name(str(label)))
        found.append([sentence.replace(name, PLACEHOLDER) for sentence in sentences])
    first = found[0] if found else []
    if first and all(PLACEHOLDER in text for text in first) and all(texts == first for texts in found):
        return first
    warnings.warn(
        "the prompts of the other classes are sentences of their own; the new ones get "
        f"{DEFAULT_TEMPLATES[0]!r}: pass prompts= (--prompts)",
        stacklevel=4,
    )
    return list(DEFAULT_TEMPLATES)


def find_support(base: Support, images: Iterable[str | Path]) -> set[int]:
    """Places of the support images of these names, or of these contents where a file exists.

    Raises:
        DataError: There is none, or the end of a name fits several.
    """
    names = [image.name for image in base.support]
    return {place for image in images for place in _places(base, os.fspath(image), names)}


def _places(base: Support, image: str, names: Sequence[str]) -> list[int]:
    named = [i for i, name in enumerate(names) if name == image]
    if len(named) != 1 and os.path.isfile(image):  # no name, or that of several: the content decides
        try:
            key = image_key(image)
        except ImageError:
            key = ""
        same = [i for i, known in enumerate(base.support) if known.sha256 == key]
        if same:
            return same
    ends = named or [i for i, name in enumerate(names) if name.endswith("/" + image.lstrip("/"))]
    if not ends:
        near = difflib.get_close_matches(image, names, n=3) or list(names[:3])
        raise DataError(
            image, expected="a labelled image of the classifier", got="a name that none of them has",
            fix=f"Some that it has: {', '.join(near)}.",
        )  # fmt: skip
    if len(ends) > 1:
        raise DataError(
            image, expected="the name of one image",
            got=f"{len(ends)}: {', '.join(names[i] for i in ends[:3])}",
            fix="Name it with its folder, or give the file itself.",
        )  # fmt: skip
    return ends


def refitted(
    adapter: Adapter,
    now: Support,
    *,
    validation: Mapping[str, np.ndarray],
    n_encoded: int,
    skipped: Sequence[tuple[str, str]] = (),
) -> Adapter:
    """The adapter of a method that is fitted anew on ``now``.

    Raises:
        DataError: Fewer than two classes, or no image at all, are left.
    """
    if len(now.classes) < 2 or not now.support:
        got = f"{len(now.classes)} with {len(now.support)} images"
        raise DataError("the classifier", expected="two classes and an image", got=got, fix="Keep more.")
    if adapter.method.selection_.protocol in ("full", "fewshot") and not validation:
        warnings.warn(
            "the settings had been chosen on validation images, which are not kept; pass val= (--val) again, "
            "or they are chosen by leave-one-out",
            stacklevel=3,
        )
    method = cast(FewShotMethod, clone(adapter.method))
    text = None if now.text is None else np.stack([now.text[label] for label in now.classes])
    method.set_params(text_features=text, classes=np.array(now.classes))
    labels = np.array([now.support[i].label for i in now.images])
    method.fit(now.features, labels, groups=now.images, **validation)
    counts = Counter(image.label for image in now.support)
    summary = replace(
        adapter.summary,
        scores=method.calibration_note(),
        shots={label: counts[label] for label in now.classes},
        selection=method.selection_,
        n_encoded=n_encoded,
        skipped=tuple(skipped),
        renamed=now.renamed,
    )
    prompts = {label: list(now.prompts[label]) for label in now.classes}
    rows = TrainingRows(now.features, now.images, now.text is not None)
    return replace(adapter, method=method, prompts=prompts, support=now.support, summary=summary, rows=rows)
