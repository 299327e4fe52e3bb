"""Naming, ordering, splitting and joining the parameters of a state."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._parameter import Parameter, is_parameter
from ._typing import PyTree

__all__ = ["combine_state", "named_parameters", "partition_state"]


def is_free(leaf: Any) -> bool:
    """Tell whether a leaf is a `Parameter` with at least one free entry."""
    if not is_parameter(leaf) or leaf.tie is not None:
        return False
    return leaf.free if isinstance(leaf.free, bool) else bool(np.any(leaf.free))


def path_name(path: tuple[Any, ...]) -> str:
    """Return a pytree path as a dotted name, such as ``layers.0.w``."""
    parts = []
    for key in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(key, attribute):
                parts.append(str(getattr(key, attribute)))
                break
        else:
            parts.append(str(key))
    return ".".join(parts)


def leaf_names(leaves: list[tuple[tuple[Any, ...], Any]]) -> list[str]:
    """
    Return a unique name for each (path, leaf) of a flattened state.

    A `Parameter` that has a name of its own goes by it, unless another leaf has
    that name too; anything else goes by its path.
    """
    own = [leaf.name if is_parameter(leaf) else None for _, leaf in leaves]
    paths = [path_name(path) or "value" for path, _ in leaves]
    names = [n if n is not None else p for n, p in zip(own, paths, strict=True)]
    return (
        [
            path if names.count(name) > 1 else name
            for name, path in zip(names, paths, strict=True)
        ]
        if len(set(names)) < len(names)
        else names
    )


def reading_order(state: PyTree) -> list[int]:
    """
    Return the positions of a state's leaves in the order the user wrote them.

    Parameters
    ----------
    state : pytree
        Dicts in it are read in their own order.

    Returns
    -------
    list of int
        A permutation of the positions in JAX's flattened order.
    """
    leaves, treedef = jax.tree.flatten(state, is_leaf=is_parameter)

    def visit(part: PyTree, positions: PyTree) -> list[int]:
        if type(part) is dict:
            return [i for key in part for i in visit(part[key], positions[key])]
        return jax.tree.leaves(positions)

    return visit(state, jax.tree.unflatten(treedef, range(len(leaves))))


def named_parameters(tree: PyTree) -> dict[str, Parameter]:
    """
    Return the parameters of a state by name, in the pytree's order.

    For callbacks, and for losses that take any state: it finds the parameters wherever
    they are. It returns the leaves themselves, not copies.

    Parameters
    ----------
    tree : pytree
        A state, or the ``diff_state``, ``static_state`` or ``grads`` that a
        callback receives.

    Returns
    -------
    dict
        Name to `Parameter`. The name is the parameter's own or, where it has
        none or shares it with another, its path, such as ``layers.0.w``.

    See Also
    --------
    partition_state : Splits a state by which of them are free.
    skoptax.callbacks.SaveParameters : Collects their values at each step.

    Examples
    --------
    >>> from skoptax import Parameter, named_parameters
    >>> state = {"a": Parameter(value=1.0), "b": [Parameter("slope", 2.0), 3.0]}
    >>> list(named_parameters(state))
    ['a', 'slope']
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_parameter)[0]
    leaves = [(path, leaf) for path, leaf in leaves if is_parameter(leaf)]
    return {
        name: leaf for name, (_, leaf) in zip(leaf_names(leaves), leaves, strict=True)
    }


def partition_state(state: PyTree) -> tuple[PyTree, PyTree]:
    """
    Split a state into what is optimised and what is not.

    A parameter of which some entries are free counts as free; one that is tied does
    not. Both parts have the state's structure, so that `combine_state` can join them.

    Parameters
    ----------
    state : pytree
        Any pytree with `Parameter` leaves.

    Returns
    -------
    diff_state : pytree
        The free parameters, with ``None`` in all other places.
    static_state : pytree
        The reverse.

    See Also
    --------
    combine_state : The inverse.
    named_parameters : The parameters of either part, by name.

    Examples
    --------
    >>> from skoptax import Parameter, partition_state
    >>> partition_state({"a": Parameter(value=1.0), "b": 2.0})
    ({'a': Parameter(value=1.0), 'b': None}, {'a': None, 'b': 2.0})
    """
    leaves, treedef = jax.tree.flatten(state, is_leaf=is_parameter)
    free = [is_free(leaf) for leaf in leaves]
    diff = [leaf if f else None for leaf, f in zip(leaves, free, strict=True)]
    static = [None if f else leaf for leaf, f in zip(leaves, free, strict=True)]
    return jax.tree.unflatten(treedef, diff), jax.tree.unflatten(treedef, static)


def combine_state(diff_state: PyTree, static_state: PyTree) -> PyTree:
    """
    Join what `partition_state` split.

    A callback that needs the whole state, to evaluate a model say, joins its two
    arguments so.

    Parameters
    ----------
    diff_state, static_state : pytree
        Two pytrees of one structure, each with ``None`` where the other has a
        leaf.

    Returns
    -------
    pytree
        The whole state.

    See Also
    --------
    partition_state : Makes the two parts.
    skoptax.callbacks.Callback : Receives them after each step.

    Examples
    --------
    >>> from skoptax import combine_state
    >>> combine_state({"a": 1.0, "b": None}, {"a": None, "b": 2.0})
    {'a': 1.0, 'b': 2.0}
    """

    def is_leaf(leaf: Any) -> bool:
        return leaf is None or is_parameter(leaf)

    return jax.tree.map(
        lambda d, s: s if d is None else d, diff_state, static_state, is_leaf=is_leaf
    )
