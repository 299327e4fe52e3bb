"""Collecting one value per step, and making a DataFrame of them when the run ends."""

from __future__ import annotations

import numbers
from typing import Any

import jax
import numpy as np
import pandas as pd

from .._parameter import Parameter
from .._validation import invalid
from ._base import Callback
from ._protocol import Call, in_run

# What the optimiser itself puts into the fitting data.
_RESERVED_KEYS = frozenset({"aux", "history", "message", "n_steps", "status"})


class Collector(Callback):
    """
    Base of the callbacks that collect one value per step under a key.

    During the run ``fitting_data[key]`` is a list of ``(step, value)``; when the run
    ends it becomes a DataFrame. Device arrays stay on the device until then, so that
    collecting does not make the host wait for it.
    """

    key: str
    _rows: list[tuple[int, Any]] | None = None

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        self._rows = None  # first: whatever raises, no rows of an earlier run remain
        super().on_run_start(fitting_data)
        owner = type(self).__name__
        if not isinstance(self.key, str) or not self.key:
            raise invalid("key", owner, "a non-empty str", self.key)
        if self.key in _RESERVED_KEYS or self.key in fitting_data:
            must = "one that nothing else uses in fitting_data"
            raise invalid("key", owner, must, self.key)
        self._rows = fitting_data[self.key] = []

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
        rows = in_run(self, self._rows)
        call = Call(
            step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
        )
        rows.append((step, self._value(call)))

    def on_run_end(self, fitting_data: dict[str, Any]) -> None:
        # None where this run never reached our start.
        if self._rows is not None:
            rows, self._rows = self._rows, None
            index = pd.Index([step for step, _ in rows], dtype="int64", name="step")
            columns = self._columns([value for _, value in rows])
            fitting_data[self.key] = pd.DataFrame(columns, index=index)

    def _value(self, call: Call) -> Any:
        """Return what is collected of a call."""
        raise NotImplementedError

    def _columns(self, values: list[Any]) -> dict[str, np.ndarray]:
        """Return the DataFrame's columns: one, named like the key."""
        return {self.key: column(values)}


def snapshot(value: Any) -> Any:
    """
    Return ``value`` such that later steps cannot change it, without waiting for it.

    Parameters
    ----------
    value : object
        Anything; a Parameter by itself counts as its value in the user's units.

    Returns
    -------
    object
        The same with NumPy arrays copied, and with new containers. JAX arrays, which
        don't change, are kept as they are: they may still be in computation.
    """
    if isinstance(value, Parameter):
        value = value.value
    return _map_leaves(lambda x: x.copy() if isinstance(x, np.ndarray) else x, value)


def column(values: list[Any]) -> np.ndarray:
    """
    Bring collected values to the host, as one column.

    Parameters
    ----------
    values : list
        One value per row.

    Returns
    -------
    ndarray of shape (len(values),)
        Numeric if all values are scalars, else of dtype object.
    """
    cells = [_to_host(value) for value in values]
    if all(isinstance(cell, numbers.Number) for cell in cells):
        return np.array(cells)
    # Filled one by one: np.array would make a matrix of arrays of equal length.
    objects = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        objects[i] = cell
    return objects


def _to_host(value: Any) -> Any:
    """Return a Python number for a scalar array, else the value in NumPy arrays."""
    host = _map_leaves(_to_numpy, value)
    is_scalar = isinstance(host, np.ndarray) and host.ndim == 0
    return host.item() if is_scalar or isinstance(host, (np.number, np.bool_)) else host


def _to_numpy(leaf: Any) -> Any:
    """Copy a JAX array into a NumPy array; leave all else, random keys too."""
    is_array = isinstance(leaf, jax.Array)
    if is_array and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
        return np.array(leaf)
    return leaf


def _map_leaves(function: Any, value: Any) -> Any:
    """Apply ``function`` to the leaves, or keep what JAX can't take apart."""
    try:
        return jax.tree.map(function, value)
    except (TypeError, ValueError):  # a dict whose keys have no order, for one
        return value
