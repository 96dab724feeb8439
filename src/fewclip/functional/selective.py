"""Answering only where that is safe: a threshold with a guarantee, and risk against coverage."""

from __future__ import annotations

import math

import torch
from scipy.special import betaincinv
from torch import Tensor

_STEPS = 50  # thresholds of the sequence
_FIRST = 0.3  # share of images that the first threshold answers, if they are enough


def binomial_upper_bound(errors: int, n: int, delta: float) -> float:
    """Clopper–Pearson: the error rate that is exceeded with probability ≤ ``delta``, given errors of n."""
    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, 1 - delta))


def answers_needed(risk: float, delta: float, errors: int = 0) -> int:
    """Smallest n of which ``errors`` wrong answers still prove an error rate ≤ ``risk``."""
    n = max(1, math.ceil(math.log(delta) / math.log1p(-risk)))
    while binomial_upper_bound(errors, n, delta) > risk:
        n += 1
    return n


def safe_threshold(confidence: Tensor, right: Tensor, *, risk: float, delta: float) -> float:
    """The lowest confidence t above which the error rate is ≤ ``risk``, with probability ≥ 1 − ``delta``.

    Thresholds are the confidences of the images at places fixed beforehand, from the surest 30 % downwards;
    given the one at a place, the images above it are independent draws of what such a threshold answers. The
    first one whose Clopper–Pearson bound is above ``risk`` ends the sequence (fixed-sequence testing: no
    price for looking many times).

    Args:
        confidence: Of n images that nothing was learnt from, (n,).
        right: Whether the prediction is right, (n,), bool.
        risk: Largest error rate of answered images, in (0, 1).
        delta: Probability that the promise may fail, in (0, 1).

    Returns:
        t; answer where the confidence is larger. Infinity: nothing can be promised.

    Reference: Geifman and El-Yaniv 2017, arXiv:1705.08500; Angelopoulos et al. 2021, arXiv:2110.01052.
    """
    n = len(confidence)
    first = max(answers_needed(risk, delta, errors=1), math.ceil(_FIRST * n))
    first = first if first < n else answers_needed(risk, delta)
    order = torch.argsort(confidence, descending=True, stable=True)
    wrong = (~right[order]).cumsum(0)
    ordered, found = confidence[order], math.inf
    step = max(1, (n - first) // _STEPS)
    for k in range(first, n, step):  # the k surest are answered, the next one is the threshold
        above = int((ordered > ordered[k]).sum())  # fewer than k where confidences are alike
        errors = int(wrong[above - 1]) if above else 0
        if binomial_upper_bound(errors, above, delta) > risk:
            break
        found = float(ordered[k])
    return found


def risk_coverage(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Share of images answered and error rate among them, surest first, (n,) each."""
    order = torch.argsort(confidence, descending=True, stable=True)
    answered = torch.arange(1, len(order) + 1, dtype=torch.float64)
    return answered / max(1, len(order)), (~right[order]).double().cumsum(0) / answered
