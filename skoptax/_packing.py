"""From a state to what a compiled program takes.

A state is packed before the jit. Its *structure* (which leaf is free, fixed,
tied or constant, and how it is transformed) becomes part of the program's key;
its *numbers* (values, bounds, scales, fixed values, data, prior hyperparameters)
become arrays that the program receives.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._component import Component, split_numbers
from ._parameter import Parameter, is_parameter
from ._state import is_free, leaf_names, path_name
from ._structure import Leaf, Numbers, Structure
from ._transforms import Identity, Transform, check_range, resolve_transform
from ._typing import PyTree
from ._validation import did_you_mean, invalid, is_number, shorten
from .exceptions import InvalidParameterError


def wants_float64(state: PyTree) -> bool:
    """Tell whether a leaf of the state is of double precision."""

    def is_double(leaf: Any) -> bool:
        value = leaf.value if is_parameter(leaf) else leaf
        if isinstance(value, (list, tuple)):
            return False
        return getattr(value, "dtype", None) in (np.float64, np.complex128)

    return any(map(is_double, jax.tree.leaves(state, is_leaf=is_parameter)))


def pack(state: PyTree, owner: str) -> tuple[Structure, Numbers]:
    """
    Split a state into its structure and its numbers.

    Parameters
    ----------
    state : pytree
        Any pytree with `Parameter` leaves.
    owner : str
        Named in errors.

    Returns
    -------
    structure : Structure
        Compared by content; part of the program's key.
    numbers : dict
        Arrays, to be passed to the program: ``values``, ``lower``, ``upper``,
        ``scale`` and ``mask`` of the free parameters, ``static`` of all else,
        ``priors``; each a dict by leaf position.

    Raises
    ------
    InvalidParameterError
        If nothing is free, or a spec contradicts itself.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_parameter)
    names = leaf_names(flat)
    leaves = []
    numbers: Numbers = {
        key: {}
        for key in ("values", "lower", "upper", "scale", "mask", "static", "priors")
    }
    for index, (name, (_, leaf)) in enumerate(zip(names, flat, strict=True)):
        if is_parameter(leaf):
            leaves.append(_pack_parameter(leaf, name, index, numbers))
        elif isinstance(leaf, jax.core.Tracer):
            raise invalid("state", owner, f"without tracers: {name!r} is one", leaf)
        elif _is_argument(leaf):
            numbers["static"][index] = leaf
            leaves.append(Leaf("array", name))
        else:
            leaves.append(Leaf("constant", name, constant=leaf))
    ties: Any = ()
    if any(leaf.kind == "tied" for leaf in leaves):
        ties = _order_ties(leaves, [path_name(path) for path, _ in flat])
    # After the ties: where each waits for another, that is what is wrong.
    if not any(is_free(leaf) for _, leaf in flat):
        raise InvalidParameterError(
            f"{owner} has nothing to optimise: the state has no free Parameter. Wrap "
            "the values to be optimised, as in "
            "{'weight': Parameter(value=1.0)}, or set free=True."
        )
    return Structure(treedef, tuple(leaves), ties), numbers


def _is_argument(leaf: Any) -> bool:
    """Tell whether a static leaf travels as an argument: floats and arrays do."""
    if isinstance(leaf, (float, complex, np.floating, np.complexfloating)):
        return True
    return isinstance(leaf, jax.Array) or (
        isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufcV"
    )


