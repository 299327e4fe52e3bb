"""Predictions at a solution with their derivatives: what a covariance is made of.

One small program. All that is made of its results is summed up by NumPy on the host: a
factorisation and a few sums, run once for each fit, take longer to compile than to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from ._evaluation import Evaluator
from ._rows import row_use
from ._shares import some_rows
from ._structure import Numbers, Structure, separate
from ._typing import Block, PyTree
from ._unpacking import build_state, internal_start, user_values
from .losses._resolve import is_own
from .optimizers._jacobian import (
    computed_once,
    computed_where_used,
    jacobian,
    losses_curvature,
)

# The types of covariance.
COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "hessian")


class Derivatives(NamedTuple):
    """
    An objective's parts at a point, in the space of the optimiser's steps.

    The objective is a mean: the losses' derivatives hold weight over total.
    """

    predictions: Any  # of shape (m,) or (m, k)
    columns: Any  # of shape (p, n): of the n = m k predictions, by the parameters
    slope: Any  # of shape (n,): of the losses, by the predictions
    bend: Any  # of shape (n,) or (m, k, k): the second ones
    loss: Any  # a scalar: what the losses add to the objective
    rest: Any = None  # of shape (p, p): the Hessian of penalties and priors
    hessian: Any = None  # of shape (p, p): of the whole objective
    # Of shape (q, p): the slopes of free and tied entries in the user's units. None
    # where these are scales alone.
    delta: Any = None


def make_derivatives(
    at_state: Evaluator,
    *,
    with_hessian: bool,
    keep: Callable[..., Any] = computed_where_used,
) -> Block[Derivatives, None]:
    """
    Build the function that differentiates an objective where a run has ended.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    with_hessian : bool
        Whether the whole Hessian is wanted.
    keep : callable, default=computed_where_used
        As for `jacobian`. One fit runs this once.

    Returns
    -------
    Block
        ``run(numbers, data, values)``, to be compiled, for the free
        parameters' values as ``numbers["values"]`` has them.
    """
    structure = at_state.structure
    parts, forward = at_state.parts, at_state.mode == "fwd"
    is_scaled_only = structure.is_plain and not structure.indices("tied")
    point_of = _scaled_point if is_scaled_only else _internal_point

    def run(numbers: Numbers, data: Any, values: PyTree) -> Derivatives:
        flat, named = point_of(structure, numbers, values)

        def state(x: Array) -> PyTree:
            return build_state(structure, numbers, named(x))

        def entries(x: Array) -> Array:
            found = named(x)
            places = structure.indices("free") + structure.indices("tied")
            return jnp.concatenate([jnp.ravel(jnp.asarray(found[i])) for i in places])

        def objective(x: Array) -> Array:
            result = at_state.loss(state(x), *data)
            return result[0] if at_state.has_aux else result

        def others(x: Array) -> Array:
            return parts.others(state(x), *data)

        here = state(flat)
        losses = parts.losses_at(here, *data)
        predictions, columns = jacobian(
            lambda x: parts.predict(state(x), *data), flat, forward, keep
        )

        def summed(predictions: Array) -> Array:
            return jnp.sum(losses(predictions))

        slope, bend = losses_curvature(
            predictions,
            summed,
            parts.information_at(here, *data),
            parts.couples_outputs,
            # The package's own have derivatives in both modes.
            None if parts.couples_outputs else losses,
        )
        has_others = parts.others(here, *data) is not None
        return Derivatives(
            predictions,
            columns,
            slope,
            bend,
            summed(predictions),
            rest=_hessian(others, flat, forward) if has_others else None,
            hessian=_hessian(objective, flat, forward) if with_hessian else None,
            delta=None if is_scaled_only else jax.jacfwd(entries)(flat),
        )

    return Block(run, lambda *_: None)


class LossSlopes(NamedTuple):
    """Predictions, and how the losses change with them: as `Derivatives` has them."""

    predictions: Any
    slope: Any
    bend: Any


def make_loss_slopes(at_state: Evaluator) -> Block[LossSlopes, None]:
    """
    Build the function that differentiates losses by the predictions, at the start.

    Parameters
    ----------
    at_state : Evaluator
        The objective.

    Returns
    -------
    Block
        ``run(numbers, data)``, to be compiled.
    """
    structure, parts = at_state.structure, at_state.parts

    def run(numbers: Numbers, data: Any) -> LossSlopes:
        internal = internal_start(structure, numbers)
        values = user_values(structure, numbers, internal)
        here = build_state(structure, numbers, values)
        losses = parts.losses_at(here, *data)
        predictions = parts.predict(here, *data)
        slope, bend = losses_curvature(
            predictions,
            lambda at: jnp.sum(losses(at)),
            parts.information_at(here, *data),
            parts.couples_outputs,
        )
        return LossSlopes(predictions, slope, bend)

    return Block(run, lambda *_: None)


class _Point(NamedTuple):
    """Where to differentiate."""

    flat: Array  # of shape (p,)
    named: Callable[[Array], dict[int, Any]]  # all values there, by position


def _internal_point(structure: Structure, numbers: Numbers, values: PyTree) -> _Point:
    """Return the point in the space of the optimiser's steps."""
    internal = internal_start(structure, numbers | {"values": values})
    flat, unravel = ravel_pytree(internal)
    return _Point(flat, lambda x: user_values(structure, numbers, unravel(x)))


