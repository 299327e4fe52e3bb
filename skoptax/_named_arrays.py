"""The NumPy arrays that a function of an installed package refers to by name.

Such a function goes into a key by its name, without its content. Of its arrays it must
be known all the same how JAX takes them.
"""

from __future__ import annotations

import functools
import inspect
import types
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ._bytecode import names_used
from ._origin import is_of_python

# They keep no arrays in their modules that a model's trace would take.
_WITHOUT = frozenset({"jax", "jaxlib", "numpy", "optax", "scipy", "skoptax", "sklearn"})
# So many functions that call each other are looked at.
_MOST = 1000


# A function that is gone, such as a closure over data, is not kept alive by this.
_known: WeakKeyDictionary[types.FunctionType, tuple[np.ndarray, ...]] = (
    WeakKeyDictionary()
)


def arrays_named_by(function: types.FunctionType) -> tuple[np.ndarray, ...]:
    """
    Return the arrays in the modules of a function that it refers to.

    Parameters
    ----------
    function : function
        Of an installed package.

    Returns
    -------
    tuple of ndarray
        Those that it or functions of the same package that it calls take by name, in
        tuples, lists and dicts too. That they are others later is not seen, as with
        all that goes by reference.
    """
    known = _known.get(function)
    if known is None:
        known = _known[function] = _look(function)
    return known


def _look(function: types.FunctionType) -> tuple[np.ndarray, ...]:
    package = _package(function)
    if package in _WITHOUT or is_of_python(package):
        return ()
    found: dict[int, np.ndarray] = {}
    seen: set[int] = set()
    waiting: list[Any] = [function]
    while waiting and len(seen) < _MOST:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            found[id(value)] = value
        elif isinstance(value, (tuple, list)):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, functools.partial):
            waiting += [value.func, value.args, value.keywords]
        else:
            inner = _unwrapped(value)
            if isinstance(inner, types.FunctionType) and _package(inner) == package:
                waiting += _named_by(inner, package)
    return tuple(found.values())


def _unwrapped(value: Any) -> Any:
    """Return the function that something stands for, as what `jax.jit` returns does."""
    if inspect.getattr_static(value, "__wrapped__", None) is None:
        return value
    try:
        return inspect.unwrap(value)
    except Exception:  # an attribute that fails, or that leads back to itself
        return value


def _package(function: types.FunctionType) -> str:
    name: str = function.__globals__.get("__name__") or ""
    return name.partition(".")[0]


def _named_by(function: types.FunctionType, package: str) -> list[Any]:
    """Return what a function's code takes by name."""
    named: list[Any] = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # of a variable that is not set yet
            named.append(cell.cell_contents)
    for name, chains in names_used(function.__code__).variables.items():
        value = function.__globals__.get(name)
        if not isinstance(value, types.ModuleType):
            named.append(value)
        elif value.__name__.partition(".")[0] == package:
            named += [_attribute(value, chain) for chain in chains or ()]
    return named


def _attribute(module: types.ModuleType, chain: tuple[str, ...]) -> Any:
    """Return the first attribute of a chain that is no module."""
    value: Any = module
    for name in chain:
        value = vars(value).get(name)
        if not isinstance(value, types.ModuleType):
            break
    return value
