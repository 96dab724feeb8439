"""Spatial tokens of the CLIP family: what a vision transformer sees where."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fewclip.encoders._batches import Source, check_list, input_batches
from fewclip.encoders._hf_files import model_folder, read_json, transformers_library
from fewclip.encoders._runtime import n_processors
from fewclip.encoders.hf import HFEncoder

# SigLIP pools by attention and ALIGN by a mean over other channels: their positions are not in the space.
TOKEN_TYPES = ("clip", "metaclip_2", "chinese_clip", "altclip")


class HFTokenEncoder(HFEncoder):
    """An ``HFEncoder`` whose image tower is a vision transformer with a class token.

    The image feature is the projection of the class token behind the last norm. The same norm and projection
    put the tokens of the patches into the same space, as CALIP (arXiv:2209.14169) takes them.
    """

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that the tokens cover."""
        assert self.preprocessing is not None
        return self.preprocessing.seen(image)

    def encode_image_tokens(self, images: Sequence[Source]) -> np.ndarray:
        """Unit-norm float32 features and spatial tokens, (n, 1 + L, d), of PIL images or paths.

        Row 0 of an image is what ``encode_images`` gives; L patches follow, row by row from the upper left.

        Raises:
            ImageError: An image cannot be decoded; the error names it.
        """
        check_list("images", images)
        assert self.preprocessing is not None
        torch = importlib.import_module("torch")
        batches = input_batches(
            images, self.preprocessing, batch_size=self.batch_size, threads=n_processors()
        )
        rows = []
        for batch in batches:
            model = self._model()
            pixels = torch.from_numpy(batch).to(next(model.parameters()).device)
            with torch.inference_mode():
                tower = model.vision_model
                hidden = tower.post_layernorm(tower(pixel_values=pixels).last_hidden_state)  # (b, 1 + L, h)
                found = model.visual_projection(hidden).float()
                rows.append(torch.nn.functional.normalize(found, dim=-1).cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, 1, self.dim), dtype=np.float32)


def open_hf(source: str) -> HFEncoder:
    """An encoder of transformers, with spatial tokens where its kind has them."""
    transformers_library()
    folder = model_folder(source)
    kind = read_json(folder / "config.json").get("model_type")
    return (HFTokenEncoder if kind in TOKEN_TYPES else HFEncoder)(source, folder=folder)
