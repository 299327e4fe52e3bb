"""How a run ended: its status, the sentence that goes with it, and what to try.

A loop that stops knows one reason. Of an optimiser that has linearised the model more
is known: which parameters the data say nothing of, and which have run away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._assessment import CONVERGED, NO_IMPROVEMENT, NON_FINITE, STALLED
from ._curvature import local_model
from ._driver import Run
from ._entries import entry_names, written_order
from .exceptions import ConvergenceWarning, NonFiniteWarning

STATUS_NAMES = {
    CONVERGED: "converged",
    NON_FINITE: "non_finite",
    NO_IMPROVEMENT: "no_improvement",
    STALLED: "stalled",
}
# If each column of the triangle, of norm 1, has a part larger than this that the
# columns before it do not explain, all parameters are determined.
_CLEAR = 1e-5
# A parameter has run away if it is so many times as large as at its start, and no
# other value of its size changes the objective by more than this share.
_FAR, _FLAT = 1e3, 1e-4
# Of an exact fit nothing is left to have a share of: then predictions must not change
# by more than the root of so many epsilons.
_EXACT = 1e4
# In a null direction, the parameters with so large a part are named.
_PART = 0.1

# If the loss, relative to itself, still changes so much with a parameter, relative
# to itself, then it is no optimum; unless the loss is next to nothing.
STALLED_FAR = 1e-4
# What to try after endings that are no optimum, or not one only.
ADVICE = {
    "plateau": (
        "Move the start to where every parameter matters, or give bounds that keep "
        "them there."
    ),
    "diverging": (
        "Give bounds or priors, fix a parameter, or use a simpler model: the data may "
        "lie on a line where the model expects a bend."
    ),
    "singular": (
        "Fix one of them, tie them, give them priors or a penalty, or use a simpler "
        "model."
    ),
}

NON_FINITE_ADVICE = (
    "Try a smaller learning rate, gradients that are clipped, inputs and parameters of "
    "a size around 1, bounds that keep the model finite, or a start closer to the "
    "answer."
)


class Ending(NamedTuple):
    """How a run ended."""

    status: str
    message: str


class Undetermined(NamedTuple):
    """Parameters, by the positions of their entries, that the data do not determine."""

    without_influence: np.ndarray
    run_away: np.ndarray
    confounded: np.ndarray

    def status(self, status: str) -> str | None:
        """Return the status that follows from it, if any, given the loop's."""
        if len(self.run_away):
            return "diverging"
        if len(self.without_influence):
            return "plateau"
        if len(self.confounded) and status == "converged":
            return "singular"
        return None


def find_undetermined(
    root: np.ndarray,
    scale: float,
    value: float,
    internal: np.ndarray,
    values: np.ndarray,
    start: np.ndarray,
    usable: np.ndarray,
) -> Undetermined:
    r"""
    Find the parameters that a linearised fit does not determine.

    Parameters
    ----------
    root : ndarray of shape (p, p)
        Of a `Linearisation`: the curvature of the objective is ``root.T @ root``.
    scale : float
        The norm of the predictions in the units of its columns.
    value : float
        The objective.
    internal : ndarray of shape (p,)
        Parameters, in the space the optimiser steps in.
    values, start : ndarray of shape (p,)
        In the user's units, here and at the start.
    usable : ndarray of shape (p,)
        Which of them are free and not on a bound.

    Returns
    -------
    Undetermined
        - Without influence: a change of the parameter by its own size changes the
          predictions by less than rounding does.
        - Run away: it has grown a thousandfold, and a change by its own size, all
          others following, changes predictions by less than 100 times the root of
          epsilon, or, where the columns are close to dependent, raises the objective
          by less than one part in 10,000.
        - Confounded: the columns of the Jacobian, scaled to norm 1, are linearly
          dependent to working precision, and these take part.
    """
    none = np.zeros(0, int)
    if not np.isfinite(root).all():
        return Undetermined(none, none, none)
    eps = np.finfo(root.dtype).eps
    norms = np.sqrt((root * root).sum(axis=0))
    widths = np.maximum(np.abs(internal), 1.0)
    silent = usable & (norms * widths <= eps * scale)
    kept = np.flatnonzero(usable & ~silent)
    confounded = run_away = none
    if len(kept):
        columns: Any = root[:, kept] / norms[kept]
        if len(kept) < len(root):
            columns = np.linalg.qr(columns, mode="r")
        is_close = np.abs(columns.diagonal()).min() < _CLEAR
        if is_close:
            _, sizes, rows = np.linalg.svd(columns)
            null = sizes <= 10 * len(kept) * eps * sizes[0]
            parts = np.max(np.abs(rows[null]), axis=0, initial=0.0)
            confounded = kept[parts > _PART]
        far = np.abs(values[kept]) > _FAR * np.maximum(np.abs(start[kept]), 1.0)
        if far.any():
            inverse = np.linalg.pinv(columns, rcond=eps)
            spread = np.linalg.norm(inverse, axis=1) / norms[kept]
            rise = 0.5 * (widths[kept] / spread) ** 2
            # A parameter that is merely small beside its error is no such case.
            flat = _FLAT * abs(value) if is_close else 0.0
            flat = max(flat, _EXACT * eps * scale**2)
            run_away = kept[far & (rise <= flat)]
    return Undetermined(np.flatnonzero(silent), run_away, confounded)


