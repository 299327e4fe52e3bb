"""What a user gets of a run: states with their values, gradients, auxiliary data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ._driver import Run
from ._evaluation import Values
from ._parameter import Parameter
from ._structure import Structure
from ._task import Task
from ._typing import PyTree


def auxiliary(run: Run) -> PyTree:
    """Return the auxiliary data at the current state; ``None`` if there are none."""
    return run.carry.aux if run.task.has_aux else None


def gradient_of(run: Run) -> PyTree:
    """Return the gradient, in the structure of the free part of the state."""
    task = run.task
    gradient = _split(task.structure, run.carry.gradient)
    return task.structure.tree(_replaced_leaves(task, gradient, "free"))


def split_state(run: Run) -> tuple[PyTree, PyTree]:
    """Return the free and the static part of the current state."""
    task, structure = run.task, run.task.structure
    values = _by_position(structure, run.carry.values)
    static = {
        i: leaf
        for i, leaf in enumerate(task.leaves)
        if structure.leaves[i].kind != "free"
    }
    static |= _replaced_leaves(task, values, "tied")
    free = _replaced_leaves(task, values, "free")
    return structure.tree(free), structure.tree(static)


def selected_state(run: Run, on_host: bool = False) -> PyTree:
    """
    Return the state that the run has selected: the last finite one, or the best.

    Parameters
    ----------
    run : Run
        At its end.
    on_host : bool, default=False
        Whether its values are NumPy arrays.

    Returns
    -------
    pytree
        Free and tied parameters are new; all else are the given objects.
    """
    task, selected = run.task, run.carry.selected
    if on_host:
        selected = jax.tree.map(np.asarray, selected)
    values = _by_position(task.structure, selected)
    leaves = dict(enumerate(task.leaves))
    return task.structure.tree(leaves | _replaced_leaves(task, values, "free", "tied"))


def plain_values(state: Any, spec: Any) -> Any:
    """
    Return a state's values as floats and arrays.

    Parameters
    ----------
    state : pytree
        With its values on the host.
    spec : dict
        Gives the order, at each level.

    Returns
    -------
    dict
        Of the same structure.
    """
    if isinstance(spec, Mapping):
        return {name: plain_values(state[name], spec[name]) for name in spec}
    value = np.asarray(state.value)
    return float(value) if value.ndim == 0 else value


def bound_flags(state: Any, spec: Any) -> Any:
    """
    Tell for each entry whether it is free and on a bound.

    Parameters
    ----------
    state, spec : pytree and dict
        As for `plain_values`.

    Returns
    -------
    dict
        Of the same structure.
    """
    if isinstance(spec, Mapping):
        return {name: bound_flags(state[name], spec[name]) for name in spec}
    value = np.asarray(state.value)
    on = np.zeros(value.shape, bool)
    for bound in (state.lower, state.upper):
        if bound is not None:
            on |= value == np.asarray(bound, value.dtype)
    if state.free is not True:
        on &= np.asarray(state.free, bool)
    return bool(on) if on.ndim == 0 else on


def _by_position(structure: Structure, values: Values) -> dict[int, Any]:
    return _split(structure, values.free) | values.tied


def _split(structure: Structure, joined: PyTree) -> dict[int, Any]:
    if structure.shapes is None or isinstance(joined, np.ndarray):
        return structure.split(joined)
    # By way of the host: each slice on the device would be a program of its own.
    where = joined.sharding if joined.committed else None
    found: dict[int, Any] = jax.device_put(structure.split(np.asarray(joined)), where)
    return found


def _replaced_leaves(task: Task, values: dict[int, Any], *kinds: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for i in task.structure.indices(*kinds):
        original: Parameter = task.leaves[i]
        found[i] = original.with_fields(value=values[i])
    return found
