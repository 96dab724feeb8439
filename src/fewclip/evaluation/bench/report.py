"""The report of a run: Markdown, CSV, LaTeX and one HTML file, from the cells on disk."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fewclip.evaluation._text import count
from fewclip.evaluation.bench import plots
from fewclip.evaluation.bench.across import blocks, pair_table, protocol_table, rank_table
from fewclip.evaluation.bench.cells import read_cells
from fewclip.evaluation.bench.document import Document, Plot, Section, Table, as_latex, as_markdown
from fewclip.evaluation.bench.elsewhere import elsewhere
from fewclip.evaluation.bench.plan import Key
from fewclip.evaluation.bench.summary import Group, Line, Row, groups, rows_of
from fewclip.evaluation.bench.tables import all_metrics, at_most_shots, beside_published, over_shots
from fewclip.evaluation.page import render, write_page

Part = str | Table | Plot
_SHOWN_ERRORS = 20
_SCATTERS = (("time", "time", "seconds"), ("trained", "trained numbers", "n_parameters"))


def write_bench_report(runs: str | Path, folder: str | Path, *, title: str = "") -> Path:
    """Writes ``report.html``, ``report.md`` with its plots, ``tables.tex``, ``summary.csv``, ``cells.csv``.

    Args:
        runs: Folder with the cells of a run; one that is still going on may be reported, too.
        folder: Made if absent; an older report is replaced.
        title: The heading.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: No cells, or the folder cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    folder, lines = Path(folder), read_cells(runs)
    document = build(lines, title=title)
    for plot in document.plots():
        write_page(folder / f"{plot.name}.svg", plots.standalone(plot.svg))
    write_page(folder / "report.md", as_markdown(document))
    write_page(folder / "tables.tex", as_latex(document))
    write_page(folder / "summary.csv", summary_csv(lines))
    write_page(folder / "cells.csv", cells_csv(lines))
    return write_page(folder / "report.html", as_html(document))


def build(lines: Sequence[Line], *, title: str = "") -> Document:
    """The report as sections of text, tables and plots."""
    found = groups(lines)
    own = {g: some for g, some in found.items() if g.test == g.dataset and g.shift is None}
    sections = [_group_section(k, g, rows_of(some)) for k, (g, some) in enumerate(own.items())]
    sections += _across(own)
    sections += elsewhere(found)
    sections += _errors(lines)
    sections.append(Section("How it was measured", [*_notes(lines)]))
    return Document(title or "Few-shot benchmark", _lead(lines, own), _facts(lines), sections)


def as_html(document: Document) -> str:
    """One file that needs no other."""
    from markupsafe import Markup

    sections = []
    for k, section in enumerate(document.sections):
        parts = [
            {
                "kind": type(part).__name__,
                "part": part,
                "wide": Markup(getattr(part, "svg", "")),
                "narrow": Markup(getattr(part, "narrow", "")),
            }
            for part in section.parts
        ]
        sections.append({"id": f"section-{k}", "heading": section.heading, "parts": parts})
    return render(
        "bench.html.j2", title=document.title, lead=document.lead, facts=document.facts, sections=sections
    )


def summary_csv(lines: Sequence[Line]) -> str:
    """One line a method and number of shots in every group, shares in 0–1."""
    rows = []
    for group, some in groups(lines).items():
        for row in rows_of(some):
            flat = asdict(row)
            rows.append(group._asdict() | flat.pop("metrics") | flat)
    return _csv(rows)


