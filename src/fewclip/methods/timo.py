"""TIMO and TIMO-S: images choose among the prompts of their class, and prompts join the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fewclip.errors import ParameterError
from fewclip.functional import (
    GDAHead,
    gda_head,
    gda_left_out,
    guided_text,
    prompt_matches,
    text_samples,
    zero_shot_logits,
)
from fewclip.methods.closed_form import LeftOutScores, ScoreMethod, Solver
from fewclip.methods.judged_heads import judged_heads
from fewclip.methods.left_out_parts import rest_of
from fewclip.methods.parameters import is_auto, is_number
from fewclip.methods.support import Rows, Support
from fewclip.methods.text_odds import text_odds
from fewclip.methods.validation import as_numpy, unit_rows
from fewclip.selection import SelectionResult, Setting

GUIDANCE = 50.0  # of the paper
GUIDANCES = (5.0, 10.0, 20.0, GUIDANCE, 100.0)  # that TIMO-S tries
_FEW = 24  # parts that are fitted again without what they leave out


class TIMO(ScoreMethod):
    """TIMO, training-free: z = s·f t′ᵀ + α·GDA, prompts weighed by images, and joining them as samples.

    m_cp = v_c·t_cp of the unit class means v; t′_c = unit(Σ_p a_cp t_cp), a_c = softmax_p(g·m_c/‖m_c‖); all
    m_cp t_cp are samples of class c in GDA. With one row a class (c × d text) p = 1 and t′ = T.

    Args:
        alpha: Weight α ≥ 0 of GDA, or ``"auto"``: by strength.
        guidance: g ≥ 0: how sharply images choose among the prompts of their class.
        n_prompts: How many prompts of each class join GDA, the best matching first; None: all.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Give ``text_features`` as a list of c arrays (p, d).

    Attributes:
        guided_text_: t′, (c, d).
        guided_share_: How far t′ replaces T, 0–1: 1 with ``safe=False`` or a numeric α; else as far as images
            that are left out ask for.
        weights_, bias_: GDA's w_c = P μ_c, (c, d), and −½ μ_c P μ_c, (c,).

    Differs from the published code: α weighs GDA, not the text; t′ is mixed back towards T where images do
    not show that it is better; nothing is chosen on the test set.

    Reference: Li et al. 2025, arXiv:2412.11375.
    """

    n_channels = "auto"  # all: prompts and images are compared as they are

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        guidance: float | str = GUIDANCE,
        n_prompts: int | str | None = None,
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            text_features, classes=classes, logit_scale=logit_scale, selection=selection,
            class_balance=class_balance, safe=safe, calibration=calibration, device=device,
            random_state=random_state,
        )  # fmt: skip
        self.alpha = alpha
        self.guidance = guidance
        self.n_prompts = n_prompts

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        self._check_settings()
        prompts = self._prompts()
        self._said = prompts
        try:
            guidance, self.guided_share_ = self._guided(support, validation)
            self._guidance = guidance
            self.guided_text_ = self._guided_text(support, guidance)
            result = super()._fit(support, validation)
        finally:
            del self._said
        if is_auto(self.guidance):
            result = dataclasses.replace(result, settings={**result.settings, "guidance": guidance})
        return result

    # ---- the text ----

    def _prompts(self) -> tuple[Tensor, Tensor] | None:
        """Unit-norm prompts, (P, d), and the class of each, (P,); None: class means stand in."""
        if self.text_features is None:
            return None
        order = (
            np.arange(len(self.classes_)) if self.classes is None else np.argsort(np.asarray(self.classes))
        )
        given: Any = self.text_features
        rows = [unit_rows(np.atleast_2d(np.asarray(as_numpy(given[i])))) for i in order.tolist()]
        owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return torch.from_numpy(np.concatenate(rows)).to(self._device), self._index(owners)

    def _prompts_of(self, support: Support) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts, their classes, and how they match the images."""
        if self._said is None:
            text = self._text_in(support)
            prompts, owners = text, torch.arange(len(text), device=text.device)
        else:
            prompts, owners = self._said
        matches = prompt_matches(prompts, owners, support.keys, support.key_labels, support.n_classes)
        return prompts, owners, matches

    def _guided_text(self, support: Support, guidance: float) -> Tensor:
        return guided_text(*self._prompts_of(support), support.n_classes, guidance=guidance)

    def _text_of(self, support: Support) -> Tensor:
        text, guided = self._text_in(support), self._guided_text(support, self._guidance)
        return torch.lerp(text, guided, self.guided_share_)

    def _guided(self, support: Support, validation: Rows | None) -> tuple[float, float]:
        """g, and how far t′ replaces T."""
        tried = GUIDANCES if is_auto(self.guidance) else (float(self.guidance),)
        start = GUIDANCE if is_auto(self.guidance) else tried[0]
        if self._said is None or int(torch.bincount(self._said[1]).max()) == 1:
            return start, 1.0
        head = _Texts(self, support)
        rows = judged_heads(self, support, validation, head, lambda rest, _: _Texts(self, rest))
        bare = not (self.safe and is_auto(self.alpha))
        if rows is None:
            strength = text_odds(self, support)
            return start, 1.0 if bare else strength / (1 + strength)

        def logits(setting: Setting) -> Tensor:
            return rows.each(lambda texts, x: texts(x, setting["guidance"]))

        space, default = {"guidance": tried}, {"guidance": start}
        settings = rows.mix(logits, safe=not bare, space=space, start=default).settings
        return settings["guidance"], settings["mix"]

    # ---- the images ----

    def _solver(self, support: Support, text: Tensor | None, channels: Tensor | None) -> Solver:
        return _Solver(self, support)

    def _adopt(self, scores: GDAHead) -> None:
        like = self.support_features_
        self.weights_, self.bias_ = scores.weights.to(like), scores.bias.to(like)

    def _scores(self, queries: Tensor) -> Tensor:
        return queries @ self.weights_.T + self.bias_

    def _most_prompts(self) -> float:
        return 1.0 if self._said is None else float(torch.bincount(self._said[1]).max())

    def _space(self, support: Support) -> dict[str, tuple[float, ...]]:
        most = self._most_prompts()
        if is_auto(self.n_prompts):
            powers = [2.0**i for i in range(int(most).bit_length())]
            return {"n_prompts": tuple(sorted({*powers, most}))}
        return {"n_prompts": tuple(self._start(support).values())}

    def _start(self, support: Support) -> dict[str, float]:
        fixed = is_number(self.n_prompts)
        return {"n_prompts": float(self.n_prompts) if fixed else self._most_prompts()}  # type: ignore[arg-type]

    def _check_settings(self) -> None:
        super()._check_settings()
        if not is_auto(self.guidance) and not (is_number(self.guidance) and 0 <= float(self.guidance) < 1e6):
            raise ParameterError(
                f"The 'guidance' parameter of {type(self).__name__}",
                expected="'auto' or a number ≥ 0",
                got=repr(self.guidance),
                fix="The paper has 50.",
            )
        n: Any = self.n_prompts
        if n is not None and not is_auto(n) and not (is_number(n) and float(n) >= 1 and float(n) == int(n)):
            raise ParameterError(
                f"The 'n_prompts' parameter of {type(self).__name__}",
                expected="None, 'auto' or an int ≥ 1",
                got=repr(n),
                fix="None lets all prompts join.",
            )


