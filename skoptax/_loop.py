"""The optimisation loop as one pure function, a block of steps at a time.

`make_block` returns a function of arrays alone. It runs any number of steps
inside one `lax.while_loop` and hands back everything it needs to go on, so that
one compiled program serves every `max_steps`, every chunk size, with a callback
and without.

Inside, step k means the state after k updates. The loop evaluates loss and
gradient once at the start and once after each update, and the next update uses
that gradient. The first evaluation goes through the same code as all others: a
state that is *pending* is evaluated without being updated before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._assessment import (
    MOST_SETBACKS,
    OFF,
    RUNNING,
    Best,
    Control,
    Counts,
    Look,
    Score,
    assess,
    entries,
    shrinkage,
    where,
)
from ._convergence import Progress, measure
from ._epochs import Feed, judge
from ._evaluation import (
    Box,
    Evaluated,
    Evaluator,
    Values,
    differentiable_forward,
    like,
)
from ._tracing import own
from ._typing import Array, Block, PyTree
from ._unpacking import (
    active_gradient,
    hold_fixed_entries,
    internal_bounds,
    internal_start,
    project,
)
from .optimizers._levenberg_marquardt import find_state
from .optimizers._linearisation import Linearisation, blank_linearisation
from .optimizers._spec import with_extra_args

# A block of steps ends when its history is full. Optimisers that look at each
# prediction take few steps, and an array costs time by its size.
HISTORY_ROWS, FEW_HISTORY_ROWS = 4096, 256
# An optimiser that descends at every step starts anew so many steps after its last
# success, and again that many later. Sooner, it loses what it knows of narrow valleys.
RESTART_AT, RESTART_EVERY = 6, 10
# A loss that starts below this is given to a line search in units of its start.
TINY_LOSS = 1e-6


class Carry(NamedTuple):
    """All that one block hands to the next."""

    internal: PyTree  # free values, in the optimiser's space
    opt_state: PyTree
    aux: PyTree
    gradient: PyTree
    linearisation: Any  # Linearisation, or None if nothing looks at predictions
    values: Values  # at this state, in the user's units
    selected: Values  # what is to be returned
    counts: Array  # of shape (7,): Counts
    best: Array  # of shape (5,): Best
    now: Array  # of shape (5,): Progress, here
    start: Array  # and at step 0
    history: dict[str, Array]  # data type to (n_rows, n_columns)
    running: Any  # the losses of the epoch so far, as `judge` has them, or None


def usual_rows(optimizer: Any) -> int:
    """Return for how many steps the history of a block has place, usually."""
    return FEW_HISTORY_ROWS if optimizer.looks else HISTORY_ROWS


class Column(NamedTuple):
    """Where the history has a quantity."""

    key: Any  # "loss", "grad_norm", "learning_rate", or the position of a leaf
    dtype: str
    place: int


def make_block(
    at_state: Evaluator,
    optimizer: Any,
    *,
    history_rows: int,
    feed: Feed | None = None,
    shrinks_moves: bool = False,
) -> Block[Carry, tuple[Carry, list[Column]]]:
    """
    Build the loop for one objective and one optimiser.

    Parameters
    ----------
    at_state : Evaluator
        The objective.
    optimizer : OptimizerSpec or FinishedOptimizer
        Builds the Optax transformation inside of the trace.
    history_rows : int
        For how many steps a block has place.
    feed : Feed or None
        What the loss sees of the data, a `Fed`, at each step; ``None`` is all of it.
    shrinks_moves : bool, default=False
        Whether the loop itself shrinks the steps, as ``control.shrinks`` says. Where a
        learning rate does, nothing of it is in the program.

    Returns
    -------
    Block
        ``run(numbers, data, hyper, decisions, carry)``, to be compiled, and
        ``blank(numbers, data, hyper)``, which makes a carry to start from and says
        where the history has what.
    """
    structure, mode = at_state.structure, at_state.mode

    def seen_at(data: Any, step: Any) -> Any:
        return data if feed is None else feed.at(data, step)

    def looks(opt_state: PyTree) -> bool:
        """Tell whether the optimiser looks at each prediction, and can."""
        return at_state.parts is not None and find_state(opt_state) is not None

    def scalars(values: Values) -> dict[int, Any]:
        found = structure.split(values.free) | values.tied
        return {i: x for i, x in sorted(found.items()) if jnp.ndim(x) == 0}

    def row_of(
        hyper: Any,
        values: Values,
        value: Any,
        norm: Any,
        state: Any,
        k: Any,
        val_loss: Any,
        shrinks: Any,
    ) -> dict[Any, Any]:
        row = {"loss": value, "grad_norm": norm}
        rate = optimizer.learning_rate(hyper, state, k)
        if rate is not None and shrinks_moves:
            rate = (rate * _share(shrinks, rate.dtype)).astype(rate.dtype)
        if rate is not None:
            row["learning_rate"] = rate
        if feed is not None and feed.validates:
            row["val_loss"] = val_loss
        return row | scalars(values)

    def blank(numbers: Any, data: Any, hyper: Any) -> tuple[Carry, list[Column]]:
        internal = jax.eval_shape(lambda n: internal_start(structure, n), numbers)
        opt_state = jax.eval_shape(
            lambda h, i: optimizer.build(h).init(i), hyper, internal
        )
        value, (aux, values) = jax.eval_shape(
            at_state.objective,
            internal,
            numbers,
            jax.eval_shape(lambda d: seen_at(d, np.int32(0)), data),
        )
        linearisation = None
        if looks(opt_state):
            at_state.refuse_without_curvature()
            leaves = jax.tree.leaves(internal)
            dtype = jnp.result_type(*leaves)
            linearisation = blank_linearisation(sum(x.size for x in leaves), dtype)
        # Keys of both kinds cannot be sorted, as a pytree's are.
        names: list[Any] = []

        def list_row(*arguments: Any) -> list[Any]:
            row = row_of(*arguments)
            names.extend(row)
            return list(row.values())

        arguments = (hyper, values, value, value, opt_state, 0, value, 0)
        row = jax.eval_shape(list_row, *arguments)
        columns: list[Column] = []
        for name, entry in zip(names, row, strict=True):
            before = [c for c in columns if c.dtype == str(entry.dtype)]
            columns.append(Column(name, str(entry.dtype), len(before)))
        history: dict[str, Any] = {
            dtype: np.zeros((history_rows, len(list(group))), dtype)
            for dtype, group in groupby(
                sorted(columns, key=lambda c: c.dtype), key=lambda c: c.dtype
            )
        }
        # NumPy arrays: an eager JAX operation would compile a program of its own.
        start = _zeros(internal)
        # A line search takes any step from here, at once; infinity would make NaN.
        now = Progress(np.finfo(value.dtype).max / 4, 0.0, 0.0, 0.0, 0.0)
        carry = Carry(
            internal=start,
            opt_state=_zeros(opt_state),
            aux=_zeros(aux),
            gradient=start,
            linearisation=linearisation,
            values=_zeros(values),
            selected=_zeros(values),
            counts=np.zeros(len(Counts._fields), np.int32),
            best=np.array(Best(lowest=np.inf, selected=0.0), value.dtype),
            now=np.array(now, value.dtype),
            start=np.zeros(len(Progress._fields), value.dtype),
            history=history,
            running=None if feed is None else np.zeros(2, value.dtype),
        )
        # On the device once, not with every run.
        return jax.device_put(carry), columns

    def enter(numbers: Any, hyper: Any, control: Control, carry: Carry) -> Carry:
        """Put the host's decisions into what the previous block left."""
        start = internal_start(structure, numbers)
        internal = where(control.is_replaced, start, carry.internal)
        fresh = optimizer.build(hyper).init(start)
        # A replaced state is pending, and has another chance.
        kept = Counts(1, 0, 0, 1, 1, 1, 1)
        put = Counts(0, 1, RUNNING, 0, 0, 0, 0)
        again = carry.counts * np.array(kept, np.int32) + np.array(put, np.int32)
        return carry._replace(
            internal=internal,
            opt_state=where(control.is_start, fresh, carry.opt_state),
            counts=where(control.is_replaced, again, carry.counts),
        )

    def run(
        numbers: Any, data: Any, hyper: Any, decisions: tuple[Any, Any], carry: Carry
    ) -> Carry:
        control = Control.unpacked(*decisions)
        box = Box(*internal_bounds(structure, numbers))
        sees = looks(carry.opt_state)
        transformation = with_extra_args(optimizer.build(hyper))

        def loss_unit(carry: Carry) -> Any:
            """
            Return what the losses that a line search sees are multiplied by.

            It takes its first step in the gradient's own units, which is next to
            nothing where the loss is.
            """
            start = Progress(*entries(carry.start))
            size = jnp.abs(start.value)
            tiny = (control.stalled_after < OFF) & (size > 0) & (size < TINY_LOSS)
            # Not where it is rounding error, at the optimum of a fit without residuals.
            tiny &= start.sensitivity < 1 / TINY_LOSS
            return jnp.where(tiny, 1 / jnp.where(tiny, size, 1), 1)

        def take_step(carry: Carry, seen: Any) -> tuple[PyTree, PyTree]:
            unit = loss_unit(carry) if optimizer.descends else 1
            near = at_state.value_fn(carry.internal, numbers, seen)

            def value_fn(internal: PyTree) -> Any:
                return unit * near(internal)

            differentiable = (
                value_fn if mode == "rev" else differentiable_forward(value_fn)
            )
            extra: dict[str, Any] = {}
            # One that knows the bounds finds out by itself which of them are active.
            gradient = carry.gradient
            if sees:
                # Not for all: a line search refuses what it does not know.
                extra = at_state.seen(carry.internal, numbers, seen)
                extra |= {"lower": box.lower, "upper": box.upper}
                extra["linearisation"] = carry.linearisation
            else:
                gradient = active_gradient(carry.internal, gradient, *box)
            if optimizer.descends:
                gradient = jax.tree.map(lambda g: (unit * g).astype(g.dtype), gradient)
            updates, opt_state = transformation.update(
                gradient,
                carry.opt_state,
                carry.internal,
                value=unit * Progress(*entries(carry.now)).value,
                grad=gradient,
                value_fn=differentiable,
                **extra,
            )
            moved = project(optax.apply_updates(carry.internal, updates), *box)
            if shrinks_moves:
                moved = _shrunk(moved, carry.internal, control.shrinks)
            return hold_fixed_entries(
                structure, numbers, moved, carry.internal
            ), opt_state

        def with_restart(carry: Carry) -> Carry:
            """
            Forget what the optimiser has learnt, where it leads nowhere.

            Curvature that a line search gathered before the active bounds changed,
            or on a step that failed, can point uphill from then on.
            """
            counts = Counts(*entries(carry.counts))
            since = counts.step - counts.best_step
            lost = (control.stalled_after < OFF) & (since % RESTART_EVERY == RESTART_AT)
            fresh = transformation.init(carry.internal)
            return carry._replace(opt_state=where(lost, fresh, carry.opt_state))

        def body(carry: Carry, seen: Callable[[Any], Any]) -> Carry:
            counts = Counts(*entries(carry.counts))
            advance = counts.pending == 0
            moved, opt_state = take_step(
                with_restart(carry) if optimizer.descends else carry,
                seen_at(data, counts.step),
            )
            internal = where(advance, moved, carry.internal)
            opt_state = where(advance, opt_state, carry.opt_state)
            step = counts.step + advance
            before = carry.linearisation if sees else None
            here = at_state.at(internal, numbers, seen(step), box, before)
            value, values = here.value, here.values
            judged, score = None, None
            if feed is not None:
                judged = judge(
                    feed,
                    data.pace,
                    step,
                    value,
                    carry.running,
                    advance | (step == 0),
                    lambda: at_state.held_out_loss(values, numbers, data.held_out),
                )
                score = Score(judged.score, feed.validates)
            projected = active_gradient(internal, here.gradient, *box)
            now = measure(internal, projected, carry.internal, value, advance)
            val_loss = None if judged is None else judged.val_loss
            made = step - 1 + control.steps_before
            row = row_of(
                hyper,
                values,
                value,
                now.norm,
                opt_state,
                made,
                val_loss,
                control.shrinks,
            )
            verdict = assess(
                value,
                jax.tree.leaves(here.gradient),
                now,
                step,
                counts,
                carry,
                control,
                optimizer.descends,
                None if before is None else _look(here, before, opt_state, advance),
                score,
            )
            return Carry(
                internal=internal,
                opt_state=opt_state,
                aux=here.aux,
                gradient=here.gradient,
                linearisation=here.linearisation,
                values=values,
                selected=where(verdict.selects, values, carry.selected),
                counts=verdict.counts,
                best=verdict.best,
                now=verdict.now,
                start=verdict.start,
                history=_with_row(carry.history, step - control.first_row, row),
                running=None if judged is None else judged.running,
            )

        def goes_on(carry: Carry) -> Any:
            counts = Counts(*entries(carry.counts))
            return (counts.pending > 0) | (
                (counts.status == RUNNING) & (counts.step < control.stop_at)
            )

        def loop(goes_on: Callable[[Carry], Any], seen: Callable[[Any], Any]) -> Any:
            return lambda c: jax.lax.while_loop(
                goes_on, lambda c: like(body(c, seen), c), c
            )

        def next_step(carry: Carry) -> Any:
            counts = Counts(*entries(carry.counts))
            return counts.step + (counts.pending == 0)

        def pick_ahead(feed: Feed, carry: Carry) -> Carry:
            """Run the steps of which rows are picked at once."""
            first = next_step(carry)
            picked = feed.picked_ahead(data, first)
            end = first + feed.ahead(data)
            return loop(
                lambda c: goes_on(c) & (next_step(c) < end),
                lambda step: feed.of(picked, data, step),
            )(carry)

        begin = enter(numbers, hyper, control, carry)
        if feed is not None and feed.ahead(data) > 1:
            return jax.lax.while_loop(goes_on, partial(pick_ahead, feed), begin)
        return loop(goes_on, lambda step: seen_at(data, step))(begin)

    return Block(run, blank, shuffles=feed is not None and feed.shuffle)


