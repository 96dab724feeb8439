"""How strong a cache should be where nothing can be left out: as far as the text errs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewclip.functional import best_scale, log_likelihood
from fewclip.selection.judge import sum_by_image
from fewclip.selection.likelihood import Proof, standard_errors
from fewclip.selection.result import effective_number

CAUTIOUS = 0.05  # strength where nothing is known: little to gain, next to nothing to lose
KNOWN = Proof(2.0, 5)  # that the text knows the images; noise and shuffled labels stay below 1
DOUBT = 0.5  # standard errors by which the text may be better than it looked
_MOST = 20.0
_FIRST_SHARE = 0.1  # of wrong labels, to begin with
_IMAGINARY = 2  # right labels believed in beforehand
_ROUNDS = 30


def default_strength(text_logits: Tensor, labels: Tensor, images: Tensor, weights: Tensor) -> float:
    """The odds (1 − p)/p that the text is wrong, p its accuracy on the labelled images, unseen by it.

    A text that is right on nine of ten images is worth nine times as much as the images; one that is right on
    one of ten a ninth. Where the text is not proven to know the images better than chance, they may be noise
    or wrongly labelled as well: then ``CAUTIOUS``. Images whose label is probably wrong do not count: they
    would make the text look bad, and the images, of all things, strong.

    Args:
        text_logits: Zero-shot logits of the labelled rows, (r, c).
        labels: Class index of each row, (r,).
        images: Which image each row is a view of, (r,).
        weights: Weight of each row, (r,); 1 in sum for the rows of a class.
    """
    scale = best_scale(text_logits, labels, weights)
    known = log_likelihood(scale * text_logits, labels) + math.log(text_logits.shape[1])
    gain, weight = sum_by_image(known.double() * weights, images), sum_by_image(weights, images)
    gain, weight = gain[weight > 0], weight[weight > 0]
    if len(weight) < KNOWN.witnesses or standard_errors(gain, weight) < KNOWN.errors:
        return CAUTIOUS
    n = effective_number(weight)
    weights = weights.double() * n / weights.double().sum()
    weights = weights * _credible(text_logits, labels, weights, scale)
    right = float((text_logits.argmax(1) == labels).double() @ weights)
    n = float(weights.sum())
    p = (right + 1) / (n + 2)  # Laplace's rule: none is perfect for having seen a few
    p += DOUBT * math.sqrt(p * (1 - p) / n)
    return min((1 - p) / p, _MOST)


def _credible(text_logits: Tensor, labels: Tensor, weights: Tensor, scale: float) -> Tensor:
    """Probability that each label is right, (n,), by the text's opinion of it.

    A mixture, fitted by expectation-maximisation: a share f of the labels is drawn blindly, the others as the
    text draws them, softmax(u z). A text that knows little finds no label incredible.
    """
    n_classes, f, credible = text_logits.shape[1], _FIRST_SHARE, torch.ones_like(weights)
    for _ in range(_ROUNDS):
        likely = log_likelihood(scale * text_logits, labels).double().exp()
        credible = (1 - f) * likely / ((1 - f) * likely + f / n_classes)
        f = float(weights @ (1 - credible)) / (float(weights.sum()) + _IMAGINARY)
        scale = best_scale(text_logits, labels, (weights * credible).to(text_logits), start=scale)
    return credible
