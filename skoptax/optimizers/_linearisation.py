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
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree

from .._tracing import own
from .._typing import PyTree

T = TypeVar("T")

# So many units in the last place of a prediction may be rounding error.
_ULPS = 4
# Up to so many columns, a library's QR factorisation is fast.
FEW_COLUMNS = 16
# A smaller pivot says that the columns, of norm 1, are close to dependent.
_SAFE = 1e-3
# What JAX says of a function that has a rule for reverse mode only.
_REVERSE_ONLY = "custom_vjp"


class Linearisation(NamedTuple):
    """An objective near a point, in the order of `jax.flatten_util.ravel_pytree`."""

    root: Any  # of shape (p, p): the curvature is root.T @ root
    # In one array: a program's call takes longer with each.
    sizes: Any  # of shape (3,)

    @property
    def optimality(self) -> Any:
        """How far the gradient is from being rounding error, from 0 to 1."""
        return self.sizes[0]

    @property
    def noise(self) -> Any:
        """What rounding changes the objective by, in units of epsilon."""
        return self.sizes[1]

    @property
    def scale(self) -> Any:
        """The norm of the predictions, in the units of the columns of the root."""
        return self.sizes[2]


def blank_linearisation(p: int, dtype: Any) -> Linearisation:
    """Return zeros: a place for the model of an objective of p parameters."""
    return Linearisation(np.zeros((p, p), dtype), np.zeros(3, dtype))


def linearise(
    predict: Callable[[Array], Array],
    summed: Callable[[Array], Array],
    point: Array,
    *,
    others: tuple[Array, Array] | None = None,
    information: Callable[[Array], Array | None] | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
    forward: bool = False,
) -> tuple[Array, Linearisation]:
    r"""Return the gradient and the quadratic model at a point.

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
    information : callable, optional
        From predictions to what is to stand for the losses' second derivatives, an
        array of the same shape, or ``None`` for these themselves.
    lower, upper : array of shape (p,), optional
        Bounds.
    forward : bool, default=False
        Whether to keep to forward mode even where reverse mode is cheaper.

    Returns
    -------
    gradient : array of shape (p,)
        Of all of the objective.
    linearisation : Linearisation
        Its ``optimality`` is

        .. math:: \max_j \frac{\max(|g_j| - 4 \varepsilon\, e_j,\ 0)}
            {\sum_i |J_{ij}\, \ell'_i| + |\nabla_j R|}, \qquad
            e_j = \sum_i |J_{ij}|\, \ell''_i
            \Big(|f_i| + \tfrac14 \sum_k |J_{ik} x_k|\Big)
            + \sum_k |\nabla^2_{jk} R\, x_k|

        over the parameters that are not held: what is left of the gradient's terms
        after they have cancelled each other, beyond what the rounding of predictions
        and parameters leaves. It is at most 1, does not depend on anything's units, and
        does not get small on a plateau, where all terms do.
    """

    def real(x: Array) -> Array:
        found = predict(x)
        is_float = jnp.issubdtype(found.dtype, jnp.floating)
        # Integers have no derivative, which is for the caller to say.
        return found if is_float else found.astype(point.dtype)

    predictions, columns = _jacobian(real, point, forward)
    # The loss of a prediction depends on no other one: its Hessian is diagonal.
    bend = None if information is None else information(predictions)
    if bend is None:
        slope, bend = jax.jvp(
            jax.grad(summed), (predictions,), (jnp.ones_like(predictions),)
        )
    else:
        slope = jax.grad(summed)(predictions)
    return _assemble(
        jnp.ravel(predictions),
        jnp.ravel(slope),
        jnp.ravel(bend),
        columns,
        point,
        others,
        lower,
        upper,
    )


