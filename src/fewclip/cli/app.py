"""The commands."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from fewclip.cli import bench as bench_cli
from fewclip.cli import data as data_cli
from fewclip.cli import prompts as prompts_cli
from fewclip.cli import verbs
from fewclip.cli.cache import cache
from fewclip.cli.common import open_adapter, print_json, program, say
from fewclip.cli.lists import names, numbers
from fewclip.cli.options import (
    AdapterArgument,
    AdapterEncoder,
    AnswerOnly,
    BatchSize,
    CalibrationImages,
    Classwise,
    Coverage,
    Device,
    Encoder,
    Json,
    Keep,
    Method,
    Overwrite,
    PromptFile,
    Quiet,
    Seed,
    SetScore,
    SkipUnreadable,
    Template,
    TemplateSet,
    TestViews,
    Unknown,
)
from fewclip.cli.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fewclip.evaluation import Comparison
    from fewclip.predictions import Prediction

app = typer.Typer(
    name="fewclip",
    help="A folder with a few labelled images per class becomes an image classifier, in seconds, on a CPU.",
    epilog="First steps: `fewclip demo`, then `fewclip fit FOLDER -o NAME.adapter`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cache)
app.add_typer(bench_cli.app, name="bench")
app.add_typer(data_cli.app, name="data")
app.add_typer(prompts_cli.app, name="prompts")


def _version(show: bool) -> None:
    if show:
        from fewclip import __version__

        typer.echo(f"fewclip {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")


@app.command()
def fit(
    images: Annotated[
        Path,
        typer.Argument(help="Class or split folders, table, JSON, tar, features: see `fewclip data info`."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the adapter goes, a new folder.")],
    encoder: Encoder = "pocket",
    method: Method = "auto",
    shots: Annotated[
        Optional[int], typer.Option("--shots", min=1, help="Use this many images a class; default: all.")  # noqa: UP045
    ] = None,
    seed: Seed = 0,
    val: Annotated[
        Path | None,
        typer.Option("--val", help="Labelled images to choose settings on; default: none needed."),
    ] = None,
    selection: Annotated[
        str,
        typer.Option(
            "--selection",
            help="How settings are chosen: loo (leave-one-out), full or fewshot (on --val), none, auto.",
        ),
    ] = "auto",
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            help="How sure scores are: auto (images that were not learnt), sals (zero-shot's range), none.",
        ),
    ] = "auto",
    template: Template = None,
    template_set: TemplateSet = None,
    prompts: PromptFile = None,
    views: Annotated[int, typer.Option("--views", min=1, help="Random views of each labelled image.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write what the labelled images are worth, as HTML, into this folder."),
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a classifier (an adapter) from a folder of labelled images."""
    from fewclip.classifier import FewShotClassifier
    from fewclip.data import display_path, labelled_sources
    from fewclip.persistence import check_target

    check_target(output, overwrite)
    templates, sentences = prompts_cli.read_options(template, template_set, prompts)
    classifier = FewShotClassifier(
        encoder, method, templates=templates, prompts=sentences,
        views=views, selection=selection, calibration=calibration, device=device, random_state=seed,
        batch_size=batch_size, progress=not quiet,
    )  # fmt: skip
    data = labelled_sources(images)
    if not quiet:
        say(data.describe())
    classifier.fit(data, val=val, shots=shots, seed=seed, skip_unreadable=skip_unreadable)
    folder = classifier.save_pretrained(output, overwrite=overwrite)
    page = None
    if report is not None:
        from fewclip.reports import report_fit

        page = report_fit(classifier, report, adapter=folder, program=program())
    if as_json:
        print_json({"adapter": display_path(folder), **classifier.summary_.to_json()})
    if not quiet:
        say(f"{classifier.summary_}\nsaved     {folder}")
        if page is not None:
            say(f"report    {page}")
        say(f"next      {program()} predict {shlex.quote(str(folder))} NEW_IMAGES -o predictions.csv")


