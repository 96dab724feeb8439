"""Published accuracies of the methods, to put beside measured ones: other features, other draws."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

FILE = "published_results.csv"


@dataclass(frozen=True)
class Published:
    """One published figure: test accuracy, 0–1, of a method on the features of a backbone."""

    dataset: str
    backbone: str
    method: str
    shots: int
    accuracy: float
    source: str


@cache
def published() -> tuple[Published, ...]:
    """All figures that the package ships."""
    text = resources.files("fewclip.evaluation.bench").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(
        Published(
            row["dataset"], row["backbone"], row["method"], int(row["shots"]),
            round(float(row["accuracy"]) / 100, 6), row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


def published_for(dataset: str, methods: Sequence[str], shots: Sequence[int]) -> list[Published]:
    """The figures of a data set that goes by this name, of these methods (0 shots: zero-shot's).

    A name fits if its words, run together, hold the published one: ``Caltech-101``, ``my caltech101``.
    """
    words = re.findall(r"[a-z]+|\d+", dataset.lower())
    runs = {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
    return [
        one
        for one in published()
        if one.dataset.replace("_", "") in runs and one.method in methods and one.shots in {0, *shots}
    ]
