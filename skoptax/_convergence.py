"""When an optimisation has converged: the rule, apart from the loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._tracing import own

# Arrays of so many entries are put side by side; larger ones are read one by one.
_SMALL = 1024


class Progress(NamedTuple):
    """What the rule of convergence looks at."""

    value: Any
    norm: Any  # of the gradient
    reach: Any  # largest |g_i| max(|x_i|, 1)
    pull: Any  # largest |g_i x_i|
    moved: Any  # largest |dx_i| / max(|x_i|, 1) of the last step; inf before any

    @property
    def optimality(self) -> Any:
        r"""
        The relative gradient of Dennis and Schnabel [1]_.

        It is :math:`\max_i |g_i| \max(|x_i|, 1) / |f|`.

        References
        ----------
        .. [1] J. E. Dennis and R. B. Schnabel, *Numerical Methods for Unconstrained
           Optimization and Nonlinear Equations*, 1983, section 7.2.
        """
        return self.reach / self._size

    @property
    def sensitivity(self) -> Any:
        """The same with parameters as small as they are."""
        return self.pull / self._size

    @property
    def _size(self) -> Any:
        if isinstance(self.value, float):
            return max(abs(self.value), float(np.finfo(float).tiny))
        return jnp.maximum(jnp.abs(self.value), jnp.finfo(self.value.dtype).tiny)


def measure(
    internal: Any, gradient: Any, before: Any, value: Any, moved: Any
) -> Progress:
    """
    Measure how far a state is from an optimum.

    Parameters
    ----------
    internal, gradient, before : pytree
        The state, the projected gradient at it, and the state before the step.
    value : scalar
        The loss.
    moved : bool
        Whether there was a step.

    Returns
    -------
    Progress
        What the rule of convergence looks at.
    """
    # A pytree may be of the user's own class: only its leaves are the package's.
    return _measure(
        jax.tree.leaves(internal),
        jax.tree.leaves(gradient),
        jax.tree.leaves(before),
        value,
        moved,
    )


@own
def _measure(
    internal: list[Any], gradient: list[Any], before: list[Any], value: Any, moved: Any
) -> Progress:
    dtype = value.dtype
    found = []
    for x, g, old in zip(internal, gradient, before, strict=True):
        width = jnp.maximum(jnp.abs(x), 1.0)
        maxima = _maxima(jnp.abs(g) * width, jnp.abs(g * x), jnp.abs(x - old) / width)
        found.append(jnp.stack(list(maxima)).astype(dtype))
    reach, pull, change = jnp.max(jnp.stack(found), axis=0)
    return Progress(
        value=value,
        norm=optax.tree.norm(gradient).astype(dtype),
        reach=reach,
        pull=pull,
        moved=jnp.where(moved, change, jnp.inf).astype(dtype),
    )


def _maxima(*arrays: Any) -> Any:
    """Return the largest entry of each array, in one pass if they are small."""
    if arrays[0].size > _SMALL:
        return [jnp.max(array) for array in arrays]
    return jnp.max(jnp.stack([a.ravel() for a in arrays]), axis=1, initial=0.0)


@own
def has_converged(now: Progress, start: Progress, tol: Any) -> Any:
    """
    Tell whether the first-order conditions hold to the tolerance.

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
    # Nothing is made of tol alone, which would be a computation of its own.
    rests = now.moved**2 <= tol
    fallen = (now.optimality <= tol) & (start.optimality > tol)
    vanished = (
        (now.value >= 0)
        & (now.value <= tol * (tol * jnp.abs(start.value)))
        & ((now.norm / start.norm) ** 2 <= tol)
        & (now.sensitivity * tol >= 1)
    )
    return (now.norm == 0) | (rests & (fallen | vanished))
