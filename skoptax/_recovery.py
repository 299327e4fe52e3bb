"""Back from a step that is not finite, and on from there with shorter ones.

When a run goes back, how often, and where to: the states themselves are made by
`_anchor` and `_ways_back`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._anchor import Anchor, Enter, best_step, counts_of, lean, vector
from ._assessment import NON_FINITE, Best, Control, shrinkage
from ._epochs import Feed
from ._loop import Carry
from ._ways_back import anew, as_step, for_rows


class Setback(NamedTuple):
    """A step that was not finite, and the one that the run went back to."""

    step: int
    back_to: int


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
        if self.anchor is None or forced or best_step(left, feed) > entry.step:
            self.anchor = entry._replace(carry=lean(entry.carry, blank, feed))

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
        step = counts_of(failed).step
        plain = control._replace(is_start=False, is_replaced=False, resumed_at=step)
        found = self._best(enter, failed, feed)
        here, anchor, back_to, undone = None, self.anchor, self.origin, step
        if found is not None:
            best, undone = found
            back_to = counts_of(best).step
            here = as_step(best, failed, step)
            left = undone - (step - back_to)
            kept = lean(best, first, feed)
            anchor = Anchor(kept, plain, back_to, self.shrinks, left)
        if here is not None and feed is not None and feed.batch_size is not None:
            here = for_rows(enter, here, plain, self.shrinks)
            if here is None:
                here = anew(
                    enter, failed, feed, control, first, self.origin, self.shrinks
                )
                # With an optimiser that is new, also to what an earlier run has left.
                anchor, back_to = self.anchor, self.origin
                undone = step + control.steps_before + self.undone
                if here is not None and not feed.validates:
                    kept = lean(here, first, feed)
                    anchor = Anchor(kept, plain, step, self.shrinks, undone)
        if here is None:
            self.hopeless = True
            return None
        self.anchor, self.undone = anchor, undone
        self.shrinks += 1
        self.setbacks.append(Setback(step, back_to))
        return here

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
        counts = counts_of(last)
        if counts.status != NON_FINITE and not self._is_above(last, feed):
            return last
        found = self._best(enter, last, feed)
        if found is None:
            return last
        best, self.undone = found
        chosen = counts_of(best).selected_step
        losses = Best(*np.asarray(last.best))
        selected = Best(*np.asarray(best.best)).selected
        return last._replace(
            opt_state=best.opt_state,
            selected=best.selected,
            counts=vector(counts._replace(selected_step=chosen), last.counts),
            best=vector(losses._replace(selected=selected), last.best),
        )

    def _is_above(self, last: Carry, feed: Feed | None) -> bool:
        """Tell whether a run that had setbacks has ended above its best state."""
        if not self.setbacks or (feed is not None and feed.validates):
            return False
        at, anchor = best_step(last, feed), self.anchor
        if anchor is None or at < anchor.step == self.origin:
            return False  # The best state is none that leads to this one.
        if feed is not None:
            return at < counts_of(last).step
        value, lowest = float(np.asarray(last.now)[0]), float(np.asarray(last.best)[0])
        # As the loop itself has it: rounding error does not count.
        slack = np.sqrt(np.finfo(last.now.dtype).eps) * abs(lowest)
        return value > lowest + slack

    def _best(
        self, enter: Enter, failed: Carry, feed: Feed | None
    ) -> tuple[Carry, int] | None:
        """Return the best state, and how many steps are undone if it comes now."""
        return None if self.anchor is None else self.anchor.best(enter, failed, feed)
