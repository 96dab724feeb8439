"""Full-batch minimisation of small losses, convex or nearly so."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController
from torch import Tensor

from fewclip.errors import TrainingError

Parameters = dict[str, Tensor]
_EPS = 1e-4  # of Adam: smaller gradients move less, so that rounding is not amplified


def lbfgs(
    start: Parameters,
    loss: Callable[[Parameters], Tensor],
    *,
    max_steps: int,
    tolerance: float,
    what: str,
) -> Parameters:
    """Minimises ``loss`` from ``start`` with L-BFGS (SciPy's; gradients by autograd).

    Args:
        start: Parameters by name; not changed.
        loss: A scalar of such parameters.
        max_steps: Steps at most; 0 gives the start.
        tolerance: Largest entry of the gradient at which it stops.
        what: Which parameter to change where the loss is not finite.

    Raises:
        TrainingError: The loss is not finite.
    """
    if max_steps == 0 or not any(value.numel() for value in start.values()):
        return {name: value.detach() for name, value in start.items()}

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            parameters = {k: v.requires_grad_() for k, v in unpacked(flat, start).items()}
            value = loss(parameters)
            gradients = torch.autograd.grad(value, list(parameters.values()))
        check_finite(value, what)
        return value.item(), torch.cat([g.ravel() for g in gradients]).double().cpu().numpy()

    options = {"maxiter": max_steps, "maxcor": 10, "gtol": tolerance, "ftol": 1e-14}
    flat = torch.cat([value.detach().ravel() for value in start.values()]).double().cpu().numpy()
    # SciPy's own vectors are short: threads of its BLAS would only stand in the way of torch's.
    with _libraries().limit(limits=1, user_api="blas"):
        found = minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)
    return unpacked(found.x, start)


@functools.cache
def _libraries() -> ThreadpoolController:
    """The thread pools of the loaded libraries; looking for them takes a moment."""
    return ThreadpoolController()


def unpacked(flat: np.ndarray, like: Parameters) -> Parameters:
    """One row of numbers as parameters of the names, shapes and types of ``like``."""
    parts = torch.from_numpy(flat).split([value.numel() for value in like.values()])
    return {
        name: part.reshape(value.shape).to(value)
        for part, (name, value) in zip(parts, like.items(), strict=True)
    }


def check_finite(loss: Tensor, what: str) -> None:
    """Raises ``TrainingError`` for a loss that is not finite."""
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            "the loss of the head",
            expected="a finite number",
            got=f"{loss.item()}",
            fix=f"Leave {what} at its default, or bring it nearer.",
        )


def adam(
    start: Parameters,
    loss: Callable[[Parameters], Tensor],
    *,
    steps: int,
    learning_rate: float,
    what: str,
) -> Parameters:
    """Full-batch Adam from ``start``; the rate falls to 0 along a cosine.

    Args:
        start: Parameters by name; not changed.
        loss: A scalar of such parameters.
        steps: Steps, ≥ 0.
        learning_rate: The first rate.
        what: Which parameter to change where the loss is not finite.

    Raises:
        TrainingError: The loss is not finite.
    """
    with torch.enable_grad():
        parameters = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
        optimizer = torch.optim.Adam(list(parameters.values()), lr=learning_rate, eps=_EPS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        for _ in range(steps):
            value = loss(parameters)
            check_finite(value, what)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    learnt = {name: value.detach() for name, value in parameters.items()}
    check_finite(loss(learnt), what)
    return learnt
