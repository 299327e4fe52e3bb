"""What users of other libraries write, and what it is called here.

SciPy, Keras, lmfit and others have words of their own for the same things. Where one of
them stands, the error names ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._validation import did_you_mean, shorten
from .exceptions import InvalidParameterError

#: SciPy's, Keras's and PyTorch's losses, and scikit-learn's metrics.
LOSS_WORDS = {
    "mse": "squared_error",
    "mean_squared_error": "squared_error",
    "mseloss": "squared_error",
    "least_squares": "squared_error",
    "l2": "squared_error",
    "linear": "squared_error",  # SciPy's name of what it does to the squares
    "mae": "absolute_error",
    "mean_absolute_error": "absolute_error",
    "l1": "absolute_error",
    "l1loss": "absolute_error",
    "least_absolute": "absolute_error",
    "soft_l1": "huber",
    "smooth_l1": "huber",
    "arctan": "cauchy",
    "pinball": "quantile",
    "bce": "log_loss",
    "binary_crossentropy": "log_loss",
    "cross_entropy": "log_loss",
    "bernoulli": "log_loss",
}
#: SciPy's methods.
OPTIMIZER_WORDS = {
    "leastsq": "lm",
    "least_squares": "lm",
    "trf": "lm",
    "dogbox": "lm",
    "gauss_newton": "lm",
    "bfgs": "lbfgs",
    "l_bfgs": "lbfgs",
    "l_bfgs_b": "lbfgs",
    "lbfgsb": "lbfgs",
    "tnc": "lbfgs",
    "cg": "lbfgs",
    "newton_cg": "lbfgs",
    "slsqp": "lbfgs",
}
#: lmfit's arguments of a parameter, and others of the kind.
FIELD_WORDS = {
    "min": "lower",
    "minimum": "lower",
    "lower_bound": "lower",
    "lb": "lower",
    "max": "upper",
    "maximum": "upper",
    "upper_bound": "upper",
    "ub": "upper",
    "vary": "free",
    "trainable": "free",
    "requires_grad": "free",
    "expr": "tie",
    "init": "value",
    "initial": "value",
    "start": "value",
}


def did_they_mean_loss(word: object, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for a loss by another name, or ``""``."""
    return _did_they_mean(word, options, LOSS_WORDS)


def did_they_mean_optimizer(word: object, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for an optimiser by another name, or ``""``."""
    return _did_they_mean(word, options, OPTIMIZER_WORDS)


def _did_they_mean(
    word: object, options: Iterable[str], words: Mapping[str, str]
) -> str:
    options = list(options)
    # "L-BFGS-B" and "Adam" are as others write them.
    plain = str(word).lower().replace("-", "_").replace(" ", "_")
    meant = plain if plain in options else words.get(plain)
    if meant in options:
        return f" Did you mean {meant!r}?"
    return did_you_mean(word, options)


def refuse_fields(given: Iterable[str], fields: Iterable[str]) -> None:
    """
    Refuse arguments that a parameter does not have.

    Parameters
    ----------
    given : iterable of str
        Names that the user wrote.
    fields : iterable of str
        Those that there are.

    Raises
    ------
    InvalidParameterError
        For the first name that is none of them.
    """
    fields = list(fields)
    for name in given:
        if name not in fields:
            raise InvalidParameterError(
                f"Parameter has no field {name!r}; its fields are "
                f"{', '.join(fields)}.{_did_they_mean(name, fields, FIELD_WORDS)}"
            )


def refuse_tuple(entry: Any, owner: str) -> None:
    """
    Refuse a tuple in the place of a start value, which it hardly ever is.

    Parameters
    ----------
    entry : object
        What stands for a parameter in the spec.
    owner : str
        That parameter, for the error.

    Raises
    ------
    InvalidParameterError
        If it is a tuple. Taken for an array it would be broadcast against the data, and
        where the lengths fit, the fit would be a wrong one without a word.
    """
    if not isinstance(entry, tuple):
        return
    raise InvalidParameterError(
        f"The start value of {owner} must be a number, an array, a Parameter or a "
        f"dict. Got the tuple {shorten(entry)} instead. {_instead_of(entry)}"
    )


def _instead_of(entry: tuple[Any, ...]) -> str:
    """Return what to write in place of a tuple."""
    otherwise = "an array of start values is written as a list or an array."
    form = "skoptax.Parameter(value={}, lower={}, upper={})"
    if len(entry) == 3:
        value, lower, upper = _in_order(entry)
        bounded = form.format(*map(shorten, (value, lower, upper)))
        return f"For a start value with bounds write {bounded}; {otherwise}"
    if len(entry) == 2:
        bounded = form.format("...", *map(shorten, entry))
        return f"For bounds write {bounded}, with a start value; {otherwise}"
    return f"Bounds go into {form.format('...', '...', '...')}; {otherwise}"


def _in_order(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the three of a tuple as value, lower and upper bound."""
    first, second, third = entry
    try:
        low, high = _ends(second, third)
        if low <= first <= high:
            return entry
        low, high = _ends(first, third)
        if low <= second <= high:
            return second, first, third
    except (TypeError, ValueError):  # they are no numbers
        pass
    return entry


def _ends(lower: Any, upper: Any) -> tuple[Any, Any]:
    """Return two bounds, with an infinity for one that is absent."""
    return -np.inf if lower is None else lower, np.inf if upper is None else upper
