r"""Whether a fit of a piecewise linear loss has ended at an optimum.

At the optimum of a sum of absolute errors the gradient does not vanish: it is a vertex,
where several residuals are 0, and to each kink belongs an interval of slopes. The
condition of first order is that some choice of slopes adds up to 0. With the residuals
:math:`r`, the Jacobian :math:`J`, the weights :math:`w` and the quantile :math:`q`, the
linear program

.. math::

    \max_a\; r^T a \quad\text{with}\quad J^T a = 0,\quad
    (q - 1)\, w_i \le a_i \le q\, w_i

has the lowest sum of losses that is in reach of a model that is linear in its
parameters, and for any other model, that of its linear approximation. By how much the
fit's own sum is above it is what the fit has left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import linprog

from ._auto import moving_terms
from ._component import join_numbers
from ._constrained import flat_bounds
from ._curvature import at_selected
from ._driver import Run
from ._entries import count_entries, read_entries
from ._evaluation import Evaluator
from ._problem import Problem
from ._structure import Numbers
from ._typing import Block, PyTree
from ._unpacking import build_state, internal_start, user_values
from .exceptions import ConvergenceWarning, DifferentiationError
from .losses import AbsoluteError, Quantile
from .losses._resolve import is_own
from .optimizers._jacobian import jacobian

# So many derivatives take the linear program about 0.15 s; more are not looked at.
MOST_DERIVATIVES = 10**5
MOST_ENTRIES = 100
# How far a parameter may change, in units of its size or of 1: beyond, hardly any model
# is still like its linear approximation.
_REACH = 10.0
# What is left, as a share of the loss, that goes without a warning. Less is left by a
# fit that starts as the advice has it.
SMALL = 1e-3
ADVICE = {
    AbsoluteError: (
        "Fit Huber(delta), with a delta of a hundredth of the typical residual, and "
        "start from its values."
    ),
    Quantile: (
        "Fit a loss without kinks, y - prediction = r: (quantile - 0.5) * r + "
        "0.5 * jnp.sqrt(r**2 + d**2), with a d of a hundredth of the typical residual "
        "and optimizer='lm', and start from its values."
    ),
}


class _There(NamedTuple):
    predictions: Any  # of shape (m,) or (m, k)
    columns: Any  # of shape (p, m k): their derivatives
    internal: Any  # of shape (p,): where the optimiser is, and its bounds
    lower: Any
    upper: Any


def make_linear(at_state: Evaluator) -> Block[_There, None]:
    """
    Build the function that linearises the predictions.

    Parameters
    ----------
    at_state : Evaluator
        The objective.

    Returns
    -------
    Block
        ``run(numbers, data, values)``, to be compiled.
    """
    structure, parts = at_state.structure, at_state.parts

    def run(numbers: Numbers, data: Any, values: PyTree) -> _There:
        internal = internal_start(structure, numbers | {"values": values})
        flat, unravel = ravel_pytree(internal)

        def predict(x: Any) -> Any:
            found = user_values(structure, numbers, unravel(x))
            return parts.predict(build_state(structure, numbers, found), *data)

        predictions, columns = jacobian(predict, flat, at_state.mode == "fwd")
        lower, upper = flat_bounds(structure, numbers, internal)
        return _There(predictions, columns, flat, lower, upper)

    return Block(run, lambda *_: None)


def left_at_kinks(
    run: Run, problem: Problem, y: np.ndarray, weights: np.ndarray | None
) -> float | None:
    """
    Return by which share of itself the sum of losses could still fall.

    Parameters
    ----------
    run : Run
        At its end.
    problem : Problem
        What was minimised.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    weights : ndarray of shape (n,) or None
        The weights.

    Returns
    -------
    float or None
        In the model's linear approximation, each parameter changing by ten times its
        size, or 10, at most. ``None`` where that is not known: of losses that are not
        piecewise linear, with penalties or priors, and of large problems.
    """
    loss = problem.objective.loss
    if not is_own(loss) or not isinstance(loss, (AbsoluteError, Quantile)):
        return None
    if run.stalled_after == 0 or run.task.feed is not None:
        return None  # it was not to go on to an optimum
    terms = moving_terms(problem.objective, problem.spec)
    count = count_entries(run.task.structure, run.task.numbers)
    is_large = count > MOST_ENTRIES or count * y.size > MOST_DERIVATIVES
    if is_large or any(term is not None for term in terms):
        return None
    quantile = getattr(join_numbers(loss, problem.data[-2]), "quantile", 0.5)
    try:
        there = at_selected(run, make_linear, "kinks")
    except DifferentiationError:
        return None  # the fit itself is none the worse for it
    there = _There(*(np.asarray(part, float) for part in there))
    residuals = (y - there.predictions[: len(y)]).ravel()
    # Of an exact fit nothing is left but rounding.
    if np.abs(residuals).mean() <= np.sqrt(np.finfo(y.dtype).eps) * np.abs(y).mean():
        return None
    # Of a partly free array, the fixed entries do not move.
    task = run.task
    fixed = read_entries(task.structure, task.numbers, run.carry.selected.free).fixed
    columns = there.columns[~fixed, : y.size]
    internal, lower, upper = (part[~fixed] for part in there[2:])
    rows = np.ones(len(y)) if weights is None else weights.astype(float)
    share = np.repeat(rows, y[0].size)
    reach = _REACH * np.maximum(np.abs(internal), 1.0)
    ends = (
        np.maximum(lower - internal, -reach),
        np.minimum(upper - internal, reach),
    )
    return remaining_share(columns, residuals, share, float(quantile), ends)


def doubt_about(message: str, loss: Any, left: float | None) -> Warning | None:
    """
    Return the warning that a fit calls for of which much is left, if any.

    Parameters
    ----------
    message : str
        How it ended.
    loss : Loss
        With the kinks.
    left : float or None
        From `left_at_kinks`.

    Returns
    -------
    ConvergenceWarning or None
        With advice.
    """
    if left is None or left <= SMALL:
        return None
    return ConvergenceWarning(
        f"{message} It is no optimum of a loss with kinks: where the model is taken as "
        f"linear, the loss could still fall by {left:.2g} of itself. "
        f"{ADVICE[type(loss)]} The optimum of a linear model is that of a linear "
        "program: sklearn.linear_model.QuantileRegressor finds it."
    )


def remaining_share(
    columns: np.ndarray,
    residuals: np.ndarray,
    weights: np.ndarray,
    quantile: float,
    ends: tuple[np.ndarray, np.ndarray],
) -> float | None:
    """
    Solve the linear program.

    Parameters
    ----------
    columns : ndarray of shape (p, n)
        The derivatives of the predictions.
    residuals, weights : ndarray of shape (n,)
        Responses less predictions, and how much they count.
    quantile : float
        In (0, 1); 0.5 is the median.
    ends : tuple of ndarray of shape (p,)
        The least and the largest change of each parameter, around 0.

    Returns
    -------
    float or None
        What is left of the sum, as a share of it; ``None`` if the solver fails.
    """
    counts = weights > 0
    columns, residuals = columns[:, counts], residuals[counts]
    weights = weights[counts] / weights[counts].mean()
    signs = np.where(residuals > 0, quantile, quantile - 1)
    total = float(np.sum(weights * signs * residuals))
    if not np.isfinite(columns).all() or not np.isfinite(total) or total <= 0:
        return None
    # In units of columns and residuals: the solver's tolerances are absolute.
    norms = np.linalg.norm(columns, axis=1)
    norms[norms == 0] = 1.0
    unit = total / weights.sum()
    lower, upper = (end * norms / unit for end in ends)
    low, high = (quantile - 1) * weights, quantile * weights
    p = len(columns)
    # A parameter that meets an end of its interval keeps a slope there.
    costs = np.concatenate([-residuals / unit, upper, -lower])
    rows = np.hstack([columns / norms[:, None], -np.eye(p), np.eye(p)])
    box = np.vstack([np.column_stack([low, high]), np.tile([0.0, np.inf], (2 * p, 1))])
    found = linprog(costs, A_eq=rows, b_eq=np.zeros(p), bounds=box, method="highs")
    if found.status != 0:
        return None
    return max(0.0, 1.0 + found.fun * unit / total)
