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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular

from .._tracing import own
from .._typing import PyTree
from ._factorisation import MANY_ROWS, curvature_root, times, triangle
from ._jacobian import jacobian, losses_curvature

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


class Linearisation(NamedTuple):
    """An objective near a point, in the order of `jax.flatten_util.ravel_pytree`."""

    root: Any  # of shape (p, p): the curvature is root.T @ root
    # In one array: a program's call takes longer with each.
    sizes: Any  # of shape (4,)

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

    @property
    def gain(self) -> Any:
        """
        The share of the objective that a whole step is predicted to take away.

        Beyond rounding error, and next to an optimum; elsewhere it is 0.
        """
        return self.sizes[3]

    def rounding(self, value: Any) -> Any:
        """Return what the objective, of this value here, may change by rounding."""
        size = self.noise + jnp.abs(value)
        return NOISE_ULPS * jnp.finfo(size.dtype).eps * size

    @property
    def left(self) -> Any:
        """What a rule of convergence compares with its tolerance."""
        return jnp.maximum(self.optimality, self.gain)


def blank_linearisation(p: int, dtype: Any) -> Linearisation:
    """Return zeros: a place for the model of an objective of p parameters."""
    return Linearisation(np.zeros((p, p), dtype), np.zeros(4, dtype))


def linearise(
    predict: Callable[[Array], Array],
    summed: Callable[[Array], Array],
    point: Array,
    *,
    forward: bool = False,
    **others: Any,
) -> tuple[Array, Linearisation]:
    """
    Return the gradient and the quadratic model at a point.

    Parameters
    ----------
    predict : callable
        From an array of shape (p,) to predictions, an array of any shape.
    summed : callable
        As for `quadratic_model`.
    point : array of shape (p,)
        Where.
    forward : bool, default=False
        As for `jacobian`.
    **others : object
        What else `quadratic_model` takes.

    Returns
    -------
    gradient : array of shape (p,)
        Of all of the objective.
    linearisation : Linearisation
        As `quadratic_model` returns it.
    """
    predictions, columns = jacobian(predict, point, forward)
    return quadratic_model(predictions, columns, summed, point, **others)


def quadratic_model(
    predictions: Array,
    columns: Array,
    summed: Callable[[Array], Array],
    point: Array,
    *,
    others: tuple[Array, Array] | None = None,
    information: Callable[[Array], Array | None] | None = None,
    value: Array | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
    is_coupled: bool = False,
    each: Callable[[Array], Array] | None = None,
) -> tuple[Array, Linearisation]:
    r"""
    Return the gradient and the quadratic model of an objective.

    Parameters
    ----------
    predictions, columns : array
        As `jacobian` returns them.
    summed : callable
        From predictions to the sum of their losses, a scalar. The loss of one
        prediction depends on no other one, but for `is_coupled`.
    point : array of shape (p,)
        Where.
    others : tuple of array or None
        Gradient, of shape (p,), and Hessian, of shape (p, p), of what else there is.
    information : callable, optional
        From predictions to what is to stand for the losses' second derivatives, an
        array of the same shape, or ``None`` for these themselves.
    value : scalar, optional
        The objective at the point; without it, `gain` is 0.
    lower, upper : array of shape (p,), optional
        Bounds.
    is_coupled : bool, default=False
        Whether the loss of a row may depend on all predictions of that row, as that
        of class probabilities does. The predictions' first axis is that of the rows.
    each : callable, optional
        The losses before they are summed, if these have derivatives in forward mode,
        which JAX traces sooner. Used where a row has one prediction.

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
        does not get small on a plateau, where all terms do. With many rows and far
        from an optimum it is a lower bound of that, above 0.001.
    """
    slope, bend = losses_curvature(predictions, summed, information, is_coupled, each)
    return _assemble(
        jnp.ravel(predictions),
        slope,
        bend,
        columns,
        point,
        others,
        value,
        lower,
        upper,
    )


@own
def _assemble(
    predictions: Array,
    slope: Array,
    bend: Array,
    columns: Array,
    point: Array,
    others: tuple[Array, Array] | None,
    value: Array | None,
    lower: Array | None,
    upper: Array | None,
) -> tuple[Array, Linearisation]:
    """
    Put gradient and model together.

    Predictions and slope are of shape (n,), the columns (p, n). The bend is of shape
    (n,), or (m, k, k) where the n predictions are k outputs of m rows.
    """
    bend = curvature_root(bend)
    gradient = columns @ slope
    root = triangle(columns, bend, None if others is None else others[1])
    extra = jnp.zeros_like(point)
    if others is not None:
        extra = others[0]
        gradient = gradient + extra
    held = held_at(point, gradient, lower, upper)
    noise, squares = sizes_of_losses(predictions, slope, bend)
    scale = jnp.sqrt(squares)

    def exact() -> Array:
        of_gradient = sizes_of_gradient(predictions, columns, slope, bend, point)
        terms = Terms(*of_gradient, noise, squares)
        return remaining(terms, gradient, root, point, held, others, value)

    if slope.size < MANY_ROWS or bend.ndim > 1:
        found = exact()
    else:
        norms = jnp.linalg.norm(root, axis=0)
        lean = leanings(slope, bend)
        at_least = least_share(lean, norms, gradient, extra, point, held, scale)
        found = jax.lax.cond(
            at_least > FAR,
            lambda: jnp.stack([at_least, jnp.zeros_like(at_least)]),
            exact,
        )
    sizes = jnp.stack([found[0], noise, scale, found[1]])
    return gradient, Linearisation(root, sizes)


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


def flat_bound(bound: PyTree | None, params: PyTree) -> Array | None:
    """
    Return bounds as one array, in the order of `jax.flatten_util.ravel_pytree`.

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
    """
    Tell which parameters are on a bound that the descent would cross.

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
