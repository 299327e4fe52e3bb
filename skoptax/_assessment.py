"""What the loop decides after each step: what is best, what to return, whether to end.

The scalars of the loop travel in few vectors: a compiled loop runs one kernel for each
scalar of its own, and these are what a step over few rows and parameters costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._convergence import Progress, has_converged
from ._tracing import own
from ._typing import Array, PyTree

# Why the loop ended by itself; 0 while it goes on.
RUNNING, CONVERGED, NON_FINITE, NO_IMPROVEMENT, STALLED = range(5)


# A loss that is lower by this share of it is clearly lower.
CLEARLY = 1e-9
# A number of steps that is never reached: the rule does not apply.
OFF = np.iinfo(np.int32).max
# How often a run goes back from a state that is not finite, each time with steps ten
# times shorter.
MOST_SETBACKS = 10


def shrinkage(shrinks: int) -> float:
    """Return how long steps are that have been shrunk so many times."""
    return float(10.0**-shrinks)


class Control(NamedTuple):
    """What the host decides before each block; all of it is traced."""

    is_start: Any  # begin with a new optimiser state
    is_replaced: Any  # the values are new: evaluate them before the next update
    stop_at: Any  # the step at which to come back
    first_row: Any  # the step that the first row of the history block belongs to
    patience: Any  # steps without a new best loss, or OFF
    stalled_after: Any  # the same for an optimiser that descends at every step
    steps_before: Any  # that the optimiser has made in earlier runs
    shrinks: Any  # how often the steps have been shrunk
    resumed_at: Any  # the step of the last setback: patience does not begin before it
    tol: Any  # 0 is off

    def packed(self) -> tuple[np.ndarray, float]:
        """Return all of it in two arguments: a call takes longer with each."""
        return np.array(self[:-1], np.int32), float(self.tol)

    @classmethod
    def unpacked(cls, integers: Any, tol: Any) -> Control:
        """Undo `packed`, inside of a program."""
        starts, replaced, *others = entries(integers)
        stop_at, first_row, patience, stalled, before, shrinks, resumed_at = others
        return cls(
            starts != 0,
            replaced != 0,
            stop_at,
            first_row,
            patience,
            stalled,
            before,
            shrinks,
            resumed_at,
            tol,
        )


class Counts(NamedTuple):
    """The loop's integers."""

    step: Any
    pending: Any  # 1 if the state is to be evaluated, not updated
    status: Any
    best_step: Any
    selected_step: Any
    progress_step: Any  # the last one that was clearly better than those before
    score_step: Any  # that of the best score


class Best(NamedTuple):
    """The losses that the loop remembers."""

    lowest: Any
    selected: Any
    # Of the last step that was clearly better: the loss, and a `Look`'s optimality.
    value: Any = np.inf
    optimality: Any = np.inf
    score: Any = np.inf


class Look(NamedTuple):
    """What an optimiser knows that looks at each prediction."""

    optimality: Any  # of the state, as `Linearisation` has it
    before: Any  # of the state before
    noise: Any  # what rounding may change the loss by
    failed: Any  # the last update has found no step


class Score(NamedTuple):
    """What a state is judged by, where that is not its own loss."""

    value: Any  # infinite where there is none
    selects: bool  # whether the best one is returned


class Verdict(NamedTuple):
    """What follows from a step."""

    selects: Any  # whether to return this state, unless a later one is selected
    counts: Array
    best: Array
    now: Array
    start: Array


