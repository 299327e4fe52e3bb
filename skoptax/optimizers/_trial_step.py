r"""One step of Levenberg-Marquardt: trials, each shorter than the one before.

A trial solves :math:`(H + \lambda D^2)\, p = -g` in units of the scale :math:`D`,
within bounds, and is judged by what it gains of what the quadratic model has predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve, solve_triangular

from .._tracing import own
from ._factorisation import FEW_COLUMNS
from ._linearisation import NOISE_ULPS, Linearisation, held_at

T = TypeVar("T")

# A step that gains less than this share of what was predicted is not taken.
_ENOUGH = 1e-4
# An acceleration of more than this share of the step is not trusted (Transtrum and
# Sethna 2012).
_CURVED = 0.75


class Model(NamedTuple):
    """The quadratic model at a point, in units of the scale."""

    root: Array  # the curvature is root.T @ root
    gradient: Array
    noise: Array  # what the objective may change by rounding alone


class Place(NamedTuple):
    """Where a step starts."""

    point: Array
    value: Array
    unit: Array  # the scale, 1 where it is 0
    lower: Array | None
    upper: Array | None


class Proposal(NamedTuple):
    """Where a trial leads."""

    point: Array
    modelled: Array  # and where without the acceleration
    is_whole: Array  # no bound cuts it off


class _Active(NamedTuple):
    """The bounds that a step would cross."""

    held: Array
    step: Array  # with these parameters held
    grows: Array  # it crosses others


class Trial(NamedTuple):
    damping: Array
    growth: Array
    point: Array
    accepted: Array
    in_noise: Array  # the objective cannot judge it
    tries: Array


def search(
    objective: Callable[[Array], Array],
    place: Place,
    gradient: Array,
    here: Linearisation,
    damping: Array,
    growth: Array,
    most: Any,
    bend: Callable[[Array], Array] | None = None,
) -> Trial:
    """
    Try ever shorter steps until one is accepted.

    Parameters
    ----------
    objective : callable
        From a point to its value.
    place : Place
        Where the step starts.
    gradient : array of shape (p,)
        Of the objective.
    here : Linearisation
        Its quadratic model.
    damping, growth : scalar
        Of the first trial, and what the damping is multiplied by after it.
    most : int
        How many trials.
    bend : callable, optional
        What the predictions' second derivative along a direction pulls at the
        parameters with. If it is there, steps are accelerated.

    Returns
    -------
    Trial
        The last one.
    """
    unit, noise = place.unit, here.noise + jnp.abs(place.value)
    held = held_at(place.point, gradient, place.lower, place.upper)
    model = _without(
        Model(
            here.root / unit,
            gradient / unit,
            NOISE_ULPS * jnp.finfo(gradient.dtype).eps * noise,
        ),
        held,
    )

    def attempt(trial: Trial) -> Trial:
        new = _proposal(model, trial.damping, place, bend)
        return _judge(model, trial, new, place, objective(new.point))

    start = Trial(
        damping,
        growth,
        place.point,
        jnp.asarray(False),
        jnp.asarray(False),
        jnp.asarray(0, jnp.int32),
    )
    return _while_loop(
        lambda trial: ~trial.accepted & (trial.tries < most), attempt, start
    )


@own
def _proposal(
    model: Model,
    damping: Array,
    place: Place,
    bend: Callable[[Array], Array] | None,
) -> Proposal:
    """Return where a step leads."""

    def solve(active: _Active) -> _Active:
        step = _solve(_without(model, active.held), damping)
        # What the step would push out of the box is held, too.
        out = held_at(place.point, -step, place.lower, place.upper) & ~active.held
        return _Active(active.held | out, step, jnp.any(out))

    start = _Active(
        jnp.zeros(place.point.shape, bool),
        jnp.zeros_like(place.point),
        jnp.asarray(True),
    )
    active = _while_loop(lambda active: active.grows, solve, start)
    target = place.point + active.step / place.unit
    modelled = _within(target, place)
    if bend is None:
        return Proposal(modelled, modelled, jnp.all(modelled == target))
    pull = _without(
        model._replace(gradient=bend(active.step / place.unit) / place.unit),
        active.held,
    )
    acceleration = _solve(pull, damping)
    size = jnp.linalg.norm(active.step)
    # What is not finite compares as false.
    is_small = 2 * jnp.linalg.norm(acceleration) <= _CURVED * size
    acceleration = jnp.where(is_small, acceleration, 0)
    target = target + 0.5 * acceleration / place.unit
    new = _within(target, place)
    return Proposal(new, modelled, jnp.all(new == target))


def _within(point: Array, place: Place) -> Array:
    if place.lower is not None:
        point = jnp.maximum(point, place.lower)
    if place.upper is not None:
        point = jnp.minimum(point, place.upper)
    return point


def _solve(model: Model, damping: Array) -> Array:
    """Return the step for one damping, in units of the scale."""
    root, gradient, _ = model
    p = gradient.size
    identity = jnp.eye(p, dtype=gradient.dtype)
    if p <= FEW_COLUMNS:
        edge = jnp.sqrt(damping) * identity
        triangle = jnp.linalg.qr(jnp.concatenate([root, edge]), mode="r")
        # Its inverse: one call of a library instead of four.
        inverse = solve_triangular(triangle, identity)

        def solve(right: Array) -> Array:
            return inverse @ (inverse.T @ right)
    else:
        # Less would be lost in the sums.
        damping = jnp.maximum(damping, 4 * p * jnp.finfo(gradient.dtype).eps)
        factor = cho_factor(root.T @ root + damping * identity)

        def solve(right: Array) -> Array:
            return cho_solve(factor, right)

    step = -solve(gradient)
    # One refinement makes up for solving through the square of the root.
    residual = -gradient - root.T @ (root @ step) - damping * step
    return step + solve(residual)


def _without(model: Model, held: Array) -> Model:
    """Return the model in the parameters that are not held."""
    return model._replace(
        root=jnp.where(held, 0, model.root), gradient=jnp.where(held, 0, model.gradient)
    )


@own
def _judge(
    model: Model,
    trial: Trial,
    proposal: Proposal,
    place: Place,
    value: Array,
) -> Trial:
    """Accept a step or not, and adapt the damping by the gain ratio."""
    new, whole = proposal.point, proposal.is_whole
    step = (proposal.modelled - place.point) * place.unit
    gain = place.value - value
    bent = model.root @ step
    predicted = -(model.gradient @ step + 0.5 * (bent @ bent))
    usable = jnp.isfinite(gain) & jnp.all(jnp.isfinite(new))
    ratio = jnp.where(usable, gain / predicted, -1.0)
    # Below rounding error the gain says nothing; the gradient still does.
    # (What a clipped step is predicted to lose is no rounding error.)
    in_noise = (predicted <= model.noise) & (whole | (predicted > 0))
    in_noise &= gain >= -model.noise
    accepted = usable & (((ratio > _ENOUGH) & (gain > 0)) | in_noise)
    # Nielsen's rule: continuous, and patient after failures.
    factor = jnp.where(in_noise, 0.1, jnp.maximum(0.1, 1 - (2 * ratio - 1) ** 3))
    return Trial(
        damping=trial.damping * jnp.where(accepted, factor, trial.growth),
        growth=jnp.where(accepted, 2.0, 2 * trial.growth),
        point=jnp.where(accepted, new, trial.point),
        accepted=accepted,
        in_noise=in_noise,
        tries=trial.tries + 1,
    )


def _while_loop(goes_on: Callable[[T], Any], body: Callable[[T], T], start: T) -> T:
    """
    Run a loop: `jax.lax.while_loop`, or Python's outside of a compiled function.

    There, JAX would compile a loop anew at each call, since its functions are new.
    """
    traced = [isinstance(goes_on(start), jax.core.Tracer)]
    traced += [isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(start)]
    if any(traced):
        return jax.lax.while_loop(goes_on, body, start)
    while goes_on(start):
        start = body(start)
    return start
