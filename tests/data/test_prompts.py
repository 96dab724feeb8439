"""From class names to sentences."""

from __future__ import annotations

import pytest

from fewclip.data import TEMPLATE_SETS, template_set
from fewclip.data.prompts import build_prompts, clean_class_name, renamed_classes, warn_of_names
from fewclip.errors import DataError, ParameterError


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("sea_bass", "sea bass"),
        ("Golden-Delicious", "Golden Delicious"),
        ("  two   words\t", "two words"),
        ("__a__b--c", "a b c"),
        ("crème_brûlée", "crème brûlée"),
        ("___", "___"),
    ],
)
def test_separators_become_single_spaces(name, clean):
    assert clean_class_name(name) == clean


def test_the_default_template_keeps_its_article():
    assert build_prompts(["apple", "sea_bass"]) == [["a photo of a apple."], ["a photo of a sea bass."]]


def test_templates_are_filled_in_their_order():
    assert build_prompts(["cat"], templates=["a {}.", "the {}, a {}."]) == [["a cat.", "the cat, a cat."]]
    assert build_prompts(["cat"], templates="one {}") == [["one cat"]]


def test_braces_in_names_are_only_characters():
    assert build_prompts(["{0}", "a{b}"], templates="{}!") == [["{0}!"], ["a{b}!"]]


def test_own_prompts_replace_the_templates_of_their_class():
    prompts = {"mole_rat": ["a naked {}.", "a rodent"], "cat": "a tom"}
    with pytest.warns(UserWarning, match=r"no prompts for 'dog': .* 'a photo of a \{\}\.'"):
        built = build_prompts(["cat", "dog", "mole_rat"], prompts=prompts)
    assert built == [["a tom"], ["a photo of a dog."], ["a naked mole rat.", "a rodent"]]


def test_classes_without_prompts_are_named_a_few_of_them():
    classes = [f"class {i}" for i in range(9)]
    with pytest.warns(UserWarning, match=r"no prompts for 'class 1', .*'class 5' and 3 more:"):
        build_prompts(classes, prompts={"class 0": "x"})


def test_a_prompt_for_no_class_names_near_ones():
    with pytest.raises(DataError, match=r"prompts for 'catt'.*Did you mean 'cat'"):
        build_prompts(["cat", "dog"], prompts={"catt": "x"})


def test_prompts_for_no_class_are_all_named():
    with pytest.raises(DataError, match=r"prompts for 'cow'.*2 names that no class has: 'cow', 'hen'"):
        build_prompts(["cat", "dog"], prompts={"cat": "x", "cow": "x", "hen": "x"})


@pytest.mark.parametrize("templates", [["a photo"], [], ["a {}", "b"], ["{name}"]])
def test_templates_without_a_place_for_the_name_are_refused(templates):
    with pytest.raises(ParameterError, match="templates: expected"):
        build_prompts(["cat"], templates=templates)


@pytest.mark.parametrize("given", ["", [], ["ok", " "]])
def test_empty_prompts_are_refused(given):
    with pytest.raises(ParameterError, match="prompts for 'cat'"):
        build_prompts(["cat"], prompts={"cat": given})


# ---- template sets ----


def test_the_published_sets():
    assert template_set("plain") == ["{}"]
    assert template_set("default") == ["a photo of a {}."]
    assert template_set("imagenet") == template_set("openai-7")
    assert len(template_set("openai-7")) == 7
    assert {"caltech101", "dtd", "eurosat", "fgvc_aircraft", "food101", "oxford_flowers"} < set(TEMPLATE_SETS)
    assert {"oxford_pets", "stanford_cars", "sun397", "ucf101"} < set(TEMPLATE_SETS)
    assert all("{}" in sentence for sentences in TEMPLATE_SETS.values() for sentence in sentences)


