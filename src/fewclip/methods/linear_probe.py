"""A linear probe that starts at the text (ZS-LP)."""

from __future__ import annotations

from torch import Tensor

from fewclip.functional import cosine_head_logits
from fewclip.methods.linear_heads import PulledHeadMethod
from fewclip.methods.solvers import Parameters


class LinearProbe(PulledHeadMethod):
    """Text-initialised linear probe: z = s · f · unit(u_c), u starts at T.

    Minimises cross-entropy + λ · mean_c R² ‖u_c − T_c‖². λ = 0 is the paper's ZS-LP.

    Args:
        penalty: λ ≥ 0, or ``"auto"``: chosen from a path from 1 to 0.003.
        text_norm: R, the norm of text features as the encoder gives them.
        max_steps: Steps of L-BFGS at most.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Nothing is drawn, so ``random_state`` changes nothing.

    Attributes:
        weights_: u, (c, d).
        penalty_: λ in use.
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.

    Differs from the published code: minimised by L-BFGS to its end instead of 300 epochs of SGD, whose early
    end is a regularisation that nobody chose; the pull λ takes its place and is chosen.

    Reference: Silva-Rodríguez et al. 2024, arXiv:2312.12730, section 4.1.
    """

    weights_: Tensor

    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        return cosine_head_logits(queries, parameters["weights"], logit_scale=self.logit_scale)
