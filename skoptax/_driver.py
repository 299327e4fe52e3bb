"""One optimisation in progress: the host's side of the loop.

`Run` enters the compiled loop (`_compiled_loop`) again and again until a step is
reached. What it does about steps that are not finite is in `_recovery`. What its
results say is read off elsewhere: numbers in `_reading`, states in `_results`, the
curvature in `_curvature`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ._assessment import NON_FINITE, OFF, RUNNING, Control
from ._at_end import AtEnd
from ._compiled_loop import CompiledLoop
from ._epochs import Fed, Feed
from ._evaluation import Values
from ._history import History, named_columns
from ._legacy import Legacy, length_of_steps
from ._loop import Carry
from ._parameter import is_parameter
from ._reading import Reading
from ._recorded import Recorded, Rows
from ._recovery import Anchor, Recovery
from ._state import is_free, reading_order
from ._task import Task
from ._typing import PyTree
from ._validation import shorten
from .exceptions import InvalidParameterError, ModelError, NonFiniteError


class _Unreplaced(NamedTuple):
    """What was there before a state was put in the place of another."""

    loop: CompiledLoop
    carry: Any
    first_row: int  # of the history


class Run:
    """
    An optimisation between its start and its end.

    Parameters
    ----------
    task : Task
        What is minimised, and how. Belongs to the run from now on.
    tol : float, default=0.0
        Ends the run when the scaled gradient is this small; 0 is off.
    patience : int, default=0
        Ends the run after so many steps without a new best loss; 0 is off.
    stalled_after : int, default=0
        The same for an optimiser that descends at every step, so that rounding
        error must keep it from doing so; 0 is off.
    legacy : Legacy, optional
        What an earlier run has left. Only its epochs count on if the optimiser is
        another one, or the parameters have other shapes.
    setbacks : int, default=0
        How often it may go back from a state that is not finite, in this run and those
        that it goes on from; with 0 it ends there.
    at_end : AtEnd, optional
        What the loop's program computes besides, where the run ends.

    Attributes
    ----------
    last_step : int
        Where the run ends at the latest: what is computed at its end is computed there.
        Nothing else depends on it.
    watch : callable or None
        Called with the run after each block of steps, which takes about 0.4 s, with
        large data longer. What it returns, if anything, ends the run, and is the
        message of its ending.
    watch_every : int
        Blocks end at multiples of this many steps, too; 0 is off.
    stopped_by : str or None
        What `watch` has said.
    carry : Carry
        What the last block of steps has left.
    step : int
        How many steps have been made.
    status : int
        Why the loop has ended; `RUNNING` if it has not.
    legacy : Legacy or None
        What the run goes on with, if anything.
    epochs_before : int
        How many epochs there have been in the runs that it follows.
    recovery : Recovery
        What it does about states that are not finite.
    seed : int or None
        What has drawn what is random in the task; for those who go on.
    interruption : KeyboardInterrupt or None
        What has ended it from outside.
    place : str or None
        Where the data stand that it sees, in words for messages; `None` if it sees the
        same all the time.
    """

    def __init__(
        self,
        task: Task,
        *,
        tol: float = 0.0,
        patience: int = 0,
        stalled_after: int = 0,
        legacy: Legacy | None = None,
        setbacks: int = 0,
        at_end: AtEnd | None = None,
    ) -> None:
        self.last_step = OFF
        self.watch: Callable[[Run], str | None] | None = None
        self.watch_every = 0
        self.stopped_by: str | None = None
        self.interruption: KeyboardInterrupt | None = None
        self.seed: int | None = None
        self.place: str | None = None
        self.tol = tol
        self.patience = patience
        self.stalled_after = stalled_after
        self.carry: Any = None
        self.step = 0
        self.status = RUNNING
        self._replaced = True
        # What was there before the last replacement, and what a block began with, until
        # it is known where that has ended.
        self._unreplaced: _Unreplaced | None = None
        self._entry: Anchor | None = None
        self._history = History()
        # JAX sorts a dict's keys; the history has the user's order.
        self._order = reading_order(task.state)
        self.recovery = Recovery(setbacks)
        shrinks_moves = setbacks > 0 and not task.optimizer.steps_by_rate
        self._loop = CompiledLoop(task, shrinks_moves, at_end)
        self.epochs_before = 0 if legacy is None else legacy.epochs
        if legacy is not None and not legacy.fits(self.blank.opt_state):
            legacy = None
        self.legacy = legacy
        if legacy is not None and setbacks > 0:
            self.recovery.shrinks = legacy.shrinks_of(task.optimizer)

    @property
    def task(self) -> Task:
        """What is minimised, and how, as it is now."""
        return self._loop.task

    @property
    def reading(self) -> Reading:
        """The numbers that say where the run is."""
        return Reading(self.carry)

    def advance_to(self, stop_at: int) -> None:
        """
        Run until step ``stop_at``, or until the loop ends or `watch` ends it.

        A run that may go back from a state that is not finite ends there for now, and
        goes on with the next call.

        Parameters
        ----------
        stop_at : int
            A number of steps, counted from the start of the run.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite at the start.
        ModelError
            If no parameter has any influence on the loss.
        """
        history = self._history
        if not self.has_ended and not self._replaced and self.step < stop_at:
            self._go_back()
        while self._replaced or (self._is_running and self.step < stop_at):
            last_row = history.first_row + self._loop.rows - 1
            block = self._loop.program.steps_per_block(self.task.size)
            limit = min(stop_at, self.step + block, last_row)
            if self.watch_every:
                limit = min(limit, _after(self.step, self.watch_every))
            is_start = self.carry is None
            is_new = is_start and self.legacy is None
            control = self.control(is_new, self._replaced, limit, history.first_row)
            carry = self._first_carry() if is_start else self.carry
            began, before, recovery = time.perf_counter(), self.step, self.recovery
            entry = Anchor(carry, control, before, recovery.shrinks, recovery.undone)
            program = self._loop.program
            is_last = limit >= self.last_step
            self.carry = self._loop.enter(control, carry, recovery.shrinks, is_last)
            self._entry, self._replaced = entry, False
            # An interruption comes here, where the host waits.
            self._note()
            program.record_speed(time.perf_counter() - began, self.step - before)
            if is_start:
                self._check_start()
            if self.step >= last_row:
                history.collect(self.carry, self.step)
                history.first_row = self.step + 1
            if self.watch is not None:
                self.stopped_by = self.watch(self) or self.stopped_by

    def _note(self) -> None:
        """Take notice of where the last block of steps has ended."""
        self._count()
        entry, before = self._entry, self._unreplaced
        self._entry = self._unreplaced = None
        if entry is None:
            if before is not None:
                # Of what was put in nothing is known: it is as if it had not been.
                self._loop = before.loop
                self.carry, self._history.first_row = before.carry, before.first_row
                self._replaced = False
                self._count()
            return
        if before and self.status == NON_FINITE and self.step == entry.step:
            # What was put in is nothing to go back to: all is as it was before.
            self._loop = before.loop
            return
        is_forced = bool(entry.control.is_replaced)
        feed = self.task.feed
        self.recovery.note(entry, self.carry, feed, self.blank, is_forced)

    @property
    def _is_running(self) -> bool:
        return self.status == RUNNING and self.stopped_by is None

    @property
    def has_ended(self) -> bool:
        """Whether no step is to come, but for what callbacks do, or `advance_to`."""
        if self.status == NON_FINITE:
            return not self.recovery.may_go_back or self.stopped_by is not None
        return not self._is_running

    def _go_back(self) -> None:
        if self.status != NON_FINITE:
            return
        control = self.control(True, True, self.step, self.step)
        carry = self.recovery.go_back(
            self._loop.enter, self.carry, self.task.feed, control, self.blank
        )
        if carry is not None:
            self.carry = carry
            self._count()

    def settle(self) -> None:
        """Select the best state, if the run has gone wrong; it goes back no more."""
        recovery = self.recovery
        try:
            enter, feed = self._loop.enter, self.task.feed
            self.carry = recovery.settle(enter, self.carry, feed)
        finally:
            recovery.anchor = None

    def interrupt(self, error: KeyboardInterrupt) -> None:
        """End where the last block of steps has ended."""
        self.interruption = error
        self._note()
        self._check_start()

    def _first_carry(self) -> Carry:
        blank = self.blank
        if self.legacy is None:
            return blank
        start = self.legacy.start.astype(blank.start.dtype)
        return blank._replace(opt_state=self.legacy.opt_state, start=start)

    def leave(self, steps_per_epoch: int) -> Legacy:
        """Return what a later run goes on with."""
        steps = 0 if self.legacy is None else self.legacy.steps
        shrinks = self.recovery.shrinks_of_next(self.status != NON_FINITE)
        return Legacy(
            jax.tree.map(np.asarray, self.carry.opt_state),
            np.asarray(self.carry.start),
            steps + self.step - self.recovery.undone,
            self.epochs_before + self.step // steps_per_epoch,
            shrinks,
            length_of_steps(self.task.optimizer) if shrinks else None,
        )

    def control(
        self, is_start: bool, is_replaced: bool, stop_at: int, first_row: int
    ) -> Control:
        """Return what the loop is told for a block of steps."""
        before = 0 if self.legacy is None else self.legacy.steps
        return Control(
            is_start=is_start,
            is_replaced=is_replaced,
            stop_at=stop_at,
            first_row=first_row,
            patience=min(self.patience or OFF, OFF),
            stalled_after=min(self.stalled_after or OFF, OFF),
            steps_before=before - self.recovery.undone,
            shrinks=self.recovery.shrinks,
            resumed_at=self.recovery.resumed_at,
            tol=self.tol,
        )

    def adopt(self, values: Any, blocks: Sequence[tuple[int, Carry]]) -> None:
        """
        Go on as if this run had begun elsewhere, and been there.

        Parameters
        ----------
        values : pytree
            The start values, as the packed numbers hold them.
        blocks : sequence of (int, Carry)
            For each block of steps, the first step that its history has a row for, and
            what the loop has left, as NumPy arrays.
        """
        self.task.start_from(values)
        self._replaced = False
        for place, (first, carry) in enumerate(blocks):
            self.carry, self._history.first_row = carry, first
            self._count()
            if place < len(blocks) - 1:
                self._history.collect(carry, self.step)
        self._check_start()

    def resume(self, carry: Carry, rows: Rows, legacy: Legacy | None) -> None:
        """
        Go on where another run of the same task was.

        Parameters
        ----------
        carry : Carry
            What its loop had left, with the empty history of `blank`.
        rows : dict of str to ndarray
            All of its history.
        legacy : Legacy or None
            What it went on with.
        """
        self.carry, self.legacy = carry, legacy
        if legacy is not None:
            self.epochs_before = legacy.epochs
        self._replaced = False
        self._count()
        self._history.resume(rows, self.step)

    def recorded(self) -> Recorded:
        """Return the rows of the history, without ending it."""
        return self._history.recorded(self.carry, self.step)

    def see(self, data: tuple[Any, ...], feed: Feed | None, fed: Fed | None) -> None:
        """
        Go on with other data: the states that follow are evaluated on these.

        Parameters
        ----------
        data : tuple
            As the task has them.
        feed, fed : Feed and Fed or None
            How the loop takes them. The step that they begin with is that after the
            current one.
        """
        if not self._loop.see(data, feed, fed):
            return
        # Their shapes may follow those of the data, and they are written before read.
        blank = self.blank
        self.carry = self.carry._replace(aux=blank.aux, running=blank.running)

    def select(self, values: Values, step: int) -> None:
        """
        Return an earlier state.

        Parameters
        ----------
        values : Values
            What the carry selected there.
        step : int
            Its number.
        """
        counts = self.reading.counts._replace(selected_step=step)
        self.carry = self.carry._replace(
            selected=values, counts=np.array(counts, np.int32)
        )

    def losses_since(self, step: int) -> np.ndarray:
        """Return the losses of the history from a step on, the current one's too."""
        column = next(c for c in self._loop.columns if c.key == "loss")
        return self.recorded().rows(step)[column.dtype][:, column.place]

    @property
    def at_end(self) -> Any:
        """What was computed at the selected state; `None` if it was not."""
        return self._loop.found_at(self.carry, self.status)

    @property
    def blank(self) -> Carry:
        """A carry to start from."""
        return self._loop.blank

    def replace(self, state: PyTree) -> None:
        """
        Put other values into the run; they are evaluated before the next step.

        Parameters
        ----------
        state : pytree
            Of the same structure.
        """
        if _skeleton(state) != _skeleton(self.task.state):
            raise InvalidParameterError(
                "A callback must return states of the structure it received: the same "
                "pytrees, with the same parameters free, of the same shapes."
            )
        first_row = self._history.first_row
        self._unreplaced = _Unreplaced(self._loop.copy(), self.carry, first_row)
        self._loop.put(state)
        # Its shape may follow that of the data; it is evaluated before it is used.
        self.carry = self.carry._replace(aux=self.blank.aux)
        self._replaced = True
        self._history.first_row = min(first_row, self.step)

    def history(self) -> dict[str, Any]:
        """Return the columns of the history: one entry per step, from the start on."""
        self._history.collect(self.carry, self.step)
        rows, columns = self._history.take_rows(), self._loop.columns
        task = self.task
        return named_columns(rows, columns, self._order, task.structure, task.numbers)

    def _count(self) -> None:
        counts = self.reading.counts
        self.step, self.status = counts.step, counts.status

    def _check_start(self) -> None:
        task = self.task
        start = self.reading.start if self.legacy is None else self.reading.now
        loss, norm = start.value, start.norm
        if self.status == NON_FINITE and self.step == 0:
            what = "loss" if not np.isfinite(loss) else "gradient of the loss"
            number = loss if not np.isfinite(loss) else norm
            values = task.structure.split(task.start)
            starts = ", ".join(
                f"{task.structure.leaves[i].name}="
                f"{shorten(np.asarray(values[i]).tolist())}"
                for i in self._order
                if i in values
            )
            advice = (
                "Choose a start where the model and its derivatives are finite, for "
                "every row of the data."
            )
            if np.isposinf(loss) and task.domain:
                advice = task.domain
            raise NonFiniteError(
                f"The {what} is {number} at the start values {starts}. {advice}"
            )
        if norm == 0 and not task.has_influence(self._loop.program):
            names = [x.name for x in task.structure.leaves if x.kind == "free"]
            raise ModelError(
                f"{task.role} has no gradient with respect to any free parameter "
                f"({', '.join(map(repr, names))}): it does not use them, or only "
                "through integers, comparisons, rounding or jax.lax.stop_gradient."
            )


def _after(step: int, every: int) -> int:
    """Return the first multiple of ``every`` above ``step``."""
    return (step // every + 1) * every


def _skeleton(state: PyTree) -> tuple[Any, ...]:
    """Return what a replaced state must have in common with the one before."""
    leaves, treedef = jax.tree.flatten(state, is_leaf=is_parameter)
    shapes = [leaf.shape if is_free(leaf) else is_parameter(leaf) for leaf in leaves]
    return treedef, shapes
