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
from jax.scipy.linalg import cho_factor, cho_solve

from ._factorisation import FEW_COLUMNS

T = TypeVar("T")

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
    known: Array  # those above rounding error
    vectors: Array  # in rows

    @property
    def least(self) -> Array:
        """The damping that counts as none."""
        return jnp.square(jnp.finfo(self.squares.dtype).eps)

    def bound(self, gradient: Array, radius: Array) -> Array:
        """No damping below this one makes the step as short as the radius."""
        along = jnp.where(self.known, jnp.abs(self.vectors @ gradient), 0)
        return jnp.max(along / radius - self.squares)

    def at(self, damping: Array) -> Callable[[Array], Array]:
        """Return what solves with the damped curvature."""

        def solve(right: Array) -> Array:
            along = self.vectors @ right
            along = jnp.where(self.known, along / (self.squares + damping), 0)
            return self.vectors.T @ along

        return solve


class Product(NamedTuple):
    """A curvature of many columns, for Cholesky's factorisation."""

    curvature: Array

    @property
    def least(self) -> Array:
        """The damping that counts as none: less would be lost in the sums."""
        eps = jnp.finfo(self.curvature.dtype).eps
        return jnp.asarray(4 * len(self.curvature) * eps, self.curvature.dtype)

    def bound(self, gradient: Array, radius: Array) -> Array:
        """No damping below this one makes the step as short as the radius."""
        return jnp.linalg.norm(gradient) / radius - jnp.trace(self.curvature)

    def at(self, damping: Array) -> Callable[[Array], Array]:
        """Return what solves with the damped curvature."""
        identity = jnp.eye(len(self.curvature), dtype=self.curvature.dtype)
        factor = cho_factor(self.curvature + damping * identity)
        return lambda right: cho_solve(factor, right)


Curvature: TypeAlias = Spectrum | Product


def factorised(root: Array) -> Curvature:
    """
    Prepare a curvature for steps of any length.

    Parameters
    ----------
    root : array of shape (p, p)
        The curvature is ``root.T @ root``.

    Returns
    -------
    Spectrum or Product
        By the number of columns. In a spectrum, directions in which the root is
        rounding error are left out: a step along them would be, too.
    """
    p = root.shape[1]
    if p > FEW_COLUMNS:
        return Product(root.T @ root)
    _, values, vectors = jnp.linalg.svd(root, full_matrices=False)
    known = values > p * jnp.finfo(root.dtype).eps * values[0]
    return Spectrum(values**2, known, vectors)


def lowest_within(
    root: Array, curvature: Curvature, gradient: Array, radius: Array
) -> Step:
    """
    Return the step to the lowest point within a distance.

    Parameters
    ----------
    root : array of shape (p, p)
        Of the curvature.
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

    def step(damping: Array) -> tuple[Array, Array, Array]:
        solve = curvature.at(damping)
        at = -solve(gradient)
        length = jnp.linalg.norm(at)
        # With 1 / length, which is nearly a straight line in the damping.
        slope = at @ solve(at)
        rise = length**2 * (length - radius) / (radius * slope)
        return damping, length, rise

    def is_too_long(length: Array) -> Array:
        return length > (1 + _SLACK) * radius

    def goes_on(state: tuple[tuple[Array, Array, Array], Array]) -> Any:
        (_, length, _), tries = state
        return is_too_long(length) & (tries < _MOST)

    def longer(
        state: tuple[tuple[Array, Array, Array], Array],
    ) -> tuple[tuple[Array, Array, Array], Array]:
        (damping, _, rise), tries = state
        return step(damping + rise), tries + 1

    start = step(jnp.maximum(curvature.least, curvature.bound(gradient, radius)))
    (damping, _, _), _ = while_loop(goes_on, longer, (start, jnp.asarray(0)))
    at = damped(root, curvature, damping, gradient)
    return Step(at, jnp.linalg.norm(at), damping, damping <= curvature.least)


def damped(root: Array, curvature: Curvature, damping: Array, gradient: Array) -> Array:
    """
    Return the step with a damping.

    Parameters
    ----------
    root : array of shape (p, p)
        Of the curvature.
    curvature : Spectrum or Product
        As `factorised` returns it.
    damping : scalar
        Lambda.
    gradient : array of shape (p,)
        Of the objective, or what stands in for it.

    Returns
    -------
    array of shape (p,)
        The solution of ``(root.T @ root + damping * I) step = -gradient``.
    """
    solve = curvature.at(damping)
    step = -solve(gradient)
    # One refinement makes up for solving through the square of the root.
    residual = -gradient - root.T @ (root @ step) - damping * step
    return step + solve(residual)


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
