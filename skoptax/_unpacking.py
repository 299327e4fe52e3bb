"""Inside of a program: from packed numbers to the state that a loss sees, and bounds.

The optimiser steps in a space of its own, where values are transformed and scaled.
Bounds hold by projection: the loss of the nearest point inside, no gradient across
an active bound, a clip after each update.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ._component import join_numbers
from ._parameter import Parameter
from ._structure import Numbers, Structure, separate
from ._tracing import own
from ._transforms import Identity, Log, Logit, Pair
from ._typing import PyTree

# The transforms that call nothing of the user's.
_OWN = (Identity, Log, Logit)


def _leafwise(
    structure: Structure, function: Callable[..., Any], *trees: PyTree
) -> PyTree:
    """Apply ``function(transform, *arrays)`` to each free leaf, or to all at once."""
    if structure.is_plain:
        return jax.tree.map(own(partial(function, Identity())), *trees)
    parts = [structure.split(tree) for tree in trees]

    def apply(i: int) -> Any:
        transform = structure.leaves[i].transform
        # Others have functions of the user's.
        run = own(function) if type(transform) in _OWN else function
        return run(transform, *(part[i] for part in parts))

    return structure.join({i: apply(i) for i in structure.indices("free")})


def internal_bounds(structure: Structure, numbers: Numbers) -> tuple[PyTree, PyTree]:
    """Return the bounds in the space the optimiser steps in."""
    if structure.is_plain and structure.shapes is not None:
        return numbers["inner_bounds"]
    free = separate(structure, numbers)

    def end(side: str) -> Callable[..., Any]:
        def inner(transform: Any, low: Any, high: Any, start: Any, scale: Any) -> Any:
            if isinstance(transform, Identity):
                return (low if side == "lower" else high) / scale
            bound, other = (low, high) if side == "lower" else (high, low)
            beyond = -jnp.inf if side == "lower" else jnp.inf
            found = jnp.where(jnp.isfinite(bound), transform.from_user(bound), beyond)
            if isinstance(transform, Pair):
                # Its direction is not known: read it off the slope at the start.
                point = transform.from_user(start)
                _, slope = jax.jvp(transform.to_user, (point,), (jnp.ones_like(point),))
                swapped = jnp.where(
                    jnp.isfinite(other), transform.from_user(other), beyond
                )
                found = jnp.where(slope >= 0, found, swapped)
            return found / scale

        return inner

    arrays = [free[key] for key in ("lower", "upper", "values", "scale")]
    return (
        _leafwise(structure, end("lower"), *arrays),
        _leafwise(structure, end("upper"), *arrays),
    )


def internal_start(structure: Structure, numbers: Numbers) -> PyTree:
    """Return the free parameters' values in the space the optimiser steps in."""
    free = separate(structure, numbers)

    def inner(transform: Any, value: Any, scale: Any) -> Any:
        value = jnp.asarray(value)
        return (transform.from_user(value) / scale).astype(value.dtype)

    return _leafwise(structure, inner, free["values"], free["scale"])


@jax.custom_jvp
def clip_keeping_edges(x: Any, lower: Any, upper: Any) -> Any:
    """
    Clip, with slope 1 inside and on the bounds, and 0 outside.

    `jnp.clip` has slope 1/2 on a bound, where a projected method often is.
    """
    lower, upper = (jnp.broadcast_to(end, x.shape) for end in (lower, upper))
    return jax.lax.clamp(lower, x, upper)


@clip_keeping_edges.defjvp
def _clip_jvp(primals: Any, tangents: Any) -> Any:
    x, lower, upper = primals
    inside = (x >= lower) & (x <= upper)
    slope = jax.lax.select(inside, tangents[0], jnp.zeros_like(tangents[0]))
    return clip_keeping_edges(x, lower, upper), slope


def user_values(
    structure: Structure, numbers: Numbers, internal: PyTree
) -> dict[int, Any]:
    """
    Return the values of all parameters, in the user's units, by position.

    Bounded parameters never leave their bounds: outside, the value is that of the
    nearest point inside.
    """
    lower, upper = internal_bounds(structure, numbers)
    free = separate(structure, numbers)

    def to_user(
        transform: Any,
        inner: Any,
        inner_lower: Any,
        inner_upper: Any,
        low: Any,
        high: Any,
        scale: Any,
    ) -> Any:
        inside = clip_keeping_edges(inner, inner_lower, inner_upper)
        value = transform.to_user(inside * scale)
        # The map back rounds: put the value exactly on a bound it touches. JAX
        # takes its time for what it differentiates: these operations have no slope.
        near, at = jax.lax.stop_gradient((value, inside))
        low, high = (jnp.broadcast_to(end, near.shape) for end in (low, high))
        nearest = jax.lax.select(near - low <= high - near, low, high)
        on_edge = (at <= inner_lower) | (at >= inner_upper)
        exact = jax.lax.select(on_edge, nearest, jax.lax.clamp(low, near, high))
        # (An overflow stays one: inf - inf would make it NaN.)
        shift = jax.lax.select(exact == near, jnp.zeros_like(near), exact - near)
        return (value + shift).astype(inner.dtype)

    found: dict[int, Any] = {
        i: numbers["static"][i] for i in structure.indices("fixed", "array")
    }
    found |= structure.split(
        _leafwise(
            structure,
            to_user,
            internal,
            lower,
            upper,
            *(free[key] for key in ("lower", "upper", "scale")),
        )
    )
    for i, arguments in structure.ties:
        tied = structure.leaves[i].tie(**{name: found[at] for name, at in arguments})
        found[i] = jnp.asarray(tied)
    return found


def build_state(structure: Structure, numbers: Numbers, values: dict[int, Any]) -> Any:
    """
    Return the state that the loss sees: its structure, with traced numbers.

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
    mask = numbers["mask"]
    if structure.shapes is not None:
        return jnp.where(mask, new, old) if len(mask) else new
    if not mask:
        return new
    fresh, held = (structure.treedef.flatten_up_to(tree) for tree in (new, old))
    for i, entries in mask.items():
        fresh[i] = jnp.where(entries, fresh[i], held[i])
    return jax.tree.unflatten(structure.treedef, fresh)


def active_gradient(
    internal: PyTree, gradient: PyTree, lower: PyTree, upper: PyTree
) -> PyTree:
    """Zero the gradient where following it would leave the box."""

    def project(x: Any, g: Any, low: Any, high: Any) -> Any:
        outward = ((x <= low) & (g > 0)) | ((x >= high) & (g < 0))
        return jax.lax.select(outward, jnp.zeros_like(g), g)

    return jax.tree.map(own(project), internal, gradient, lower, upper)


def _clip_as(x: Any, low: Any, high: Any) -> Any:
    return clip_keeping_edges(x, low, high).astype(x.dtype)


def project(internal: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    """Return the nearest point of the box."""
    return jax.tree.map(
        own(_clip_as),
        internal,
        lower,
        upper,
    )
