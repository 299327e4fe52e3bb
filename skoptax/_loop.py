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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._convergence import Progress, has_converged, measure
from ._packing import Structure
from ._typing import Array, PyTree
from ._unpacking import (
    active_gradient,
    build_state,
    hold_fixed_entries,
    internal_bounds,
    internal_start,
    project,
    user_values,
)

HISTORY_ROWS = 1024
# An optimiser that descends at every step starts anew so many steps after its last
# success, and again that many later. Sooner, it loses what it knows of narrow valleys.
RESTART_AT, RESTART_EVERY = 6, 10
# A loss that starts below this is given to a line search in units of its start.
TINY_LOSS = 1e-6

# Why the loop ended by itself; 0 while it goes on.
RUNNING, CONVERGED, NON_FINITE, NO_IMPROVEMENT, STALLED = range(5)


class Control(NamedTuple):
    """What the host decides before each block; all of it is traced."""

    is_start: Any  # begin with a new optimiser state
    is_replaced: Any  # the values are new: evaluate them before the next update
    stop_at: Any  # the step at which to come back
    first_row: Any  # the step that the first row of the history block belongs to
    tol: Any  # 0 is off
    patience: Any  # steps without a new best loss, 0 is off
    stalled_after: Any  # the same for an optimiser that descends at every step


class Carry(NamedTuple):
    """All that one block hands to the next."""

    internal: PyTree  # free values, in the optimiser's space
    opt_state: PyTree
    value: Array
    aux: PyTree
    gradient: PyTree
    step: Array
    pending: Array
    status: Array
    now: Progress  # what the rule of convergence looks at, here
    start: Progress  # and at step 0
    best_value: Array
    best_step: Array
    selected: PyTree  # (internal, value, step) of the state to be returned
    history: PyTree


class Report(NamedTuple):
    """What the host reads off a block's end, in the user's units."""

    values: dict[int, Array]
    selected_values: dict[int, Array]


class Block(NamedTuple):
    """The loop for one structure."""

    run: Callable[..., tuple[Carry, Report]]
    blank: Callable[..., Carry]


