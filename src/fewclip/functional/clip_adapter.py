"""CLIP-Adapter: a bottleneck on the features, mixed with them."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.zero_shot import unit, zero_shot_logits


def clip_adapter_features(features: Tensor, down: Tensor, up: Tensor, *, ratio: float) -> Tensor:
    """Adapted features, unit(r · relu(relu(f A↓ᵀ) A↑ᵀ) + (1 − r) · f), (n, d).

    Args:
        features: Unit-norm features f, (n, d).
        down: A↓, (h, d); h = d/4 in the paper.
        up: A↑, (d, h).
        ratio: r, 0 … 1.

    Reference: Gao et al. 2021, arXiv:2110.04544, equations 2–4.
    """
    bottleneck = torch.relu(torch.relu(features @ down.T) @ up.T)
    return unit(ratio * bottleneck + (1 - ratio) * features)


def clip_adapter_logits(
    queries: Tensor, text_features: Tensor, down: Tensor, up: Tensor, *, ratio: float, logit_scale: float
) -> Tensor:
    """Logits of CLIP-Adapter on the image side, z = s · g Tᵀ with the adapted features g.

    Args:
        queries: Unit-norm features f, (n, d).
        text_features: Unit-norm text features T, (c, d).
        down: A↓, (h, d).
        up: A↑, (d, h).
        ratio: r, 0 … 1.
        logit_scale: s.

    Returns:
        Logits, (n, c).

    Reference: Gao et al. 2021, arXiv:2110.04544, equations 2–5.
    """
    adapted = clip_adapter_features(queries, down, up, ratio=ratio)
    return zero_shot_logits(adapted, text_features, logit_scale=logit_scale)
