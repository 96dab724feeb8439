"""From class names to the sentences that the text encoder reads."""

from __future__ import annotations

import difflib
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewclip.data.prompt_files import read_prompts
from fewclip.data.templates import (
    DEFAULT_TEMPLATES,
    PLACEHOLDER,
    TEMPLATE_SETS,
    resolve_templates,
    template_set,
)
from fewclip.errors import DataError, ParameterError

__all__ = [
    "DEFAULT_TEMPLATES",
    "TEMPLATE_SETS",
    "Names",
    "Prompts",
    "build_prompts",
    "clean_class_name",
    "read_prompts",
    "renamed_classes",
    "template_set",
    "warn_of_names",
]

Prompts = Mapping[str, str | Sequence[str]] | Sequence[str]  # sentences by class, or templates for all
Names = Mapping[Any, str | Sequence[str]]  # label: its name, or its names
_SHOWN = 5  # classes that a warning names


def clean_class_name(name: str) -> str:
    """A folder's name as words: ``sea_bass`` becomes "sea bass", ``Golden-Delicious`` "Golden Delicious".

    Underscores and hyphens become spaces, runs of white space one space; case stays as written.
    """
    words = name.replace("_", " ").replace("-", " ").split()
    return " ".join(words) or name.strip()


def build_prompts(
    class_names: Sequence[Any],
    *,
    templates: str | Sequence[str] | None = None,
    prompts: Prompts | None = None,
    called: Names | None = None,
) -> list[list[str]]:
    """The sentences of each class, in the order of ``class_names``; warns of classes that ``prompts`` lacks.

    Args:
        class_names: Labels of the classes, (c,).
        templates: Sentences with ``{}`` for the name, or the name of a set in ``TEMPLATE_SETS``, or a list of
            both; by default ``DEFAULT_TEMPLATES``. "a" stays "a" before a vowel: that is what CLIP's own
            evaluation does.
        prompts: Class → its sentence or sentences, used instead of the templates; ``{}`` in them stands for
            the name, too. A list holds templates, besides those of ``templates``.
        called: Class → what to call it in its sentences, as it stands, instead of the cleaned label; with
            several names each sentence with ``{}`` comes once for each.

    Returns:
        c lists of at least one sentence.

    Raises:
        ParameterError: No templates, one without ``{}``, an unknown set, an empty sentence or name.
        DataError: ``prompts`` or ``called`` names a class that is not in ``class_names``.
    """
    if prompts is None or isinstance(prompts, Mapping):
        sentences = resolve_templates(templates)
    else:
        sentences = resolve_templates([*_as_list(templates or []), *_as_list(prompts)])
        prompts = None
    own = _check_prompts(prompts or {}, class_names)
    names = _names(class_names, called)
    without = [label for label in class_names if label not in own]
    if own and without:
        warnings.warn(
            f"no prompts for {_few(without)}: their sentences come from the templates, such as "
            f"{sentences[0]!r}",
            stacklevel=3,
        )
    return [_fill(own.get(label, sentences), words) for label, words in zip(class_names, names, strict=True)]


def renamed_classes(
    class_names: Sequence[Any], sentences: Sequence[Sequence[str]], called: Names | None = None
) -> list[tuple[str, str]]:
    """(label, names) of the classes that their sentences call something else than their label.

    Args:
        class_names: Labels of the classes, (c,).
        sentences: As ``build_prompts`` gives them, c lists.
        called: As for ``build_prompts``.
    """
    used = _names_used(class_names, sentences, called)
    return [
        (str(label), " / ".join(names))
        for label, names in zip(class_names, used, strict=True)
        if names and names != [str(label)]
    ]


