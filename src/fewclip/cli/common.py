"""What several commands do: open an adapter, print, and say."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fewclip.classifier import FewShotClassifier


def open_adapter(
    adapter: Path, encoder: str | None, device: str, batch_size: int, quiet: bool, *, test_views: int = 1
) -> FewShotClassifier:
    """The classifier of an adapter, by the options that such commands share."""
    from fewclip.classifier import FewShotClassifier

    return FewShotClassifier.from_pretrained(
        adapter,
        encoder=encoder,
        device=device,
        batch_size=batch_size,
        test_views=test_views,
        progress=not quiet,
    )


def program() -> str:
    """How the user can call this program again: by name where the shell finds it, else as just now."""
    if shutil.which("fewclip"):
        return "fewclip"
    return "python -m fewclip" if Path(sys.argv[0]).name == "__main__.py" else shlex.quote(sys.argv[0])


def print_json(value: Any) -> None:
    """To stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """To stderr: for the user's eyes, not for the next program."""
    print(text, file=sys.stderr)
