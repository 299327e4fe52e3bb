"""One fit from many starts: where to start, the runs, and which of them to keep."""

from __future__ import annotations

import inspect
import operator
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy.stats import qmc

from ._assessment import CONVERGED, NON_FINITE, RUNNING, Best, Counts
from ._batch import make_batch
from ._diagnose import explained
from ._driver import Run
from ._ending import STATUS_NAMES, find_undetermined
from ._entries import Entries, entry_names, read_entries, stacked_values, written_order
from ._loop import FEW_HISTORY_ROWS

# A value without two bounds is spread over so many times itself, and that part of it.
_SPREAD = 10.0
_SEED = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"
# Starts that still run after so many times as many steps as those that have converged
# usually took, and after so many at least, are given up if they are above these.
_SLOWER, _ENOUGH = 10, 100
# The other columns of the table.
_COLUMNS = frozenset({"loss", "status", "n_iter"})
# How often to see whether that is so.
_LOOK_EVERY = 64
# Losses so close to the lowest are equal to it.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Starts:
    """
    What has become of each start.

    Parameters
    ----------
    names : list of str
        Of the free entries.
    order : list of int
        Their positions in the order of the user's parameters.
    starts, values : ndarray of shape (k, p)
        Where each began and ended; NaN where the objective was not finite at once.
    losses : ndarray of shape (k,)
        The objective at the end.
    codes : ndarray of shape (k,)
        Why each has ended, as the loop has it.
    unfinished : str
        The status of those that have not.
    steps : ndarray of shape (k,)
        How many each has taken.
    models : tuple of ndarray or None
        Of optimisers that linearise: roots of shape (k, p, p), sizes of shape (k, 3),
        and the parameters in the space the optimiser steps in, of shape (k, p).
    usable : ndarray of shape (k, p)
        Which entries are free and not on a bound.
    """

    names: list[str]
    order: list[int]
    starts: np.ndarray
    values: np.ndarray
    losses: np.ndarray
    codes: np.ndarray
    unfinished: str
    steps: np.ndarray
    models: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    usable: np.ndarray

    def statuses(self) -> list[str]:
        """Return why each start has ended, as the whole fit says it."""
        found = [STATUS_NAMES.get(int(code), self.unfinished) for code in self.codes]
        if self.models is None:
            return found
        for i, status in enumerate(found):
            if status not in ("non_finite", "abandoned"):
                root, sizes, internal = (part[i] for part in self.models)
                undetermined = find_undetermined(
                    root,
                    float(sizes[2]),
                    float(self.losses[i]),
                    internal,
                    self.values[i],
                    self.starts[i],
                    self.usable[i],
                )
                found[i] = undetermined.status(status) or status
        return found

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each start."""
        named = [(j, self.names[j]) for j in self.order]
        columns: dict[str, Any] = {
            f"start__{name}": self.starts[:, j] for j, name in named
        }
        columns |= {
            f"params__{name}" if name in _COLUMNS else name: self.values[:, j]
            for j, name in named
        }
        columns |= {
            "loss": self.losses,
            "status": self.statuses(),
            "n_iter": self.steps,
        }
        index = pd.RangeIndex(len(self.losses), name="start")
        return pd.DataFrame(columns, index=index)


def draw_starts(entries: Entries, count: int, rng: np.random.Generator) -> np.ndarray:
    """
    Return points to start from, spread evenly.

    Parameters
    ----------
    entries : Entries
        The user's start, and the bounds.
    count : int
        How many, 1 or more.
    rng : numpy.random.Generator
        Scrambles the Sobol sequence that they are taken from.

    Returns
    -------
    ndarray of shape (count, p)
        The first one is the user's. Between two bounds of one sign, half of the others
        are spread evenly over the interval and half over its logarithm; between other
        bounds, all evenly. Without two bounds they are spread like that from a tenth to
        ten times the start value, or from -10 to 10 where it is 0, as far as a single
        bound lets them.
    """
    p = len(entries.values)
    points = np.empty((count, p))
    if count > 1:
        levels = _evenly(count, p, rng)
        for j in range(p):
            points[:, j] = _between(levels[:, j], *_interval(entries, j))
    points[0] = entries.values
    points = np.clip(points, entries.lower, entries.upper)
    return np.where(entries.fixed, entries.values, points).astype(entries.values.dtype)


def _evenly(count: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Return points in the unit cube, an array of shape (count, p)."""
    if p > qmc.Sobol.MAXDIM:
        return rng.random((count, p))
    seed = int(rng.integers(2**31))  # the name of the argument has changed in SciPy
    sobol = qmc.Sobol(p, **{_SEED: seed})
    return np.asarray(sobol.random_base2(max(count - 1, 1).bit_length())[:count])


def _interval(entries: Entries, j: int) -> tuple[float, float]:
    low, high = float(entries.lower[j]), float(entries.upper[j])
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    value = float(entries.values[j])
    largest = float(np.finfo(entries.values.dtype).max)
    far = float(np.clip(value * _SPREAD, -largest, largest))
    ends = sorted((value / _SPREAD, far)) if value else (-_SPREAD, _SPREAD)
    return max(ends[0], low), min(ends[1], high)


