"""An exported encoder against torch: speed and fidelity, on a randomly initialised CLIP of ViT-B/32's size.

    python benchmarks/export.py [--json out.json]

Real weights are a download; time does not depend on their values. Exact towers must agree to 1e-4, 8-bit ones
have cosines of at least 0.999 and be 1.5 times as fast as torch. The sides are timed in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from fewclip.encoders import load_encoder
from fewclip.encoders.onnx import export_encoder


def model_folder(folder: Path) -> Path:
    """A CLIP of ViT-B/32's size with a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig()).save_pretrained(folder)
    transformers.CLIPImageProcessorPil().save_pretrained(folder)
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "photo", "of", "dog", "cat"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def main() -> int:
    """Measure, print, write; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)) for _ in range(32)]
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Any] = {"torch": load_encoder(model_folder(Path(folder) / "model"))}
        for name, int8 in (("onnx", False), ("onnx int8", True)):
            out = export_encoder(sides["torch"], Path(folder) / name.replace(" ", "-"), int8=int8)
            sides[name] = load_encoder(f"onnx:{out}")
        features = {name: side.encode_images(images) for name, side in sides.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.runs):
            for name, side in sides.items():
                start = time.perf_counter()
                side.encode_images(images)
                seconds[name].append(time.perf_counter() - start)
    results = []
    for name in ("onnx", "onnx int8"):
        ours, plain = (statistics.median(seconds[side]) for side in (name, "torch"))
        results.append(
            {
                "what": f"{name} against torch, 32 images, ViT-B/32", "ours_s": ours, "plain_s": plain,
                "ratio": plain / ours, "required": 1.5 if "int8" in name else 0,
                "spread": max(seconds[name]) / min(seconds[name]),
                "cosine": float((features[name] * features["torch"]).sum(1).min()),
                "difference": float(np.abs(features[name] - features["torch"]).max()),
            }
        )  # fmt: skip
        print(json.dumps(results[-1]))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    exact, small = results
    good = exact["difference"] <= 1e-4 and small["cosine"] >= 0.999 and small["ratio"] >= small["required"]
    print("all bounds kept" if good else "a bound is broken")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
