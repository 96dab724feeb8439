"""What caching the features of random views saves, against encoding a fresh view of every image each epoch.

    python benchmarks/views.py --data ../shared/data/grocery [--shots 4] [--views 10] [--epochs 20]

The published code of these methods reads, augments and encodes every image anew in each epoch. Here V views
are encoded once and each epoch draws one of them. Both sides are timed in this run, the encodings in turn, on
photos drawn from ``train``. The ratio is a cautious one: the pocket encoder is smaller than CLIP, and encodes
on all processors, while the training has one (it is so small that on a busy machine a second only delays it).
Per epoch the saving must be 50-fold, else the exit status is 1. Also printed: the whole, with the one-time
encoding of the V views, which costs as much as V epochs of encoding.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pocket import TEMPLATE, clean, read_split
from story import draw

from fewclip.data import image_key, load_image, random_view, view_seed
from fewclip.encoders.features import encode_sources
from fewclip.encoders.pocket import PocketEncoder
from fewclip.methods import METHODS

METHODS_THAT_TRAIN = ("ape-t", "tip-adapter-f")
REQUIRED = 50
RUNS = 3


def encode_fresh(encoder: PocketEncoder, photos: list[Path], epoch: int) -> float:
    """Seconds to read all photos, cut a random view of each and encode it, batch by batch."""
    start = time.perf_counter()
    for first in range(0, len(photos), encoder.batch_size):
        batch = photos[first : first + encoder.batch_size]
        seeds = [view_seed(image_key(photo), epoch, 0) for photo in batch]
        encoder.encode_images(
            [random_view(load_image(p), seed=seed) for p, seed in zip(batch, seeds, strict=True)]
        )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the photos, as for pocket.py")
    parser.add_argument("--shots", type=int, default=4, help="photos a class (4)")
    parser.add_argument("--views", type=int, default=10, help="cached views of each photo (10)")
    parser.add_argument("--epochs", type=int, default=20, help="of the training (20)")
    args = parser.parse_args()

    torch.set_num_threads(1)
    paths, names = read_split(args.data, "train")
    rows = draw(np.array(names), args.shots, seed=0)
    photos, labels = [paths[i] for i in rows], np.array(names)[rows]
    with (args.data / "classes.csv").open(encoding="utf-8", newline="") as file:
        said = {row["class"]: clean(row["name"]) for row in csv.DictReader(file)}
    encoder = PocketEncoder()
    text = encoder.encode_texts([TEMPLATE.format(said[name]) for name in np.unique(labels)])
    encode_fresh(encoder, photos[: encoder.batch_size], epoch=0)  # warm up

    fresh, once, parts = [], 0.0, []
    for run, part in enumerate(np.array_split(np.arange(len(photos)), RUNS)):
        fresh.append(encode_fresh(encoder, photos, epoch=run))
        start = time.perf_counter()
        some = [photos[i] for i in part]
        parts.append(encode_sources(some, encoder, views=args.views, progress=False).features)
        once += time.perf_counter() - start
    cached, images = np.concatenate(parts), np.repeat(np.arange(len(photos)), args.views)

    training: dict[str, list[float]] = {name: [] for name in METHODS_THAT_TRAIN}
    for name in METHODS_THAT_TRAIN * RUNS:
        method: Any = METHODS[name](text, epochs=args.epochs, logit_scale=encoder.logit_scale, random_state=0)
        start = time.perf_counter()
        method.fit(cached, labels[images], groups=images)
        training[name].append((time.perf_counter() - start) / args.epochs)

    encode = statistics.median(fresh)
    print(f"{len(photos)} photos of {len(text)} classes, pocket encoder, d = {encoder.dim}, 1 view an epoch")
    print(f"{encode:.2f} s to encode a fresh view of each ({len(photos) / encode:.0f} views/s)")
    print(f"{once:.1f} s to encode {args.views} views of each, once\n")
    print("| method | an epoch, encoding | an epoch, cached | ratio | ", end="")
    print(f"{args.epochs} epochs, encoding | {args.epochs} epochs, cached, with the views | ratio |")
    print("|---" * 7 + "|")
    good = True
    for name, seconds in training.items():
        epoch = statistics.median(seconds)
        ratio = (encode + epoch) / epoch
        total, total_cached = args.epochs * (encode + epoch), once + args.epochs * epoch
        good &= ratio >= REQUIRED
        print(f"| {name} | {encode + epoch:.2f} s | {1000 * epoch:.1f} ms | {ratio:.0f}× | ", end="")
        print(f"{total:.1f} s | {total_cached:.1f} s | {total / total_cached:.1f}× |")
    print(f"\nRequired per epoch: {REQUIRED}×. Features that the store already has cost nothing.")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
