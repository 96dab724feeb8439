"""Zero-shot CLIP and the small steps that every method shares."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def unit(features: Tensor) -> Tensor:
    """Rows scaled to Euclidean norm 1, (n, d). A zero row stays zero."""
    return normalize(features, dim=-1)


def zero_shot_logits(queries: Tensor, text_features: Tensor, *, logit_scale: float) -> Tensor:
    """Logits of zero-shot CLIP, z = s · f Tᵀ.

    Args:
        queries: Unit-norm features f, (n, d).
        text_features: Unit-norm text features T, (c, d).
        logit_scale: s, the encoder's own (100 for OpenAI CLIP).

    Returns:
        Logits, (n, c).

    Reference: Radford et al. 2021, arXiv:2103.00020, section 3.1.
    """
    return logit_scale * (queries @ text_features.T)
