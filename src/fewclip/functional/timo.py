"""TIMO: images say which prompts of their class to believe, and prompts join the images as samples."""

from __future__ import annotations

import torch
from torch import Tensor

from fewclip.functional.cache import class_sums
from fewclip.functional.gda import gda_head
from fewclip.functional.zero_shot import unit, zero_shot_logits


def prompt_matches(
    prompts: Tensor, owners: Tensor, features: Tensor, labels: Tensor, n_classes: int
) -> Tensor:
    """m_cp = v_c · t_cp, v_c the unit mean of the images of a class, (P,); 0 for a class without images.

    Args:
        prompts: Unit-norm features of all prompts, (P, d).
        owners: Class index of each prompt, (P,), int64.
        features: Unit-norm rows X of labelled images, (m, d).
        labels: Class index of each row, (m,), int64.
        n_classes: c.

    Reference: Li et al. 2025, arXiv:2412.11375, image-guided text.
    """
    means = unit(class_sums(features.T, labels, n_classes).T)
    return (prompts * means[owners]).sum(1)


def guided_text(
    prompts: Tensor, owners: Tensor, matches: Tensor, n_classes: int, *, guidance: float
) -> Tensor:
    """t′_c = unit(Σ_p a_cp t_cp), a_c = softmax_p(g · m_c/‖m_c‖), (c, d).

    Args:
        prompts, owners: As in ``prompt_matches``.
        matches: m, (P,). A class whose matches are all 0 has the mean of its prompts.
        n_classes: c.
        guidance: g ≥ 0; 0: the mean of the prompts, large: the one that matches best.

    Reference: Li et al. 2025, arXiv:2412.11375, image-guided text.
    """
    norms = class_sums(matches.square()[None], owners, n_classes)[0].sqrt()
    exponents = guidance * matches / norms.clamp(min=1e-12)[owners]
    largest = torch.full_like(norms, -torch.inf).scatter_reduce(0, owners, exponents, "amax")
    weights = torch.exp(exponents - largest[owners])  # unit() makes sums of 1 of them
    return unit(class_sums((weights[:, None] * prompts).T, owners, n_classes).T)


def text_samples(
    prompts: Tensor, owners: Tensor, matches: Tensor, *, n_prompts: int | None = None
) -> tuple[Tensor, Tensor]:
    """m_cp t_cp of the prompts that match best, not of norm 1: samples of their classes.

    Args:
        prompts, owners: As in ``prompt_matches``.
        matches: m, (P,); prompts of classes whose matches are all 0 do not join.
        n_prompts: How many of each class; None: all.

    Returns:
        Samples, (S, d), and the class of each, (S,).

    Reference: Li et al. 2025, arXiv:2412.11375, text-guided image.
    """
    order = torch.argsort(matches, descending=True, stable=True)
    order = order[torch.argsort(owners[order], stable=True)]
    counts = torch.bincount(owners)
    place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[owners[order]]
    joins = place < (len(order) if n_prompts is None else n_prompts)
    norms = class_sums(matches.square()[None], owners, len(counts))[0]
    order = order[joins & (norms[owners[order]] > 0)]
    return matches[order, None] * prompts[order], owners[order]


def timo_logits(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    prompts: Tensor,
    owners: Tensor,
    n_classes: int,
    *,
    alpha: float,
    logit_scale: float,
    guidance: float = 50.0,
    n_prompts: int | None = None,
) -> Tensor:
    """Logits of TIMO, z = s·f t′ᵀ + α·GDA(images and text samples).

    The paper puts its weight on the text instead: the same winners at 1/α.

    Args:
        queries: Unit-norm features f, (n, d).
        features, labels: Unit-norm rows X of labelled images, (m, d), and their classes, (m,).
        prompts, owners, n_classes: As in ``prompt_matches``.
        alpha: Weight α ≥ 0.
        logit_scale: s.
        guidance: g.
        n_prompts: Prompts of each class that join GDA; None: all.

    Returns:
        Logits, (n, c).

    Reference: Li et al. 2025, arXiv:2412.11375.
    """
    matches = prompt_matches(prompts, owners, features, labels, n_classes)
    text = guided_text(prompts, owners, matches, n_classes, guidance=guidance)
    samples, classes = text_samples(prompts, owners, matches, n_prompts=n_prompts)
    head = gda_head(torch.cat([features, samples]), torch.cat([labels, classes]), n_classes)
    return zero_shot_logits(queries, text, logit_scale=logit_scale) + alpha * head(queries)
