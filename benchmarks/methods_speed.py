"""Fits of closed-form methods at c = 100, k = 16, d = 1024: GDA against the published way, and limits.

    python benchmarks/methods_speed.py [--runs 3] [--views 10] [--json out.json]

The published way of GDA: one class mean after another, the covariance of all views, a dense pseudo-inverse.
Both give the same class weights before they are timed. The exit status says whether the bounds held.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewclip.functional import gda_head, unit
from fewclip.methods import METHODS

CLASSES, SHOTS, CHANNELS = 100, 16, 1024
GDA_RATIO = 8.0
SECONDS = {"proker": (10.0, "auto"), "ss-text": (0.05, "none")}  # and how settings are chosen


def made_up(views: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of images around class directions, (c·k·v, d), their classes, and text, (c, d)."""
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, CHANNELS, generator=g)
    labels = torch.arange(CLASSES).repeat_interleave(SHOTS)
    images = centres[labels] + torch.randn(len(labels), CHANNELS, generator=g)
    rows = images.repeat_interleave(views, 0)
    rows = rows + 0.5 * torch.randn(rows.shape, generator=g)
    text = centres + torch.randn(CLASSES, CHANNELS, generator=g)
    return unit(rows), labels.repeat_interleave(views), unit(text)


def published_gda(features: Tensor, labels: Tensor) -> Tensor:
    """Class weights by a dense pseudo-inverse, (c, d)."""
    means = torch.stack([features[labels == c].mean(0) for c in range(CLASSES)])
    centred = torch.cat([features[labels == c] - means[c] for c in range(CLASSES)])
    m, covariance = len(features), torch.cov(centred.T)
    ridge = covariance.trace() * torch.eye(CHANNELS)
    return means @ (CHANNELS * torch.linalg.pinv((m - 1) * covariance + ridge))


def fastest(call: Callable[[], Any], runs: int) -> tuple[float, float]:
    """The least of some times in seconds, and the ratio of the largest to it."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times), max(times) / min(times)


def gda_row(views: int, runs: int, required: float) -> dict[str, Any]:
    """The fit of GDA beside the published way, on that many views an image."""
    X, y, _ = made_up(views)
    expected, found = published_gda(X, y), gda_head(X, y, CLASSES).weights.float()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    ours, spread = fastest(lambda: gda_head(X, y, CLASSES), runs)
    other, _ = fastest(lambda: published_gda(X, y), runs)
    return {
        "what": f"gda fit, {len(X)} rows (other side: pseudo-inverse)", "ours_s": ours, "naive_s": other,
        "ratio": other / ours, "required": required, "spread": spread,
    }  # fmt: skip


def main() -> int:
    """Measure, print, write; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    # With one row an image the pseudo-inverse is all there is to save; with many both form the covariance.
    rows = [gda_row(1, options.runs, GDA_RATIO), gda_row(options.views, options.runs, 0.0)]
    X, y, T = made_up(1)
    for name, (limit, selection) in SECONDS.items():
        method = METHODS[name](T, selection=selection, calibration="none")
        ours, spread = fastest(lambda method=method: method.fit(X, y), options.runs)
        rows.append(
            {
                "what": f"{name} fit, selection {selection} (other side: the limit)",
                "ours_s": ours, "naive_s": limit,
                "ratio": limit / ours, "required": 1.0, "spread": spread,
            }
        )  # fmt: skip
    for row in rows:
        print(f"{row['what']}: {row['ours_s']:.3f} s, {row['naive_s']:.3g} s, ratio {row['ratio']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int(any(row["ratio"] < row["required"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