@own
def assess(
    value: Any,
    gradient: list[Any],
    now: Progress,
    step: Any,
    counts: Counts,
    carry: Any,
    control: Control,
    descends: bool,
    look: Look | None = None,
    score: Score | None = None,
) -> Verdict:
    """
    Compare a state with those before it.

    Parameters
    ----------
    value : scalar
        The loss.
    gradient : list of array
        All of it, where bounds are active, too.
    now : Progress
        How far the state is from an optimum.
    step : int
        Its number.
    counts : Counts
        Of the state before.
    carry : Carry
        ``counts``, ``best``, ``now`` and ``start`` of it, as arrays.
    control : Control
        The host's rules.
    descends : bool
        Whether the optimiser lowers the loss at every step.
    look : Look or None
        Of an optimiser that has one, which has a rule of convergence of its own.
    score : Score or None
        What patience and selection go by, if not by the loss.

    Returns
    -------
    Verdict
        The scalars of the next carry.
    """
    best = Best(*entries(carry.best))
    # Entry by entry: the norm of finite entries may overflow.
    finite = jnp.isfinite(value) & all_finite(gradient)
    now_vector = vector(now, carry.now)
    # A run that goes on from another one keeps the start of that.
    is_first = (step == 0) & (control.steps_before == 0)
    start = where(is_first, now_vector, carry.start)
    better = finite & (value < best.lowest)
    lowest = where(better, value, best.lowest)
    # Close to an optimum the loss is flat to rounding error, and a later state has more
    # digits; one that is clearly higher is a way gone wrong.
    slack = jnp.sqrt(jnp.finfo(value.dtype).eps) * jnp.abs(lowest)
    if look is not None:
        # Where residuals are next to nothing, rounding is no small share of the loss.
        slack = jnp.maximum(slack, look.noise)
    is_good = finite & (value <= lowest + slack)
    if look is None:
        converged = is_good & has_converged(now, Progress(*entries(start)), control.tol)
    else:
        # Twice in a row: where all that is left may be rounding error, the next step
        # still has a digit or two, and costs little.
        again = (look.before <= control.tol) | (step == 0)
        converged = is_good & (look.optimality <= control.tol) & again
    best_step = where(better, step, counts.best_step)
    since_best = step - best_step
    last_best, score_step, best_score = best_step, counts.score_step, best.score
    if score is not None:
        # At the start there may be none to compare with. What a callback has put in
        # place of the best state takes over its part.
        is_other = (step == score_step) if score.selects else (step == 0)
        improves = finite & ((score.value < best_score) | is_other)
        best_score = where(improves, score.value, best_score)
        score_step = where(improves, step, score_step)
        last_best = score_step
    # Steps that a setback has undone are none without improvement.
    lasting = step - jnp.maximum(last_best, control.resumed_at)
    # The later ones go before the earlier ones.
    reasons = [
        (NO_IMPROVEMENT, lasting >= control.patience),
        (CONVERGED, (control.tol > 0) & converged),
        (NON_FINITE, ~finite),
    ]
    selects = finite
    if descends:
        reasons.insert(1, (STALLED, since_best >= control.stalled_after))
        selects &= is_good | (control.stalled_after == OFF)
    if score is not None and score.selects:
        selects = improves
    progress_step, mark, level = counts.progress_step, best.value, best.optimality
    if look is not None:
        # In its last steps the loss is flat, and only the gradient still falls.
        gains = finite & (
            (value < mark - CLEARLY * jnp.abs(mark)) | (look.optimality < level / 2)
        )
        mark = where(gains, value, mark)
        level = where(gains, look.optimality, level)
        progress_step = where(gains, step, progress_step)
        idle = step - progress_step >= control.stalled_after
        reasons.insert(1, (STALLED, look.failed | idle))
    status = jnp.asarray(RUNNING, step.dtype)
    for code, holds in reasons:
        status = where(holds, code, status)
    new = Counts(
        step=step,
        pending=0,
        status=status,
        best_step=best_step,
        selected_step=where(selects, step, counts.selected_step),
        progress_step=progress_step,
        score_step=score_step,
    )
    kept = Best(lowest, where(selects, value, best.selected), mark, level, best_score)
    return Verdict(
        selects,
        vector(new, carry.counts),
        vector(kept, carry.best),
        now_vector,
        start,
    )


def vector(scalars: Sequence[Any], like: Any) -> Any:
    """Return scalars as an array of the type of another."""
    return jnp.stack([jnp.asarray(x).astype(like.dtype) for x in scalars])


def entries(array: Any) -> list[Any]:
    """
    Return the entries of a vector: undo `vector`.

    JAX takes an array that is unpacked apart by an operation for each entry.
    """
    parts = jax.lax.split(array, (1,) * len(array))
    return [jax.lax.squeeze(part, (0,)) for part in parts]


def where(condition: Any, new: PyTree, old: PyTree) -> PyTree:
    """Return one of two pytrees, in the types of the second."""

    # `jnp.where` is a compiled function of its own, which JAX would trace anew for
    # each program.
    def select(n: Any, o: Any) -> Any:
        o = jnp.asarray(o)
        n = jnp.broadcast_to(jnp.asarray(n).astype(o.dtype), o.shape)
        return jax.lax.select_n(condition, o, n)

    return jax.tree.map(select, new, old)


def all_finite(tree: PyTree) -> Any:
    """
    Tell whether every entry is finite.

    Not by the largest entry: on a CPU, a maximum may pass over NaN.
    """
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
