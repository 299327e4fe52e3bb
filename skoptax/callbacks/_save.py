"""Callbacks that collect: values, losses, parameters, times and the best state."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

import jax
import numpy as np

from .._state import named_parameters
from .._validation import check_choice, invalid
from ..exceptions import InvalidParameterError
from ._base import Callback
from ._collector import Collector, column, snapshot
from ._protocol import Call, in_run


class Save(Collector):
    """
    Collect what a function returns.

    For anything that a run has on its way: an entry of an array, a distance, what
    ``aux`` holds. Arrays stay on the device until the run ends, so that collecting does
    not wait for it, but takes memory there.

    Parameters
    ----------
    key : str
        Where it goes: ``fitting_data[key]``. Two callbacks can't share a key.
    function : callable
        Called with the seven arguments of a callback, ``(step, diff_state,
        static_state, fitting_data, aux_data, loss_value, grads)``; returns anything.
    every : int or None, default=None
        Collect at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at
        every call.

    See Also
    --------
    SaveLoss : The loss.
    SaveParameters : The parameters.
    Callback : What a function is not enough for.

    Notes
    -----
    When the run ends, also by an exception, ``fitting_data[key]`` becomes a DataFrame
    with the integer index ``step`` and one column, ``key``. Before that it is the list
    of the pairs ``(step, value)`` so far, with values that may still be on the device.

    A scalar array becomes a Python number, so that the column is numeric; any other
    JAX array becomes a NumPy array, also inside a tuple, list or dict. A Parameter that
    is returned by itself is collected as its value in the user's units. NumPy arrays
    are copied at the step.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import Save
    >>> def slope(step, diff_state, static_state, fitting_data, aux_data, loss, grads):
    ...     return grads["x"]
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=Save("slope", slope, every=2),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    >>> data["slope"]["slope"].to_dict()
    {0: -2.0, 2: -0.5, 4: -0.125}
    """

    def __init__(
        self, key: str, function: Callable[..., Any], *, every: int | None = None
    ) -> None:
        super().__init__(every=every)
        self.key = key
        self.function = function

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        if not callable(self.function):
            must = "a function of the seven arguments of a callback"
            raise invalid("function", type(self).__name__, must, self.function)

    def _value(self, call: Call) -> Any:
        """Return what the function returns, safe from later changes."""
        return snapshot(self.function(*call))


class SaveLoss(Collector):
    """
    Collect the loss.

    An estimator's `history_` has it already, at every step; this is for some of the
    steps, and for the tables of other runs. It does not wait for the device.

    Parameters
    ----------
    key : str, default="loss"
        Where it goes: ``fitting_data[key]``, a DataFrame with the integer index
        ``step`` and one column of floats, ``key``.
    every : int or None, default=None
        Collect at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at
        every call.

    See Also
    --------
    PrintLoss : Writes it at once.
    Save : Collects what a function returns.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import SaveLoss
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=SaveLoss(every=2),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    >>> data["loss"]["loss"].to_dict()
    {0: 1.0, 2: 0.0625, 4: 0.00390625}
    """

    def __init__(self, key: str = "loss", *, every: int | None = None) -> None:
        super().__init__(every=every)
        self.key = key

    def _value(self, call: Call) -> Any:
        """Return the loss."""
        return snapshot(call.loss_value)


class SaveParameters(Collector):
    """
    Collect the free parameters, in the user's units.

    An estimator's `history_` has those that are scalars; this has arrays, too. It does
    not wait for the device, and keeps every array that it collects: give ``every``
    where these are large.

    Parameters
    ----------
    key : str, default="parameters"
        Where they go: ``fitting_data[key]``, a DataFrame with the integer index
        ``step`` and one column per free parameter, named like it: floats for a scalar
        parameter, NumPy arrays in object cells for any other.
    every : int or None, default=None
        Collect at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at
        every call.

    See Also
    --------
    PrintParameters : Writes them at once.
    BestSeen : Keeps those of one step.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import SaveParameters
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - state["target"]) ** 2, optax.sgd(0.25),
    ...     callback=SaveParameters(every=2),
    ... )
    >>> state = {"x": Parameter(value=1.0), "target": 3.0}
    >>> state, data = optimizer.run(state, max_steps=5)
    >>> data["parameters"]["x"].to_dict()
    {0: 2.0, 2: 2.75, 4: 2.9375}
    """

    def __init__(self, key: str = "parameters", *, every: int | None = None) -> None:
        super().__init__(every=every)
        self.key = key

    def _value(self, call: Call) -> dict[str, Any]:
        """Return the values by name."""
        named = named_parameters(call.diff_state)
        return {name: snapshot(parameter) for name, parameter in named.items()}

    def _columns(self, values: list[Any]) -> dict[str, np.ndarray]:
        """Return one column per parameter."""
        names = dict.fromkeys(name for row in values for name in row)
        return {
            name: column([row.get(name, math.nan) for row in values]) for name in names
        }


class Timing(Collector):
    """
    Collect the time since the run started.

    To see how long steps take, and how long the first one did with its compilation. It
    waits for the device at each step that it looks at, which may itself slow down a
    run.

    Parameters
    ----------
    key : str, default="time"
        Where it goes: ``fitting_data[key]``, a DataFrame with the integer index
        ``step`` and one column of floats, ``seconds``.
    every : int or None, default=None
        Look at the clock at the steps 0, ``every``, 2 * ``every``, ..., at least 1;
        None: at every call.

    See Also
    --------
    StopAfterTime : Ends a run by the same clock.

    Notes
    -----
    The clock is :func:`time.perf_counter`. It is read when the step's loss has been
    computed, not merely dispatched to the device; the first row therefore holds the
    compilation, if the program was compiled in this run.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import Timing
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25), callback=Timing(),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    >>> data["time"]["seconds"].is_monotonic_increasing
    True
    """

    _start = math.nan

    def __init__(self, key: str = "time", *, every: int | None = None) -> None:
        super().__init__(every=every)
        self.key = key

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        self._start = perf_counter()

    def _value(self, call: Call) -> float:
        """Return the seconds since the start."""
        jax.block_until_ready(call.loss_value)
        return perf_counter() - self._start

    def _columns(self, values: list[Any]) -> dict[str, np.ndarray]:
        """Return one column, named by its unit."""
        return {"seconds": np.array(values, dtype=float)}


class BestSeen(Callback):
    """
    Keep the parameters of the best step, with their own loss.

    For optimisers whose loss goes up and down, where the last state need not be the
    best. An estimator's `params_` are not changed by it. Each look waits for the
    device.

    Parameters
    ----------
    mode : {"min", "max"}, default="min"
        Whether the smallest or the largest loss is the best.
    every : int or None, default=None
        Look at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    SaveLoss : The losses of all steps.
    StopOnNoImprovement : Stops a run that finds nothing better.

    Notes
    -----
    The run's ``fitting_data`` gets ``"best_state"`` (the free parameters after that
    step, as :class:`skoptax.Parameter` with NumPy values, None elsewhere),
    ``"best_loss"`` (float) and ``"best_step"`` (int). They are the first of the steps
    looked at whose loss is strictly better than that of all before it. A NaN is never
    better, nor is an infinity of the wrong sign; while there is none, the three are
    None, NaN and None.

    Examples
    --------
    Steps of 1.5 times the way to the optimum go up the hill:

    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import BestSeen
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(1.5), callback=BestSeen(),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    >>> data["best_step"], data["best_loss"], float(data["best_state"]["x"])
    (0, 16.0, 7.0)
    """

    _best: float | None = None

    def __init__(self, *, mode: str = "min", every: int | None = None) -> None:
        super().__init__(every=every)
        self.mode = mode

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        check_choice("mode", type(self).__name__, self.mode, ["min", "max"])
        if "best_state" in fitting_data:
            raise InvalidParameterError(
                f"A run takes one {type(self).__name__} at most: "
                "fitting_data['best_state'] is in use already."
            )
        self._best = math.inf
        fitting_data.update(best_state=None, best_loss=math.nan, best_step=None)

    def on_step(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> None:
        del static_state, aux_data, grads
        loss = float(loss_value)
        cost = -loss if self.mode == "max" else loss
        if cost < in_run(self, self._best):
            self._best = cost
            # Copies: a NumPy view of a device buffer would change with the buffer.
            fitting_data["best_state"] = jax.tree.map(np.array, diff_state)
            fitting_data["best_loss"] = loss
            fitting_data["best_step"] = step

    def on_run_end(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_end(fitting_data)
        self._best = None