def _share(shrinks: Any, dtype: Any) -> Any:
    """Return how long steps are that have been shrunk so many times."""
    return jnp.array([shrinkage(n) for n in range(MOST_SETBACKS + 1)], dtype)[shrinks]


def _shrunk(moved: PyTree, here: PyTree, shrinks: Any) -> PyTree:
    """
    Return a state as far on the way to another one as steps have been shrunk.

    What has not been shrunk is the other one itself: the sum that makes it rounds as it
    would without this.
    """

    def shorter(new: Any, old: Any) -> Any:
        step = _share(shrinks, new.dtype) * (new - old)
        return jnp.where(shrinks > 0, old + step, new).astype(new.dtype)

    return jax.tree.map(shorter, moved, here)


def _look(
    here: Evaluated, before: Linearisation, opt_state: PyTree, advance: Any
) -> Look:
    """Return what an optimiser knows that looks at each prediction."""
    linearisation, found = here.linearisation, find_state(opt_state)
    assert linearisation is not None and found is not None
    # With so large a damping the next update would try nothing else. (What is not
    # finite compares as false.)
    largest = 0.5 / jnp.finfo(found.damping.dtype).eps
    failed = ~found.accepted & ~(found.damping < largest)
    noise = linearisation.rounding(here.value)
    return Look(linearisation.left, before.left, noise, advance & failed)


@own
def _with_row(history: dict[str, Any], at: Any, row: dict[Any, Any]) -> dict[str, Any]:
    """Write one row of the history, the columns of each data type in their order."""
    entries = [jnp.asarray(entry) for entry in row.values()]
    return {
        dtype: jax.lax.dynamic_update_slice(
            rows,
            jnp.stack([entry for entry in entries if str(entry.dtype) == dtype])[None],
            (at, jnp.zeros_like(at)),
        )
        for dtype, rows in history.items()
    }


def _zeros(shapes: PyTree) -> PyTree:
    def zero(leaf: Any) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(zero, shapes)