def _scaled_point(structure: Structure, numbers: Numbers, values: PyTree) -> _Point:
    """
    Return the point as the origin of that space, which is scaled and nothing else.

    The way there and back is left out: values are within their bounds. (In the user's
    units a second derivative would underflow or overflow where the scale is far from
    1, in single precision from 1e19 on.)
    """
    free = separate(structure, numbers | {"values": values})
    there, unravel = ravel_pytree(free["values"])
    scales = jax.tree.map(
        lambda s, x: jnp.broadcast_to(s, jnp.shape(x)), free["scale"], free["values"]
    )
    scale, _ = ravel_pytree(scales)
    return _Point(
        jnp.zeros_like(there),
        lambda x: numbers["static"] | structure.split(unravel(there + scale * x)),
    )


def make_piece(
    at_state: Evaluator,
    *,
    size: int,
) -> Block[Derivatives, None]:
    """
    Build the function that differentiates an objective's losses of some of the rows.

    Parameters
    ----------
    at_state : Evaluator
        The objective, which must neither couple rows nor number them.
    size : int
        How many rows, at most as many as there are.

    Returns
    -------
    Block
        ``run(numbers, data, values, start, first, total)``, to be compiled: as of
        `make_derivatives`, with the number of the first row, that of the first one that
        counts, and the sum of all rows' weights.
    """
    block = make_derivatives(at_state, with_hessian=False, keep=computed_once)

    def run(
        numbers: Numbers,
        data: Any,
        values: PyTree,
        start: Array,
        first: Array,
        total: Array,
    ) -> Derivatives:
        rows = some_rows(data, start, size, first, total)
        return block.run(numbers, rows, values)

    return Block(run, block.blank)


def _hessian(function: Callable[[Array], Array], x: Array, forward: bool) -> Array:
    slope = jax.jacfwd(function) if forward else jax.grad(function)
    return jax.jacfwd(slope)(x)


def loss_couples_rows(objective: Any, data: tuple[Any, ...]) -> bool:
    """
    Tell whether the loss of a row may depend on other rows.

    Parameters
    ----------
    objective : Objective
        An estimator's.
    data : tuple
        Its arguments after the state.

    Returns
    -------
    bool
        False of this package's own losses, which treat each response by itself.
    """
    if is_own(objective.loss):
        return False
    _, y, _, _, numbers, _ = data

    def losses(shared: Any, rows: tuple[Any, Any]) -> Any:
        return objective.losses_of(shared, *rows)

    return not row_use(losses, None, lambda: numbers, (y, y), "auto").is_independent
