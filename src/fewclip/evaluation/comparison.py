"""The outcome of the few-shot protocol: one cell a fit, summed up over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fewclip.errors import ParameterError
from fewclip.selection import wilson_interval

if TYPE_CHECKING:
    from rich.table import Table

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Cell:
    """One method on one draw.

    Attributes:
        method: Name in ``METHODS``.
        shots: Images a class that were asked for; 0 for zero-shot.
        seed: Seed of the draw; 0 for zero-shot.
        accuracy: On the test images, 0–1; None if the fit failed.
        balanced_accuracy: Mean recall, 0–1; None if the fit failed.
        n_support: Images of the support set.
        labels_used: Labels that the choice of settings has seen beyond the support set.
        seconds: Time of fit and prediction.
        settings: The chosen settings.
        error: Why it failed; None if it did not.
    """

    method: str
    shots: int
    seed: int
    accuracy: float | None
    balanced_accuracy: float | None
    n_support: int
    labels_used: int
    seconds: float
    settings: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """All cells of a comparison.

    Attributes:
        cells: Zero-shot (once), then every method on every draw.
        n_test: Test images.
        classes: Class labels, sorted.
    """

    cells: tuple[Cell, ...]
    n_test: int
    classes: tuple[Any, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names in the order of their cells."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def shots(self) -> tuple[int, ...]:
        """Ascending, without the 0 of zero-shot."""
        return tuple(sorted({cell.shots for cell in self.cells if cell.shots}))

    @property
    def errors(self) -> tuple[Cell, ...]:
        """The cells that failed."""
        return tuple(cell for cell in self.cells if cell.error is not None)

    def rows(self) -> list[dict[str, Any]]:
        """One row a method and number of shots (0 for zero-shot), in the order of methods and shots.

        ``mean`` of the accuracy, ``spread`` (sample standard deviation over seeds, 0 for one seed), ``n``
        (seeds that succeeded), ``failed`` (seeds that did not), and the mean ``seconds`` of those that did;
        None where all failed.
        """
        return [
            _row(method, shots, cells)
            for method in self.methods
            for shots in (0, *self.shots)
            if (cells := [c for c in self.cells if c.method == method and c.shots == shots])
        ]

    def row(self, method: str, shots: int) -> dict[str, Any] | None:
        """The row of a method at ``shots``; zero-shot's is the same at all. None: it was not run."""
        wanted = 0 if method == ZERO_SHOT else shots
        return next((r for r in self.rows() if r["method"] == method and r["shots"] == wanted), None)

    def best(self, shots: int) -> str:
        """The method with the highest mean accuracy at ``shots``, zero-shot included; the first on ties.

        Raises:
            ParameterError: Nothing was measured at ``shots``.
        """
        rows = [
            row for method in self.methods if (row := self.row(method, shots)) and row["mean"] is not None
        ]
        if not rows or (self.shots and shots not in self.shots):
            raise ParameterError(
                "shots",
                expected=f"one of {', '.join(map(str, self.shots)) or 'the measured ones'}",
                got=repr(shots),
                fix="Ask for a number of shots at which a method succeeded.",
            )
        return max(rows, key=lambda row: row["mean"])["method"]

    def seconds(self, method: str) -> float | None:
        """Mean seconds of a fit with its predictions; None if every one failed."""
        times = [cell.seconds for cell in self.cells if cell.method == method and cell.error is None]
        return statistics.fmean(times) if times else None

    def test_error(self) -> float:
        """Half the 95 % interval that the number of test images alone allows at the best mean, 0–1."""
        means = [row["mean"] for row in self.rows() if row["mean"] is not None]
        low, high = wilson_interval(max(means, default=0.5), self.n_test)
        return (high - low) / 2

    def caption(self) -> str:
        """What the numbers are, in a few sentences."""
        seeds = len({cell.seed for cell in self.cells if cell.shots})
        spread = f", mean ± standard deviation over {seeds} draws of the shots" if seeds > 1 else ""
        return (
            f"Accuracy in %{spread}; {self.n_test:,} test images pin it down to about "
            f"± {100 * self.test_error():.1f} points. Seconds: one fit and its predictions, on features."
            + self._on_text_alone()
        )

    def _on_text_alone(self) -> str:
        """What it means that methods have zero-shot's figure; nothing where none has."""
        text = self.row(ZERO_SHOT, 0)
        others = [row for row in self.rows() if row["shots"] and row["mean"] is not None]
        if text is None or not any((row["mean"], row["spread"]) == (text["mean"], 0) for row in others):
            return ""
        return (
            " Where a method has zero-shot's figure, the labelled images have not proven that they help (few "
            "classes, few images), and the text decides alone."
        )

    def to_rich(self) -> Table:
        """A table for the terminal: methods as rows, shots as columns, the best of each column bold."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        shots = self.shots or (0,)
        remarks = [f"{c.method}, {c.shots} shots, seed {c.seed}: {c.error}" for c in self.errors[:3]]
        table = Table(
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            caption=Text("\n".join([self.caption(), *remarks])),
            caption_justify="left",
        )
        table.add_column("method", no_wrap=True)
        for k in shots:
            title = f"{k} shot{'' if k == 1 else 's'}" if k == shots[0] else str(k)
            table.add_column(title if k else "accuracy", justify="right", no_wrap=True)
        table.add_column("seconds", justify="right", no_wrap=True)
        for method in self.methods:
            cells = [
                Text(
                    accuracy_text(self.row(method, k)).replace(" ± ", "±"),
                    style="bold" if self.is_best(method, k) else "",
                )
                for k in shots
            ]
            table.add_row(Text(method), *cells, seconds_text(self.seconds(method)))
        return table

    def is_best(self, method: str, shots: int) -> bool:
        """Whether ``method`` has the highest mean at ``shots``."""
        return self.row(method, shots) in self._leaders(shots)

    def to_json(self) -> dict[str, Any]:
        """Cells and rows as plain Python."""
        return {
            "n_test": self.n_test,
            "classes": list(self.classes),
            "rows": self.rows(),
            "cells": [asdict(cell) for cell in self.cells],
        }

    def _leaders(self, shots: int) -> list[dict[str, Any]]:
        rows = [
            row for method in self.methods if (row := self.row(method, shots)) and row["mean"] is not None
        ]
        return [row for row in rows if row["mean"] == max(r["mean"] for r in rows)]


def accuracy_text(row: dict[str, Any] | None) -> str:
    """``91.2 ± 0.4`` in percent; a dash where nothing succeeded."""
    if row is None or row["mean"] is None:
        return "–"
    spread = f" ± {100 * row['spread']:.1f}" if row["n"] > 1 else ""
    partly = f" ({row['n']} of {row['n'] + row['failed']})" if row["failed"] else ""
    return f"{100 * row['mean']:.1f}{spread}{partly}"


def seconds_text(seconds: float | None) -> str:
    """Two digits that matter."""
    if seconds is None:
        return "–"
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"


def _row(method: str, shots: int, cells: Sequence[Cell]) -> dict[str, Any]:
    accuracies = [cell.accuracy for cell in cells if cell.accuracy is not None]
    seconds = [cell.seconds for cell in cells if cell.accuracy is not None]
    return {
        "method": method,
        "shots": shots,
        "mean": statistics.fmean(accuracies) if accuracies else None,
        "spread": (statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0) if accuracies else None,
        "n": len(accuracies),
        "failed": len(cells) - len(accuracies),
        "seconds": statistics.fmean(seconds) if seconds else None,
    }
