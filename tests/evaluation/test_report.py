"""The report: whole, self-contained, escaped, described for those who cannot see it."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fewclip.errors import DataError, ImageError, MissingExtraError
from fewclip.evaluation import (
    Cell,
    Comparison,
    ConfusedPair,
    Evaluation,
    Example,
    Neighbour,
    Picture,
    sections,
    write_report,
)
from fewclip.evaluation.plot import history_plot

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = "<b>x</b>"


class Page(HTMLParser):
    """Tags with their attributes; unbalanced ones are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(color: str = "red", size: tuple[int, int] = (400, 300)) -> Image.Image:
    return Image.new("RGB", size, color)


def jpeg(color: str) -> bytes:
    stream = io.BytesIO()
    picture(color).save(stream, "JPEG")
    return stream.getvalue()


def comparison() -> Comparison:
    cells = [Cell("zero-shot", 0, 0, 0.5, 0.5, 0, 0, 0.1)]
    for k, shots in enumerate((1, 4)):
        for seed in (0, 1):
            cells.append(Cell("ape", shots, seed, 0.7 + 0.1 * k + 0.01 * seed, 0.7, shots, 0, 0.2))
            cells.append(Cell("tip-adapter", shots, seed, None, None, shots, 0, 0.2, {}, "no <luck>"))
    return Comparison(tuple(cells), 200, ("a", "b"))


def evaluation(c: int = 3) -> Evaluation:
    classes = sorted([NASTY, *(f"class {k}" for k in range(c - 1))])
    probabilities = np.full((c, c), 0.1 / (c - 1))
    probabilities[:, 0] = 0.9
    return Evaluation.from_predictions(classes, probabilities, classes)


def example(label: str | None = NASTY, predicted: str = NASTY, share: float | None = 0.4) -> Example:
    near = [Neighbour(jpeg("blue"), NASTY, 'train/"b".jpg', 1.25, share)]
    return Example(picture(), "new/a.jpg", label, predicted, [(NASTY, 0.997), ("cat", 0.003)], near)


def write(folder, **changes):
    e = evaluation()
    options = {
        "comparison": comparison(),
        "evaluation": e,
        "examples": [example()],
        "pairs": [ConfusedPair(NASTY, "cat", 3, 4, [Picture(picture("green"), "new/c.jpg")])],
        "history": [],
        "notes": ["The defects are simulated."],
        "next_commands": ["fewclip predict flowers.adapter new/ -o predictions.csv"],
    }
    makers = {
        "comparison": sections.comparison_section,
        "evaluation": sections.classes_section,
        "examples": sections.examples_section,
        "pairs": sections.confused_section,
        "history": sections.training_section,
        "notes": sections.notes_section,
        "next_commands": sections.next_section,
    }
    given = options | {key: value for key, value in changes.items() if key in options}
    head = {
        "title": "Three classes",
        "lead": "Five photos\n  were enough.",
        "facts": {"encoder": "pocket", "classes": NASTY},
        "figures": sections.figures_of(e),
    }
    head |= {key: value for key, value in changes.items() if key not in options}
    parts = [makers[key](value) for key, value in given.items() if value]
    path = write_report(folder, sections=parts, **head)
    assert path == folder / "index.html"
    return path.read_text(encoding="utf-8")


def test_the_page_stands_alone(tmp_path):
    text = write(tmp_path / "deep" / "report")
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/jpeg;base64,", "#"))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert sorted(path.name for path in (tmp_path / "deep" / "report").iterdir()) == ["index.html"]


def test_headings_descriptions_and_ids(tmp_path):
    page = Page(write(tmp_path))
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("img")) == 3
    plots = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(plots) == 2  # for wide and for narrow windows
    assert "ape 70.5 ± 0.7 at 1, 80.5 ± 0.7 at 4" in plots[0]["aria-label"]
    assert "zero-shot 50.0 at any number of shots" in plots[0]["aria-label"]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {a["xlink:href"][1:] for _, a in page.tags if "xlink:href" in a}
    assert used <= set(ids)


