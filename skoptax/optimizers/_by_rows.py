"""The quadratic model of an objective of many rows: a sum over some rows at a time.

A Jacobian of many rows is larger than they are, and is written and read several times a
step. That of some of them stays in a processor's cache, and nothing of it is kept but
sums: the memory that a step needs does not grow with the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._tracing import own
from ._factorisation import (
    cholesky,
    curvature_root,
    pairs,
    positive_root,
    refactorised,
    times,
)
from ._jacobian import computed_where_used, jacobian, losses_curvature
from ._linearisation import (
    FAR,
    Leanings,
    Linearisation,
    Terms,
    held_at,
    leanings,
    least_share,
    remaining,
    sizes_of_gradient,
    sizes_of_losses,
)

# A Jacobian of so many entries stays in a cache, with what is made of it.
_CACHED = 2**16
# And more rows than this are no faster.
_MOST_ROWS = 4096
# From so many on, a loop is faster than all rows at once, and not compiled sooner.
_MANY = 4 * _MOST_ROWS
# Elsewhere than on a CPU, all at once are faster as long as they fit into memory.
_FITTING = 2**27


class Part(NamedTuple):
    """Some rows of an objective."""

    predict: Callable[[Array], Array]  # from an array of shape (p,)
    losses: Callable[[Array], Array]  # of these predictions, one for each row
    information: Callable[[Array], Array | None]  # as for `losses_curvature`


class _Rows(NamedTuple):
    """What is computed of some rows."""

    loss: Any  # the sum
    predictions: Any  # of shape (n,)
    columns: Any  # of shape (p, n)
    slope: Any  # of shape (n,)
    bend: Any  # of shape (n,) or (m, k, k): a root


class _Sums(NamedTuple):
    """What every step needs."""

    gradient: Any  # of shape (p,)
    products: Any  # of shape (p, p): of the columns times the losses' curvature
    lean: Leanings
    noise: Any
    squares: Any


class _Late(NamedTuple):
    """What is needed near an optimum, or where the products have lost digits."""

    root: Any  # of shape (p, p)
    terms: Any  # of shape (p,)
    rounding: Any  # of shape (p,)


def rows_at_a_time(rows: int, outputs: int, p: int) -> int | None:
    """
    Return how many rows of many are best linearised at a time.

    Parameters
    ----------
    rows : int
        How many there are.
    outputs : int
        How many predictions a row has.
    p : int
        How many parameters.

    Returns
    -------
    int or None
        ``None`` for all of them. Else there are at least p predictions in a part, so
        that their Jacobian is computed by columns as that of all rows is.
    """
    entries = rows * outputs * p
    if jax.default_backend() == "cpu":
        is_large, most, target = rows >= _MANY, _MOST_ROWS, _CACHED
    else:
        is_large, most, target = entries > _FITTING, rows, _FITTING
    if not is_large:
        return None
    size = max(min(most, target // (outputs * p)), -(-p // outputs), 1)
    parts = -(-rows // size)
    # Parts of equal size: the last one has rows of the one before it, which do not
    # count there.
    return -(-rows // parts) if parts > 1 else None


def linearise_by_rows(
    part: Callable[[Array], Part],
    parts: int,
    point: Array,
    *,
    forward: bool,
    is_coupled: bool,
    others: tuple[Array, Array, Array] | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
) -> tuple[Array, Array, Linearisation]:
    """
    Return objective, gradient and quadratic model at a point.

    Parameters
    ----------
    part : callable
        From the number of a part, traced, to the `Part`.
    parts : int
        How many there are.
    point : array of shape (p,)
        Where.
    forward : bool
        As for `jacobian`.
    is_coupled : bool
        As for `quadratic_model`.
    others : tuple of array or None
        Value, gradient and Hessian of what else there is in the objective.
    lower, upper : array of shape (p,), optional
        Bounds.

    Returns
    -------
    value : scalar
        The objective.
    gradient : array of shape (p,)
        Of all of it.
    linearisation : Linearisation
        As `quadratic_model` returns it.
    """

    def rows_of(number: Array) -> _Rows:
        rows = part(number)

        def summed(predictions: Array) -> Array:
            return jnp.sum(rows.losses(predictions))

        predictions, columns = jacobian(
            rows.predict, point, forward, computed_where_used
        )
        each = None if is_coupled else rows.losses
        slope, bend = losses_curvature(
            predictions, summed, rows.information, is_coupled, each
        )
        bend, flat = curvature_root(bend), jnp.ravel(predictions)
        return _Rows(summed(predictions), flat, columns, slope, bend)

    def add(sums: _Sums, number: Array) -> tuple[_Sums, Array]:
        rows = rows_of(number)
        return _added(sums, rows), rows.loss

    def look(late: _Late, number: Array) -> tuple[_Late, None]:
        return _looked(late, rows_of(number), point, is_safe), None

    numbers = jnp.arange(parts, dtype=jnp.int32)
    sums, losses = jax.lax.scan(add, _nothing(point), numbers)
    # A sum of sums loses fewer digits than one that goes on and on: by this value the
    # steps are judged.
    value, rest = jnp.sum(losses), None
    if others is not None:
        value, rest = value + others[0], others[1:]
    first, is_safe, at_least = _far(sums, point, rest, lower, upper)
    late = jax.lax.cond(
        is_safe & (at_least > FAR),
        lambda: first,
        lambda: jax.lax.scan(look, _before(first, is_safe), numbers)[0],
    )
    gradient, model = _concluded(
        sums, late, is_safe, at_least, point, rest, value, lower, upper
    )
    return value, gradient, model


@own
def _nothing(point: Array) -> _Sums:
    zero, none = jnp.zeros((), point.dtype), jnp.zeros((), jnp.int32)
    square = jnp.zeros((point.size, point.size), point.dtype)
    return _Sums(jnp.zeros_like(point), square, Leanings(zero, none), zero, zero)


@own
def _added(sums: _Sums, rows: _Rows) -> _Sums:
    if rows.bend.ndim > 1:
        # Of outputs that a loss couples there is no bound: as if none had curvature.
        lean = Leanings(jnp.zeros_like(sums.noise), jnp.ones_like(sums.lean.unseen))
    else:
        lean = leanings(rows.slope, rows.bend)
    more = _Sums(
        rows.columns @ rows.slope,
        pairs(times(rows.bend, rows.columns)),
        lean,
        *sizes_of_losses(rows.predictions, rows.slope, rows.bend),
    )
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, more)


@own
def _far(
    sums: _Sums,
    point: Array,
    others: tuple[Array, Array] | None,
    lower: Array | None,
    upper: Array | None,
) -> tuple[_Late, Array, Array]:
    """Return what is known far from an optimum, whether it is safe, and how far."""
    products, extra = sums.products, jnp.zeros_like(point)
    if others is not None:
        root, extra = positive_root(others[1]), others[0]
        products = products + root.T @ root
    root, is_safe = cholesky(products)
    gradient = sums.gradient + extra
    held = held_at(point, gradient, lower, upper)
    norms = jnp.sqrt(jnp.diagonal(products))
    scale = jnp.sqrt(sums.squares)
    at_least = least_share(sums.lean, norms, gradient, extra, point, held, scale)
    return _Late(root, jnp.zeros_like(point), jnp.zeros_like(point)), is_safe, at_least


@own
def _before(first: _Late, is_safe: Array) -> _Late:
    return first._replace(root=jnp.where(is_safe, first.root, 0))


@own
def _looked(late: _Late, rows: _Rows, point: Array, is_safe: Array) -> _Late:
    predictions, columns, slope, bend = rows[1:]
    terms, rounding = sizes_of_gradient(predictions, columns, slope, bend, point)
    root = jax.lax.cond(
        is_safe,
        lambda: late.root,
        lambda: refactorised(late.root, times(bend, columns)),
    )
    return _Late(root, late.terms + terms, late.rounding + rounding)


@own
def _concluded(
    sums: _Sums,
    late: _Late,
    is_safe: Array,
    at_least: Array,
    point: Array,
    others: tuple[Array, Array] | None,
    value: Array,
    lower: Array | None,
    upper: Array | None,
) -> tuple[Array, Linearisation]:
    """Return gradient and model, of the sums over all rows."""
    gradient, root = sums.gradient, late.root
    if others is not None:
        gradient = gradient + others[0]
        rest = positive_root(others[1])
        root = jax.lax.cond(is_safe, lambda: root, lambda: refactorised(root, rest.T))
    held = held_at(point, gradient, lower, upper)
    terms = Terms(late.terms, late.rounding, sums.noise, sums.squares)
    near = remaining(terms, gradient, root, point, held, others, value)
    is_far = is_safe & (at_least > FAR)
    share, gain = jnp.where(is_far, jnp.stack([at_least, jnp.zeros_like(value)]), near)
    sizes = jnp.stack([share, sums.noise, jnp.sqrt(sums.squares), gain])
    return gradient, Linearisation(root, sizes)
