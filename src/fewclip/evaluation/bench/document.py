"""A report before it is Markdown, LaTeX or HTML: sections of paragraphs, tables and plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$",
    "–": "--", "×": r"$\times$", "≥": r"$\geq$", "<": r"$<$", ">": r"$>$", "…": r"\ldots{}",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        caption: What the numbers are.
        head: Titles of the columns; the first column names the rows.
        rows: The cells.
        best: (row, column) of the cells to stress.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Plot:
    """A picture.

    Attributes:
        name: Of its file, without suffix.
        svg: An ``<svg>`` element with the colours of the page as variables.
        narrow: The same for narrow windows.
        words: The picture in words.
    """

    name: str
    svg: str
    narrow: str
    words: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in order."""

    heading: str
    parts: Sequence[str | Table | Plot]


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: The heading.
        lead: One paragraph in plain words.
        facts: What was measured on what.
        sections: The rest.
    """

    title: str
    lead: str
    facts: dict[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()

    def tables(self) -> Iterator[tuple[Section, Table]]:
        """All tables with their sections."""
        for section in self.sections:
            yield from ((section, part) for part in section.parts if isinstance(part, Table))

    def plots(self) -> Iterator[Plot]:
        """All plots."""
        for section in self.sections:
            yield from (part for part in section.parts if isinstance(part, Plot))


def as_markdown(document: Document) -> str:
    """GitHub's Markdown; plots are files ``NAME.svg`` beside it."""
    lines = [f"# {_plain(document.title)}", "", document.lead, ""]
    lines += [f"- {name}: {_plain(text)}" for name, text in document.facts.items()]
    for section in document.sections:
        lines += ["", f"## {_plain(section.heading)}"]
        for part in section.parts:
            lines.append("")
            if isinstance(part, Table):
                lines += _markdown_table(part)
            elif isinstance(part, Plot):
                lines.append(f"![{_plain(part.words)}]({part.name}.svg)")
            else:
                lines.append(_plain(part))
    return "\n".join(lines) + "\n"


def as_latex(document: Document) -> str:
    r"""The tables, for ``\input`` after ``\usepackage{booktabs}``."""
    parts = ["% Tables of fewclip bench report; they need \\usepackage{booktabs}."]
    for section, table in document.tables():
        columns = "l" + "r" * (len(table.head) - 1)
        rows = [
            " & ".join(
                rf"\textbf{{{_latex(cell)}}}" if (r, c) in table.best else _latex(cell)
                for c, cell in enumerate(row)
            )
            + r" \\"
            for r, row in enumerate(table.rows)
        ]
        caption = _latex(f"{section.heading}. {table.caption}")
        parts += ["", r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
        parts += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        parts += [" & ".join(map(_latex, table.head)) + r" \\", r"\midrule", *rows, r"\bottomrule"]
        parts += [r"\end{tabular}", r"\end{table}"]
    return "\n".join(parts) + "\n"


def _markdown_table(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_plain(cell) for cell in cells) + " |"

    rows = [
        line([f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(row)])
        for r, row in enumerate(table.rows)
    ]
    rule = "|---|" + "---:|" * (len(table.head) - 1)
    return [_plain(table.caption), "", line(table.head), rule, *rows]


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
