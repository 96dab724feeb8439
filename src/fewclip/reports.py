"""Reports of a fitted classifier: its evaluation, and pictures of what it got right and wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from fewclip.classifier import FewShotClassifier
from fewclip.data import LabelledSources, Source, labelled_sources, load_image
from fewclip.errors import ParameterError
from fewclip.evaluation import (
    Comparison,
    ConfusedPair,
    Evaluation,
    Example,
    Neighbour,
    Picture,
    Section,
    sections,
    write_report,
)
from fewclip.evaluation._text import count, percent
from fewclip.methods import ZeroShot

THUMBNAIL = 160  # px
_MISTAKES, _HITS = 6, 4  # predictions with their labelled images
_PAIRS, _PICTURES = 6, 4  # frequent mistakes, and pictures of each kind


def choose_mistakes(evaluation: Evaluation, n: int) -> list[int]:
    """Rows of the surest mistakes, each class in turn."""
    sure = np.argsort(-evaluation.scores, kind="stable")
    wrong = [int(i) for i in sure if evaluation.predictions[i] != evaluation.labels[i]]
    return _each_class_in_turn(wrong, evaluation.labels)[:n]


def choose_hits(evaluation: Evaluation, n: int) -> list[int]:
    """Rows of the surest right predictions, each class in turn."""
    sure = np.argsort(-evaluation.scores, kind="stable")
    right = [int(i) for i in sure if evaluation.predictions[i] == evaluation.labels[i]]
    return _each_class_in_turn(right, evaluation.labels)[:n]


def _each_class_in_turn(rows: Sequence[int], labels: np.ndarray) -> list[int]:
    turn: dict[object, int] = {}
    keyed = []
    for rank, row in enumerate(rows):
        turn[labels[row]] = turn.get(labels[row], -1) + 1
        keyed.append((turn[labels[row]], rank, row))
    return [row for _, _, row in sorted(keyed)]


def make_examples(
    classifier: FewShotClassifier, sources: Sequence[Source], labels: Sequence[object], names: Sequence[str]
) -> list[Example]:
    """Predictions to show, with the labelled images that counted most, or else the most similar."""
    return [
        _example(classifier, source, label, name)
        for source, label, name in zip(sources, labels, names, strict=True)
    ]


def _example(classifier: FewShotClassifier, source: Source, label: object, name: str) -> Example:
    explanation = classifier.explain(source, neighbours=4)
    image = _loaded(source, name)
    neighbours = [
        Neighbour(
            near.support.thumbnail, str(near.support.label), near.support.name, near.contribution,
            cosine=near.cosine,
        )
        for near in explanation.neighbours
    ]  # fmt: skip
    images_count = any(evidence.image for evidence in explanation.classes)
    return Example(
        image=image,
        name=name,
        label=str(label),
        predicted=str(explanation.label),
        top=[(str(e.label), e.probability) for e in explanation.classes[:3]],
        neighbours=neighbours if images_count else [],
    )


def make_pairs(
    classifier: FewShotClassifier, evaluation: Evaluation, data: LabelledSources, rows: Sequence[int]
) -> list[ConfusedPair]:
    """The most frequent mistakes with pictures of them, and of the labelled images of both classes.

    Args:
        classifier: Its support set is shown.
        evaluation: Made on ``data``.
        data: Where the pictures are.
        rows: The row in ``data`` of each row of ``evaluation``.
    """
    pairs = []
    for truth, predicted, n in evaluation.most_confused(_PAIRS):
        hit = (evaluation.labels == truth) & (evaluation.predictions == predicted)
        shown = data.take([rows[i] for i in np.flatnonzero(hit)[:_PICTURES]])
        pairs.append(
            ConfusedPair(
                str(truth),
                str(predicted),
                n,
                int((evaluation.labels == truth).sum()),
                [_picture(source, name) for source, name in zip(shown.sources, shown.names, strict=True)],
                _support_pictures(classifier, truth),
                _support_pictures(classifier, predicted),
            )
        )
    return pairs


def _support_pictures(classifier: FewShotClassifier, label: object) -> list[Picture]:
    support = [image for image in classifier.adapter_.support if image.label == label and image.thumbnail]
    return [Picture(image.thumbnail, image.name) for image in support[:_PICTURES]]


def _picture(source: Source, name: str) -> Picture:
    return Picture(_loaded(source, name), name)


def _loaded(source: Source, name: str) -> Image.Image:
    image = load_image(cast(Path, source), name=name)  # reports are made of pictures alone
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def _doubt_section(classifier: FewShotClassifier, evaluation: Evaluation) -> Section:
    method = classifier.method_
    try:
        sets = method.sets_of(evaluation.probabilities, 0.9)
    except ParameterError:  # too few labelled images for a promise
        return sections.doubt_section(evaluation)
    return sections.doubt_section(evaluation, sets, method.promise())


def write_classifier_report(
    classifier: FewShotClassifier,
    evaluation: Evaluation,
    data: LabelledSources,
    folder: Path,
    *,
    title: str,
    lead: str,
    facts: Mapping[str, str],
    comparison: Comparison | None = None,
    notes: Sequence[str] = (),
    next_commands: Sequence[str] = (),
) -> Path:
    """Writes ``index.html``: the evaluation, and pictures out of ``data``, which it was made on."""
    names = evaluation.names or data.names
    row_of = {name: i for i, name in enumerate(data.names)}
    rows = [row_of[name] for name in names]

    def examples(chosen: Sequence[int]) -> list[Example]:
        shown = data.take([rows[i] for i in chosen])
        return make_examples(classifier, shown.sources, shown.labels, shown.names)

    parts: list[Section] = []
    if comparison is not None:
        parts.append(sections.comparison_section(comparison))
    mistakes = choose_mistakes(evaluation, _MISTAKES)
    if mistakes:
        parts.append(sections.mistakes_section(examples(mistakes)))
        parts.append(sections.confused_section(make_pairs(classifier, evaluation, data, rows)))
    parts.append(sections.classes_section(evaluation))
    parts.append(sections.confusion_section(evaluation))
    parts.append(sections.reliability_section(evaluation))
    parts += _support_sections(classifier)
    parts.append(_doubt_section(classifier, evaluation))
    hits = choose_hits(evaluation, _HITS)
    if hits:
        parts.append(sections.examples_section(examples(hits)))
    history = getattr(classifier.method_, "history_", ())
    if history:
        parts.append(sections.training_section(history))
    if notes:
        parts.append(sections.notes_section(notes))
    if next_commands:
        parts.append(sections.next_section(next_commands))
    return write_report(
        folder,
        title=title,
        lead=lead,
        figures=sections.figures_of(evaluation),
        facts=facts,
        sections=parts,
    )


def report_fit(
    classifier: FewShotClassifier, folder: Path, *, adapter: Path, program: str = "fewclip"
) -> Path:
    """The report of ``fewclip fit --report``: what the labelled images are worth by themselves."""
    summary, method = classifier.summary_, classifier.method_
    estimate, shots = summary.selection.estimate, summary.shots.values()
    figures = [("images", f"{sum(shots):,}", f"of {count(len(shots), 'class', 'classes')}")]
    lead = "How good it is on images that it has not seen, only other labelled images can tell."
    if estimate is not None:
        interval = f"95 % interval {100 * estimate.low:.1f} to {percent(estimate.high)}"
        figures.insert(0, ("estimated accuracy", percent(estimate.accuracy), interval))
        lead = f"The accuracy is the {estimate.kind}: images from another camera or place may do worse."
    parts = _support_sections(classifier)
    history = getattr(method, "history_", ())
    if history:
        parts.append(sections.training_section(history))
    name = shlex.quote(str(adapter))
    commands = [f"evaluate {name} OTHER_IMAGES --report REPORT", f"add {name} IMAGES --label CLASS"]
    parts.append(sections.next_section([f"{program} {command}" for command in commands]))
    return write_report(
        folder,
        title=f"What has {adapter.name} learnt?",
        lead=lead,
        figures=figures,
        facts=dict(summary.items()),
        sections=parts,
    )


def _support_sections(classifier: FewShotClassifier) -> list[Section]:
    """What the labelled images say about themselves when they are left out."""
    parts, method = [], classifier.method_
    several = int(method.support_labels_.bincount().max()) > 1
    if several and not isinstance(method, ZeroShot):  # which learns nothing
        parts.append(sections.learning_section(classifier.learning_curve()))
    parts.append(sections.support_section(classifier.check_support()))
    return parts


def report_evaluation(
    classifier: FewShotClassifier,
    evaluation: Evaluation,
    folder: Path,
    *,
    source: Path,
    adapter: Path,
    program: str = "fewclip",
) -> Path:
    """The report of ``fewclip evaluate --report``."""
    low, high = evaluation.interval
    return write_classifier_report(
        classifier,
        evaluation,
        labelled_sources(source, None, prefer="test"),
        folder,
        title=f"How good is {adapter.name}?",
        lead=(
            f"Of {count(len(evaluation.labels), 'image')} that it had not seen, the classifier got "
            f"{percent(evaluation.accuracy)} right. By chance alone, the share on very many images of the "
            f"same kind may lie between {100 * low:.1f} and {percent(high)} (95 % interval)."
        ),
        facts={
            heading: text
            for heading, text in classifier.summary_.items()
            if heading in ("method", "images", "settings")
        },
        notes=["The interval counts chance only. Images from another camera or place may do worse."],
        next_commands=[f"{program} explain {shlex.quote(str(adapter))} IMAGE"],
    )
