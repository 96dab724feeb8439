"""A bias-free probe that learns texts as if they were images of their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.functional import zero_shot_logits
from fewclip.methods.linear_heads import PulledHeadMethod
from fewclip.methods.parameters import is_number
from fewclip.methods.solvers import Parameters
from fewclip.methods.support import Rows, Support
from fewclip.methods.validation import as_numpy


class CrossModalProbe(PulledHeadMethod):
    """Cross-modal linear probe: z = s · f · w̄_c, w̄ = (1 − t)·w + t·T, w starts at T.

    Minimises ½ cross-entropy of the images + ½ cross-entropy of the prompts + λ · mean_c R² ‖w_c − T_c‖².

    Args:
        text_share: t, 0–1, of the text in the final weights; the paper has 0.5.
        penalty: λ ≥ 0, or ``"auto"``: chosen from a path from 1 to 0.003.
        text_norm: R, the norm of text features as the encoder gives them.
        max_steps: Steps of L-BFGS at most.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. A list of prompts a class gives a sample for each of them.

    Attributes:
        weights_: w̄, (c, d).
        penalty_: λ in use.
        present_: Which classes have images, (c,).
        n_parameters_: Numbers that were learnt.

    Differs from the published code: minimised by L-BFGS instead of AdamW, whose rate, decay and number of
    steps it picks on validation labels; λ takes their place. All images and prompts are learnt at once.

    Reference: Lin et al. 2023, arXiv:2301.06267, equations 3–6.
    """

    weights_: Tensor

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        text_share: float = 0.5,
        penalty: float | str = "auto",
        text_norm: float = 9.0,
        max_steps: int = 100,
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            text_features, classes=classes, penalty=penalty, text_norm=text_norm, max_steps=max_steps,
            logit_scale=logit_scale, selection=selection, class_balance=class_balance, safe=safe,
            calibration=calibration, device=device, random_state=random_state,
        )  # fmt: skip
        self.text_share = text_share

    def _formula(self, queries: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
        return zero_shot_logits(queries, parameters["weights"], logit_scale=self.logit_scale)

    def _finished(self, learnt: Parameters, text: Tensor) -> Parameters:
        return {"weights": torch.lerp(learnt["weights"], text, float(self.text_share))}

    def _text_samples(self, support: Support) -> Rows:
        texts: Any = self.text_features
        if texts is None:
            rows = list(self._text_in(support)[:, None].cpu().numpy())
        else:
            rows = [np.atleast_2d(np.asarray(as_numpy(prompts))) for prompts in texts]
            if self.classes is not None:
                rows = [rows[i] for i in np.argsort(np.asarray(self.classes))]
        # Prompts of a class without images would push the others away from it and nothing towards it.
        seen = (support.shots > 0).tolist()
        kept = [(k, row) for k, row in enumerate(rows) if seen[k] or not self.class_balance]
        labels = np.concatenate([np.full(len(row), k) for k, row in kept])
        return Rows(self._tensor(np.concatenate([row for _, row in kept])), self._index(labels))

    def _check_settings(self) -> None:
        super()._check_settings()
        good = is_number(self.text_share) and 0 <= float(self.text_share) <= 1
        self._require("text_share", good, "a number from 0 to 1")
