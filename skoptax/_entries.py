"""The entries of the free parameters, one after the other, as NumPy arrays."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np

from ._parameter import is_parameter
from ._state import reading_order
from ._structure import Numbers, Structure, separate
from ._transforms import Logit
from ._typing import PyTree


class Entries(NamedTuple):
    """Numbers of the free parameters, in the order of their leaves."""

    values: np.ndarray  # of shape (p,), in the user's units
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fixed: np.ndarray  # bool: a fixed entry of a partly free array

    @property
    def at_bound(self) -> np.ndarray:
        """Which entries are exactly on a bound, and not fixed there."""
        on = (self.values == self.lower) | (self.values == self.upper)
        return np.asarray(on & ~self.fixed)


def read_entries(structure: Structure, numbers: Numbers, values: PyTree) -> Entries:
    """
    Return the free parameters' numbers as flat arrays.

    Parameters
    ----------
    structure : Structure
        Of a packed state.
    numbers : dict
        Its numbers.
    values : pytree
        Values in the user's units, as `Structure.join` has them.

    Returns
    -------
    Entries
        With ``start`` from ``numbers``.
    """
    mask = numbers["mask"]
    packed = separate(structure, numbers)
    values = jax.tree.map(np.asarray, values)
    if structure.shapes is not None:
        # They are flat already.
        return Entries(
            values,
            np.asarray(packed["values"]),
            np.asarray(packed["lower"]),
            np.asarray(packed["upper"]),
            ~mask if len(mask) else np.zeros(len(values), bool),
        )
    found = structure.split(values)
    shapes = {i: np.shape(value) for i, value in found.items()}

    def flat(parts: dict[int, Any]) -> np.ndarray:
        full = [np.broadcast_to(np.asarray(parts[i]), shapes[i]) for i in shapes]
        return np.concatenate([part.ravel() for part in full])

    flat_values = flat(found)
    is_free = flat({i: mask.get(i, True) for i in shapes}) if mask else np.True_
    return Entries(
        flat_values,
        flat(structure.split(packed["values"])),
        flat(structure.split(packed["lower"])),
        flat(structure.split(packed["upper"])),
        ~np.broadcast_to(is_free, flat_values.shape),
    )


def entry_names(structure: Structure, values: PyTree) -> list[str]:
    """
    Return the entries' names: that of a scalar parameter, or ``w[0, 1]``.

    Parameters
    ----------
    structure : Structure
        Of a packed state.
    values : pytree
        As for `read_entries`.

    Returns
    -------
    list of str
        In the order of the entries.
    """
    names = []
    shapes = structure.shapes or map(np.shape, structure.split(values).values())
    for i, shape in zip(structure.indices("free"), shapes, strict=True):
        name = structure.leaves[i].name
        if not shape:
            names.append(name)
            continue
        places = product(*map(range, shape))
        names += [f"{name}[{', '.join(map(str, place))}]" for place in places]
    return names


def written_order(structure: Structure, state: PyTree) -> list[int]:
    """
    Return the positions of the entries in the order the user wrote their parameters.

    JAX sorts the keys of a dict, and so the leaves and their entries. What is told
    of entries by name is in the order of the tables, which is the user's.

    Parameters
    ----------
    structure : Structure
        Of the packed state.
    state : pytree
        The state, with start values.

    Returns
    -------
    list of int
        A permutation of the positions of the entries of free parameters.
    """
    leaves = jax.tree.leaves(state, is_leaf=is_parameter)
    first, places = 0, {}
    for i in structure.indices("free"):
        size = int(np.size(leaves[i].value))
        places[i] = range(first, first + size)
        first += size
    return [k for i in reading_order(state) for k in places.get(i, ())]


def count_entries(structure: Structure, numbers: Numbers) -> int:
    """Return how many entries the free parameters have."""
    values = separate(structure, numbers)["values"]
    return sum(map(np.size, jax.tree.leaves(values)))


def start_box(structure: Structure, numbers: Numbers) -> Entries:
    """
    Return the start, and within which bounds others may be drawn.

    Parameters
    ----------
    structure : Structure
        Of a packed state.
    numbers : dict
        Its numbers.

    Returns
    -------
    Entries
        At the start.
    """
    start = separate(structure, numbers)["values"]
    entries = read_entries(structure, numbers, start)
    is_share = np.concatenate(
        [
            np.full(np.size(x), isinstance(structure.leaves[i].transform, Logit))
            for i, x in structure.split(start).items()
        ]
    )
    # Not at the very ends, which the transform takes to infinity.
    edge = np.finfo(entries.values.dtype).eps
    lower, upper = np.maximum(entries.lower, edge), np.minimum(entries.upper, 1 - edge)
    return entries._replace(
        lower=np.where(is_share, lower, entries.lower),
        upper=np.where(is_share, upper, entries.upper),
    )


def stacked_values(structure: Structure, numbers: Numbers, rows: np.ndarray) -> Any:
    """
    Return many states' free values as the packed numbers hold those of one.

    Parameters
    ----------
    structure : Structure
        Of a packed state.
    numbers : dict
        Its numbers.
    rows : ndarray of shape (k, p)
        The entries of each, in the user's units.

    Returns
    -------
    array or dict of int to array
        With an axis of length k in front.
    """
    if structure.shapes is not None:
        return rows
    found, start = {}, 0
    for i, value in numbers["values"].items():
        size = int(np.size(value))
        found[i] = rows[:, start : start + size].reshape(-1, *np.shape(value))
        start += size
    return found
