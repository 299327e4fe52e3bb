"""Which programs may use the traces that JAX has kept of others.

Under a label of its own (`_tracing`) a program traces all of `jax.numpy` anew that its
model calls: half of the time that tracing takes. It is safe from stale traces, and that
is what the label is for: JAX keeps the trace of a function by the function's identity,
whatever has changed since that it refers to. But a function of the user's that hands
none of the user's on can be kept by nobody: this package calls it, by functions made
anew for each trace, and it calls JAX and other installed packages, which stay as they
are. Programs of such functions have one label.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from ._bytecode import names_used
from ._digests import ATOMS
from ._origin import is_importable, is_installed, is_own_module
from ._tracing import OWN

_CONTAINERS = (tuple, list, dict, set, frozenset)
_SCALARS = (*ATOMS, float, complex, bytes, types.EllipsisType)
_FIXED = (np.number, np.bool_, jax.Array)


def common_label(visited: Iterable[Any], called: Any) -> str | None:
    """
    Return the label under which programs of such content share JAX's traces.

    Parameters
    ----------
    visited : iterable of object
        All that a walk over the content has visited.
    called : object
        What of it this package itself calls while it traces, and hands to nobody: the
        model, or a loss of the user's.

    Returns
    -------
    str or None
        ``None`` if there may be more that is the user's than the function `called`, or
        if that may hand something of the user's, such as itself, to JAX.
    """
    told: set[str] = set()
    if not _is_by_name(called):
        values = _values(called)
        if values is None:
            return None
        for value in values:
            if not _is_fixed(value) or value is called:
                return None
            told.update(_ambiguous(value))
    if all(obj is called or _is_inert(obj) for obj in visited):
        return " ".join([OWN, *sorted(told)])
    return None


def _values(function: Any) -> list[Any] | None:
    """Return what a plain function refers to; of others ``None``."""
    if type(function) is not types.FunctionType or vars(function):
        return None
    code, uses = function.__code__, names_used(function.__code__)
    nested = any(isinstance(part, types.CodeType) for part in code.co_consts)
    if nested or uses.imports:
        return None
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # not assigned yet
        return None
    found = [*code.co_consts, *(function.__defaults__ or ()), *cells]
    found += (function.__kwdefaults__ or {}).values()
    there = function.__globals__
    return found + [there[name] for name in uses.variables if name in there]


def _is_fixed(value: Any) -> bool:
    """
    Tell whether a value stays as it is, with all that is in it.

    A method of an array is one to JAX whatever has been written into the array since.
    """
    if type(value) is tuple:
        return all(map(_is_fixed, value))
    if isinstance(value, (float, complex, np.number)) and value == 0:
        # By -0.0 JAX finds what it kept by 0.0, and one can be made of the other.
        return False
    if isinstance(value, types.ModuleType):
        name = value.__name__
        return is_installed(name) and sys.modules.get(name) is value
    if isinstance(value, _FIXED):
        return is_installed(type(value).__module__)
    return type(value) in _SCALARS or _is_by_name(value)


def _is_inert(obj: Any) -> bool:
    """Tell whether an object that was visited is one that JAX can keep nothing by."""
    # (What is in a container is visited as well.)
    if type(obj) in _CONTAINERS or isinstance(obj, np.dtype):
        return True
    return _is_fixed(obj) or is_own_module(type(obj).__module__)


def _is_by_name(obj: Any) -> bool:
    """Tell whether an object is an installed function or class, found by its name."""
    if type(obj) is not types.FunctionType and not isinstance(obj, type):
        return False
    module, qualname = obj.__module__, obj.__qualname__
    return is_installed(module) and is_importable(obj, module, qualname)


def _ambiguous(value: Any) -> Iterator[str]:
    """
    Yield what is to be told of numbers that are equal to others of another type.

    JAX keeps traces by such numbers, too, where they are no arrays: by ``axis=True`` it
    finds what it kept by ``axis=1``.
    """
    if isinstance(value, tuple):
        for part in value:
            yield from _ambiguous(part)
    elif isinstance(value, (np.generic, bool, complex)) or (
        isinstance(value, float) and value.is_integer()
    ):
        yield f"{type(value).__name__}:{value!r}".replace(" ", "")
