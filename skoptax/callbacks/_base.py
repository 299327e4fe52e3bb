"""The base of all callbacks, several callbacks as one, and the steps they ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from .._scikit_learn import BaseEstimator
from ._protocol import (
    A_CALLBACK,
    Outcome,
    check_callback,
    check_every,
    check_members,
    name_of,
    read_answer,
    read_outcome,
    stop_message,
)

logger = logging.getLogger("skoptax")


class Callback(BaseEstimator):
    """
    Base of all callbacks, and the way to write one's own.

    A subclass overrides :meth:`on_step`, and :meth:`on_run_start` where it keeps
    something from step to step. Its constructor stores its arguments untouched;
    whatever changes during a run lives in attributes with a leading underscore.

    Parameters
    ----------
    every : int or None, default=None
        Act exactly at the steps 0, ``every``, 2 * ``every``, ..., at least 1; the
        optimiser calls then at all of these, whatever its ``chunk_size``. With None,
        act at every call: after each step, or at the end of each chunk of steps and at
        the steps that other callbacks name.

    Attributes
    ----------
    message : str or None
        Why the callback stopped the run, as a sentence; None when it didn't.

    See Also
    --------
    CallbackList : Several callbacks as one.
    skoptax.OptaxOptimizer : Calls it after each step.
    skoptax.OptaxEstimator : Takes one or more as its ``callbacks``.

    Notes
    -----
    The optimiser calls ``callback(step, diff_state, static_state, fitting_data,
    aux_data, loss_value, grads)`` and takes ``(stop, diff_state, static_state)``
    back. ``step`` counts from 0, so step 0 is the state after the first update; loss,
    auxiliary data and gradient belong to that state. :meth:`on_run_start` is called
    before the first step of every run, :meth:`on_run_end` after the last one, also
    when the run ends in an exception.

    Examples
    --------
    A callback that stops as soon as a parameter is large enough:

    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import Callback
    >>> class StopAbove(Callback):
    ...     def __init__(self, name, limit, *, every=None):
    ...         super().__init__(every=every)
    ...         self.name = name
    ...         self.limit = limit
    ...
    ...     def on_step(self, step, diff_state, static_state, fitting_data, aux_data,
    ...                 loss_value, grads):
    ...         value = float(diff_state[self.name])
    ...         if value > self.limit:
    ...             self.message = f"{self.name} is {value:g} after step {step}."
    ...             return True
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=StopAbove("x", 2.8),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=100)
    >>> data["message"]
    'x is 2.875 after step 3.'

    One that keeps something from step to step, and says at the end what it was:

    >>> class LargestLoss(Callback):
    ...     def on_run_start(self, fitting_data):
    ...         super().on_run_start(fitting_data)
    ...         self._largest = 0.0
    ...
    ...     def on_step(self, step, diff_state, static_state, fitting_data, aux_data,
    ...                 loss_value, grads):
    ...         self._largest = max(self._largest, float(loss_value))
    ...
    ...     def on_run_end(self, fitting_data):
    ...         fitting_data["largest_loss"] = self._largest
    >>> optimizer.callback = LargestLoss()
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=100)
    >>> data["largest_loss"]
    1.0
    """

    # On the class too, for a subclass whose constructor doesn't call ours.
    every: int | None = None
    message: str | None = None

    def __init__(self, *, every: int | None = None) -> None:
        self.every = every

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        """
        Check the arguments and forget the previous run.

        An override calls ``super().on_run_start(fitting_data)`` first.

        Parameters
        ----------
        fitting_data : dict
            What the run will return to its caller.

        See Also
        --------
        Callback.on_run_end : The other end of a run.

        Examples
        --------
        >>> from skoptax.callbacks import Callback
        >>> class Counter(Callback):
        ...     def on_run_start(self, fitting_data):
        ...         super().on_run_start(fitting_data)
        ...         fitting_data["calls"] = 0
        >>> data = {}
        >>> Counter().on_run_start(data)
        >>> data
        {'calls': 0}
        """
        del fitting_data
        check_every(self.every, type(self).__name__)
        self.message = None

    def on_run_end(self, fitting_data: dict[str, Any]) -> None:
        """
        Finish what was collected; the base class has nothing to finish.

        It is called whatever happened in the run, even when :meth:`on_run_start`
        itself raised or was never reached, so an override must expect that.

        Parameters
        ----------
        fitting_data : dict
            What the run will return to its caller.

        See Also
        --------
        Callback.on_run_start : The other end of a run.

        Examples
        --------
        >>> from skoptax.callbacks import SaveLoss
        >>> data, callback = {}, SaveLoss()
        >>> callback.on_run_start(data)
        >>> outcome = callback(0, {}, {}, data, None, 4.0, {})
        >>> data["loss"]
        [(0, 4.0)]
        >>> callback.on_run_end(data)
        >>> data["loss"]["loss"].to_dict()
        {0: 4.0}
        """
        del fitting_data

    def on_step(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> Outcome | bool | None:
        """
        Do what the callback is for; the base class does nothing.

        It is called at the steps that ``every`` names. Loss and gradient may still be
        in computation on the device: to read a number out of them waits for it.

        Parameters
        ----------
        step : int
            The number of the step just taken, from 0.
        diff_state : pytree
            The free parameters after the step (:class:`skoptax.Parameter`, in the
            user's units), None elsewhere.
        static_state : pytree
            All the rest of the state, None where ``diff_state`` has a parameter.
        fitting_data : dict
            What the run will return to its caller.
        aux_data : object
            The loss's auxiliary output at this state, or None.
        loss_value : scalar array
            The loss at this state.
        grads : pytree
            The gradient at this state, in the structure of ``diff_state``.

        Returns
        -------
        None, bool or tuple
            None to carry on, True to stop, or ``(stop, diff_state, static_state)`` to
            replace the state as well.

        See Also
        --------
        Callback.on_run_start : Prepares what is kept from step to step.
        skoptax.named_parameters : The parameters in a state, by name.

        Examples
        --------
        >>> from skoptax.callbacks import Callback
        >>> class StopBelow(Callback):
        ...     def on_step(self, step, diff_state, static_state, fitting_data,
        ...                 aux_data, loss_value, grads):
        ...         return loss_value < 0.5
        >>> stop, diff_state, static_state = StopBelow()(0, {}, {}, {}, None, 0.25, {})
        >>> stop
        True
        """
        del step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
        return None

    def __call__(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> Outcome:
        """
        Run :meth:`on_step` if ``every`` names this step.

        Parameters
        ----------
        step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
            As in :meth:`on_step`.

        Returns
        -------
        stop : bool
            Whether the run is to stop here.
        diff_state, static_state : pytree
            The state to go on with.
        """
        self.message = None
        if self.every is not None and step % self.every != 0:
            return False, diff_state, static_state
        answer = self.on_step(
            step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
        )
        outcome = read_answer(answer, diff_state, static_state, self)
        if outcome[0]:
            self._stopped(step)
        return outcome

    def _stopped(self, step: int) -> None:
        """Make sure that there is a reason to tell, and log it."""
        self.message = stop_message(self, step)
        logger.info("%s", self.message)


class CallbackList(Callback):
    """
    Run several callbacks, one after the other.

    Optimisers and estimators make one of a list that they are given; written out, it
    may have an ``every`` of its own, or stand in another list.

    Parameters
    ----------
    callbacks : list or tuple of callables
        Callbacks (also a :class:`CallbackList`) or plain functions.
    every : int or None, default=None
        With a number, call the members at the steps 0, ``every``, 2 * ``every``, ...
        only; each of them still looks at its own ``every``. None leaves it to them.

    See Also
    --------
    Callback : What its members usually are.

    Notes
    -----
    Each member gets the states that the one before it returned. All of them are
    called at each step, also after one has said stop; the run stops if any did, and
    ``message`` joins their sentences. Loss and gradient are those of the state that
    the optimiser handed in, so what replaces the state belongs at the end of the list.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import CallbackList, SaveLoss, StopAtLoss
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=CallbackList([SaveLoss(every=2), StopAtLoss(1e-2)]),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=100)
    >>> data["loss"].index.tolist(), data["n_steps"]
    ([0, 2, 4], 5)
    """

    def __init__(
        self, callbacks: Sequence[Callable[..., Any]], *, every: int | None = None
    ) -> None:
        super().__init__(every=every)
        self.callbacks = callbacks

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        check_members(self.callbacks, type(self).__name__)
        for callback in self.callbacks:
            if hasattr(callback, "on_run_start"):
                callback.on_run_start(fitting_data)

    def on_run_end(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_end(fitting_data)
        _end_all(_members(self), fitting_data)

    def on_step(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> Outcome:
        rest = (fitting_data, aux_data, loss_value, grads)
        messages = []
        for callback in self.callbacks:
            outcome = callback(step, diff_state, static_state, *rest)
            stop, diff_state, static_state = read_outcome(outcome, callback)
            if stop:
                messages.append(stop_message(callback, step))
        self.message = " ".join(messages) or None
        return bool(messages), diff_state, static_state

    def _stopped(self, step: int) -> None:
        """Log nothing: the members have."""
        del step


def named_steps(callback: Any) -> list[int | None]:
    """
    Return what the ``every`` of a callback, or of a list's members, says.

    Parameters
    ----------
    callback : callable or None
        A callback, a :class:`CallbackList` or a plain function.

    Returns
    -------
    list of int or None
        One entry per callback that acts at steps: ``k`` means that it must be called at
        the steps 0, k, 2k, ... and needs no other call, None that it acts at every
        call. A list with an ``every`` of its own counts as one callback: its members
        act at no other step.
    """
    own = getattr(callback, "every", None)
    check_every(own, name_of(callback))
    if isinstance(callback, CallbackList) and own is None:
        return [k for member in _members(callback) for k in named_steps(member)]
    return [] if callback is None or hasattr(callback, "find_snapshot") else [own]


def flat_members(callback: Any) -> list[Any]:
    """Return a callback, or the members of a list and of the lists in it."""
    if isinstance(callback, CallbackList):
        return [x for member in _members(callback) for x in flat_members(member)]
    return [] if callback is None else [callback]


def resolve_callbacks(
    callbacks: Any, owner: str, name: str = "callback"
) -> Callable[..., Any] | None:
    """
    Turn what a user may pass as callbacks into one callable, or None.

    Parameters
    ----------
    callbacks : None, callable, or list or tuple of callables
        The argument.
    owner : str
        The class whose argument it is; named in the error.
    name : str, default="callback"
        What the argument is called there.

    Returns
    -------
    callable or None
        A callable is returned as it is, several become a :class:`CallbackList`, and
        None or an empty list is None.
    """
    if callbacks is None:
        return None
    if isinstance(callbacks, (list, tuple)):
        check_members(callbacks, owner, name)
        return CallbackList(callbacks) if callbacks else None
    check_callback(callbacks, name, owner, f"None, {A_CALLBACK}, or a list of them")
    return callbacks


def _members(callback: CallbackList) -> list[Any]:
    """Return the members of a list, none if what was given is not a sequence."""
    given = callback.callbacks
    return list(given) if isinstance(given, (list, tuple)) else []


def _end_all(callbacks: list[Any], fitting_data: dict[str, Any]) -> None:
    """End each callback, whatever those before it raise."""
    if not callbacks:
        return
    first, *others = callbacks
    try:
        # A class was refused at the start; its hook can't be called.
        if hasattr(first, "on_run_end") and not isinstance(first, type):
            first.on_run_end(fitting_data)
    finally:
        _end_all(others, fitting_data)
