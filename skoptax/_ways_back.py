"""The states that a run may go on from, after a step that is not finite.

Each takes the place of the failed state under that one's number, so that the history
goes on behind the row that is not finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._anchor import Enter, counts_of, vector
from ._assessment import NON_FINITE, RUNNING, Best, Control
from ._epochs import Feed
from ._loop import Carry


def as_step(best: Carry, failed: Carry, step: int) -> Carry:
    """
    Return a state as that of a later step, with the history of that.

    Parameters
    ----------
    best : Carry
        The state.
    failed : Carry
        At the later step, which is not finite.
    step : int
        Its number.

    Returns
    -------
    Carry
        To go on from, with what the optimiser knew at the state.
    """
    counts = counts_of(best)._replace(step=step, pending=0, status=RUNNING)
    return best._replace(
        counts=vector(counts, best.counts),
        running=_finite_running(failed, best),
        history=failed.history,
    )


def for_rows(enter: Enter, here: Carry, plain: Control, shrinks: int) -> Carry | None:
    """
    Return a state of another batch, evaluated with the rows of this one.

    Parameters
    ----------
    enter : callable
        Runs a block.
    here : Carry
        The state as that of this step, as `as_step` returns it.
    plain : Control
        Of a block that begins with nothing new, and ends at this step.
    shrinks : int
        How often the steps have been shrunk.

    Returns
    -------
    Carry or None
        ``None`` if it is not finite for these rows.
    """
    pending = vector(counts_of(here)._replace(pending=1), here.counts)
    found = enter(plain, here._replace(counts=pending), shrinks)
    if counts_of(found).status == NON_FINITE:
        return None
    # Other rows have chosen it: what is said of it stays.
    return found._replace(
        counts=here.counts,
        best=here.best,
        selected=here.selected,
        history=here.history,
    )


def anew(
    enter: Enter,
    failed: Carry,
    feed: Feed,
    control: Control,
    first: Carry,
    origin: int,
    shrinks: int,
) -> Carry | None:
    """
    Return the start as the state of a later step, if it is finite there.

    Parameters
    ----------
    enter : callable
        Runs a block.
    failed : Carry
        At that step, which is not finite.
    feed : Feed
        How the loop takes the data.
    control : Control
        Of the block in which the run begins anew.
    first : Carry
        An empty one for it.
    origin : int
        The step at which the run began.
    shrinks : int
        How often the steps have been shrunk.

    Returns
    -------
    Carry or None
        With a new optimiser and the history as it is; no state of the steps before is
        the best one any more, but by held-out rows.
    """
    before = counts_of(failed)
    counts = before._replace(
        best_step=before.step,
        selected_step=origin,
        score_step=before.step,
        status=RUNNING,
    )
    pending = first._replace(
        counts=vector(counts, failed.counts),
        running=_finite_running(failed, first),
        start=failed.start,
    )
    here = enter(control, pending, shrinks)
    if counts_of(here).status == NON_FINITE:
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
        counts=vector(counts, here.counts),
        best=vector(best, here.best),
        selected=selected,
        history=failed.history,
    )


def _finite_running(failed: Carry, here: Carry) -> Any:
    """Return what the mean of an epoch takes, with the loss of another state."""
    if here.running is None:
        return None
    before, value = np.asarray(failed.running)[0], np.asarray(here.now)[0]
    return vector((before, value), here.running)
