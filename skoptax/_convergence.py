"""When an optimisation has converged: the rule, apart from the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Progress(NamedTuple):
    """What the rule of convergence looks at."""

    value: Any
    norm: Any  # of the gradient
    optimality: Any  # largest |g_i| max(|x_i|, 1) / |f|
    sensitivity: Any  # largest |g_i x_i| / |f|
    moved: Any  # largest |dx_i| / max(|x_i|, 1) of the last step; inf before any


def measure(
    internal: Any, gradient: Any, before: Any, value: Any, norm: Any, moved: Any
) -> Progress:
    r"""Measure how far a state is from an optimum, relative to its own size.

    Parameters
    ----------
    internal, gradient, before : pytree
        The state, the projected gradient at it, and the state before the step.
    value, norm : scalar
        The loss, and the gradient's norm.
    moved : bool
        Whether there was a step.

    Returns
    -------
    Progress
        ``optimality`` is the relative gradient of Dennis and Schnabel [1]_,
        :math:`\max_i |g_i| \max(|x_i|, 1) / |f|`.

    References
    ----------
    .. [1] J. E. Dennis and R. B. Schnabel, *Numerical Methods for Unconstrained
       Optimization and Nonlinear Equations*, 1983, section 7.2.
    """
    dtype = value.dtype
    size = jnp.maximum(jnp.abs(value), jnp.finfo(dtype).tiny)

    def largest(function: Callable[..., Any]) -> Any:
        found = [
            jnp.max(function(x, g, old), initial=0.0).astype(dtype)
            for x, g, old in zip(
                *map(jax.tree.leaves, (internal, gradient, before)), strict=True
            )
        ]
        return jnp.max(jnp.stack(found))

    return Progress(
        value=value,
        norm=norm,
        optimality=largest(lambda x, g, _: jnp.abs(g) * jnp.maximum(jnp.abs(x), 1.0))
        / size,
        sensitivity=largest(lambda x, g, _: jnp.abs(g * x)) / size,
        moved=jnp.where(
            moved,
            largest(lambda x, _, old: jnp.abs(x - old) / jnp.maximum(jnp.abs(x), 1.0)),
            jnp.inf,
        ).astype(dtype),
    )


def has_converged(now: Progress, start: Progress, tol: Any) -> Any:
    """Tell whether the first-order conditions hold to the tolerance.

    The relative gradient alone can be small far from an optimum, where a parameter
    is much smaller than it has to become. So it must have fallen to the tolerance
    since the start, and the step that led here must have been small.

    Of a sum of squares that vanishes at its optimum the relative gradient grows,
    since the loss falls faster than the gradient. Then the loss must be so small
    that the gradient could not bring it to zero but by a relative change of ``tol``
    in the parameters, and both must have fallen since the start, so that neither a
    start on a steep slope nor a loss that passes through zero counts.

    Parameters
    ----------
    now, start : Progress
        At the current state, and at step 0.
    tol : scalar
        The tolerance, positive.

    Returns
    -------
    bool
        Always true where the gradient is exactly zero.
    """
    rests = now.moved <= jnp.sqrt(tol)
    fallen = (now.optimality <= tol) & (start.optimality > tol)
    vanished = (
        (now.value >= 0)
        & (now.value <= tol**2 * jnp.abs(start.value))
        & (now.norm <= jnp.sqrt(tol) * start.norm)
        & (now.sensitivity * tol >= 1)
    )
    return (now.norm == 0) | (rests & (fallen | vanished))
