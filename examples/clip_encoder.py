"""Real CLIP as an encoder object, with transformers: ``pip install transformers`` and a connection, once.

    from clip_encoder import CLIPEncoder
    FewShotClassifier(encoder=CLIPEncoder()).fit("flowers/train")
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPModel

from fewclip.data import load_image, resize_center_crop

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


class CLIPEncoder:
    """An OpenAI CLIP of transformers' ``CLIPModel``, by hub name or from a local folder."""

    def __init__(self, source: str = "openai/clip-vit-base-patch32") -> None:
        self.model = CLIPModel.from_pretrained(source).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(source)
        self.name = source
        self.size = self.model.config.vision_config.image_size
        self.dim = self.model.config.projection_dim
        self.logit_scale = self.model.logit_scale.exp().item()
        self.fingerprint = f"{source}, {self.size} px, bicubic, centre crop"

    @torch.inference_mode()
    def encode_images(self, images):
        """Unit-norm float32 features, (n, d), of PIL images or paths."""
        crops = [np.asarray(resize_center_crop(load_image(image), size=self.size)) for image in images]
        pixels = (np.stack(crops).astype(np.float32) / 255 - MEAN) / STD
        hidden = self.model.vision_model(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
        return normalize(self.model.visual_projection(hidden.pooler_output), dim=-1).numpy()

    @torch.inference_mode()
    def encode_texts(self, texts):
        """Unit-norm float32 features, (n, d), of sentences."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=77, return_tensors="pt")
        hidden = self.model.text_model(**tokens)
        return normalize(self.model.text_projection(hidden.pooler_output), dim=-1).numpy()
