r"""The quadratic model of an objective that is a sum of losses of predictions.

At a point :math:`x`, with predictions :math:`f`, their Jacobian :math:`J` and the
losses' derivatives :math:`\ell'` and :math:`\ell''`,

.. math:: F(x + p) \approx F(x) + g^T p + \tfrac12 p^T H p, \qquad
    g = J^T \ell' + \nabla R, \quad H = J^T \max(\ell'', 0) J + [\nabla^2 R]_+

where :math:`R` is what else the objective has. :math:`H` is kept as the triangle of a
QR factorisation, which has all digits of :math:`J`; of its square half are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._tracing import own

# What JAX says of a function that has a rule for reverse mode only.
_REVERSE_ONLY = "custom_vjp"


class Linearisation(NamedTuple):
    """An objective near a point, in the order of `jax.flatten_util.ravel_pytree`."""

    root: Array  # of shape (p, p): the curvature is root.T @ root
    gradient: Array  # of shape (p,), of all of the objective
    held: Array  # of shape (p,): on a bound that the descent would cross
    optimality: Array  # how far the gradient is from being rounding error
    noise: Array  # what the objective may change by rounding, in units of epsilon


def linearise(
    predict: Callable[[Array], Array],
    summed: Callable[[Array], Array],
    point: Array,
    *,
    others: tuple[Array, Array] | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
    forward: bool = False,
) -> Linearisation:
    r"""Return the quadratic model at a point.

    Parameters
    ----------
    predict : callable
        From an array of shape (p,) to predictions, an array of any shape.
    summed : callable
        From predictions to the sum of their losses, a scalar. The loss of one
        prediction depends on no other one.
    point : array of shape (p,)
        Where.
    others : tuple of array or None
        Gradient, of shape (p,), and Hessian, of shape (p, p), of what else there is.
    lower, upper : array of shape (p,), optional
        Bounds.
    forward : bool, default=False
        Whether to keep to forward mode even where reverse mode is cheaper.

    Returns
    -------
    Linearisation
        Its ``optimality`` is

        .. math:: \max_j \frac{\max(|g_j| - \varepsilon \sum_i |J_{ij}\,
            \ell''_i f_i|,\ 0)}{\sum_i |J_{ij}\, \ell'_i| + |\nabla_j R|}

        over the parameters that are not held: what is left of the gradient's terms
        after they have cancelled each other, beyond what the rounding of the
        predictions leaves. It is at most 1, does not depend on anything's units, and
        does not get small on a plateau, where all terms do.
    """
    predictions, jacobian = _jacobian(predict, point, forward)
    # The loss of a prediction depends on no other one: its Hessian is diagonal.
    slope, bend = jax.jvp(
        jax.grad(summed), (predictions,), (jnp.ones_like(predictions),)
    )
    return _assemble(
        jnp.ravel(predictions),
        jnp.ravel(slope),
        jnp.ravel(bend),
        jacobian,
        point,
        others,
        lower,
        upper,
    )


def _jacobian(
    predict: Callable[[Array], Array], point: Array, forward: bool
) -> tuple[Array, Array]:
    """Return the predictions, and their derivatives as an array of shape (n, p)."""
    p = point.size

    def push(direction: Array) -> tuple[Array, Array]:
        return jax.jvp(predict, (point,), (direction,))

    def by_columns() -> tuple[Array, Array]:
        basis = jnp.eye(p, dtype=point.dtype)
        predictions, columns = jax.vmap(push, out_axes=(None, -1))(basis)
        return predictions, columns.reshape(-1, p)

    def by_rows() -> tuple[Array, Array]:
        predictions, pull = jax.vjp(predict, point)
        shape = (predictions.size, *predictions.shape)
        basis = jnp.eye(predictions.size, dtype=predictions.dtype).reshape(shape)
        return predictions, jax.vmap(pull)(basis)[0]

    if not forward and p > jax.eval_shape(predict, point).size:
        return by_rows()
    try:
        return by_columns()
    except TypeError as error:
        if forward or _REVERSE_ONLY not in str(error):
            raise
        return by_rows()


@own
def _assemble(
    predictions: Array,
    slope: Array,
    bend: Array,
    jacobian: Array,
    point: Array,
    others: tuple[Array, Array] | None,
    lower: Array | None,
    upper: Array | None,
) -> Linearisation:
    bend = jnp.maximum(bend, 0)
    sizes = jnp.abs(jacobian)
    gradient = slope @ jacobian
    terms = jnp.abs(slope) @ sizes
    rounding = jnp.abs(bend * predictions) @ sizes
    rows = [jnp.sqrt(bend)[:, None] * jacobian]
    if others is not None:
        extra, curvature = others
        gradient = gradient + extra
        terms = terms + jnp.abs(extra)
        rows.append(_positive_root(curvature))
    held = held_at(point, gradient, lower, upper)
    left = jnp.abs(gradient) - jnp.finfo(point.dtype).eps * rounding
    share = jnp.maximum(left, 0) / jnp.where(terms > 0, terms, 1)
    return Linearisation(
        root=jnp.linalg.qr(jnp.concatenate(rows), mode="r")
        if sum(map(len, rows)) >= point.size
        else _wide_root(jnp.concatenate(rows)),
        gradient=gradient,
        held=held,
        optimality=jnp.max(jnp.where(held, 0, share), initial=0.0),
        # A prediction is rounded, which changes its loss by the slope.
        noise=jnp.sum(jnp.abs(slope * predictions)),
    )


def _wide_root(rows: Array) -> Array:
    """Return a square root for fewer rows than columns."""
    missing = rows.shape[1] - rows.shape[0]
    return jnp.pad(jnp.linalg.qr(rows, mode="r"), ((0, missing), (0, 0)))


def _positive_root(curvature: Array) -> Array:
    """Return a root of the nearest matrix without negative curvature."""
    # Parameters may be of very different size.
    size = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    size = jnp.where(size > 0, size, 1)
    values, vectors = jnp.linalg.eigh(curvature / size / size[:, None])
    return jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T * size


def held_at(
    point: Array, gradient: Array, lower: Array | None, upper: Array | None
) -> Array:
    """Tell which parameters are on a bound that the descent would cross.

    Parameters
    ----------
    point, gradient : array of shape (p,)
        A point, and the gradient or what stands in for it.
    lower, upper : array of shape (p,) or None
        Bounds.

    Returns
    -------
    array of shape (p,)
        Of bool.
    """
    held = jnp.zeros(point.shape, bool)
    if lower is not None:
        held |= (point <= lower) & (gradient > 0)
    if upper is not None:
        held |= (point >= upper) & (gradient < 0)
    return held
