"""``fewclip prompts check``, and the options that choose prompts."""

from __future__ import annotations

import json

import pytest
from helpers import draw_folder, fewclip

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread", "fake_encoder")


@pytest.fixture
def swapped(tmp_path):
    """Sentences of which one speaks of another class."""
    path = tmp_path / "swapped.json"
    path.write_text(
        json.dumps({"blue": ["so blue."], "green": ["so green."], "red": ["red.", "quite blue."]})
    )
    return path


def test_a_prompt_of_another_class_is_found(photos, swapped):
    ran = fewclip("prompts", "check", photos, "--encoder", "fake", "--prompts", swapped, "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert (found["encoder"], found["images"]) == ("fake", 12)
    assert {row["class"]: row["images"] for row in found["classes"]} == {"blue": 4, "green": 4, "red": 4}
    worst = found["prompts"][0]
    assert (worst["class"], worst["prompt"], worst["nearest_class"]) == ("red", "quite blue.", "blue")
    assert worst["nearer_to_another_class"]
    assert len(found["prompts"]) == 4
    accuracies = [row["accuracy"] for row in found["prompts"]]
    assert accuracies == sorted(accuracies)


def test_the_text_marks_it(photos, swapped):
    ran = fewclip("prompts", "check", photos, "--encoder", "fake", "--prompts", swapped, "-q")
    assert (ran.code, ran.err) == (0, "")
    marked = [line for line in ran.out.splitlines() if line.startswith("! ") and "quite blue." in line]
    assert len(marked) == 1
    assert marked[0].endswith("nearer to blue")
    assert "of 12 images go to another class" in ran.out
    assert "class (worst first)" in ran.out


def test_many_prompts_are_cut_short_in_text_alone(photos):
    arguments = ("prompts", "check", photos, "--encoder", "fake", "-q", "--template-set", "openai-7")
    several = fewclip(*arguments, "--template", "one {}")
    assert "… and 4 more; --json shows all" in several.out
    assert len(json.loads(fewclip(*arguments, "--json").out)["prompts"]) == 21


def test_many_classes_are_cut_short_in_text_alone(tmp_path):
    photos = draw_folder(tmp_path / "many", [f"red_{i}" for i in range(22)], n=1)
    lines = fewclip("prompts", "check", photos, "--encoder", "fake", "-q").out.splitlines()
    assert lines.count("… and 2 more; --json shows all") == 2  # classes, and prompts


def test_a_file_of_templates_is_for_all_classes(photos, tmp_path):
    (tmp_path / "t.txt").write_text("one {}\ntwo {}\n")
    ran = fewclip("prompts", "check", photos, "--encoder", "fake", "--prompts", tmp_path / "t.txt", "--json")
    assert {row["prompt"] for row in json.loads(ran.out)["prompts"] if row["class"] == "red"} == {
        "one red",
        "two red",
    }


def test_names_are_warned_of(photos):
    (photos / "blue").rename(photos / "bleu-é")
    ran = fewclip("prompts", "check", photos, "--encoder", "fake", "--json")
    assert ran.code == 0
    assert "warning: the class name 'bleu é' may not be English" in ran.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--template-set", "openai-8"), "plain, default, openai-7"),
        (("--template", "no braces"), "no braces"),
        (("--prompts", "nowhere.csv"), "nowhere.csv"),
        (("--encoder", "banana"), "banana"),
    ],
)
@pytest.mark.parametrize("command", [("prompts", "check"), ("fit", "-o", "a")])
def test_wrong_options_are_one_error(photos, monkeypatch, tmp_path, command, arguments, part):
    monkeypatch.chdir(tmp_path)
    ran = fewclip(*command, photos, "--encoder", "fake", *arguments)
    assert (ran.code, ran.out) == (1, "")
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert part in errors[0]


def test_sentences_for_no_class_are_an_error(photos, tmp_path):
    (tmp_path / "p.csv").write_text("class,sentence\nreed,a red thing\n")
    ran = fewclip("prompts", "check", photos, "--encoder", "fake", "--prompts", tmp_path / "p.csv")
    assert ran.code == 1
    assert "prompts for 'reed'" in ran.err
    assert "Did you mean 'red'" in ran.err


def test_one_class_cannot_be_checked(tmp_path):
    ran = fewclip("prompts", "check", draw_folder(tmp_path / "p", ["red"]), "--encoder", "fake")
    assert ran.code == 1
    assert "at least two classes" in ran.err


def test_an_unreadable_image(photos):
    (photos / "red" / "zz.jpg").touch()
    assert "zz.jpg" in fewclip("prompts", "check", photos, "--encoder", "fake").err
    ran = fewclip("prompts", "check", photos, "--encoder", "fake", "--skip-unreadable", "--json")
    assert json.loads(ran.out)["images"] == 12


def test_fit_takes_a_template_set_and_a_table(photos, tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("class,name\nred,crimson red\nred,scarlet\n")
    ran = fewclip(
        *("fit", photos, "-o", tmp_path / "a", "--encoder", "fake", "--template-set", "dtd"),
        *("--prompts", table),
    )
    assert ran.code == 0, ran.err
    assert "warning: no prompts for 'blue', 'green'" in ran.err
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["prompts"] == [
        ["blue texture."],
        ["green texture."],
        ["crimson red texture.", "scarlet texture."],
    ]


@pytest.mark.parametrize(
    "command", [("prompts", "--help"), ("prompts", "check", "--help"), ("fit", "--help")]
)
def test_help_names_the_options(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    ran = fewclip(*command)
    assert ran.code == 0
    assert ("check" if command == ("prompts", "--help") else "--template-set") in ran.out
