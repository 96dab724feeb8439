"""``fewclip data``: what lies on disk, before anything is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewclip.cli.common import print_json
from fewclip.cli.options import Json

if TYPE_CHECKING:
    from fewclip.data import LabelledSources
    from fewclip.data.duplicates import Duplicates

_ORDER = {"train": 0, "val": 1, "test": 2}

app = typer.Typer(no_args_is_help=True, help="Look at labelled images before anything is fitted.")


@app.callback()
def _root() -> None:
    """Keeps ``info`` a command of its own while it is the only one."""


@app.command()
def info(
    images: Annotated[Path, typer.Argument(help="Labelled images of any kind that `fit` reads.")],
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="Compare the content of the images.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Say what is understood of labelled images: kind, classes, splits, what is skipped, duplicates."""
    from fewclip.data import find_splits, read_labelled
    from fewclip.data.duplicates import find_duplicates

    splits = sorted(find_splits(images), key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    parts = {split: read_labelled(images, split=split, prefer="test") for split in splits} or {
        "": read_labelled(images)
    }
    found = find_duplicates(parts) if duplicates else None
    if as_json:
        print_json(_to_json(parts, found))
        return
    typer.echo("\n\n".join(data.describe() for data in parts.values()))
    for heading, text in _class_lines(parts) + (found.items() if found else []):
        typer.echo(f"{heading:<9} {text}")


def _class_lines(parts: dict[str, LabelledSources]) -> list[tuple[str, str]]:
    """Classes that only some of the splits have."""
    known = set().union(*(set(data.labels) for data in parts.values()))
    lines = []
    for split, data in parts.items():
        absent = sorted(str(label) for label in known - set(data.labels))
        if absent:
            more = ", …" if len(absent) > 5 else ""
            lines.append(("absent", f"no images in {split} of {len(absent)}: {', '.join(absent[:5])}{more}"))
    return lines


def _to_json(parts: dict[str, LabelledSources], found: Duplicates | None) -> dict[str, Any]:
    first = next(iter(parts.values()))
    document: dict[str, Any] = {
        "origin": first.origin,
        "kind": first.kind,
        "columns": dict(first.columns),
        "splits": {
            split: {
                "images": len(data),
                "classes": {str(label): shots for label, shots in data.shots().items()},
                "called": {str(label): name for label, name in data.called.items()},
                "skipped": [list(note) for note in data.skipped],
            }
            for split, data in parts.items()
        },
    }
    if found is not None:
        document["duplicates"] = {
            kind: [[vars(place) for place in group] for group in getattr(found, kind)]
            for kind in ("across_splits", "across_classes", "within_class")
        }
    return document