def conclude(run: Run, stopped_by: str | None) -> Ending:
    """
    Say how a run ended.

    Parameters
    ----------
    run : Run
        At its end.
    stopped_by : str or None
        What a callback says that has ended it; else what `run` says of that.

    Returns
    -------
    Ending
        Status and message, with numbers, and what was not finite on the way.
    """
    status, message = _conclude(run, stopped_by)
    told = "" if status == "non_finite" else _told_of_setbacks(run)
    return Ending(status, message + told)


def _conclude(run: Run, stopped_by: str | None) -> Ending:
    status = STATUS_NAMES.get(run.status, "max_steps")
    stopped_by = stopped_by or run.stopped_by
    if run.interruption is not None:
        selected = run.reading.selected_step
        return Ending(
            "interrupted",
            f"Interrupted after {run.step} steps; the result is that of step "
            f"{selected}.",
        )
    if stopped_by is not None:
        if status != "non_finite":
            return Ending("callback", stopped_by)
        message = (
            f"{stopped_by} The result is that of step {run.reading.selected_step}."
        )
        return Ending(status, message)
    if run.reading.looks and status != "non_finite":
        found = _undetermined_ending(run, status)
        if found is not None:
            return found
    return Ending(status, _sentence(status, run))


def _undetermined_ending(run: Run, status: str) -> Ending | None:
    model = local_model(run)
    if status == "stalled" and not model[0].any():
        return Ending(
            "stalled",
            f"Stopped after {run.step} steps: the loss has no curvature there for any "
            "row, and Levenberg-Marquardt needs some. Another optimiser, such as "
            "'lbfgs' or 'adam', may get further.",
        )
    found = find_undetermined(*model)
    what = found.status(status)
    if what is None:
        return None
    if what == "diverging":
        names = named_entries(run, found.run_away)
        get = "gets" if len(found.run_away) == 1 else "get"
        return Ending(
            "diverging",
            f"Stopped after {run.step} steps, far from the start: the objective hardly "
            f"depends on how large {names} {get}, and falls towards a limit at "
            "infinity.",
        )
    if what == "plateau":
        names = named_entries(run, found.without_influence)
        return Ending(
            "plateau",
            f"Stopped after {run.step} steps on a plateau: the predictions do not "
            f"depend on {names} there.",
        )
    names = named_entries(run, found.confounded)
    return Ending(
        "singular",
        f"Stopped after {run.step} steps, where the gradient vanishes, but the "
        f"Jacobian is singular: the data do not determine {names} separately.",
    )


def named_entries(run: Run, which: np.ndarray) -> str:
    """
    Return the names of some entries, for a sentence.

    Parameters
    ----------
    run : Run
        Of a fit.
    which : ndarray of int
        The positions of the entries.

    Returns
    -------
    str
        In the order in which the user wrote them; the first five.
    """
    task = run.task
    names = entry_names(task.structure, task.start)
    ordered = np.array(written_order(task.structure, task.state), int)
    shown = [repr(names[i]) for i in ordered[np.isin(ordered, which)][:5]]
    more = len(which) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _told_of_setbacks(run: Run) -> str:
    """Return what is to be said of a run that went on from a step not finite."""
    recovery = run.recovery
    if not recovery.shrinks:
        return ""
    if not recovery.setbacks:
        return (
            f" Its steps are {recovery.share:g} of their usual length, because a fit "
            "that this one goes on from was not finite with longer ones."
        )
    first, count = recovery.setbacks[0], len(recovery.setbacks)
    also = f", and {count - 1} more times after it" if count > 1 else ""
    selected, feed = run.reading.selected_step, run.task.feed
    which = ""
    is_known = run.interruption is not None or (feed is not None and feed.validates)
    if selected != run.step and not is_known:
        which = f" It ended above its best; the result is that of step {selected}."
    return (
        f" The loss or its gradient was not finite at step {first.step}{also}: the fit "
        f"went back, to step {recovery.setbacks[-1].back_to} at last, and on with "
        f"steps of {recovery.share:g} of their usual length.{which}"
    )


def _told_of_retries(run: Run) -> str:
    """Return why a run that has ended at a step not finite did not go on from it."""
    recovery = run.recovery
    count = len(recovery.setbacks)
    times = "once" if count == 1 else f"{count} times"
    told = ""
    if count:
        told = f", after it went back {times} and on with shorter steps"
    feed = run.task.feed
    if recovery.hopeless and feed is not None and feed.batch_size is not None:
        told += (
            "; the rows of this batch are finite neither at the best parameters nor at "
            "the start"
        )
    elif count:
        told += f", at last of {recovery.share:g} of their usual length"
    return told


