"""One fit of an estimator: from its arguments and data to all that it keeps.

Nothing is written to the estimator here, except by scikit-learn's validation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ._assessment import MOST_SETBACKS
from ._auto import moving_terms
from ._curvature import linearised
from ._data_checks import check_named_inputs
from ._driver import Run
from ._ending import Ending, doubt
from ._entries import start_box
from ._fingerprint import Walk
from ._kinks import doubt_about, left_at_kinks
from ._legacy import Legacy
from ._multistart import draw_starts, run_from_starts
from ._optimizer import drive, finish, precision
from ._problem import (
    OWNER,
    Problem,
    continued,
    draw_seed,
    make_problem,
    make_task,
    read_dtype,
)
from ._reporting import ProgressBar
from ._results import bound_flags, plain_values, selected_state
from ._separation import separated
from ._settings import Settings, read_settings, refuse_batches
from ._sklearn_callbacks import FitTask
from ._snapshot import seed_of
from ._training import (
    Plan,
    Rows,
    hold_out,
    make_feed,
    read_held_out,
    read_plan,
    read_rows,
    refuse_without_score,
)
from ._uncertainty import check_covariance
from ._validation import refuse_tracer
from ._whole import objective_of_all
from .callbacks._base import resolve_callbacks
from .inference._record import FitRecord, record_fit, wanted_at_end
from .inference._statistics import with_shapes
from .optimizers._states import has_line_search

# The largest number of subtasks that scikit-learn's callbacks are told of, and that
# with optimisers that take few steps. Each costs about 0.4 ms, and in a bar more, the
# more there are.
_SOME, _MANY = 100, 1000


@dataclass(frozen=True)
class Given:
    """
    The checked rows of a fit.

    Parameters
    ----------
    rows : Rows
        All that are fitted, or held out of the fit by a split.
    held_out : Rows or None
        Those that came to validate with.
    """

    rows: Rows
    held_out: Rows | None


@dataclass(frozen=True)
class Fitted:
    """All that a fit has found. The attributes of an estimator are made of it."""

    params: dict[str, Any]
    at_bound: dict[str, Any]
    loss: float
    record: FitRecord
    linearised: Any
    history: dict[str, Any]  # columns
    collected: dict[str, Any]  # by callbacks
    n_steps: int
    selected_step: int
    status: str
    message: str
    starts: Any  # None, if there was one
    call: Any  # the bound model
    split: tuple[int, int] | None  # the seed, and how many rows were split
    legacy: Legacy | None
    doubt: Warning | None
    interruption: KeyboardInterrupt | None
    remarks: tuple[Warning, ...] = ()  # on how it went, besides the doubt


def read_given(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    held_out: tuple[Any, Any, Any],
    columns: int | None,
) -> Given:
    """
    Check the data of a fit.

    Parameters
    ----------
    estimator : OptaxEstimator
        Gets the number of columns, and their names.
    X, y, sample_weight : array-like
        What the user gave.
    held_out : tuple
        The same three to validate with.
    columns : int or None
        How many an earlier fit had, if this one goes on from it.

    Returns
    -------
    Given
        Checked.

    Raises
    ------
    ValueError
        If something does not fit together.
    """
    rows = read_rows(estimator, X, y, sample_weight, read_dtype(estimator.dtype))
    if columns not in (None, rows.X.shape[1]):
        raise ValueError(
            f"X has {rows.X.shape[1]} features, but {type(estimator).__name__} is "
            f"expecting {columns} features as input."
        )
    return Given(rows, read_validation(estimator, held_out, rows))


def read_validation(
    estimator: Any, held_out: tuple[Any, Any, Any], rows: Rows
) -> Rows | None:
    """
    Check the rows to validate with.

    Parameters
    ----------
    estimator : OptaxEstimator
        Knows the columns.
    held_out : tuple
        Inputs, responses and weights, as the user gave them.
    rows : Rows
        Of the fit.

    Returns
    -------
    Rows or None
        ``None`` if there are none.
    """
    X, y, sample_weight = held_out
    if X is not None:
        refuse_tracer("X_val", OWNER, X)
        X = check_named_inputs(estimator, X, rows.X.dtype)
    return read_held_out(estimator, X, y, sample_weight, rows)


def fit_rows(
    estimator: Any,
    given: Given,
    *,
    goes_on: bool,
    legacy: Legacy | None,
    epochs: int | None,
    task: FitTask | None = None,
) -> Fitted:
    """
    Fit an estimator's model.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read.
    given : Given
        The rows.
    goes_on : bool
        Whether to start from its fitted values.
    legacy : Legacy or None
        What its last fit has left.
    epochs : int or None
        For how many to go on; ``None`` is what its arguments say.
    task : FitTask, default=None
        What scikit-learn's callbacks follow. Begins here, and is not ended.

    Returns
    -------
    Fitted
        All there is to keep.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable.
    ModelError
        If model, spec and data do not fit together.
    NonFiniteError
        If the objective is not finite at the start values.
    """
    cov_type, absolute_sigma = check_covariance(estimator)
    seed = read_seed(estimator)
    rows = given.rows
    training, held_out = hold_out(estimator, rows, given.held_out, seed)
    is_split = held_out is not None and given.held_out is None
    plan = read_plan(estimator, len(training.X), held_out is not None, is_split)
    if epochs is not None:
        plan = replace(plan, max_steps=epochs * plan.per_epoch)
    with precision(rows.X.dtype == np.float64):
        problem = make_problem(
            continued(estimator) if goes_on else estimator,
            training.X,
            training.y,
            training.weights,
            Walk(),
            seed,
        )
        run, settings = _make_run(
            estimator, plan, problem, training, held_out, seed, legacy, cov_type
        )
        starts, collected, message = _run_to_end(run, plan, settings, problem, task)
        refuse_without_score(run)
        value = float(run.reading.selected_value)
        if plan.batch_size is not None:
            value = objective_of_all(run, plan.batch_size)
        fitted = gather(
            run,
            problem,
            (training.y, training.weights),
            collected,
            message,
            value,
            (cov_type, absolute_sigma),
            is_part=epochs is not None,
        )
        history = fitted.history
        if plan.batch_size is not None:
            history = {"epoch": np.arange(run.step + 1) // plan.per_epoch} | history
        keeps = estimator.warm_start or epochs is not None
        return replace(
            fitted,
            history=history,
            starts=starts,
            split=(seed, len(rows.X)) if is_split else None,
            legacy=run.leave(plan.per_epoch) if keeps else None,
        )


def gather(
    run: Run,
    problem: Problem,
    responses: tuple[np.ndarray, np.ndarray | None],
    collected: dict[str, Any],
    message: str | None,
    value: float,
    covariance: tuple[str | None, bool],
    ending: Ending | None = None,
    is_part: bool = False,
) -> Fitted:
    """
    Gather what a run has found.

    Parameters
    ----------
    run : Run
        At its end.
    problem : Problem
        What was minimised.
    responses : tuple
        Those that were fitted, and their weights or ``None``.
    collected : dict
        By callbacks.
    message : str or None
        Why a callback ended the run.
    value : float
        The objective at the selected state.
    covariance : tuple
        Which one is wanted, and whether weights are one over known variances.
    ending : Ending, default=None
        How it ended, if the run does not know.
    is_part : bool, default=False
        Whether others are to follow: its last step is not meant to be at an optimum.

    Returns
    -------
    Fitted
        Of one start, without what a later fit goes on with.
    """
    state, found = finish(run, collected, message, on_host=True)
    found.pop("aux", None)
    params = plain_values(state, problem.spec)
    at_bound = bound_flags(state, problem.spec)
    history, status = found.pop("history"), found.pop("status")
    message, n_steps = found.pop("message"), found.pop("n_steps")
    status, message = ending or (status, message)
    # Where each label is certain, nothing depends on the parameters any more: to an
    # optimiser, they are not determined. One without a tolerance does not look for an
    # optimum.
    looked_for = ["converged", "stalled", "plateau", "singular"]
    looked_for += ["max_steps"] if run.tol > 0 else []
    if status in looked_for and ending is None and not is_part:
        no_optimum = separated(run, problem, *responses, value)
        status, message = no_optimum or (status, message)
    terms = moving_terms(problem.objective, problem.spec)
    # Of a function nothing is known: there a warning is better than none.
    smooth = getattr(problem.objective.loss, "has_curvature", True) and all(
        getattr(term, "is_smooth", True) for term in terms
    )
    is_meant = is_part and status == "max_steps"
    warning = doubt(status, message, run, smooth, is_meant)
    if warning is None and status in ("converged", "stalled") and ending is None:
        left = left_at_kinks(run, problem, *responses)
        warning = doubt_about(message, problem.objective.loss, left)
    record = record_fit(run, problem, params, at_bound, *responses, *covariance, value)
    record = with_shapes(record, responses[1])
    return Fitted(
        params=params,
        at_bound=at_bound,
        loss=value,
        record=record,
        linearised=linearised(run),
        history=history,
        collected=found,
        n_steps=n_steps,
        selected_step=run.reading.selected_step,
        status=status,
        message=message,
        starts=None,
        call=problem.objective.call,
        split=None,
        legacy=None,
        doubt=warning,
        interruption=run.interruption,
    )


def read_seed(estimator: Any) -> int:
    """Return what seeds a fit: where it goes on from a checkpoint, the same."""
    drawn = draw_seed(estimator)
    if isinstance(estimator.random_state, (int, np.integer)):
        return drawn
    callback = resolve_callbacks(estimator.callbacks, OWNER, "callbacks")
    found = seed_of(callback)
    return drawn if found is None else found


def _make_run(
    estimator: Any,
    plan: Plan,
    problem: Problem,
    training: Rows,
    held_out: Rows | None,
    seed: int,
    legacy: Legacy | None,
    cov_type: str | None,
) -> tuple[Run, Settings]:
    first_epoch = 0 if legacy is None else legacy.epochs
    feed, fed = make_feed(plan, problem, training, held_out, seed, first_epoch)
    settings = read_settings(
        estimator,
        problem,
        training.X.dtype,
        plan.batch_size is not None,
        feed is not None,
    )
    optimizer = settings.optimizer
    task = make_task(estimator, problem, optimizer, feed, fed)
    # These see for themselves that a step leads nowhere, and try a shorter one.
    tries = optimizer.descends or optimizer.looks
    # Many starts have a program of their own, and a loop with a feed sees some rows.
    is_simple = feed is None and settings.n_starts == 1
    at_end = wanted_at_end(task, problem, training.y, cov_type) if is_simple else None
    run = Run(
        task,
        tol=settings.tol,
        patience=plan.patience * plan.per_epoch,
        stalled_after=settings.stalled_after,
        legacy=legacy,
        setbacks=0 if tries or settings.n_starts > 1 else MOST_SETBACKS,
        at_end=at_end,
    )
    run.seed, run.last_step = seed, plan.max_steps
    if has_line_search(run.blank.opt_state):
        if plan.batch_size is not None:
            raise refuse_batches(estimator.optimizer)
        run.recovery.most = 0
    return run, settings


def _run_to_end(
    run: Run, plan: Plan, settings: Settings, problem: Problem, task: FitTask | None
) -> tuple[Any, dict[str, Any], str | None]:
    """Return what became of several starts, what callbacks collected and said."""
    size = 0 if settings.n_starts > 1 else _subtask_steps(plan, settings)
    if task is not None:
        task.begin(plan.max_steps, size)
    if settings.n_starts > 1:
        box = start_box(run.task.structure, run.task.numbers)
        drawn = draw_starts(box, settings.n_starts, problem.rng())
        return run_from_starts(run, drawn, plan.max_steps), {}, None
    bar = ProgressBar("steps", plan.max_steps) if settings.verbose else None
    if bar is not None or task is not None:
        run.watch = partial(_tell, bar, task, plan.max_steps, problem)
    if task is not None:
        run.watch_every = size
    found = drive(run, plan.max_steps, settings.callback, settings.chunk_size)
    if bar is not None:
        bar.close(run.step, shown(run))
    return None, *found


def _tell(
    bar: ProgressBar | None,
    task: FitTask | None,
    max_steps: int,
    problem: Problem,
    run: Run,
) -> str | None:
    """Tell those who follow a run how far it is; return why to stop, if it has to."""
    if bar is not None:
        bar.update(run.step, lambda: shown(run))
    if task is None:
        return None
    goes_on = not run.has_ended and run.step < max_steps
    if not task.advance(run.step, goes_on, lambda: fitted_so_far(run, problem)):
        return None
    return f"A callback of scikit-learn stopped the fit after {run.step} steps."


def fitted_so_far(run: Run, problem: Problem) -> dict[str, Any]:
    """Return what an estimator needs to predict as if the fit had ended here."""
    state = selected_state(run, on_host=True)
    return {
        "params_": plain_values(state, problem.spec),
        "at_bound_": bound_flags(state, problem.spec),
        "n_iter_": run.step,
        "selected_step_": run.reading.selected_step,
        "_call": problem.objective.call,
        "_dtype": problem.data[0].dtype,
    }


def _subtask_steps(plan: Plan, settings: Settings) -> int:
    """
    Return how many steps scikit-learn's callbacks see as one subtask.

    A step, as in scikit-learn's own estimators, or an epoch; but several where there
    would be more subtasks than a bar can show.
    """
    optimizer = settings.optimizer
    few = optimizer.looks or optimizer.descends
    epochs = -(-plan.max_steps // plan.per_epoch)
    return plan.per_epoch * max(1, -(-epochs // (_MANY if few else _SOME)))


def shown(run: Run) -> dict[str, float]:
    """Return the numbers that a bar shows."""
    found = {"loss": float(run.reading.value)}
    feed = run.task.feed
    if feed is not None and feed.validates:
        found["best val_loss"] = run.reading.best_score
    return found
