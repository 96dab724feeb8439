"""FewShotClassifier: an encoder before a method, from folders of images to labels and back to disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tqdm import tqdm

from fewclip.adapter import Adapter
from fewclip.data import (
    FeatureStore,
    Names,
    Prompts,
    build_prompts,
    display_path,
    draw_shots,
    renamed_classes,
    warn_of_names,
)
from fewclip.data.sources import (
    Images,
    LabelledSources,
    Source,
    labelled_sources,
    named_sources,
)
from fewclip.encoders import load_encoder, opens_by_name
from fewclip.encoders.base import Encoder, TokenEncoder
from fewclip.encoders.features import EncodedImages, encode_prompts, encode_sources, require_readable
from fewclip.encoders.ready import NAME as READY
from fewclip.encoders.ready import ReadyEncoder
from fewclip.errors import DataError, EncoderError, ParameterError
from fewclip.evaluation import Evaluation
from fewclip.evaluation.metrics import check_labels
from fewclip.explanation import Explanation, explain
from fewclip.methods import METHODS, FewShotMethod
from fewclip.predictions import Prediction

_CHUNK = 1024  # images classified at once: bounds the memory of a bulk prediction
_TOKEN_CHUNK = 128  # and with spatial tokens, about a hundred vectors an image


class FewShotClassifier:
    """Classifies images after a few labelled ones per class.

    Args:
        encoder: ``"pocket"`` (embedded), or any object with the ``Encoder`` protocol.
        method: A name in ``fewclip.methods.METHODS``, or an unfitted method with settings of your own,
            such as ``APE(alpha=1.0, beta=5.5)``; its text features and classes are filled in here.
        class_names: What to call each class in its prompts, ``{label: name}`` or ``{label: [name, …]}`` for
            prompts of every name; labels it leaves out are called by themselves, with ``_`` and ``-`` as
            spaces.
        templates: Sentences with ``{}`` where the class name goes, or the name of a set in
            ``fewclip.data.TEMPLATE_SETS``, such as ``"openai-7"``.
        prompts: Sentences of your own, ``{label: [sentence, …]}``, instead of the templates; or what
            ``fewclip.data.read_prompts`` gives.
        views: 1: every labelled image as it is. V > 1: V random views of each (crop of 50–100 % of the
            area, flip); costs V times the encoding.
        selection: Passed to a method given by name; see ``FewShotMethod``.
        device: Passed to a method given by name. The encoder has a device of its own.
        random_state: Seed of views and of methods that draw random numbers.
        store: Where features are kept between runs; None: the user's cache folder.
        batch_size: Images handed to the encoder at once.
        progress: Show bars on stderr.

    Attributes:
        classes_: Sorted labels, (c,).
        encoder_: The opened encoder.
        method_: The fitted method.
        summary_: What ``fit`` did and how good it is; print it.
    """

    def __init__(
        self,
        encoder: str | Encoder = "pocket",
        method: str | FewShotMethod = "ape",
        *,
        class_names: Names | None = None,
        templates: str | Sequence[str] | None = None,
        prompts: Prompts | None = None,
        views: int = 1,
        selection: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
        store: FeatureStore | None = None,
        batch_size: int = 64,
        progress: bool = True,
    ) -> None:
        self.encoder = encoder
        self.method = method
        self.class_names = class_names
        self.templates = templates
        self.prompts = prompts
        self.views = views
        self.selection = selection
        self.device = device
        self.random_state = random_state
        self.store = store
        self.batch_size = batch_size
        self.progress = progress

    def __repr__(self) -> str:
        encoder = self.encoder if isinstance(self.encoder, str) else self.encoder.name
        state = f", fitted: {len(self.classes_)} classes" if hasattr(self, "classes_") else ""
        return f"FewShotClassifier(encoder={encoder!r}, method={self.method!r}{state})"

    # ---- fit ----

    def fit(
        self,
        images: Images,
        labels: Sequence[str] | None = None,
        *,
        val: str | Path | None = None,
        shots: int | None = None,
        seed: int = 0,
        skip_unreadable: bool = False,
    ) -> Self:
        """Adapts to labelled images.

        Args:
            images: A folder of class folders (or its train split), a table with path and label, a list of
                paths and PIL images, or a file of ready features (``data.ready_features``).
            labels: The label of each image of a list.
            val: Labelled images that the settings may be chosen on, as a folder or table.
            shots: Use this many images of each class, drawn by ``seed``; None: all.
            seed: Seed of the draw.
            skip_unreadable: Leave out images that cannot be read, and say so, instead of raising.

        Raises:
            DataError: No labelled images there, or fewer than two classes.
            ImageError: An image cannot be read.
        """
        start = time.perf_counter()
        method = self._new_method()
        data = labelled_sources(images, labels)
        if shots is not None:
            if shots > max(data.shots().values()):
                warnings.warn(f"no class has {shots} images; all images are used", stacklevel=2)
            data = data.take(draw_shots(data.labels, shots, seed=seed))
        check_two_classes(data)
        check_rows(data, skip_unreadable)
        encoder = self._encoder_for(data)
        encoded = self._encode(data.sources, encoder, method, views=1 if data.ready else self.views)
        encoded.require(data.origin, skip_unreadable=skip_unreadable)
        _warn_of_twins(data, encoded)
        text_features, sentences = self._text(data, encoder)
        method.set_params(
            text_features=text_features,
            classes=np.array(data.classes),
            logit_scale=encoder.logit_scale,
        )
        extra = {} if val is None else self._validation(val, encoder, method, skip_unreadable)
        y = np.array(data.labels)[encoded.images]
        method.fit(encoded.features, y, groups=encoded.images, **extra)
        prompts = dict(zip(data.classes, sentences, strict=True))
        renamed = renamed_classes(data.classes, sentences, self.class_names)
        seconds = time.perf_counter() - start
        adapter = Adapter.of(method, encoder, data, encoded, prompts, renamed=renamed, seconds=seconds)
        self._take(adapter, encoder)
        return self

    def _encoder_for(self, data: LabelledSources) -> Encoder:
        """The encoder; for ready features the one that made them, or a stand-in that knows their space."""
        if data.ready is None:
            return load_encoder(self.encoder)
        ready, default = data.ready, isinstance(self.encoder, str) and self.encoder == "pocket"
        if not default or opens_by_name(ready.encoder):
            return load_encoder(ready.encoder if default else self.encoder)
        scale = 100.0 if ready.logit_scale is None else ready.logit_scale
        return ReadyEncoder(ready.features.shape[1], logit_scale=scale, fingerprint=ready.fingerprint)

    def _text(self, data: LabelledSources, encoder: Encoder) -> tuple[Any, list[list[str]]]:
        """Text features of the classes, c arrays, and the sentences; None where class means stand in."""
        given = None if data.ready is None else data.ready.text_by_class()
        if given is not None or isinstance(encoder, ReadyEncoder):
            return given, [[] for _ in data.classes]
        sentences = build_prompts(
            data.classes, templates=self.templates, prompts=self.prompts, called=self.class_names
        )
        warn_of_names(
            data.classes, sentences, self.class_names, multilingual=getattr(encoder, "multilingual", False)
        )
        return encode_prompts(encoder, sentences), sentences

    def _new_method(self) -> FewShotMethod:
        if isinstance(self.method, FewShotMethod):
            return cast(FewShotMethod, clone(self.method))
        if self.method in METHODS:
            method = METHODS[self.method](selection=self.selection, device=self.device)
            method.random_state = self.random_state
            if "verbose" in method.get_params():
                method.set_params(verbose=self.progress)
            return method
        raise ParameterError(
            "method",
            expected=f"one of {', '.join(METHODS)}, or a method object",
            got=repr(self.method),
            fix="`fewclip list` describes them.",
        )

    def _validation(
        self, val: str | Path, encoder: Encoder, method: FewShotMethod, skip_unreadable: bool
    ) -> dict[str, np.ndarray]:
        data = labelled_sources(val, None, prefer="val")
        check_rows(data, skip_unreadable)
        encoded = self._encode(data.sources, encoder, method)
        encoded.require(data.origin, skip_unreadable=skip_unreadable)
        return {"X_val": encoded.features, "y_val": np.array(data.labels)[encoded.images]}

    def _encode(
        self,
        sources: Sequence[Source],
        encoder: Encoder,
        method: FewShotMethod,
        *,
        views: int = 1,
        progress: tqdm | None = None,
    ) -> EncodedImages:
        if self.store is None:
            self.store = FeatureStore()
        return encode_sources(
            sources,
            encoder,
            store=self.store,
            views=views,
            random_state=self.random_state or 0,
            batch_size=self.batch_size,
            tokens=with_tokens(method, encoder),
            progress=self.progress if progress is None else progress,
        )

    def _classified(self, sources: Sequence[Source], task: str) -> Iterator[tuple[EncodedImages, np.ndarray]]:
        """Some images at a time: what the encoder made of them, and the probabilities of each row."""
        step = _TOKEN_CHUNK if with_tokens(self.method_, self.encoder_) else _CHUNK
        with tqdm(total=len(sources), desc=task, unit="image", disable=not self.progress, delay=0.5) as bar:
            for start in range(0, len(sources), step):
                part = sources[start : start + step]
                encoded = self._encode(part, self.encoder_, self.method_, progress=bar)
                rows = len(encoded.features)
                probabilities = (
                    self.method_.predict_proba(encoded.features)
                    if rows
                    else np.empty((0, len(self.classes_)))
                )
                yield encoded, probabilities

    # ---- predict ----

    def predict(self, images: Images) -> np.ndarray:
        """Labels, (n,), of paths, PIL images, a folder or a glob.

        Raises:
            ImageError: An image cannot be read; ``classify`` gives such rows an error instead.
        """
        probabilities = self.predict_proba(images)
        return self.classes_[probabilities.argmax(1)]

    def predict_proba(self, images: Images) -> np.ndarray:
        """Probabilities, (n, c), columns in the order of ``classes_``.

        Raises:
            ImageError: An image cannot be read.
        """
        self._fitted()
        rows = [np.empty((0, len(self.classes_)))]
        for encoded, probabilities in self._classified(
            [im.source for im in named_sources(images)], "predict"
        ):
            for error in encoded.errors.values():
                raise error
            rows.append(probabilities)
        return np.concatenate(rows)

    def classify(self, images: Images, *, top: int | None = None) -> Iterator[Prediction]:
        """One row for every image, in order; one that cannot be read has an error instead of classes.

        Rows come as they are ready, so millions of images need no more memory than a thousand.

        Args:
            images: Paths, PIL images, a folder or a glob.
            top: Classes a row, at least 1; None: all.
        """
        self._fitted()
        if top is not None and top < 1:
            raise ParameterError(
                "top", expected="at least 1", got=repr(top), fix="Leave it out for all classes."
            )
        found = named_sources(images)
        images_left = iter(found)
        for encoded, probabilities in self._classified([image.source for image in found], "predict"):
            rows = iter(probabilities)
            for i, image in zip(range(len(encoded.keys)), images_left, strict=False):
                if i in encoded.errors:
                    yield Prediction(image.name, error=encoded.errors[i])
                else:
                    yield self._prediction(image.name, next(rows), top)

    def _prediction(self, name: str, probabilities: np.ndarray, top: int | None) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")[:top]
        labels = tuple(str(label) for label in self.classes_[order])
        return Prediction(name, labels, tuple(probabilities[order].tolist()))

    def evaluate(
        self, images: Images, labels: Sequence[str] | None = None, *, skip_unreadable: bool = False
    ) -> Evaluation:
        """Measures the classifier on labelled images; those it was fitted on are left out, with a warning.

        Args:
            images: A folder of class folders (or its test split), a table, or a list of images.
            labels: The label of each image of a list.
            skip_unreadable: Leave out images that cannot be read instead of raising.

        Raises:
            LabelError: A label that the classifier does not know.
            DataError: No images but those that it was fitted on.
        """
        seen = {image.sha256 for image in self._fitted().support}
        data = labelled_sources(images, labels, prefer="test")
        check_rows(data, skip_unreadable)
        check_labels("labels", np.array(data.labels), self.classes_)  # before, not after, hours of encoding
        keys: list[str] = []
        images_read, rows, errors = [], [], {}
        for encoded, probabilities in self._classified(data.sources, "evaluate"):
            images_read.append(encoded.images + len(keys))
            rows.append(probabilities)
            errors |= {i + len(keys): error for i, error in encoded.errors.items()}
            keys += encoded.keys
        require_readable(errors, len(keys), data.origin, skip_unreadable=skip_unreadable)
        read, probabilities = np.concatenate(images_read), np.concatenate(rows)
        unseen = np.array([keys[i] not in seen for i in read])
        if not unseen.any():
            raise DataError(
                data.origin,
                expected="images that the classifier was not fitted on",
                got=f"{len(read)} that it was fitted on",
                fix="Measure on other images; fit already printed a leave-one-out estimate for these.",
            )
        if not unseen.all():
            warnings.warn(
                f"{(~unseen).sum()} of {len(read)} images were used to fit the "
                f"classifier and are left out; measured on the other {unseen.sum()}.",
                stacklevel=2,
            )
        return Evaluation.from_predictions(
            np.array(data.labels)[read[unseen]],
            probabilities[unseen],
            self.classes_,
            names=[data.names[i] for i in read[unseen]],
        )

    def explain(self, image: Source, *, neighbours: int = 5) -> Explanation:
        """Why this class: text against image evidence, and the labelled images that spoke for it.

        Args:
            image: A path or a PIL image.
            neighbours: How many labelled images to show.
        """
        adapter = self._fitted()
        found = named_sources([image])[0]
        encoded = self._encode([found.source], self.encoder_, adapter.method)
        for error in encoded.errors.values():
            raise error
        return explain(
            adapter.method,
            encoded.features,
            support=adapter.support,
            name=found.name,
            neighbours=neighbours,
        )

    # ---- disk ----

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the adapter: a folder that ``from_pretrained`` opens on any machine.

        Raises:
            AdapterError: The path is taken, or cannot be written.
        """
        return self._fitted().save(folder, overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, encoder: str | Encoder | None = None, device: str = "auto", **options: Any
    ) -> FewShotClassifier:
        """Opens an adapter.

        Args:
            folder: What ``save_pretrained`` wrote.
            encoder: Needed if it was fitted with an encoder object of your own.
            device: Where the method computes.
            options: ``store``, ``batch_size`` and ``progress`` of the constructor.

        Raises:
            AdapterError: No adapter there, or a damaged one.
            EncoderError: The encoder is not the one that it was fitted with.
        """
        adapter = Adapter.load(folder, device=device)
        if encoder is None and adapter.encoder_name == READY:
            method = adapter.method
            encoder = ReadyEncoder(
                method.n_features_in_, logit_scale=method.logit_scale, fingerprint=adapter.fingerprint
            )
        if encoder is None and not opens_by_name(adapter.encoder_name):
            raise EncoderError(
                display_path(folder),
                expected="an encoder that opens by name",
                got=f"an adapter of the encoder object {adapter.encoder_name!r}",
                fix="Pass encoder=, the object that it was fitted with.",
            )
        opened = load_encoder(adapter.encoder_name if encoder is None else encoder)
        _check_fingerprint(opened, adapter, folder)
        self = cls(opened, cast(FewShotMethod, clone(adapter.method)), device=device, **options)
        self._take(adapter, opened)
        return self

    def _take(self, adapter: Adapter, encoder: Encoder) -> None:
        self.encoder_ = encoder
        self.adapter_, self.method_, self.summary_ = adapter, adapter.method, adapter.summary
        self.classes_ = adapter.method.classes_

    def _fitted(self) -> Adapter:
        if not hasattr(self, "adapter_"):
            raise NotFittedError("This FewShotClassifier is not fitted yet: call fit, or from_pretrained.")
        return self.adapter_


