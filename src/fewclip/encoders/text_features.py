"""From prompts to text features, through the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from fewclip.data import FeatureStore
from fewclip.encoders._runtime import noting_cuts, wrong_shape
from fewclip.encoders.base import Encoder


def encode_prompts(
    encoder: Encoder, sentences: Sequence[Sequence[str]], *, store: FeatureStore | None = None
) -> list[np.ndarray]:
    """Features of the prompts of each class, c arrays (p, d).

    The store keeps all sentences as one row: an encoder may round differently in other company. What was cut
    short is not kept, so that its warning comes again.
    """
    texts = [text for some in sentences for text in some]
    name = f"{encoder.fingerprint}/texts"
    key = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    known = {} if store is None else store.get_many([key], fingerprint=name)
    if key in known and texts and known[key].size == len(texts) * encoder.dim:
        features = known[key].reshape(len(texts), encoder.dim)
    else:
        with noting_cuts() as cut:
            features = _checked_texts(encoder, texts)
        if store is not None and features.size and np.isfinite(features).all() and not cut:
            store.put_many({key: features.ravel()}, fingerprint=name)
    return np.split(features, np.cumsum([len(some) for some in sentences])[:-1])


def _checked_texts(encoder: Encoder, texts: list[str]) -> np.ndarray:
    features = np.asarray(encoder.encode_texts(texts), dtype=np.float32)
    if features.shape != (len(texts), encoder.dim):
        raise wrong_shape(encoder, "encode_texts", f"({len(texts)}, {encoder.dim})", features)
    return features