def _pack_parameter(
    parameter: Parameter, name: str, index: int, numbers: Numbers
) -> Leaf:
    owner = f"parameter {name!r}"
    prior = parameter.prior
    if isinstance(prior, Component):
        numbers["priors"][index], prior = split_numbers(prior)
    if parameter.tie is not None:
        if not callable(parameter.tie):
            raise invalid("tie", owner, "a function of other parameters", parameter.tie)
        for field in ("lower", "upper", "scale", "transform"):
            if getattr(parameter, field) is not None:
                raise invalid(
                    field,
                    owner,
                    "None, because the parameter is tied",
                    getattr(parameter, field),
                    "Give it to the parameters that it depends on.",
                )
        return Leaf("tied", name, parameter.name, tie=parameter.tie, prior=prior)
    if not is_free(parameter):
        value = parameter._array()
        if isinstance(value, jax.core.Tracer):
            raise invalid("value", owner, "a number or an array", value)
        if parameter.lower is not None or parameter.upper is not None:
            checked_bounds(parameter, np.asarray(value, dtype=float), owner)
        is_int = is_number(value) and not hasattr(value, "dtype")
        numbers["static"][index] = float(value) if is_int else value
        return Leaf("fixed", name, parameter.name, prior=prior)

    value = start_value(parameter, owner)
    transform = resolve_transform(parameter.transform, owner)
    lower, upper = checked_bounds(parameter, value, owner)
    if not isinstance(transform, Identity):
        check_range(transform, lower, upper, np.asarray(value), owner)
    free: Any = np.True_ if parameter.free is True else np.asarray(parameter.free)
    if free.dtype != bool or (free.ndim and free.shape != np.shape(value)):
        raise invalid(
            "free",
            owner,
            f"a bool or an array of bool of shape {np.shape(value)}",
            parameter.free,
        )
    numbers["values"][index] = value
    numbers["lower"][index] = lower
    numbers["upper"][index] = upper
    numbers["scale"][index] = _scale(parameter, value, transform, owner)
    if free.ndim:
        numbers["mask"][index] = free
    return Leaf(
        "free", name, parameter.name, transform, masked=bool(free.ndim), prior=prior
    )


def start_value(parameter: Parameter, owner: str) -> Any:
    """
    Return a free parameter's start value as a floating-point array.

    Parameters
    ----------
    parameter : Parameter
        Its value is read.
    owner : str
        Named in errors.

    Returns
    -------
    ndarray or jax.Array
        Of the value's own data type if that is a floating-point type, else of
        JAX's default one.

    Raises
    ------
    InvalidParameterError
        If the value is not real and finite.
    """
    value = parameter._array()
    # (JAX's questions know more types, and take longer.)
    if type(value) is not np.ndarray:
        if isinstance(value, jax.core.Tracer):
            raise invalid("value", owner, "a real number or an array of them", value)
        if not isinstance(value, jax.Array):
            value = np.asarray(value)
    is_real = value.dtype.kind == "f" or jnp.issubdtype(value.dtype, jnp.floating)
    if not is_real and not jnp.issubdtype(value.dtype, jnp.integer):
        raise invalid("value", owner, "a real number or an array of them", value)
    keeps = isinstance(parameter.value, np.floating)
    if not is_real or (is_number(parameter.value) and not keeps):
        # A plain Python number has no precision of its own.
        value = value.astype(value.dtype if keeps else jnp.result_type(float))
    if not isinstance(value, jax.Array) and not np.isfinite(value).all():
        raise invalid("value", owner, "finite", value)
    return value


