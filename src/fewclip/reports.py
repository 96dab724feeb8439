"""Reports of a fitted classifier: its evaluation, and pictures of what it got right and wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from fewclip.classifier import FewShotClassifier
from fewclip.data import LabelledSources, Source, labelled_sources, load_image
from fewclip.evaluation import Comparison, Evaluation, Example, Neighbour, write_report

THUMBNAIL = 160  # px


def choose_examples(evaluation: Evaluation, n: int = 8) -> list[int]:
    """Rows worth looking at: the surest mistakes for one half, then right ones, each class in turn."""
    sure = np.argsort(-evaluation.scores, kind="stable")
    wrong = [int(i) for i in sure if evaluation.predictions[i] != evaluation.labels[i]]
    right = [int(i) for i in sure if evaluation.predictions[i] == evaluation.labels[i]]
    mistakes = _each_class_in_turn(wrong, evaluation.labels)[: n // 2]
    hits = _each_class_in_turn(right, evaluation.labels)[: n - len(mistakes)]
    return hits + mistakes


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
    """Predictions to show, with the labelled images that counted most."""
    return [
        _example(classifier, source, label, name)
        for source, label, name in zip(sources, labels, names, strict=True)
    ]


def _example(classifier: FewShotClassifier, source: Source, label: object, name: str) -> Example:
    explanation = classifier.explain(source, neighbours=4)
    image = load_image(cast(Path, source), name=name)  # reports are made of pictures alone
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    total = sum(near.contribution for near in explanation.neighbours)
    neighbours = [
        Neighbour(near.support.thumbnail, str(near.support.label), near.support.name, near.contribution)
        for near in explanation.neighbours
    ]
    return Example(
        image=image,
        name=name,
        label=str(label),
        predicted=str(explanation.label),
        top=[(str(e.label), e.probability) for e in explanation.classes[:3]],
        neighbours=neighbours if total > 0 else [],
    )


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
    """Writes ``report.html``: the evaluation, and examples out of ``data``, which it was made on."""
    names = evaluation.names or data.names
    row_of = {name: i for i, name in enumerate(data.names)}
    rows = [row_of[names[i]] for i in choose_examples(evaluation)]
    shown = data.take(rows)
    return write_report(
        folder,
        title=title,
        lead=lead,
        facts=facts,
        comparison=comparison,
        evaluation=evaluation,
        history=getattr(classifier.method_, "history_", ()),
        examples=make_examples(classifier, shown.sources, shown.labels, shown.names),
        notes=notes,
        next_commands=next_commands,
    )


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
            f"Of {len(evaluation.labels)} images that it had not seen, the classifier got "
            f"{evaluation.accuracy:.1%} right. By chance alone, the share on very many "
            f"images of the same kind may lie between {low:.1%} and {high:.1%} (95 % interval)."
        ),
        facts={heading: text for heading, text in classifier.summary_.items() if heading != "accuracy"},
        notes=["The interval counts chance only. Images from another camera or place may do worse."],
        next_commands=[f"{program} explain {shlex.quote(str(adapter))} IMAGE"],
    )
