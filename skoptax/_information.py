r"""What the data say about the parameters at a solution, as small matrices.

Everything that a covariance needs of the rows is summed up here, inside of a compiled
program, so that no data have to be kept: for :math:`p` free entries a few matrices of
shape (p, p), and some sums over the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from ._evaluation import Evaluator
from ._rows import padded_length
from ._structure import Numbers, Structure
from ._typing import PyTree
from ._unpacking import build_state, internal_start, user_values
from .losses._resolve import is_own
from .optimizers._factorisation import curvature_root, triangle
from .optimizers._jacobian import jacobian, losses_curvature

# The types of covariance, and what each needs of the rows.
COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "hessian")
_LEVERAGE_POWERS = {"HC0": 0, "HC1": 0, "HC2": 1, "HC3": 2}


class Sums(NamedTuple):
    """Sums over the responses, with the losses' derivatives by the prediction."""

    loss: Any  # of weight times loss
    slopes: Any  # of weight times the squared first derivative
    scaled: Any  # the same, over the second derivative
    bends: Any  # of weight times the second derivative
    squares: Any  # of weight times squared residual


class Information(NamedTuple):
    """An objective's curvature at a point, and what else a covariance is made of.

    The objective is a mean: all matrices are those of sums over the rows, divided by
    the sum of the weights.
    """

    root: Any  # of shape (p, p): the losses' curvature is root.T @ root
    delta: Any  # of shape (q, p): the slopes of free and tied entries in user's units
    sums: Any  # of shape (5,): Sums, not divided
    rest: Any = None  # of shape (p, p): the Hessian of penalties and priors
    scores: Any = None  # of shape (p, p): a root of the sum over rows' squared scores
    hessian: Any = None  # of shape (p, p): of the whole objective


class Block(NamedTuple):
    """A program of this kind, as `Run.find_program` takes it."""

    run: Callable[..., Information]
    blank: Callable[..., None]


def make_information(
    loss: Callable[..., Any],
    structure: Structure,
    optimizer: Any,
    mode: str,
    has_aux: bool,
    parts: Any,
    *,
    cov_type: str,
) -> Block:
    """Build the function that sums up the rows.

    Parameters
    ----------
    loss, structure, optimizer, mode, has_aux, parts : object
        As for `make_block`.
    cov_type : str
        One of `COV_TYPES`.

    Returns
    -------
    Block
        ``run(numbers, data, hyper, values)``, to be compiled, for the free
        parameters' values as ``numbers["values"]`` has them.
    """
    del optimizer
    at_state = Evaluator(loss, structure, mode, has_aux, parts)
    forward = mode == "fwd"

    def run(numbers: Numbers, data: Any, hyper: Any, values: PyTree) -> Information:
        del hyper
        internal = internal_start(structure, numbers | {"values": values})
        flat, unravel = ravel_pytree(internal)

        def state(x: Array) -> PyTree:
            found = user_values(structure, numbers, unravel(x))
            return build_state(structure, numbers, found)

        def entries(x: Array) -> Array:
            found = user_values(structure, numbers, unravel(x))
            places = structure.indices("free") + structure.indices("tied")
            return jnp.concatenate([jnp.ravel(jnp.asarray(found[i])) for i in places])

        def objective(x: Array) -> Array:
            return at_state.objective(unravel(x), numbers, data)[0]

        def others(x: Array) -> Array:
            return parts.others(state(x), *data)

        def summed(predictions: Array) -> Array:
            return jnp.sum(parts.losses_at(state(flat), *data)(predictions))

        predictions, columns = jacobian(
            lambda x: parts.predict(state(x), *data), flat, forward
        )
        slope, bend = losses_curvature(
            predictions,
            summed,
            parts.information_at(state(flat), *data),
            parts.couples_outputs,
        )
        root = triangle(columns, curvature_root(bend))
        has_others = parts.others(state(flat), *data) is not None
        found = Information(
            root=root,
            delta=jax.jacfwd(entries)(flat),
            sums=_sums(
                summed(predictions),
                parts.residuals(predictions, *data),
                slope,
                bend,
                *parts.weights_at(*data),
            ),
            rest=_hessian(others, flat, forward) if has_others else None,
        )
        if cov_type == "hessian":
            return found._replace(hessian=_hessian(objective, flat, forward))
        power = _LEVERAGE_POWERS.get(cov_type)
        if power is not None:
            share = jnp.ones_like(slope)
            if power:
                left = 1 - _leverages(root, found.rest, columns, bend)
                # One row that a parameter is made for has no residual.
                left = jnp.where(left > jnp.finfo(left.dtype).eps, left, jnp.nan)
                share = left ** (power / 2)
                share = jnp.where(slope == 0, 1, share)
            found = found._replace(scores=triangle(columns, slope / share))
        return found

    return Block(run, lambda *_: None)


def _hessian(function: Callable[[Array], Array], x: Array, forward: bool) -> Array:
    slope = jax.jacfwd(function) if forward else jax.grad(function)
    return jax.jacfwd(slope)(x)


def _sums(
    loss: Array,
    residuals: Array,
    slope: Array,
    bend: Array,
    weights: Array,
    total: Any,
) -> Array:
    """Return `Sums` as one array; slope and bend hold weight over total."""
    residuals = residuals.reshape(len(weights), -1)
    outputs = residuals.shape[1]
    if bend.ndim > 1:
        bend = jnp.diagonal(bend, axis1=1, axis2=2).ravel()
    each = jnp.repeat(weights, outputs)
    counts = each > 0
    # A derivative without its weight; of a row that does not count, 0.
    per_weight = jnp.where(counts, total / jnp.where(counts, each, 1), 0)
    bent = bend > 0
    squares = slope**2 * total
    sums = Sums(
        loss=loss * total,
        slopes=jnp.sum(squares * per_weight),
        scaled=jnp.sum(jnp.where(bent, squares / jnp.where(bent, bend, 1), 0)),
        bends=jnp.sum(bend) * total,
        squares=jnp.sum(weights @ residuals**2),
    )
    return jnp.stack([jnp.asarray(s, slope.dtype) for s in sums])


def _leverages(root: Array, rest: Array | None, columns: Array, bend: Array) -> Array:
    """Return by how much each prediction follows its own response."""
    p = len(root)
    if rest is not None:
        values, vectors = jnp.linalg.eigh(rest)
        more = jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T
        root = jnp.linalg.qr(jnp.concatenate([root, more]), mode="r")
    norms = jnp.linalg.norm(root, axis=0)
    norms = jnp.where(norms > 0, norms, 1)
    _, sizes, rows = jnp.linalg.svd(root / norms)
    kept = sizes > 10 * p * jnp.finfo(root.dtype).eps * sizes[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, sizes, 1), 0)[:, None] * rows / norms
    if bend.ndim > 1:
        bend = jnp.diagonal(bend, axis1=1, axis2=2).ravel()
    return jnp.maximum(bend, 0) * jnp.sum((inverse @ columns) ** 2, axis=0)


def on_host(found: Information) -> Information:
    """Return the same as NumPy arrays."""
    return Information(*(None if x is None else np.asarray(x) for x in found))


def loss_couples_rows(objective: Any, data: tuple[Any, ...]) -> bool:
    """Tell whether the loss of a row may depend on other rows.

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

    return padded_length(losses, None, lambda: numbers, (y, y), "auto") is None
