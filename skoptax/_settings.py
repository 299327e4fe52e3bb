"""How to run: the arguments of an estimator that are not the problem itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._auto import choose_optimizer
from ._problem import OWNER, Problem
from ._typing import StepCallback
from ._validation import (
    check_choice,
    check_integer,
    check_real,
    check_verbose,
    invalid,
)
from .callbacks._base import resolve_callbacks
from .exceptions import InvalidParameterError
from .optimizers._find import resolve_optimizer

# If they get no further in so many steps in a row, rounding error is all that is left.
STALLED_AFTER = 20


@dataclass(frozen=True)
class Settings:
    """How to run: everything about a fit that is not the problem itself."""

    optimizer: Any
    callback: StepCallback | None
    n_starts: int
    chunk_size: int | None
    tol: float
    verbose: int
    stalled_after: int


def read_settings(
    estimator: Any, problem: Problem, dtype: np.dtype, has_batches: bool, has_feed: bool
) -> Settings:
    """
    Check the arguments that say how to run.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read.
    problem : Problem
        What "auto" looks at.
    dtype : numpy.dtype
        The precision of the fit.
    has_batches : bool
        Whether a step takes a part of the rows.
    has_feed : bool
        Whether it does, or rows are held out.

    Returns
    -------
    Settings
        Checked; the callbacks are copies.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable.
    """
    check_choice("mode", OWNER, estimator.mode, ("rev", "fwd"))
    if not isinstance(estimator.has_aux, (bool, np.bool_)):
        raise invalid("has_aux", OWNER, "a bool", estimator.has_aux)
    name = estimator.optimizer
    is_auto = isinstance(name, str) and name == "auto"
    if is_auto and has_batches:
        name = "adam"
    elif is_auto:
        name = choose_optimizer(
            problem.objective, problem.spec, np.size(problem.data[1])
        )
    optimizer = resolve_optimizer(
        name,
        estimator.learning_rate,
        estimator.optimizer_kwargs,
        OWNER,
    )
    # It goes to the limits of the arithmetic, so it has a tolerance by default.
    has_default = optimizer.descends or optimizer.looks
    if estimator.tol is not None:
        tol = check_real("tol", OWNER, estimator.tol, 0.0)
    else:
        exponent = 3 / 4 if optimizer.looks else 2 / 3
        tol = float(np.finfo(dtype).eps ** exponent) if has_default else 0.0

    if has_batches and has_default:
        raise refuse_batches(estimator.optimizer)
    if has_batches and tol > 0:
        raise InvalidParameterError(
            f"The 'tol' parameter of {OWNER} must be None or 0 where batch_size is "
            "given: the gradient of a batch does not vanish at the optimum. Got "
            f"{estimator.tol!r}: use n_iter_no_change, or early_stopping=True."
        )
    callback = resolve_callbacks(_copied(estimator.callbacks), OWNER, "callbacks")
    n_starts = check_integer("n_starts", OWNER, estimator.n_starts, 1)
    if n_starts > 1 and (callback is not None or has_feed):
        what = (
            "callbacks, which follow one run"
            if callback is not None
            else "batches or validation"
        )
        raise InvalidParameterError(
            f"The 'n_starts' parameter of {OWNER} must be 1 with {what}. Got "
            f"{n_starts} instead."
        )
    chunk = estimator.chunk_size
    return Settings(
        optimizer=optimizer,
        callback=callback,
        n_starts=n_starts,
        chunk_size=(
            None if chunk is None else check_integer("chunk_size", OWNER, chunk, 1)
        ),
        tol=tol,
        verbose=check_verbose(estimator.verbose, OWNER),
        stalled_after=STALLED_AFTER if has_default and tol > 0 else 0,
    )


def refuse_batches(optimizer: Any) -> InvalidParameterError:
    """Return the error about an optimiser that batches are not for."""
    return InvalidParameterError(
        f"The 'optimizer' parameter of {OWNER} must be one that takes steps of "
        "noisy gradients where batch_size is given: a line search, and "
        "Levenberg-Marquardt, compare losses of the same rows. Got "
        f"{optimizer!r}: use 'adam' or 'sgd', or batch_size=None."
    )


def _copied(callbacks: Any) -> Any:
    try:
        return copy.deepcopy(callbacks)
    except Exception as error:
        raise invalid(
            "callbacks",
            OWNER,
            "copyable, because a fit works on copies",
            callbacks,
            f"The copy fails with: {error} Make such things in on_run_start.",
        ) from error
