"""Cells summed up: who is compared with whom, and the comparison of the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fewclip.evaluation.comparison import ZERO_SHOT, Cell, Comparison

Line = Mapping[str, Any]


class Group(NamedTuple):
    """Cells that may be compared: the same data set, encoder, protocol and test images."""

    dataset: str
    encoder: str
    selection: str
    test: str
    shift: str | None

    def __str__(self) -> str:
        parts = [self.dataset, f"encoder {self.encoder}", f"settings by {self.selection}"]
        if self.test != self.dataset:
            parts.append(f"tested on {self.test}")
        if self.shift:
            parts.append(f"corrupted by {self.shift}")
        return ", ".join(parts)


def groups(lines: Iterable[Line]) -> dict[Group, list[Line]]:
    """Cells by what they may be compared in; zero-shot, which needs no protocol, stands in all of them."""
    lines = list(lines)
    found: dict[Group, list[Line]] = {}
    free = [line for line in lines if line["method"] == ZERO_SHOT]
    for line in lines:
        if line["method"] != ZERO_SHOT:
            found.setdefault(_group(line), []).append(line)
    for line in free:
        homes = [g for g in found if g._replace(selection="none") == _group(line)._replace(selection="none")]
        for group in homes or [_group(line)]:
            found.setdefault(group, []).insert(0, line)
    return found


def _group(line: Line) -> Group:
    return Group(*(line[name] for name in Group._fields))


def comparison_of(lines: Iterable[Line]) -> Comparison:
    """The cells of a group as the demo and the terminal show them."""
    lines = list(lines)
    cells = []
    for line in lines:
        metrics = line["metrics"] or {}
        cells.append(
            Cell(
                line["method"], line["shots"], line["seed"],
                metrics.get("acc1"), metrics.get("mean_per_class_recall"),
                line.get("n_support", 0), line["labels_used"], line["seconds"],
                line.get("settings") or {}, line["error"],
            )
        )  # fmt: skip
    n_test = max((line.get("n_test", 0) for line in lines), default=0)
    return Comparison(tuple(cells), n_test or 1, ())
