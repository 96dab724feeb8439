"""``fewclip prompts``: what the text of each class says about labelled images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewclip.cli.options import (
    BatchSize,
    Encoder,
    Json,
    PromptFile,
    Quiet,
    SkipUnreadable,
    Template,
    TemplateSet,
)

if TYPE_CHECKING:
    from fewclip.data import Prompts

_SHOWN = 20  # classes, and prompts, in the text; JSON has all
_WIDTH = 60

app = typer.Typer(no_args_is_help=True, help="Check the sentences that stand for the classes.")


@app.callback()
def _root() -> None:
    """Keeps ``check`` a command of its own while it is the only one."""


@app.command()
def check(
    images: Annotated[Path, typer.Argument(help="Labelled images: folder of class folders, or CSV.")],
    template: Template = None,
    template_set: TemplateSet = None,
    prompts: PromptFile = None,
    encoder: Encoder = "pocket",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which prompts disagree with the labelled images of their class, worst first."""
    found = _checked(
        images, *read_options(template, template_set, prompts), encoder=encoder, batch_size=batch_size,
        skip_unreadable=skip_unreadable, progress=not quiet,
    )  # fmt: skip
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else _as_text(found))


def read_options(
    template: Sequence[str] | None, template_set: str | None, prompts: Path | None
) -> tuple[list[str] | None, Prompts | None]:
    """(templates, prompts) as ``build_prompts`` takes them, from the three options.

    Raises:
        ParameterError: An unknown set of templates.
        DataError: The file of prompts cannot be read.
    """
    from fewclip.data import prompts as names

    templates = list(template or []) + (names.template_set(template_set) if template_set else [])
    return templates or None, names.read_prompts(prompts, templates=templates or None) if prompts else None


def _checked(
    images: Path,
    templates: list[str] | None,
    prompts: Prompts | None,
    *,
    encoder: str,
    batch_size: int,
    skip_unreadable: bool,
    progress: bool,
) -> dict[str, Any]:
    """Encodes images and prompts and compares them; the outcome as it goes into JSON."""
    import numpy as np

    from fewclip.data import FeatureStore, build_prompts, labelled_sources, warn_of_names
    from fewclip.data.sources import check_rows, check_two_classes
    from fewclip.encoders import load_encoder
    from fewclip.encoders.features import encode_sources
    from fewclip.encoders.text_features import encode_prompts
    from fewclip.evaluation.prompt_check import check_prompts

    data = labelled_sources(images, None)
    check_two_classes(data)
    check_rows(data, skip_unreadable)
    sentences = build_prompts(data.classes, templates=templates, prompts=prompts, called=data.called)
    opened = load_encoder(encoder)
    warn_of_names(data.classes, sentences, data.called, multilingual=getattr(opened, "multilingual", False))
    store = FeatureStore()
    encoded = encode_sources(data.sources, opened, store=store, batch_size=batch_size, progress=progress)
    encoded.require(data.origin, skip_unreadable=skip_unreadable)
    places = {label: k for k, label in enumerate(data.classes)}
    labels = np.array([places[data.labels[i]] for i in encoded.images])
    found = check_prompts(encoded.features, labels, encode_prompts(opened, sentences, store=store))
    names = [str(label) for label in data.classes]
    return {
        "encoder": opened.name,
        "images": len(labels),
        "classes": [
            {
                "class": names[score.index],
                "images": score.images,
                "wrong": score.wrong,
                "mostly_taken_for": None if score.taken_by is None else names[score.taken_by],
            }
            for score in found.classes
        ],
        "prompts": [
            {
                "class": names[score.index],
                "prompt": sentences[score.index][score.prompt],
                "accuracy": score.accuracy,
                "nearest_class": names[score.nearest],
                "nearer_to_another_class": score.elsewhere,
            }
            for score in found.prompts
        ],
    }


def _as_text(found: dict[str, Any]) -> str:
    wrong = sum(row["wrong"] for row in found["classes"])
    total = found["images"]
    elsewhere = sum(row["nearer_to_another_class"] for row in found["prompts"])
    classes = [
        [_short(row["class"]), str(row["images"]), str(row["wrong"]), _short(row["mostly_taken_for"] or "")]
        for row in found["classes"][:_SHOWN]
    ]
    prompts = [
        [
            "!" if row["nearer_to_another_class"] else "",
            f"{row['accuracy']:.0%}",
            _short(row["class"]),
            _short(row["prompt"]),
            f"nearer to {_short(row['nearest_class'])}" if row["nearer_to_another_class"] else "",
        ]
        for row in found["prompts"][:_SHOWN]
    ]
    return "\n".join(
        [
            f"By text alone on {found['encoder']} features, {wrong} of {total} images go to another class.",
            "",
            *_table(["class (worst first)", "images", "wrong", "mostly taken for"], classes),
            *_hidden(found["classes"]),
            "",
            f"! {elsewhere} of {len(found['prompts'])} prompts are nearer to another class's images than to "
            "their own.",
            *_table(["", "right", "class", "prompt alone (worst first)", ""], prompts),
            *_hidden(found["prompts"]),
        ]
    )


def _hidden(rows: list[dict[str, Any]]) -> list[str]:
    more = len(rows) - _SHOWN
    return [f"… and {more} more; --json shows all"] if more > 0 else []


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def _short(text: str) -> str:
    from fewclip.data._display import escape

    text = escape(text)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
