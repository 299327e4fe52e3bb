"""What a loop's own program computes where the loop ends, so that no other one has to.

A program of its own costs a compilation, and a call at the end of each fit. What is
computed here is taken only if nothing has changed the result since; else the program
of its own runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._assessment import NON_FINITE, RUNNING, Counts, entries
from ._evaluation import Evaluator
from ._loop import Carry, Column, make_block
from ._tracing import evaluated
from ._typing import Block


class AtEnd(NamedTuple):
    """What is to be computed at the selected state."""

    make: Callable[[Evaluator], Block[Any, None]]  # as for `Task.find_program`
    key: tuple[Any, ...]  # what tells it from others, in a program's key


def is_end(is_last: Any, status: Any) -> Any:
    """Tell whether a run ends with a block, on the host as inside of a program."""
    return is_last | ((status != RUNNING) & (status != NON_FINITE))


def make_block_to_end(
    at_state: Evaluator, optimizer: Any, at_end: AtEnd, **loop: Any
) -> Block[tuple[Carry, Any], tuple[Carry, list[Column]]]:
    """
    Build a loop that computes something at the state that it selects.

    Parameters
    ----------
    at_state, optimizer : Evaluator and optimiser
        As for `make_block`.
    at_end : AtEnd
        What.
    **loop : object
        What else `make_block` takes.

    Returns
    -------
    Block
        As of `make_block`, but ``run`` takes one argument more, whether the run ends
        with this block at the latest, and returns a carry with what is wanted; zeros
        where the run does not end. ``None`` is in its place if JAX cannot trace it,
        which must not be why a fit fails: the program of its own says what is wrong.
    """
    block = make_block(at_state, optimizer, **loop)
    beside = at_end.make(at_state)
    structure = at_state.structure

    def run(
        numbers: Any,
        data: Any,
        hyper: Any,
        decisions: tuple[Any, Any],
        carry: Carry,
        is_last: Any,
    ) -> tuple[Carry, Any]:
        left = block.run(numbers, data, hyper, decisions, carry)
        values = left.selected.free
        if structure.shapes is None:
            values = structure.split(values)
        ends = is_end(is_last, Counts(*entries(left.counts)).status)

        try:
            # Traced once: of the branch that is not taken, the shapes are needed.
            jaxpr, shapes = jax.make_jaxpr(beside.run, return_shape=True)(
                numbers, data, values
            )
        except Exception:
            # Not swallowed: the program of its own traces the same, and raises it.
            return left, None
        leaves = jax.lax.cond(
            ends,
            lambda: evaluated(jaxpr, *jax.tree.leaves((numbers, data, values))),
            lambda: [jnp.zeros(x.shape, x.dtype) for x in jaxpr.out_avals],
        )
        return left, jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return Block(run, block.blank, shuffles=block.shuffles)
