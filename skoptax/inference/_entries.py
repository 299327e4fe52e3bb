"""The entries of an estimator's parameters, one row each: names, values, kinds."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from .._parameter import is_parameter
from .._state import is_free, leaf_names, reading_order

if TYPE_CHECKING:
    from ._record import FitRecord


class EntryTable(NamedTuple):
    """All entries of all parameters, in the order in which the user wrote them."""

    names: list[str]  # scalars by their name, others as w[0, 1]
    leaves: np.ndarray  # the position of each entry's parameter
    value: np.ndarray
    start: np.ndarray
    free: np.ndarray  # bool
    tied: np.ndarray  # bool
    at_bound: np.ndarray  # bool
    # Where the matrices of the record have the entry: its row of delta, or -1.
    place: np.ndarray

    @property
    def varying(self) -> np.ndarray:
        """The positions of the free and the tied entries."""
        return np.flatnonzero(self.free | self.tied)

    @property
    def estimated(self) -> np.ndarray:
        """The positions of the free entries."""
        return np.flatnonzero(self.free)


def moving(table: EntryTable) -> np.ndarray:
    """
    Return where entries stand that are free and on no bound.

    Parameters
    ----------
    table : EntryTable
        Of the fit.

    Returns
    -------
    ndarray of int
        In the space of the optimiser's steps, in order.
    """
    rows = table.estimated
    return np.asarray(np.sort(table.place[rows[~table.at_bound[rows]]]))


def held_ones(spec: dict[str, Any], at_bound: dict[str, Any]) -> bool:
    """
    Tell whether some entry of a free parameter does not follow the responses.

    Parameters
    ----------
    spec, at_bound : dict
        As `FitRecord` has them.

    Returns
    -------
    bool
        True where one is fixed by a mask, or on its bound.
    """
    treedef: Any
    leaves, treedef = jax.tree.flatten(spec, is_leaf=is_parameter)
    pairs = zip(leaves, treedef.flatten_up_to(at_bound), strict=True)
    return any(
        is_free(leaf) and (np.any(flags) or not np.all(leaf.free))
        for leaf, flags in pairs
    )


def read_table(record: FitRecord) -> EntryTable:
    """
    Return the entries of a fit's parameters.

    Parameters
    ----------
    record : FitRecord
        Of the fit.

    Returns
    -------
    EntryTable
        With a row for each entry.
    """
    return entry_table(record.spec, record.params, record.at_bound)


def entry_table(
    spec: dict[str, Any], params: dict[str, Any], at_bound: dict[str, Any]
) -> EntryTable:
    """
    Return the entries of parameters.

    Parameters
    ----------
    spec, params, at_bound : dict
        As `FitRecord` has them.

    Returns
    -------
    EntryTable
        With a row for each entry.
    """
    treedef: Any
    with_paths, treedef = jax.tree_util.tree_flatten_with_path(
        spec, is_leaf=is_parameter
    )
    leaves = [leaf for _, leaf in with_paths]
    names = leaf_names(with_paths)
    values = treedef.flatten_up_to(params)
    flags = treedef.flatten_up_to(at_bound)
    # Free leaves come first in the matrices, then tied ones.
    place, start = {}, 0
    for wanted in (is_free, lambda leaf: leaf.tie is not None):
        for i, leaf in enumerate(leaves):
            if wanted(leaf):
                place[i] = start
                start += int(np.size(values[i]))
    rows: list[tuple[Any, ...]] = []
    for i in reading_order(spec):
        leaf, shape = leaves[i], np.shape(values[i])
        free = np.broadcast_to(leaf.free if is_free(leaf) else False, shape).ravel()
        begin = np.broadcast_to(np.asarray(leaf.value, float), shape).ravel()
        value, bound = np.ravel(values[i]), np.ravel(flags[i])
        for k, index in enumerate(product(*map(range, shape))):
            name = f"{names[i]}[{', '.join(map(str, index))}]" if shape else names[i]
            where = place[i] + k if i in place else -1
            tied = leaf.tie is not None
            first = np.nan if tied else begin[k]
            rows.append((name, i, value[k], first, free[k], tied, bound[k], where))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(EntryTable._fields)
    types = (int, float, float, bool, bool, bool, int)
    arrays: list[Any] = [
        np.array(c, t) for c, t in zip(columns[1:], types, strict=True)
    ]
    return EntryTable(list(columns[0]), *arrays)
