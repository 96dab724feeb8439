"""From class names to the sentences that the text encoder reads."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

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
) -> list[list[str]]:
    """The sentences of each class, in the order of ``class_names``.

    Args:
        class_names: Names of the classes, (c,).
        templates: Sentences with ``{}`` for the cleaned name; by default ``DEFAULT_TEMPLATES``.
            "a" stays "a" before a vowel: that is what CLIP's own evaluation does.
        prompts: Class name → its sentence or sentences, used instead of the templates; ``{}`` in them
            stands for the cleaned name, too.

    Returns:
        c lists of at least one sentence.

    Raises:
        ParameterError: No templates, one without ``{}``, or an empty sentence.
        DataError: ``prompts`` names a class that is not in ``class_names``.
    """
    sentences = _check_templates(DEFAULT_TEMPLATES if templates is None else templates)
    own = _check_prompts(prompts or {}, class_names)
    # Not str.format: names and sentences may hold braces of their own.
    return [
        [sentence.replace(_PLACEHOLDER, clean_class_name(name)) for sentence in own.get(name, sentences)]
        for name in class_names
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
    for name, given in prompts.items():
        if name not in class_names:
            near = difflib.get_close_matches(str(name), list(class_names), n=3) or sorted(class_names)[:3]
            raise DataError(
                f"prompts for {name!r}",
                expected="the name of a class",
                got="a name that no class has",
                fix=f"Did you mean {' or '.join(map(repr, near))}?",
            )
        own[name] = _as_list(given)
        if not own[name] or not all(isinstance(text, str) and text.strip() for text in own[name]):
            fix = "Write at least one sentence, or leave the class out."
            raise ParameterError(f"prompts for {name!r}", expected="sentences", got=repr(given), fix=fix)
    return own


def _as_list(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
