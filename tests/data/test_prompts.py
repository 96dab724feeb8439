"""From class names to sentences."""

from __future__ import annotations

import pytest

from fewclip.data.prompts import build_prompts, clean_class_name
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
    assert build_prompts(["cat", "dog", "mole_rat"], prompts=prompts) == [
        ["a tom"],
        ["a photo of a dog."],
        ["a naked mole rat.", "a rodent"],
    ]


def test_a_prompt_for_no_class_names_near_ones():
    with pytest.raises(DataError, match=r"prompts for 'catt'.*Did you mean 'cat'"):
        build_prompts(["cat", "dog"], prompts={"catt": "x"})


@pytest.mark.parametrize("templates", [["a photo"], [], ["a {}", "b"], ["{name}"]])
def test_templates_without_a_place_for_the_name_are_refused(templates):
    with pytest.raises(ParameterError, match="templates: expected"):
        build_prompts(["cat"], templates=templates)


@pytest.mark.parametrize("given", ["", [], ["ok", " "]])
def test_empty_prompts_are_refused(given):
    with pytest.raises(ParameterError, match="prompts for 'cat'"):
        build_prompts(["cat"], prompts={"cat": given})
