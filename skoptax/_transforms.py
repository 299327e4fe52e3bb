"""Bijections between the user's units and the space the optimiser steps in.

Each transform is a frozen dataclass, compared by value, so that two parameters
with equal transforms share one compiled program. The maps work on NumPy and on
JAX arrays alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._validation import did_you_mean, invalid, shorten
from .exceptions import InvalidParameterError


@dataclass(frozen=True)
class Identity:
    """The optimiser steps in the user's own units."""

    range = (-np.inf, np.inf)

    def to_user(self, internal: Any) -> Any:
        """Return the value unchanged."""
        return internal

    def from_user(self, value: Any) -> Any:
        """Return the value unchanged."""
        return value


@dataclass(frozen=True)
class Log:
    """The optimiser steps in the logarithm; values stay above zero."""

    range = (0.0, np.inf)

    def to_user(self, internal: Any) -> Any:
        """Return ``exp(internal)``."""
        return jnp.exp(internal)

    def from_user(self, value: Any) -> Any:
        """Return ``log(value)``; zero maps to minus infinity."""
        return jnp.log(value)


@dataclass(frozen=True)
class Logit:
    """The optimiser steps in ``log(p / (1 - p))``; values stay in (0, 1)."""

    range = (0.0, 1.0)

    def to_user(self, internal: Any) -> Any:
        """Return ``1 / (1 + exp(-internal))``."""
        return jax.nn.sigmoid(internal)

    def from_user(self, value: Any) -> Any:
        """Return ``log(value) - log(1 - value)``."""
        return jnp.log(value) - jnp.log1p(-value)


@dataclass(frozen=True)
class Pair:
    """
    A bijection given by the user as two functions.

    Parameters
    ----------
    forward : callable
        From the optimiser's space to the user's units, in JAX.
    backward : callable
        Its inverse, in JAX. Both must be monotone where bounds are given.
    """

    forward: Callable[[Any], Any]
    backward: Callable[[Any], Any]

    range = (-np.inf, np.inf)

    def to_user(self, internal: Any) -> Any:
        """Return ``forward(internal)``."""
        return self.forward(internal)

    def from_user(self, value: Any) -> Any:
        """Return ``backward(value)``."""
        return self.backward(value)


Transform = Identity | Log | Logit | Pair

_NAMED: dict[str, Transform] = {"log": Log(), "logit": Logit()}


def resolve_transform(transform: Any, owner: str) -> Transform:
    """
    Turn what the user wrote into a transform.

    Parameters
    ----------
    transform : None, str or (callable, callable)
        ``None``, ``"log"``, ``"logit"`` or the pair ``(to_user, from_user)``.
    owner : str
        Whose argument it is, for the error.

    Returns
    -------
    Transform
        A value object.

    Raises
    ------
    InvalidParameterError
        If it is none of these.
    """
    if transform is None:
        return Identity()
    if isinstance(transform, (Identity, Log, Logit, Pair)):
        return transform
    if isinstance(transform, str) and transform in _NAMED:
        return _NAMED[transform]
    if (
        isinstance(transform, (tuple, list))
        and len(transform) == 2
        and all(callable(f) for f in transform)
    ):
        return Pair(*transform)
    raise invalid(
        "transform",
        owner,
        "None, 'log', 'logit' or a pair (to_user, from_user) of functions",
        transform,
        did_you_mean(transform, _NAMED) if isinstance(transform, str) else "",
    )


def check_range(
    transform: Transform, lower: Any, upper: Any, value: Any, owner: str
) -> None:
    """
    Refuse bounds or a start value that the transform cannot produce.

    Parameters
    ----------
    transform : Transform
        The bijection.
    lower, upper : ndarray
        Bounds in the user's units, infinite where there are none.
    value : ndarray
        The start value in the user's units.
    owner : str
        The parameter, for the error.

    Raises
    ------
    InvalidParameterError
        If a finite bound lies outside of the transform's range, or the start
        value is not strictly inside of it.
    """
    low, high = transform.range
    name = type(transform).__name__.lower()
    if np.any(np.isfinite(lower) & ((lower < low) | (lower >= high))) or np.any(
        np.isfinite(upper) & ((upper > high) | (upper <= low))
    ):
        raise InvalidParameterError(
            f"The bounds of {owner} contradict its transform {name!r}, whose values "
            f"lie between {low} and {high}. Got lower={shorten(lower)}, "
            f"upper={shorten(upper)} instead. Leave the bounds out, or the transform."
        )
    if np.any((value <= low) | (value >= high)):
        raise InvalidParameterError(
            f"The start value of {owner} must lie strictly between {low} and {high}, "
            f"the range of its transform {name!r}. Got {shorten(value)} instead."
        )
