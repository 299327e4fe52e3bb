"""Fits with one entry held ever closer to where a statistic has a value.

What decides is on the host: a program makes the few trials that lead to the end of most
intervals, and says what each of them has found.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ._constrained import Held, Rule, constrained_fit, in_turn
from ._evaluation import Evaluator
from ._extrapolation import Known, bend, bent, inverse_cubic
from ._structure import Numbers
from ._typing import Block
from ._unpacking import internal_start
from .optimizers._optimality import NEAR

# A trial that has found no more than so many times the wanted one says where the next
# one begins.
TRUSTED = 1.5
# Of these digits, what a step more of a fit may still change.
_LEFT = 0.1
# So many trials bring most ends.
AT_ONCE = 3


class Aim(NamedTuple):
    """What is looked for, and where; each array has a row for each search."""

    reach: Any  # of shape (k,): the statistic
    digits: Any  # of shape (k,): the share of it that it may be away
    at: Any  # of shape (k,): the first trial, in units of the direction
    start: Any  # of shape (k, p): where its fit begins, from the solution
    hold: Any  # of shape (k, p): which entries are held
    direction: Any  # of shape (k, p): how all entries move at the solution
    before: Known  # what is known already
    low: Any  # of shape (k,): where the statistic is known to be smaller
    high: Any  # of shape (k,): and larger; all trials are between these
    most: Any  # of shape (k,): how many trials at most, up to `AT_ONCE`


class Trials(NamedTuple):
    """What trials have found, in their order."""

    at: Array  # of shape (k, AT_ONCE)
    held: Held  # its arrays have these axes in front
    made: Array  # of shape (k,): how many


class Searched(NamedTuple):
    """What searches have found."""

    trials: Trials
    base: Array  # the objective at the solution


class _State(NamedTuple):
    at: Array
    start: Array
    before: Known
    low: Array
    high: Array
    found: Trials
    goes_on: Array


def make_searched(at_state: Evaluator) -> Block[Searched, None]:
    """
    Build the function that looks for where a statistic has a value.

    Parameters
    ----------
    at_state : Evaluator
        The objective.

    Returns
    -------
    Block
        ``run(numbers, data, tol, errors, rate, aims)``, to be compiled: tolerance and
        standard errors as for `make_constrained`; the statistic is the root of ``rate``
        times what the objective has risen by.
    """

    def run(
        numbers: Numbers,
        data: Any,
        tol: Any,
        errors: Array,
        rate: Any,
        aims: Aim,
    ) -> Searched:
        start = internal_start(at_state.structure, numbers)
        base: Array = at_state.objective(start, numbers, data)[0]

        def one(aim: Aim) -> Trials:
            # What is left of the other entries' way changes the objective by its
            # square, and of them nothing else is looked at.
            gain = _LEFT * aim.digits * aim.reach**2 / rate
            rule = Rule(jnp.maximum(tol, NEAR), gain, times=1)
            fit = constrained_fit(at_state, numbers, rule, errors)

            def tried(state: _State) -> _State:
                at = state.at
                place = jnp.where(aim.hold, at * aim.direction, state.start)
                held = fit(data, place, aim.hold)
                rise = rate * (held.value - base)
                tau = jnp.sign(rise) * jnp.sqrt(jnp.abs(rise))
                steep = jnp.sum(jnp.where(aim.hold, held.gradient * aim.direction, 0))
                # The others' derivatives are 0 there.
                new = Known(at, tau, 0.5 * rate * steep / tau, held.offset)
                ahead = inverse_cubic(aim.reach, new, state.before)
                # What is not a number compares as false.
                usable = jnp.abs(tau - aim.reach) > aim.digits * aim.reach
                usable &= (tau > 0) & (tau <= TRUSTED * aim.reach) & ~held.stopped
                usable &= (new.slope > 0) & (state.before.slope > 0)
                low = jnp.where(tau < aim.reach, at, state.low)
                high = jnp.where(tau < aim.reach, state.high, at)
                usable &= (ahead > low) & (ahead < high) & (ahead <= 2 * at)
                found = _with(state.found, at, held)
                return _State(
                    ahead,
                    _start(ahead, aim.direction, new, state.before),
                    new,
                    low,
                    high,
                    found,
                    usable & (found.made < aim.most),
                )

            shapes = jax.eval_shape(fit, data, aim.start, aim.hold)
            rows = jax.tree.map(
                lambda x: jnp.zeros((AT_ONCE, *x.shape), x.dtype), shapes
            )
            none = Trials(
                jnp.zeros(AT_ONCE, aim.at.dtype), rows, jnp.zeros((), jnp.int32)
            )
            begin = _State(
                aim.at, aim.start, aim.before, aim.low, aim.high, none, aim.most > 0
            )
            return jax.lax.while_loop(lambda s: s.goes_on, tried, begin).found

        return Searched(in_turn(one, aims), base)

    return Block(run, lambda *_: None)


def _start(at: Array, direction: Array, new: Known, old: Known) -> Array:
    """Return where the fit at a trial begins, by the last ones."""
    apart = old.at - new.at
    is_other = (old.at > 0) & (apart != 0)
    known = old._replace(at=jnp.where(is_other, old.at, 1))
    change = bend(direction, known) - bend(direction, new)
    change = jnp.where(is_other, change / jnp.where(is_other, apart, 1), 0)
    return bent(at, direction, new, change)


def _with(found: Trials, at: Array, held: Held) -> Trials:
    """Write down one trial more."""
    return Trials(
        found.at.at[found.made].set(at),
        jax.tree.map(lambda all, one: all.at[found.made].set(one), found.held, held),
        found.made + 1,
    )
