"""Images into folders of their predicted classes: planned first, done when asked for, nothing overwritten."""

from __future__ import annotations

import filecmp
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewclip.classifier import FewShotClassifier
from fewclip.data import display_path, find_images
from fewclip.errors import DataError, ParameterError

UNSURE = "_unsure"
_THERE = "there already"
_UNSAFE = re.compile(r'[\x00-\x1f/\\:*?"<>|]')


@dataclass(frozen=True)
class Step:
    """One image of a plan.

    Attributes:
        source: The file.
        name: What to call it.
        target: Where it goes; None: it stays.
        label: The predicted class; "" for an unreadable image.
        score: Its probability.
        note: Why it stays, or "" if it goes.
    """

    source: Path
    name: str
    target: Path | None
    label: str = ""
    score: float = 0.0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return {
            "path": self.name,
            "target": None if self.target is None else display_path(self.target),
            "label": self.label,
            "score": self.score,
            "note": self.note,
        }


@dataclass(frozen=True)
class SortPlan:
    """What is to be done with every image.

    Attributes:
        steps: One an image, in order.
        out: The folder of the class folders.
        link: Whether symbolic links are made instead of copies.
    """

    steps: tuple[Step, ...]
    out: Path
    link: bool

    @property
    def staying(self) -> list[Step]:
        """Images that are left where they are, unless they are there already: unreadable, or in the way."""
        return [step for step in self.steps if step.note and step.note != _THERE]

    def __str__(self) -> str:
        counts = Counter(step.target.relative_to(self.out).parts[0] for step in self.steps if step.target)
        verb = "link" if self.link else "copy"
        lines = [f"{verb:<9} {n} to {display_path(self.out / name)}" for name, n in sorted(counts.items())]
        there = sum(step.note == _THERE for step in self.steps)
        lines += [f"there     {there} already"] if there else []
        lines += [f"leave     {step.name}: {step.note}" for step in self.staying[:10]]
        if len(self.staying) > 10:
            lines.append(f"leave     {len(self.staying) - 10} more")
        return "\n".join(lines)

    def execute(self) -> SortPlan:
        """Makes the copies or links; what is in the way by now stays, and is noted.

        Returns:
            What was done, as a plan.

        Raises:
            DataError: A file cannot be written.
        """
        return SortPlan(tuple(self._done(step) for step in self.steps), self.out, self.link)

    def _done(self, step: Step) -> Step:
        if step.target is None:
            return step
        try:
            step.target.parent.mkdir(parents=True, exist_ok=True)
            if self.link:
                os.symlink(os.path.abspath(step.source), step.target)
            else:
                _copy(step.source, step.target)
        except FileExistsError:
            return _stays(step, "something of this name is in the way")
        except OSError as error:
            fix = "Free some space or choose another folder; run it again to go on."
            raise DataError(
                display_path(step.target), expected="a file that can be written", got=str(error), fix=fix
            ) from error
        return step


def _stays(step: Step, note: str) -> Step:
    return Step(step.source, step.name, None, step.label, step.score, note)


def _copy(source: Path, target: Path) -> None:
    """A copy beside the target, synchronised to disk, that then gets its name unless it is taken."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(source, "rb") as reader, open(aside, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        shutil.copystat(source, aside)
        try:
            os.link(aside, target)  # unlike a rename, it never replaces anything
        except FileExistsError:
            raise
        except OSError as error:  # a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(target) from error
            os.rename(aside, target)
    finally:
        with suppress(OSError):
            os.unlink(aside)


def plan_sorting(
    classifier: FewShotClassifier,
    images: str | Path,
    out: str | Path,
    *,
    min_score: float = 0.0,
    link: bool = False,
) -> SortPlan:
    """Says for every image where it would go; changes nothing.

    Args:
        classifier: A fitted one.
        images: A folder, at any depth, or a glob.
        out: The folder of the class folders; below it every image keeps its path within ``images``.
        min_score: Images whose best class has a smaller probability go to ``_unsure``, 0–1.
        link: Plan symbolic links instead of copies.

    Raises:
        DataError: No images; or ``out`` is ``images``; or two classes would share a folder.
        ParameterError: ``min_score`` is outside 0–1.
    """
    if not 0 <= min_score <= 1:
        raise ParameterError(
            "min_score", expected="a number from 0 to 1", got=repr(min_score), fix="Use 0.8, say."
        )
    out = Path(out)
    folders = _folders(classifier.classes_.tolist())
    if os.path.realpath(out) == os.path.realpath(images):
        fix = "Choose another folder to sort into."
        raise DataError(
            display_path(out), expected="another folder than the images'", got="the same", fix=fix
        )
    found = [image for image in find_images([images]) if not _below(image.path, out)]
    if not found:
        got = "only those that are sorted already"
        raise DataError(display_path(images), expected="images to sort", got=got, fix="Check the path.")
    steps: list[Step] = []
    taken: dict[str, Path] = {}
    rows = classifier.classify([image.path for image in found], top=1)
    for image, row in zip(found, rows, strict=True):
        if row.error is not None:
            steps.append(Step(image.path, image.name, None, note=f"cannot be read: {row.error.got}"))
            continue
        label, score = row.labels[0], row.scores[0]
        folder = folders[label] if score >= min_score else UNSURE
        target = out / folder / _within(image.path, images)
        step = Step(image.path, image.name, target, label, score)
        other = taken.setdefault(os.path.normcase(target), image.path)
        if other != image.path:
            step = _stays(step, f"{display_path(other)} goes to the same place")
        elif os.path.lexists(target):
            step = _stays(step, _THERE if _is_same(image.path, target) else "another file is there")
        steps.append(step)
    return SortPlan(tuple(steps), out, link)


def _folders(labels: Sequence[Any]) -> dict[str, str]:
    """A folder name for every label: what no file system allows becomes ``_``."""
    folders: dict[str, str] = {}
    owners: dict[str, str] = {UNSURE: "images that the classifier is unsure about"}
    for label in map(str, labels):
        name = _UNSAFE.sub("_", label).strip(" .") or "_"
        other = owners.setdefault(name.casefold(), label)
        if other != label:
            raise DataError(
                f"class {label!r}", expected="a folder of its own", got=f"{name!r}, as for {other}",
                fix="Rename one of the classes.",
            )  # fmt: skip
        folders[label] = name
    return folders


def _below(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) or Path(
        os.path.abspath(path)
    ).is_relative_to(os.path.abspath(folder))


def _within(path: Path, images: str | Path) -> Path:
    """The path within the folder; of a glob, the name alone."""
    return path.relative_to(images) if os.path.isdir(images) else Path(path.name)


def _is_same(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target) or filecmp.cmp(source, target, shallow=False)
    except OSError:
        return False