def make_block(
    loss: Callable[..., Any],
    structure: Structure,
    optimizer: Any,
    mode: str,
    has_aux: bool,
) -> Block:
    """Build the loop for one loss, one optimiser and one structure of the state.

    Parameters
    ----------
    loss : callable
        ``loss(state, *data) -> scalar`` or ``(scalar, aux)``.
    structure : Structure
        Of the packed state.
    optimizer : OptimizerSpec
        Builds the Optax transformation inside of the trace.
    mode : {"rev", "fwd"}
        The differentiation mode.
    has_aux : bool
        Whether the loss returns auxiliary data.

    Returns
    -------
    Block
        ``run(numbers, data, hyper, control, carry)``, to be compiled, and
        ``blank(numbers, data, hyper)``, which makes a carry to start from.
    """

    def objective(internal: PyTree, numbers: Any, data: Any) -> tuple[Any, Any]:
        values = user_values(structure, numbers, internal)
        result = loss(build_state(structure, numbers, values), *data)
        value, aux = result if has_aux else (result, ())
        return jnp.asarray(value), aux

    def evaluate(internal: PyTree, numbers: Any, data: Any) -> tuple[Any, Any, Any]:
        (value, aux), gradient = value_and_grad(objective, mode)(
            internal, numbers, data
        )
        zeros = jax.tree.map(jnp.zeros_like, gradient)
        return value, aux, hold_fixed_entries(structure, numbers, gradient, zeros)

    def scalars(values: dict[int, Any]) -> dict[int, Any]:
        return {i: values[i] for i in shown if jnp.ndim(values[i]) == 0}

    shown = structure.indices("free", "tied")

    def row_of(
        numbers: Any,
        hyper: Any,
        internal: Any,
        value: Any,
        norm: Any,
        state: Any,
        k: Any,
    ) -> dict[str, Any]:
        row = {"loss": value, "grad_norm": norm}
        rate = optimizer.learning_rate(hyper, state, k)
        if rate is not None:
            row["learning_rate"] = rate
        row["values"] = scalars(user_values(structure, numbers, internal))
        return row

    def blank(numbers: Any, data: Any, hyper: Any) -> Carry:
        internal = jax.eval_shape(lambda n: internal_start(structure, n), numbers)
        value, aux = jax.eval_shape(objective, internal, numbers, data)
        opt_state = jax.eval_shape(
            lambda h, i: optimizer.build(h).init(i), hyper, internal
        )
        row = jax.eval_shape(
            row_of, numbers, hyper, internal, value, value, opt_state, 0
        )
        history = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((HISTORY_ROWS, *x.shape), x.dtype), row
        )
        # NumPy arrays: an eager JAX operation would compile a program of its own.
        count = np.zeros((), dtype=np.int32)
        flag = np.zeros((), dtype=bool)
        zero = _zeros(value)
        infinite = np.asarray(np.inf, dtype=value.dtype)
        start = _zeros(internal)
        return Carry(
            internal=start,
            opt_state=_zeros(opt_state),
            # A line search takes any step from here, at once; infinity would make NaN.
            value=np.asarray(np.finfo(value.dtype).max / 4, dtype=value.dtype),
            aux=_zeros(aux),
            gradient=start,
            step=count,
            pending=flag,
            status=count,
            now=Progress(*[zero] * len(Progress._fields)),
            start=Progress(*[zero] * len(Progress._fields)),
            best_value=infinite,
            best_step=count,
            selected=(start, zero, count),
            history=_zeros(history),
        )

    def enter(numbers: Any, hyper: Any, control: Control, carry: Carry) -> Carry:
        """Put the host's decisions into what the previous block left."""
        start = internal_start(structure, numbers)
        internal = _where(control.is_replaced, start, carry.internal)
        fresh = optimizer.build(hyper).init(start)
        return carry._replace(
            internal=internal,
            opt_state=_where(control.is_start, fresh, carry.opt_state),
            pending=jnp.asarray(control.is_replaced),
            # A replaced state has another chance.
            status=jnp.where(control.is_replaced, RUNNING, carry.status),
        )

    def run(
        numbers: Any, data: Any, hyper: Any, control: Control, carry: Carry
    ) -> tuple[Carry, Report]:
        lower, upper = internal_bounds(structure, numbers)
        transformation = optax.with_extra_args_support(optimizer.build(hyper))

        def take_step(carry: Carry) -> tuple[PyTree, PyTree]:
            def value_fn(internal: PyTree) -> Any:
                held = hold_fixed_entries(structure, numbers, internal, carry.internal)
                return unit * objective(held, numbers, data)[0]

            # An optimiser that searches along lines takes its first step in the
            # gradient's own units, which is next to nothing where the loss is.
            size = jnp.abs(carry.start.value)
            tiny = (control.stalled_after > 0) & (size > 0) & (size < TINY_LOSS)
            # Not where it is rounding error, at the optimum of a fit without residuals.
            tiny &= carry.start.sensitivity < 1 / TINY_LOSS
            unit = jnp.where(tiny, 1 / jnp.where(tiny, size, 1), 1)

            differentiable = (
                value_fn if mode == "rev" else differentiable_forward(value_fn)
            )
            gradient = active_gradient(carry.internal, carry.gradient, lower, upper)
            gradient = jax.tree.map(lambda g: (unit * g).astype(g.dtype), gradient)
            updates, opt_state = transformation.update(
                gradient,
                carry.opt_state,
                carry.internal,
                value=unit * carry.value,
                grad=gradient,
                value_fn=differentiable,
            )
            moved = project(optax.apply_updates(carry.internal, updates), lower, upper)
            return hold_fixed_entries(
                structure, numbers, moved, carry.internal
            ), opt_state

        def with_restart(carry: Carry) -> Carry:
            """Forget what the optimiser has learnt, where it leads nowhere.

            Curvature that a line search gathered before the active bounds changed,
            or on a step that failed, can point uphill from then on.
            """
            since = carry.step - carry.best_step
            lost = (control.stalled_after > 0) & (since % RESTART_EVERY == RESTART_AT)
            fresh = transformation.init(carry.internal)
            return carry._replace(opt_state=_where(lost, fresh, carry.opt_state))

        def body(carry: Carry) -> Carry:
            advance = ~carry.pending
            moved, opt_state = take_step(with_restart(carry))
            internal = _where(advance, moved, carry.internal)
            opt_state = _where(advance, opt_state, carry.opt_state)
            value, aux, gradient = evaluate(internal, numbers, data)
            step = carry.step + advance
            projected = active_gradient(internal, gradient, lower, upper)
            norm = optax.tree.norm(projected).astype(value.dtype)
            row = row_of(numbers, hyper, internal, value, norm, opt_state, step - 1)
            history = jax.tree.map(
                lambda rows, new: rows.at[step - control.first_row].set(
                    jnp.asarray(new, rows.dtype)
                ),
                carry.history,
                row,
            )
            # Entry by entry: the norm of finite entries may overflow.
            finite = jnp.isfinite(value) & _all_finite(gradient)
            now = measure(internal, projected, carry.internal, value, norm, advance)
            start = _where(step == 0, now, carry.start)
            better = finite & (value < carry.best_value)
            best_value = jnp.where(better, value, carry.best_value)
            # Close to an optimum the loss is flat to rounding error, and a later
            # state has more digits; one that is clearly higher is a way gone wrong.
            slack = jnp.sqrt(jnp.finfo(value.dtype).eps) * jnp.abs(best_value)
            is_good = finite & (value <= best_value + slack)
            converged = is_good & has_converged(now, start, control.tol)
            descends = control.stalled_after > 0
            best_step = jnp.where(better, step, carry.best_step)
            since_best = step - best_step
            status = jnp.select(
                [
                    ~finite,
                    (control.tol > 0) & converged,
                    descends & (since_best >= control.stalled_after),
                    (control.patience > 0) & (since_best >= control.patience),
                ],
                [NON_FINITE, CONVERGED, STALLED, NO_IMPROVEMENT],
                RUNNING,
            )
            return Carry(
                internal=internal,
                opt_state=opt_state,
                value=value,
                aux=aux,
                gradient=gradient,
                step=step,
                pending=jnp.zeros_like(carry.pending),
                status=status.astype(carry.status.dtype),
                now=now,
                start=start,
                best_value=best_value,
                best_step=best_step,
                selected=_where(
                    is_good | (finite & ~descends),
                    (internal, value, step),
                    carry.selected,
                ),
                history=history,
            )

        def goes_on(carry: Carry) -> Any:
            return carry.pending | (
                (carry.status == RUNNING) & (carry.step < control.stop_at)
            )

        begin = enter(numbers, hyper, control, carry)
        end = jax.lax.while_loop(goes_on, lambda c: _like(body(c), c), begin)

        def shown_values(internal: PyTree) -> dict[int, Any]:
            values = user_values(structure, numbers, internal)
            return {i: values[i] for i in shown}

        return end, Report(shown_values(end.internal), shown_values(end.selected[0]))

    return Block(run, blank)


