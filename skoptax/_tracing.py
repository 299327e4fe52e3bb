"""Whose traces JAX may keep, and one that is used twice.

JAX keeps the traces of inner functions (loop bodies, inner jits, `jax.numpy`'s own
functions) by the function's identity, and would reuse one that has gone stale after
something that the function refers to changed. What it keeps is also keyed by the
metadata of the moment. So a program is traced under a label of its own, its content
key, and only what is certain to be this package's own code under one label for all
programs: of such code no trace goes stale, and it is half of a program. Whose programs
need no label of their own at all is told in `_shared_traces`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata

#: The label of what is certain to be this package's own.
OWN = "own"

P = ParamSpec("P")
T = TypeVar("T")


def labelled(label: str) -> AbstractContextManager[None]:
    """
    Return a context in which JAX traces for one label alone.

    Parameters
    ----------
    label : str
        Of a program, or of an analysis.
    """
    return set_xla_metadata(skoptax=label)


def own(function: Callable[P, T]) -> Callable[P, T]:
    """
    Let all programs share JAX's traces of what a function calls.

    Parameters
    ----------
    function : callable
        Of this package. It calls nothing that a user has written, not even
        indirectly: no model, loss, tie, transform, prior, penalty or optimiser. Its
        arguments are JAX arrays and containers of these; an array-like of the
        user's would be converted here, and a pytree of the user's taken apart.

    Returns
    -------
    callable
        With the function's arguments and results.
    """

    @functools.wraps(function)
    def shared(*args: P.args, **kwargs: P.kwargs) -> T:
        with labelled(OWN):
            return function(*args, **kwargs)

    return shared


def evaluated(jaxpr: Any, *values: Any) -> list[Any]:
    """
    Trace again what JAX has traced, without the function that it came from.

    As `jax.extend.core.jaxpr_as_fun`, whose import brings all of Pallas along.

    Parameters
    ----------
    jaxpr : ClosedJaxpr
        Of `jax.make_jaxpr`.
    *values : array
        The leaves of the function's arguments.

    Returns
    -------
    list of array
        The leaves of what it returns.
    """
    # A jaxpr does not say where JAX's own functions let NaN pass.
    with jax.debug_nans(False):
        return jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *values)
