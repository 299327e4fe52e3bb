"""Callbacks that write a line per step: loss, parameters, gradients and their norms."""

from __future__ import annotations

import copy
import math
import sys
from typing import IO, Any

import numpy as np
from sklearn.base import clone

from .._state import named_parameters
from .._validation import invalid
from ._base import Callback
from ._protocol import Call


class _Printer(Callback):
    """
    Base of the callbacks that write one line per step.

    The file is where the user wants to read, so copies of the callback write to the
    same one: copying it would lose the lines, or fail.
    """

    def __init__(
        self, *, file: IO[str] | None = None, every: int | None = None
    ) -> None:
        super().__init__(every=every)
        self.file = file

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        if self.file is not None and not hasattr(self.file, "write"):
            must = "None or an object with a write method"
            raise invalid("file", type(self).__name__, must, self.file)

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
        call = Call(
            step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
        )
        stream = sys.stdout if self.file is None else self.file
        stream.write(f"step {step}: {self._text(call)}\n")

    def _text(self, call: Call) -> str:
        """Return what the line says about a call."""
        raise NotImplementedError

    def __sklearn_clone__(self) -> _Printer:
        """Return an unfitted copy that writes to the same file."""
        given = self.get_params(deep=False)
        copied = {
            name: value if name == "file" else clone(value, safe=False)
            for name, value in given.items()
        }
        return type(self)(**copied)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Printer:
        """Return a copy that writes to the same file."""
        new = copy.copy(self)
        memo[id(self)] = new
        # deepcopy takes what the memo holds for an object as the object's copy.
        memo[id(self.file)] = self.file
        new.__dict__ = copy.deepcopy(self.__dict__, memo)
        return new


class PrintLoss(_Printer):
    """
    Write the loss.

    To watch a run as it goes. Each line waits for the device: give ``every`` where
    steps are short.

    Parameters
    ----------
    file : file-like or None, default=None
        An open text file, or any object with ``write(str)``; None is ``sys.stdout`` as
        it is at the time of the call.
    every : int or None, default=None
        Write at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    SaveLoss : Collects the loss, and does not wait.
    PrintParameters : The parameters, line by line.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import PrintLoss
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=PrintLoss(every=2),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    step 0: loss 1
    step 2: loss 0.0625
    step 4: loss 0.00390625
    """

    def _text(self, call: Call) -> str:
        return f"loss {float(call.loss_value):.6g}"


class PrintParameters(_Printer):
    """
    Write the free parameters, in the user's units.

    To watch where a run goes, and where it leaves what makes sense. Each line waits for
    the device.

    Parameters
    ----------
    file : file-like or None, default=None
        An open text file, or any object with ``write(str)``; None is ``sys.stdout`` as
        it is at the time of the call.
    every : int or None, default=None
        Write at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    SaveParameters : Collects them, and does not wait.
    PrintLoss : The loss, line by line.

    Notes
    -----
    Numbers have six significant digits. Of an array of more than ten entries the first
    and the last three are shown.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import PrintParameters
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=PrintParameters(every=2),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    step 0: x=2
    step 2: x=2.75
    step 4: x=2.9375
    """

    def _text(self, call: Call) -> str:
        return _values(call.diff_state)


class PrintGradients(_Printer):
    """
    Write the gradient with respect to each free parameter.

    For few parameters; of many, the norms say more. Each line waits for the device.

    Parameters
    ----------
    file : file-like or None, default=None
        An open text file, or any object with ``write(str)``; None is ``sys.stdout`` as
        it is at the time of the call.
    every : int or None, default=None
        Write at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    PrintGradientNorms : One number for each parameter.

    Notes
    -----
    Numbers have six significant digits. Of an array of more than ten entries the first
    and the last three are shown. The gradient is that of the space in which the
    optimiser steps: where a parameter has a scale or a transform, not that of the
    user's units.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import PrintGradients
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.25),
    ...     callback=PrintGradients(every=2),
    ... )
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
    step 0: gradient x=-2
    step 2: gradient x=-0.5
    step 4: gradient x=-0.125
    """

    def _text(self, call: Call) -> str:
        return f"gradient {_values(call.grads)}"


class PrintGradientNorms(_Printer):
    """
    Write the Euclidean norm of the gradient, total and per free parameter.

    To see whether a run nears an optimum, and which parameter it has still to move.
    Each line waits for the device.

    Parameters
    ----------
    file : file-like or None, default=None
        An open text file, or any object with ``write(str)``; None is ``sys.stdout`` as
        it is at the time of the call.
    every : int or None, default=None
        Write at the steps 0, ``every``, 2 * ``every``, ..., at least 1; None: at every
        call.

    See Also
    --------
    PrintGradients : The gradients themselves.

    Notes
    -----
    A parameter's norm is the square root of the sum of the squares of its entries'
    gradients, the total that over all free parameters; in the space in which the
    optimiser steps, as for :class:`PrintGradients`.

    Examples
    --------
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import PrintGradientNorms
    >>> optimizer = OptaxOptimizer(
    ...     lambda state: 3.0 * state["x"] + 4.0 * state["y"], optax.sgd(0.25),
    ...     callback=PrintGradientNorms(),
    ... )
    >>> start = {"x": Parameter(value=1.0), "y": Parameter(value=1.0)}
    >>> state, data = optimizer.run(start, max_steps=1)
    step 0: gradient norm 5 (x 3, y 4)
    """

    def _text(self, call: Call) -> str:
        norms = {
            name: math.hypot(*np.abs(_array(gradient)).ravel().tolist())
            for name, gradient in named_parameters(call.grads).items()
        }
        each = ", ".join(f"{name} {norm:.6g}" for name, norm in norms.items())
        return f"gradient norm {math.hypot(*norms.values()):.6g} ({each})"


def _array(parameter: Any) -> np.ndarray:
    """Return a parameter's value in double precision."""
    values = np.asarray(parameter.value)
    return values.astype(complex if values.dtype.kind == "c" else float)


def _values(tree: Any) -> str:
    """Return the values of a tree's parameters on one line."""
    shown = []
    for name, parameter in named_parameters(tree).items():
        text = np.array2string(
            _array(parameter),
            threshold=10,
            formatter={"all": lambda entry: f"{entry:.6g}"},
        )
        shown.append(f"{name}={' '.join(text.split())}")
    return ", ".join(shown)
