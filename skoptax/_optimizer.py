"""`OptaxOptimizer`: any Optax optimiser on any pytree."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd

from ._driver import Run
from ._ending import conclude
from ._packing import wants_float64
from ._parameter import is_parameter
from ._results import auxiliary, gradient_of, selected_state, split_state
from ._snapshot import describe, keep_snapshot, resume, uses_snapshots
from ._state import combine_state
from ._task import Task
from ._typing import Mode, PyTree, StepCallback
from ._validation import check_choice, check_integer, invalid
from .callbacks._base import named_steps, resolve_callbacks
from .callbacks._protocol import read_outcome
from .exceptions import InvalidParameterError
from .optimizers._find import resolve_optimizer
from .optimizers._spec import OptimizerSpec

OWNER = "OptaxOptimizer"


class OptaxOptimizer:
    """
    Optimise the free parameters of any pytree with any Optax optimiser.

    The loop is compiled once for each structure of loss, optimiser and state, for
    the life of the process; numbers (values, data, bounds) are arguments of the
    compiled program.

    Parameters
    ----------
    loss : callable
        ``loss(state) -> scalar``, or ``(scalar, aux)`` with ``has_aux=True``, in
        JAX. In `state`, each :class:`Parameter` acts as its value in the user's
        units. The loss is minimised as it is: a parameter's prior takes part only
        if the loss asks it to.
    optimizer : optax.GradientTransformation or OptimizerSpec
        A finished Optax optimiser such as ``optax.adam(0.01)``, line searches,
        schedules and chains included, or a spec of :mod:`skoptax.optimizers`,
        whose numbers are traced.
    callback : callable, default=None
        ``callback(step, diff_state, static_state, fitting_data, aux_data,
        loss_value, grads) -> (stop, diff_state, static_state)``, called after
        each step; see :mod:`skoptax.callbacks` and the notes.
    has_aux : bool, default=False
        Whether the loss returns auxiliary data too.

    See Also
    --------
    skoptax.OptaxEstimator : The same as a scikit-learn estimator.

    Notes
    -----
    The state is split into free parameters, which are optimised, and all else,
    which comes back unchanged. Static floats and arrays are arguments of the
    compiled program; static integers, booleans, strings and callables are
    constants in it, so that a loss may say ``range(state["n"])``.

    All that one call of the callback gets belongs together: the state after that
    step, and the loss, the auxiliary data and the gradient at that state. ``step``
    counts from 0. ``diff_state`` is the state with ``None`` in place of all that
    is not free, and its parameters read in the user's units; ``static_state`` is
    the reverse; ``grads`` has the structure of ``diff_state``, with respect to
    what the optimiser steps in. A state that the callback replaces is evaluated
    anew; the optimiser keeps its own state.

    A run ends early when the loss or its gradient is not finite: the last finite
    state is returned, and the status says so.

    The precision is that of the leaves: with a NumPy array of double precision
    among them, the whole run is in double precision, whatever JAX's setting.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> def loss(state):
    ...     prediction = state["weight"] * state["input"] + state["bias"]
    ...     return jnp.mean((prediction - 2.5) ** 2)
    >>> state = {
    ...     "weight": Parameter("weight", 1.0),
    ...     "bias": Parameter("bias", 0.0),
    ...     "input": 1.5,
    ... }
    >>> optimizer = OptaxOptimizer(loss, optax.adam(0.01))
    >>> final_state, fitting_data = optimizer.run(state, max_steps=1000)
    >>> print(f"{final_state['weight'] * 1.5 + final_state['bias']:.4f}")
    2.5000
    >>> fitting_data["status"], fitting_data["n_steps"]
    ('max_steps', 1000)
    """

    def __init__(
        self,
        loss: Callable[[Any], Any],
        optimizer: optax.GradientTransformation | OptimizerSpec,
        callback: StepCallback | None = None,
        has_aux: bool = False,
    ) -> None:
        self.loss = loss
        self.optimizer = optimizer
        self.callback = callback
        self.has_aux = has_aux

    def run(
        self,
        state: PyTree,
        max_steps: int = 1,
        mode: Mode = "rev",
        *,
        chunk_size: int | None = None,
    ) -> tuple[PyTree, dict[str, Any]]:
        """
        Run the optimisation.

        The state that is given is not changed. Nothing is kept in the optimiser either:
        a second call starts anew, from the state that it gets, and finds the compiled
        program of the first if only numbers differ. Ctrl-C ends a run by its exception.

        Parameters
        ----------
        state : pytree
            Free and static leaves; see the class's notes.
        max_steps : int, default=1
            The largest number of steps, 0 or more.
        mode : {"rev", "fwd"}, default="rev"
            Reverse-mode differentiation for many parameters, forward mode for few,
            and for losses with loops of unknown length.
        chunk_size : int, default=None
            How many steps to run between calls of the callback; ``None`` is 1.
            Steps that a callback's ``every`` names are always followed by a call.

        Returns
        -------
        final_state : pytree
            The state with its free and tied parameters' values updated; all other
            leaves are the very objects that were given.
        fitting_data : dict
            ``history`` (DataFrame indexed by ``step``: loss, gradient norm,
            learning rate where there is one, scalar parameters), ``n_steps``,
            ``status``, ``message``, ``aux`` (with ``has_aux``, at the last state),
            and what callbacks put there.

        Raises
        ------
        InvalidParameterError
            If an argument or a parameter's spec is not usable, or nothing is free.
        ModelError
            If the loss cannot be traced, or is not a scalar.
        NonFiniteError
            If the loss or its gradient is not finite at the start.
        DifferentiationError
            If the loss cannot be differentiated in this mode.

        See Also
        --------
        skoptax.OptaxEstimator.fit : The same for a model and data.
        skoptax.partition_state : How the state is split for callbacks.

        Examples
        --------
        >>> import optax
        >>> from skoptax import OptaxOptimizer, Parameter
        >>> def loss(state):
        ...     return (state["x"] - state["target"]) ** 2
        >>> state = {"x": Parameter(value=1.0), "target": 3.0}
        >>> optimizer = OptaxOptimizer(loss, optax.sgd(0.25))
        >>> final_state, fitting_data = optimizer.run(state, max_steps=3)
        >>> float(final_state["x"]), fitting_data["n_steps"], final_state["target"]
        (2.75, 3, 3.0)
        >>> fitting_data["history"]["loss"].tolist()
        [4.0, 1.0, 0.25, 0.0625]
        """
        if not callable(self.loss):
            raise invalid("loss", OWNER, "a function of the state", self.loss)
        check_choice("mode", OWNER, mode, ("rev", "fwd"))
        max_steps = check_integer("max_steps", OWNER, max_steps, 0)
        if chunk_size is not None:
            chunk_size = check_integer("chunk_size", OWNER, chunk_size, 1)
        if isinstance(self.optimizer, str) or (
            callable(self.optimizer) and not hasattr(self.optimizer, "update")
        ):
            raise invalid(
                "optimizer",
                OWNER,
                "a finished optimiser such as optax.adam(0.01), or a spec of "
                "skoptax.optimizers",
                self.optimizer,
            )
        optimizer = resolve_optimizer(self.optimizer, None, None, OWNER)
        callback = resolve_callbacks(self.callback, OWNER)
        double = wants_float64(state)
        # A double-precision JAX array turns into a single-precision one outside of
        # the context it was made in; a NumPy array stays what it is.
        on_host = double and not x64_is_on()
        with precision(double):
            task = Task(
                self.loss, optimizer, state, mode=mode, has_aux=bool(self.has_aux)
            )
            run = Run(task)
            found = drive(run, max_steps, callback, chunk_size)
            if run.interruption is not None:
                raise run.interruption
            final_state, fitting_data = finish(run, *found, on_host=on_host)
            fitting_data["history"] = history_frame(fitting_data["history"])
        return final_state, fitting_data


def precision(double: bool) -> AbstractContextManager[None]:
    """Return a context in which arrays may be of double precision, if need be."""
    return jax.enable_x64(True) if double and not x64_is_on() else nullcontext()


def x64_is_on() -> bool:
    """Tell whether arrays may be of double precision in this thread."""
    return bool(getattr(jax.config, "jax_enable_x64"))  # noqa: B009 (untyped)


def drive(
    run: Run, max_steps: int, callback: StepCallback | None, chunk_size: int | None
) -> tuple[dict[str, Any], str | None]:
    """
    Take a run to its end, with a callback between its chunks.

    Parameters
    ----------
    run : Run
        At its start.
    max_steps : int
        Where it ends at the latest.
    callback : callable or None
        The step callback.
    chunk_size : int or None
        Steps between its calls.

    Returns
    -------
    fitting_data : dict
        What the callback put there.
    message : str or None
        Why a callback ended the run; ``None`` if none did.

    Notes
    -----
    A keyboard interrupt after the first block of steps ends the run, and is kept as
    `Run.interruption`: what to do about it is for the caller to say.
    """
    fitting_data: dict[str, Any] = {}
    message = None
    about_fit = describe(run.task) if uses_snapshots(callback) else None
    try:
        message = _drive(run, max_steps, callback, chunk_size, fitting_data, about_fit)
    except KeyboardInterrupt as error:
        if run.carry is None:
            raise
        run.interrupt(error)
    if about_fit is not None:
        keep_snapshot(run, callback, about_fit, at_end=True)
    # A snapshot is of what the run would go on from.
    try:
        run.settle()
    except KeyboardInterrupt as error:
        run.interruption = error
    return fitting_data, message


def _drive(
    run: Run,
    max_steps: int,
    callback: StepCallback | None,
    chunk_size: int | None,
    fitting_data: dict[str, Any],
    about_fit: dict[str, str] | None,
) -> str | None:
    if callback is None:
        run.advance_to(max_steps)
        while not run.has_ended and run.step < max_steps:
            run.advance_to(max_steps)
        return None
    try:
        call_hook(callback, "on_run_start", fitting_data)
        if about_fit is not None:
            resume(run, callback, about_fit, max_steps)
        replaced = False
        while run.step < max_steps:
            before = run.step
            run.advance_to(next_call(before, max_steps, callback, chunk_size))
            if run.recovery.hopeless:
                break  # where the last call was
            if replaced and run.step == before:
                # What was put in has ended there, too: so would all that follows.
                if run.has_ended:
                    break
                replaced = False  # to go back from it
                continue
            stop, replaced = call_step(callback, run, fitting_data)
            if about_fit is not None:
                keep_snapshot(run, callback, about_fit, at_end=False)
            if stop:
                # Evaluates the state if it was replaced.
                run.advance_to(run.step)
                message = getattr(callback, "message", None)
                default = f"A callback stopped the run after {run.step} steps."
                return message or default
            if run.stopped_by or (run.has_ended and not replaced):
                break
        run.advance_to(run.step)
    finally:
        call_hook(callback, "on_run_end", fitting_data)
    return None


def next_call(
    step: int, max_steps: int, callback: StepCallback, chunk_size: int | None
) -> int:
    """
    Return the number of steps after which the callback is due again.

    Chunks end after ``chunk_size``, 2 ``chunk_size``, ... steps; an ``every`` of k
    names the steps numbered 0, k, 2 k, ..., so the ends of 1, k + 1, ... steps. If all
    callbacks name steps, the others need no call.
    """
    named = named_steps(callback)
    ends = [max_steps]
    if chunk_size is not None or not all(named):
        chunk = chunk_size or 1
        ends.append((step // chunk + 1) * chunk)
    ends += [-(-step // every) * every + 1 for every in named if every]
    return min(ends)


def call_step(
    callback: StepCallback, run: Run, fitting_data: dict[str, Any]
) -> tuple[bool, bool]:
    """Call the callback; return whether to stop, and whether it replaced a state."""
    before = split_state(run)
    value, aux, gradient = run.reading.value, auxiliary(run), gradient_of(run)
    outcome = callback(run.step - 1, *before, fitting_data, aux, value, gradient)
    stop, *after = read_outcome(outcome, callback)
    replaced = not _same_leaves(before, tuple(after))
    if replaced:
        for given, returned in zip(before, after, strict=True):
            if operator.ne(*(_structure(state) for state in (given, returned))):
                raise InvalidParameterError(
                    "A callback must return diff_state and static_state, in this "
                    "order, in the structure in which it received them. Got "
                    f"{_structure(returned)} instead of {_structure(given)}."
                )
        run.replace(combine_state(*after))
    return stop, replaced


def _structure(state: PyTree) -> Any:
    return jax.tree.structure(state, is_leaf=is_parameter)


def _same_leaves(before: Any, after: Any) -> bool:
    """Tell whether two pytrees hold the same objects, or arrays of the same values."""
    old, old_tree = jax.tree.flatten(before)
    new, new_tree = jax.tree.flatten(after)
    same_tree = bool(operator.eq(old_tree, new_tree))
    return same_tree and all(map(_same_leaf, old, new))


def _same_leaf(old: Any, new: Any) -> bool:
    if old is new:
        return True
    # Of other types, such as keys and integers, the object counts.
    kinds = [getattr(getattr(x, "dtype", None), "kind", "") for x in (old, new)]
    if kinds[0] != "f" or not (kinds[1] == "f" or isinstance(new, float)):
        return False
    return np.array_equal(np.asarray(old), np.asarray(new), equal_nan=True)


def call_hook(callback: StepCallback, name: str, fitting_data: dict[str, Any]) -> None:
    hook = getattr(callback, name, None)
    if hook is not None:
        hook(fitting_data)


def finish(
    run: Run, fitting_data: dict[str, Any], message: str | None, *, on_host: bool
) -> tuple[PyTree, dict[str, Any]]:
    """
    Gather what a run returns.

    Parameters
    ----------
    run : Run
        At its end.
    fitting_data : dict
        From the callbacks; is added to.
    message : str or None
        Why a callback ended the run.
    on_host : bool
        Whether to return NumPy arrays.

    Returns
    -------
    tuple
        Final state and fitting data, as `OptaxOptimizer.run` documents them, but
        with the history as a dict of columns: a DataFrame is made when it is read.
    """
    status, message = conclude(run, message)
    fitting_data["history"] = run.history()
    fitting_data["n_steps"] = run.step
    fitting_data["status"] = status
    fitting_data["message"] = message
    if run.task.has_aux:
        aux = auxiliary(run)
        fitting_data["aux"] = jax.device_get(aux) if on_host else aux
    return selected_state(run, on_host), fitting_data


def history_frame(columns: dict[str, Any]) -> pd.DataFrame:
    """Return the history as a DataFrame, indexed by the step."""
    index = pd.RangeIndex(len(columns["loss"]), name="step")
    return pd.DataFrame(columns, index=index)
