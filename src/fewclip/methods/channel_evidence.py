"""The logits of two classes, taken apart by channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import affinity_by_channel
from fewclip.methods.ape_t import APET
from fewclip.methods.base import FewShotMethod
from fewclip.methods.cache import CacheMethod


@dataclass(frozen=True)
class ChannelSplit:
    """logit_c = Σ_j text_cj + Σ_j images_cj + base_c.

    Attributes:
        text: What each channel adds through the text, s f_j T_cj, (c, d).
        images: What it adds through the labelled images, (c, d).
        base: What the cache gives to any query, whatever it shows: λ α exp(−β) times the sum of the class's
            key weights, (c,).
        kept: The channels that refinement kept, (Q,); None: the method refines none.
    """

    text: np.ndarray
    images: np.ndarray
    base: np.ndarray
    kept: np.ndarray | None


def split_by_channel(method: FewShotMethod, x: ArrayLike) -> ChannelSplit | None:
    """Takes the logits of one feature apart by channel, exactly.

    The text's part is linear in the channels; the cache's is split as ``functional.affinity_by_channel``
    says. λ is the safe mix.

    Args:
        method: A fitted method.
        x: One feature, (d,).

    Returns:
        None for a method whose logits are no text plus cache of the plain feature.
    """
    if not isinstance(method, CacheMethod) or not _is_plain(type(method)):
        return None
    with torch.inference_mode():
        query = method._tensor(np.asarray(x)[None])[0]
        text = method.logit_scale * query.double() * method.text_features_.double()
        images, base = _cache_parts(method, query)
        kept = method.channels_
        if isinstance(method, APET):  # what the text has learnt, the images taught it
            kept = method.residual_channels_
            learnt = method.logit_scale * query.double()[kept] * method.residual_.double()
            images.index_add_(1, kept, learnt)
        return ChannelSplit(
            text.cpu().numpy(),
            (method.mix_ * images).cpu().numpy(),
            (method.mix_ * base).cpu().numpy(),
            None if kept is None else kept.cpu().numpy(),
        )


def _is_plain(kind: type[CacheMethod]) -> bool:
    """Whether its logits are text, perhaps with a residual, plus the cache as ``CacheMethod`` has it."""
    names = ("_logits", "_mixed_logits", "_sums", "_query_values", "_balance", "_fitted_keys")
    base = kind._base_logits in (CacheMethod._base_logits, APET._base_logits)
    return base and all(getattr(kind, name) is getattr(CacheMethod, name) for name in names)


def _cache_parts(method: CacheMethod, query: Tensor) -> tuple[Tensor, Tensor]:
    """What each channel adds to the cache's logits, (c, d), and what it gives to any query, (c,); float64."""
    labels, n_classes = method.support_labels_, len(method.classes_)
    on_channels = method._fitted_keys().on_channels(query[None])[0]
    weights = method.alpha_ * method.key_weights_.double() * method.class_factors_[labels].double()
    parts = weights[:, None] * affinity_by_channel(on_channels, method.keys_, beta=method.beta_)
    sums = parts.new_zeros(n_classes, parts.shape[1]).index_add_(0, labels, parts)
    base = math.exp(-method.beta_) * sums.new_zeros(n_classes).index_add_(0, labels, weights)
    if method.class_balance and not bool(method.present_.all()):
        # A class without images has the sum of the class whose sum is largest.
        totals = (sums.sum(1) + base).masked_fill(~method.present_, -torch.inf)
        source = torch.where(method.present_, torch.arange(n_classes, device=labels.device), totals.argmax())
        sums, base = sums[source], base[source]
    if method.channels_ is None:
        return sums, base
    return sums.new_zeros(n_classes, len(query)).index_add_(1, method.channels_, sums), base
