"""The loop from many starts at once, as one program.

On a CPU the starts take turns: what a step costs there is its kernels, whose number
does not matter side by side, and a start that has ended costs nothing more. An
accelerator takes all of them side by side.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._evaluation import Evaluator
from ._loop import FEW_HISTORY_ROWS, Carry, Column, make_block
from ._typing import Block


def make_batch(
    at_state: Evaluator, optimizer: Any
) -> Block[Carry, tuple[Carry, list[Column]]]:
    """
    Build the loop from many starts.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    optimizer : OptimizerSpec or FinishedOptimizer
        As for `make_block`.

    Returns
    -------
    Block
        As `make_block` returns it, with an axis more in front of the start values,
        ``numbers["values"]``, and of all that the carry holds. Everything else is the
        same for all starts.
    """
    block = make_block(at_state, optimizer, history_rows=FEW_HISTORY_ROWS)

    def run(
        numbers: Any, data: Any, hyper: Any, decisions: tuple[Any, Any], carry: Carry
    ) -> Carry:
        def from_one(values: Any, carry: Carry) -> Carry:
            return block.run(
                numbers | {"values": values}, data, hyper, decisions, carry
            )

        if jax.default_backend() == "cpu":
            found: Carry = jax.lax.map(
                lambda start: from_one(*start), (numbers["values"], carry)
            )
            return found
        return jax.vmap(from_one)(numbers["values"], carry)

    def blank(numbers: Any, data: Any, hyper: Any) -> tuple[Carry, list[Column]]:
        values = numbers["values"]
        count = len(jax.tree.leaves(values)[0])
        one = numbers | {"values": jax.tree.map(lambda x: x[0], values)}
        carry, columns = block.blank(one, data, hyper)
        stacked = jax.tree.map(
            lambda x: np.broadcast_to(np.asarray(x), (count, *x.shape)), carry
        )
        return jax.device_put(stacked), columns

    return Block(run, blank)
