"""A plan as a TOML file: several data sets, and what to run on them.

::

    methods = ["tip-adapter", "ape"]
    shots = [1, 4, 16]

    [[dataset]]
    name = "flowers"
    train = "flowers/train"          # paths are relative to this file
    test = "flowers/test"
    val = "halves"                   # or a path
    prompts = "flowers.json"

    [dataset.transfer]
    sketches = "flower-sketches"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fewclip.data import display_path, read_prompts, template_set
from fewclip.errors import DataError
from fewclip.evaluation.bench.plan import HALVES, BenchSet
from fewclip.evaluation.bench.shifts import expand_shifts

LISTS = ("methods", "shots", "seeds", "encoders", "selections", "shifts")
_TEXTS = ("name", "train", "test", "split", "val", "prompts", "template_set", "encoder_name")
_SET = (*_TEXTS, "templates", "encoders", "transfer")


def read_plan(path: str | Path) -> dict[str, Any]:
    """What the file says, as parameters of ``Plan``; those that it leaves out are absent.

    Raises:
        DataError: It is no such file; the message names the part.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise DataError(
            display_path(path), expected="a TOML file with [[dataset]] tables", got=str(error),
            fix="docs/benchmarks.md shows one.",
        ) from error  # fmt: skip
    origin = display_path(path)
    _check_keys(found, (*LISTS, "dataset"), origin)
    for name in LISTS:
        if name in found and not isinstance(found[name], list):
            raise _wrong(f"{origin}, {name}", "a list", repr(found[name]))
    sets = found.pop("dataset", None)
    if not isinstance(sets, list) or not sets or not all(isinstance(one, dict) for one in sets):
        raise _wrong(origin, "[[dataset]] tables", "none")
    if "shifts" in found:
        found["shifts"] = list(expand_shifts(found["shifts"]))
    return found | {"sets": [_set(one, path.parent, f"{origin}, dataset {k}") for k, one in enumerate(sets)]}


def name_of(path: str | Path) -> str:
    """What to call a data set by default: its file or folder, or what holds its ``train``."""
    path = Path(path).absolute()
    while path.name.lower() in ("train", "training", "images") and path.parent != path:
        path = path.parent
    return display_path(path.stem if path.is_file() else path.name)


def _set(one: dict[str, Any], folder: Path, origin: str) -> BenchSet:
    _check_keys(one, _SET, origin)
    for key in ("train", "test"):
        if key not in one:
            raise _wrong(f"{origin}, {key}", "a path", "none")
    for key in _TEXTS:
        if key in one and not isinstance(one[key], str):
            raise _wrong(f"{origin}, {key}", "text", repr(one[key]))
    transfer = one.get("transfer", {})
    if not isinstance(transfer, dict) or not all(isinstance(where, str) for where in transfer.values()):
        raise _wrong(f"{origin}, transfer", "name = path", repr(transfer))

    def at(text: str) -> str:
        return str(folder / Path(text).expanduser())

    train, val = at(one["train"]), one.get("val")
    templates = list(one.get("templates", []))
    if "template_set" in one:
        templates += template_set(one["template_set"])
    prompts = read_prompts(at(one["prompts"]), templates=templates or None) if "prompts" in one else None
    return BenchSet(
        name=one.get("name", name_of(train)),
        train=train,
        test=at(one["test"]),
        split=one.get("split", "test"),
        val=val if val in (None, HALVES) else at(val),
        templates=templates or None,
        prompts=prompts,
        transfer={name: at(where) for name, where in transfer.items()},
        encoders=one.get("encoders"),
        encoder_name=one.get("encoder_name"),
    )


def _check_keys(table: dict[str, Any], known: tuple[str, ...], origin: str) -> None:
    strange = sorted(set(table) - set(known))
    if strange:
        raise _wrong(origin, f"only {', '.join(known)}", repr(strange[0]))


def _wrong(item: str, expected: str, got: str) -> DataError:
    return DataError(item, expected=expected, got=got, fix="Correct the file; docs/benchmarks.md shows one.")