def with_tokens(method: FewShotMethod | type[FewShotMethod], encoder: Encoder) -> bool:
    """Whether images are encoded with spatial tokens: the method uses them and the encoder has them."""
    return method.uses_tokens and isinstance(encoder, TokenEncoder)


def check_two_classes(data: LabelledSources) -> None:
    """Raise DataError unless there is something to tell apart."""
    if len(data.classes) < 2:
        raise DataError(
            data.origin,
            expected="images of at least two classes",
            got=f"one class, {data.classes[0]!r}" if data.classes else "none",
            fix="Add a folder with images of something else, for example 'other'.",
        )


def check_rows(data: LabelledSources, skip_unreadable: bool) -> None:
    """A row of a table that is no image is an error like an unreadable image, or a warning if allowed."""
    rows = [entry for entry in data.skipped if entry[0].startswith("line ")]
    if not rows:
        return
    name, reason = rows[0]
    if not skip_unreadable:
        raise DataError(
            f"{data.origin}, {name}",
            expected="an existing image and its label",
            got=f"{reason} ({len(rows)} such rows)",
            fix="Correct the table, or leave such rows out: skip_unreadable=True (--skip-unreadable).",
        )
    warnings.warn(f"{len(rows)} rows are left out, the first: {name}: {reason}", stacklevel=3)


def _warn_of_twins(data: LabelledSources, encoded: EncodedImages) -> None:
    """One image under two labels is a mistake that no method can mend."""
    first: dict[str, int] = {}
    for i, key in enumerate(encoded.keys):
        other = first.setdefault(key, i) if key else i
        if data.labels[other] != data.labels[i]:
            warnings.warn(
                f"the same image has two labels: {data.names[other]} ({data.labels[other]}) and "
                f"{data.names[i]} ({data.labels[i]})",
                stacklevel=3,
            )
            return


def _check_fingerprint(encoder: Encoder, adapter: Adapter, folder: str | Path) -> None:
    if encoder.fingerprint != adapter.fingerprint:
        raise EncoderError(
            display_path(folder),
            expected=f"the encoder it was fitted with, {adapter.encoder_name} ({adapter.fingerprint})",
            got=f"{encoder.name} ({encoder.fingerprint})",
            fix="Install the version of the encoder that it was fitted with, or fit again.",
        )
