"""``fewclip bench``: compare methods over shots and seeds, resumable, and report on it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fewclip.cli import prompts as prompts_cli
from fewclip.cli.common import print_json, say
from fewclip.cli.lists import names, numbers
from fewclip.cli.options import (
    BatchSize,
    Device,
    Json,
    PromptFile,
    Quiet,
    SkipUnreadable,
    Template,
    TemplateSet,
)

if TYPE_CHECKING:
    from fewclip.evaluation.bench import Plan

app = typer.Typer(no_args_is_help=True, help="Compare methods over shots and seeds, and report on it.")


@app.command()
def run(
    train: Annotated[
        Path, typer.Argument(help="Images to draw from: folder, table, file of features; or a plan (.toml).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the cells; goes on with it.")],
    test: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--test", help="Images to test on; may be the same file with other splits."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of --test to read: test or val.")] = "test",
    val: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--val",
            help="Images to choose settings on (full, fewshot); or halves: chosen on one half of the test "
            "images, judged on the other.",
        ),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="What to call the data set; default: its folder."),
    ] = None,
    methods: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--methods", help="With commas, or all; default: all but zero-shot and calip."),
    ] = None,
    shots: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--shots", help="Images a class, with commas; default: 1,2,4,8,16."),
    ] = None,
    seeds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--seeds", help="Seeds of the draws, with commas; default: 1,2,3."),
    ] = None,
    encoder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--encoder", help="Encoders, with commas; see `fewclip list`; default: pocket."),
    ] = None,
    selection: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--selection", help="Protocols, with commas: auto, loo, full, fewshot, none."),
    ] = None,
    shift: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--shift", help="Corrupt test images: noise,blur,jpeg,brightness, all, or blur-3."),
    ] = None,
    severity: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--severity", help="Severities of --shift, with commas; default: 1,2,3,4,5."),
    ] = None,
    transfer: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--transfer", help="[NAME=]IMAGES: other images of classes of the same names; repeat."),
    ] = None,
    template: Template = None,
    template_set: TemplateSet = None,
    prompts: PromptFile = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the cells again that hold an error.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit and test every method on every draw; goes on where it was (exit code 3: some cells failed)."""
    from fewclip.evaluation.bench import read_cells, run_bench

    plan = _plan(
        train, test, split=split, val=val, name=name, prompts=(template, template_set, prompts),
        transfer=transfer or [],
        lists={
            "methods": _methods(methods), "shots": shots and numbers(shots),
            "seeds": seeds and numbers(seeds, least=0), "encoders": encoder and names(encoder),
            "selections": selection and names(selection), "shifts": _shifts(shift, severity),
        },
    )  # fmt: skip
    outcome = run_bench(
        plan, output, device=device, batch_size=batch_size, skip_unreadable=skip_unreadable,
        retry_failed=retry_failed, progress=not quiet, say=_silent if quiet else say,
    )  # fmt: skip
    if as_json:
        print_json({"runs": str(output), **vars(outcome)})
    elif not quiet:
        _show(read_cells(output), plan)
    if not quiet:
        say(f"{outcome.done} cells done, {outcome.failed} failed, {outcome.known} known: {output}")
    if outcome.failed:
        say(f"the first error: {outcome.first_error} (mend it and add --retry-failed)")
        raise typer.Exit(3)
    if not quiet:
        say(f"next      fewclip bench report {shlex.quote(str(output))} -o REPORT")


@app.command()
def report(
    runs: Annotated[Path, typer.Argument(help="Folder that `fewclip bench run -o` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")],
    title: Annotated[str, typer.Option("--title", help="Its heading.")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write tables and plots of a run: HTML, Markdown, LaTeX, CSV."""
    from fewclip.evaluation.bench import write_bench_report

    page = write_bench_report(runs, output, title=title)
    if as_json:
        print_json({"report": str(page)})
    elif not quiet:
        say(f"report    {page} (and report.md, tables.tex, summary.csv, cells.csv beside it)")


def _methods(text: str | None) -> list[str] | None:
    if text is None or text.strip() != "all":
        return names(text) if text else None
    from fewclip.methods import METHODS

    return list(METHODS)


def _shifts(text: str | None, severity: str | None) -> tuple[str, ...] | None:
    if text is None:
        if severity is not None:
            raise typer.BadParameter("--severity belongs to --shift")
        return None
    from fewclip.evaluation.bench import expand_shifts

    return expand_shifts(names(text), numbers(severity) if severity else (1, 2, 3, 4, 5))


def _named(entry: str) -> tuple[str, str]:
    """``sketches=folder`` as (name, path); a path alone is called by its folder."""
    from fewclip.evaluation.bench import name_of

    name, equals, where = entry.partition("=")
    return (name, where) if equals and not Path(entry).exists() else (name_of(entry), entry)


def _plan(
    train: Path,
    test: Path | None,
    *,
    split: str,
    val: str | None,
    name: str | None,
    prompts: tuple[Any, Any, Any],
    transfer: list[str],
    lists: dict[str, Any],
) -> Plan:
    from fewclip.errors import ParameterError
    from fewclip.evaluation.bench import BenchSet, Plan, name_of, read_plan
    from fewclip.methods import METHODS

    given = {key: value for key, value in lists.items() if value}
    default: dict[str, Any] = {"methods": [m for m in METHODS if m not in ("zero-shot", "calip")]}
    if train.suffix.lower() == ".toml":
        strange = [o for o, v in (("--test", test), ("--val", val), ("--name", name)) if v is not None]
        strange += ["--transfer"] if transfer else []
        strange += ["--template, --template-set or --prompts"] if any(prompts) else []
        if strange:
            got, fix = strange[0], "Write it into the [[dataset]] of the file."
            raise ParameterError(f"{train}", expected="a plan alone", got=f"{got}, too", fix=fix)
        return Plan(**default | read_plan(train) | given)
    if test is None:
        fix = "Name images that are not drawn from; --split val reads the val split."
        raise ParameterError("--test", expected="images to test on", got="none", fix=fix)
    templates, sentences = prompts_cli.read_options(*prompts)
    one = BenchSet(
        name or name_of(train), str(train), str(test), split=split, val=val, templates=templates,
        prompts=sentences, transfer=dict(_named(entry) for entry in transfer),
    )  # fmt: skip
    return Plan(sets=[one], **default | given)


def _show(lines: list[dict[str, Any]], plan: Plan) -> None:
    """A table for every data set, encoder and protocol of this run, on the images as they are."""
    from rich.console import Console

    from fewclip.evaluation.bench import comparison_of, groups

    console = Console(highlight=False)
    shown = {one.name for one in plan.sets}
    for group, cells in groups(lines).items():
        if group.dataset in shown and group.test == group.dataset and group.shift is None:
            console.print(str(group), markup=False)
            console.print(comparison_of(cells).to_rich())


def _silent(text: str) -> None:
    """Says nothing."""
