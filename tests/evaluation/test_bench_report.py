"""The report of a benchmark: statistics by hand, tables, and pages that stand alone."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import fetches

from fewclip.errors import DataError
from fewclip.evaluation.bench import read_cells, write_bench_report
from fewclip.evaluation.bench.across import blocks, pair_table, protocol_table, rank_table
from fewclip.evaluation.bench.document import Document, Section, Table, as_latex, as_markdown
from fewclip.evaluation.bench.published import published, published_for
from fewclip.evaluation.bench.statistics import mean_interval, mean_ranks, paired
from fewclip.evaluation.bench.summary import groups, rows_of
from fewclip.evaluation.bench.tables import beside_published, over_shots

METRICS = {"acc5": None, "nll": 1.0, "brier": 0.5, "ece": 0.1}


def cell(method: str, shots: int, seed: int, accuracy: float | None, **more) -> dict:
    metrics = {"acc1": accuracy, "mean_per_class_recall": accuracy, **METRICS}
    line = {
        "dataset": "Caltech-101", "encoder": "fake", "method": method, "shots": shots, "seed": seed,
        "selection": "loo" if shots else "none", "test": "Caltech-101", "shift": None, "labels_used": 0,
        "metrics": None if accuracy is None else metrics,
        "seconds": 0.5 + shots, "error": None if accuracy is not None else "ValueError: <no> luck",
        "n_support": 3 * shots, "n_test": 50, "n_parameters": 7 if method == "ape" else 0,
        "peak_memory_mb": 99.0, "versions": {"fewclip": "1", "torch": "2"}, "settings": {"alpha": 1.5},
    }  # fmt: skip
    return line | more


CELLS = [
    cell("zero-shot", 0, 0, 0.50),
    cell("tip-adapter", 1, 1, 0.50), cell("tip-adapter", 1, 2, 0.60), cell("tip-adapter", 4, 1, 0.70),
    cell("tip-adapter", 4, 2, 0.80), cell("ape", 1, 1, 0.60), cell("ape", 1, 2, 0.60),
    cell("ape", 4, 1, 0.80), cell("ape", 4, 2, None),
]  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "runs").mkdir()
    lines = "".join(json.dumps(line) + "\n" for line in CELLS)
    (tmp_path / "runs" / "a.jsonl").write_text(lines)
    return tmp_path / "runs"


# ---- statistics ----


def test_the_interval_of_three_seeds_by_hand():
    # s = 0.1, t of 2 degrees of freedom = 4.3027 (table), √3 = 1.7321.
    mean, half = mean_interval([0.6, 0.7, 0.8])
    assert mean == pytest.approx(0.7)
    assert half == pytest.approx(4.3027 * 0.1 / 1.7321, rel=1e-4)
    assert mean_interval([0.6]) == (0.6, None)
    assert mean_interval([0.6, 0.6])[1] == 0


def test_ranks_by_hand():
    given = [{"a": 0.9, "b": 0.8, "c": 0.8}, {"a": 0.1, "b": 0.3, "c": 0.2}, {"a": 1.0, "b": 0.9}]
    assert mean_ranks(given) == {"a": 2.0, "b": 1.75, "c": 2.25}  # the last lacks c
    assert mean_ranks([]) == {}


def test_pairs_by_hand():
    found = paired({("x", 1): [0.1, 0.3], ("x", 2): [0.0], ("x", 3): [-0.2, 0.0]})
    assert found.difference == pytest.approx((0.2 + 0.0 - 0.1) / 3)  # units weigh alike
    assert (found.wins, found.ties, found.losses, found.units) == (2, 2, 1, 3)
    # Of 27 equally likely resamples one has mean −0.1 and one 0.2: more than 2.5 % each.
    assert (found.low, found.high) == pytest.approx((-0.1, 0.2))
    alone = paired({("x", 1): [0.1, 0.3]})
    assert (alone.low, alone.high, alone.units) == (None, None, 1)
    assert paired({1: [0.1], 2: [0.1]}).low == pytest.approx(0.1)


def test_the_bootstrap_interval_against_a_naive_one():
    values = np.random.default_rng(3).normal(0.02, 0.05, 30)
    found = paired({k: [v] for k, v in enumerate(values)})
    rng = np.random.default_rng(8)
    means = np.sort([rng.choice(values, 30).mean() for _ in range(20000)])
    assert found.low == pytest.approx(means[500], abs=0.002)
    assert found.high == pytest.approx(means[-500], abs=0.002)
    assert paired({k: [v] for k, v in enumerate(values)}) == found  # fixed seed


# ---- summary and tables ----


def test_zero_shot_stands_in_every_group_and_rows_sum_up_seeds():
    both = [*CELLS, *[line | {"selection": "full", "labels_used": 9} for line in CELLS[1:3]]]
    found = groups(both)
    assert [group.selection for group in found] == ["loo", "full"]
    assert all(lines[0]["method"] == "zero-shot" for lines in found.values())
    rows = {(row.method, row.shots): row for row in rows_of(next(iter(found.values())))}
    tip, ape = rows["tip-adapter", 4], rows["ape", 4]
    assert tip.accuracy == pytest.approx(0.75)
    assert tip.half == pytest.approx(12.7062 * np.std([0.7, 0.8], ddof=1) / np.sqrt(2), rel=1e-4)
    assert (tip.n, tip.failed, tip.labels, tip.seconds) == (2, 0, "12", 4.5)
    assert (ape.n, ape.failed, ape.accuracy, ape.half) == (1, 1, 0.8, None)
    full = rows_of(list(found.values())[1])
    assert full[1].labels == "3+9"
    alone = groups([CELLS[0]])
    assert [group.selection for group in alone] == ["none"]


def test_the_table_over_shots():
    table = over_shots(rows_of(next(iter(groups(CELLS).values()))), "acc1", "Accuracy.")
    assert table.head == ["method", "1 shot", "4 shots"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["zero-shot"] == ["50.0 (0)", "50.0 (0)"]
    assert rows["ape"] == ["60.0 ± 0.0 (3)", "80.0 (12, 1 failed)"]
    assert table.best == {(2, 1), (2, 2)}
    failed = over_shots(rows_of([cell("ape", 1, 1, None)]), "acc1", "Accuracy.")
    assert (failed.rows[0][1], failed.best) == ("failed", frozenset())


def test_ranks_and_pairs_over_draws():
    found = blocks(groups(CELLS))
    assert found["Caltech-101", "fake", 1, 2] == {"tip-adapter": 0.6, "ape": 0.6, "zero-shot": 0.5}
    ranks = {row[0]: row[1:] for row in rank_table(found).rows}
    # Whole draws: 1 shot of both seeds and 4 shots of seed 1.
    assert ranks["ape"] == ["1.17", "1.25", "1.00"]
    assert ranks["zero-shot"] == ["2.83", "2.75", "3.00"]
    pairs = {row[0]: row[1:] for row in pair_table(found).rows}
    assert pairs["ape − tip-adapter"][0] == "+5.00"  # (0.1, 0.1) and (0.0): units 0.1 and 0
    assert pairs["ape − tip-adapter"][2:] == ["2 / 1 / 0", "2"]


def test_protocols_on_the_same_draws():
    other = [line | {"selection": "full", "metrics": line["metrics"] | {"acc1": 0.9}} for line in CELLS[1:3]]
    (row,) = protocol_table(groups([*CELLS, *other])).rows
    assert row[:3] == ["tip-adapter", "full − loo", "+35.00"]
    assert row[4:] == ["2 / 0 / 0", "2"]
    assert protocol_table(groups(CELLS)) is None


def test_published_numbers_are_marked():
    assert len(published()) > 400
    assert all(0 < one.accuracy < 1 and "arXiv" in one.source for one in published())
    assert {one.dataset for one in published_for("clip_vitb32_caltech101", ["ape"], [1])} == {"caltech101"}
    assert {one.dataset for one in published_for("Oxford Flowers", ["ape"], [1])} == {"oxford_flowers"}
    assert published_for("grocery", ["ape"], [1]) == []
    table = beside_published("Caltech-101", rows_of(next(iter(groups(CELLS).values()))))
    assert "Published, other features (RN50" in table.caption
    (ape,) = [one.accuracy for one in published_for("caltech101", ["ape"], [1])]
    assert ["ape", "RN50", f"60.0 / {100 * ape:.1f}"] in [list(row[:3]) for row in table.rows]
    assert beside_published("grocery", rows_of(CELLS)) is None


# ---- files ----


def test_everything_is_written_and_the_page_stands_alone(runs, tmp_path):
    page = write_bench_report(runs, tmp_path / "report", title="How <good>?")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "report.md", "tables.tex", "summary.csv", "cells.csv", "curves-0.svg",
            "time-0.svg", "trained-0.svg"} <= names  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert fetches(text) == []
    assert "How &lt;good&gt;?" in text
    assert "ValueError: &lt;no&gt; luck" in text
    assert text.count("<svg role") == 6  # three plots, wide and narrow
    ids = [part.split('"', 1)[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    for name in ("curves-0.svg", "time-0.svg"):
        picture = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert ET.fromstring(picture.split("\n", 1)[1]).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in picture
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "| ape | **60.0 ± 0.0 (3)** | **80.0 (12, 1 failed)** |" in markdown
    assert "](curves-0.svg)" in markdown
    with open(tmp_path / "report" / "cells.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["acc1"] for row in rows[:2]] == ["0.5", "0.5"]
    assert len(rows) == 9
    with open(tmp_path / "report" / "summary.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 5


def test_a_torn_last_line_is_no_cell(runs):
    with open(runs / "a.jsonl", "a") as file:
        file.write('{"dataset": "Cal')
    assert len(read_cells(runs)) == 9
    (runs / "b.jsonl").write_text(json.dumps(CELLS[0]) + "\n")
    with pytest.warns(UserWarning, match="1 cells stand in .* twice"):
        assert len(read_cells(runs)) == 9


@pytest.mark.parametrize("made", [True, False])
def test_no_cells(tmp_path, made):
    if made:
        (tmp_path / "runs").mkdir()
    with pytest.raises(DataError, match="cells"):
        write_bench_report(tmp_path / "runs", tmp_path / "report")


def test_special_characters_in_latex_and_markdown():
    table = Table("100 % of a_b", ["x|y", "±"], [["a&b", "−1"]], frozenset({(0, 1)}))
    document = Document("T", "Lead.", {}, [Section("S", [table])])
    latex = as_latex(document)
    assert r"S. 100 \% of a\_b" in latex
    assert r"a\&b & \textbf{$-$1} \\" in latex
    assert r"| x\|y | ± |" in as_markdown(document)