class TIMOS(TIMO):
    """TIMO-S: TIMO whose g and number of joining prompts are chosen as well, on labels it has not learnt.

    Args:
        alpha: Weight α ≥ 0 of GDA, or ``"auto"``: by strength.
        guidance: g ≥ 0, or ``"auto"``: one of 5, 10, 20, 50, 100.
        n_prompts: How many prompts of each class join GDA, the best matching first; None: all; ``"auto"``: a
            power of two, or all.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
            random_state: See ``FewShotMethod``. Give ``text_features`` as a list of c arrays (p, d).

    Differs from the published code: as TIMO; g is chosen before the number of prompts, not with it.

    Reference: Li et al. 2025, arXiv:2412.11375.
    """

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        alpha: float | str = "auto",
        guidance: float | str = "auto",
        n_prompts: int | str | None = "auto",
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            text_features, classes=classes, alpha=alpha, guidance=guidance, n_prompts=n_prompts,
            logit_scale=logit_scale, selection=selection, class_balance=class_balance, safe=safe,
            calibration=calibration, device=device, random_state=random_state,
        )  # fmt: skip


class _Texts:
    """Guided texts of labelled images."""

    def __init__(self, method: TIMO, support: Support) -> None:
        self.text, self.scale = method._text_in(support), method.logit_scale
        said = method._prompts_of(support)
        self.guided = cache(lambda g: guided_text(*said, support.n_classes, guidance=g))

    def __call__(self, queries: Tensor, guidance: float) -> Tensor:
        return zero_shot_logits(queries, self.guided(guidance), logit_scale=self.scale)


class _Solver:
    def __init__(self, method: TIMO, support: Support) -> None:
        self.method, self.support = method, support

    def scores(self, setting: Setting) -> GDAHead:
        return gda_head(*self._rows(self.support, setting), self.support.n_classes)

    def left_out(self, setting: Setting, parts: list[Tensor], *, alone: bool = False) -> LeftOutScores:
        """Few parts are fitted again. Of many, only the images leave: prompts keep their matches."""
        c = self.support.n_classes
        if len(parts) > _FEW:
            return gda_left_out(*self._rows(self.support, setting), c, parts)
        said: LeftOutScores = []
        for part in parts:
            rest = rest_of(self.support, part)
            head = gda_head(*self._rows(rest, setting), c)
            said.append((head(self.support.features[part]), rest.shots > 0))
        return said

    def _rows(self, support: Support, setting: Setting) -> tuple[Tensor, Tensor]:
        prompts, owners, matches = self.method._prompts_of(support)
        samples, classes = text_samples(prompts, owners, matches, n_prompts=int(setting["n_prompts"]))
        return torch.cat([support.features, samples]), torch.cat([support.labels, classes])
