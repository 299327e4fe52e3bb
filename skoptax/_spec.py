"""The parameter spec of an estimator: reading, searching and filling it.

A spec is a dict of name to number, array, `Parameter` or nested dict, or a list of
named `Parameter`. These functions never change what they are given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._misreadings import refuse_tuple
from ._model import parameters_from_signature
from ._parameter import Parameter, is_parameter
from ._validation import did_you_mean, invalid, shorten
from .exceptions import InvalidParameterError
from .priors import resolve_prior

OWNER = "OptaxEstimator"

# What an estimator without a model and a spec has; `linear_model` takes them.
LINEAR_PARAMS = {
    "coef": Parameter(value=0.0, shape=("n_features", "n_outputs")),
    "intercept": Parameter(value=0.0, shape=("n_outputs",)),
}


def implied_spec(model: Any, params: Any) -> Any:
    """
    Return ``params``, or what stands in for it where it is ``None``.

    Parameters
    ----------
    model : callable or None
        ``None`` is the linear model.
    params : dict, list of Parameter or None
        What the user wrote.

    Returns
    -------
    dict or list
        The linear model's spec, or the numbers that are defaults in the model's
        signature.

    Raises
    ------
    ModelError
        If the signature has no such defaults.
    """
    if params is not None:
        return params
    return LINEAR_PARAMS if model is None else parameters_from_signature(model)


def read_spec(params: Any) -> dict[str, Any]:
    """
    Return a spec as a dict of dicts, numbers, arrays and parameters.

    Parameters
    ----------
    params : dict or list of Parameter
        What the user wrote.

    Returns
    -------
    dict
        New; the leaves are the user's objects.

    Raises
    ------
    InvalidParameterError
        If it is neither, a name is unusable, or two are equal.
    """
    if isinstance(params, (list, tuple)) and params and all(map(is_parameter, params)):
        names = [p.name for p in params]
        if None in names or len(set(names)) < len(names):
            raise invalid(
                "params", OWNER, "a list of parameters with names, all different", names
            )
        params = {p.name: p for p in params}
    if not isinstance(params, Mapping) or not params:
        raise invalid(
            "params",
            OWNER,
            "a dict of name to start value, such as {'rate': 0.5}, a list of named "
            "Parameter, or None",
            params,
        )
    return {_read_name(k): _read_entry(k, v) for k, v in params.items()}


def _read_name(name: Any) -> str:
    if not isinstance(name, str) or not name or "__" in name:
        raise InvalidParameterError(
            "The names in the 'params' parameter of OptaxEstimator must be non-empty "
            f"str without '__', which separates nested names. Got {shorten(name)} "
            "instead."
        )
    return name


def _read_entry(name: str, entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {_read_name(k): _read_entry(k, v) for k, v in entry.items()}
    if is_parameter(entry) and entry.name not in (None, name):
        raise InvalidParameterError(
            f"The parameter under the key {name!r} of params must have that name or "
            f"none. Got the name {entry.name!r} instead."
        )
    return entry


# Nested names: params__rate__lower.


def spec_fields(params: Any) -> dict[str, Any]:
    """
    Return every nested name of a spec with its value; junk has none.

    Parameters
    ----------
    params : object
        What the user wrote, usable or not.

    Returns
    -------
    dict
        ``rate``, ``rate__value``, ``rate__lower``, ... to their values. A bare
        number has the fields of the parameter that it stands for.
    """
    try:
        spec = read_spec(params)
    except InvalidParameterError:
        return {}
    found: dict[str, Any] = {}

    def visit(prefix: str, entries: Mapping[str, Any]) -> None:
        for name, entry in entries.items():
            found[prefix + name] = entry
            if isinstance(entry, Mapping):
                visit(f"{prefix}{name}__", entry)
            else:
                parameter = entry if is_parameter(entry) else Parameter(value=entry)
                fields = parameter.get_params(deep=True)
                del fields["name"]
                found.update({f"{prefix}{name}__{k}": v for k, v in fields.items()})

    visit("", spec)
    return found


def changed_spec(params: Any, changes: dict[str, Any]) -> Any:
    """
    Return a copy of a spec in which some nested names have other values.

    Parameters
    ----------
    params : dict or list of Parameter
        Left as it is, and so are its parameters.
    changes : dict
        Nested name, such as ``rate__lower``, to value.

    Returns
    -------
    dict or list
        In the form of ``params``.

    Raises
    ------
    InvalidParameterError
        If a name is not in the spec.
    """
    spec = read_spec(params)
    # Whole entries first: a field set in the same call belongs to the new one.
    for name in sorted(changes, key=lambda name: name.count("__")):
        spec = _with_change(spec, name.split("__"), changes[name], name)
    if isinstance(params, (list, tuple)):
        # A bare number that was put in needs the name by which a list finds it.
        return [v if is_parameter(v) else Parameter(k, v) for k, v in spec.items()]
    return spec


def _with_change(
    spec: dict[str, Any], path: list[str], value: Any, whole: str
) -> dict[str, Any]:
    head, *tail = path
    if head not in spec:
        raise InvalidParameterError(
            f"Invalid parameter 'params__{whole}' for estimator OptaxEstimator: the "
            f"spec has {', '.join(map(repr, spec))}.{did_you_mean(head, spec)}"
        )
    entry = spec[head]
    if not tail:
        # A list finds its parameters by name, so one that is put in must have it.
        if is_parameter(value) and is_parameter(entry) and value.name is None:
            value = value.with_fields(name=entry.name)
        new = value
    elif isinstance(entry, Mapping):
        new = _with_change(dict(entry), tail, value, whole)
    else:
        parameter = entry if is_parameter(entry) else Parameter(value=entry)
        new = parameter.with_fields(**{"__".join(tail): value})
    return {**spec, head: new}


# Filling in the data's shape and start values.


def fill_spec(
    spec: dict[str, Any],
    X: np.ndarray,
    y: np.ndarray,
    rng: Callable[[], np.random.Generator],
) -> dict[str, Any]:
    """
    Return a spec whose leaves are parameters with arrays as values.

    Parameters
    ----------
    spec : dict
        From `read_spec`.
    X : ndarray of shape (n, d)
        Inputs, of the fit's data type.
    y : ndarray of shape (n,) or (n, k)
        Responses.
    rng : callable
        Returns the `numpy.random.Generator` for start values that are drawn.

    Returns
    -------
    dict
        Of the structure of ``spec``.

    Raises
    ------
    InvalidParameterError
        If a value or a shape is not usable, or a tuple stands for a start value.
    """

    def visit(prefix: str, entries: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: visit(f"{prefix}{name}.", entry)
            if isinstance(entry, Mapping)
            else _fill(f"{prefix}{name}", entry, X, y, rng)
            for name, entry in entries.items()
        }

    return visit("", spec)


def _fill(name: str, entry: Any, X: Any, y: Any, rng: Any) -> Parameter:
    owner = f"parameter {name!r}"
    refuse_tuple(entry, owner)
    parameter = entry if is_parameter(entry) else Parameter(value=entry)
    value = parameter.value
    if callable(value):
        value = _call_start(value, X, y, rng(), owner)
    if isinstance(value, (str, bytes)) or value is None:
        raise invalid(
            "value", owner, "a number, an array or a function (X, y, rng)", value
        )
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" and not jnp.issubdtype(
            array.dtype, jnp.floating
        ):
            raise TypeError
    except (TypeError, ValueError) as error:
        raise invalid(
            "value", owner, "a real number or an array of them", value
        ) from error
    array = array.astype(X.dtype)
    if parameter._shape is not None:
        shape = _resolve_shape(parameter._shape, X, y, owner)
        try:
            array = np.broadcast_to(array, shape).copy()
        except ValueError as error:
            raise invalid("value", owner, f"of its shape {shape}", value) from error
    return parameter.with_fields(
        value=array, prior=resolve_prior(parameter.prior, owner)
    )


def _call_start(value: Callable[..., Any], X: Any, y: Any, rng: Any, owner: str) -> Any:
    try:
        inspect.signature(value).bind(X, y, rng)
    except TypeError as error:
        must = "a function (X, y, rng) that returns a number or an array"
        raise invalid("value", owner, must, value) from error
    return jax.device_get(value(X, y, rng))


def _resolve_shape(shape: Any, X: Any, y: Any, owner: str) -> tuple[int, ...]:
    sizes = {"n_features": (X.shape[1],), "n_outputs": y.shape[1:]}
    found: tuple[int, ...] = ()
    for size in shape if isinstance(shape, (tuple, list)) else (shape,):
        if isinstance(size, str) and size in sizes:
            found += sizes[size]
        elif isinstance(size, (int, np.integer)) and size >= 0:
            found += (int(size),)
        else:
            must = "a tuple of sizes, 'n_features' and 'n_outputs'"
            remedy = did_you_mean(size, sizes) if isinstance(size, str) else ""
            raise invalid("shape", owner, must, shape, remedy)
    return found
