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
    are_independent,
    cholesky,
    curvature_root,
    pairs,
    positive_root,
    refactorised,
    times,
)
from ._jacobian import computed_where_used, jacobian, losses_curvature
from ._linearisation import Linearisation, held_at
from ._optimality import (
    FAR,
    Leanings,
    Terms,
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
# From so many rows and entries on, a loop is so much faster than all rows at once that
# the time to compile it, which is longer, is soon saved.
_MANY, _MANY_ENTRIES = 4 * _MOST_ROWS, 2**18
# After a state of which less of the gradient is left, an optimum is expected: what is
# needed near one is summed up right away, not in going through the rows once more.
_SOON = 0.03
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
    """What is added up of all rows."""

    gradient: Any  # of shape (p,)
    products: Any  # of shape (p, p): of the columns times the losses' curvature
    lean: Leanings
    terms: Terms  # the first two only near an optimum
    root: Any  # of shape (p, p): only where the products have lost digits


# What the rows are gone through for: what every step needs; what is needed near an
# optimum, too; and a factorisation besides.
_STEP, _OPTIMUM, _FACTORS, _NOTHING = range(4)


class _Pass(NamedTuple):
    """All rows, gone through once."""

    kind: Any  # of the next time
    sums: _Sums
    losses: Any  # of shape (parts,)
    root: Any  # of shape (p, p)
    at_least: Any  # how much of the gradient is left; negative where that is known


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
        is_large = rows >= _MANY and entries >= _MANY_ENTRIES
        most, target = _MOST_ROWS, _CACHED
    else:
        is_large = entries > _FITTING
        most, target = rows, _FITTING
    if not is_large:
        return None
    size = max(min(most, target // (outputs * p)), -(-p // outputs), 1)
    parts = rows // size
    # Parts of equal size, so that one program does: the last one has rows of the one
    # before it, which do not count there.
    return -(-rows // parts) if parts > 1 else None


def linearise_by_rows(
    part: Callable[[Array], Part],
    parts: int,
    point: Array,
    *,
    forward: bool,
    is_coupled: bool,
    before: Linearisation,
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
    before : Linearisation
        At the state before; a blank one, if there is none.
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

    numbers = jnp.arange(parts, dtype=jnp.int32)
    rest = None if others is None else others[1:]

    def through(kind: Array) -> tuple[_Sums, Array]:
        def some(sums: _Sums, number: Array) -> tuple[_Sums, Array]:
            rows = rows_of(number)
            return _added(sums, rows), rows.loss

        def more(sums: _Sums, number: Array) -> tuple[_Sums, Array]:
            rows = rows_of(number)
            return _looked(_added(sums, rows), rows, point, kind == _FACTORS), rows.loss

        def scanned(add: Callable[..., Any]) -> Callable[[], tuple[_Sums, Array]]:
            return lambda: jax.lax.scan(add, _nothing(point), numbers)

        return jax.lax.cond(kind == _STEP, scanned(some), scanned(more))

    def once_more(last: _Pass) -> _Pass:
        sums, losses = through(last.kind)
        return _judged(last.kind, sums, losses, point, rest, lower, upper)

    last = jax.lax.while_loop(
        lambda last: last.kind != _NOTHING, once_more, _before_any(before, point, parts)
    )
    # A sum of sums loses fewer digits than one that goes on and on: by this value the
    # steps are judged.
    value = jnp.sum(last.losses)
    if others is not None:
        value = value + others[0]
    return value, *_concluded(last, point, rest, value, lower, upper)


@own
def _nothing(point: Array) -> _Sums:
    zeros, zero = jnp.zeros_like(point), jnp.zeros((), point.dtype)
    square = jnp.zeros((point.size, point.size), point.dtype)
    lean = Leanings(zero, jnp.zeros((), jnp.int32))
    return _Sums(zeros, square, lean, Terms(zeros, zeros, zero, zero), square)


@own
def _before_any(before: Linearisation, point: Array, parts: int) -> _Pass:
    sums = _nothing(point)
    is_known = before.noise > 0
    kind = jnp.where(is_known & (before.optimality < _SOON), _OPTIMUM, _STEP)
    # What was dependent there will be so here.
    kind = jnp.where(is_known & ~are_independent(before.root), _FACTORS, kind)
    losses = jnp.zeros(parts, point.dtype)
    return _Pass(kind, sums, losses, sums.root, jnp.zeros((), point.dtype))


@own
def _added(sums: _Sums, rows: _Rows) -> _Sums:
    """Add what every step needs."""
    _, predictions, columns, slope, bend = rows
    # Of outputs that a loss couples there is no bound: as if none had curvature.
    lean = Leanings(0, 1) if bend.ndim > 1 else leanings(slope, bend)
    noise, squares = sizes_of_losses(predictions, slope, bend)
    terms = sums.terms
    return _Sums(
        sums.gradient + columns @ slope,
        sums.products + pairs(times(bend, columns)),
        Leanings(
            sums.lean.squares + lean.squares,
            sums.lean.unseen + jnp.asarray(lean.unseen, jnp.int32),
        ),
        terms._replace(noise=terms.noise + noise, squares=terms.squares + squares),
        sums.root,
    )


@own
def _looked(sums: _Sums, rows: _Rows, point: Array, factorises: Array) -> _Sums:
    """Add what is needed near an optimum, and a factorisation if it is wanted."""
    _, predictions, columns, slope, bend = rows
    gradient, rounding = sizes_of_gradient(predictions, columns, slope, bend, point)
    root = jax.lax.cond(
        factorises,
        lambda: refactorised(sums.root, times(bend, columns)),
        lambda: sums.root,
    )
    terms = sums.terms._replace(
        gradient=sums.terms.gradient + gradient,
        rounding=sums.terms.rounding + rounding,
    )
    return sums._replace(terms=terms, root=root)


@own
def _judged(
    kind: Array,
    sums: _Sums,
    losses: Array,
    point: Array,
    others: tuple[Array, Array] | None,
    lower: Array | None,
    upper: Array | None,
) -> _Pass:
    """Tell whether the rows have to be gone through once more, and for what."""
    products, extra, found = sums.products, jnp.zeros_like(point), sums.root
    if others is not None:
        rest, extra = positive_root(others[1]), others[0]
        products = products + rest.T @ rest
        found = jax.lax.cond(
            kind == _FACTORS, lambda: refactorised(found, rest.T), lambda: found
        )
    root, is_safe = cholesky(products)
    gradient = sums.gradient + extra
    held = held_at(point, gradient, lower, upper)
    norms, scale = jnp.sqrt(jnp.diagonal(products)), jnp.sqrt(sums.terms.squares)
    at_least = least_share(sums.lean, norms, gradient, extra, point, held, scale)
    is_far = is_safe & (at_least > FAR)
    following = jnp.where(is_far | (kind != _STEP), _NOTHING, _OPTIMUM)
    following = jnp.where(is_safe | (kind == _FACTORS), following, _FACTORS)
    return _Pass(
        following,
        sums,
        losses,
        jnp.where(kind == _FACTORS, found, root),
        jnp.where(kind == _STEP, at_least, -1),
    )


@own
def _concluded(
    last: _Pass,
    point: Array,
    others: tuple[Array, Array] | None,
    value: Array,
    lower: Array | None,
    upper: Array | None,
) -> tuple[Array, Linearisation]:
    """Return gradient and model."""
    sums, root, at_least = last.sums, last.root, last.at_least
    gradient = sums.gradient if others is None else sums.gradient + others[0]
    held = held_at(point, gradient, lower, upper)
    near = remaining(sums.terms, gradient, root, point, held, others, value)
    far = jnp.stack([at_least, jnp.zeros_like(at_least)])
    share, gain = jnp.where(at_least >= 0, far, near)
    sizes = [share, sums.terms.noise, jnp.sqrt(sums.terms.squares), gain]
    return gradient, Linearisation(root, jnp.stack(sizes))