def warn_of_names(
    class_names: Sequence[Any],
    sentences: Sequence[Sequence[str]],
    called: Names | None = None,
    *,
    multilingual: bool = False,
) -> None:
    """Warns of classes with the same prompts, and of names that an English text encoder may not know.

    Args:
        class_names: Labels of the classes, (c,).
        sentences: As ``build_prompts`` gives them, c lists.
        called: As for ``build_prompts``.
        multilingual: Whether the text encoder was trained on other languages than English.
    """
    twins = _twins(class_names, sentences)
    if twins:
        pairs = [f"{str(first)!r} and {str(second)!r}" for first, second in twins[:_SHOWN]]
        more = f" and {len(twins) - _SHOWN} more pairs" if len(twins) > _SHOWN else ""
        warnings.warn(
            f"the same prompts for the classes {'; '.join(pairs)}{more}: they stay two classes, but the text "
            "cannot tell them apart; give them different names with class_names= (or --prompts)",
            stacklevel=3,
        )
    used = _names_used(class_names, sentences, called)
    foreign = [name for names in used for name in names if _has_foreign_letters(name)]
    if foreign and not multilingual:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        warnings.warn(
            f"the class name {foreign[0]!r}{more} may not be English, which the text encoder was trained on: "
            "give English names with class_names= (or --prompts)",
            stacklevel=3,
        )


def _twins(class_names: Sequence[Any], sentences: Sequence[Sequence[str]]) -> list[tuple[Any, Any]]:
    """Pairs of classes with the same sentences: each with the first that has them."""
    first: dict[tuple[str, ...], Any] = {}
    pairs = [
        (first.setdefault(tuple(sorted(texts)), label), label)
        for label, texts in zip(class_names, sentences, strict=True)
    ]
    return [(twin, label) for twin, label in pairs if twin != label]


def _has_foreign_letters(name: str) -> bool:
    """Letters outside a–z, also those written as a letter and a combining accent."""
    return any(unicodedata.category(letter)[0] in "LM" for letter in name if not letter.isascii())


def _fill(sentences: Sequence[str], names: Sequence[str]) -> list[str]:
    """Each sentence with each name; one without ``{}`` once."""
    # Not str.format: names and sentences may hold braces of their own.
    return [
        sentence.replace(PLACEHOLDER, name)
        for i, name in enumerate(names)
        for sentence in sentences
        if i == 0 or PLACEHOLDER in sentence
    ]


def _names(class_names: Sequence[Any], called: Names | None) -> list[list[str]]:
    """What each class is called."""
    called = called or {}
    _check_known(called, class_names, "class_names")
    for label, given in called.items():
        _check_texts(given, f"class_names for {label!r}", "names")
    return [
        list(dict.fromkeys(_as_list(called[label]))) if label in called else [clean_class_name(str(label))]
        for label in class_names
    ]


def _names_used(
    class_names: Sequence[Any], sentences: Sequence[Sequence[str]], called: Names | None
) -> list[list[str]]:
    """The names of each class that stand in its sentences; prompts of one's own need none."""
    return [
        [name for name in names if any(name in text for text in texts)]
        for names, texts in zip(_names(class_names, called), sentences, strict=True)
    ]


def _check_prompts(
    prompts: Mapping[str, str | Sequence[str]], class_names: Sequence[Any]
) -> dict[Any, list[str]]:
    _check_known(prompts, class_names, "prompts")
    for label, given in prompts.items():
        _check_texts(given, f"prompts for {label!r}", "sentences")
    return {label: _as_list(given) for label, given in prompts.items()}


def _check_texts(given: Any, item: str, what: str) -> None:
    """Raise ParameterError unless it is a text or a list of them, none of them empty."""
    texts = _as_list(given) if isinstance(given, Iterable) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        fix = f"Write at least one of the {what}, or leave the class out."
        raise ParameterError(item, expected=what, got=repr(given), fix=fix)


def _check_known(names: Iterable[Any], class_names: Sequence[Any], what: str) -> None:
    """Raise DataError for names that are no class."""
    unknown = [name for name in names if name not in class_names]
    if not unknown:
        return
    near = difflib.get_close_matches(str(unknown[0]), list(map(str, class_names)), n=3)
    options = near or sorted(map(str, class_names))[:3]
    several = f"{len(unknown)} names that no class has: {_few(unknown)}"
    raise DataError(
        f"{what} for {unknown[0]!r}",
        expected="the name of a class",
        got=several if len(unknown) > 1 else "a name that no class has",
        fix=f"Did you mean {' or '.join(map(repr, options))}?",
    )


def _few(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(repr(str(label)) for label in labels[:_SHOWN]) + more


def _as_list(texts: str | Iterable[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