def test_a_set_stands_wherever_templates_do():
    assert build_prompts(["cat"], templates="dtd") == [["cat texture."]]
    assert build_prompts(["cat"], templates=["plain", "my {}"]) == [["cat", "my cat"]]
    assert build_prompts(["cat"], templates="openai-7")[0][2] == "a origami cat."


def test_an_unknown_set_lists_the_names():
    with pytest.raises(
        ParameterError, match=r"plain, default, openai-7.*got 'openai-8'\. Did you mean 'openai-7'"
    ):
        template_set("openai-8")
    with pytest.raises(ParameterError, match=r"plain, default, openai-7.*got 'openai-8'"):
        build_prompts(["cat"], templates="openai-8")


def test_a_list_of_prompts_is_templates_for_all():
    assert build_prompts(["cat", "dog"], prompts=["one {}", "plain"]) == [
        ["one cat", "cat"],
        ["one dog", "dog"],
    ]
    assert build_prompts(["cat"], templates="two {}", prompts=["one {}"]) == [["two cat", "one cat"]]


# ---- names ----


def test_several_names_make_prompts_of_each():
    called = {"couch": ["sofa", "couch"], "bed": "bunk_bed"}
    assert build_prompts(["bed", "couch"], templates=["a {}.", "the {}"], called=called) == [
        ["a bunk_bed.", "the bunk_bed"],
        ["a sofa.", "the sofa", "a couch.", "the couch"],
    ]


def test_a_sentence_without_a_place_comes_once():
    built = build_prompts(["s"], prompts={"s": ["a seat", "my {}"]}, called={"s": ["sofa", "couch"]})
    assert built == [["a seat", "my sofa", "my couch"]]


@pytest.mark.parametrize("names", ["", [], ["sofa", " "], 3, [3], None])
def test_empty_names_are_refused(names):
    with pytest.raises(ParameterError, match="class_names for 'couch'"):
        build_prompts(["couch"], called={"couch": names})


def test_renamed_classes_are_those_whose_prompts_say_something_else():
    classes = ["cat", "sea_bass", "couch", "own_words", 7]
    called = {"couch": ["sofa", "couch"], 7: "seven"}
    prompts = {"own_words": "a thing"}
    with pytest.warns(UserWarning, match="no prompts"):
        built = build_prompts(classes, prompts=prompts, called=called)
    assert renamed_classes(classes, built, called) == [
        ("sea_bass", "sea bass"),
        ("couch", "sofa / couch"),
        ("7", "seven"),
    ]


def test_labels_that_clean_to_one_name_stay_two_and_are_named():
    classes = ["cat", "sea bass", "sea-bass", "sea_bass"]
    built = build_prompts(classes)
    assert len(built) == 4
    with pytest.warns(UserWarning, match="'sea bass' and 'sea-bass'; 'sea bass' and 'sea_bass'"):
        warn_of_names(classes, built)


@pytest.mark.parametrize("name", ["Äpfel", "cafe\u0301", "piñata", "猫", "кот", "بيت"])
def test_a_name_that_is_not_english_is_named(name):
    built = build_prompts(["cat", name])
    with pytest.warns(UserWarning, match="may not be English.*class_names=") as caught:
        warn_of_names(["cat", name], built)
    assert len(caught) == 1
    assert name in str(caught[0].message)


def test_several_foreign_names_are_one_warning():
    built = build_prompts(["Äpfel", "Öl"])
    with pytest.warns(UserWarning, match="'Äpfel' and 1 more") as caught:
        warn_of_names(["Äpfel", "Öl"], built)
    assert len(caught) == 1


def test_no_warning_where_nothing_is_foreign():
    """Warnings are errors in these tests."""
    warn_of_names(["Äpfel"], build_prompts(["Äpfel"]), multilingual=True)
    warn_of_names(["Äpfel"], [["apples"]], {"Äpfel": "apples"})
    warn_of_names(["Äpfel"], [["a round fruit"]])
    warn_of_names(["a · b – 3½"], build_prompts(["a · b – 3½"]))
