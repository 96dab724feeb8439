"""CLAP: a text-initialised probe that each class's text holds as far as it knows the class."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewclip.functional import clap_penalties
from fewclip.methods.head_task import row_weights
from fewclip.methods.linear_probe import LinearProbe
from fewclip.methods.support import Support


class CLAP(LinearProbe):
    """Class-adaptive linear probe: z = s · f · unit(u_c), u starts at T.

    Minimises cross-entropy + p · mean_c λ_c R² ‖u_c − T_c‖², λ_c the mean zero-shot probability of class c on
    its labelled images. p = 1 is the paper's.

    Args:
        penalty: p ≥ 0, or ``"auto"``: chosen from a path from 1 to 0.003; 1 where nothing can be judged.
        text_norm: R, the norm of text features as the encoder gives them.
        max_steps: Steps of L-BFGS at most.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Nothing is drawn, so ``random_state`` changes nothing.

    Attributes:
        weights_: u, (c, d).
        penalty_: p in use.
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.

    Differs from the published code: L-BFGS instead of 300 epochs of SGD; p is chosen. Class means that
    stand in for text leave an image out where they judge it.

    Reference: Silva-Rodríguez et al. 2024, arXiv:2312.12730, equations 6–8.
    """

    _DEFAULT: ClassVar[float] = 1.0

    def _holds(self, support: Support, text: Tensor) -> Tensor:
        weights = row_weights(support, balanced=False)
        return clap_penalties(self._text_logits_in(support, text), support.labels, len(text), weights=weights)
