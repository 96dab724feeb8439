"""Methods compared over all draws at once: mean ranks, differences on the same draws, protocols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from fewclip.evaluation._text import count
from fewclip.evaluation.bench.document import Table
from fewclip.evaluation.bench.statistics import mean_ranks, paired
from fewclip.evaluation.bench.summary import Group, Line
from fewclip.evaluation.bench.tables import NOTHING
from fewclip.evaluation.comparison import ZERO_SHOT

_ALL_PAIRS = 8  # methods up to which all pairs are shown
Draw = tuple[str, str, int, int]
"""(data set, encoder, shots, seed)"""


def blocks(groups: dict[Group, list[Line]]) -> dict[Draw, dict[str, float]]:
    """Accuracy of every method on every draw; zero-shot's is the same on all draws of its group."""
    found: dict[Draw, dict[str, float]] = {}
    for group, lines in groups.items():
        good = [line for line in lines if line["error"] is None]
        for line in good:
            if line["method"] != ZERO_SHOT:
                draw = (group.dataset, group.encoder, line["shots"], line["seed"])
                found.setdefault(draw, {})[line["method"]] = line["metrics"]["acc1"]
        for line in good:
            if line["method"] == ZERO_SHOT:
                for draw, block in found.items():
                    if draw[:2] == (group.dataset, group.encoder):
                        block[ZERO_SHOT] = line["metrics"]["acc1"]
    return found


def rank_table(found: dict[Draw, dict[str, float]]) -> Table | None:
    """Mean rank at each number of shots and over all; None for fewer than two methods."""
    overall = mean_ranks(list(found.values()))
    if len(overall) < 2:
        return None
    shots = sorted({draw[2] for draw in found})
    columns = [mean_ranks([block for draw, block in found.items() if draw[2] == k]) for k in shots]
    order = sorted(overall, key=lambda name: overall[name])
    body = [[m, f"{overall[m]:.2f}", *(_rank(column.get(m)) for column in columns)] for m in order]
    n_sets, whole = len({draw[:2] for draw in found}), _whole(found)
    caption = (
        f"Mean rank by accuracy, 1 is best, ties shared, over {count(whole, 'draw')} of "
        f"{count(n_sets, 'data set')} on which every method succeeded ({len(found)} were made)."
    )
    return Table(caption, ["method", "all", *(count(k, "shot") for k in shots)], body)


def pair_table(found: dict[Draw, dict[str, float]]) -> Table | None:
    """Differences on the same draws: all pairs, or of many methods each against the best and zero-shot."""
    ranks = mean_ranks(list(found.values()))
    order = sorted(ranks, key=lambda name: ranks[name])
    if len(order) < 2:
        return None
    pairs: Iterable[Any] = combinations(order, 2)
    if len(order) > _ALL_PAIRS:
        pairs = [p for p in pairs if p[0] == order[0] or ZERO_SHOT in p]
    body = []
    for first, second in pairs:
        differences: dict[Any, list[float]] = {}
        for draw, block in found.items():
            if first in block and second in block:
                unit = (draw[0], draw[1], draw[3])
                differences.setdefault(unit, []).append(block[first] - block[second])
        body.append([f"{first} − {second}", *difference_cells(differences)])
    caption = (
        "Difference of accuracies on the same draws, in points, with its 95 % bootstrap interval over "
        "independent units (a data set and a seed; shots of a seed are nested). An interval that holds 0 "
        "proves nothing."
    )
    return Table(caption, ["pair", "difference", "95 % interval", "win / tie / loss", "units"], body)


def protocol_table(groups: dict[Group, list[Line]]) -> Table | None:
    """The same method on the same draw, settings chosen by two protocols; None if there is one only."""
    cells = {
        (g.dataset, g.encoder, line["shots"], line["seed"], line["method"], g.selection): line["metrics"][
            "acc1"
        ]
        for g, lines in groups.items()
        for line in lines
        if line["error"] is None and line["method"] != ZERO_SHOT
    }
    selections = list(dict.fromkeys(key[-1] for key in cells))
    body = []
    for first, second in combinations(selections, 2):
        for method in dict.fromkeys(key[4] for key in cells):
            differences: dict[Any, list[float]] = {}
            for key, accuracy in cells.items():
                other = cells.get((*key[:5], second))
                if key[4:] == (method, first) and other is not None:
                    differences.setdefault((key[0], key[1], key[3]), []).append(other - accuracy)
            if differences:
                body.append([method, f"{second} − {first}", *difference_cells(differences)])
    if not body:
        return None
    caption = "What choosing settings by another protocol gains on the same draws, in points of accuracy."
    head = ["method", "protocols", "difference", "95 % interval", "win / tie / loss", "units"]
    return Table(caption, head, body)


def difference_cells(differences: dict[Any, list[float]]) -> Sequence[str]:
    """Difference, interval, win / tie / loss and units as text."""
    one = paired(differences)
    interval = NOTHING
    if one.low is not None and one.high is not None:
        interval = f"{_points(one.low)} to {_points(one.high)}"
    counts = f"{one.wins} / {one.ties} / {one.losses}"
    return [_points(one.difference), interval, counts, str(one.units)]


def _whole(found: dict[Draw, dict[str, float]]) -> int:
    most = len({name for block in found.values() for name in block})
    return sum(len(block) == most for block in found.values())


def _rank(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}".replace("-", "−")  # + 0.0: there is no −0