@app.command()
def predict(
    adapter: AdapterArgument,
    images: Annotated[list[str], typer.Argument(help="Images, folders or globs; or one file of features.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".csv, .jsonl or .parquet; default: CSV on stdout."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes a row.")] = 3,
    encoder: AdapterEncoder = None,
    test_views: TestViews = 1,
    coverage: Coverage = None,
    set_score: SetScore = "lac",
    classwise: Classwise = False,
    unknown: Unknown = None,
    keep: Keep = 0.95,
    answer_only: AnswerOnly = None,
    calibration_images: CalibrationImages = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Classify images: one row each, in order; unreadable ones get an error in theirs (exit code 3)."""
    import dataclasses
    from collections import Counter

    from fewclip.data import NamedSource, display_path, find_images, is_features, is_listed, named_sources
    from fewclip.predictions import check_target, write_predictions
    from fewclip.verdicts import Doubts

    if output is not None:
        check_target(output)
    ignored: list[str] = []
    if len(images) == 1 and (is_features(images[0]) or is_listed(images[0])):
        found = named_sources(images[0])
    else:
        found = [NamedSource(image.path, image.name) for image in find_images(images, ignored=ignored)]
    classifier = open_adapter(adapter, encoder, device, batch_size, quiet, test_views=test_views)
    top = min(top, len(classifier.classes_))
    if calibration_images is not None:
        classifier.calibrate(calibration_images)
    doubts = Doubts(
        coverage=coverage, set_score=set_score, classwise=classwise,
        unknown=unknown, keep=keep, answer_only=answer_only,
    )  # fmt: skip
    doubts.check(classifier.method_, test_views=test_views)
    names = iter(found)
    withheld: Counter[str] = Counter()  # "unknown" and "unsure"

    def named() -> Iterator[Prediction]:
        for row in classifier.classify([image.source for image in found], top=top, **vars(doubts)):
            if word := row.extra.get("label"):
                withheld[word] += 1
            yield dataclasses.replace(row, name=next(names).name)

    written = write_predictions(named(), output, top=top, columns=doubts.columns, as_json=as_json)
    if not quiet:
        where = output or "stdout"
        done = written.rows - written.errors
        say(f"{done} of {written.rows} images classified, {written.errors} unreadable; rows are in {where}")
        for word in doubts.words:
            say(f"{word:<9} {withheld[word]} of {done}")
        if promise := doubts.promise(classifier.method_):
            say(f"promise   {promise}")
        if ignored:
            say(f"{len(ignored)} files are no images and have no row, the first: {display_path(ignored[0])}")
        if written.rows > written.errors:
            say(f"next      {program()} explain {shlex.quote(str(adapter))} IMAGE")
    if written.errors:
        raise typer.Exit(3)


@app.command()
def calibrate(
    adapter: AdapterArgument,
    images: Annotated[Path, typer.Argument(help="Labelled images it has not seen: folder or CSV.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new adapter; default: the same one.")
    ] = None,
    encoder: AdapterEncoder = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    quiet: Quiet = False,
) -> None:
    """Let the guarantees of an adapter rest on labelled images that it has not seen: they are then exact."""
    classifier = open_adapter(adapter, encoder, device, batch_size, quiet)
    classifier.calibrate(images, skip_unreadable=skip_unreadable)
    folder = classifier.save_pretrained(output or adapter, overwrite=output is None)
    if not quiet:
        say(f"promise   {classifier.method_.promise()}\nsaved     {folder}")
        say(f"next      {program()} predict {shlex.quote(str(folder))} IMAGES --coverage 0.9")


@app.command()
def evaluate(
    adapter: AdapterArgument,
    images: Annotated[Path, typer.Argument(help="Labelled images it has not seen: folder or CSV.")],
    report: Annotated[
        Optional[Path], typer.Option("--report", help="Folder for an HTML report with pictures.")  # noqa: UP045
    ] = None,
    encoder: AdapterEncoder = None,
    test_views: TestViews = 1,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure an adapter on labelled images: accuracy with interval, table of classes, mistakes."""
    from fewclip.data import is_features
    from fewclip.errors import ParameterError
    from fewclip.reports import report_evaluation

    if report is not None and is_features(images):
        raise ParameterError(
            "--report",
            expected="images",
            got="ready features",
            fix="Leave it out.",
        )
    classifier = open_adapter(adapter, encoder, device, batch_size, quiet, test_views=test_views)
    evaluation = classifier.evaluate(images, skip_unreadable=skip_unreadable)
    if as_json:
        print_json(evaluation.to_json())
    else:
        typer.echo(str(evaluation))
    if report is not None:
        path = report_evaluation(
            classifier, evaluation, report, source=images, adapter=adapter, program=program()
        )
        if not quiet:
            say(f"report    {path}")


@app.command()
def explain(
    adapter: AdapterArgument,
    image: Annotated[Path, typer.Argument(help="The image, or a file of features.")],
    row: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--row", min=0, help="Which row of a file of features; the first is 0."),
    ] = None,
    neighbours: Annotated[int, typer.Option("--neighbours", min=0, help="Labelled images to name.")] = 5,
    html: Annotated[
        Optional[Path], typer.Option("--html", help="Write a page with pictures and heat map to this file.")  # noqa: UP045
    ] = None,
    encoder: AdapterEncoder = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Say why an image gets its class: text against image evidence, images and channels that counted most."""
    from fewclip.cli.rows import one_source

    classifier = open_adapter(adapter, encoder, device, 1, quiet=True)
    source = one_source(image, row)
    explanation = classifier.explain(source, neighbours=neighbours, heat_map=html is not None or as_json)
    page = None if html is None else explanation.to_html(html)
    if as_json:
        print_json(explanation.to_json())
    else:
        typer.echo(str(explanation))
    if page is not None:
        say(f"page      {page}")


for verb in (verbs.add, verbs.remove, verbs.sort, suggest):
    app.command()(verb)


@app.command()
def embed(
    images: Annotated[Path, typer.Argument(help="Class folders, a table, or a folder of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npz or .parquet file.")],
    encoder: Encoder = "pocket",
    batch_size: BatchSize = 64,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the features of images to a file that every command reads (exit code 3: some unreadable)."""
    from fewclip.data import display_path
    from fewclip.embed import embed as write_features

    done = write_features(images, output, encoder=encoder, batch_size=batch_size, progress=not quiet)
    if as_json:
        print_json(
            {"file": display_path(output), "images": done.n_images, "encoded": done.n_encoded,
             "errors": dict(done.errors)}
        )  # fmt: skip
    if not quiet:
        say(f"{done.n_images} images, {done.n_encoded} encoded now, {len(done.errors)} unreadable: {output}")
        if done.errors:
            say(f"unreadable: {done.errors[0][1]}\nall of them are in {output}, with the reason")
        say(f"next      {program()} fit {shlex.quote(str(output))} -o NAME.adapter")
    if done.errors:
        raise typer.Exit(3)


@app.command(name="export-encoder")
def export_encoder(
    encoder: Annotated[str, typer.Argument(help="hf:ORG/NAME, or a folder with config.json.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    int8: Annotated[bool, typer.Option("--int8", help="8-bit weights: smaller, faster.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write an encoder's towers as ONNX: a folder that runs without torch models, as onnx:FOLDER."""
    from fewclip.encoders import load_encoder
    from fewclip.encoders.onnx import export_encoder as export

    export(load_encoder(encoder), folder, int8=int8)
    if not quiet:
        say(f"saved     {folder}")
        say(f"next      {program()} fit IMAGES -o NAME.adapter --encoder onnx:{shlex.quote(str(folder))}")


@app.command()
def demo(
    images: Annotated[
        Optional[Path], typer.Argument(help="Labelled images; default: simulated textile photos.")  # noqa: UP045
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report and adapter.")] = Path(
        "demo-output"
    ),
    encoder: Encoder = "pocket",
    shots: Annotated[
        str, typer.Option("--shots", help="Images a class, separated by commas.")
    ] = "1,2,4,8,16",
    methods: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--methods", help="Methods, separated by commas; default: all but calip."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods and shots on real images, write a report, and keep an adapter."""
    from rich.console import Console

    from fewclip.demo import DEFAULT_METHODS, run_demo

    def show(comparison: Comparison) -> None:
        if as_json:
            print_json(comparison.to_json())
        else:
            Console(highlight=False).print(comparison.to_rich())

    run_demo(
        images, output, encoder=encoder, methods=names(methods) if methods else DEFAULT_METHODS,
        shots=numbers(shots), seed=seed, device=device, batch_size=batch_size,
        skip_unreadable=skip_unreadable, progress=not quiet, program=program(), show=show,
    )  # fmt: skip


@app.command(name="list")
def list_(as_json: Json = False) -> None:
    """List methods and encoders."""
    from fewclip.cli.information import describe

    print_json(describe()) if as_json else _print_tables(describe())


@app.command()
def info(adapter: AdapterArgument, as_json: Json = False) -> None:
    """Say what an adapter is: classes, method, settings, estimate, versions."""
    from fewclip.cli.information import adapter_lines
    from fewclip.persistence import read_adapter

    stored = read_adapter(adapter)
    with stored.well_formed():
        lines = adapter_lines(adapter, stored.config)
    print_json(stored.config) if as_json else typer.echo(lines)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this installation: packages, encoders, devices, cache; and say what to install."""
    from fewclip.cli.information import checks

    results = checks()
    if as_json:
        print_json([vars(check) for check in results])
    else:
        for check in results:
            typer.echo(f"{'ok     ' if check.ok else 'missing'}  {check.name:<22} {check.detail}")
    if not all(check.ok or check.optional for check in results):
        raise typer.Exit(1)


def _print_tables(sections: dict[str, list[dict[str, str]]]) -> None:
    for heading, rows in sections.items():
        typer.echo(heading)
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            typer.echo(f"  {row['name']:<{width}}  {row['what']}")
