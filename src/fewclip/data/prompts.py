"""From class names to the sentences that the text encoder reads."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fewclip.data._display import display_path
from fewclip.errors import DataError, ParameterError

DEFAULT_TEMPLATES = ("a photo of a {}.",)
_PLACEHOLDER = "{}"


def clean_class_name(name: str) -> str:
    """A folder's name as words: ``sea_bass`` becomes "sea bass", ``Golden-Delicious`` "Golden Delicious".

    Underscores and hyphens become spaces, runs of white space one space; case stays as written.
    """
    words = name.replace("_", " ").replace("-", " ").split()
    return " ".join(words) or name.strip()


def build_prompts(
    class_names: Sequence[str],
    *,
    templates: str | Sequence[str] | None = None,
    prompts: Mapping[str, str | Sequence[str]] | None = None,
    called: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """The sentences of each class, in the order of ``class_names``.

    Args:
        class_names: Names of the classes, (c,).
        templates: Sentences with ``{}`` for the cleaned name; by default ``DEFAULT_TEMPLATES``.
            "a" stays "a" before a vowel: that is what CLIP's own evaluation does.
        prompts: Class name → its sentence or sentences, used instead of the templates; ``{}`` in them
            stands for the cleaned name, too.
        called: Class name → what to call the class in its sentences, as it stands, instead of the cleaned
            name.

    Returns:
        c lists of at least one sentence.

    Raises:
        ParameterError: No templates, one without ``{}``, or an empty sentence.
        DataError: ``prompts`` or ``called`` names a class that is not in ``class_names``.
    """
    sentences = _check_templates(DEFAULT_TEMPLATES if templates is None else templates)
    own = _check_prompts(prompts or {}, class_names)
    _check_known(called or {}, class_names, "class_names")
    names = [(called or {}).get(name) or clean_class_name(str(name)) for name in class_names]
    # Not str.format: names and sentences may hold braces of their own.
    return [
        [sentence.replace(_PLACEHOLDER, words) for sentence in own.get(name, sentences)]
        for name, words in zip(class_names, names, strict=True)
    ]


def _check_templates(templates: str | Sequence[str]) -> list[str]:
    checked = _as_list(templates)
    if not checked:
        fix = "Leave it out for the default."
        raise ParameterError("templates", expected="at least one template", got="none", fix=fix)
    for template in checked:
        if not isinstance(template, str) or _PLACEHOLDER not in template:
            raise ParameterError(
                "templates",
                expected="sentences with {} where the class name goes",
                got=repr(template),
                fix=f"Write it like {DEFAULT_TEMPLATES[0]!r}.",
            )
    return checked


def _check_prompts(
    prompts: Mapping[str, str | Sequence[str]], class_names: Sequence[str]
) -> dict[str, list[str]]:
    own = {}
    _check_known(prompts, class_names, "prompts")
    for name, given in prompts.items():
        own[name] = _as_list(given)
        if not own[name] or not all(isinstance(text, str) and text.strip() for text in own[name]):
            fix = "Write at least one sentence, or leave the class out."
            raise ParameterError(f"prompts for {name!r}", expected="sentences", got=repr(given), fix=fix)
    return own


def _check_known(names: Iterable[str], class_names: Sequence[str], what: str) -> None:
    """Raise DataError for a name that is not a class."""
    for name in names:
        if name not in class_names:
            near = difflib.get_close_matches(str(name), list(map(str, class_names)), n=3)
            options = near or sorted(map(str, class_names))[:3]
            raise DataError(
                f"{what} for {name!r}",
                expected="the name of a class",
                got="a name that no class has",
                fix=f"Did you mean {' or '.join(map(repr, options))}?",
            )


def _as_list(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def read_prompts(path: str | Path) -> dict[str, list[str]]:
    """Sentences by class from a JSON file ``{"class": ["sentence", …], …}``.

    Raises:
        DataError: It cannot be read, or holds something else.
    """
    name = display_path(path)
    fix = 'Write {"class": ["sentence", …], …}.'
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(name, expected="a JSON file", got=str(error), fix=fix) from error
    if not isinstance(content, dict) or not all(isinstance(v, str | list) for v in content.values()):
        raise DataError(name, expected="sentences by class", got=type(content).__name__, fix=fix)
    return {label: _as_list(texts) for label, texts in content.items()}
