"""What looking at the labelled images finds, and what photographing the classes that need it brings.

    python benchmarks/care.py features.npz [--draws 5]

``features.npz`` holds ``train_features``, ``train_labels``, ``val_features``, ``val_labels`` and
``text_features``. Four images a class, GDA. The test split stays closed.

- wrong labels: of 16 images with a label that was swapped for another, how many are suspects, of how many.
- strange images: ten classes are left out and 16 of their images get labels of others; how many are suspects
  or outliers, of how many.
- more images: four more of each of the ten classes that ``needy`` names first, or of ten at random; accuracy
  on the validation rows of these classes' data set, gain in points.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from calibration import NAMES, draw

from fewclip.evaluation.left_out import study_left_out
from fewclip.explanation.support_rules import class_records, needy, outliers, suspicious
from fewclip.methods import GDA

SHOTS, PLANTED, CLASSES = 4, 16, 10


def fitted(data: dict[str, np.ndarray], rows: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> GDA:
    """On some rows, of some classes."""
    text = data["text_features"][classes]
    return GDA(text, classes=classes, logit_scale=20.0).fit(data["train_features"][rows], labels)


def found(method: GDA, planted: np.ndarray) -> tuple[int, int, int, int]:
    """Suspects among the planted and in all; suspects or outliers among them and in all."""
    labels = method.support_labels_.cpu().numpy()
    suspects = suspicious(study_left_out(method).probabilities, labels)
    strange = set(suspects) | set(outliers(method.support_features_.cpu().numpy(), labels))
    both = [len(set(planted.tolist()) & set(some)) for some in (suspects, strange)]
    return both[0], len(suspects), both[1], len(strange)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    with np.load(options.features) as stored:
        data = {key: stored[key] for key in NAMES}
    y, c = data["train_labels"], len(data["text_features"])
    swaps, strangers, gains = [], [], []
    for seed in range(options.draws):
        rng = np.random.default_rng(seed)
        rows = draw(y, SHOTS, seed)
        wrong, labels = rng.permutation(len(rows))[:PLANTED], y[rows].copy()
        labels[wrong] = (labels[wrong] + rng.integers(1, c, PLANTED)) % c
        swaps.append(found(fitted(data, rows, labels, np.arange(c)), wrong)[:2])

        gone = rng.permutation(c)[:CLASSES]
        kept = np.setdiff1d(np.arange(c), gone)
        mine, theirs = rows[np.isin(y[rows], kept)], rng.permutation(rows[np.isin(y[rows], gone)])[:PLANTED]
        places, labels = rng.permutation(len(mine))[:PLANTED], y[mine]
        mixed = mine.copy()
        mixed[places] = theirs
        strangers.append(found(fitted(data, mixed, labels, kept), places)[2:])

        method = fitted(data, rows, y[rows], np.arange(c))
        records = class_records(study_left_out(method).probabilities.argmax(1), y[rows], c)
        more = draw(y, 2 * SHOTS, seed)
        score = []
        for chosen in (needy(records)[:CLASSES], rng.permutation(c)[:CLASSES], []):
            some = np.union1d(rows, more[np.isin(y[more], chosen)])
            head = fitted(data, some, y[some], np.arange(c))
            score.append(100 * head.score(data["val_features"], data["val_labels"]))
        gains.append((score[0] - score[2], score[1] - score[2]))
    for what, rows_found in (("wrong labels", swaps), ("strange images", strangers)):
        hit, named = np.mean(rows_found, axis=0)
        print(f"{what}: {hit:.1f} of {PLANTED} among {named:.1f} that are named")
    ours, random = np.mean(gains, axis=0)
    print(f"more images of {CLASSES} classes: {ours:+.2f} points, of random ones {random:+.2f}")


if __name__ == "__main__":
    main()