def value_and_grad(objective: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """Return ``f -> ((value, aux), gradient)`` with respect to its first argument.

    Parameters
    ----------
    objective : callable
        Returns ``(scalar, aux)``.
    mode : {"rev", "fwd"}
        Reverse mode costs a small multiple of one evaluation whatever the number
        of parameters; forward mode costs one each, and goes through loops that
        reverse mode cannot.

    Returns
    -------
    callable
        With the objective's arguments.
    """
    if mode == "rev":
        return jax.value_and_grad(objective, has_aux=True)

    def with_value(*arguments: Any) -> tuple[Any, Any]:
        value, aux = objective(*arguments)
        return value, (value, aux)

    def forward(*arguments: Any) -> tuple[Any, Any]:
        gradient, result = jax.jacfwd(with_value, has_aux=True)(*arguments)
        return result, _like(gradient, arguments[0])

    return forward


def differentiable_forward(value_fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return ``value_fn`` with a reverse rule made of forward derivatives.

    Optax's line searches call `jax.value_and_grad` on it.
    """

    @jax.custom_vjp
    def wrapped(x: Any) -> Any:
        return value_fn(x)

    def forward(x: Any) -> tuple[Any, Any]:
        (value, _), gradient = value_and_grad(lambda y: (value_fn(y), ()), "fwd")(x)
        return value, gradient

    def backward(gradient: Any, cotangent: Any) -> tuple[Any]:
        return (jax.tree.map(lambda g: g * cotangent, gradient),)

    wrapped.defvjp(forward, backward)
    return wrapped


def _zeros(shapes: PyTree) -> PyTree:
    def zero(leaf: Any) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(zero, shapes)


def _where(condition: Any, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(
        lambda n, o: jnp.where(condition, jnp.asarray(n).astype(o.dtype), o), new, old
    )


def _like(new: PyTree, old: PyTree) -> PyTree:
    """Cast leaves to the types of others: those of a loop, say, are fixed."""
    return jax.tree.map(lambda n, o: jnp.asarray(n).astype(o.dtype), new, old)


def _all_finite(tree: PyTree) -> Any:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