def _between(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return quantiles: half of the probability uniform, half log-uniform."""
    if high < 0:
        return -_between(1 - levels, -high, -low)
    if low <= 0 or low == high:
        # Not by the difference, which may overflow.
        return low * (1 - levels) + high * levels
    ends = np.log(low), np.log(high)
    logs = np.linspace(*ends, 513)
    logs = np.sort(np.concatenate([np.log(np.linspace(low, high, 513)), logs]))
    with np.errstate(over="ignore"):  # the largest number's logarithm is rounded
        grid = np.clip(np.exp(logs), low, high)
        shares = (grid - low) / (high - low) + (logs - ends[0]) / (ends[1] - ends[0])
        found = np.exp(np.interp(levels, shares / 2, logs))
    return np.clip(found, low, high)


def run_from_starts(run: Run, starts: np.ndarray, max_steps: int) -> Starts:
    """
    Run from many starts, and leave the best of them in ``run``.

    Parameters
    ----------
    run : Run
        Not begun yet. It ends as the run from the best start: the one with the lowest
        objective, a converged one if there are equal ones.
    starts : ndarray of shape (k, p)
        In the user's units.
    max_steps : int
        Where each ends at the latest; those that are much slower than converged ones,
        and above them, are abandoned sooner.

    Returns
    -------
    Starts
        What has become of each start.
    """
    task = run.task
    # Each has an optimiser of its own, which knows nothing: the steps and the start of
    # an earlier run are none of it.
    run.legacy = None
    blocks = _advance(run, starts, max_steps)
    last = blocks[-1][1]
    counts = Counts(*np.moveaxis(last.counts, -1, 0))
    losses = Best(*np.moveaxis(last.best, -1, 0)).selected
    # A start that is not finite has selected nothing.
    never = (counts.status == NON_FINITE) & (counts.step == 0)
    losses = np.where(never, np.nan, losses)
    stacked = stacked_values(task.structure, task.numbers, starts)

    def lane(which: int) -> tuple[Any, Any]:
        pick = operator.itemgetter(which)
        chosen = [(first, jax.tree.map(pick, carry)) for first, carry in blocks]
        return jax.tree.map(pick, stacked), chosen

    best = 0
    if not never.all():
        lowest = np.nanmin(losses)
        equal = losses <= lowest + _EQUAL * abs(lowest)
        converged = counts.status == CONVERGED
        best = int(np.argmax(equal & converged if (equal & converged).any() else equal))
    run.adopt(*lane(best))

    ends = [
        read_entries(
            task.structure,
            task.numbers,
            jax.tree.map(operator.itemgetter(i), last.selected.free),
        )
        for i in range(len(starts))
    ]
    models = None
    if last.linearisation is not None:
        parts = [x.reshape(len(starts), -1) for x in jax.tree.leaves(last.internal)]
        models = (*last.linearisation, np.concatenate(parts, axis=1))
    return Starts(
        names=entry_names(task.structure, task.start),
        order=written_order(task.structure, task.state),
        starts=starts,
        values=np.where(never[:, None], np.nan, [end.values for end in ends]),
        losses=losses,
        codes=counts.status,
        unfinished="max_steps" if counts.step.max() >= max_steps else "abandoned",
        steps=counts.step,
        models=models,
        usable=np.array([~end.fixed & ~end.at_bound for end in ends]),
    )


def _hopeless(step: int, counts: Counts, carry: Any) -> bool:
    """Tell whether no start that still runs is worth waiting for."""
    converged = counts.status == CONVERGED
    if not converged.any() or step < _ENOUGH:
        return False
    lowest = np.asarray(carry.best)[:, Best._fields.index("lowest")]
    waiting = lowest[counts.status == RUNNING]
    usual = np.median(counts.step[converged])
    return bool(step >= _SLOWER * usual and np.all(waiting > lowest[converged].min()))


def _advance(run: Run, starts: np.ndarray, max_steps: int) -> list[tuple[int, Any]]:
    """Run until all have ended; return what each block of steps has left."""
    task = run.task
    numbers, *others = task.loop_inputs()
    values = stacked_values(task.structure, numbers, starts)
    inputs = (numbers | {"values": values}, *others)
    program = task.find_loop(inputs, make_batch, "starts")
    carry, blocks, step, first_row = program.about[0], [], 0, 0
    is_start = True
    while is_start or step < max_steps:
        last_row = first_row + FEW_HISTORY_ROWS - 1
        block = min(program.steps_per_block(), _LOOK_EVERY)
        limit = min(max_steps, step + block, last_row)
        control = run.control(is_start, is_start, limit, first_row)
        began = time.perf_counter()
        with explained(task.role):
            carry = program(*inputs, control.packed(), carry)
        counts = Counts(*np.moveaxis(np.asarray(carry.counts), -1, 0))
        taken = max(int(counts.step.max()) - step, 1)
        program.record_speed(time.perf_counter() - began, taken)
        is_start, step = False, limit
        ended = not np.any(counts.status == RUNNING) or _hopeless(step, counts, carry)
        if ended or step in (last_row, max_steps):
            blocks.append((first_row, jax.tree.map(np.asarray, carry)))
            first_row = step + 1
        if ended:
            break
    return blocks
