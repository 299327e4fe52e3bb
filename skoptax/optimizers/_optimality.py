"""How far an objective is from an optimum: what is left of its gradient.

A gradient is a sum of terms that cancel each other at an optimum, but for what the
rounding of predictions and parameters leaves. ``docs/theory/levenberg-marquardt.md``
has the rule that is made of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from ._factorisation import times

# So many units in the last place of a prediction may be rounding error.
_ULPS = 4
# And so many of what the objective is summed from.
NOISE_ULPS = 8
# Far from an optimum, a bound of what is left of the gradient is enough. Next to it
# (and for any tolerance that is asked for), what a step would still gain counts too.
FAR, NEAR = 1e-3, 1e-6


class Terms(NamedTuple):
    """Sums over the predictions: sizes, and what their rounding may change."""

    gradient: Any  # of shape (p,): the sizes of the gradient's terms
    rounding: Any  # of shape (p,): what a unit of rounding changes the gradient by
    noise: Any  # what it changes the objective by
    squares: Any  # of the predictions, in the units of the columns of the root


def sizes_of_gradient(
    predictions: Array, columns: Array, slope: Array, bend: Array, point: Array
) -> tuple[Array, Array]:
    """
    Sum up the sizes of the gradient's terms, and what rounding may change them by.

    Parameters
    ----------
    predictions, slope : array of shape (n,)
        Predictions, and the losses' first derivatives.
    columns : array of shape (p, n)
        The predictions' derivatives.
    bend : array of shape (n,) or (m, k, k)
        A root of the losses' second ones, as for `times`.
    point : array of shape (p,)
        The parameters.

    Returns
    -------
    gradient, rounding : array of shape (p,)
        As `Terms` has them, of the losses alone.
    """
    sizes = jnp.abs(columns)
    # Predictions are rounded, and so are the parameters that they are made of.
    spread = jnp.abs(predictions) + jnp.abs(point) @ sizes / _ULPS
    terms = sizes @ jnp.abs(slope)
    size = jnp.abs(bend)
    back = jnp.swapaxes(size, -1, -2) if size.ndim > 1 else size
    return terms, sizes @ times(back, times(size, spread))


def sizes_of_losses(
    predictions: Array, slope: Array, bend: Array
) -> tuple[Array, Array]:
    """
    Sum up what rounding may change the losses by, and the sizes of the predictions.

    Parameters
    ----------
    predictions, slope, bend : array
        As for `sizes_of_gradient`.

    Returns
    -------
    noise, squares : scalar
        As `Terms` has them.
    """
    # A prediction is rounded, which changes its loss by the slope. (Products compile in
    # less time than sums.)
    noise = jnp.abs(slope) @ jnp.abs(predictions)
    weighted = times(bend, predictions)
    return noise, weighted @ weighted


def remaining(
    terms: Terms,
    gradient: Array,
    root: Array,
    point: Array,
    held: Array,
    others: tuple[Array, Array] | None,
    value: Array | None,
) -> Array:
    """
    Return what is left of the gradient's terms, and the gain of a whole step.

    Parameters
    ----------
    terms : Terms
        Of the losses.
    gradient : array of shape (p,)
        Of all of the objective.
    root : array of shape (p, p)
        Its curvature's.
    point : array of shape (p,)
        Where.
    held : array of shape (p,)
        As of `held_at`.
    others : tuple of array or None
        As for `quadratic_model`.
    value : scalar or None
        The objective; without it, the gain is 0.

    Returns
    -------
    array of shape (2,)
        Optimality and gain, as `Linearisation` has them.
    """
    every, rounding = terms.gradient, terms.rounding
    if others is not None:
        every = every + jnp.abs(others[0])
        rounding = rounding + jnp.abs(others[1]) @ jnp.abs(point)
    eps = jnp.finfo(point.dtype).eps
    left = jnp.abs(gradient) - _ULPS * eps * rounding
    left = jnp.where(held, 0, jnp.maximum(left, 0))
    share = jnp.max(left / jnp.where(every > 0, every, 1), initial=0.0)
    none = jnp.zeros_like(share)
    if value is None:
        return jnp.stack([share, none])
    gain = jax.lax.cond(
        share <= NEAR,
        lambda: _gain(root, jnp.where(held, 0, gradient), held),
        lambda: none,
    )
    size = jnp.abs(value)
    # Of objective and predictions.
    norms = jnp.linalg.norm(root, axis=0)
    spread = jnp.sqrt(terms.squares) + jnp.abs(point) @ norms / _ULPS
    slack = NOISE_ULPS * eps * (terms.noise + size) + 0.5 * (_ULPS * eps * spread) ** 2
    gain = jnp.maximum(gain - slack, 0) / jnp.where(size > 0, size, 1)
    return jnp.stack([share, gain])


class Leanings(NamedTuple):
    """How far losses are from their minima, for a lower bound of what is left."""

    squares: Any  # of the slopes, in units of the root of the second derivative
    unseen: Any  # how many have a slope, and no curvature


def leanings(slope: Array, bend: Array) -> Leanings:
    """
    Return how far losses are from their minima.

    Parameters
    ----------
    slope, bend : array of shape (n,)
        The losses' first derivatives, and a root of the second ones.

    Returns
    -------
    Leanings
        Sums over the losses.
    """
    bent = bend > 0
    lean = jnp.where(bent, (slope / jnp.where(bent, bend, 1)) ** 2, 0)
    return Leanings(jnp.sum(lean), jnp.sum(~bent & (slope != 0)))


def least_share(
    lean: Leanings,
    norms: Array,
    gradient: Array,
    extra: Array,
    point: Array,
    held: Array,
    scale: Array,
) -> Array:
    """
    Return a lower bound of what is left of the gradient's terms.

    By Cauchy and Schwarz, from what is known anyway: with many rows, the sums over the
    terms themselves cost more than the rest of a step. 0 where rounding may count.

    Parameters
    ----------
    lean : Leanings
        Of all losses.
    norms : array of shape (p,)
        Of the weighted columns.
    gradient, extra : array of shape (p,)
        Of all of the objective, and of what it has besides losses.
    point : array of shape (p,)
        The parameters.
    held : array of shape (p,)
        As of `held_at`.
    scale : scalar
        The norm of the weighted predictions.

    Returns
    -------
    scalar
        From 0 to 1.
    """
    terms = norms * jnp.sqrt(lean.squares) + jnp.abs(extra)
    spread = scale + jnp.abs(point) @ norms / _ULPS
    rounding = jnp.finfo(point.dtype).eps * norms * spread / FAR
    size = jnp.abs(gradient)
    share = size / jnp.where(terms > 0, terms, 1)
    share = jnp.where(held | (size <= rounding), 0, share)
    # A row without curvature is not in the norms.
    return jnp.where(lean.unseen == 0, jnp.max(share, initial=0.0), 0)


def _gain(root: Array, gradient: Array, held: Array) -> Array:
    """
    Return by how much the model says that the objective can still fall.

    A gradient that is small beside its terms may still matter in a direction in which
    the columns of the Jacobian nearly cancel each other.
    """
    p = gradient.size
    norms = jnp.linalg.norm(root, axis=0)
    unit = jnp.where((norms > 0) & ~held, norms, 1)
    columns = jnp.where(held, 0, root / unit)
    # Where they cancel each other to more than half of all digits, what is left of the
    # gradient may be rounding.
    edge = jnp.finfo(root.dtype).eps ** (9 / 16) * jnp.eye(p, dtype=root.dtype)
    triangle = jnp.linalg.qr(jnp.concatenate([columns, edge]), mode="r")
    step = solve_triangular(triangle, gradient / unit, trans=1)
    return 0.5 * (step @ step)