def _computed_once(function: Callable[[], T], point: Array) -> T:
    """Return what a function returns, in memory.

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
        lambda: [jnp.full(x.shape, jnp.nan, x.dtype) for x in jaxpr.out_avals],
        lambda: jaxpr_as_fun(jaxpr)(),
    )
    return jax.tree.unflatten(trees[-1], found)


def _jacobian(
    predict: Callable[[Array], Array], point: Array, forward: bool
) -> tuple[Array, Array]:
    """Return the predictions, and their derivatives as an array of shape (p, n).

    With the columns side by side, which is how LAPACK has them, and how each
    derivative is computed.
    """
    p = point.size

    def by_columns() -> tuple[Array, Array]:
        predictions, push = _computed_once(lambda: jax.linearize(predict, point), point)
        columns = _computed_once(
            lambda: jax.vmap(push)(jnp.eye(p, dtype=point.dtype)), point
        )
        return predictions, columns.reshape(p, -1)

    def by_rows() -> tuple[Array, Array]:
        predictions, pull = _computed_once(lambda: jax.vjp(predict, point), point)
        shape = (predictions.size, *predictions.shape)
        basis = jnp.eye(predictions.size, dtype=predictions.dtype).reshape(shape)
        (rows,) = _computed_once(lambda: jax.vmap(pull)(basis), point)
        return predictions, rows.T

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
    columns: Array,
    point: Array,
    others: tuple[Array, Array] | None,
    lower: Array | None,
    upper: Array | None,
) -> tuple[Array, Linearisation]:
    bend = jnp.maximum(bend, 0)
    sizes = jnp.abs(columns)
    gradient = columns @ slope
    # Predictions are rounded, and so are the parameters that they are made of.
    spread = jnp.abs(predictions) + jnp.abs(point) @ sizes / _ULPS
    terms, rounding = (sizes @ jnp.stack([jnp.abs(slope), bend * spread], axis=1)).T
    weighted = [jnp.sqrt(bend) * columns]
    if others is not None:
        extra, curvature = others
        gradient = gradient + extra
        terms = terms + jnp.abs(extra)
        rounding = rounding + jnp.abs(curvature) @ jnp.abs(point)
        weighted.append(_positive_root(curvature).T)
    held = held_at(point, gradient, lower, upper)
    left = jnp.abs(gradient) - _ULPS * jnp.finfo(point.dtype).eps * rounding
    share = jnp.maximum(left, 0) / jnp.where(terms > 0, terms, 1)
    optimality = jnp.max(jnp.where(held, 0, share), initial=0.0)
    # A prediction is rounded, which changes its loss by the slope.
    noise = jnp.sum(jnp.abs(slope * predictions))
    scale = jnp.sqrt(jnp.sum(bend * predictions**2))
    return gradient, Linearisation(
        _root(jnp.concatenate(weighted, axis=1)), jnp.stack([optimality, noise, scale])
    )


def _root(columns: Array) -> Array:
    """Return the triangle of a QR factorisation, of shape (p, p), of the transpose."""
    p, n = columns.shape
    if p <= FEW_COLUMNS or n < p:
        triangle = jnp.linalg.qr(columns.T, mode="r")
        return jnp.pad(triangle, ((0, max(p - n, 0)), (0, 0)))
    # Of columns of norm 1 that are far from dependent, a Cholesky factorisation of
    # their products has ten digits at least, and is faster.
    products = columns @ columns.T
    norms = jnp.sqrt(jnp.diagonal(products))
    norms = jnp.where(norms > 0, norms, 1)
    factor = jnp.linalg.cholesky(products / norms / norms[:, None])
    # What is not finite compares as false.
    is_safe = jnp.min(jnp.diagonal(factor)) > _SAFE
    return jax.lax.cond(
        is_safe,
        lambda: factor.T * norms,
        lambda: jnp.linalg.qr(columns.T, mode="r"),
    )


def _positive_root(curvature: Array) -> Array:
    """Return a root of the nearest matrix without negative curvature."""
    # Parameters may be of very different size.
    size = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    size = jnp.where(size > 0, size, 1)
    values, vectors = jnp.linalg.eigh(curvature / size / size[:, None])
    return jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T * size


def while_loop(goes_on: Callable[[T], Any], body: Callable[[T], T], start: T) -> T:
    """Run a loop: `jax.lax.while_loop`, or Python's outside of a compiled function.

    There, JAX would compile a loop anew at each call, since its functions are new.

    Parameters
    ----------
    goes_on : callable
        From the carry to a bool.
    body : callable
        From the carry to the next one.
    start : pytree of arrays
        The carry.

    Returns
    -------
    pytree of arrays
        The first carry that it does not go on from.
    """
    traced = [isinstance(goes_on(start), jax.core.Tracer)]
    traced += [isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(start)]
    if any(traced):
        return jax.lax.while_loop(goes_on, body, start)
    while goes_on(start):
        start = body(start)
    return start


def flat_bound(bound: PyTree | None, params: PyTree) -> Array | None:
    """Return bounds as one array, in the order of `jax.flatten_util.ravel_pytree`.

    Parameters
    ----------
    bound : pytree or None
        Of the structure of ``params``, each leaf a number or of its parameter's shape.
    params : pytree
        Arrays.

    Returns
    -------
    array of shape (p,) or None
        ``None`` for ``None``.
    """
    if bound is None:
        return None
    full = jax.tree.map(lambda b, x: jnp.broadcast_to(b, jnp.shape(x)), bound, params)
    return ravel_pytree(full)[0]


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
