"""The card of an adapter: a README.md that says what it is, how good, and what it contains."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

_SHOWN = 5  # of the settings that were tried


def write(name: str, config: Mapping[str, Any], summary: str) -> str:
    """The card's Markdown.

    Args:
        name: The adapter's folder, as its title.
        config: What goes into ``config.json``.
        summary: The fit's summary, lines.
    """
    counts = Counter(entry["label"] for entry in config["support"])
    classes = config["method"]["classes"]
    rows = [
        f"| {_cell(label)} | {counts[label]} | {_cell(' / '.join(prompts[:3]))} |"
        for label, prompts in zip(classes, config["prompts"], strict=True)
    ]
    encoder = config["encoder"]
    packages = ", ".join(f"{package} {number}" for package, number in config["versions"].items())
    return "\n".join(
        [
            f"# {_cell(name)}",
            "",
            f"An image classifier for {len(classes)} classes, made by fewclip: "
            f"`{config['method']['name']}` on features of the encoder `{encoder['name']}`.",
            "",
            "```",
            summary.replace("`", "'"),
            "```",
            "",
            *_selection(config["method"]["selection"]),
            "| class | labelled images | prompts |",
            "|---|---|---|",
            *rows,
            "",
            "## Use",
            "",
            "```bash",
            f"fewclip predict {shlex.quote(name)} IMAGES -o predictions.csv",
            "```",
            "```python",
            "from fewclip import FewShotClassifier",
            f'FewShotClassifier.from_pretrained({name!r}).predict(["a.jpg"])',
            "```",
            "",
            "## What it contains",
            "",
            f"- **Pictures**: thumbnails (64 px) of the {len(config['support'])} labelled images, with their "
            "relative paths and checksums, so that predictions can be explained. Mind who may see them.",
            "- Features of these images and of the prompts; no weights of the encoder.",
            f"- It works only with the encoder `{encoder['name']}`, fingerprint `{encoder['fingerprint']}`.",
            f"- Made with {packages}.",
            "",
        ]
    )


def _selection(selection: Mapping[str, Any]) -> list[str]:
    """The best of the settings that were tried, as a table; nothing where none was."""
    tried = sorted(selection["table"], key=lambda row: -(row["score"] or 0.0))[:_SHOWN]
    if not tried:
        return []
    names = list(tried[0])
    return [
        "## How its settings were chosen",
        "",
        f"Protocol `{selection['protocol']}`, {len(selection['table'])} settings tried in "
        f"{selection['seconds']:.1f} s, "
        f"labels used beyond those above: {selection['labels_used']}. The best:",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        *(f"| {' | '.join(_figure(row[name]) for name in names)} |" for row in tried),
        "",
    ]


def _figure(value: str | float | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _cell(text: Any) -> str:
    """Text that stays within a table cell and is not read as Markdown."""
    return "".join("\\" + c if c in "\\|`*_[]<>#" else " " if c in "\r\n" else c for c in str(text))
