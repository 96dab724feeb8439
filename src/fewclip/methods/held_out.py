"""Logits of labelled images that a head has not learnt: what calibration and guarantees rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import clone

from fewclip.functional import Calibration, best_calibration
from fewclip.methods.folds import fold_weights, shot_folds
from fewclip.methods.parameters import is_auto
from fewclip.methods.support import Support
from fewclip.selection import HeldOut, SelectionResult, effective_number, sum_by_image

if TYPE_CHECKING:
    from fewclip.methods.base import FewShotMethod

CALIBRATIONS = ("auto", "none", "sals")


def refitted_held_out(method: FewShotMethod, support: Support, result: SelectionResult) -> HeldOut | None:
    """Held-out logits from up to four refits that leave one shot of every class out; None at one shot.

    Args:
        method: A method that ``support`` was fitted with.
        support: All labelled images.
        result: What was chosen; the refits get it as numbers.
    """
    folds = shot_folds(support)
    if not folds:
        return None
    with torch.no_grad():
        logits = [
            refitted(method, fold.rest, result)._mixed_logits(support.features[fold.rows]) for fold in folds
        ]
    rows = torch.cat([fold.rows for fold in folds])
    return HeldOut(torch.cat(logits), support.labels[rows], support.images[rows], fold_weights(support, rows))


def refitted(method: FewShotMethod, rest: Support, result: SelectionResult) -> FewShotMethod:
    """The same method fitted on a part of the images, with the chosen settings as numbers."""
    other: Any = clone(method)
    other.set_params(selection="none", calibration="none", **chosen_numbers(method, result.settings))
    other.classes_, other.n_features_in_ = method.classes_, method.n_features_in_
    other.support_features_, other.support_labels_ = rest.keys, rest.key_labels
    other.text_features_ = method._text_in(rest)
    other.temperature_ = other.mix_ = 1.0
    with torch.enable_grad():
        other.selection_ = other._fit(rest, None)
    other.mix_ = method.mix_
    return other


def chosen_numbers(method: FewShotMethod, settings: Mapping[str, float]) -> dict[str, Any]:
    """Parameters that the method left at ``"auto"``, as the numbers that were chosen for them."""
    params = method.get_params(deep=False)
    chosen = {name: value for name, value in settings.items() if is_auto(params.get(name))}
    return {name: int(value) if name == "n_channels" else value for name, value in chosen.items()}


def fitted_calibration(held_out: HeldOut | None) -> Calibration:
    """Temperature and evenness of held-out logits; the encoder's own scale where nothing is held out."""
    if held_out is None or not len(held_out.labels):
        return Calibration()
    n_images = effective_number(sum_by_image(held_out.weights, held_out.images))
    return best_calibration(held_out.logits, held_out.labels, held_out.weights, n_images=n_images)
