"""Chunks of data as a run takes them: checked, arranged, on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from sklearn import config_context, get_config

from ._chunks import Part, at_place
from ._epochs import Fed, Feed, Pace
from ._optimizer import precision, x64_is_on
from ._problem import Problem, arrange_held_out, read_dtype
from ._training import Rows, make_feed, make_pace, read_plan, read_rows
from ._transfer import aligned_copy, to_device


@dataclass(frozen=True)
class Checked:
    """The rows of a chunk, checked."""

    part: Part
    rows: Rows


@dataclass(frozen=True)
class Chunk:
    """
    A chunk as a run takes it.

    Parameters
    ----------
    epoch : int
        Of which pass, from 0.
    place : str
        Where it stands, in words.
    responses : tuple
        Its responses on the host, and their weights or ``None``.
    data, feed, fed : tuple, Feed and Fed or None
        As `Run.see` takes them, on the device.
    pace : Pace
        How many rows count.
    batch_size : int or None
        Of a step; ``None`` is all rows.
    first_step, end : int
        The steps that its batches are for: from the one to before the other.
    """

    epoch: int
    place: str
    responses: tuple[np.ndarray, np.ndarray | None]
    data: tuple[Any, ...]
    feed: Feed | None
    fed: Fed | None
    pace: Pace
    batch_size: int | None
    first_step: int
    end: int


def surroundings() -> Callable[[], AbstractContextManager[None]]:
    """Return a function whose contexts have the settings that this thread has now."""
    config, double = get_config(), x64_is_on()
    device = getattr(jax.config, "jax_default_device")  # noqa: B009 (untyped)

    @contextmanager
    def enter() -> Iterator[None]:
        with (
            config_context(**config),
            jax.enable_x64(double),
            jax.default_device(device),
        ):
            yield

    return enter


class Maker:
    """
    What is done with each chunk in the thread that reads them.

    Parameters
    ----------
    estimator : OptaxEstimator
        The first chunk gives it the number of columns, and their names.
    columns : int or None
        How many an earlier fit had, if this one goes on from it.
    seed : int
        Orders the rows.
    epochs : int
        How many there have been in earlier fits.

    Attributes
    ----------
    problem : Problem or None
        Bound to the first chunk, by the caller, before a second one is made.
    """

    def __init__(
        self, estimator: Any, columns: int | None, seed: int, epochs: int
    ) -> None:
        self.problem: Problem | None = None
        self._estimator = estimator
        self._columns = columns
        self._seed = seed
        self._epochs = epochs
        self._step = 0
        self._dtypes = read_dtype(estimator.dtype)
        self._outputs: tuple[int, ...] | None = None

    def __call__(self, part: Part) -> Checked | Chunk:
        """Return a chunk, or of the first one its rows."""
        try:
            rows = self._checked(part)
        except Exception as error:
            told = at_place(error, part)
            raise told from (None if told is error else error)
        checked = Checked(part, rows)
        if self.problem is None:
            return checked
        with self.precision():
            return self.arranged(checked, None)

    def precision(self) -> AbstractContextManager[None]:
        """Return the context for arrays of the fit."""
        return precision(self._dtypes == np.float64)

    def _checked(self, part: Part) -> Rows:
        estimator, is_first = self._estimator, self.problem is None
        if not is_first:
            # What the first one has said of the columns stays.
            estimator = copy.copy(estimator)
        rows = read_rows(estimator, *part.rows, self._dtypes)
        if self._columns not in (None, rows.X.shape[1]):
            raise ValueError(
                f"X has {rows.X.shape[1]} features, but {type(estimator).__name__} is "
                f"expecting {self._columns} features as input."
            )
        if is_first:
            self._columns, self._dtypes = rows.X.shape[1], rows.X.dtype
            self._outputs = rows.y.shape[1:]
        else:
            self._compare(estimator, rows)
        # Copies: who fills the same arrays again may do so. (Of weights there is one.)
        return Rows(aligned_copy(rows.X), aligned_copy(rows.y), rows.weights)

    def _compare(self, estimator: Any, rows: Rows) -> None:
        """Raise if a chunk is not like the first one."""
        names, first = (
            None if found is None else list(found)
            for found in (
                getattr(who, "feature_names_in_", None)
                for who in (estimator, self._estimator)
            )
        )
        if names != first:
            raise ValueError(
                f"X has the column names {names}, and the first chunk has {first}. "
                "They must be the same, in the same order."
            )
        if rows.y.shape[1:] != self._outputs:
            raise ValueError(
                f"y has the shape {rows.y.shape}, and a row of the first chunk's has "
                f"the shape {self._outputs}. All chunks must have as many outputs."
            )
        assert self.problem is not None
        loss = self.problem.objective.loss
        if hasattr(loss, "check_y"):
            loss.check_y(rows.y)

    def arranged(self, checked: Checked, data: tuple[Any, ...] | None) -> Chunk:
        """
        Return a chunk, on the device.

        Parameters
        ----------
        checked : Checked
            Its rows.
        data : tuple or None
            The objective's arguments, if they are made already.

        Returns
        -------
        Chunk
            Ready.
        """
        problem, rows = self.problem, checked.rows
        assert problem is not None
        if data is None:
            data = arrange_held_out(problem, rows.X, rows.y, rows.weights)
        problem = replace(problem, data=jax.tree.map(to_device, data))
        plan = read_plan(self._estimator, len(rows.X), False, False)
        first_step, epoch = self._step, self._epochs
        feed, fed = make_feed(plan, problem, rows, None, self._seed, epoch, first_step)
        pace = make_pace(plan, rows, self._seed, epoch, first_step)
        self._step += plan.per_epoch
        self._epochs += 1
        return Chunk(
            checked.part.epoch,
            str(checked.part),
            (rows.y, rows.weights),
            problem.data,
            feed,
            fed,
            pace,
            plan.batch_size,
            first_step,
            self._step,
        )
