"""What a run holds on to of its best state: the block of steps that leads there.

The loop keeps no copy of the best state: each step would have to pay for it. It counts
at which step that was, and the host holds on to what the block of steps began with that
has it. Where it is needed, these steps are made once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._assessment import NON_FINITE, Control, Counts
from ._epochs import Feed
from ._loop import Carry

Enter = Callable[[Control, Carry, int], Carry]
"""Runs a block, with steps that have been shrunk so many times."""


class Anchor(NamedTuple):
    """What a block of steps began with."""

    carry: Carry
    control: Control
    step: int
    shrinks: int
    undone: int

    def best(
        self, enter: Enter, failed: Carry, feed: Feed | None
    ) -> tuple[Carry, int] | None:
        """
        Make the best state again.

        Parameters
        ----------
        enter : callable
            Runs a block.
        failed : Carry
            What the run has left, which knows at which step that was.
        feed : Feed or None
            How the loop takes the data.

        Returns
        -------
        tuple of Carry and int, or None
            The best state, or what the block began with, and how many steps are undone
            if it comes now; ``None`` if neither is finite.
        """
        step = counts_of(failed).step
        target = max(best_step(failed, feed), self.step)
        # What was random on the device, if anything, may come out in another way.
        for stop_at in dict.fromkeys((target, self.step)):
            control = self.control._replace(stop_at=stop_at, first_row=self.step)
            carry = enter(control, self.carry, self.shrinks)
            counts = counts_of(carry)
            if counts.step == stop_at and counts.status != NON_FINITE:
                return carry, self.undone + step - stop_at
        return None


def best_step(carry: Carry, feed: Feed | None) -> int:
    """
    Return the step of the best state so far.

    With held-out rows by their loss; with batches, whose losses are of different rows,
    the later one of the lowest loss and of the best epoch's end.
    """
    counts = counts_of(carry)
    if feed is None:
        return counts.best_step
    if feed.validates:
        return counts.score_step
    return max(counts.best_step, counts.score_step)


def lean(carry: Carry, blank: Carry, feed: Feed | None) -> Carry:
    """Return a carry that holds on to nothing that steps from it would write."""
    selected = carry.selected
    if feed is None or not feed.validates:
        selected = carry.values  # of the same state
    return carry._replace(history=blank.history, aux=blank.aux, selected=selected)


def counts_of(carry: Carry) -> Counts:
    """Return a carry's counts, as Python numbers."""
    return Counts(*np.asarray(carry.counts).tolist())


def vector(scalars: Sequence[Any], like: Any) -> np.ndarray:
    """Return scalars as a NumPy array of the type of another array."""
    return np.array(scalars, like.dtype)
