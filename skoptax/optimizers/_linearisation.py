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

from .._tracing import own
from .._typing import PyTree
from ._factorisation import MANY_ROWS, curvature_root, triangle
from ._jacobian import jacobian, losses_curvature
from ._optimality import (
    FAR,
    NOISE_ULPS,
    Terms,
    leanings,
    least_share,
    remaining,
    sizes_of_gradient,
    sizes_of_losses,
)


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
