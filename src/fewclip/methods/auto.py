"""Auto: the methods that suit the data, compared on images that they have not learnt, and averaged."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from fewclip.methods.base import FewShotMethod
from fewclip.methods.ensemble import Ensemble, Trial, on_common_images
from fewclip.methods.parameters import is_number
from fewclip.methods.support import Rows, Support
from fewclip.selection import SelectionResult, standard_errors

CANDIDATES = ("gda", "proker", "linear-probe")  # in this order, while there is time
CAUTION = 2.0  # standard errors that a method may lie behind the best and still have a say


class Auto(Ensemble):
    """The mean of the methods that suit the data: of those that few labels cannot tell from the best.

    Every candidate is fitted with its own settings and its own safe mix, and judged on images that it has not
    learnt (leave-one-out, or folds that leave out one shot of every class; validation images where given).
    Those that are right less often than the best by more than two standard errors (paired by image) are left
    out; the others have equal weights. With one image a class nothing can be judged, so all have a say.

    Args:
        methods: Candidates, in the order in which they are tried; None: closed forms, and a linear head.
        time_limit: Seconds; no further candidate is begun when the next would probably end after it. The
            first is always fitted.
        verbose: Whether a bar shows the candidates.
        text_features, classes, logit_scale, selection, class_balance, safe, calibration, device,
        random_state: See ``FewShotMethod``.

    Attributes:
        members_, weights_: See ``Ensemble``.
        selection_: Its ``table`` has a row a candidate: weight, λ of its safe mix, share of images not learnt
            that are right, mean log-likelihood, seconds; its ``note`` says why.
    """

    def __init__(
        self,
        text_features: ArrayLike | Tensor | Sequence[Any] | None = None,
        *,
        classes: ArrayLike | None = None,
        methods: Sequence[str | FewShotMethod] | None = None,
        time_limit: float = 60.0,
        verbose: bool = False,
        logit_scale: float = 100.0,
        selection: str = "auto",
        class_balance: bool = True,
        safe: bool = True,
        calibration: str = "auto",
        device: str = "auto",
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            text_features, classes=classes, methods=methods, verbose=verbose, logit_scale=logit_scale,
            selection=selection, class_balance=class_balance, safe=safe, calibration=calibration,
            device=device, random_state=random_state,
        )  # fmt: skip
        self.time_limit = time_limit

    # ---- fit ----

    def _fit(self, support: Support, validation: Rows | None) -> SelectionResult:
        begun = time.perf_counter()
        self._check_limit()
        candidates = list(self._candidates(support))
        trials: list[Trial] = []
        with tqdm(candidates, desc="candidates", unit="method", disable=not self.verbose) as bar:
            for name, method in bar:
                bar.set_postfix_str(name)
                spent = time.perf_counter() - begun
                if trials and spent + max(trial.seconds for trial in trials) > self.time_limit:
                    break
                trials.append(self._tried(name, method, support, validation))
        late = [name for name, _ in candidates[len(trials) :]]
        weights, why = _weights(trials)
        if late:
            why += f" Not tried within {self.time_limit:g} s: {', '.join(late)}."
        return self._take(trials, weights, why, begun)

    def _candidates(self, support: Support) -> Iterator[tuple[str, FewShotMethod]]:
        if self.methods is not None:
            yield from self._named(self.methods)
            return
        yield from self._named(CANDIDATES)

    def chosen_parameters(self, names: Collection[str]) -> dict[str, Any]:
        """Those that have a say, as candidates."""
        return {"methods": super().chosen_parameters(names)["methods"]}

    def _check_limit(self) -> None:
        if not is_number(self.time_limit) or not float(self.time_limit) > 0:
            raise self._bad("time_limit", "seconds above 0", self.time_limit)


def _weights(trials: Sequence[Trial]) -> tuple[list[float], str]:
    """Equal weights of the trials that are not clearly less often right than the best, and why."""
    judged = on_common_images([trial.held_out for trial in trials])
    if judged is None:
        return [1 / len(trials)] * len(trials), "Nothing can be held out to compare them: equal weights."
    weights = judged[0].weights.double()
    right = torch.stack([weights * (part.logits.argmax(1) == part.labels) for part in judged], dim=1)
    counts = right.sum(0)
    best = int(counts.argmax())
    behind = [standard_errors(right[:, best] - right[:, i], weights) for i in range(len(trials))]
    kept = [i for i, errors in enumerate(behind) if errors <= CAUTION]
    leaders = [i for i in kept if bool(torch.isclose(counts[i], counts[best]))]
    others = ", ".join(trials[i].name for i in kept if i not in leaders)
    why = f"On {len(weights)} images not learnt {' and '.join(trials[i].name for i in leaders)} "
    why += "is right most often" if len(leaders) == 1 else "are right most often"
    if others:
        why += f", not clearly more often than {others}"
    out = [trial.name for i, trial in enumerate(trials) if i not in kept]
    why += f"; clearly worse: {', '.join(out)}." if out else "."
    return [1 / len(kept) if i in kept else 0.0 for i in range(len(trials))], why
