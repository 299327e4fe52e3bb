"""Checks of plain arguments, with errors in one form.

The form is scikit-learn's: what must hold, what was given, and a remedy where
there is one.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from sklearn.utils import check_random_state

from .exceptions import InvalidParameterError

#: What to do where JAX's transformations leave no numbers to work with.
ON_THE_HOST = (
    "A fit runs on the host and needs numbers, which a function has not while JAX "
    "transforms it. Call it outside of jit, grad and vmap; inside, make the steps of "
    "an Optax optimiser, such as skoptax.optimizers.levenberg_marquardt(), in a loop "
    "of jax.lax."
)


def did_you_mean(word: object, options: Iterable[str]) -> str:
    """
    Return ``" Did you mean 'x'?"`` for the closest option, or ``""``.

    Parameters
    ----------
    word : object
        What the user wrote.
    options : iterable of str
        The accepted words.

    Returns
    -------
    str
        A sentence with a leading space, or the empty string.
    """
    close = difflib.get_close_matches(str(word), [str(o) for o in options], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def shorten(value: object, limit: int = 80) -> str:
    """Return ``repr(value)``, cut to ``limit`` characters, never raising."""
    try:
        text = repr(value)
    except Exception as error:  # a user's broken __repr__ must not hide our message
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def invalid(
    name: str, owner: str, must: str, got: object, remedy: str = ""
) -> InvalidParameterError:
    """
    Build the error for one argument, in the project's one form.

    Parameters
    ----------
    name : str
        The argument.
    owner : str
        The class or function it belongs to.
    must : str
        What it must be, to follow the words "must be".
    got : object
        What was given; shown by its ``repr``.
    remedy : str, optional
        What to do about it: whole sentences. Without it, one about JAX's tracers
        follows where one was given.

    Returns
    -------
    InvalidParameterError
        To be raised by the caller.
    """
    message = (
        f"The {name!r} parameter of {owner} must be {must}. Got {shorten(got)} instead."
    )
    if isinstance(got, jax.core.Tracer) and not remedy:
        remedy = ON_THE_HOST
    return InvalidParameterError(f"{message} {remedy.strip()}" if remedy else message)


def is_number(value: object) -> bool:
    """Tell whether ``value`` is a real number, not a boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def check_choice(
    name: str,
    owner: str,
    value: Any,
    options: Iterable[str],
    suggest: Callable[[object, Iterable[str]], str] = did_you_mean,
) -> Any:
    """Return ``value`` if it is one of ``options``, else raise with a suggestion."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    listed = ", ".join(repr(o) for o in options)
    raise invalid(name, owner, f"one of {listed}", value, suggest(value, options))


def check_integer(name: str, owner: str, value: Any, minimum: int) -> int:
    """Return ``value`` as an ``int`` of at least ``minimum``, else raise."""
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integral or value < minimum:
        raise invalid(name, owner, f"an int of at least {minimum}", value)
    return int(value)


def check_verbose(value: Any, owner: str) -> int:
    """Return ``value`` as an ``int`` of at least 0 if it is one or a bool."""
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    return check_integer("verbose", owner, value, 0)


def check_seed(value: Any, owner: str) -> int:
    """
    Draw a number that seeds all that is drawn.

    Parameters
    ----------
    value : int, RandomState instance or None
        The argument ``random_state``.
    owner : str
        The class or function it belongs to.

    Returns
    -------
    int
        The same one for the same int.

    Raises
    ------
    InvalidParameterError
        If it is something else.
    """
    try:
        state = check_random_state(value)
    except (ValueError, TypeError) as error:
        must = "an int from 0 to 2**32 - 1, a numpy.random.RandomState or None"
        remedy = ""
        if isinstance(value, np.random.Generator):
            remedy = (
                "scikit-learn's estimators take no Generator. Draw an int from it: "
                "random_state=int(rng.integers(2**31))."
            )
        raise invalid("random_state", owner, must, value, remedy) from error
    return int(state.randint(2**31 - 1))


def check_real(
    name: str,
    owner: str,
    value: Any,
    minimum: float = -np.inf,
    *,
    above: bool = False,
    maximum: float = np.inf,
    below: bool = False,
) -> float:
    """
    Return ``value`` if it is a finite number in the interval, else raise.

    Parameters
    ----------
    name, owner : str
        Named in the error.
    value : object
        What was given.
    minimum, maximum : float, default=(-inf, inf)
        The ends of the interval.
    above, below : bool, default=False
        Whether the minimum (the maximum) itself is excluded.

    Returns
    -------
    float
        The value.
    """
    inside = is_number(value) and np.isfinite(value)
    if inside:
        inside = value > minimum if above else value >= minimum
    if inside:
        inside = value < maximum if below else value <= maximum
    if not inside:
        left = "(" if above or minimum == -np.inf else "["
        right = ")" if below or maximum == np.inf else "]"
        interval = f"{left}{minimum}, {maximum}{right}"
        raise invalid(name, owner, f"a finite number in {interval}", value)
    return float(value)


def refuse_tracer(name: str, owner: str, value: Any, remedy: str = "") -> None:
    """Raise if data are a tracer of JAX's, which scikit-learn would not understand."""
    if isinstance(value, jax.core.Tracer):
        raise invalid(name, owner, "an array of numbers", value, remedy)


def check_level(level: Any, owner: str, name: str = "level") -> float:
    """Return an interval's probability if it is in (0, 1), else raise."""
    if is_number(level) and 0 < level < 1:
        return float(level)
    remedy = ""
    if is_number(level) and 1 < level < 100:
        remedy = f"Did you mean {level / 100:.12g}? It is no percentage."
    raise invalid(name, owner, "a number between 0 and 1, such as 0.95", level, remedy)
