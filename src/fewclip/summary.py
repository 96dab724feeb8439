"""What ``fit`` tells its user: what it saw, what it chose and why, how good that is."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fewclip.data._display import escape
from fewclip.selection import SelectionResult

_RENAMED_SHOWN = 3  # classes in the line of names


@dataclass(frozen=True)
class Summary:
    """The outcome of a fit, as lines; notebooks show it as a table.

    Attributes:
        method: Name of the method.
        encoder: Name of the encoder.
        shots: Images of each class.
        selection: What was tried and chosen.
        n_features: Channels of a feature.
        seconds: Time of the whole fit.
        n_encoded: Images that the encoder saw; the others came from the store.
        skipped: (name, reason) of files that were not used.
        origin: Where the images come from.
        renamed: (label, name) of classes that their prompts call something else than their label.
        scores: How its probabilities are calibrated; "" if unknown.
    """

    method: str
    encoder: str
    shots: Mapping[Any, int]
    selection: SelectionResult
    n_features: int
    seconds: float
    n_encoded: int
    skipped: Sequence[tuple[str, str]]
    origin: str
    renamed: Sequence[tuple[str, str]] = ()
    scores: str = ""

    def facts(self) -> dict[str, Any]:
        """What an adapter keeps of it, ready for JSON; no path beyond the folder's own name."""
        return {
            "shots": list(self.shots.values()),
            "n_features": self.n_features,
            "seconds": self.seconds,
            "n_encoded": self.n_encoded,
            "skipped": [[_relative(name), reason] for name, reason in self.skipped],
            "origin": self.origin.rstrip("/").rsplit("/", 1)[-1],
            "renamed": [list(entry) for entry in self.renamed],
        }

    @classmethod
    def from_facts(
        cls,
        facts: Mapping[str, Any],
        *,
        method: str,
        encoder: str,
        classes: Sequence[Any],
        selection: SelectionResult,
        scores: str,
    ) -> Self:
        """The summary that ``facts`` was taken from."""
        shots = dict(zip(classes, facts["shots"], strict=True))
        return cls(
            method=method, encoder=encoder, selection=selection, scores=scores, **{**facts, "shots": shots}
        )

    def items(self) -> list[tuple[str, str]]:
        """(heading, text), in the order of interest."""
        rows = [
            ("method", f"{self.method} on {self.encoder} features"),
            ("images", self._images()),
            ("settings", self._settings()),
            ("accuracy", self._accuracy()),
            ("time", self._time()),
        ]
        if self.scores:
            rows.insert(4, ("scores", self.scores))
        if self.renamed:
            rows.insert(2, ("names", self._names()))
        if self.skipped:
            reasons = Counter(reason for _, reason in self.skipped)
            first = {reason: name for name, reason in reversed(self.skipped)}
            text = "; ".join(
                f"{count} × {reason} (first: {first[reason]})" for reason, count in reasons.most_common(3)
            )
            rows.append(("skipped", f"{len(self.skipped)} files: {text}"))
        return rows

    def __str__(self) -> str:
        return "\n".join(f"{heading:<9} {text}" for heading, text in self.items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(heading)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for heading, text in self.items()
        )
        return f"<table>{rows}</table>"

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        estimate = self.selection.estimate
        return {
            "method": self.method,
            "encoder": self.encoder,
            "shots": {str(label): count for label, count in self.shots.items()},
            "protocol": self.selection.protocol,
            "settings": self.selection.settings,
            "strength": self.selection.strength,
            "labels_used": self.selection.labels_used,
            "estimate": vars(estimate) if estimate else None,
            "scores": self.scores,
            "seconds": self.seconds,
            "images_encoded": self.n_encoded,
            "skipped": [list(entry) for entry in self.skipped],
            "renamed": [list(entry) for entry in self.renamed],
        }

    def _images(self) -> str:
        counts = sorted(self.shots.values())
        each = f"{counts[0]} each" if counts[0] == counts[-1] else f"{counts[0]}–{counts[-1]} each"
        text = f"{sum(counts)} of {len(counts)} classes, {each}, from {self.origin}"
        textual = [str(label) for label, count in self.shots.items() if count == 0]
        return text + (f"; by name alone: {', '.join(textual[:5])}" if textual else "")

    def _names(self) -> str:
        shown = ", ".join(
            f"{escape(label)} is called '{escape(name)}'" for label, name in self.renamed[:_RENAMED_SHOWN]
        )
        hidden = len(self.renamed) - _RENAMED_SHOWN
        return shown + (f", and {hidden} more" if hidden > 0 else "") + " in its prompts"

    def _settings(self) -> str:
        if self.selection.table and "method" in self.selection.table[0]:
            return f"{self._members()}. {self.selection.note}"
        chosen = self.selection.settings
        parts = [
            f"{key} {value:.4g}"
            for key, value in chosen.items()
            if key != "n_channels" and (value or key == "alpha")
        ]
        if chosen.get("n_channels", self.n_features) < self.n_features:
            parts.append(f"{chosen['n_channels']:.0f} of {self.n_features} channels")
        strength = self.selection.strength
        if strength is not None and self.selection.settings:
            parts.append(f"images weigh {strength:.2g} × the text")
        return f"{', '.join(parts)}. {self.selection.note}" if parts else self.selection.note

    def _members(self) -> str:
        """The methods that were compared, each with how often it was right, and its weight."""
        parts = []
        for row in self.selection.table:
            estimate = "" if row["accuracy"] is None else f"{row['accuracy']:.1%} right, "
            parts.append(f"{row['method']} ({estimate}weight {row['weight']:.2g})")
        return ", ".join(parts)

    def _accuracy(self) -> str:
        estimate = self.selection.estimate
        if estimate is None:
            alone = max(self.shots.values(), default=0) < 2
            why = "without a second image of some class" if alone else "for a method that was trained on them"
            return f"no estimate {why}; measure with evaluate on other images"
        interval = f"95 % interval {estimate.low:.1%}–{estimate.high:.1%}"
        counts = {count for count in self.shots.values() if count}
        mean = " mean over classes," if len(counts) > 1 and estimate.kind != "validation estimate" else ""
        what = f"{estimate.kind} for images like these,{mean} {interval}, {estimate.n_images} images"
        text = f"{estimate.accuracy:.1%} ({what})"
        return text if self.method == "zero-shot" else f"{text}; zero-shot {estimate.zero_shot:.1%}"

    def _time(self) -> str:
        total = sum(self.shots.values())
        stored = max(0, total - self.n_encoded)
        source = f"{self.n_encoded} images encoded" + (f", {stored} from the store" if stored else "")
        return f"{self.seconds:.1f} s ({source})"


def _relative(name: str) -> str:
    """A skipped file without its folders: ``line 3: /home/a/b.jpg`` becomes ``line 3: b.jpg``."""
    line, colon, path = name.rpartition(": ")
    return line + colon + (os.path.basename(path) if os.path.isabs(path) else path)