def _sentence(status: str, run: Run) -> str:
    step, tol, now = run.step, run.tol, run.reading
    if status == "max_steps":
        return f"Stopped after {step} steps, the largest number allowed."
    if status == "no_improvement":
        pace, feed = run.task.pace, run.task.feed
        result = result_of(now.selected_step)
        if pace is None or feed is None:
            return (
                f"Stopped after {step} steps: the loss has not improved for "
                f"{run.patience} of them; {result}"
            )
        what = "validation loss" if feed.validates else "mean loss of an epoch"
        return (
            f"Stopped after {step} steps: the {what} has not improved for "
            f"{run.patience // int(pace.per_epoch)} epochs; {result}"
        )
    if status == "non_finite":
        place = f", at {run.place}" if run.place else ""
        return (
            f"Stopped after {step} steps, where the loss or its gradient is not "
            f"finite{place}{_told_of_retries(run)}; the result is that of step "
            f"{now.selected_step}. {NON_FINITE_ADVICE}"
        )
    if now.looks:
        share, gain = now.left
        if share < gain:
            left = f"a step would still lower the objective by {gain:.2g} of it, "
        elif share > 0:
            left = f"the gradient is {share:.2g} relative to its terms, "
        else:
            left = "the gradient is zero up to rounding error, "
        if status == "converged":
            return f"Converged after {step} steps: {left}the tolerance {tol:.2g}."
        side = "below" if max(now.left) <= tol else "above"
        return (
            f"Stopped after {step} steps: no step of any length lowers the objective "
            f"beyond rounding error; {left}{side} the tolerance {tol:.2g}."
        )
    if status == "stalled":
        side = "below" if now.optimality <= tol else "above"
        return (
            f"Stopped after {step} steps: the line search has found no lower loss for "
            f"{run.stalled_after} of them, because of rounding error or of a poor "
            f"direction. The scaled gradient is {now.optimality:.2g}, {side} the "
            f"tolerance {tol:.2g}."
        )
    if now.optimality <= tol:
        return (
            f"Converged after {step} steps: the scaled gradient is "
            f"{now.optimality:.2g}, the tolerance {tol:.2g}."
        )
    return (
        f"Converged after {step} steps: the loss has vanished, from "
        f"{now.start.value:.2g} to {float(now.value):.2g}."
    )


def result_of(step: int) -> str:
    """
    Say which step's parameters are returned.

    Parameters
    ----------
    step : int
        Its number; 0 is the start.

    Returns
    -------
    str
        A clause, with its full stop.
    """
    if step == 0:
        return (
            "the result is the start itself, as nothing after it was better. A smaller "
            "learning rate may help."
        )
    return f"the result is that of step {step}."


def doubt(
    status: str, message: str, run: Any, smooth: bool, is_meant: bool = False
) -> Warning | None:
    """
    Return the warning that a fit's ending calls for, if any.

    Parameters
    ----------
    status, message : str
        How the run ended.
    run : Run
        The run, at its end.
    smooth : bool
        Whether loss, penalty and priors have a second derivative. Where one has a
        kink, the gradient need not vanish at the optimum.
    is_meant : bool, default=False
        Whether it was not to go on to an optimum: no ending is in doubt then.

    Returns
    -------
    Warning or None
        For a non-finite step, or an ending that may be far from an optimum although
        the optimiser has a tolerance, by default or because the user gave one.
    """
    if run.interruption is not None:
        return None
    if status == "non_finite":
        return NonFiniteWarning(message)
    if run.recovery.setbacks:
        return NonFiniteWarning(f"{message} {NON_FINITE_ADVICE}")
    if is_meant:
        return None
    if status in ADVICE:
        return ConvergenceWarning(f"{message} {ADVICE[status]}")
    now = run.reading
    if now.looks:
        lost = status == "stalled" and now.optimality > STALLED_FAR
        if run.tol > 0 and (status == "max_steps" or lost):
            return ConvergenceWarning(
                f"{message} The tolerance was not met: raise max_steps, move the "
                "start, or give parameters bounds."
            )
        return None
    if run.stalled_after == 0:
        if status != "max_steps" or run.tol <= 0:
            return None
        # It has no tolerance by default: the user has asked for it.
        return ConvergenceWarning(
            f"{message} The tolerance was not met: the scaled gradient is "
            f"{now.optimality:.2g}, and tol is {run.tol:.2g}. Raise max_steps or the "
            "learning rate, let that decay, or raise tol."
        )
    if status not in ("max_steps", "stalled"):
        return None
    if now.start.optimality <= run.tol:
        return ConvergenceWarning(
            f"{message} It was below the tolerance already at the start, so that it "
            "cannot tell an optimum, such as a fit's result that is fitted again, from "
            "a parameter that is far too small. Give such a parameter a scale, or a "
            "start of the right size."
        )
    far = smooth and STALLED_FAR < now.now.sensitivity < 1 / run.tol
    if status == "max_steps" or far:
        return ConvergenceWarning(
            f"{message} The tolerance was not met: raise max_steps, give parameters of "
            "very different size a scale, or move the start."
        )
    return None