def cells_csv(lines: Sequence[Line]) -> str:
    """One line a cell, without its images and versions."""
    rows = []
    for line in lines:
        flat = {name: line.get(name) for name in Key._fields} | (line["metrics"] or {})
        names = ("n_support", "labels_used", "n_test", "seconds", "n_parameters", "peak_memory_mb", "error")
        settings = " ".join(f"{k}={v:.6g}" for k, v in (line.get("settings") or {}).items())
        rows.append(flat | {name: line.get(name) for name in names} | {"settings": settings})
    return _csv(rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _group_section(k: int, group: Group, rows: Sequence[Row]) -> Section:
    last = at_most_shots(rows)
    shown = [_drawn(f"curves-{k}", rows, "shots", plots.curves)]
    for name, what, against in _SCATTERS:
        shown.append(_drawn(f"{name}-{k}", last, what, partial(plots.scatter, against=against)))
    published = beside_published(group.dataset, rows)
    spread = "mean ± 95 % interval over seeds" if any(row.n > 1 for row in rows) else "one seed"
    parts: list[Part | None] = [
        over_shots(rows, "acc1", f"Accuracy in %, {spread}."),
        *shown[:1],
        over_shots(rows, "mean_per_class_recall", "Mean per-class accuracy in %."),
        all_metrics(rows),
        *shown[1:],
        published,
    ]
    return Section(str(group), [part for part in parts if part is not None])


def _drawn(name: str, rows: Sequence[Row], against: str, draw: Callable[..., str]) -> Plot | None:
    wide, narrow = (draw(rows, name, width=width) for width in (plots.WIDE, plots.NARROW))
    return Plot(name, wide, narrow, plots.words(rows, f"accuracy against {against}")) if wide else None


def _across(own: dict[Group, list[Line]]) -> Iterable[Section]:
    for selection in dict.fromkeys(group.selection for group in own):
        found = blocks({g: lines for g, lines in own.items() if g.selection == selection})
        tables = [table for table in (rank_table(found), pair_table(found)) if table is not None]
        if tables:
            yield Section(f"Who is better, settings by {selection}", tables)
    protocols = protocol_table(own)
    if protocols is not None:
        yield Section("Protocols compared", [protocols])


def _errors(lines: Sequence[Line]) -> Iterable[Section]:
    bad = [line for line in lines if line["error"]]
    if bad:
        body = [
            [f"{line['dataset']}, {line['encoder']}", line["method"], str(line["shots"]), str(line["seed"]),
             line["error"]]
            for line in bad[:_SHOWN_ERRORS]
        ]  # fmt: skip
        caption = f"{count(len(bad), 'cell')} of {len(lines):,} failed; these are the first {len(body)}."
        yield Section("Failures", [Table(caption, ["data set", "method", "shots", "seed", "error"], body)])


def _lead(lines: Sequence[Line], own: dict[Group, list[Line]]) -> str:
    sets, methods = {g.dataset for g in own}, {line["method"] for line in lines}
    bad = sum(line["error"] is not None for line in lines)
    failed = f" {count(bad, 'cell')} failed, see below." if bad else ""
    return (
        f"{count(len(methods), 'method')} on {count(len(sets), 'data set')}: {count(len(lines), 'cell')}, "
        f"each one fit tested on images that it could not draw.{failed}"
    )


def _facts(lines: Sequence[Line]) -> dict[str, str]:
    def listed(name: str) -> str:
        return ", ".join(dict.fromkeys(str(line[name]) for line in lines if line[name] is not None))

    versions = next((line["versions"] for line in lines if line.get("versions")), {})
    return {
        "data sets": listed("dataset"),
        "encoders": listed("encoder"),
        "test images": ", ".join(
            dict.fromkeys(f"{line['n_test']:,}" for line in lines if line.get("n_test"))
        ),
        "seeds": str(len({line["seed"] for line in lines if line["shots"]})),
        "versions": ", ".join(f"{k} {versions[k]}" for k in ("fewclip", "torch") if k in versions),
    }


def _notes(lines: Sequence[Line]) -> Iterable[str]:
    yield (
        "All methods see the same images of a draw; k shots are among the 2k shots of the same seed. "
        "Intervals are Student's over seeds: they say how much the draw matters, not how well the number of "
        "test images pins a figure down."
    )
    if any(line.get("settings_other_half") for line in lines):
        yield (
            "Where settings were chosen on halves of the test images, each half was judged with the settings "
            "that were chosen on the other; the labels beside the number are those of one half."
        )
    versions = {tuple((line.get("versions") or {}).items()) for line in lines if line.get("versions")}
    if len(versions) > 1:
        yield f"The cells were made with {len(versions)} different sets of versions; cells.jsonl has them."
