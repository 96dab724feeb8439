"""The few-shot protocol on small synthetic features."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from fewclip.data import draw_shots
from fewclip.errors import LabelError, ParameterError
from fewclip.evaluation import Cell, Comparison, Data, compare
from fewclip.methods import METHODS, TipAdapter

CLASSES = ["ant", "bee", "cat"]
METHOD_NAMES = ["zero-shot", "tip-adapter", "ape"]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16))

    def images(n_per_class: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(3), n_per_class)
        noise = rng.normal(size=(len(labels), 16))
        return (0.6 * centres[labels] + noise).astype(np.float32), np.array(CLASSES)[labels]

    text = [(centre + rng.normal(size=(2, 16))).astype(np.float32) for centre in centres]
    return Data(*images(6), *images(20), text_features=text, classes=np.array(CLASSES), logit_scale=20.0)


@pytest.fixture(scope="module")
def comparison(data) -> Comparison:
    return compare(data, methods=METHOD_NAMES, shots=[1, 4], seeds=[0, 1], progress=False)


def without_seconds(comparison: Comparison) -> list[Cell]:
    return [dataclasses.replace(cell, seconds=0.0) for cell in comparison.cells]


def test_zero_shot_is_computed_once_and_every_other_cell_in_order(comparison):
    places = [(cell.method, cell.shots, cell.seed) for cell in comparison.cells]
    draws = [(1, 0), (1, 1), (4, 0), (4, 1)]
    assert places == [
        ("zero-shot", 0, 0),
        *[(name, k, seed) for k, seed in draws for name in METHOD_NAMES[1:]],
    ]
    assert [cell.n_support for cell in comparison.cells] == [0, 3, 3, 3, 3, 12, 12, 12, 12]
    assert all(cell.error is None and 0 <= cell.accuracy <= 1 for cell in comparison.cells)
    assert comparison.n_test == 60
    assert comparison.classes == tuple(CLASSES)


def test_a_cell_is_what_the_method_itself_gives(data, comparison):
    support = draw_shots(data.labels, 4, seed=1)
    method = TipAdapter(data.text_features, classes=data.classes, logit_scale=20.0, random_state=0)
    method.fit(data.features[support], data.labels[support])
    cell = next(c for c in comparison.cells if (c.method, c.shots, c.seed) == ("tip-adapter", 4, 1))
    assert cell.accuracy == pytest.approx(method.score(data.test_features, data.test_labels))
    assert cell.balanced_accuracy == pytest.approx(cell.accuracy)  # as many images of each class
    assert cell.settings == method.selection_.settings
    assert cell.labels_used == 0


def test_the_same_twice(data, comparison):
    again = compare(data, methods=METHOD_NAMES, shots=[1, 4], seeds=[0, 1], progress=False)
    assert without_seconds(again) == without_seconds(comparison)


def test_all_methods_see_the_same_nested_draws(data):
    asked = []

    def draw(labels, shots, *, seed):
        asked.append((shots, seed))
        return draw_shots(labels, shots, seed=seed)

    compare(data, methods=METHOD_NAMES, shots=[1, 2], seeds=[3], draw=draw, progress=False)
    assert asked == [(1, 3), (2, 3)]
    assert set(draw_shots(data.labels, 1, seed=3)) < set(draw_shots(data.labels, 2, seed=3))


def test_a_class_with_fewer_images_gives_all_it_has(data):
    comparison = compare(data, methods=["tip-adapter"], shots=[10], seeds=[0], progress=False)
    assert comparison.cells[0].n_support == 18


def test_a_failing_cell_says_why_and_the_others_go_on(data, monkeypatch):
    class Picky(TipAdapter):
        def _fit(self, support, validation):
            if len(support.keys) > 3:
                raise ParameterError("shots", expected="one", got="more", fix="Use one.")
            return super()._fit(support, validation)

    monkeypatch.setitem(METHODS, "picky", Picky)
    comparison = compare(data, methods=["picky", "ape"], shots=[1, 2], seeds=[0], progress=False)
    failed = next(cell for cell in comparison.cells if cell.method == "picky" and cell.shots == 2)
    assert failed.error == "shots: expected one, got more. Use one."
    assert (failed.accuracy, failed.balanced_accuracy, failed.n_support) == (None, None, 6)
    assert comparison.errors == (failed,)
    assert comparison.row("picky", 2)["mean"] is None
    assert comparison.best(2) == "ape"
    assert "Use one." in rendered(comparison)
    json.dumps(comparison.to_json(), allow_nan=False)


def test_other_exceptions_pass(data, monkeypatch):
    class Broken(TipAdapter):
        def _fit(self, support, validation):
            raise ZeroDivisionError

    monkeypatch.setitem(METHODS, "broken", Broken)
    with pytest.raises(ZeroDivisionError):
        compare(data, methods=["broken"], shots=[1], seeds=[0], progress=False)


def test_validation_labels_are_counted(data):
    with_validation = dataclasses.replace(
        data, validation_features=data.test_features[::2], validation_labels=data.test_labels[::2]
    )
    comparison = compare(
        with_validation, methods=["ape"], shots=[2], seeds=[0], selection="full", progress=False
    )
    assert comparison.cells[0].labels_used == 30


def cell(method: str, shots: int, seed: int, accuracy: float, seconds: float = 1.0) -> Cell:
    return Cell(method, shots, seed, accuracy, accuracy, 3 * shots, 0, seconds)


HAND_MADE = Comparison(
    (
        cell("zero-shot", 0, 0, 0.5, 0.25),
        cell("a", 1, 0, 0.5, 2.0),
        cell("a", 1, 1, 0.7, 4.0),
        cell("a", 4, 0, 0.9, 3.0),
        cell("b", 1, 0, 0.3),
        cell("b", 1, 1, 0.5),
        cell("b", 4, 0, 0.9),
    ),
    100,
    ("x", "y"),
)


def test_rows_by_hand():
    rows = {(row["method"], row["shots"]): row for row in HAND_MADE.rows()}
    assert list(rows) == [("zero-shot", 0), ("a", 1), ("a", 4), ("b", 1), ("b", 4)]
    assert rows["a", 1]["mean"] == pytest.approx(0.6)
    assert rows["a", 1]["spread"] == pytest.approx(math.sqrt(0.02))  # the sample standard deviation
    assert (rows["a", 1]["n"], rows["a", 1]["seconds"]) == (2, 3.0)
    assert (rows["a", 4]["spread"], rows["a", 4]["n"]) == (0.0, 1)
    assert HAND_MADE.seconds("a") == 3.0


def test_the_best_method():
    assert HAND_MADE.best(1) == "a"
    assert HAND_MADE.best(4) == "a"  # the first on ties
    assert HAND_MADE.is_best("b", 4)
    assert not HAND_MADE.is_best("zero-shot", 4)
    with pytest.raises(ParameterError, match="one of 1, 4"):
        HAND_MADE.best(2)


def rendered(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(comparison.to_rich())
    return console.file.getvalue()


def test_the_table_for_the_terminal():
    text = rendered(HAND_MADE)
    for piece in ("60.0±14.1", "90.0", "0.25", "1 shot ", " 4 ", "100 test images"):
        assert piece in text
    line = next(line for line in text.splitlines() if "zero-shot" in line)
    assert line.count("50.0") == 2  # the same at any number of shots


def test_only_zero_shot(data):
    comparison = compare(data, methods=["zero-shot"], shots=[1, 4], seeds=[0, 1], progress=False)
    assert len(comparison.cells) == 1
    assert comparison.shots == ()
    assert comparison.best(0) == "zero-shot"
    assert "accuracy" in rendered(comparison)


def test_the_bar_goes_to_stderr(data, capsys):
    compare(data, methods=["zero-shot"], shots=[1], seeds=[0])
    out, err = capsys.readouterr()
    assert out == ""
    assert "1/1" in err


def test_arguments_that_do_not_fit(data):
    good = {"methods": ["ape"], "shots": [1], "seeds": [0], "progress": False}
    with pytest.raises(ParameterError, match="method 'nope': expected one of zero-shot"):
        compare(data, **good | {"methods": ["nope"]})
    for name in ("methods", "shots", "seeds"):
        with pytest.raises(ParameterError, match=f"{name}: expected a list of at least one"):
            compare(data, **good | {name: []})
    with pytest.raises(ParameterError, match="an integer of at least 1"):
        compare(data, **good | {"shots": [0]})


def test_data_that_does_not_belong_together(data):
    with pytest.raises(LabelError, match="test_labels: 'dog'"):
        dataclasses.replace(data, test_labels=np.array(["dog"] * 60))
    with pytest.raises(LabelError, match="labels: expected 17 of them, got 18"):
        dataclasses.replace(data, features=data.features[1:])
    with pytest.raises(LabelError, match="text_features: expected 3 of them, got 2"):
        dataclasses.replace(data, text_features=data.text_features[:2])
    with pytest.raises(LabelError, match="sorted distinct"):
        dataclasses.replace(data, classes=CLASSES[::-1])
