"""What the trace knows of a state, and the space that the optimiser steps in.

The optimiser sees either the state's own pytree with an array for each free
parameter, or, where that makes no difference to it, one vector of all their
entries: a step over a few parameters then costs a few kernels instead of a few for
each of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ._transforms import Identity, Transform
from ._typing import PyTree

Numbers = dict[str, Any]

# Up to so many entries are put into one vector. Beyond, taking it apart at each step
# costs more than the kernels that it saves.
JOINT_ENTRIES = 1024
# The numbers of a free parameter.
FREE_NUMBERS = ("values", "lower", "upper", "scale")


@dataclass(frozen=True)
class Leaf:
    """What the trace sees of one leaf of a state: everything but its numbers."""

    kind: Literal["free", "fixed", "tied", "array", "constant"]
    name: str
    parameter_name: str | None = None
    transform: Transform = field(default_factory=Identity)
    masked: bool = False
    tie: Any = None
    prior: Any = None
    constant: Any = None

    def content(self) -> tuple[Any, ...]:
        """Return what a content key must hold of it."""
        transform = None if type(self.transform) is Identity else self.transform
        about = (self.kind, self.name, self.parameter_name, self.masked)
        more = (transform, self.tie, self.prior, self.constant)
        # (Most have nothing more, and a walk takes its time.)
        return about if all(part is None for part in more) else (about, *more)


@dataclass(frozen=True)
class Structure:
    """The part of a state that is known at trace time."""

    treedef: Any
    leaves: tuple[Leaf, ...]
    # (position of a tied leaf, its arguments' names and positions), in an order
    # in which each can be computed.
    ties: tuple[tuple[int, tuple[tuple[str, int], ...]], ...]
    # The shapes of the free leaves, if they form one vector.
    shapes: tuple[tuple[int, ...], ...] | None = None

    def content(self) -> tuple[Any, ...]:
        """Return what a content key must hold of it."""
        return (
            treedef_content(self.treedef),
            tuple(leaf.content() for leaf in self.leaves),
            self.ties,
            self.shapes,
        )

    def indices(self, *kinds: str) -> list[int]:
        """Return the positions of the leaves of these kinds."""
        return [i for i, leaf in enumerate(self.leaves) if leaf.kind in kinds]

    def tree(self, values: dict[int, Any]) -> PyTree:
        """Build a pytree of the state's structure, ``None`` where nothing is given."""
        return jax.tree.unflatten(
            self.treedef, [values.get(i) for i in range(len(self.leaves))]
        )

    @property
    def is_plain(self) -> bool:
        """Whether no free parameter is transformed."""
        return all(
            type(leaf.transform) is Identity
            for leaf in self.leaves
            if leaf.kind == "free"
        )

    def join(self, values: dict[int, Any]) -> PyTree:
        """
        Build what the optimiser steps in from the free leaves' values.

        Parameters
        ----------
        values : dict of int to array
            By position.

        Returns
        -------
        array of shape (p,) or pytree
            Their entries one after the other, or in the state's structure.
        """
        if self.shapes is None:
            return self.tree({i: values[i] for i in self.indices("free")})
        return jnp.concatenate([jnp.ravel(values[i]) for i in self.indices("free")])

    def split(self, joined: PyTree) -> dict[int, Any]:
        """
        Return the free leaves' values by position: the inverse of `join`.

        Parameters
        ----------
        joined : array of shape (p,) or pytree
            NumPy arrays come back as NumPy arrays.

        Returns
        -------
        dict of int to array
            By position.
        """
        free = self.indices("free")
        if self.shapes is None:
            leaves = self.treedef.flatten_up_to(joined)
            return {i: leaves[i] for i in free}
        found, start = {}, 0
        for i, shape in zip(free, self.shapes, strict=True):
            end = start + math.prod(shape)
            found[i] = joined[start:end].reshape(shape) if shape else joined[start, ...]
            start = end
        return found


def treedef_content(treedef: Any) -> Any:
    """Return what a content key must hold of a pytree's structure."""
    node = treedef.node_data()
    return None if node is None else (node, [*map(treedef_content, treedef.children())])


def joined(structure: Structure, numbers: Numbers) -> tuple[Structure, Numbers]:
    """
    Let the optimiser step in one vector, if the free parameters form one.

    Parameters
    ----------
    structure : Structure
        Of a packed state.
    numbers : dict
        Its numbers, by leaf position.

    Returns
    -------
    structure : Structure
        With ``shapes``; unchanged where the free leaves have different data types
        or too many entries.
    numbers : dict
        Those of the free leaves as vectors of shape (p,).
    """
    free = structure.indices("free")
    values = [numbers["values"][i] for i in free]
    one_type = len({value.dtype for value in values}) == 1
    if not one_type or sum(np.size(value) for value in values) > JOINT_ENTRIES:
        return structure, numbers
    shapes = tuple(np.shape(value) for value in values)

    def vector(entries: Sequence[Any], dtype: Any) -> np.ndarray:
        if not any(shapes):
            return np.array(entries, dtype)
        full = [
            np.broadcast_to(np.asarray(entry), shape).ravel() if shape else [entry]
            for entry, shape in zip(entries, shapes, strict=True)
        ]
        return np.concatenate(full).astype(dtype, copy=False)

    new = dict(numbers)
    for key in FREE_NUMBERS:
        new[key] = vector([numbers[key][i] for i in free], values[0].dtype)
    # The same division in the program would be a computation of its own.
    new["inner_bounds"] = (new["lower"] / new["scale"], new["upper"] / new["scale"])
    if numbers["mask"]:
        new["mask"] = vector([numbers["mask"].get(i, np.True_) for i in free], bool)
    return dataclasses.replace(structure, shapes=shapes), new


def separate(structure: Structure, numbers: Numbers) -> Numbers:
    """
    Return the free leaves' numbers in what the optimiser steps in.

    Parameters
    ----------
    structure : Structure
        Of a packed state.
    numbers : dict
        As `pack` or `joined` makes them.

    Returns
    -------
    dict
        ``values``, ``lower``, ``upper`` and ``scale``: vectors or pytrees.
    """
    if structure.shapes is not None:
        return {key: numbers[key] for key in FREE_NUMBERS}
    return {key: structure.tree(numbers[key]) for key in FREE_NUMBERS}
