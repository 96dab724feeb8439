"""Sections of a report on other images than those of the data set: corrupted ones, other data sets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from fewclip.evaluation._text import count
from fewclip.evaluation.bench.document import Section, Table
from fewclip.evaluation.bench.shifts import KINDS, SEVERITIES, split_shift
from fewclip.evaluation.bench.summary import Group, Line, Row, rows_of
from fewclip.evaluation.bench.tables import at_most_shots, percent

Home = tuple[str, str, str]
"""(data set, encoder, protocol)"""


def elsewhere(groups: Mapping[Group, list[Line]]) -> Iterator[Section]:
    """Robustness and transfer of every data set, encoder and protocol, at the most shots."""
    homes: dict[Home, dict[Group, list[Line]]] = {}
    for group, lines in groups.items():
        homes.setdefault((group.dataset, group.encoder, group.selection), {})[group] = lines
    for (dataset, encoder, selection), found in homes.items():
        where = f"{dataset}, encoder {encoder}, settings by {selection}"
        rows = {
            (group.test, group.shift): {row.method: row for row in at_most_shots(rows_of(lines))}
            for group, lines in found.items()
        }
        clean = rows.get((dataset, None), {})
        shifted = {shift: some for (_, shift), some in rows.items() if shift}
        if shifted:
            yield Section(f"Corrupted test images: {where}", _robustness(clean, shifted))
        others = {test: some for (test, shift), some in rows.items() if test != dataset and not shift}
        if others:
            notes = [line["note"] for lines in found.values() for line in lines if line.get("note")]
            table = _transfer(dataset, clean, others)
            yield Section(f"Transfer: {where}", [table, *dict.fromkeys(notes)])


def _robustness(clean: Mapping[str, Row], shifted: Mapping[str, Mapping[str, Row]]) -> list[Table]:
    kinds = [kind for kind in KINDS if any(split_shift(shift)[0] == kind for shift in shifted)]
    severities = [s for s in SEVERITIES if any(split_shift(shift)[1] == s for shift in shifted)]
    methods = list(dict.fromkeys(name for some in (clean, *shifted.values()) for name in some))

    def mean(method: str, place: int, value: str | int | None) -> str:
        chosen = [
            some[method].accuracy
            for shift, some in shifted.items()
            if (value is None or split_shift(shift)[place] == value) and method in some
        ]
        known = [accuracy for accuracy in chosen if accuracy is not None]
        return percent(statistics.fmean(known) if known else None)

    shots = max((row.shots for row in clean.values()), default=0)
    caption = f"Accuracy in % at {count(shots, 'shot')}, mean over "
    by_kind = [
        [m, _clean(clean, m), *(mean(m, 0, kind) for kind in kinds), mean(m, 0, None)] for m in methods
    ]
    by_severity = [[m, _clean(clean, m), *(mean(m, 1, s) for s in severities)] for m in methods]
    heads = (["method", "as they are", *kinds, "mean"], ["method", "as they are", *map(str, severities)])
    over = (count(len(severities), "severity", "severities"), f"{count(len(kinds), 'kind')} of corruption")
    return [
        Table(f"{caption}{what}.", head, body)
        for what, head, body in zip(over, heads, (by_kind, by_severity), strict=True)
    ]


def _clean(clean: Mapping[str, Row], method: str) -> str:
    row = clean.get(method)
    return percent(None) if row is None else f"{percent(row.accuracy, row.half)} ({row.labels})"


def _transfer(dataset: str, clean: Mapping[str, Row], others: Mapping[str, Mapping[str, Row]]) -> Table:
    methods = list(dict.fromkeys(name for some in (clean, *others.values()) for name in some))
    body = []
    for method in methods:
        found = [some.get(method) for some in others.values()]
        cells = [percent(None) if row is None else percent(row.accuracy, row.half) for row in found]
        body.append([method, _clean(clean, method), *cells])
    shots = max((row.shots for row in clean.values()), default=0)
    caption = (
        f"Fitted on {dataset} alone, {count(shots, 'shot')}: accuracy in % on the images of others, with the "
        "classes that both have."
    )
    return Table(caption, ["method", dataset, *others], body)
