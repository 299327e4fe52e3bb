"""Whether labels are separated, so that their likelihood has no optimum.

Where a model can be as certain of each label as it likes, the log loss falls towards 0
as parameters grow without end, and a fit stops where it no longer notices.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._auto import moving_terms
from ._driver import Run
from ._ending import Ending, named_entries
from ._entries import read_entries, stacked_values
from ._evaluation import Evaluator
from ._problem import Problem
from ._structure import Numbers
from ._typing import Array, Block, PyTree
from ._unpacking import internal_start
from .losses import LogLoss
from .losses._resolve import is_own

# A sum of losses below this leaves no label in doubt: one that were predicted with a
# probability of 1/2 would add 0.69.
_CERTAIN = 1e-3
# With more entries nothing is looked at: each is a point, and a network separates what
# it is trained with in any case.
MOST_ENTRIES = 100
# What parameters are multiplied by. A wave comes back to where it was by whole numbers
# and simple fractions; what is past all labels by the smaller ones is not so by the
# larger ones.
_FARTHER = (1.3710987, 2.2316054, 3.7092113, 31.297451, 977.03319)
_NEARER = tuple(1 / factor for factor in _FARTHER[2:])
# So many times as large is the loss there, where parameters have grown because of it.
_RISE = 2.0


def make_values(at_state: Evaluator) -> Block[Array, None]:
    """
    Build the function that evaluates an objective at several points.

    Parameters
    ----------
    at_state : Evaluator
        The objective.

    Returns
    -------
    Block
        ``run(numbers, data, points)``, to be compiled; points as of `stacked_values`.
    """
    structure = at_state.structure

    def run(numbers: Numbers, data: Any, points: PyTree) -> Array:
        def value(values: PyTree) -> Any:
            start = internal_start(structure, numbers | {"values": values})
            return at_state.objective(start, numbers, data)[0]

        found: Array = jax.lax.map(value, points)
        return found

    return Block(run, lambda *_: None, for_loss_alone=True)


def separated(
    run: Run, problem: Problem, y: np.ndarray, weights: np.ndarray | None, value: float
) -> Ending | None:
    """
    Return another ending for a run that has ended where labels are separated.

    Parameters
    ----------
    run : Run
        At its end, which was not because of other parameters without end.
    problem : Problem
        What was minimised.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    weights : ndarray of shape (n,) or None
        Their weights.
    value : float
        The objective there.

    Returns
    -------
    Ending or None
        ``None`` with another loss, with a penalty or a prior, with more than 100
        entries, or with a label in doubt; and where the loss rises if parameters that
        have no bound on their way are larger, by factors from 1.37 to 977, whether each
        alone or all of them, or does not rise if they are as much smaller: one that
        labels hardly depend on has not grown because of them.
    """
    loss = problem.objective.loss
    if type(loss) is not LogLoss or not is_own(loss):
        return None
    is_counted = np.full(len(y), True) if weights is None else weights > 0
    terms = moving_terms(problem.objective, problem.spec)
    if (
        # Weights may be in any unit.
        value * is_counted.sum() > _CERTAIN
        or any(term is not None for term in terms)
        or not np.isin(y[is_counted], (0, 1)).all()
    ):
        return None
    endless = _endless(run)
    if not len(endless):
        return None
    get = "gets" if len(endless) == 1 else "get"
    # One that a probability reaches at a finite value, or by rounding.
    falls = "falls towards 0" if value > 0 else "is 0"
    return Ending(
        "diverging",
        f"Stopped after {run.step} steps, where each label is predicted with "
        f"certainty: the model separates them, and the loss {falls} however "
        f"large {named_entries(run, endless)} {get}. A penalty keeps them finite.",
    )


def _endless(run: Run) -> np.ndarray:
    """Return which entries, but zeros, can be larger without the loss rising."""
    task = run.task
    structure, numbers = task.structure, task.numbers
    here = read_entries(structure, numbers, run.carry.selected.free)
    if len(here.values) > MOST_ENTRIES:
        return np.zeros(0, int)
    # With a bound on its way, that is where the optimum may be.
    is_open = np.isinf(np.where(here.values > 0, here.upper, here.lower))
    free = np.flatnonzero(~here.fixed & is_open & (here.values != 0))
    sets = [free, *(free[i : i + 1] for i in range(len(free)))]
    factors = (*_FARTHER, *_NEARER)
    points = [here.values]
    for changed in sets:
        for factor in factors:
            point = here.values.copy()
            point[changed] *= factor
            points.append(point)
    stacked = stacked_values(structure, numbers, np.stack(points))
    try:
        found = np.asarray(task.call(make_values, (stacked,), "values"))
    except jax.errors.JaxRuntimeError:
        # A model may refuse values that no step has led to. The fit has ended without.
        return np.zeros(0, int)
    first = found[0]
    farther, nearer = np.split(
        found[1:].reshape(len(sets), len(factors)), [len(_FARTHER)], axis=1
    )
    # What is not finite compares as false.
    goes_on = (farther <= first).all(axis=1)
    rises = (nearer > _RISE * first).any(axis=1)
    endless = [sets[i] for i in np.flatnonzero(goes_on & rises)]
    return np.unique(np.concatenate([np.zeros(0, int), *endless]))
