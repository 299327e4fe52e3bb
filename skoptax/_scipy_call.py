"""SciPy's call of `curve_fit`: its arguments, read and checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import Bounds

from ._validation import invalid
from .exceptions import InvalidParameterError

OWNER = "curve_fit"
# What SciPy's arguments are called here.
INSTEAD = {
    "method": "choose an optimizer, such as 'lm' or 'lbfgs'",
    "maxfev": "max_steps limits the steps",
    "max_nfev": "max_steps limits the steps",
    "jac": "JAX differentiates f, and mode='fwd' or 'rev' says how",
    "ftol": "tol is the tolerance",
    "xtol": "tol is the tolerance",
    "gtol": "tol is the tolerance",
    "f_scale": "give it to the loss, as in skoptax.losses.Huber(delta=...)",
    "nan_policy": "leave rows with NaN out of x and y",
    "check_finite": "x and y are always checked",
    "full_output": "what the result knows is in its attributes, such as history_",
}


def one_of(name: str, given: Any, scipys_name: str, scipys: Any) -> Any:
    """Return data that come by our name or by SciPy's."""
    if given is not None and scipys is not None:
        raise TypeError(
            f"{OWNER}() got both {name!r} and {scipys_name!r}, SciPy's name of the "
            "same. Leave one of them out."
        )
    if given is None and scipys is None:
        raise TypeError(
            f"{OWNER}() lacks {name!r}: write {OWNER}(f, x, y), or with SciPy's names "
            f"{OWNER}(f, xdata=..., ydata=...)."
        )
    return scipys if given is None else given


def as_array(name: str, value: Any, must: str) -> np.ndarray:
    """Return data as an array; ``must`` says what is wanted, for the error."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise invalid(name, OWNER, must, value) from error


def _numbers(name: str, value: Any, must: str) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise invalid(name, OWNER, must, value) from error


def parameter_names(f: Callable[..., Any], p0: Any) -> tuple[str, ...]:
    """Return the names of a function's arguments after the first one."""
    if not callable(f):
        raise invalid("f", OWNER, "a function f(x, a, b, ...)", f)
    arguments, is_readable = [], True
    try:
        arguments = list(inspect.signature(f).parameters.values())[1:]
    except (TypeError, ValueError):
        is_readable = False
    named = [
        p.name
        for p in arguments
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    takes_any = not is_readable or any(p.kind is p.VAR_POSITIONAL for p in arguments)
    if p0 is None:
        if takes_any or not named:
            raise InvalidParameterError(
                f"{OWNER} cannot tell how many parameters f has from its signature. "
                "Give p0."
            )
        return tuple(named)
    count = np.size(_numbers("p0", p0, "a number for each parameter"))
    if not takes_any and count != len(named):
        required = [p for p in arguments if p.default is p.empty]
        if not len(required) <= count <= len(named):
            raise invalid(
                "p0", OWNER, f"of length {len(named)}, one for each of {named}", p0
            )
    if not takes_any and not named:
        raise invalid("f", OWNER, "a function f(x, a, b, ...)", f)
    names = named[:count]
    for i in range(len(names), count):
        name = f"p{i}"
        while name in names:
            name += "_"
        names.append(name)
    return tuple(names)


def read_bounds(bounds: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds, one for each parameter."""
    must = "two numbers, two arrays of one number for each parameter, or a Bounds"
    if isinstance(bounds, Bounds):
        bounds = (bounds.lb, bounds.ub)
    try:
        low, high = bounds
        lower, upper = (
            np.broadcast_to(np.asarray(end, float), (count,)) for end in (low, high)
        )
    except (TypeError, ValueError) as error:
        raise invalid("bounds", OWNER, must, bounds) from error
    if not np.all((lower < np.inf) & (upper > -np.inf)):  # NaN is neither
        raise invalid("bounds", OWNER, must, bounds)
    return lower, upper


def start_values(
    p0: Any, lower: np.ndarray, upper: np.ndarray, count: int
) -> np.ndarray:
    """Return start values: those given, or what SciPy takes between such bounds."""
    if p0 is not None:
        return np.asarray(p0, float).reshape(count)
    below, above = np.isfinite(lower), np.isfinite(upper)
    start = np.ones(count)
    start[below & above] = 0.5 * (lower[below & above] + upper[below & above])
    start[below & ~above] = lower[below & ~above] + 1
    start[~below & above] = upper[~below & above] - 1
    return start


def finite_or_none(bound: float) -> float | None:
    """Return a bound as `Parameter` has it."""
    return float(bound) if np.isfinite(bound) else None


def weights_of(sigma: Any, n: int) -> np.ndarray | None:
    """Return the rows' weights by their standard deviations."""
    if sigma is None:
        return None
    errors = _numbers("sigma", sigma, f"positive, a number or {n} of them")
    if errors.ndim == 2:
        raise invalid(
            "sigma",
            OWNER,
            "one standard deviation for each response",
            sigma,
            "For correlated errors, multiply f and y by the inverse of the Cholesky "
            "factor of their covariance.",
        )
    if errors.shape not in ((), (n,)) or not np.all((errors > 0) & (errors < np.inf)):
        raise invalid("sigma", OWNER, f"positive, a number or {n} of them", sigma)
    return np.asarray(1 / np.broadcast_to(errors, (n,)) ** 2)
