"""The report: one HTML file that stands alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewclip.evaluation.page import render, write_page
from fewclip.evaluation.sections import Section

REPORT = "index.html"


def write_report(
    folder: str | Path,
    *,
    title: str,
    lead: str,
    figures: Sequence[tuple[str, str, str]] = (),
    facts: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """Writes ``index.html`` into ``folder``, whole or not at all.

    Args:
        folder: Made if absent; a report in it is replaced.
        title: The heading.
        lead: One paragraph in plain words.
        figures: The headline numbers, (name, value, remark).
        facts: What was measured on what: encoder, images, classes, …
        sections: What follows; ``fewclip.evaluation.sections`` makes them.

    Returns:
        The path of the file.

    Raises:
        DataError: ``folder`` cannot be written.
    """
    page = render(
        "report.html.j2",
        title=title,
        lead=" ".join(lead.split()),
        figures=list(figures),
        facts=dict(facts or {}),
        sections=list(sections),
    )
    return write_page(Path(folder) / REPORT, page)
