"""Fits to many resamples of the same rows, as one program.

Each fit starts next to the solution for all rows, and steps in units of that solution's
standard errors. What its objective is like there is known from the derivatives at the
solution, which all resamples share, and updates by its gradients correct that (BFGS): a
step costs one gradient, where one of Gauss and Newton's needs all derivatives of all
predictions.
What does not converge so, or meets a bound, is left to Levenberg and Marquardt's
method.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from ._constrained import Held, Rule, constrained_fit, flat_bounds, in_turn
from ._evaluation import Evaluator, value_and_grad
from ._structure import Numbers
from ._typing import Block
from ._unpacking import internal_start, user_values

# A resample that takes more gradients is left to the other method.
MOST_GRADIENTS = 30
# A step that does not descend is tried again, so many times shorter.
_SHORTER = 0.25
# A resample whose curvature differs by more than this is taken to be like the others.
_LIKE = 0.9
# Rounding changes a sum over the rows by so many units in its last place.
_ULPS = 16


class Resampled(NamedTuple):
    """Fits to resamples, and which of these may not determine all parameters."""

    fits: Held
    differs: Any  # of shape (k,): whether a resample's curvature is far from the rows'


class Shares(NamedTuple):
    """What a row of weight 1 adds at the solution, in units of standard errors."""

    curvature: Any  # of shape (m, r * r)
    slope: Any  # of shape (m, r)


class _Start(NamedTuple):
    z: Array  # of shape (r,), in standard errors from the solution
    inverse: Array  # of shape (r, r): about the inverse of the curvature there


class _State(NamedTuple):
    z: Array  # of shape (r,), in standard errors from the solution
    value: Array
    gradient: Array
    inverse: Array  # of shape (r, r): of the curvature
    step: Array  # the next one
    left: Array  # what the rule of convergence compares with the tolerance
    gradients: Array  # how many have been taken
    is_inside: Array


def make_resampled(
    at_state: Evaluator,
    *,
    place: int,
    together: int,
) -> Block[Resampled, None]:
    """
    Build the function that fits resamples near a solution.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    place : int
        Which of the data differs between resamples.
    together : int
        How many fits a CPU does side by side.

    Returns
    -------
    Block
        ``run(numbers, data, half, unit, tol, samples, shares)``, to be compiled. The
        objective times ``unit`` has the curvature 1 along each column of ``half``, of
        shape (p, r). ``samples`` of shape (k, ...) take the place of the data. If they
        are weights, and only then, ``shares`` may be a `Shares`, else an empty
        tuple: then each fit starts at the solution, and none is said to differ.
        ``left`` is infinite where a fit met a bound.
    """
    structure = at_state.structure

    def run(
        numbers: Numbers,
        data: Any,
        half: Array,
        unit: Array,
        tol: Array,
        samples: Array,
        shares: Shares | tuple[()],
    ) -> Resampled:
        flat, unravel = ravel_pytree(internal_start(structure, numbers))
        lower, upper = flat_bounds(structure, numbers, unravel(flat))
        eps = jnp.finfo(flat.dtype).eps

        def at(z: Array) -> Array:
            return flat + half @ z

        def fit(sample: Array, start: _Start) -> Held:
            sampled = _replaced(data, place, sample)

            def objective(z: Array) -> tuple[Array, tuple[()]]:
                value, _ = at_state.objective(unravel(at(z)), numbers, sampled)
                return unit * value, ()

            def evaluated(z: Array) -> tuple[Array, Array]:
                (value, _), gradient = value_and_grad(objective, at_state.mode)(z)
                return value, gradient

            def is_inside(z: Array) -> Array:
                x = at(z)
                return jnp.all((x >= lower) & (x <= upper))

            def body(state: _State) -> _State:
                z = state.z + state.step
                value, gradient = evaluated(z)
                slack = _ULPS * eps * jnp.abs(state.value)
                # Not a number compares as false.
                descends = value <= state.value + slack
                descends &= jnp.all(jnp.isfinite(gradient))
                inverse = _updated(state.inverse, state.step, gradient - state.gradient)
                step = -inverse @ gradient
                left = jnp.max(jnp.abs(jnp.stack([step, gradient])), initial=0.0)
                taken = _State(
                    z,
                    value,
                    gradient,
                    inverse,
                    step,
                    left,
                    state.gradients + 1,
                    is_inside(z),
                )
                refused = state._replace(
                    step=_SHORTER * state.step, gradients=state.gradients + 1
                )
                found: _State = jax.tree.map(
                    lambda a, b: jnp.where(descends, a, b), taken, refused
                )
                return found

            def goes_on(state: _State) -> Array:
                more = (state.left > tol) & (state.gradients < MOST_GRADIENTS)
                return more & state.is_inside

            value, gradient = evaluated(start.z)
            begin = _State(
                start.z,
                # The first step may go anywhere: the start is a guess.
                jnp.where(jnp.isfinite(value), value, jnp.inf),
                gradient,
                start.inverse,
                -start.inverse @ gradient,
                jnp.max(jnp.abs(gradient), initial=0.0),
                jnp.asarray(1),
                is_inside(start.z),
            )
            end = jax.lax.while_loop(goes_on, body, begin)
            # What is left to do is known, and too little to be evaluated.
            z = jnp.where(end.left <= tol, end.z + end.step, end.z)
            values = user_values(structure, numbers, unravel(at(z)))
            places = structure.indices("free") + structure.indices("tied")
            entries = [jnp.ravel(jnp.asarray(values[i])) for i in places]
            left = jnp.where(end.is_inside & is_inside(z), end.left, jnp.inf)
            return Held(
                half @ z,
                jnp.concatenate(entries),
                end.value / unit,
                left,
                jnp.asarray(False),
            )

        def side_by_side(some: Array) -> Resampled:
            starts, differs = _starts(some, data[place], shares, half)
            return Resampled(jax.vmap(fit)(some, starts), differs)

        if jax.default_backend() != "cpu":
            return side_by_side(samples)
        # So many that their arrays stay in a processor's own memory.
        found = jax.lax.map(
            side_by_side, samples.reshape(-1, together, *samples.shape[1:])
        )
        joined: Resampled = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
        return joined

    return Block(run, lambda *_: None, side_by_side=together > 1)


def _starts(
    samples: Array, weights: Array, shares: Shares | tuple[()], half: Array
) -> tuple[_Start, Array]:
    """
    Return where the fits to some resamples start, and which curvatures differ by much.

    A resample of rows has their slopes and curvatures at the solution, in other
    proportions: one step of Newton's is known before anything is evaluated.
    """
    k, r = len(samples), half.shape[1]
    identity = jnp.eye(r, dtype=half.dtype)
    if not shares:
        start = _Start(
            jnp.zeros((k, r), half.dtype), jnp.broadcast_to(identity, (k, r, r))
        )
        return start, jnp.zeros(k, bool)
    change = samples - weights
    away = (change @ shares.curvature).reshape(k, r, r)
    size = jnp.sqrt(jnp.sum(away**2, axis=(1, 2), keepdims=True))
    differs = size > _LIKE
    away = jnp.where(differs, 0, away)
    # The inverse of identity plus this, nearly; positive in any case.
    inverse = identity - away + away @ away
    z = -inverse @ (change @ shares.slope)[:, :, None]
    return _Start(z[:, :, 0], inverse), differs[:, 0, 0]


def make_resampled_by_lm(
    at_state: Evaluator,
    *,
    place: int,
) -> Block[Held, None]:
    """
    Build the function that fits resamples wherever their optimum is.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    place : int
        As for `make_resampled`.

    Returns
    -------
    Block
        ``run(numbers, data, holds, tol, samples)``, to be compiled; fits whose
        entries are all held, by ``holds`` of shape (k, p), cost next to nothing.
    """

    def run(
        numbers: Numbers,
        data: Any,
        holds: Array,
        tol: Array,
        samples: Array,
    ) -> Held:
        fit = constrained_fit(at_state, numbers, Rule(tol))
        nowhere = jnp.zeros(holds.shape[1], tol.dtype)

        def one(lane: tuple[Array, Array]) -> Held:
            hold, sample = lane
            return fit(_replaced(data, place, sample), nowhere, hold)

        found: Held = in_turn(one, (holds, samples))
        return found

    return Block(run, lambda *_: None)


def _replaced(data: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*data[:place], value, *data[place + 1 :])


def _updated(inverse: Array, step: Array, change: Array) -> Array:
    """Return Broyden, Fletcher, Goldfarb and Shanno's update, if there is curvature."""
    along = step @ change
    usable = along > 0
    rate = jnp.where(usable, 1 / jnp.where(usable, along, 1), 0)
    moved = inverse @ change
    outer = step[:, None] * moved
    again = rate * (1 + rate * (change @ moved)) * step[:, None] * step
    return inverse - rate * (outer + outer.T) + again
