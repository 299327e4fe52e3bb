"""Derivatives of predictions by the parameters, and of losses by the predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from .._tracing import evaluated

T = TypeVar("T")

# What JAX says of a function that has a rule for reverse mode only.
_REVERSE_ONLY = "custom_vjp"


def losses_curvature(
    predictions: Array,
    summed: Callable[[Array], Array],
    information: Callable[[Array], Array | None] | None = None,
    is_coupled: bool = False,
    each: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    """
    Return the losses' derivatives by the predictions.

    Parameters
    ----------
    predictions : array of shape (n,) or (m, ...)
        Where.
    summed, information, is_coupled, each : object
        As for `quadratic_model`.

    Returns
    -------
    slope : array of shape (n,)
        The first ones.
    bend : array of shape (n,) or (m, k, k)
        The second ones, or what stands for them; of coupled losses, for each row those
        by its k predictions.
    """
    ones = jnp.ones_like(predictions)

    def along(predictions: Array) -> Array:
        if each is None or predictions.ndim > 1:
            return jax.grad(summed)(predictions)
        return jax.jvp(each, (predictions,), (ones,))[1]

    bend = None if information is None else information(predictions)
    if bend is not None:
        slope, bend = along(predictions), jnp.ravel(bend)
    elif is_coupled and predictions.size > len(predictions):
        slope, bend = _curved_by_row(summed, predictions)
    else:
        slope, bend = jax.jvp(along, (predictions,), (ones,))
        bend = jnp.ravel(bend)
    return jnp.ravel(slope), bend


def _curved_by_row(
    summed: Callable[[Array], Array], predictions: Array
) -> tuple[Array, Array]:
    """Return the losses' gradient, and the Hessian of each row, of shape (m, k, k)."""
    m, k = len(predictions), predictions.size // len(predictions)
    slope = jax.grad(summed)

    def along(tangent: Array) -> Array:
        tangents = jnp.broadcast_to(
            tangent.reshape(predictions.shape[1:]), predictions.shape
        )
        return jax.jvp(slope, (predictions,), (tangents,))[1].reshape(m, k)

    basis = jnp.eye(k, dtype=predictions.dtype)
    return slope(predictions), jnp.moveaxis(jax.vmap(along)(basis), 0, -1)


def computed_once(function: Callable[[], T], point: Array) -> T:
    """
    Return what a function returns, in memory.

    A compiler for CPUs would compute it again for each use: the model several times
    a step, and for each column of its Jacobian.
    """
    if not isinstance(point, jax.core.Tracer):
        return function()
    trees: list[Any] = []

    def leaves() -> list[Array]:
        found, tree = jax.tree.flatten(function())
        # What a transformation of JAX's returns has static parts, too.
        trees.append(tree)
        return found

    jaxpr = jax.make_jaxpr(leaves)()
    # A branch that is always taken, although the compiler cannot know.
    found = jax.lax.cond(
        jnp.isnan(point[0]),
        lambda: [_never(x.shape, x.dtype) for x in jaxpr.out_avals],
        lambda: evaluated(jaxpr),
    )
    return jax.tree.unflatten(trees[-1], found)


def computed_where_used(function: Callable[[], T], point: Array) -> T:
    """Return what a function returns: compiled sooner, for what is run once."""
    return function()


def _never(shape: tuple[int, ...], dtype: Any) -> Array:
    value = jnp.nan if jnp.issubdtype(dtype, jnp.inexact) else 0
    return jnp.full(shape, value, dtype)


def _pushed(function: Callable[[Array], Array], point: Array) -> tuple[Array, Array]:
    """Return what a function returns, and its derivatives, all columns at once."""
    found, columns = jax.vmap(
        lambda direction: jax.jvp(function, (point,), (direction,)), out_axes=(None, 0)
    )(jnp.eye(point.size, dtype=point.dtype))
    return found, columns.reshape(point.size, -1)


def jacobian(
    predict: Callable[[Array], Array],
    point: Array,
    forward: bool = False,
    keep: Callable[[Callable[[], Any], Array], Any] = computed_once,
) -> tuple[Array, Array]:
    """
    Return predictions and their derivatives.

    Parameters
    ----------
    predict : callable
        From an array of shape (p,) to predictions, an array of any shape.
    point : array of shape (p,)
        Where.
    forward : bool, default=False
        Whether to keep to forward mode even where reverse mode is cheaper.
    keep : callable, default=computed_once
        What becomes of predictions and columns that are used several times.

    Returns
    -------
    predictions : array
        Of the shape that they have.
    columns : array of shape (p, n)
        For each parameter the derivatives of the n predictions. In this order they
        are computed, and LAPACK takes them.
    """
    p = point.size

    def real(x: Array) -> Array:
        found = predict(x)
        is_float = jnp.issubdtype(found.dtype, jnp.floating)
        # Integers have no derivative, which is for the caller to say.
        return found if is_float else found.astype(point.dtype)

    def by_columns() -> tuple[Array, Array]:
        if keep is computed_where_used:
            # Not linearised first, which takes JAX longer to trace.
            return _pushed(real, point)
        predictions, push = keep(lambda: jax.linearize(real, point), point)
        columns = keep(lambda: jax.vmap(push)(jnp.eye(p, dtype=point.dtype)), point)
        return predictions, columns.reshape(p, -1)

    def by_rows() -> tuple[Array, Array]:
        predictions, pull = keep(lambda: jax.vjp(real, point), point)
        shape = (predictions.size, *predictions.shape)
        basis = jnp.eye(predictions.size, dtype=predictions.dtype).reshape(shape)
        (rows,) = keep(lambda: jax.vmap(pull)(basis), point)
        return predictions, rows.T

    if not forward and p > jax.eval_shape(real, point).size:
        return by_rows()
    try:
        return by_columns()
    except TypeError as error:
        if forward or _REVERSE_ONLY not in str(error):
            raise
        return by_rows()
