"""Sentences with ``{}`` for the class name, and sets of them by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from fewclip.errors import ParameterError

PLACEHOLDER: Final = "{}"
DEFAULT_TEMPLATES: Final = ("a photo of a {}.",)
_OPENAI_7: Final = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

# The seven are OpenAI's choice for ImageNet. Those by data set are the ones that CoOp, Tip-Adapter and APE
# publish results with; "a origami" is spelled as there.
TEMPLATE_SETS: Final[dict[str, tuple[str, ...]]] = {
    "plain": (PLACEHOLDER,),
    "default": DEFAULT_TEMPLATES,
    "openai-7": _OPENAI_7,
    "caltech101": ("a photo of a {}.",),
    "dtd": ("{} texture.",),
    "eurosat": ("a centered satellite photo of {}.",),
    "fgvc_aircraft": ("a photo of a {}, a type of aircraft.",),
    "food101": ("a photo of {}, a type of food.",),
    "imagenet": _OPENAI_7,
    "oxford_flowers": ("a photo of a {}, a type of flower.",),
    "oxford_pets": ("a photo of a {}, a type of pet.",),
    "stanford_cars": ("a photo of a {}.",),
    "sun397": ("a photo of a {}.",),
    "ucf101": ("a photo of a person doing {}.",),
}


def template_set(name: str) -> list[str]:
    """The templates of a set.

    Raises:
        ParameterError: No set has this name; the error lists the names.
    """
    if name in TEMPLATE_SETS:
        return list(TEMPLATE_SETS[name])
    near = difflib.get_close_matches(str(name), TEMPLATE_SETS, n=1)
    raise ParameterError(
        "template set",
        expected=f"one of {', '.join(TEMPLATE_SETS)}",
        got=repr(name),
        fix=f"Did you mean {near[0]!r}?" if near else "Sentences of your own, with {}, are templates.",
    )


def resolve_templates(templates: str | Sequence[str] | None) -> list[str]:
    """Templates as a list of at least one sentence with ``{}``.

    Args:
        templates: Sentences with ``{}``, names of sets, or both; None: ``DEFAULT_TEMPLATES``.

    Raises:
        ParameterError: None at all, or one that neither holds ``{}`` nor names a set.
    """
    if templates is None:
        return list(DEFAULT_TEMPLATES)
    given = [templates] if isinstance(templates, str) else list(templates)
    if not given:
        fix = "Leave it out for the default."
        raise ParameterError("templates", expected="at least one template", got="none", fix=fix)
    return [sentence for entry in given for sentence in _sentences(entry)]


def _sentences(entry: str) -> list[str]:
    if isinstance(entry, str) and PLACEHOLDER in entry:
        return [entry]
    if isinstance(entry, str) and entry in TEMPLATE_SETS:
        return template_set(entry)
    raise ParameterError(
        "templates",
        expected=f"sentences with {{}} where the class name goes, or a set: {', '.join(TEMPLATE_SETS)}",
        got=repr(entry),
        fix=f"Write it like {DEFAULT_TEMPLATES[0]!r}.",
    )
