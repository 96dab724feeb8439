"""Files of prompts: JSON, CSV, text; and what is wrong with others."""

from __future__ import annotations

import json

import pytest

from fewclip.data import read_prompts
from fewclip.errors import DataError

CATS = {"cat": ["a tom", "a cat, asleep"], "dog": ["a hound"]}


def read(tmp_path, name, text, **options):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prompts(tmp_path / name, **options)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", json.dumps(CATS)),
        ("p.json", '{"cat": ["a tom", "a cat, asleep"], "dog": "a hound"}'),
        ("p.json", b"\xef\xbb\xbf" + json.dumps(CATS).encode()),
        ("p.txt", "\n{ " + json.dumps(CATS)[1:]),
        ("p.csv", 'class,sentence\ncat,a tom\ncat,"a cat, asleep"\ndog,a hound\n'),
        ("p.csv", 'Prompt,Class\r\na tom,cat\r\n"a cat, asleep",cat\r\na hound,dog\r\n'),
        ("p.csv", "class;description\ncat;a tom\n\ncat;a cat, asleep\ndog;a hound"),
        ("p.tsv", "label\tsentence\ncat\ta tom\ncat\ta cat, asleep\ndog\ta hound"),
        ("p", 'class,sentence\ncat,a tom\ndog,a hound\ncat,"a cat, asleep"\n'),
    ],
)
def test_sentences_by_class(tmp_path, name, text):
    assert read(tmp_path, name, text) == CATS


@pytest.mark.parametrize("name", ["p.txt", "p.md", "p"])
def test_templates_one_a_line(tmp_path, name):
    text = "{} texture.\n\n  a photo of a {}, a class of cloth. \n"
    assert read(tmp_path, name, text) == ["{} texture.", "a photo of a {}, a class of cloth."]


def test_names_go_into_the_templates(tmp_path):
    text = "class,name\ncouch,sofa\ncouch,settee\n"
    assert read(tmp_path, "p.csv", text) == {"couch": ["a photo of a sofa.", "a photo of a settee."]}
    built = read(tmp_path, "p.csv", text, templates=["plain", "my {}"])
    assert built == {"couch": ["sofa", "my sofa", "settee", "my settee"]}


def test_a_sentence_keeps_its_place_for_the_name(tmp_path):
    assert read(tmp_path, "p.csv", "class,sentence\ncat,a {}\n") == {"cat": ["a {}"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", '{"cat":\n ["a"],,}', "p.json, line 2: expected a JSON file"),
        ("p.json", '["a"]', "p.json: expected sentences by class, got a list"),
        ("p.json", "{}", "p.json: expected sentences by class, got no class"),
        ("p.json", '{"dog": "a",\n"cat": 3}', "p.json, line 2, class 'cat': expected a sentence"),
        ("p.json", '{"cat": []}', "p.json, line 1, class 'cat'"),
        ("p.json", '{"cat": ["a", ""]}', "p.json, line 1, class 'cat'"),
        ("p.json", '{"cat": {"a": "b"}}', "p.json, line 1, class 'cat'"),
        ("p.json", '{"cat": "a",\n "cat": "b"}', "p.json, line 2, class 'cat': expected every class once"),
        ("p.json", "", "p.json: expected prompts, got an empty file"),
        ("p.csv", "class,text\ncat,a", "p.csv, line 1: expected the columns class and sentence"),
        ("p.csv", "cat,a tom\n", "p.csv, line 1: expected the columns"),
        ("p.csv", "class,sentence\n", "got a header alone"),
        ("p.csv", "class,sentence\ncat,a tom\ncat,a cat, asleep\n", "p.csv, line 3: .*quotes"),
        ("p.csv", "class,sentence\ncat,\n", "p.csv, line 2: expected a class and its sentence"),
        ("p.csv", "class,sentence\n,a tom\n", "p.csv, line 2"),
        ("p.csv", "class,sentence\ncat\n", "p.csv, line 2"),
        ("p.txt", "a {}.\n\na cat\n", "p.txt, line 3: expected a template, with {}"),
        ("p.txt", b"a {} \xe9\xff", "p.txt: expected text in UTF-8"),
    ],
)
def test_errors_name_file_line_and_what_was_expected(tmp_path, name, text, message):
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, text)
    head, _, tail = message.partition(".*")
    assert head in str(caught.value)
    assert tail in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json: expected a file of prompts"):
        read_prompts(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="expected a file of prompts"):
        read_prompts(tmp_path)
