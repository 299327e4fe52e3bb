"""What ``optimizer="auto"`` stands for: a rule, written down and measured.

Levenberg-Marquardt converges in few steps and to all digits, and each step costs a
Jacobian of shape (n, p) and its factorisation; L-BFGS takes many steps, each a few
gradients. `docs/performance` compares the choice with both.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._objective import Objective
from ._parameter import Parameter, is_parameter
from ._state import is_free
from .losses import Loss

# From so many free parameters on, L-BFGS is faster.
MANY_PARAMETERS = 100
# So many derivatives are 2 GiB in double precision, and a step makes copies of them.
MOST_DERIVATIVES = 2**28


def choose_optimizer(objective: Objective, spec: Any, n_responses: int) -> str:
    """
    Return the name of the optimiser that suits a problem.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    spec : pytree
        With `Parameter` leaves that have values.
    n_responses : int
        How many numbers are predicted.

    Returns
    -------
    str
        ``"lm"`` if the loss is one of :mod:`skoptax.losses`, or a subclass, with
        curvature, penalty and priors have no kinks, the free parameters have fewer
        than 100 entries, and the Jacobian fewer than 2**28; else ``"lbfgs"``. Of a
        function, be it loss, penalty or prior, nothing is known, so it counts as having
        none or some.
    """
    parameters = jax.tree.leaves(spec, is_leaf=is_parameter)
    free = sum(_count_free(p) for p in parameters if is_free(p))
    smooth = all(
        getattr(term, "is_smooth", term is None)
        for term in moving_terms(objective, spec)
    )
    curved = isinstance(objective.loss, Loss) and objective.has_curvature
    few = free < MANY_PARAMETERS and free * n_responses < MOST_DERIVATIVES
    return "lm" if curved and smooth and few else "lbfgs"


def moving_terms(objective: Objective, spec: Any) -> list[Any]:
    """
    Return what the objective has beside the losses, and changes with the parameters.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    spec : pytree
        With `Parameter` leaves.

    Returns
    -------
    list
        The penalty and the priors, each ``None`` where there is none.
    """
    parameters = jax.tree.leaves(spec, is_leaf=is_parameter)
    moving = [p for p in parameters if is_free(p) or p.tie is not None]
    return [objective.penalty, *(p.prior for p in moving)]


def _count_free(parameter: Parameter) -> int:
    value: Any = parameter.value
    if parameter.free is True:
        return int(np.size(value))
    return int(np.sum(np.broadcast_to(parameter.free, np.shape(value))))
