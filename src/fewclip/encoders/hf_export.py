"""The towers of a model of transformers as ONNX files."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

from PIL import Image

from fewclip.encoders.hf import HFEncoder


def export_towers(encoder: HFEncoder, image: Path, text: Path) -> dict[str, Any]:
    """Writes both towers, features not yet of unit norm; returns what a tokenizer must know."""
    torch = importlib.import_module("torch")
    model, words = encoder._model(), encoder.text
    assert encoder.preprocessing is not None
    pixels = torch.zeros(2, *encoder.preprocessing(Image.new("RGB", (64, 64))).shape)
    found = words.padded(words.ids(("a photo of a dog", "cat")))
    tokens = {name: torch.from_numpy(value) for name, value in found.items()}

    class Tower(torch.nn.Module):
        def __init__(self, what: str, names: list[str]) -> None:
            super().__init__()
            self.model, self.what, self.names = model, what, names

        def forward(self, *inputs: Any) -> Any:
            found = getattr(self.model, self.what)(**dict(zip(self.names, inputs, strict=True)))
            return found if isinstance(found, torch.Tensor) else found.pooler_output

    length = {} if words.family.pad_to else {1: "length"}
    jobs = (
        (image, "get_image_features", {"pixel_values": pixels}, {}),
        (text, "get_text_features", tokens, length),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: what it would break is compared afterwards
        for path, what, inputs, axes in jobs:
            names = list(inputs)
            torch.onnx.export(
                Tower(what, names).train(False), tuple(inputs.values()), str(path), input_names=names,
                output_names=["features"],
                dynamic_axes={"features": {0: "n"}, **{name: {0: "n", **axes} for name in names}},
                dynamo=False, opset_version=17,
            )  # fmt: skip
    return {
        "max_tokens": words.max_tokens,
        "pad_token": words.pad_token,
        "multilingual": encoder.multilingual,
    }
