"""The way of one run over chunks: where it changes over, is looked at, and ends.

State k of a run is evaluated on the batch that step k + 1 takes. So a run goes over to
the next chunk one step before the last one of a chunk: that step takes the gradient
that is there, and evaluates where it gets to on the next chunk. Nothing is evaluated
twice, and the numbers are those of `partial_fit` on each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._assessment import NON_FINITE, OFF, RUNNING
from ._chunk_data import Chunk
from ._chunks import Ahead
from ._driver import Run
from ._ending import Ending, result_of
from ._optimizer import call_hook, call_step, next_call
from ._training import without_score
from ._typing import StepCallback
from ._whole import objective_of_all, score_by


class Judge:
    """
    Says which epoch was the best, and for how long there was no better one.

    Parameters
    ----------
    patience : int
        So many epochs may pass; 0 is without end.
    held_out : tuple or None
        What the objective takes of rows that are not fitted.

    Attributes
    ----------
    losses : dict
        Step to the loss of the held-out rows.
    best : float
        The lowest score.
    """

    def __init__(self, patience: int, held_out: tuple[Any, ...] | None) -> None:
        self.losses: dict[int, float] = {}
        self._patience = patience
        self._held_out = held_out
        self.best = np.inf
        self._best_epoch = self._best_step = 0
        self._values: Any = None
        self._score: Callable[[], float] | None = None
        self._began = 0

    def look(self, run: Run, epoch: int) -> Ending | None:
        """
        Judge a run at the end of an epoch.

        Parameters
        ----------
        run : Run
            There, in a finite state.
        epoch : int
            How many there have been; 0 at the start.

        Returns
        -------
        Ending or None
            If there was no better one for too long.
        """
        score = np.inf
        if self._held_out is not None:
            self._score = self._score or score_by(run, self._held_out)
            score = self.losses[run.step] = self._score()
        elif self._patience and run.step > self._began:
            score = run.losses_since(self._began)[:-1].mean(dtype=float)
        if score < self.best or self._values is None:
            self.best = score if np.isfinite(score) else np.inf
            self._best_epoch, self._best_step = epoch, run.step
            self._values = run.carry.values
        self._began = run.step
        if not self._patience or epoch - self._best_epoch < self._patience:
            return None
        what = "mean loss of an epoch" if self._held_out is None else "validation loss"
        return Ending(
            "no_improvement",
            f"Stopped after {run.step} steps: the {what} has not improved for "
            f"{self._patience} epochs; {result_of(self._best_step)}",
        )

    def look_at_last(self, run: Run, epoch: int) -> None:
        """
        Judge a run where a callback or Ctrl-C has ended it, if that can be done.

        Parameters
        ----------
        run : Run
            At its end.
        epoch : int
            The one that it has ended in, counted from 1.
        """
        if run.status == NON_FINITE or run.step in self.losses:
            return
        # Before the first look there is no program, and no wait for one now.
        if self._held_out is None or not self.losses:
            return
        try:
            self.look(run, epoch)
        except KeyboardInterrupt as error:
            run.interruption = run.interruption or error

    def select(self, run: Run) -> None:
        """Have the run return what was best on the held-out rows, if there are any."""
        if self._held_out is None or self._values is None:
            return
        if not np.isfinite(self.best):
            if run.interruption is not None:
                return
            raise without_score()
        run.select(self._values, self._best_step)

    def column(self, last_step: int, dtype: np.dtype) -> np.ndarray:
        """Return what the history has of the held-out rows: NaN between epochs."""
        found = np.full(last_step + 1, np.nan, dtype)
        for step, loss in self.losses.items():
            found[step] = loss
        return found


class Travel:
    """
    Takes a run on, with a callback between its steps.

    Parameters
    ----------
    run : Run
        At its start.
    callback : callable or None
        The step callback.
    chunk_size : int or None
        Steps between its calls.

    Attributes
    ----------
    collected : dict
        What the callback has collected.
    message : str or None
        Why it ended the run.
    """

    def __init__(
        self, run: Run, callback: StepCallback | None, chunk_size: int | None
    ) -> None:
        self.collected: dict[str, Any] = {}
        self.message: str | None = None
        self._run = run
        self._callback = callback
        self._chunk_size = chunk_size
        self._called_at = 0

    def through(self, go: Callable[[], None]) -> None:
        """Go, between the hooks of the callback; Ctrl-C ends it, and is kept."""
        run, callback = self._run, self._callback
        try:
            if callback is not None:
                call_hook(callback, "on_run_start", self.collected)
            try:
                go()
            except KeyboardInterrupt as error:
                if run.carry is None:
                    raise
                run.interrupt(error)
        finally:
            if callback is not None:
                call_hook(callback, "on_run_end", self.collected)

    def to(self, step: int) -> bool:
        """
        Go to a step.

        Parameters
        ----------
        step : int
            Where to be.

        Returns
        -------
        bool
            Whether the run goes on from there.
        """
        run, callback = self._run, self._callback
        while callback is not None and run.step < step:
            due = next_call(run.step, OFF, callback, self._chunk_size)
            run.advance_to(min(due, step))
            ends = run.status != RUNNING or run.stopped_by is not None
            if (run.step == due or ends) and not self._call():
                return False
        # Evaluates a state that was put in the place of another, too.
        run.advance_to(step)
        return run.status == RUNNING and run.stopped_by is None

    def end(self) -> None:
        """Call the callback for the last step, too."""
        is_new = self._called_at < self._run.step
        if self._callback is not None and self.message is None and is_new:
            self._call()
            self._run.advance_to(self._run.step)

    def _call(self) -> bool:
        run, callback = self._run, self._callback
        assert callback is not None
        self._called_at = run.step
        stop, replaced = call_step(callback, run, self.collected)
        if stop:
            run.advance_to(run.step)
            default = f"A callback stopped the run after {run.step} steps."
            self.message = getattr(callback, "message", None) or default
        return not stop and run.stopped_by is None and (replaced or not run.status)


class Route:
    """
    Leads a run from chunk to chunk.

    Parameters
    ----------
    run : Run
        At its start.
    first : Chunk
        What it begins with.
    judge : Judge
        Looks at it at the end of each epoch.

    Attributes
    ----------
    chunk : Chunk
        The current one.
    ending : Ending or None
        Why the judge has ended it.
    at_epoch : callable or None
        Called with the run, the number of epochs, and whether it goes on.
    """

    def __init__(self, run: Run, first: Chunk, judge: Judge) -> None:
        self.chunk = first
        self.ending: Ending | None = None
        self.at_epoch: Callable[[Run, int, bool], None] | None = None
        self._run = run
        run.place = first.place
        self._judge = judge
        self._spans = [(first.first_step, first.end, first.epoch)]
        self._is_complete = False
        # The last state that was evaluated on the chunk before.
        self._changed_at = -1

    @property
    def epochs_done(self) -> int:
        """How many epochs have been gone through."""
        return self.chunk.epoch + self._is_complete

    @property
    def has_run_out(self) -> bool:
        """Whether it has ended for want of chunks, and of no other reason."""
        ended = self.ending is not None or self._run.stopped_by is not None
        return self._is_complete and not ended and self._run.interruption is None

    @property
    def count(self) -> int:
        """How many chunks have been gone through."""
        return sum(end <= self._run.step for _, end, _ in self._spans)

    def go(self, travel: Travel, reader: Ahead[Any], last_step: int) -> None:
        """Go through all chunks, or up to a step, or to where the run ends."""
        run, judge = self._run, self._judge
        goes_on = travel.to(0)
        judge.look(run, 0)
        while goes_on and last_step:
            end, epoch = self.chunk.end, self.chunk.epoch
            stop = min(end, last_step)
            if not travel.to(stop - 1):
                break
            following = reader.take() if end < last_step else None
            is_last = following is None
            if following is not None:
                self._take(following)
                # The one before is let go of: there is room for another.
                del following
                if self.chunk.end < last_step:
                    reader.allow()
            goes_on = travel.to(stop)
            if goes_on and (is_last or self.chunk.epoch > epoch):
                self._is_complete = is_last and end < last_step
                self.ending = judge.look(run, epoch + 1)
                goes_on = self.ending is None and not is_last
                if self.at_epoch is not None:
                    self.at_epoch(run, epoch + 1, goes_on)
                    goes_on = goes_on and run.stopped_by is None
        travel.end()

    def finish(self) -> None:
        """
        Have the run at the current chunk, and looked at by held-out rows where it is.

        Both is so already unless a callback or Ctrl-C has ended it.
        """
        if self._run.interruption is not None:
            # It may have come while one was put in the place of another.
            self._see()
        self._judge.look_at_last(self._run, self.chunk.epoch + 1)

    def _take(self, chunk: Chunk) -> None:
        self._spans.append((chunk.first_step, chunk.end, chunk.epoch))
        self._changed_at = self._run.step
        self.chunk = chunk
        self._see()

    def _see(self) -> None:
        self._run.place = self.chunk.place
        self._run.see(self.chunk.data, self.chunk.feed, self.chunk.fed)

    def epochs(self) -> np.ndarray:
        """Return the epoch of each row of the history."""
        epochs = np.zeros(self._run.step + 1, int)
        for first, end, epoch in self._spans:
            epochs[first:end] = epoch
        epochs[end:] = epoch + self._is_complete
        return epochs

    def loss(self) -> float:
        """Return the objective of the current chunk, at what the run returns."""
        run, chunk, reading = self._run, self.chunk, self._run.reading
        is_known = reading.selected_step == run.step > self._changed_at
        if chunk.feed is None and is_known:
            return float(reading.selected_value)
        size = chunk.batch_size or len(chunk.data[0])
        return objective_of_all(run, size, chunk.pace)
