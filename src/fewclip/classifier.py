"""FewShotClassifier: an encoder before a method, from folders of images to labels and back to disk."""

from __future__ import annotations

import logging
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
from fewclip.data import FeatureStore, Names, Prompts, draw_shots, renamed_classes
from fewclip.data.sources import (
    Images,
    Source,
    check_rows,
    check_two_classes,
    labelled_sources,
    named_sources,
)
from fewclip.encoders.base import Encoder
from fewclip.encoders.features import EncodedImages, encode_sources, mean_of_views
from fewclip.errors import DataError, ParameterError
from fewclip.evaluation import Evaluation
from fewclip.evaluation.left_out import N_FOLDS, LearningCurve, LeftOutStudy, study_left_out
from fewclip.evaluation.metrics import check_labels
from fewclip.explanation import Explanation, SupportCheck, check_support, explain
from fewclip.intake import (
    encoder_of,
    encoder_of_adapter,
    measure,
    new_method,
    rows_not_in,
    text_of,
    warn_of_twins,
    with_tokens,
)
from fewclip.methods import FewShotMethod
from fewclip.predictions import Prediction
from fewclip.suggestions import Suggestion, suggest
from fewclip.updating import Updatable
from fewclip.verdicts import Doubts, Verdict

_LOG = logging.getLogger(__name__)
_CHUNK = 1024  # images classified at once: bounds the memory of a bulk prediction
_TOKEN_CHUNK = 128  # and with spatial tokens, about a hundred vectors an image


