"""Inside of a program: from packed numbers to the state that a loss sees, and bounds.

The optimiser steps in a space of its own, where values are transformed and scaled.
Bounds hold by projection: the loss of the nearest point inside, no gradient across
an active bound, a clip after each update.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ._component import join_numbers
from ._packing import Numbers, Structure
from ._parameter import Parameter
from ._transforms import Pair
from ._typing import PyTree


def internal_bounds(structure: Structure, numbers: Numbers) -> tuple[PyTree, PyTree]:
    """Return the bounds in the space the optimiser steps in."""
    lower, upper = {}, {}
    for i in structure.indices("free"):
        transform = structure.leaves[i].transform
        low, high = numbers["lower"][i], numbers["upper"][i]
        inner_low = jnp.where(jnp.isfinite(low), transform.from_user(low), -jnp.inf)
        inner_high = jnp.where(jnp.isfinite(high), transform.from_user(high), jnp.inf)
        if isinstance(transform, Pair):
            # Its direction is not known: read it off the slope at the start.
            start = transform.from_user(numbers["values"][i])
            _, slope = jax.jvp(transform.to_user, (start,), (jnp.ones_like(start),))
            rises = slope >= 0
            swapped_low = jnp.where(
                jnp.isfinite(high), transform.from_user(high), -jnp.inf
            )
            swapped_high = jnp.where(
                jnp.isfinite(low), transform.from_user(low), jnp.inf
            )
            inner_low = jnp.where(rises, inner_low, swapped_low)
            inner_high = jnp.where(rises, inner_high, swapped_high)
        lower[i] = inner_low / numbers["scale"][i]
        upper[i] = inner_high / numbers["scale"][i]
    return structure.tree(lower), structure.tree(upper)


def internal_start(structure: Structure, numbers: Numbers) -> PyTree:
    """Return the free parameters' values in the space the optimiser steps in."""
    found = {}
    for i in structure.indices("free"):
        value = jnp.asarray(numbers["values"][i])
        inner = structure.leaves[i].transform.from_user(value) / numbers["scale"][i]
        found[i] = inner.astype(value.dtype)
    return structure.tree(found)


@jax.custom_jvp
def clip_keeping_edges(x: Any, lower: Any, upper: Any) -> Any:
    """Clip, with slope 1 inside and on the bounds, and 0 outside.

    `jnp.clip` has slope 1/2 on a bound, where a projected method often is.
    """
    return jnp.clip(x, lower, upper)


@clip_keeping_edges.defjvp
def _clip_jvp(primals: Any, tangents: Any) -> Any:
    x, lower, upper = primals
    inside = (x >= lower) & (x <= upper)
    return jnp.clip(x, lower, upper), jnp.where(inside, tangents[0], 0)


def user_values(
    structure: Structure, numbers: Numbers, internal: PyTree
) -> dict[int, Any]:
    """Return the values of all parameters, in the user's units, by position.

    Bounded parameters never leave their bounds: outside, the value is that of the
    nearest point inside.
    """
    lower, upper = internal_bounds(structure, numbers)
    inner, inner_lower, inner_upper = (
        structure.treedef.flatten_up_to(tree) for tree in (internal, lower, upper)
    )
    found: dict[int, Any] = {}
    for i, leaf in enumerate(structure.leaves):
        if leaf.kind in ("fixed", "array"):
            found[i] = numbers["static"][i]
        elif leaf.kind == "free":
            inside = clip_keeping_edges(inner[i], inner_lower[i], inner_upper[i])
            value = leaf.transform.to_user(inside * numbers["scale"][i])
            # The map back rounds: put the value exactly on a bound it touches.
            low, high = numbers["lower"][i], numbers["upper"][i]
            nearest = jnp.where(value - low <= high - value, low, high)
            on_edge = (inside <= inner_lower[i]) | (inside >= inner_upper[i])
            exact = jnp.where(on_edge, nearest, jnp.clip(value, low, high))
            # (An overflow stays one: inf - inf would make it NaN.)
            shift = jnp.where(exact == value, 0, exact - value)
            value = value + jax.lax.stop_gradient(shift)
            found[i] = value.astype(inner[i].dtype)
    for i, arguments in structure.ties:
        tied = structure.leaves[i].tie(**{name: found[at] for name, at in arguments})
        found[i] = jnp.asarray(tied)
    return found


def build_state(structure: Structure, numbers: Numbers, values: dict[int, Any]) -> Any:
    """Return the state that the loss sees: its structure, with traced numbers.

    A `Parameter` in it has its name, value and prior. Its bounds and scale are
    left out: a loss that read them would make constants of them.
    """
    leaves: list[Any] = []
    for i, leaf in enumerate(structure.leaves):
        if leaf.kind == "constant":
            leaves.append(leaf.constant)
        elif leaf.kind == "array":
            leaves.append(values[i])
        else:
            prior = leaf.prior
            if i in numbers["priors"]:
                prior = join_numbers(prior, numbers["priors"][i])
            free = leaf.kind == "free"
            leaves.append(Parameter(leaf.parameter_name, values[i], free, prior=prior))
    return jax.tree.unflatten(structure.treedef, leaves)


def hold_fixed_entries(
    structure: Structure, numbers: Numbers, new: PyTree, old: PyTree
) -> PyTree:
    """Return ``new``, with the fixed entries of partly free arrays as in ``old``."""
    if not numbers["mask"]:
        return new
    fresh, held = (structure.treedef.flatten_up_to(tree) for tree in (new, old))
    for i, mask in numbers["mask"].items():
        fresh[i] = jnp.where(mask, fresh[i], held[i])
    return jax.tree.unflatten(structure.treedef, fresh)


def active_gradient(
    internal: PyTree, gradient: PyTree, lower: PyTree, upper: PyTree
) -> PyTree:
    """Zero the gradient where following it would leave the box."""

    def project(x: Any, g: Any, low: Any, high: Any) -> Any:
        outward = ((x <= low) & (g > 0)) | ((x >= high) & (g < 0))
        return jnp.where(outward, 0, g)

    return jax.tree.map(project, internal, gradient, lower, upper)


def project(internal: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    """Return the nearest point of the box."""
    return jax.tree.map(
        lambda x, low, high: jnp.clip(x, low, high).astype(x.dtype),
        internal,
        lower,
        upper,
    )
