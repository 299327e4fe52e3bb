"""Fits with some entries held, from many points at once, as one program.

Profiles are made of these: the objective's lowest value for each value of one
parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from ._evaluation import Box, Evaluator
from ._structure import Numbers, Structure
from ._typing import Block, PyTree
from ._unpacking import internal_bounds, internal_start, user_values
from .optimizers._levenberg_marquardt import levenberg_marquardt
from .optimizers._linearisation import Linearisation, blank_linearisation, flat_bound

# So many steps are more than a neighbour's optimum is ever away.
MOST_STEPS = 200
# Farther out than so many of its values or standard errors, a parameter counts as at
# infinity: there, rounding makes objectives lower than they ever are. Others go there
# with one that is held very far out itself: by the square, beyond so many of its own.
_INFINITE, _FAR = 1e7, 100.0
# A step to a bound is rounded, and where the curvature has no end on the way there, as
# that of the mean of counts at 0, so is each of the next ones.
_ULPS = 4


class Held(NamedTuple):
    """Where fits with held entries have ended; each array has a row for each fit."""

    offset: Array  # of shape (k, p): from the start, in the optimiser's space
    entries: Array  # of shape (k, q): free and tied ones, in the user's units
    value: Array  # of shape (k,): the objective
    left: Array  # of shape (k,): what the rule of convergence compares
    stopped: Array  # of shape (k,): whether a bound kept a held entry from its place
    # Of shape (k, p): of the objective there, by held entries, too. None from a method
    # that has none.
    gradient: Array | None = None


class _State(NamedTuple):
    x: Array
    optimizer: Any
    value: Array
    gradient: Array
    linearisation: Any
    left: Array
    settled: Array  # how often in a row the rule held
    moved: Array
    steps: Array
    snaps: Array  # whether what comes next to a bound is put there


def make_value(
    at_state: Evaluator,
) -> Block[Array, None]:
    """
    Build the function that evaluates an objective at the start.

    Parameters
    ----------
    at_state : Evaluator
        The objective.

    Returns
    -------
    Block
        ``run(numbers, data)``, to be compiled.
    """
    structure = at_state.structure

    def run(numbers: Numbers, data: Any) -> Array:
        start = internal_start(structure, numbers)
        value: Array = at_state.objective(start, numbers, data)[0]
        return value

    return Block(run, lambda *_: None)


def make_constrained(
    at_state: Evaluator,
) -> Block[Held, None]:
    """
    Build the function that fits with entries held.

    Parameters
    ----------
    at_state : Evaluator
        The objective.

    Returns
    -------
    Block
        ``run(numbers, data, offsets, holds, tol, errors)``, to be compiled: offsets
        from the start, of shape (k, p), which entries to hold there, of the same shape,
        the tolerance, and the entries' standard errors, of shape (p,).
    """

    def run(
        numbers: Numbers,
        data: Any,
        offsets: Array,
        holds: Array,
        tol: Any,
        errors: Array,
    ) -> Held:
        fit = constrained_fit(at_state, numbers, Rule(tol), errors)
        return in_turn(lambda lane: fit(data, *lane), (offsets, holds))

    return Block(run, lambda *_: None)


def in_turn(function: Callable[[Any], Any], lanes: Any) -> Any:
    """Map over lanes: as for many starts, on a CPU they take turns."""
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, lanes)
    return jax.vmap(function)(lanes)


def flat_bounds(structure: Structure, numbers: Numbers, start: PyTree) -> list[Array]:
    """Return both bounds in the optimiser's space, in the order of `ravel_pytree`."""
    found = []
    for side in internal_bounds(structure, numbers):
        bound = flat_bound(side, start)
        assert bound is not None
        found.append(bound)
    return found


class Rule(NamedTuple):
    """
    When a fit has ended.

    Parameters
    ----------
    tol : scalar
        What is left of the gradient's terms, and the share of the objective that a step
        is predicted to gain, are no larger.
    gain : scalar, optional
        What a step gains itself may be as large as this, instead of that share.
    times : int, default=2
        How often in a row. Where all that is left may be rounding, the next step still
        has a digit or two.
    """

    tol: Any
    gain: Any = None
    times: int = 2

    def holds(self, value: Array, there: Linearisation) -> Array:
        """Tell whether it holds at a point."""
        if self.gain is None:
            return there.left <= self.tol
        is_small = there.gain * jnp.abs(value) <= self.gain
        return (there.optimality <= self.tol) & is_small


