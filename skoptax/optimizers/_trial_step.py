r"""One step of Levenberg-Marquardt: trials, each shorter than the one before.

A trial goes to the lowest point of the quadratic model within a radius, in units of the
scale :math:`D`, and within bounds: :math:`(H + \lambda D^2)\, p = -g`. It is judged by
what it gains of what the model has predicted, and the radius follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from .._tracing import own
from ._linearisation import Linearisation, held_at
from ._trust_region import (
    Curvature,
    Step,
    damped,
    factorised,
    lowest_within,
    while_loop,
)

# A step that gains less than this share of what was predicted is not taken.
_ENOUGH = 1e-4
# Up to this share the radius shrinks; from this one on it grows, to so many times the
# step.
_POOR, _GOOD, _GROWTH = 0.25, 0.75, 2.0
# Steps that are so short beside the parameters grow faster: a fit that has come close
# to a saddle point leaves it before it looks stalled.
_TINY, _LEAP = 1e-4, 10.0
# An acceleration of more than this share of the step is not trusted (Transtrum and
# Sethna 2012).
_CURVED = 0.75


class Model(NamedTuple):
    """The quadratic model at a point, in units of the scale."""

    root: Array  # the curvature is root.T @ root
    gradient: Array
    noise: Array  # what the objective may change by rounding alone
    size: Array  # what it is summed from
    last: Array  # the damping of the step before


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
    is_inside: Array  # no bound cuts it off
    step: Step


class _Active(NamedTuple):
    """The bounds that a step would cross."""

    held: Array
    step: Step  # with these parameters held
    grows: Array  # it crosses others


class Trial(NamedTuple):
    radius: Array
    damping: Array
    point: Array
    accepted: Array
    in_noise: Array  # the objective cannot judge it
    tries: Array


def search(
    objective: Callable[[Array], Array],
    place: Place,
    gradient: Array,
    here: Linearisation,
    radius: Array,
    damping: Array,
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
    radius : scalar
        How long the first trial may be, in units of the scale.
    damping : scalar
        That of the step before.
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
    unit, size = place.unit, here.noise + jnp.abs(place.value)
    held = held_at(place.point, gradient, place.lower, place.upper)
    model = _without(
        Model(
            here.root / unit,
            gradient / unit,
            here.rounding(place.value),
            size,
            damping,
        ),
        held,
    )

    is_bounded = place.lower is not None or place.upper is not None
    curvature = None if is_bounded else factorised(model.root, size, damping)

    def attempt(trial: Trial) -> Trial:
        new = _proposal(model, curvature, trial.radius, place, bend)
        return _judge(model, trial, new, place, objective(new.point))

    start = Trial(
        radius,
        jnp.zeros_like(radius),
        place.point,
        jnp.asarray(False),
        jnp.asarray(False),
        jnp.asarray(0, jnp.int32),
    )
    return while_loop(
        lambda trial: ~trial.accepted & (trial.tries < most), attempt, start
    )


@own
def _proposal(
    model: Model,
    curvature: Curvature | None,
    radius: Array,
    place: Place,
    bend: Callable[[Array], Array] | None,
) -> Proposal:
    """Return where a step leads."""
    if curvature is None:
        held, step = _within_bounds(model, radius, place)
    else:
        held = jnp.zeros(place.point.shape, bool)
        step = lowest_within(curvature, model.gradient, radius)
    target = place.point + step.step / place.unit
    modelled = _within(target, place)
    if bend is None:
        return Proposal(modelled, modelled, jnp.all(modelled == target), step)
    if curvature is None:
        curvature = factorised(_without(model, held).root, model.size, model.last)
    pull = jnp.where(held, 0, bend(step.step / place.unit) / place.unit)
    acceleration = damped(curvature, step.damping, pull)
    # What is not finite compares as false.
    is_small = 2 * jnp.linalg.norm(acceleration) <= _CURVED * step.length
    acceleration = jnp.where(is_small, acceleration, 0)
    target = target + 0.5 * acceleration / place.unit
    new = _within(target, place)
    return Proposal(new, modelled, jnp.all(new == target), step)


def _within_bounds(model: Model, radius: Array, place: Place) -> tuple[Array, Step]:
    """Return which parameters a step would push out, and a step without these."""

    def solve(active: _Active) -> _Active:
        free = _without(model, active.held)
        step = lowest_within(
            factorised(free.root, free.size, free.last), free.gradient, radius
        )
        # What the step would push out of the box is held, too.
        out = held_at(place.point, -step.step, place.lower, place.upper) & ~active.held
        return _Active(active.held | out, step, jnp.any(out))

    zero = jnp.zeros_like(place.point)
    none = Step(zero, zero[0], zero[0], jnp.asarray(False))
    start = _Active(jnp.zeros(place.point.shape, bool), none, jnp.asarray(True))
    active = while_loop(lambda active: active.grows, solve, start)
    return active.held, active.step


def _within(point: Array, place: Place) -> Array:
    if place.lower is not None:
        point = jnp.maximum(point, place.lower)
    if place.upper is not None:
        point = jnp.minimum(point, place.upper)
    return point


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
    """Accept a step or not, and adapt the radius by the gain ratio."""
    new, inside = proposal.point, proposal.is_inside
    step = (proposal.modelled - place.point) * place.unit
    gain = place.value - value
    bent = model.root @ step
    predicted = -(model.gradient @ step + 0.5 * (bent @ bent))
    usable = jnp.isfinite(gain) & jnp.all(jnp.isfinite(new))
    # A step cut off by bounds may be predicted to lose.
    ratio = jnp.where(usable & (predicted > 0), gain / predicted, -1.0)
    # Below rounding error the gain says nothing; the gradient still does.
    # (What a clipped step is predicted to lose is no rounding error.)
    in_noise = (predicted <= model.noise) & (inside | (predicted > 0))
    in_noise &= gain >= -model.noise
    accepted = usable & (((ratio > _ENOUGH) & (gain > 0)) | in_noise)
    return Trial(
        radius=_radius(trial, proposal.step, place, ratio, in_noise),
        damping=proposal.step.damping,
        point=jnp.where(accepted, new, trial.point),
        accepted=accepted,
        in_noise=in_noise,
        tries=trial.tries + 1,
    )


def _radius(
    trial: Trial, step: Step, place: Place, ratio: Array, in_noise: Array
) -> Array:
    """Return how long the next step may be (Moré's rules, but for what is noise)."""
    length = jnp.where(jnp.isfinite(step.length), step.length, trial.radius)
    # Trial by trial it shrinks more, so that a few lead far.
    share = jnp.where(ratio > 0, 0.5, _POOR / (1 + trial.tries))
    shrunk = share * jnp.minimum(trial.radius, 10 * length)
    is_tiny = length < _TINY * jnp.linalg.norm(place.unit * place.point)
    growth = jnp.where(is_tiny & (ratio >= _GOOD) & ~in_noise, _LEAP, _GROWTH)
    grown = jnp.where(length > 0, growth * length, trial.radius)
    is_good = in_noise | (ratio >= _GOOD) | ((ratio > _POOR) & step.is_whole)
    return jnp.where(is_good, grown, jnp.where(ratio > _POOR, trial.radius, shrunk))
