"""Images of classes that were left out: AUROC of every score, against MCM.

    python benchmarks/unknown.py --data ../shared/data --grocery features.npz [--shots 1,4,16] [--draws 6]

A random half of the classes is known; validation images of the other half are unknown (no test split is
opened). MCM at its published temperature 1 (softmax of cosines) and at its best of six. 1 if the mean gain of
``auto`` over both is below 2 points. Also: how many known images are kept at ``keep=0.95``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from calibration import datasets, draw
from sklearn.metrics import roc_auc_score

from fewclip.functional.unknown import KNOWN_SCORES
from fewclip.functional.zero_shot import unit
from fewclip.methods import TipAdapter

TEMPERATURES = (1.0, 0.2, 0.1, 0.05, 0.02, 0.01)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--grocery", type=Path)
    parser.add_argument("--shots", default="1,4,16")
    parser.add_argument("--draws", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    gains = []
    for name, data, scale in datasets(options):
        text, y, q = data["text_features"], data["train_labels"], data["val_labels"]
        for shots in map(int, options.shots.split(",")):
            found: dict[str, list[float]] = {}
            for seed in range(options.draws):
                known = np.sort(np.random.default_rng(seed).permutation(len(text))[: len(text) // 2])
                rows = draw(y, shots, seed)
                rows = rows[np.isin(y[rows], known)]
                clf = TipAdapter(text[known], classes=known, logit_scale=scale, selection="none")
                clf.fit(data["train_features"][rows], y[rows])
                truth = np.isin(q, known)
                for score in ("auto", *KNOWN_SCORES):
                    try:
                        values = clf.known_scores(data["val_features"], score)
                    except ValueError:  # one image a class
                        continue
                    found.setdefault(score, []).append(roc_auc_score(truth, values))
                features = unit(torch.as_tensor(data["val_features"], dtype=torch.float32))
                cosines = features @ unit(torch.as_tensor(text[known], dtype=torch.float32)).T
                for t in TEMPERATURES:
                    value = torch.softmax(cosines.double() / t, 1).amax(1)
                    found.setdefault(f"MCM {t}", []).append(roc_auc_score(truth, value))
                kept = ~clf.is_unknown(data["val_features"], keep=0.95)
                found.setdefault("kept", []).append(kept[truth].mean())
                found.setdefault("kept of unknown", []).append(kept[~truth].mean())
            mean = {key: 100 * float(np.mean(values)) for key, values in found.items()}
            best = max(mean[f"MCM {t}"] for t in TEMPERATURES)
            gains.append((mean["auto"] - mean["MCM 1.0"], mean["auto"] - best))
            print(name, shots, {key: round(value, 1) for key, value in mean.items()}, flush=True)
    published, best = np.mean(gains, axis=0)
    print(f"mean gain of auto: {published:.1f} points over MCM as published, {best:.1f} over its best")
    return 0 if min(published, best) >= 2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
