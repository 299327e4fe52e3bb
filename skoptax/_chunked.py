"""A fit to data in chunks, from an estimator's arguments to all that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from ._assessment import OFF
from ._chunk_data import Chunk, Maker, surroundings
from ._chunks import REMEDY, Ahead, open_chunks, parts_of
from ._driver import Run
from ._ending import Ending
from ._fingerprint import Walk
from ._fitting import (
    Fitted,
    fitted_so_far,
    gather,
    read_seed,
    read_validation,
    shown,
)
from ._legacy import Legacy
from ._problem import (
    OWNER,
    Problem,
    arrange_held_out,
    continued,
    make_problem,
    make_task,
)
from ._reporting import ProgressBar
from ._route import Judge, Route, Travel
from ._settings import Settings, read_settings, refuse_batches
from ._sklearn_callbacks import FitTask
from ._snapshot import uses_snapshots
from ._training import DEFAULT_PATIENCE, Rows, hold_out, read_plan
from ._transfer import to_device
from ._uncertainty import check_covariance
from .exceptions import ConvergenceWarning, InvalidParameterError
from .optimizers._states import has_line_search

# So many chunks are read ahead of the one that is fitted.
_AHEAD = 1


def fit_chunks(
    estimator: Any,
    chunks: Any,
    held_out: tuple[Any, Any, Any],
    *,
    goes_on: bool,
    legacy: Legacy | None,
    columns: int | None,
    follower: FitTask | None = None,
) -> tuple[Fitted, np.dtype]:
    """
    Fit an estimator's model to chunks of data.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read. Gets the number of columns, and their names.
    chunks : iterable or callable
        What the user gave.
    held_out : tuple
        Inputs, responses and weights to validate with.
    goes_on : bool
        Whether to start from its fitted values.
    legacy : Legacy or None
        What its last fit has left.
    columns : int or None
        How many an earlier fit had, if this one goes on from it.
    follower : FitTask, default=None
        What scikit-learn's callbacks follow. Begins here, and is not ended.

    Returns
    -------
    fitted : Fitted
        All there is to keep.
    dtype : numpy.dtype
        The precision of the fit.
    """
    covariance = check_covariance(estimator)
    # Of the arguments that do not depend on the number of rows.
    limits = read_plan(estimator, 1, False, False)
    _refuse_split(estimator, held_out)
    epochs = None if estimator.max_epochs is None else limits.max_steps
    last_step = OFF - 1 if epochs else limits.max_steps
    seed = read_seed(estimator)
    epochs_before = 0 if legacy is None else legacy.epochs
    maker = Maker(estimator, columns, seed, epochs_before)
    parts = parts_of(chunks, open_chunks(chunks, OWNER, epochs), epochs)
    with Ahead(parts, maker, surroundings()) as reader:
        first = reader.take()
        problem, chunk, others = _bind(estimator, maker, first, held_out, goes_on, seed)
        del first
        if chunk.end < last_step:
            reader.allow(_AHEAD)
        with maker.precision():
            run, settings = _make_run(estimator, problem, chunk, seed, legacy)
            judge = _make_judge(estimator, limits.patience, problem, others)
            route = Route(run, chunk, judge)
            del chunk
            travel = Travel(run, settings.callback, settings.chunk_size)
            close = _draw_bar(settings, run, route, judge, chunks, epochs, last_step)
            if follower is not None:
                follower.begin(epochs or 0, 1 if epochs else 0)
                route.at_epoch = partial(_tell, follower, problem)
            travel.through(lambda: route.go(travel, reader, last_step))
            route.finish()
            close()
    with maker.precision():
        judge.select(run)
        ended_early = _ended_early(route, run, epochs)
        found = gather(
            run,
            replace(problem, data=route.chunk.data),
            route.chunk.responses,
            travel.collected,
            travel.message,
            route.loss(),
            covariance,
            route.ending or ended_early,
        )
        dtype = route.chunk.responses[0].dtype
        history = {"epoch": route.epochs(), "loss": found.history["loss"]}
        if others is not None:
            history["val_loss"] = judge.column(run.step, dtype)
        left = None
        if estimator.warm_start:
            left = run.leave(1)._replace(epochs=epochs_before + route.count)
        fitted = replace(
            found,
            record=replace(found.record, of_one_chunk=True),
            history=history | found.history,
            legacy=left,
            interruption=run.interruption or reader.interruption,
            remarks=_remarks(ended_early, epochs, reader.failure),
        )
        return fitted, dtype


def _bind(
    estimator: Any,
    maker: Maker,
    first: Any,
    held_out: tuple[Any, Any, Any],
    goes_on: bool,
    seed: int,
) -> tuple[Problem, Chunk, Rows | None]:
    """
    Bind the model to the first chunk.

    Returns the problem without rows, the chunk, and the rows to validate with.
    """
    rows = first.rows
    others = read_validation(estimator, held_out, rows)
    # Of what it checks; nothing is held out here.
    hold_out(estimator, rows, others, seed)
    with maker.precision():
        problem = make_problem(
            continued(estimator) if goes_on else estimator,
            rows.X,
            rows.y,
            rows.weights,
            Walk(),
            seed,
        )
        # No chunk is to be kept with it. (The thread walks on its own.)
        bare = replace(problem, data=problem.data[-2:])
        maker.problem = replace(bare, walk=Walk())
        return bare, maker.arranged(first, problem.data), others


def _make_run(
    estimator: Any, problem: Problem, chunk: Chunk, seed: int, legacy: Legacy | None
) -> tuple[Run, Settings]:
    problem = replace(problem, data=chunk.data)
    settings = read_settings(estimator, problem, chunk.data[0].dtype, True, True)
    if uses_snapshots(settings.callback):
        raise InvalidParameterError(
            "Checkpoint and Resume do not go with fit_chunks: which chunks were done "
            "is not in a file. Fit a few epochs at a time with warm_start=True, and "
            "pickle the estimator in between."
        )
    task = make_task(estimator, problem, settings.optimizer, chunk.feed, chunk.fed)
    run = Run(task, legacy=legacy)
    run.seed = seed
    if has_line_search(run.blank.opt_state):
        raise refuse_batches(estimator.optimizer)
    return run, settings


def _ended_early(route: Route, run: Run, epochs: int | None) -> Ending | None:
    """Return how a run has ended that has got no chunks for all of its epochs."""
    if not route.has_run_out or route.epochs_done == epochs:
        return None
    # (The status of a fit that has made the steps that there were.)
    return Ending(
        "max_steps",
        f"Stopped after {run.step} steps, where chunks, which can be iterated only "
        f"once, gave none in epoch {route.epochs_done + 1}.",
    )


def _remarks(
    ended_early: Ending | None, epochs: int | None, failure: BaseException | None
) -> tuple[Warning, ...]:
    found: list[Warning] = []
    if ended_early is not None:
        wanted = "a max_steps that it reaches" if epochs is None else "max_epochs=1"
        message = f"{ended_early.message} {REMEDY}, or {wanted}."
        found.append(ConvergenceWarning(message))
    if failure is not None:
        # The fit had ended by then: it is no reason to lose it.
        warning = RuntimeWarning(f"Closing chunks after the fit raised {failure!r}.")
        warning.__cause__ = failure
        found.append(warning)
    return tuple(found)


def _refuse_split(estimator: Any, held_out: tuple[Any, Any, Any]) -> None:
    stops = estimator.early_stopping
    if isinstance(stops, (bool, np.bool_)) and stops and held_out[0] is None:
        raise InvalidParameterError(
            "fit_chunks with early_stopping=True needs X_val and y_val: rows that it "
            "held out of chunks would have to be kept. Got no X_val."
        )


def _make_judge(
    estimator: Any, patience: int, problem: Problem, others: Rows | None
) -> Judge:
    if others is None:
        return Judge(patience, None)
    if estimator.n_iter_no_change is None and estimator.early_stopping:
        patience = DEFAULT_PATIENCE
    data = arrange_held_out(problem, others.X, others.y, others.weights)
    return Judge(patience, jax.tree.map(to_device, data))


def _draw_bar(
    settings: Settings,
    run: Run,
    route: Route,
    judge: Judge,
    chunks: Any,
    epochs: int | None,
    last_step: int,
) -> Callable[[], None]:
    """Draw a bar while a run goes on, if one is wanted; return what ends it."""
    if not settings.verbose:
        return lambda: None
    # How many steps there are is not known before the chunks have been read.
    if epochs is None:
        bar, done = ProgressBar("steps", last_step), lambda: run.step
    elif (length := _length(chunks)) is not None:
        bar, done = ProgressBar("chunks", length * epochs), lambda: route.count
    else:
        bar, done = ProgressBar("epochs", epochs), lambda: route.epochs_done

    def found() -> dict[str, float]:
        best = {"best val_loss": judge.best} if judge.losses else {}
        return shown(run) | best

    def watch(_: Run) -> None:
        bar.update(done(), found)

    run.watch = watch
    return lambda: bar.close(done(), found())


def _length(chunks: Any) -> int | None:
    try:
        return len(chunks)
    except TypeError:  # also of loaders that have a length only for some data
        return None


def _tell(
    follower: FitTask, problem: Problem, run: Run, epoch: int, goes_on: bool
) -> None:
    """Tell scikit-learn's callbacks of an epoch, and end the run if they want so."""
    problem = replace(problem, data=run.task.inputs()[1])
    if follower.advance(epoch, goes_on, lambda: fitted_so_far(run, problem)):
        run.stopped_by = (
            f"A callback of scikit-learn stopped the fit after {run.step} steps."
        )
