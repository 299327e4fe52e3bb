r"""The lowest point of a quadratic model within a distance.

For the model :math:`g^T p + \tfrac12 p^T H p` that is :math:`(H + \lambda I)\, p = -g`:
with :math:`\lambda = 0` where the undamped step is short enough, else with the
:math:`\lambda` that makes it as long as the radius (Moré 1978).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax.linalg import svd
from jax.scipy.linalg import cho_factor, cho_solve

from ._factorisation import FEW_COLUMNS

T = TypeVar("T")

# Where columns cancel to so many digits, a step along a rounding error in the gradient
# would be as long as the parameters.
_DEPENDENT = 9 / 16
# Of many columns the damping falls by no more than this from step to step.
_FALL = 1e-3
# A step may be longer than the radius by this share.
_SLACK = 0.1
# Newton's method on the damping rises from below, and is there after two or three.
_MOST = 12


class Step(NamedTuple):
    step: Array
    length: Array
    damping: Array
    is_whole: Array  # it is the undamped one


class Spectrum(NamedTuple):
    """A curvature by its eigenvalues: each damping then costs next to nothing."""

    squares: Array  # the eigenvalues
    is_flat: Array  # those that are next to nothing
    vectors: Array  # in rows
    noise: Array  # what of a gradient's part along such a vector is rounding error

    @property
    def least(self) -> Array:
        """The damping that counts as none."""
        return jnp.square(jnp.finfo(self.squares.dtype).eps)

    def along(self, gradient: Array) -> Array:
        """
        Return the parts of a gradient along the vectors, without what is noise.

        Where the curvature is 0 a gradient need not be: a robust loss pulls at the
        parameters, however far out it has no second derivative.
        """
        parts = self.vectors @ gradient
        eps = jnp.finfo(gradient.dtype).eps
        edge = self.noise + 4 * len(parts) * eps * jnp.linalg.norm(gradient)
        return jnp.where(self.is_flat & (jnp.abs(parts) <= edge), 0, parts)

    def bound(self, parts: Array, radius: Array) -> Array:
        """Return a damping below which the step is longer than the radius."""
        return jnp.max(jnp.abs(parts) / radius - self.squares)

    def length(self, parts: Array, damping: Array) -> tuple[Array, Array]:
        """Return the step's squared length, and minus half its slope."""
        damped = self.squares + damping
        squares = (parts / damped) ** 2
        return jnp.sum(squares), jnp.sum(squares / damped)

    def solve(self, parts: Array, damping: Array) -> Array:
        """Solve with the damped curvature."""
        return parts / (self.squares + damping) @ self.vectors


class Product(NamedTuple):
    """A curvature of many columns, for Cholesky's factorisation."""

    root: Array
    curvature: Array
    least: Array  # the damping that counts as none

    def along(self, gradient: Array) -> Array:
        """Return a gradient: there are no vectors."""
        return gradient

    def bound(self, gradient: Array, radius: Array) -> Array:
        """Return a damping below which the step is longer than the radius."""
        return jnp.linalg.norm(gradient) / radius - jnp.trace(self.curvature)

    def length(self, gradient: Array, damping: Array) -> tuple[Array, Array]:
        """Return the step's squared length, and minus half its slope."""
        factor = self._factor(damping)
        step = cho_solve(factor, gradient)
        return step @ step, step @ cho_solve(factor, step)

    def solve(self, gradient: Array, damping: Array) -> Array:
        """Solve with the damped curvature."""
        factor = self._factor(damping)
        step = cho_solve(factor, gradient)
        # One refinement makes up for solving through the square of the root.
        residual = gradient - self.root.T @ (self.root @ step) - damping * step
        return step + cho_solve(factor, residual)

    def _factor(self, damping: Array) -> tuple[Array, bool]:
        identity = jnp.eye(len(self.curvature), dtype=self.curvature.dtype)
        return cho_factor(self.curvature + damping * identity)


