"""Which rows a fit steps on, which it is judged by, and for how long.

An epoch is a pass over all training rows: a step where each takes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import column_or_1d

from ._data_checks import cast_response, check_data, check_weights, refuse_strings
from ._driver import Run
from ._epochs import Fed, Feed, Pace
from ._problem import OWNER, Problem, arrange_held_out, check_rows
from ._validation import check_integer, check_real, invalid, refuse_tracer
from .exceptions import InvalidParameterError, NonFiniteError
from .losses import resolve_loss

# What scikit-learn's networks wait for.
DEFAULT_PATIENCE = 10


@dataclass(frozen=True)
class Rows:
    """
    Checked rows.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Inputs.
    y : ndarray of shape (n,) or (n, k)
        Responses.
    weights : ndarray of shape (n,) or None
        Their weights.
    """

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None

    def take(self, which: np.ndarray) -> Rows:
        """Return some of them."""
        weights = None if self.weights is None else self.weights[which]
        return Rows(self.X[which], self.y[which], weights)


@dataclass(frozen=True)
class Plan:
    """
    How rows come, and when to stop.

    Parameters
    ----------
    batch_size : int or None
        Rows of a step; ``None`` is all.
    shuffle : bool
        Whether each epoch has an order of its own.
    per_epoch : int
        Steps.
    max_steps : int
        The largest number of steps.
    patience : int
        Stop after so many epochs without improvement; 0 is off.
    is_split : bool
        Whether the held-out rows were drawn from those that were given.
    """

    batch_size: int | None
    shuffle: bool
    per_epoch: int
    max_steps: int
    patience: int
    is_split: bool


def read_rows(estimator: Any, X: Any, y: Any, sample_weight: Any, dtypes: Any) -> Rows:
    """
    Check the rows of a fit.

    Parameters
    ----------
    estimator : OptaxEstimator
        Gets the number of columns, and their names.
    X, y, sample_weight : array-like
        What the user gave.
    dtypes : dtype or list of dtype
        What X may have.

    Returns
    -------
    Rows
        Checked.

    Raises
    ------
    ValueError
        If they are not numbers, or do not fit together.
    """
    refuse_strings(X, "X")
    refuse_strings(y, "y")
    inputs, responses = check_data(estimator, X, y, dtypes)
    is_column = responses.ndim == 2 and responses.shape[1] == 1
    if estimator.model is not None and is_column:
        responses = column_or_1d(responses, warn=True)
    responses = cast_response(responses, inputs.dtype)
    return Rows(inputs, responses, check_weights(sample_weight, inputs))


def hold_out(
    estimator: Any, rows: Rows, given: Rows | None, seed: int
) -> tuple[Rows, Rows | None]:
    """
    Return the rows to train on, and those to validate with.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read.
    rows : Rows
        Of the fit.
    given : Rows or None
        Held-out rows that came with them.
    seed : int
        Draws a split.

    Returns
    -------
    training : Rows
        All rows, if there is no split.
    held_out : Rows or None
        What was given; else with `early_stopping` a random part, each of both in the
        order of the data.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable, or too few rows are there.
    """
    stops = estimator.early_stopping
    if not isinstance(stops, (bool, np.bool_)):
        raise invalid("early_stopping", OWNER, "a bool", stops)
    fraction = check_real(
        "validation_fraction",
        OWNER,
        estimator.validation_fraction,
        0.0,
        above=True,
        maximum=1.0,
        below=True,
    )
    if given is not None or not stops:
        return rows, given
    n = len(rows.X)
    count = int(np.ceil(fraction * n))
    if count >= n:
        raise InvalidParameterError(
            f"early_stopping=True holds out {count} of {n} rows, and none is left to "
            f"fit. Lower validation_fraction={fraction}, or give X_val and y_val."
        )
    training, held_out = map(rows.take, split(n, fraction, seed))
    for part, name in ((training, "training"), (held_out, "validation")):
        if part.weights is not None and not np.any(part.weights > 0):
            raise InvalidParameterError(
                f"All {name} rows that early_stopping=True has drawn have a weight of "
                "0. Give X_val and y_val, or another random_state."
            )
    return training, held_out


def split(n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are fitted, and which are held out, in their order."""
    count = int(np.ceil(fraction * n))
    order = np.random.default_rng([seed, 1]).permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def read_held_out(
    estimator: Any, X: np.ndarray | None, y: Any, sample_weight: Any, like: Rows
) -> Rows | None:
    """
    Check held-out rows.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its loss says which responses it takes.
    X : ndarray of shape (m, d) or None
        Checked inputs, if there are any.
    y, sample_weight : array-like or None
        What the user gave.
    like : Rows
        Of the fit.

    Returns
    -------
    Rows or None
        ``None`` if there are none.

    Raises
    ------
    ValueError
        If inputs and responses do not fit together, or to those of the fit.
    """
    if X is None:
        if y is not None or sample_weight is not None:
            raise InvalidParameterError(
                "y_val and sample_weight_val come with X_val. Got no X_val."
            )
        return None
    if y is None:
        raise InvalidParameterError("X_val comes with y_val. Got no y_val.")
    refuse_strings(y, "y_val")
    refuse_tracer("y_val", OWNER, y)
    responses = check_array(y, ensure_2d=False, allow_nd=True, input_name="y_val")
    if like.y.ndim == 1 and responses.ndim == 2 and responses.shape[1] == 1:
        responses = responses[:, 0]
    if responses.shape != (len(X), *like.y.shape[1:]):
        raise InvalidParameterError(
            f"y_val must have the shape {(len(X), *like.y.shape[1:])}: a row for each "
            f"of X_val, and as many outputs as y. Got {responses.shape} instead."
        )
    found = Rows(X, cast_response(responses, X.dtype), check_weights(sample_weight, X))
    loss = resolve_loss(estimator.loss, OWNER)
    if hasattr(loss, "check_y"):
        loss.check_y(found.y)
    return found


