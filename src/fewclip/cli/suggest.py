"""``fewclip suggest``: which images to label next."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from fewclip.cli.common import open_adapter, say
from fewclip.cli.options import AdapterArgument, AdapterEncoder, BatchSize, Device, Quiet


def suggest(
    adapter: AdapterArgument,
    pool: Annotated[list[str], typer.Argument(help="Unlabelled images, folders or globs.")],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many images.")] = 20,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="A .csv file; default: CSV on stdout."),
    ] = None,
    encoder: AdapterEncoder = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    quiet: Quiet = False,
) -> None:
    """Say which unlabelled images to label next: those that many others resemble."""
    from fewclip.data import find_images
    from fewclip.data._files import written_aside
    from fewclip.errors import ParameterError
    from fewclip.predictions import check_target
    from fewclip.suggestions import as_rows

    if output is not None:
        if output.suffix.lower() != ".csv":
            raise ParameterError(
                "--output", expected="a name that ends in .csv", got=output.name, fix="Give it this suffix."
            )
        check_target(output)
    found = find_images(pool, ignored=[])
    classifier = open_adapter(adapter, encoder, device, batch_size, quiet)
    chosen = classifier.suggest([image.path for image in found], n, names=[image.name for image in found])
    rows = [["path", "guess", "doubt"], *as_rows(chosen)]
    if output is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        return
    with (
        written_aside(output) as file,
        open(file.fileno(), "w", encoding="utf-8", newline="", closefd=False) as text,
    ):
        csv.writer(text, lineterminator="\n").writerows(rows)
    if not quiet:
        say(f"{len(chosen)} images to label next, the first first: {output}")
