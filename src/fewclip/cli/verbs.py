"""``fewclip add``, ``remove`` and ``sort``: what one does with a classifier day by day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from fewclip.cli.common import open_adapter, print_json, say
from fewclip.cli.options import (
    AdapterArgument,
    AdapterEncoder,
    BatchSize,
    Device,
    Json,
    OptionalPath,
    PromptFile,
    Quiet,
    SkipUnreadable,
)

if TYPE_CHECKING:
    from fewclip.classifier import FewShotClassifier

Output = Annotated[
    OptionalPath,
    typer.Option("--output", "-o", help="Write a new adapter there; default: ADAPTER is replaced."),
]
Val = Annotated[OptionalPath, typer.Option("--val", help="Labelled images to choose settings on.")]


def add(
    adapter: AdapterArgument,
    images: Annotated[
        list[str], typer.Argument(help="Images, folders or globs; without --label, labelled images.")
    ],
    label: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--label", help="Their class, a known or a new one."),
    ] = None,
    output: Output = None,
    prompts: PromptFile = None,
    val: Val = None,
    encoder: AdapterEncoder = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Add labelled photos or a new class to an adapter; nothing is encoded twice."""
    from fewclip.data import find_images, read_prompts
    from fewclip.errors import ParameterError

    if label is None and len(images) != 1:
        raise ParameterError(
            "--label",
            expected="a class for several images",
            got="none",
            fix="Pass --label NAME, or one folder of class folders or one table.",
        )
    classifier = open_adapter(adapter, encoder, device, batch_size, quiet)
    sentences = None if prompts is None else read_prompts(prompts)
    if label is None:
        classifier.update(Path(images[0]), prompts=sentences, val=val, skip_unreadable=skip_unreadable)
    else:
        found = [image.path for image in find_images(images)]
        classifier.update(
            found, [label] * len(found), prompts=sentences, val=val, skip_unreadable=skip_unreadable
        )
    _save(classifier, adapter, output, as_json, quiet)


def remove(
    adapter: AdapterArgument,
    image: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--image", help="Name of a labelled image, or a file with its content; may be repeated."
        ),
    ] = None,
    label: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--label", help="A whole class; may be repeated."),
    ] = None,
    output: Output = None,
    val: Val = None,
    encoder: AdapterEncoder = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take labelled photos or a whole class out of an adapter."""
    from fewclip.errors import ParameterError

    if not image and not label:
        raise ParameterError(
            "--image, --label", expected="at least one", got="neither", fix="Name what is to be removed."
        )
    classifier = open_adapter(adapter, encoder, device, batch_size, quiet)
    classifier.remove(images=image or [], labels=label or [], val=val)
    _save(classifier, adapter, output, as_json, quiet)


def sort(
    adapter: AdapterArgument,
    images: Annotated[Path, typer.Argument(help="Folder of images, or a glob.")],
    out: Annotated[Path, typer.Argument(help="Folder that gets one folder a class.")],
    min_score: Annotated[
        float, typer.Option("--min-score", min=0, max=1, help="Below this probability: to _unsure/.")
    ] = 0.0,
    link: Annotated[bool, typer.Option("--link", help="Symbolic links instead of copies.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, the plan is shown.")] = False,
    encoder: AdapterEncoder = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy or link images into folders of their predicted classes; shows the plan unless --yes."""
    from fewclip.sorting import plan_sorting

    classifier = open_adapter(adapter, encoder, device, batch_size, quiet)
    plan = plan_sorting(classifier, images, out, min_score=min_score, link=link)
    if yes:
        plan = plan.execute()
    if as_json:
        rows = [step.to_json() for step in plan.steps]
        print_json({"done": yes, "images": rows})
    elif str(plan):
        typer.echo(str(plan))
    if not yes and not quiet:
        say("nothing was changed; the same command with --yes does it")
    if plan.staying:
        raise typer.Exit(3)


def _save(
    classifier: FewShotClassifier, adapter: Path, output: Path | None, as_json: bool, quiet: bool
) -> None:
    from fewclip.data import display_path

    folder = classifier.save_pretrained(output or adapter, overwrite=output is None)
    if as_json:
        document = {"adapter": display_path(folder), **classifier.summary_.to_json()}
        print_json(document)
    if not quiet:
        say(f"{classifier.summary_}\nsaved     {folder}")