def read_plan(estimator: Any, n: int, validates: bool, is_split: bool) -> Plan:
    """
    Check the arguments that say how rows come.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read.
    n : int
        How many rows are fitted.
    validates : bool
        Whether rows are held out.
    is_split : bool
        Whether they were drawn.

    Returns
    -------
    Plan
        Checked. Batches of all rows are none.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable.
    """

    def positive(name: str) -> int | None:
        value = getattr(estimator, name)
        return None if value is None else check_integer(name, OWNER, value, 1)

    batch_size = positive("batch_size")
    if not isinstance(estimator.shuffle, (bool, np.bool_)):
        raise invalid("shuffle", OWNER, "a bool", estimator.shuffle)
    if batch_size is not None and batch_size >= n:
        batch_size = None
    per_epoch = 1 if batch_size is None else -(-n // batch_size)
    max_steps = check_integer("max_steps", OWNER, estimator.max_steps, 0)
    epochs = estimator.max_epochs
    if epochs is not None:
        max_steps = check_integer("max_epochs", OWNER, epochs, 0) * per_epoch
    if validates and 0 < max_steps < per_epoch:
        raise InvalidParameterError(
            f"Held-out rows are looked at after each epoch of {per_epoch} steps, and "
            f"max_steps={max_steps} ends before the first: give max_epochs, or a "
            "larger batch_size."
        )
    patience = positive("n_iter_no_change")
    if patience is None:
        patience = DEFAULT_PATIENCE if validates and estimator.early_stopping else 0
    return Plan(
        batch_size, bool(estimator.shuffle), per_epoch, max_steps, patience, is_split
    )


def refuse_without_score(run: Run) -> None:
    """
    Raise an error if no state of a run could be judged by held-out rows.

    Parameters
    ----------
    run : Run
        At its end.

    Raises
    ------
    NonFiniteError
        If the loss of these rows was never finite: nothing could be selected by it.
    """
    feed = run.task.feed
    if feed is not None and feed.validates and not np.isfinite(run.reading.best_score):
        raise without_score()


def without_score() -> NonFiniteError:
    """Return the error about held-out rows whose loss was never finite."""
    return NonFiniteError(
        "The loss of the held-out rows was not finite at the start, nor after any "
        "epoch. The model must be finite on X_val, and the responses must be such "
        "as the loss takes."
    )


def make_feed(
    plan: Plan,
    problem: Problem,
    training: Rows,
    held_out: Rows | None,
    seed: int,
    first_epoch: int,
    first_step: int = 0,
) -> tuple[Feed, Fed] | tuple[None, None]:
    """
    Return how the loop takes the data, and these.

    Parameters
    ----------
    plan : Plan
        How rows come.
    problem : Problem
        Of the training rows.
    training : Rows
        These.
    held_out : Rows or None
        Those to validate with.
    seed : int
        Orders the epochs.
    first_epoch : int
        How many there have been before.
    first_step : int, default=0
        The step whose batch is the first of these rows.

    Returns
    -------
    feed : Feed or None
        ``None`` where each step takes all rows and nothing else.
    fed : Fed or None
        With the problem's data.

    Raises
    ------
    InvalidParameterError
        If rows are to be drawn that depend on each other.
    """
    if plan.batch_size is None and held_out is None:
        return None, None
    draws = "batch_size" if plan.batch_size is not None else "early_stopping"
    draws_rows = plan.batch_size is not None or plan.is_split
    if draws_rows and problem.numbers_rows and not problem.couples_rows:
        raise InvalidParameterError(
            f"{draws} draws rows, and the model or the loss numbers them (as "
            "`jnp.arange(len(X))` does): among those that are drawn, a row has another "
            "number. Hand the numbers over as a column of X. If no result depends on "
            "them, say so by row_independent=True."
        )
    if draws_rows and problem.couples_rows:
        check_rows(problem)
        raise InvalidParameterError(
            f"{draws} draws rows, and here what the model or the loss makes of a row "
            "may depend on others (auxiliary data count). If it does not, say so by "
            "row_independent=True; "
            "else leave batch_size at None, and give X_val and y_val to validate with."
        )
    pace = make_pace(plan, training, seed, first_epoch, first_step)
    others = None
    if held_out is not None:
        others = arrange_held_out(problem, held_out.X, held_out.y, held_out.weights)
    feed = Feed(plan.batch_size, plan.shuffle, held_out is not None)
    return feed, Fed(problem.data, others, pace)


def make_pace(
    plan: Plan, training: Rows, seed: int, first_epoch: int, first_step: int
) -> Pace:
    """Return the numbers of a feed; the arguments are those of `make_feed`."""
    n, weights = len(training.X), training.weights
    total = float(n) if weights is None else float(weights.sum(dtype=float))
    return Pace(
        np.int32(n),
        training.X.dtype.type(total),
        np.int32(plan.per_epoch),
        np.int32(first_epoch),
        np.uint32(seed),
        np.int32(first_step),
    )