Curvature: TypeAlias = Spectrum | Product


def factorised(root: Array, size: Any, last: Any) -> Curvature:
    """
    Prepare a curvature for steps of any length.

    Parameters
    ----------
    root : array of shape (p, p)
        The curvature is ``root.T @ root``.
    size : scalar
        What the objective is summed from: the sizes of its terms.
    last : scalar
        The damping of the step before.

    Returns
    -------
    Spectrum or Product
        By the number of columns. In a spectrum, directions in which the curvature is
        next to nothing and the gradient is rounding error are left out: a step along
        them would be noise, too.
    """
    p = root.shape[1]
    if p > FEW_COLUMNS:
        # Below the first, it is lost in the sums. And where the curvature is 0 in some
        # direction, the gradient's rounding error over the damping is a step: it falls
        # as the residuals do, not at once.
        least = jnp.maximum(4 * p * jnp.finfo(root.dtype).eps, _FALL * last)
        return Product(root, root.T @ root, least.astype(root.dtype))
    _, values, vectors = svd(root, full_matrices=False)
    eps = jnp.finfo(root.dtype).eps
    # Of a least-squares gradient: the residuals' norm times a column's.
    noise = 4 * p * eps * values[0] * jnp.sqrt(2 * size)
    return Spectrum(values**2, values <= eps**_DEPENDENT * values[0], vectors, noise)


def lowest_within(curvature: Curvature, gradient: Array, radius: Array) -> Step:
    """
    Return the step to the lowest point within a distance.

    Parameters
    ----------
    curvature : Spectrum or Product
        As `factorised` returns it.
    gradient : array of shape (p,)
        Of the objective.
    radius : scalar
        The distance, positive.

    Returns
    -------
    Step
        At most a tenth longer than the radius.
    """
    parts = curvature.along(gradient)

    def newton(state: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
        damping, _, tries = state
        square, slope = curvature.length(parts, damping)
        length = jnp.sqrt(square)
        is_too_long = length > (1 + _SLACK) * radius
        # On 1 / length, which is nearly a straight line in the damping.
        rise = square * (length - radius) / (radius * slope)
        return damping + jnp.where(is_too_long, rise, 0), is_too_long, tries + 1

    def goes_on(state: tuple[Array, Any, Any]) -> Any:
        _, is_too_long, tries = state
        return is_too_long & (tries < _MOST)

    least = jnp.maximum(curvature.least, curvature.bound(parts, radius))
    start = (least, jnp.asarray(True), jnp.asarray(0, jnp.int32))
    damping, _, _ = while_loop(goes_on, newton, start)
    step = -curvature.solve(parts, damping)
    length = jnp.linalg.norm(step)
    return Step(step, length, damping, damping <= curvature.least)


def damped(curvature: Curvature, damping: Array, gradient: Array) -> Array:
    """
    Return the step with a damping.

    Parameters
    ----------
    curvature : Spectrum or Product
        As `factorised` returns it.
    damping : scalar
        Lambda.
    gradient : array of shape (p,)
        Of the objective, or what stands in for it.

    Returns
    -------
    array of shape (p,)
        The solution of ``(curvature + damping * I) step = -gradient``.
    """
    return -curvature.solve(curvature.along(gradient), damping)


def while_loop(goes_on: Callable[[T], Any], body: Callable[[T], T], start: T) -> T:
    """
    Run a loop: `jax.lax.while_loop`, or Python's outside of a compiled function.

    There, JAX would compile a loop anew at each call, since its functions are new.

    Parameters
    ----------
    goes_on : callable
        From the state to whether there is another turn.
    body : callable
        From the state to the next one.
    start : pytree
        The first state.

    Returns
    -------
    pytree
        The last state.
    """
    traced = [isinstance(goes_on(start), jax.core.Tracer)]
    traced += [isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(start)]
    if any(traced):
        return jax.lax.while_loop(goes_on, body, start)
    while goes_on(start):
        start = body(start)
    return start
