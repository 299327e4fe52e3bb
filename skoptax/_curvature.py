"""What an objective is like where a run has ended: its curvature, in small matrices.

After an optimiser that linearises the model it is in the carry. Else it takes a program
of its own, run at the selected state.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._driver import Run
from ._entries import entry_names, read_entries
from ._structure import separate


def local_model(run: Run) -> tuple[Any, ...]:
    """Return the arguments of `find_undetermined`, of a run that has linearised."""
    carry, task = run.carry, run.task
    root, sizes = (np.asarray(part) for part in carry.linearisation)
    entries = read_entries(task.structure, task.numbers, carry.values.free)
    internal = jax.tree.leaves(jax.tree.map(np.asarray, carry.internal))
    return (
        root,
        float(sizes[2]),
        float(run.reading.value),
        np.concatenate([part.ravel() for part in internal]),
        entries.values,
        entries.start,
        ~entries.fixed & ~entries.at_bound,
    )


def linearised(run: Run) -> tuple[list[str], np.ndarray] | None:
    """Return the names of the free entries and the root of their curvature."""
    if not run.reading.looks:
        return None
    names = entry_names(run.task.structure, run.task.start)
    return names, np.asarray(run.carry.linearisation.root)


def known_curvature(run: Run) -> np.ndarray | None:
    """
    Return the root of the objective's curvature at the selected state.

    Parameters
    ----------
    run : Run
        At its end.

    Returns
    -------
    ndarray of shape (p, p) or None
        ``None`` where that, or the entries' slopes in the user's units, would take
        a program.
    """
    structure, reading = run.task.structure, run.reading
    if not reading.looks or reading.selected_step != run.step:
        return None
    if not structure.is_plain or structure.indices("tied"):
        return None
    return np.asarray(run.carry.linearisation.root)


def scales(run: Run) -> np.ndarray:
    """
    Return the slopes of the entries in the user's units, without transforms.

    Parameters
    ----------
    run : Run
        Begun.

    Returns
    -------
    ndarray of shape (p, p)
        Diagonal.
    """
    structure, numbers = run.task.structure, run.task.numbers
    if structure.shapes is not None:
        return np.diag(np.asarray(numbers["scale"], float))
    found = jax.tree.map(
        lambda scale, x: np.broadcast_to(scale, np.shape(x)),
        separate(structure, numbers)["scale"],
        run.carry.internal,
    )
    flat = np.concatenate([np.ravel(s) for s in jax.tree.leaves(found)])
    return np.diag(flat.astype(float))


def at_selected(run: Run, make: Any, *key: Any, more: tuple[Any, ...] = ()) -> Any:
    """
    Run a program of its own at the selected state.

    Parameters
    ----------
    run : Run
        At its end.
    make : callable
        As for `Task.find_program`; the program takes the task's inputs, and the free
        parameters' values.
    *key : object
        What its key must hold besides.
    more : tuple, default=()
        Further arguments.

    Returns
    -------
    pytree
        What it returns.
    """
    task, values = run.task, run.carry.selected.free
    if task.structure.shapes is None:
        values = task.structure.split(values)
    return task.call(make, (values, *more), *key)
