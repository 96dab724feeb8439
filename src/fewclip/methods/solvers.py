"""Full-batch minimisation of small losses, convex or nearly so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from fewclip.errors import TrainingError

Parameters = dict[str, Tensor]


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
    if max_steps == 0:
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
    found = minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)
    return unpacked(found.x, start)


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