class FewShotClassifier(Updatable):
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
        test_views: 1: an image is classified as it is. V > 1: the mean probability of V random views of it,
            cut as for ``views``; costs V times the encoding and seldom helps (docs/performance.md).
        selection, calibration: Passed to a method given by name; see ``FewShotMethod``.
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
        method: str | FewShotMethod = "auto",
        *,
        class_names: Names | None = None,
        templates: str | Sequence[str] | None = None,
        prompts: Prompts | None = None,
        views: int = 1,
        test_views: int = 1,
        selection: str = "auto",
        calibration: str = "auto",
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
        self.test_views = test_views
        self.selection = selection
        self.calibration = calibration
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
        val: Images | None = None,
        shots: int | None = None,
        seed: int = 0,
        skip_unreadable: bool = False,
    ) -> Self:
        """Adapts to labelled images.

        Args:
            images: Whatever ``data.read_labelled`` knows (class folders, splits, tables, archives, data
                frames, data sets of Hugging Face, ready features; of several splits the train split), or a
                list of paths and PIL images.
            labels: The label of each image of a list.
            val: Labelled images that the settings may be chosen on, of any of these kinds.
            shots: Use this many images of each class, drawn by ``seed``; None: all.
            seed: Seed of the draw.
            skip_unreadable: Leave out images that cannot be read, and say so, instead of raising.

        Raises:
            DataError: No labelled images there, or fewer than two classes.
            ImageError: An image cannot be read.
        """
        start = time.perf_counter()
        method = new_method(
            self.method,
            selection=self.selection,
            calibration=self.calibration,
            device=self.device,
            random_state=self.random_state,
            verbose=self.progress,
        )
        data = labelled_sources(images, labels)
        if shots is not None:
            if shots > max(data.shots().values()):
                warnings.warn(f"no class has {shots} images; all images are used", stacklevel=2)
            data = data.take(draw_shots(data.labels, shots, seed=seed))
        _LOG.info("%s", data.describe())
        check_two_classes(data)
        check_rows(data, skip_unreadable)
        encoder = encoder_of(data, self.encoder)
        encoded = self._encode(data.sources, encoder, method, views=1 if data.ready else self.views)
        encoded.require(data.origin, skip_unreadable=skip_unreadable)
        warn_of_twins(data, encoded)
        text_features, sentences = text_of(
            data, encoder, templates=self.templates, prompts=self.prompts, called=self.class_names,
            store=self.store,
        )  # fmt: skip
        method.set_params(
            text_features=text_features,
            classes=np.array(data.classes),
            logit_scale=encoder.logit_scale,
        )
        extra = {} if val is None else self._validation(val, encoder, method, encoded.keys, skip_unreadable)
        y = np.array(data.labels)[encoded.images]
        method.fit(encoded.features, y, groups=encoded.images, **extra)
        prompts = dict(zip(data.classes, sentences, strict=True))
        called = {**data.called, **(self.class_names or {})}
        renamed = renamed_classes(data.classes, sentences, called)
        seconds = time.perf_counter() - start
        adapter = Adapter.of(
            method, encoder, data, encoded, prompts, renamed=renamed, seconds=seconds, store=self.store
        )
        self._take(adapter, encoder)
        return self

    def _validation(
        self, val: Images, encoder: Encoder, method: FewShotMethod, known: list[str], skip_unreadable: bool
    ) -> dict[str, np.ndarray]:
        data = labelled_sources(val, prefer="val")
        check_rows(data, skip_unreadable)
        encoded = self._encode(data.sources, encoder, method)
        encoded.require(data.origin, skip_unreadable=skip_unreadable)
        rows = rows_not_in(known, encoded, data)
        return {"X_val": encoded.features[rows], "y_val": np.array(data.labels)[encoded.images[rows]]}

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

    def _classified(
        self, sources: Sequence[Source], task: str, *, bare: bool = False
    ) -> Iterator[tuple[EncodedImages, np.ndarray]]:
        """Some images at a time: what the encoder made of them, and the probabilities of each row, (r, c).

        Args:
            sources: The images.
            task: What the progress bar says.
            bare: Give (r, 2, c), before and after calibration.
        """
        step = _TOKEN_CHUNK if with_tokens(self.method_, self.encoder_) else _CHUNK
        with tqdm(total=len(sources), desc=task, unit="image", disable=not self.progress, delay=0.5) as bar:
            for start in range(0, len(sources), step):
                part = sources[start : start + step]
                encoded = self._encode(part, self.encoder_, self.method_, views=self.test_views, progress=bar)
                rows = self._probabilities(encoded.features, bare=bare)
                yield mean_of_views(encoded, rows) if self.test_views > 1 else (encoded, rows)

    def _probabilities(self, features: np.ndarray, *, bare: bool) -> np.ndarray:
        shape = (2, len(self.classes_)) if bare else (len(self.classes_),)
        if not len(features):
            return np.empty((0, *shape))
        if bare:
            return np.stack(self.method_.proba_before_and_after(features), axis=1)
        return self.method_.predict_proba(features)

    # ---- predict ----

    def predict(self, images: Images, **doubts: Any) -> np.ndarray:
        """Labels, (n,), of paths, PIL images, a folder or a glob.

        Args:
            images: The images.
            doubts: ``unknown="auto"`` and ``keep`` say "unknown" to images of none of the classes,
                ``answer_only=0.95`` says "unsure" where too many answers would be wrong; see ``Doubts``.

        Raises:
            ImageError: An image cannot be read; ``classify`` gives such rows an error instead.
            ParameterError: More than the labels can promise.
        """
        labels = []
        for prediction in self.classify(images, top=1, **doubts):
            if prediction.error is not None:
                raise prediction.error
            labels.append(prediction)
        place = self._place
        best = self.classes_[np.array([place[row.labels[0]] for row in labels], dtype=int)]
        doubtful = [row.extra.get("label") for row in labels]
        if not any(doubtful):
            return best
        best = best if best.dtype.kind in "OU" else best.astype(object)
        return np.where([label is None for label in doubtful], best, np.array(doubtful))

    def predict_set(self, images: Images, coverage: float = 0.9, **options: Any) -> np.ndarray:
        """The classes that each image may be of, (n, c), bool; see ``FewShotMethod.predict_set``.

        Raises:
            ImageError: An image cannot be read.
            ParameterError: More than the labels can promise.
        """
        method = self._fitted().method
        Doubts(coverage=coverage).check(method, test_views=self.test_views)
        rows = [np.empty((0, len(self.classes_)), dtype=bool)]
        for encoded, _ in self._classified([im.source for im in named_sources(images)], "predict"):
            for error in encoded.errors.values():
                raise error
            rows.append(method.predict_set(encoded.features, coverage, **options))
        return np.concatenate(rows)

    def calibrate(
        self, images: Images, labels: Sequence[str] | None = None, *, skip_unreadable: bool = False
    ) -> Self:
        """Lets guarantees rest on labelled images that nothing was chosen by; they are then exact.

        Images that it was fitted on are left out, with a warning. Saved with the adapter.

        Args:
            images: A folder of class folders (or its validation split), a table, or a list of images.
            labels: The label of each image of a list.
            skip_unreadable: Leave out images that cannot be read instead of raising.
        """
        adapter = self._fitted()
        data = labelled_sources(images, labels, prefer="val")
        check_rows(data, skip_unreadable)
        check_labels("labels", np.array(data.labels), self.classes_)
        encoded = self._encode(data.sources, self.encoder_, adapter.method)
        encoded.require(data.origin, skip_unreadable=skip_unreadable)
        rows = rows_not_in([image.sha256 for image in adapter.support], encoded, data)
        adapter.method.calibrate(encoded.features[rows], np.array(data.labels)[encoded.images[rows]])
        return self

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

    def classify(self, images: Images, *, top: int | None = None, **doubts: Any) -> Iterator[Prediction]:
        """One row for every image, in order; one that cannot be read has an error instead of classes.

        Rows come as they are ready, so millions of images need no more memory than a thousand.

        Args:
            images: Paths, PIL images, a folder or a glob.
            top: Classes a row, at least 1; None: all.
            doubts: What else to say: ``coverage=0.9``, ``unknown="auto"``, ``answer_only=0.95``; see
                ``Doubts``.
        """
        asked, method = Doubts(**doubts), self._fitted().method
        asked.check(method, test_views=self.test_views)
        if top is not None and top < 1:
            raise ParameterError(
                "top", expected="at least 1", got=repr(top), fix="Leave it out for all classes."
            )
        found = named_sources(images)
        images_left = iter(found)
        for encoded, probabilities in self._classified([image.source for image in found], "predict"):
            rows = zip(probabilities, asked.of(method, encoded.features), strict=True)
            for i, image in zip(range(len(encoded.keys)), images_left, strict=False):
                if i in encoded.errors:
                    yield Prediction(image.name, error=encoded.errors[i])
                else:
                    yield self._prediction(image.name, *next(rows), top)

    def _prediction(
        self, name: str, probabilities: np.ndarray, verdict: Verdict, top: int | None
    ) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")[:top]
        labels = tuple(str(label) for label in self.classes_[order])
        scores = tuple(probabilities[order].tolist())
        return Prediction(name, labels, scores, extra=verdict.columns(labels[0]))

    @property
    def _place(self) -> dict[str, int]:
        """Column of each class, by its name."""
        return {str(label): i for i, label in enumerate(self.classes_)}

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
        chunks = self._classified(data.sources, "evaluate", bare=True)
        return measure(chunks, data, self.classes_, seen=seen, skip_unreadable=skip_unreadable)

    def suggest(self, images: Images, n: int = 20, *, names: Sequence[str] | None = None) -> list[Suggestion]:
        """Which of many unlabelled images to label next, the first first; unreadable ones are left out.

        Those that many others resemble, and no labelled image yet; how unsure each is stands beside it.

        Args:
            images: The pool: paths, PIL images, a folder or a glob.
            n: How many.
            names: What to call the images; None: by their paths.

        Raises:
            DataError: No image can be read.
        """
        adapter, found = self._fitted(), named_sources(images)
        known = [image.name for image in found] if names is None else names
        labelled = {image.sha256 for image in adapter.support} - {""}
        features, rows, kept, start = [], [], [], 0
        for encoded, probabilities in self._classified([image.source for image in found], "suggest"):
            new = [i for i, j in enumerate(encoded.images.tolist()) if encoded.keys[j] not in labelled]
            features.append(encoded.features[new])
            rows.append(probabilities[new])
            kept += [known[start + int(encoded.images[i])] for i in new]
            start += len(encoded.keys)
        if not kept:
            raise DataError(
                "the pool",
                expected="readable images that are not labelled yet",
                got="none",
                fix="Name a folder of other images; those that it was fitted on are left out.",
            )
        pool, p = np.concatenate(features), np.concatenate(rows)
        return suggest(adapter.method, pool, p, kept, n)

    def explain(self, image: Source, *, neighbours: int = 5, heat_map: bool = False) -> Explanation:
        """Why this class: text against image evidence, labelled images and channels that spoke for it.

        Args:
            image: A path or a PIL image.
            neighbours: How many labelled images to show.
            heat_map: Also show where in the image, if the encoder has spatial tokens; encodes it again.
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
            source=found.source,
            neighbours=neighbours,
            encoder=self.encoder_ if heat_map else None,
        )

    def learning_curve(self) -> LearningCurve:
        """How many more images might help: fits on fewer labelled images, asked about the others.

        Raises:
            DataError: No class has two images.
        """
        return self._left_out().curve

    def check_support(self) -> SupportCheck:
        """Looks for wrong labels, near duplicates, outliers, misleading names and classes that need images.

        With one image a class there are no fits without it, and only duplicates can be found.
        """
        adapter, method = self._fitted(), self.method_
        keys, labels, text = method.support_features_, method.support_labels_, method.text_features_
        several = int(labels.bincount().max()) > 1
        by_text = method.text_features is not None if adapter.rows is None else adapter.rows.text
        unknown = np.full((len(keys), len(self.classes_)), np.nan)
        return check_support(
            keys.cpu().numpy(),
            labels.cpu().numpy(),
            self._left_out().probabilities if several else unknown,
            self.classes_.tolist(),
            adapter.support,
            text_guesses=(keys @ text.T).argmax(1).cpu().numpy() if by_text else None,
        )

    def _left_out(self) -> LeftOutStudy:
        self._fitted()
        if self._study is None:
            parts = (self.method_, *getattr(self.method_, "members_", ()))
            trained = any(hasattr(part, "history_") for part in parts)
            self._study = study_left_out(
                self.method_, n_folds=2 if trained else N_FOLDS, progress=self.progress
            )
        return self._study

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
            options: ``store``, ``batch_size``, ``test_views`` and ``progress`` of the constructor.

        Raises:
            AdapterError: No adapter there, or a damaged one.
            EncoderError: The encoder is not the one that it was fitted with.
        """
        adapter = Adapter.load(folder, device=device)
        opened = encoder_of_adapter(adapter, encoder, folder)
        self = cls(opened, cast(FewShotMethod, clone(adapter.method)), device=device, **options)
        self._take(adapter, opened)
        return self

    def _take(self, adapter: Adapter, encoder: Encoder) -> None:
        self.encoder_ = encoder
        self._study: LeftOutStudy | None = None
        self.adapter_, self.method_, self.summary_ = adapter, adapter.method, adapter.summary
        self.classes_ = adapter.method.classes_

    def _fitted(self) -> Adapter:
        if not hasattr(self, "adapter_"):
            raise NotFittedError("This FewShotClassifier is not fitted yet: call fit, or from_pretrained.")
        return self.adapter_
