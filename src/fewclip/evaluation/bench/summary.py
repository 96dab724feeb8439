"""Cells summed up: who is compared with whom, and the comparison of the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fewclip.evaluation.bench.statistics import mean_interval
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


@dataclass(frozen=True)
class Row:
    """A method at a number of shots, over its seeds.

    Attributes:
        method: Name.
        shots: Images a class; 0 for zero-shot.
        n: Seeds that succeeded.
        failed: Seeds that did not.
        metrics: Mean of each metric over seeds; None where it is not defined.
        half: Half of the 95 % interval of the accuracy over seeds; None for fewer than two seeds.
        recall_half: The same of the mean per-class accuracy.
        n_support: Labelled images of the fit, the most over seeds.
        labels_used: Labels that the choice of settings has seen beyond them.
        seconds: Mean of fit and prediction.
        n_parameters: Trained numbers.
        megabytes: Largest peak memory.
    """

    method: str
    shots: int
    n: int
    failed: int
    metrics: dict[str, float | None]
    half: float | None
    recall_half: float | None
    n_support: int
    labels_used: int
    seconds: float | None
    n_parameters: int | None
    megabytes: float | None

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy, 0–1; None where every seed failed."""
        return self.metrics.get("acc1")

    @property
    def labels(self) -> str:
        """All labels that the figure rests on: ``1104`` or, with validation labels, ``1104+1302``."""
        return f"{self.n_support}+{self.labels_used}" if self.labels_used else f"{self.n_support}"


def rows_of(lines: Iterable[Line]) -> list[Row]:
    """The cells of a group, summed up over seeds, in the order of methods and shots."""
    found: dict[tuple[str, int], list[Line]] = {}
    for line in lines:
        found.setdefault((line["method"], line["shots"]), []).append(line)
    methods = list(dict.fromkeys(method for method, _ in found))
    order = sorted(found, key=lambda place: (methods.index(place[0]), place[1]))
    return [_row(*place, found[place]) for place in order]


def _row(method: str, shots: int, lines: list[Line]) -> Row:
    good = [line for line in lines if line["error"] is None]
    names = dict.fromkeys(name for line in good for name in line["metrics"])
    values = {name: [line["metrics"][name] for line in good] for name in names}
    means = {name: None if None in some else statistics.fmean(some) for name, some in values.items()}

    def largest(name: str) -> Any:
        return max((line[name] for line in good if line.get(name) is not None), default=None)

    return Row(
        method, shots, len(good), len(lines) - len(good), means,
        mean_interval(values["acc1"])[1] if good else None,
        mean_interval(values["mean_per_class_recall"])[1] if good else None,
        largest("n_support") or 0, largest("labels_used") or 0,
        statistics.fmean(line["seconds"] for line in good) if good else None,
        largest("n_parameters"), largest("peak_memory_mb"),
    )  # fmt: skip
