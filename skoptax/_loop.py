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
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ._assessment import OFF, RUNNING, Best, Control, Counts, assess, vector, where
from ._convergence import Progress, measure
from ._structure import Structure
from ._tracing import own
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
from .optimizers._levenberg_marquardt import needs_predictions

HISTORY_ROWS = 4096
# An optimiser that descends at every step starts anew so many steps after its last
# success, and again that many later. Sooner, it loses what it knows of narrow valleys.
RESTART_AT, RESTART_EVERY = 6, 10
# A loss that starts below this is given to a line search in units of its start.
TINY_LOSS = 1e-6


class Values(NamedTuple):
    """The parameters' values."""

    free: PyTree  # as `Structure.join` has them
    tied: dict[int, Array]  # by position


class Carry(NamedTuple):
    """All that one block hands to the next."""

    internal: PyTree  # free values, in the optimiser's space
    opt_state: PyTree
    aux: PyTree
    gradient: PyTree
    values: Values  # at this state, in the user's units
    selected: Values  # what is to be returned
    counts: Array  # of shape (5,): Counts
    best: Array  # of shape (2,): Best
    now: Array  # of shape (5,): Progress, here
    start: Array  # and at step 0
    history: dict[str, Array]  # data type to (HISTORY_ROWS, n_columns)


class Block(NamedTuple):
    """The loop for one structure."""

    run: Callable[..., Carry]
    blank: Callable[..., tuple[Carry, list[Column]]]


class Column(NamedTuple):
    """Where the history has a quantity."""

    key: Any  # "loss", "grad_norm", "learning_rate", or the position of a leaf
    dtype: str
    place: int


