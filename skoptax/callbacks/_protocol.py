"""What a callback is called with, what it may return, and the checks of both."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._validation import check_integer, invalid, shorten
from ..exceptions import InvalidParameterError

Outcome = tuple[bool, Any, Any]
"""What a callback returns: ``(stop, diff_state, static_state)``."""

A_CALLBACK = "a callback: a Callback object or a function of its seven arguments"
_ARGUMENTS = "step, diff_state, static_state, fitting_data, aux_data, loss_value, grads"


Value = TypeVar("Value")


class Call(NamedTuple):
    """The seven arguments of one call; all belong to the state after ``step``."""

    step: int
    diff_state: Any
    static_state: Any
    fitting_data: dict[str, Any]
    aux_data: Any
    loss_value: Any
    grads: Any


def read_answer(
    answer: Any, diff_state: Any, static_state: Any, callback: object
) -> Outcome:
    """
    Read what an ``on_step`` returned: None, a truth value, or the three values.

    Parameters
    ----------
    answer : object
        What was returned.
    diff_state, static_state : pytree
        The states that hold if the callback didn't replace them.
    callback : object
        Named in the error.

    Returns
    -------
    tuple
        ``(stop, diff_state, static_state)``, with a Python bool.
    """
    if answer is None:
        return False, diff_state, static_state
    if is_truth_value(answer):
        return bool(answer), diff_state, static_state
    return read_outcome(answer, callback, "None, a bool, or ")


def read_outcome(outcome: Any, callback: object, others: str = "") -> Outcome:
    """
    Read what a callback as a function returned: the three values.

    Parameters
    ----------
    outcome : object
        What was returned.
    callback : object
        Named in the error.
    others : str, default=""
        What else was allowed, for the error.

    Returns
    -------
    tuple
        ``(stop, diff_state, static_state)``, with a Python bool.
    """
    is_triple = isinstance(outcome, tuple) and len(outcome) == 3
    if not is_triple or not is_truth_value(outcome[0]):
        raise InvalidParameterError(
            f"The callback {name_of(callback)} must return {others}the tuple (stop, "
            f"diff_state, static_state), stop a bool. Got {shorten(outcome)} instead."
        )
    stop, diff_state, static_state = outcome
    return bool(stop), diff_state, static_state


def in_run(callback: object, value: Value | None) -> Value:
    """
    Return a callback's state of this run, or raise if there is no run.

    Parameters
    ----------
    callback : object
        Named in the error.
    value : object or None
        What the callback sets when a run starts; None outside runs.

    Returns
    -------
    object
        The value.
    """
    if value is None:
        raise RuntimeError(
            f"{name_of(callback)} was called outside a run. Give it to OptaxOptimizer "
            "itself or in a CallbackList, or call on_run_start(fitting_data) before "
            "the first step and its on_run_end(fitting_data) after the last."
        )
    return value


def is_truth_value(value: object) -> bool:
    """Tell whether ``value`` is a bool, a NumPy one or a boolean array of one entry."""
    dtype = getattr(value, "dtype", None)
    return isinstance(value, bool) or (dtype == np.bool_ and np.size(value) == 1)  # type: ignore[arg-type]


def name_of(callback: object) -> str:
    """Return the name by which messages call a callback."""
    return getattr(callback, "__name__", type(callback).__name__)


def stop_message(callback: object, step: int) -> str:
    """Return a callback's reason for stopping, or a sentence that names it."""
    message = getattr(callback, "message", None)
    return message or f"{name_of(callback)} stopped the run after step {step}."


def check_every(every: Any, owner: str) -> None:
    """Raise unless ``every`` is None or an integer of at least 1."""
    if every is not None:
        check_integer("every", owner, every, 1)


def check_members(callbacks: Any, owner: str, name: str = "callbacks") -> None:
    """Raise unless ``callbacks`` is a list or tuple of usable callbacks."""
    if not isinstance(callbacks, (list, tuple)):
        raise invalid(name, owner, "a list or tuple of callbacks", callbacks)
    for i, callback in enumerate(callbacks):
        check_callback(callback, f"{name}[{i}]", owner, A_CALLBACK)


def check_callback(callback: Any, name: str, owner: str, must: str) -> None:
    """Raise unless ``callback`` is callable with seven arguments and not a class."""
    if isinstance(callback, type):
        remedy = f"Instantiate it: {callback.__name__}(...)."
        raise invalid(name, owner, must, callback, remedy)
    if not callable(callback):
        remedy = ""
        if hasattr(callback, "on_fit_task_begin"):
            remedy = (
                "It is one of scikit-learn's callbacks: hand it to "
                "estimator.set_callbacks(...)."
            )
        raise invalid(name, owner, must, callback, remedy)
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # of some builtins there is none
        return
    try:
        signature.bind(*range(7))
    except TypeError as error:
        raise invalid(
            name,
            owner,
            must,
            callback,
            f"It is called as callback({_ARGUMENTS}), and must take these seven: "
            f"{error}. What it has no use for may go into *others; a subclass of "
            "skoptax.callbacks.Callback has on_step.",
        ) from error