def test_a_training_is_plotted_and_described(tmp_path):
    history = [
        {"epoch": k, "loss": 2 / k, "accuracy": 1 - 0.5 / k, "held_out_loss": 3 / k} for k in (1, 2, 4)
    ]
    page = Page(write(tmp_path, comparison=None, history=history))
    plots = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(plots) == 2
    words = "3 epochs: loss 2 to 0.5, accuracy on the labelled images while they were learnt 50.0% to 87.5%"
    assert plots[0]["aria-label"] == f"{words}; loss on images held out 3 to 0.75."
    assert "accuracy on the labelled images" in page.text
    assert "held out" not in history_plot([{"epoch": 1, "loss": 1.0, "accuracy": 0.5}])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_without_a_training_there_is_no_plot_of_it(tmp_path):
    assert "Training" not in Page(write(tmp_path)).text
    assert history_plot([]) == ""


def test_everything_handed_over_is_on_the_page(tmp_path):
    text = Page(write(tmp_path)).text
    for piece in (
        "Five photos were enough.",
        "The defects are simulated.",
        "fewclip predict flowers.adapter new/ -o predictions.csv",
        "70.5 ± 0.7",
        "no <luck>",
        "Right",
        "> 99 %",
        "40 %",
        "95 % interval",
        "Most often confused",
        "3 of 4",
    ):
        assert piece in text


def test_names_are_escaped_everywhere(tmp_path):
    text = write(
        tmp_path, title=NASTY, lead=NASTY, notes=[NASTY], next_commands=[NASTY], facts={NASTY: NASTY}
    )
    assert "<b>x" not in text
    assert text.count("&lt;b&gt;x&lt;/b&gt;") >= 12
    page = Page(text)
    assert page.all("img")[1]["alt"] == f'train/"b".jpg, labelled {NASTY}'


def test_undecodable_names_are_spelled_out(tmp_path):
    broken = os.fsdecode(b"caf\xe9.jpg")
    text = write(tmp_path, examples=[Example(picture(), broken, "a\u202eb", broken)])
    assert "caf\\xe9.jpg" in text
    assert "a\\u202eb" in text


def test_right_and_wrong_are_words_not_only_colours(tmp_path):
    def words(shown: Example) -> str:
        return Page(write(tmp_path, examples=[shown])).text

    assert "Right" in words(example())
    wrong = words(example(label="cat"))
    assert "Wrong" in wrong
    assert "in truth" in wrong
    unknown = words(example(label=None))
    assert "Right" not in unknown
    assert "Wrong" not in unknown
    assert "+1.25" in words(example(share=None))


def test_thumbnails_are_small_jpegs(tmp_path):
    page = Page(write(tmp_path, examples=[example()]))
    sizes = []
    for image in page.all("img"):
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.format == "JPEG"
            sizes.append(opened.size)
    assert sizes == [(160, 120), (96, 72), (96, 72)]


@pytest.mark.parametrize("missing", ["comparison", "evaluation", "both"])
def test_parts_may_be_absent(tmp_path, missing):
    names = ["comparison", "evaluation"] if missing == "both" else [missing]
    rest = dict.fromkeys(("examples", "pairs", "notes", "next_commands"))
    page = Page(write(tmp_path, **dict.fromkeys(names), **rest, facts={}))
    headings = {attributes.get("id") for attributes in page.all("h2")}
    assert headings == {"comparison", "classes"} - {
        {"evaluation": "classes"}.get(name, name) for name in names
    }


def test_zero_shot_alone_has_a_table_and_no_plot(tmp_path):
    alone = Comparison(comparison().cells[:1], 200, ("a", "b"))
    page = Page(write(tmp_path, comparison=alone, examples=[]))
    assert not page.all("figure")
    assert "50.0" in page.text


def test_many_classes_fold_and_many_methods_are_told_apart(tmp_path):
    cells = tuple(Cell(f"method {m}", 4, 0, m / 20, 0.5, 4, 0, 0.1) for m in range(20))
    text = write(tmp_path, evaluation=evaluation(30), comparison=Comparison(cells, 10, ("a", "b")))
    assert "20 more classes" in text
    assert all(text.count(f">method {m}<") >= 2 for m in range(20))


def test_a_failure_leaves_the_old_report(tmp_path, monkeypatch):
    before = write(tmp_path)
    with pytest.raises(ImageError, match=r"new/bad\.jpg"):
        write(tmp_path, examples=[Example(b"no image", "new/bad.jpg", None, "cat")])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fewclip.data._files.os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write(tmp_path, title="Another")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == before


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(DataError, match="a folder to write"):
        write(tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"


def test_the_same_twice_is_the_same_file(tmp_path):
    assert write(tmp_path / "a") == write(tmp_path / "b")


def test_an_absent_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'matplotlib.*pip install "fewclip\[plots\]"'):
        write(tmp_path)
    assert not (tmp_path / "index.html").exists()
