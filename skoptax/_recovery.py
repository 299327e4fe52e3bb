"""Back from a step that is not finite, and on from there with shorter ones.

The loop keeps no copy of the best state: each step would have to pay for it. It counts
at which step that was, and the host holds on to what the block of steps began with that
has it. Where it is needed, these steps are made once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._assessment import NON_FINITE, RUNNING, Best, Control, Counts, shrinkage
from ._epochs import Feed
from ._loop import Carry

Enter = Callable[[Control, Carry, int], Carry]
"""Runs a block, with steps that have been shrunk so many times."""


class Setback(NamedTuple):
    """A step that was not finite, and the one that the run went back to."""

    step: int
    back_to: int


class Anchor(NamedTuple):
    """What a block of steps began with."""

    carry: Carry
    control: Control
    step: int
    shrinks: int
    undone: int


class Recovery:
    """
    What a run does about steps that are not finite.

    Parameters
    ----------
    most : int
        How often the steps may be shrunk; with 0 the run ends at once.
    shrinks : int, default=0
        How often they have been in earlier runs.

    Attributes
    ----------
    shrinks : int
        How often the steps have been shrunk.
    undone : int
        How many of the run's steps the optimiser's state knows nothing of.
    setbacks : list of Setback
        What has happened in this run.
    hopeless : bool
        Whether a batch is finite neither at the best state nor at the start, so that no
        step helps.
    anchor : Anchor or None
        What the block of steps began with that has the best state.
    origin : int
        The step at which the run began, or at which a state from outside was put in.
    """

    def __init__(self, most: int, shrinks: int = 0) -> None:
        self.most = most
        self.shrinks = shrinks
        self.undone = 0
        self.setbacks: list[Setback] = []
        self.hopeless = False
        self.anchor: Anchor | None = None
        self.origin = 0

    @property
    def may_shrink(self) -> bool:
        """Whether there is sense in shorter steps."""
        return self.shrinks < self.most and not self.hopeless

    @property
    def may_go_back(self) -> bool:
        """Whether there is a state to go back to, too."""
        return self.may_shrink and self.anchor is not None

    @property
    def resumed_at(self) -> int:
        """The step of the last setback; 0 if there was none."""
        return self.setbacks[-1].step if self.setbacks else 0

    @property
    def share(self) -> float:
        """How long the steps are, of what they would be."""
        return shrinkage(self.shrinks)

    def shrinks_of_next(self, is_finite: bool) -> int:
        """Return how often the steps of a run that goes on from this are shrunk."""
        if is_finite and not self.setbacks:
            # What was wrong may have been in the data of a fit long ago.
            return max(self.shrinks - 1, 0)
        if is_finite or self.hopeless:
            return self.shrinks
        # Where nothing has helped, another fit begins as if there had been none.
        return self.shrinks + 1 if self.may_shrink else 0

    def note(
        self,
        entry: Anchor,
        left: Carry,
        feed: Feed | None,
        blank: Carry,
        forced: bool,
    ) -> None:
        """
        Hold on to what a block began with, if the best state is in it.

        Parameters
        ----------
        entry : Anchor
            What it began with.
        left : Carry
            What it has left.
        feed : Feed or None
            How the loop takes the data.
        blank : Carry
            An empty one.
        forced : bool
            Whether the block began with a state from outside, which no earlier block
            leads to.
        """
        if self.most == 0:
            return
        if forced:
            self.origin = entry.step
        if self.anchor is None or forced or _best_step(left, feed) > entry.step:
            self.anchor = entry._replace(carry=_lean(entry.carry, blank, feed))

    def go_back(
        self,
        enter: Enter,
        failed: Carry,
        feed: Feed | None,
        control: Control,
        first: Carry,
    ) -> Carry | None:
        """
        Return what the run goes on with.

        Parameters
        ----------
        enter : callable
            Runs a block.
        failed : Carry
            At the step that is not finite.
        feed : Feed or None
            How the loop takes the data.
        control : Control
            Of the block in which the run would begin anew.
        first : Carry
            An empty one for it.

        Returns
        -------
        Carry or None
            The best state and what the optimiser knew there, as that of this step;
            with the history as it is. Of batches, the start, if the best state is not
            finite for the rows of this one. ``None`` if there is nothing to go on with.
        """
        step = _counts(failed).step
        plain = control._replace(is_start=False, is_replaced=False, resumed_at=step)
        found = self._best(enter, failed, feed)
        here, anchor, back_to, undone = None, self.anchor, self.origin, step
        if found is not None:
            best, undone = found
            back_to = _counts(best).step
            here = _as_step(best, failed, step)
            left = undone - (step - back_to)
            kept = _lean(best, first, feed)
            anchor = Anchor(kept, plain, back_to, self.shrinks, left)
        if here is not None and feed is not None and feed.batch_size is not None:
            before, counts = here, _counts(here)
            pending = _vector(counts._replace(pending=1), before.counts)
            here = enter(plain, before._replace(counts=pending), self.shrinks)
            if _counts(here).status == NON_FINITE:
                here = self._anew(enter, failed, feed, control, first)
                # With an optimiser that is new, also to what an earlier run has left.
                anchor, back_to = self.anchor, self.origin
                undone = step + control.steps_before + self.undone
                if here is not None and not feed.validates:
                    kept = _lean(here, first, feed)
                    anchor = Anchor(kept, plain, step, self.shrinks, undone)
            else:
                # Other rows have chosen it: what is said of it stays.
                here = here._replace(
                    counts=before.counts,
                    best=before.best,
                    selected=before.selected,
                    history=before.history,
                )
        if here is None:
            self.hopeless = True
            return None
        self.anchor, self.undone = anchor, undone
        self.shrinks += 1
        self.setbacks.append(Setback(step, back_to))
        return here

    def _anew(
        self, enter: Enter, failed: Carry, feed: Feed, control: Control, first: Carry
    ) -> Carry | None:
        """Return the start as the state of a later step, if it is finite there."""
        before = _counts(failed)
        counts = before._replace(
            best_step=before.step,
            selected_step=self.origin,
            score_step=before.step,
            status=RUNNING,
        )
        pending = first._replace(
            counts=_vector(counts, failed.counts),
            running=_finite_running(failed, first),
            start=failed.start,
        )
        here = enter(control, pending, self.shrinks)
        if _counts(here).status == NON_FINITE:
            return None
        now, old = Best(*np.asarray(here.best)), Best(*np.asarray(failed.best))
        # No state so far is known to be one for all rows.
        best, selected = now._replace(score=np.inf), here.selected
        if feed.validates:
            counts = counts._replace(
                selected_step=before.selected_step, score_step=before.score_step
            )
            best = now._replace(selected=old.selected, score=old.score)
            selected = failed.selected
        return here._replace(
            counts=_vector(counts, here.counts),
            best=_vector(best, here.best),
            selected=selected,
            history=failed.history,
        )

    def settle(self, enter: Enter, last: Carry, feed: Feed | None) -> Carry:
        """
        Return a run's last carry with the best state selected, if it has gone wrong.

        Parameters
        ----------
        enter, feed : object
            As for `go_back`.
        last : Carry
            What the run has left.

        Returns
        -------
        Carry
            If it is not finite, or after a setback above the best state, with what the
            optimiser knew there, for a run that goes on.
        """
        counts = _counts(last)
        if counts.status != NON_FINITE and not self._is_above(last, feed):
            return last
        found = self._best(enter, last, feed)
        if found is None:
            return last
        best, self.undone = found
        chosen = _counts(best).selected_step
        losses = Best(*np.asarray(last.best))
        selected = Best(*np.asarray(best.best)).selected
        return last._replace(
            opt_state=best.opt_state,
            selected=best.selected,
            counts=_vector(counts._replace(selected_step=chosen), last.counts),
            best=_vector(losses._replace(selected=selected), last.best),
        )

    def _is_above(self, last: Carry, feed: Feed | None) -> bool:
        """Tell whether a run that had setbacks has ended above its best state."""
        if not self.setbacks or (feed is not None and feed.validates):
            return False
        best_step, anchor = _best_step(last, feed), self.anchor
        if anchor is None or best_step < anchor.step == self.origin:
            return False  # The best state is none that leads to this one.
        if feed is not None:
            return best_step < _counts(last).step
        value, lowest = float(np.asarray(last.now)[0]), float(np.asarray(last.best)[0])
        # As the loop itself has it: rounding error does not count.
        slack = np.sqrt(np.finfo(last.now.dtype).eps) * abs(lowest)
        return value > lowest + slack

    def _best(
        self, enter: Enter, failed: Carry, feed: Feed | None
    ) -> tuple[Carry, int] | None:
        """Return the best state, and how many steps are undone if it comes now."""
        anchor = self.anchor
        if anchor is None:
            return None
        step = _counts(failed).step
        target = max(_best_step(failed, feed), anchor.step)
        # What was random on the device, if anything, may come out in another way.
        for stop_at in dict.fromkeys((target, anchor.step)):
            control = anchor.control._replace(stop_at=stop_at, first_row=anchor.step)
            carry = enter(control, anchor.carry, anchor.shrinks)
            counts = _counts(carry)
            if counts.step == stop_at and counts.status != NON_FINITE:
                return carry, anchor.undone + step - stop_at
        return None


def _best_step(carry: Carry, feed: Feed | None) -> int:
    """
    Return the step of the best state so far.

    With held-out rows by their loss; with batches, whose losses are of different rows,
    the later one of the lowest loss and of the best epoch's end.
    """
    counts = _counts(carry)
    if feed is None:
        return counts.best_step
    if feed.validates:
        return counts.score_step
    return max(counts.best_step, counts.score_step)


def _lean(carry: Carry, blank: Carry, feed: Feed | None) -> Carry:
    """Return a carry that holds on to nothing that steps from it would write."""
    selected = carry.selected
    if feed is None or not feed.validates:
        selected = carry.values  # of the same state
    return carry._replace(history=blank.history, aux=blank.aux, selected=selected)


def _as_step(best: Carry, failed: Carry, step: int) -> Carry:
    """Return a state as that of a later step, with the history of that."""
    counts = _counts(best)._replace(step=step, pending=0, status=RUNNING)
    return best._replace(
        counts=_vector(counts, best.counts),
        running=_finite_running(failed, best),
        history=failed.history,
    )


def _finite_running(failed: Carry, here: Carry) -> Any:
    """Return what the mean of an epoch takes, with the loss of another state."""
    if here.running is None:
        return None
    before, value = np.asarray(failed.running)[0], np.asarray(here.now)[0]
    return _vector((before, value), here.running)


def _counts(carry: Carry) -> Counts:
    return Counts(*np.asarray(carry.counts).tolist())


def _vector(scalars: Sequence[Any], like: Any) -> np.ndarray:
    return np.array(scalars, like.dtype)