def make_block(
    loss: Callable[..., Any],
    structure: Structure,
    optimizer: Any,
    mode: str,
    has_aux: bool,
    parts: Any = None,
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
    parts : SampleLoss, Objective or None
        The loss before it was checked, if an optimiser may look at its predictions:
        ``parts.predict`` and ``parts.losses_at`` have the arguments of the loss.

    Returns
    -------
    Block
        ``run(numbers, data, hyper, decisions, carry)``, to be compiled, and
        ``blank(numbers, data, hyper)``, which makes a carry to start from and says
        where the history has what.
    """

    def objective(internal: PyTree, numbers: Any, data: Any) -> tuple[Any, Any]:
        values = user_values(structure, numbers, internal)
        result = loss(build_state(structure, numbers, values), *data)
        value, aux = result if has_aux else (result, ())
        tied: dict[int, Any] = {
            i: jnp.asarray(values[i]) for i in structure.indices("tied")
        }
        return jnp.asarray(value), (aux, Values(structure.join(values), tied))

    def evaluate(internal: PyTree, numbers: Any, data: Any) -> tuple[Any, ...]:
        (value, (aux, values)), gradient = value_and_grad(objective, mode)(
            internal, numbers, data
        )
        if len(numbers["mask"]):
            zeros = jax.tree.map(jnp.zeros_like, gradient)
            gradient = hold_fixed_entries(structure, numbers, gradient, zeros)
        return value, aux, gradient, values

    def more_than_scalars(
        carry: Carry, numbers: Any, data: Any, lower: PyTree, upper: PyTree
    ) -> dict[str, Any]:
        """Return what an optimiser needs that looks at each prediction."""
        # Not to all: a line search refuses what it does not know.
        if parts is None or not needs_predictions(carry.opt_state):
            return {}
        here = carry.internal

        def state_at(internal: PyTree) -> PyTree:
            held = hold_fixed_entries(structure, numbers, internal, here)
            return build_state(
                structure, numbers, user_values(structure, numbers, held)
            )

        return {
            "predict_fn": lambda internal: parts.predict(state_at(internal), *data),
            "sample_loss": lambda predictions: parts.losses_at(state_at(here), *data)(
                predictions
            ),
            "lower": lower,
            "upper": upper,
            "curvature": _curvature(
                lambda internal: parts.others(state_at(internal), *data), here
            ),
        }

    def scalars(values: Values) -> dict[int, Any]:
        found = structure.split(values.free) | values.tied
        return {i: x for i, x in sorted(found.items()) if jnp.ndim(x) == 0}

    def row_of(
        hyper: Any, values: Values, value: Any, norm: Any, state: Any, k: Any
    ) -> dict[Any, Any]:
        row = {"loss": value, "grad_norm": norm}
        rate = optimizer.learning_rate(hyper, state, k)
        if rate is not None:
            row["learning_rate"] = rate
        return row | scalars(values)

    def blank(numbers: Any, data: Any, hyper: Any) -> tuple[Carry, list[Column]]:
        internal = jax.eval_shape(lambda n: internal_start(structure, n), numbers)
        value, (aux, values) = jax.eval_shape(objective, internal, numbers, data)
        opt_state = jax.eval_shape(
            lambda h, i: optimizer.build(h).init(i), hyper, internal
        )
        # Keys of both kinds cannot be sorted, as a pytree's are.
        names: list[Any] = []

        def list_row(*arguments: Any) -> list[Any]:
            row = row_of(*arguments)
            names.extend(row)
            return list(row.values())

        row = jax.eval_shape(list_row, hyper, values, value, value, opt_state, 0)
        columns: list[Column] = []
        for name, entry in zip(names, row, strict=True):
            before = [c for c in columns if c.dtype == str(entry.dtype)]
            columns.append(Column(name, str(entry.dtype), len(before)))
        history: dict[str, Any] = {
            dtype: np.zeros((HISTORY_ROWS, len(list(group))), dtype)
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
            values=_zeros(values),
            selected=_zeros(values),
            counts=np.zeros(len(Counts._fields), np.int32),
            best=np.array(Best(lowest=np.inf, selected=0.0), value.dtype),
            now=np.array(now, value.dtype),
            start=np.zeros(len(Progress._fields), value.dtype),
            history=history,
        )
        # On the device once, not with every run.
        return jax.device_put(carry), columns

    def enter(numbers: Any, hyper: Any, control: Control, carry: Carry) -> Carry:
        """Put the host's decisions into what the previous block left."""
        start = internal_start(structure, numbers)
        internal = where(control.is_replaced, start, carry.internal)
        fresh = optimizer.build(hyper).init(start)
        counts = Counts(*carry.counts)
        counts = counts._replace(
            pending=control.is_replaced,
            # A replaced state has another chance.
            status=where(control.is_replaced, RUNNING, counts.status),
        )
        return carry._replace(
            internal=internal,
            opt_state=where(control.is_start, fresh, carry.opt_state),
            counts=vector(counts, carry.counts),
        )

    def run(
        numbers: Any, data: Any, hyper: Any, decisions: tuple[Any, Any], carry: Carry
    ) -> Carry:
        control = Control.unpacked(*decisions)
        lower, upper = internal_bounds(structure, numbers)
        transformation = optax.with_extra_args_support(optimizer.build(hyper))

        def loss_unit(start: Progress) -> Any:
            """Return what the losses that a line search sees are multiplied by.

            It takes its first step in the gradient's own units, which is next to
            nothing where the loss is.
            """
            size = jnp.abs(start.value)
            tiny = (control.stalled_after < OFF) & (size > 0) & (size < TINY_LOSS)
            # Not where it is rounding error, at the optimum of a fit without residuals.
            tiny &= start.sensitivity < 1 / TINY_LOSS
            return jnp.where(tiny, 1 / jnp.where(tiny, size, 1), 1)

        def take_step(carry: Carry) -> tuple[PyTree, PyTree]:
            unit = loss_unit(Progress(*carry.start)) if optimizer.descends else 1

            def value_fn(internal: PyTree) -> Any:
                held = hold_fixed_entries(structure, numbers, internal, carry.internal)
                return unit * objective(held, numbers, data)[0]

            differentiable = (
                value_fn if mode == "rev" else differentiable_forward(value_fn)
            )
            extra = more_than_scalars(carry, numbers, data, lower, upper)
            # One that knows the bounds finds out by itself which of them are active.
            gradient = (
                carry.gradient
                if extra
                else active_gradient(carry.internal, carry.gradient, lower, upper)
            )
            if optimizer.descends:
                gradient = jax.tree.map(lambda g: (unit * g).astype(g.dtype), gradient)
            updates, opt_state = transformation.update(
                gradient,
                carry.opt_state,
                carry.internal,
                value=unit * Progress(*carry.now).value,
                grad=gradient,
                value_fn=differentiable,
                **extra,
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
            counts = Counts(*carry.counts)
            since = counts.step - counts.best_step
            lost = (control.stalled_after < OFF) & (since % RESTART_EVERY == RESTART_AT)
            fresh = transformation.init(carry.internal)
            return carry._replace(opt_state=where(lost, fresh, carry.opt_state))

        def body(carry: Carry) -> Carry:
            counts = Counts(*carry.counts)
            advance = counts.pending == 0
            moved, opt_state = take_step(
                with_restart(carry) if optimizer.descends else carry
            )
            internal = where(advance, moved, carry.internal)
            opt_state = where(advance, opt_state, carry.opt_state)
            value, aux, gradient, values = evaluate(internal, numbers, data)
            step = counts.step + advance
            projected = active_gradient(internal, gradient, lower, upper)
            now = measure(internal, projected, carry.internal, value, advance)
            row = row_of(hyper, values, value, now.norm, opt_state, step - 1)
            verdict = assess(
                value,
                jax.tree.leaves(gradient),
                now,
                step,
                carry,
                control,
                optimizer.descends,
            )
            return Carry(
                internal=internal,
                opt_state=opt_state,
                aux=aux,
                gradient=gradient,
                values=values,
                selected=where(verdict.selects, values, carry.selected),
                counts=verdict.counts,
                best=verdict.best,
                now=verdict.now,
                start=verdict.start,
                history=_with_row(carry.history, step - control.first_row, row),
            )

        def goes_on(carry: Carry) -> Any:
            counts = Counts(*carry.counts)
            return (counts.pending > 0) | (
                (counts.status == RUNNING) & (counts.step < control.stop_at)
            )

        begin = enter(numbers, hyper, control, carry)
        return jax.lax.while_loop(goes_on, lambda c: _like(body(c), c), begin)

    return Block(run, blank)


def _curvature(others: Callable[[PyTree], Any], internal: PyTree) -> Any:
    """Return the Hessian of what may be ``None``, of shape (p, p), or ``None``."""
    flat, unravel = ravel_pytree(internal)
    if others(internal) is None:
        return None
    return jax.jacfwd(jax.grad(lambda x: others(unravel(x))))(flat)


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


def _like(new: PyTree, old: PyTree) -> PyTree:
    """Cast leaves to the types of others: those of a loop, say, are fixed."""
    return jax.tree.map(lambda n, o: jnp.asarray(n).astype(o.dtype), new, old)
