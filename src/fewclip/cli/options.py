"""Options that several commands share, spelled the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Encoder = Annotated[str, typer.Option("--encoder", help="Encoder of images and texts; see `fewclip list`.")]
AdapterEncoder = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--encoder", help="module:callable of your own encoder; default: what the adapter names."),
]
Method = Annotated[str, typer.Option("--method", help="Few-shot method; see `fewclip list`.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw.")]
TestViews = Annotated[
    int, typer.Option("--test-views", min=1, help="Mean of this many random views; 1: the image as it is.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, …")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images handed to the encoder at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read, and say so.")
]
AdapterArgument = Annotated[Path, typer.Argument(help="Adapter: the folder that `fewclip fit` wrote.")]
OptionalPath = Optional[Path]  # noqa: UP045 (typer reads annotations at run time)
Template = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--template", help="Prompt with {} where the class name goes; may be repeated."),
]
TemplateSet = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--template-set", help="Set of templates: plain, openai-7, dtd, …; besides --template."),
]
PromptFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--prompts",
        help='JSON {"class": ["sentence", …], …}, CSV class,sentence, or text with one template a line.',
    ),
]
Coverage = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--coverage", help="Add a set of classes that holds the true one, in this share of images."),
]
SetScore = Annotated[
    str, typer.Option("--set-score", help="lac: smallest sets; raps: larger where images are hard.")
]
Classwise = Annotated[bool, typer.Option("--classwise", help="The coverage holds for every class.")]
Unknown = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--unknown", help='Say "unknown" to images of no class: auto, mcm, energy, affinity, mahalanobis.'
    ),
]
Keep = Annotated[float, typer.Option("--keep", help="Share of images of known classes that --unknown keeps.")]
AnswerOnly = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--answer-only", help='Say "unsure" unless this share of the answers is right (0.95).'),
]
CalibrationImages = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--calibration-images", help="Labelled images it has not seen: guarantees rest on them."),
]
