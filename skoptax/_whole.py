"""The objective of all rows where a run in batches has ended, and that of others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._curvature import at_selected
from ._diagnose import explained
from ._driver import Run
from ._epochs import Pace, some_rows
from ._evaluation import Evaluator, Values
from ._structure import Numbers
from ._typing import Array, Block, PyTree
from ._unpacking import internal_start

# A step keeps the intermediate results of its rows for the gradient; without one, as
# much memory is enough for more rows.
_MORE = 4
# A CPU runs the same program on several parts of the rows at a time. Their number does
# not depend on the machine: nor do the sums.
_PARTS = 4


def objective_of_all(run: Run, batch_size: int, pace: Pace | None = None) -> float:
    """
    Return the objective of all rows at the selected state.

    Parameters
    ----------
    run : Run
        At its end, in batches.
    batch_size : int
        Rows of a step.
    pace : Pace or None, default=None
        How many rows count; ``None`` is what the task's own says.

    Returns
    -------
    float
        What the history has of batches only.
    """
    make = partial(make_whole, batch_size=batch_size)
    pace = run.task.pace if pace is None else pace
    shares = [
        at_selected(run, make, "whole", batch_size, more=(pace, np.int32(part)))
        for part in range(_PARTS)
    ]
    return float(sum(map(float, shares)))


def score_by(run: Run, held_out: tuple[Any, ...]) -> Callable[[], float]:
    """
    Return a function that judges the current state of a run by rows not fitted.

    Parameters
    ----------
    run : Run
        Begun.
    held_out : tuple
        The objective's arguments after the state.

    Returns
    -------
    callable
        Returns their weighted mean loss, without priors and penalty.
    """
    task = run.task
    # Not with the task's own data, whose number of rows would make other programs.
    program = task.find_program((task.numbers, held_out), make_held_out, "held_out")

    def score() -> float:
        with explained(task.role):
            return float(program(task.numbers, held_out, run.carry.values))

    return score


def make_held_out(at_state: Evaluator) -> Block[Array, None]:
    """Build the function that evaluates a state by rows that are not fitted."""

    def run(numbers: Numbers, held_out: Any, values: Values) -> Array:
        found: Array = at_state.held_out_loss(values, numbers, held_out)
        return found

    return Block(run, lambda *_: None, for_loss_alone=True)


def make_whole(
    at_state: Evaluator,
    *,
    batch_size: int,
) -> Block[Array, None]:
    """
    Build the function that evaluates an objective piece by piece.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    batch_size : int
        Rows of a step.

    Returns
    -------
    Block
        ``run(numbers, data, values, pace, part)``, to be compiled, for the free
        parameters' values as ``numbers["values"]`` has them. It returns what a part of
        the rows, of `_PARTS`, adds to the objective.
    """
    structure = at_state.structure

    def run(
        numbers: Numbers, data: Any, values: PyTree, pace: Pace, part: Array
    ) -> Array:
        internal = internal_start(structure, numbers | {"values": values})
        size = min(_MORE * batch_size, len(data[0]))

        def share(piece: Array) -> Array:
            rows, counted = some_rows(data, pace, piece, size)
            return at_state.objective(internal, numbers, rows)[0] * counted

        def add(piece: Array, found: Array) -> Array:
            return found + share(piece)

        zero = jnp.zeros_like(jax.eval_shape(share, jnp.int32(0)))
        pieces = (pace.n_rows + size - 1) // size
        each = (pieces + _PARTS - 1) // _PARTS
        last = jnp.minimum((part + 1) * each, pieces)
        found: Array = jax.lax.fori_loop(part * each, last, add, zero)
        return found

    return Block(run, lambda *_: None, for_loss_alone=True)
