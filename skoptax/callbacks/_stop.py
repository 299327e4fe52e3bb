"""Callbacks that stop a run: on time, on loss, on stagnation, on overflow."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import jax
import numpy as np

from .._state import named_parameters
from .._validation import check_integer, check_real
from ._base import Callback
from ._protocol import Call, in_run


class _Stopper(Callback):
    """Base of the callbacks that stop the run when they see a reason to."""

    message: str | None

    def on_step(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> bool:
        self.message = self._reason(
            Call(
                step,
                diff_state,
                static_state,
                fitting_data,
                aux_data,
                loss_value,
                grads,
            )
        )
        return self.message is not None

    def _reason(self, call: Call) -> str | None:
        """Return why the run is to stop after this step, or None."""
        raise NotImplementedError


class StopAfterTime(_Stopper):
    """
    Stop when the run has taken a given time.

    For a budget: the run ends with what it has reached, and its message says so. An
    estimator is then fitted as after any other ending.

    Parameters
    ----------
    seconds : float
        The time limit in seconds, above 0.
    every : int or None, default=None
        Look at the clock at the steps 0, ``every``, 2 * ``every``, ..., at least 1;
        None: at every call.

    See Also
    --------
    Timing : Collects the time at each step.

    Notes
    -----
    The rule: stop at the first step looked at that ends ``seconds`` or more after the
    run's start, by :func:`time.perf_counter`. A step is not interrupted, so that the
    run takes longer by up to one step (one chunk, one ``every``), and at least one step
    is made. The time includes compilation.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import StopAfterTime
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=StopAfterTime(1e-9),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=10_000)
    >>> data["n_steps"]
    1
    """

    _start: float | None = None

    def __init__(self, seconds: float, *, every: int | None = None) -> None:
        super().__init__(every=every)
        self.seconds = seconds

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        check_real("seconds", type(self).__name__, self.seconds, 0.0, above=True)
        self._start = perf_counter()

    def on_run_end(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_end(fitting_data)
        self._start = None

    def _reason(self, call: Call) -> str | None:
        start = in_run(self, self._start)
        # Without waiting, steps would be dispatched to the device beyond the limit.
        jax.block_until_ready(call.loss_value)
        elapsed = perf_counter() - start
        if elapsed < self.seconds:
            return None
        return (
            f"The run had taken {elapsed:.3g} s after step {call.step}; the limit is "
            f"{self.seconds:.3g} s."
        )


class StopAtLoss(_Stopper):
    """
    Stop when the loss is low enough.

    For a goal that is known, such as the loss of an earlier model. Each look waits for
    the device.

    Parameters
    ----------
    threshold : float
        The loss to reach, in the loss's own units; any finite number.
    every : int or None, default=None
        Look at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    StopOnNoImprovement : For a goal that is not.

    Notes
    -----
    The rule: stop at the first step looked at with ``loss <= threshold``. A NaN is
    never low enough.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import StopAtLoss
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=StopAtLoss(0.0625),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=100)
    >>> data["message"]
    'The loss is 0.0625 after step 2, at or below the threshold 0.0625.'
    """

    def __init__(self, threshold: float, *, every: int | None = None) -> None:
        super().__init__(every=every)
        self.threshold = threshold

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        check_real("threshold", type(self).__name__, self.threshold)

    def _reason(self, call: Call) -> str | None:
        loss = float(call.loss_value)
        if not loss <= self.threshold:  # so that NaN carries on
            return None
        return (
            f"The loss is {loss:.6g} after step {call.step}, at or below the threshold "
            f"{self.threshold:.6g}."
        )


class StopOnNoImprovement(_Stopper):
    """
    Stop when the loss has not improved for a number of steps.

    For optimisers that have no tolerance of their own. An estimator has
    ``n_iter_no_change`` for it, which counts epochs. Each look waits for the device.

    Parameters
    ----------
    n_iter_no_change : int, default=10
        The number of steps without an improvement, at least 1. Steps of the optimiser
        are counted, also those that ``every`` or chunks don't show.
    tol : float, default=0.0
        What the loss must fall by to be an improvement, in the loss's own units, at
        least 0.
    every : int or None, default=None
        Look at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    StopAtLoss : Stops at a loss that is given.
    BestSeen : Keeps the state of the best step.

    Notes
    -----
    The rule: a step looked at is an improvement if ``loss < best - tol``, where
    ``best`` is the loss of the last improvement, infinite at first. Stop at the first
    step looked at that comes ``n_iter_no_change`` steps or more after the last
    improvement, or after the start if there was none. So a slow decrease counts in the
    end: ``best`` stays where it is until the loss has fallen below it by more than
    ``tol``. A NaN is no improvement.

    Examples
    --------
    With this learning rate the parameter jumps to and fro between 1 and 5:

    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import StopOnNoImprovement
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(1.0),
    ...     callback=StopOnNoImprovement(n_iter_no_change=5),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=100)
    >>> data["n_steps"]
    6
    """

    _best_step: int | None = None

    def __init__(
        self,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        *,
        every: int | None = None,
    ) -> None:
        super().__init__(every=every)
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        owner = type(self).__name__
        check_integer("n_iter_no_change", owner, self.n_iter_no_change, 1)
        check_real("tol", owner, self.tol, 0.0)
        self._best_loss = math.inf
        self._best_step = -1  # the start, before step 0

    def on_run_end(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_end(fitting_data)
        self._best_step = None

    def _reason(self, call: Call) -> str | None:
        best_step = in_run(self, self._best_step)
        loss = float(call.loss_value)
        if loss < self._best_loss - self.tol:
            self._best_loss = loss
            self._best_step = call.step
            return None
        n_steps = call.step - best_step
        if n_steps < self.n_iter_no_change:
            return None
        now = f"The loss is {loss:.6g} after step {call.step}; "
        if best_step < 0:
            return f"{now}it has been no finite number in {n_steps} steps."
        by = f"more than {self.tol:.6g} " if self.tol else ""
        return (
            f"{now}for {n_steps} steps it has not fallen {by}below "
            f"{self._best_loss:.6g}, its value after step {best_step}."
        )


class StopOnNonFinite(_Stopper):
    """
    Stop when the loss or an entry of the gradient is not finite.

    To find out which parameter's gradient is the first to be lost. It brings all
    gradients to the host at each step that it looks at.

    Parameters
    ----------
    every : int or None, default=None
        Look at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    skoptax.exceptions.NonFiniteWarning : What an estimator warns of in any case.

    Notes
    -----
    The rule: stop at the first step looked at where the loss, or any entry of the
    gradient with respect to any free parameter, is a NaN or an infinity.

    :class:`skoptax.OptaxOptimizer` ends such a run by itself and goes back to the last
    finite state; :class:`skoptax.OptaxEstimator` goes back and on with shorter steps,
    unless this callback ends the fit. It adds what exactly is not finite: its
    ``message`` names the parameter, and goes to the log.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import StopOnNonFinite
    >>> callback = StopOnNonFinite()
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: jnp.sqrt(state["x"]), optax.sgd(2.0), callback=callback
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=100)
    >>> callback.message
    'The gradient with respect to x is inf in 1 of 1 entries after step 0.'
    """

    def _reason(self, call: Call) -> str | None:
        loss = float(call.loss_value)
        if not math.isfinite(loss):
            return f"The loss is {loss} after step {call.step}."
        for name, gradient in named_parameters(call.grads).items():
            entries = np.ravel(np.asarray(gradient.value))
            found = entries[~np.isfinite(entries)]
            if found.size:
                return (
                    f"The gradient with respect to {name} is {found[0]} in "
                    f"{found.size} of {entries.size} entries after step {call.step}."
                )
        return None
