"""The objective of all rows where a run in batches has ended."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ._curvature import at_selected
from ._driver import Run
from ._epochs import Fed, Feed, Pace
from ._evaluation import Evaluator
from ._structure import Numbers
from ._typing import Array, Block, PyTree
from ._unpacking import internal_start


def objective_of_all(run: Run, batch_size: int) -> float:
    """Return the objective of all rows at the selected state.

    Parameters
    ----------
    run : Run
        At its end, in batches.
    batch_size : int
        Rows at a time.

    Returns
    -------
    float
        What the history has of batches only.
    """
    make = partial(make_whole, batch_size=batch_size)
    more = (run.task.pace,)
    return float(at_selected(run, make, "whole", batch_size, more=more))


def make_whole(
    at_state: Evaluator,
    *,
    batch_size: int,
) -> Block[Array, None]:
    """Build the function that evaluates an objective batch by batch.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    batch_size : int
        Rows at a time: no more than a step has taken.

    Returns
    -------
    Block
        ``run(numbers, data, values, pace)``, to be compiled, for the free
        parameters' values as ``numbers["values"]`` has them.
    """
    structure = at_state.structure
    feed = Feed(batch_size, shuffle=False, validates=False)

    def run(numbers: Numbers, data: Any, values: PyTree, pace: Pace) -> Array:
        internal = internal_start(structure, numbers | {"values": values})
        fed = Fed(data, None, pace)

        def share(step: Array) -> Array:
            value, _ = at_state.objective(internal, numbers, feed.at(fed, step))
            count = jnp.minimum(batch_size, pace.n_rows - step * batch_size)
            return value * count.astype(value.dtype) / pace.n_rows.astype(value.dtype)

        def add(step: Array, found: Array) -> Array:
            return found + share(step)

        zero = jnp.zeros_like(jax.eval_shape(share, jnp.int32(0)))
        found: Array = jax.lax.fori_loop(0, pace.per_epoch, add, zero)
        return found

    return Block(run, lambda *_: None)
