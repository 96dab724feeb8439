"""Images with labels, wherever they come from, and what was understood of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.data.ready_features import FeatureRow, ReadyFeatures
from fewclip.data.stored import StoredImage

Source = Image.Image | str | Path | StoredImage | FeatureRow
Note = tuple[str, str]


@dataclass(frozen=True)
class LabelledSources:
    """Images with labels.

    Attributes:
        sources: Paths, PIL images, images inside something larger, or ready features.
        labels: The label of each.
        names: What to call each in messages, safe to print.
        classes: All labels, sorted, including those without an image.
        skipped: (name, reason) of everything that was not taken.
        origin: The folder, table or object, safe to print.
        ready: The file of ready features, if the images are that.
        kind: What it was read as, such as "class folders".
        split: The split that was read; "" where there are none.
        columns: (what, column) of a table: ("path", "file_name").
        broken: Those of ``skipped`` that should have been labelled images.
        called: What a class is called in its prompts, where the data say so.
    """

    sources: tuple[Source, ...]
    labels: tuple[Any, ...]
    names: tuple[str, ...]
    classes: tuple[Any, ...]
    skipped: tuple[Note, ...]
    origin: str
    ready: ReadyFeatures | None = None
    kind: str = "a list of images"
    split: str = ""
    columns: tuple[Note, ...] = ()
    broken: tuple[Note, ...] = ()
    called: Mapping[Any, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Iterable[int]) -> LabelledSources:
        """These images only; the classes stay."""
        rows = [int(i) for i in rows]
        return replace(
            self,
            sources=tuple(self.sources[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows),
            names=tuple(self.names[i] for i in rows),
        )

    def shots(self) -> dict[Any, int]:
        """Images of each class."""
        counts = Counter(self.labels)
        return {label: counts[label] for label in self.classes}

    def summary(self) -> str:
        """One line: images, classes, the smallest and the largest class, what was skipped."""
        return f"{self._counts()}, {len(self.skipped)} skipped"

    def items(self) -> list[tuple[str, str]]:
        """(heading, text): what it was read as, images and classes, columns, what was skipped and why."""
        split = f", split {self.split}" if self.split else ""
        rows = [("read", f"{self.origin}, {self.kind}{split}"), ("images", self._counts())]
        if self.columns:
            rows.append(("columns", ", ".join(f"{what} = {column}" for what, column in self.columns)))
        if self.called:
            label, name = next(iter(self.called.items()))
            rows.append(("names", f"from the data, such as {label} = '{name}'"))
        if self.skipped:
            rows.append(("skipped", skipped_in_words(self.skipped)))
        return rows

    def describe(self) -> str:
        """The ``items`` as lines: what ``fewclip data info`` and ``fewclip fit`` print."""
        return "\n".join(f"{heading:<9} {text}" for heading, text in self.items())

    def _counts(self) -> str:
        shots = self.shots()
        if not shots:
            return "0 images of 0 classes"
        by_size = sorted(shots, key=lambda label: (shots[label], str(label)))
        smallest, largest = by_size[0], by_size[-1]
        return (
            f"{count(len(self), 'image')} of {count(len(shots), 'class', 'classes')} "
            f"(smallest: {smallest} with {shots[smallest]}; largest: {largest} with {shots[largest]})"
        )


def skipped_in_words(skipped: Iterable[Note], *, examples: int = 3) -> str:
    """How many things were skipped for which reason, with the first names of each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped:
        by_reason.setdefault(reason, []).append(name)
    total = sum(map(len, by_reason.values()))
    parts = [
        f"{len(names)} × {reason} ({', '.join(names[:examples])}{', …' if len(names) > examples else ''})"
        for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]
    return f"{total}: {'; '.join(parts)}"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 class", "2 classes"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
