"""What a benchmark runs: data sets × encoders × protocols × methods × shots × seeds; the name of a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fewclip.errors import ParameterError
from fewclip.evaluation.bench.shifts import split_shift
from fewclip.evaluation.comparison import ZERO_SHOT
from fewclip.evaluation.protocol import check_methods
from fewclip.selection import PROTOCOLS

HALVES = "halves"
"""Value of ``BenchSet.val``: settings are chosen on one half of the test images and judged on the other."""

SPENDS_LABELS = ("full", "fewshot")


class Key(NamedTuple):
    """What names a cell; a run holds one line of each."""

    dataset: str
    encoder: str
    method: str
    shots: int
    seed: int
    selection: str
    test: str
    shift: str | None


class Fit(NamedTuple):
    """One fit; it gives a cell for everything that it is tested on."""

    method: str
    shots: int
    seed: int
    selection: str


@dataclass(frozen=True)
class BenchSet:
    """One data set.

    Attributes:
        name: What to call it.
        train: Images to draw from: class folders, a split folder, a table, or a file of features.
        test: Images to test on, of the same kinds; may be the same file.
        split: Which split of ``test`` to read where it has several: ``test`` or ``val``.
        val: Labelled images that settings may be chosen on; ``"halves"``: the test images of each class are
            dealt into two halves, settings are chosen on one and judged on the other, both ways round.
        templates: Sentences with ``{}``, or names of sets; None: the default.
        prompts: Sentences by class, or templates, as ``data.read_prompts`` gives them.
        transfer: Other images to test on, name → where; classes are matched by name.
        encoders: Only these, instead of those of the plan; ready features have one of their own.
        encoder_name: What to call the encoder of ready features; None: as their file says.
    """

    name: str
    train: str
    test: str
    split: str = "test"
    val: str | None = None
    templates: Sequence[str] | None = None
    prompts: Mapping[str, str | Sequence[str]] | Sequence[str] | None = None
    transfer: Mapping[str, str] = field(default_factory=dict)
    encoders: Sequence[str] | None = None
    encoder_name: str | None = None


@dataclass(frozen=True)
class Plan:
    """A whole run.

    Attributes:
        sets: The data sets, with distinct names.
        methods: Names of ``METHODS``; zero-shot only if it is among them.
        shots: Images a class.
        seeds: Seeds of the draws, and of methods that draw random numbers themselves.
        encoders: Names as ``load_encoder`` takes them.
        selections: How settings are chosen, see ``FewShotMethod``.
        shifts: Corruptions of the test images, such as ``blur-3``.

    Raises:
        ParameterError: An empty or unknown part.
    """

    sets: Sequence[BenchSet]
    methods: Sequence[str]
    shots: Sequence[int] = (1, 2, 4, 8, 16)
    seeds: Sequence[int] = (1, 2, 3)
    encoders: Sequence[str] = ("pocket",)
    selections: Sequence[str] = ("auto",)
    shifts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("sets", "methods", "shots", "seeds", "encoders", "selections", "shifts"):
            values = getattr(self, name)
            if isinstance(values, str) or (not values and name != "shifts"):
                raise ParameterError(name, expected="at least one", got=repr(values), fix="Pass a list.")
            if name != "sets":
                object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        check_methods(self.methods)
        _check_numbers(self.shots, self.seeds)
        for selection in self.selections:
            _check_selection(selection, self.sets)
        for shift in self.shifts:
            split_shift(shift)
        for one in self.sets:
            if one.name in one.transfer:
                fix = "Give the images to transfer to another name."
                raise ParameterError("transfer", expected="other names", got=repr(one.name), fix=fix)
        names = [one.name for one in self.sets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            fix = "Give each its own name."
            raise ParameterError("data sets", expected="distinct names", got=f"{twice[0]!r} twice", fix=fix)

    def fits(self) -> Iterator[Fit]:
        """Every fit: all of a seed before the next, so that the time left can be told early."""
        if ZERO_SHOT in self.methods:
            yield Fit(ZERO_SHOT, 0, 0, "none")  # depends on neither shots nor seed nor protocol
        adapted = [method for method in self.methods if method != ZERO_SHOT]
        for seed in self.seeds:
            for shots in self.shots:
                for selection in self.selections:
                    yield from (Fit(method, shots, seed, selection) for method in adapted)


def _check_numbers(shots: Sequence[int], seeds: Sequence[int]) -> None:
    for name, values, least in (("shots", shots, 1), ("seeds", seeds, 0)):
        bad = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < least]
        if bad:
            expected, fix = f"whole numbers of at least {least}", "Write them with commas, such as 1,2,4."
            raise ParameterError(name, expected=expected, got=repr(bad[0]), fix=fix)


def _check_selection(selection: str, sets: Sequence[BenchSet]) -> None:
    if selection not in PROTOCOLS:
        expected = f"one of {', '.join(PROTOCOLS)}"
        fix = "Choose one of these."
        raise ParameterError("selection", expected=expected, got=repr(selection), fix=fix)
    without = [one.name for one in sets if one.val is None]
    if selection in SPENDS_LABELS and without:
        raise ParameterError(
            f"selection {selection!r} on {without[0]}",
            expected="validation images to choose settings on",
            got="none",
            fix="Name them (--val), or 'halves' to choose on one half of the test images and judge on the "
            "other; or use loo, which needs none.",
        )