def checked_bounds(
    parameter: Parameter, value: Any, owner: str
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a parameter's bounds as arrays, infinite where there are none.

    Parameters
    ----------
    parameter : Parameter
        Its bounds and its prior's support are read.
    value : ndarray
        Its start value.
    owner : str
        Named in errors.

    Returns
    -------
    lower, upper : ndarray
        Of the value's data type, each a scalar or of the value's shape.

    Raises
    ------
    InvalidParameterError
        If they are reversed, do not fit the value's shape, or leave the start
        value outside.
    """
    if parameter.lower is None and parameter.upper is None and parameter.prior is None:
        return np.asarray(-np.inf, value.dtype), np.asarray(np.inf, value.dtype)
    ends = []
    for side, infinite in (("lower", -np.inf), ("upper", np.inf)):
        given = getattr(parameter, side)
        try:
            if isinstance(given, str):
                raise TypeError
            end = np.asarray(infinite if given is None else given, dtype=value.dtype)
            if end.ndim:
                np.broadcast_to(end, value.shape)
        except (TypeError, ValueError) as error:
            must = f"a number or an array of shape {value.shape}"
            raise invalid(side, owner, must, given) from error
        if np.isnan(end).any():
            raise invalid(side, owner, "a number, not NaN", given)
        ends.append(end)
    lower, upper = ends
    start = np.asarray(value)
    if not ((lower <= upper) & (lower < np.inf) & (upper > -np.inf)).all():
        raise _without_room(parameter, lower, upper, owner)
    if hasattr(parameter.prior, "support"):
        low, high = parameter.prior.support()
        lower = np.maximum(lower, np.asarray(low, dtype=value.dtype))
        upper = np.minimum(upper, np.asarray(high, dtype=value.dtype))
        # Of the user's own bounds it may well be within.
        if ((start < low) | (start > high)).any():
            raise InvalidParameterError(
                f"The start value of {owner} must lie in the support "
                f"[{low}, {high}] of its prior {shorten(parameter.prior)}. Got "
                f"{shorten(start.tolist())} instead. Move the start, or choose a prior "
                "that allows it."
            )
    if ((start < lower) | (start > upper)).any():
        raise InvalidParameterError(
            f"The start value of {owner} must lie within its bounds "
            f"[{shorten(lower.tolist())}, {shorten(upper.tolist())}]. Got "
            f"{shorten(start.tolist())} instead. Move the start, or the bounds."
        )
    return lower, upper


def _without_room(
    parameter: Parameter, lower: np.ndarray, upper: np.ndarray, owner: str
) -> InvalidParameterError:
    got = (
        f"Got lower={shorten(parameter.lower)} and upper={shorten(parameter.upper)} "
        "instead."
    )
    if np.any(lower == np.inf) or np.any(upper == -np.inf):
        return InvalidParameterError(
            f"The bounds of {owner} must leave room for a value. {got} No bound is "
            "None."
        )
    return InvalidParameterError(
        f"The 'lower' parameter of {owner} must not exceed its 'upper'. {got} Were "
        "they swapped?"
    )


def _scale(
    parameter: Parameter, value: Any, transform: Transform, owner: str
) -> np.ndarray:
    given = parameter.scale
    if given is None:
        return np.asarray(1.0, value.dtype)
    if isinstance(given, str) and given == "value":
        given = np.abs(np.asarray(transform.from_user(np.asarray(value))))
        if not np.all(given > 0):
            raise invalid(
                "scale", owner, "'value' only where the start is not 0", parameter.value
            )
    try:
        scale = np.asarray(given, dtype=value.dtype)
        np.broadcast_to(scale, value.shape)
        usable = bool(np.all(np.isfinite(scale) & (scale > 0)))
    except (TypeError, ValueError):
        usable = False
    if not usable:
        must = f"positive: 'value', a number or an array of shape {value.shape}"
        raise invalid("scale", owner, must, parameter.scale)
    return scale


def _order_ties(
    leaves: Sequence[Leaf], paths: Sequence[str]
) -> tuple[tuple[int, tuple[tuple[str, int], ...]], ...]:
    positions = {path: i for i, path in enumerate(paths)}
    positions |= {leaf.name: i for i, leaf in enumerate(leaves)}
    positions = {k: i for k, i in positions.items() if leaves[i].kind != "constant"}
    needs: dict[int, tuple[tuple[str, int], ...]] = {}
    for index, leaf in enumerate(leaves):
        if leaf.kind != "tied":
            continue
        arguments = tie_arguments(leaf.tie)
        for argument in arguments:
            if argument not in positions:
                raise InvalidParameterError(
                    f"The tie of parameter {leaf.name!r} refers to {argument!r}, which "
                    f"is no parameter.{did_you_mean(argument, positions)}"
                )
        needs[index] = tuple((a, positions[a]) for a in arguments)
    ordered: list[int] = []
    while len(ordered) < len(needs):
        ready = [
            i
            for i, wanted in needs.items()
            if i not in ordered
            and all(at not in needs or at in ordered for _, at in wanted)
        ]
        if not ready:
            stuck = sorted(leaves[i].name for i in needs if i not in ordered)
            raise InvalidParameterError(
                f"The ties of the parameters {', '.join(map(repr, stuck))} are "
                "circular: each waits for another. Make one of them free or fixed."
            )
        ordered += ready
    return tuple((i, needs[i]) for i in ordered)


def tie_arguments(tie: Any) -> list[str]:
    """Return the names of the parameters that a tie is a function of."""
    return list(inspect.signature(tie).parameters)