def constrained_fit(
    at_state: Evaluator, numbers: Numbers, rule: Rule, errors: Any = np.inf
) -> Callable[[Any, Array, Array], Held]:
    """
    Build the function that fits once, by Levenberg-Marquardt.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    numbers : dict
        Of the packed state.
    rule : Rule
        When a fit has ended.
    errors : array of shape (p,), optional
        The standard errors of the entries in the optimiser's space; infinite for one
        that may go anywhere.

    Returns
    -------
    callable
        Takes the data, an offset from the start, of shape (p,), and which entries to
        hold there, of the same shape.
    """
    structure = at_state.structure
    method = optax.with_extra_args_support(levenberg_marquardt())
    flat, unravel = ravel_pytree(internal_start(structure, numbers))
    lower, upper = flat_bounds(structure, numbers, unravel(flat))
    size = jnp.maximum(jnp.abs(flat), errors)

    def fit(data: Any, offset: Array, hold: Array) -> Held:
        away = jnp.where(hold & (size > 0), jnp.abs(offset) / size, 0)
        far = _INFINITE * jnp.max(away / _FAR, initial=1) ** 2 * size
        bounds = jnp.maximum(lower, -far), jnp.minimum(upper, far)
        start = jnp.clip(flat + offset, *bounds)
        eps = jnp.finfo(start.dtype).eps
        box = Box(
            unravel(jnp.where(hold, start, bounds[0])),
            unravel(jnp.where(hold, start, bounds[1])),
        )

        def evaluated(x: Array, before: Linearisation) -> tuple[Any, ...]:
            here = at_state.at(unravel(x), numbers, data, box, before)
            found = here.linearisation
            assert found is not None
            return here.value, ravel_pytree(here.gradient)[0], found

        def step(state: _State) -> _State:
            here = unravel(state.x)
            updates, memory = method.update(
                unravel(state.gradient),
                state.optimizer,
                here,
                value=state.value,
                value_fn=at_state.value_fn(here, numbers, data),
                lower=box.lower,
                upper=box.upper,
                linearisation=state.linearisation,
                **at_state.seen(here, numbers, data),
            )
            x = jnp.clip(
                state.x + ravel_pytree(updates)[0],
                ravel_pytree(box.lower)[0],
                ravel_pytree(box.upper)[0],
            )
            ahead = jnp.where(x < state.x, bounds[0], bounds[1])
            near = jnp.abs(x - ahead) <= _ULPS * eps * jnp.abs(start - ahead)
            near &= (x != state.x) & ~hold & state.snaps
            x = jnp.where(near, ahead, x)
            found = evaluated(x, state.linearisation)
            after = _after(
                x,
                memory,
                found,
                jnp.any(x != state.x),
                state.steps + 1,
                state.settled,
                state.snaps,
            )
            # Not a number compares as false.
            refused = jnp.any(near) & ~(found[0] <= state.value)
            again = state._replace(steps=state.steps + 1, snaps=jnp.asarray(False))
            chosen: _State = jax.tree.map(
                lambda old, new: jnp.where(refused, old, new), again, after
            )
            return chosen

        def _after(
            x: Array,
            memory: Any,
            found: tuple[Any, ...],
            moved: Any,
            steps: Any,
            settled: Any,
            snaps: Any,
        ) -> _State:
            value, gradient, linearisation = found
            left = linearisation.left
            return _State(
                x,
                memory,
                value,
                gradient,
                linearisation,
                left,
                jnp.where(rule.holds(value, linearisation), settled + 1, 0),
                moved,
                steps,
                snaps,
            )

        def goes_on(state: _State) -> Array:
            usable = jnp.isfinite(state.value) & (state.steps < MOST_STEPS)
            return usable & state.moved & (state.settled < rule.times)

        zero = jnp.zeros((), jnp.int32)
        begin = _after(
            start,
            method.init(unravel(start)),
            evaluated(start, blank_linearisation(start.size, start.dtype)),
            jnp.asarray(True),
            zero,
            zero,
            jnp.asarray(True),
        )
        end = jax.lax.while_loop(goes_on, step, begin)
        values = user_values(structure, numbers, unravel(end.x))
        places = structure.indices("free") + structure.indices("tied")
        entries = [jnp.ravel(jnp.asarray(values[i])) for i in places]
        stopped = jnp.any(hold & (start != flat + offset))
        return Held(
            end.x - flat,
            jnp.concatenate(entries),
            end.value,
            end.left,
            stopped,
            end.gradient,
        )

    return fit


def on_host(found: Held) -> Held:
    """Return the same as NumPy arrays."""
    arrays: Held = jax.tree.map(np.asarray, found)
    return arrays
