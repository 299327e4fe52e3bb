r"""Profiles: how the objective rises when one parameter is held elsewhere.

With all other parameters fitted anew at each value of one,

.. math:: \tau(\theta_j) = \operatorname{sign}(\theta_j - \hat\theta_j)
    \sqrt{2 W \big(F(\theta_j) - F(\hat\theta)\big) / \hat\varphi}

is a t statistic (Bates and Watts 1988). An interval ends where it has the quantile's
size; no symmetry is supposed, and the parameters' units do not matter. With a robust
covariance, and with a penalty, the statistic is divided by how many times its standard
error is the one that the objective's curvature says (Chandler and Bate 2007).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy import stats

from .._extrapolation import Known
from .._searched import AT_ONCE, Aim, Searched, Trials
from ..exceptions import InvalidParameterError, UndeterminedWarning
from ._continuation import Fits, fits_on_grid
from ._covariance import Covariance, penalty_stretch, standard_directions
from ._entries import moving
from ._record import FitRecord
from ._side import Side
from ._statistics import quantile

# The ends have so many digits of the quantile, unless rounding leaves fewer.
_DIGITS, _ROUNDED = 1e-7, 8
# A bracket that is so narrow, where the statistic jumps, is an end, too.
_NARROW = 1e-12
_MOST_TRIALS = 120
# Where an entry's information is 0, its steps are looked for from here to there.
_PROBES = 10.0 ** np.arange(-15, 16)
# So much lower than the fit, beside the rise that is looked for, is another optimum.
_LOWER = 1e-3


@dataclass(frozen=True)
class Profiler:
    """
    A fit whose rows are at hand again.

    Parameters
    ----------
    record : FitRecord
        Of the fit.
    covariance : Covariance
        Of its parameters.
    fits : callable
        Takes offsets and flags of shape (k, p) and returns the fits with the flagged
        entries held there.
    search : callable
        Takes the statistic's square per unit that the objective rises, and what is
        looked for; returns the trials, as NumPy arrays.
    value : callable
        Returns the objective at the fit, as the program of fits has it.
    loss : float
        As the fit has had it.
    eps : float
        Of the fits' data type.
    """

    record: FitRecord
    covariance: Covariance
    fits: Fits
    search: Callable[[float, Aim], Searched]
    value: Callable[[], float]
    loss: float
    eps: float

    def errors(self, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return standard errors in the optimiser's space, and how entries follow others.

        Parameters
        ----------
        reach : float
            So many are to be about an interval's half.

        Returns
        -------
        sizes : ndarray of shape (p,)
            0 of entries that do not move.
        follow : ndarray of shape (p, p)
            For each entry a row: by how much all move with one error of it.
        matrix : ndarray of shape (p, p)
            The covariance that the losses' law has.
        """
        directions = standard_directions(self.record, self.covariance)
        matrix = directions @ directions.T
        sizes = np.sqrt(np.diagonal(matrix))
        follow = (matrix / np.where(sizes > 0, sizes, 1)).T
        table = self.covariance.table
        held = table.place[table.free & table.at_bound]
        silent = held[~(sizes[held] > 0)]
        if len(silent):
            sizes = sizes.copy()
            sizes[silent] = self._probed(silent, reach)
        return sizes, follow, matrix

    def _probed(self, places: np.ndarray, reach: float) -> np.ndarray:
        """
        Return sizes of entries whose information is 0 on their bounds.

        As of a Poisson mean of 0: the objective rises from there all the same, by its
        slope. How far away it has risen enough is looked for over many decades.
        """
        assert self.record.found is not None
        p, k = self.record.found.root.shape[1], len(_PROBES)
        steps = np.concatenate([-_PROBES, _PROBES])
        offsets = np.zeros((len(places), 2 * k, p))
        holds = np.zeros(offsets.shape, bool)
        for i, j in enumerate(places):
            offsets[i, :, j] = steps
            holds[i, :, j] = True
        found = self.fits(offsets.reshape(-1, p), holds.reshape(-1, p))
        taus = self.tau(found.value).reshape(-1, 2, k)
        moved = np.asarray(found.offset, float).reshape(-1, 2 * k, p)
        sizes = np.ones(len(places))
        for i, j in enumerate(places):
            far = np.abs(moved[i, :, j])
            enough = (taus[i] >= reach).any(axis=0)
            if enough.any():
                first = int(np.argmax(enough))
                tau = float(np.max(taus[i, :, first], initial=0.0))
                # A rise by the slope, whose root is the statistic.
                sizes[i] = _PROBES[first] / reach * max((reach / tau) ** 2, 0.01)
            elif far.max() > 0:
                sizes[i] = min(far.max() / reach, 1.0)
        return sizes

    @property
    def stretch(self) -> np.ndarray:
        """
        Standard errors over those that the losses' law has, of all entries.

        Other than 1 for a robust covariance, and with a penalty, by which the objective
        rises and no estimate scatters: then the statistic is divided by it, as
        Chandler and Bate scale a likelihood. NaN where it is not known, and for an
        entry that a robust covariance has held on its bound.
        """
        table, found = self.covariance.table, self.record.found
        if found is None or found.scores is None:
            if self.record.has_penalty and not self.record.has_priors and found:
                return penalty_stretch(self.record, self.covariance)
            return np.ones(len(table.names))
        # Robust standard errors are those of the others, held on the bound.
        directions = standard_directions(self.record, self.covariance, moving(table))
        size = np.linalg.norm(found.delta.astype(float) @ directions, axis=1)
        of_law = size[table.place]
        return self.covariance.stderr / np.where(of_law > 0, of_law, np.nan)

    @property
    def rate(self) -> float:
        """The statistic's square, per unit that the objective rises."""
        return 2 * self.record.total / self.covariance.dispersion

    def digits(self, reach: float) -> float:
        """Return the share of a statistic that its rounding leaves undecided."""
        size = self.rate * abs(self.loss) / reach**2
        return float(np.clip(_ROUNDED * self.eps * (1 + size), _DIGITS, 1e-3))

    def slope(self, tau: float, derivative: float) -> float:
        """Return the statistic's derivative by what the objective has one by."""
        return 0.5 * self.rate * float(derivative) / abs(tau) if tau else math.nan

    def tau(self, values: Any, base: float | None = None) -> np.ndarray:
        """
        Return the size of the statistic by the losses' law; infinite for no number.

        A value below the fit's is negative.

        Parameters
        ----------
        values : array-like
            Of the objective.
        base : float, optional
            The fit's, of the same program.

        Returns
        -------
        ndarray
            Of the same shape.
        """
        base = self.value() if base is None else base
        rise = self.rate * (np.asarray(values, float) - base)
        size = np.sign(rise) * np.sqrt(np.abs(rise))
        return np.where(np.isfinite(size), size, np.inf)


def profile_intervals(profiler: Profiler, level: float) -> pd.DataFrame:
    """
    Return intervals by profile likelihood.

    Parameters
    ----------
    profiler : Profiler
        A fit with its rows.
    level : float
        Their probability, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        ``ci_lower`` and ``ci_upper`` of the free entries. Infinite where the
        objective never rises far enough, the bound where it has not when the bound is
        reached, NaN where nothing is known.
    """
    covariance, table = profiler.covariance, profiler.covariance.table
    rows = table.estimated
    reaches = quantile(level, covariance.dof) * profiler.stretch[rows]
    sizes, follow, _ = profiler.errors(quantile(level, covariance.dof))
    names = pd.Index([table.names[i] for i in rows], name="parameter")
    ends = np.full((len(rows), 2), np.nan)
    places = table.place[rows]
    unknown = ~np.isfinite(covariance.stderr[rows]) & ~table.at_bound[rows]
    lanes = [
        (k, int(places[k]), sign)
        for k in range(len(rows))
        for sign in (-1, 1)
        if not unknown[k] and np.isfinite(reaches[k]) and reaches[k] > 0
    ]
    # What a penalty alone determines does not scatter.
    ends[reaches == 0] = table.value[rows[reaches == 0], None]
    sides = {}
    narrow_enough = max(_NARROW, 4 * profiler.eps)
    for lane in lanes:
        k, j, sign = lane
        direction = sign * follow[j]
        direction[j] = sign * sizes[j]
        slope = 1.0 if follow[j, j] > 0 else math.nan
        digits = profiler.digits(reaches[k])
        sides[lane] = Side(
            j, reaches[k], digits, narrow_enough, reaches[k], direction, slope
        )
    lower_found = False
    if not sides:
        # Nothing else would tell that the rows are others than those of the fit.
        profiler.value()
    for _ in range(_MOST_TRIALS):
        if all(side.is_done for side in sides.values()):
            break
        # Always all of them: the number of lanes is part of the program.
        aims = _aims(sides)
        found, base = profiler.search(profiler.rate, aims)
        taus = profiler.tau(found.held.value, float(base))
        for i, (k, _, sign) in enumerate(lanes):
            side = sides[lanes[i]]
            for trial in range(int(found.made[i])):
                tau = float(taus[i, trial])
                lower_found |= tau < -_LOWER * side.reach
                value = float(found.held.entries[i, trial, places[k]])
                if found.held.stopped[i, trial] and tau < side.reach:
                    side.is_done = True
                    is_upper = _user_sign(value, places[k], sign, profiler) > 0
                else:
                    side.narrow(_known(found, i, trial, tau, side, profiler))
                    is_upper = value > table.value[rows[k]]
                if side.is_done:
                    endless = math.inf if is_upper else -math.inf
                    ends[k, int(is_upper)] = endless if side.is_endless else value
                if side.is_done or side.is_doubted or side.is_careful:
                    # What came after this trial was not meant.
                    break
    unfound = sorted({k for (k, _, _), side in sides.items() if not side.is_done})
    if unfound:
        shown = ", ".join(repr(names[k]) for k in unfound)
        warnings.warn(
            f"The profile of {shown} has no end that could be found: the objective "
            "jumps there, or rounding hides how it rises. It is NaN; `profile` shows "
            "the curve.",
            UndeterminedWarning,
            stacklevel=3,
        )
    if lower_found:
        warnings.warn(
            "The profile has met a lower objective than the fit: the fit is not at the "
            "lowest optimum, and its intervals say little. Fit again from there, or "
            "with n_starts.",
            UndeterminedWarning,
            stacklevel=3,
        )
    return pd.DataFrame(ends, index=names, columns=["ci_lower", "ci_upper"])


def _aims(sides: dict[tuple[int, int, int], Side]) -> Aim:
    """Return what is looked for next."""
    rows = []
    for side in sides.values():
        hold = np.zeros(len(side.direction), bool)
        hold[side.place] = True
        # What is made again is decided upon before there is more.
        is_alone = side.is_doubted or side.is_careful
        most = 0 if side.is_done else 1 if is_alone else AT_ONCE
        rows.append(
            Aim(
                side.reach,
                side.digits,
                side.trial,
                side.start(),
                hold,
                side.direction,
                side.closest(),
                side.low,
                side.high,
                np.int32(most),
            )
        )
    aims: Aim = jax.tree.map(lambda *x: np.array(x), *rows)
    return aims


def _known(
    found: Trials, i: int, trial: int, tau: float, side: Side, profiler: Profiler
) -> Known:
    """Return what one trial has found of one side."""
    assert found.held.gradient is not None
    # But for those on a bound, the others' derivatives are 0.
    derivative = float(found.held.gradient[i, trial, side.place])
    slope = profiler.slope(tau, derivative * side.direction[side.place])
    offset = np.asarray(found.held.offset[i, trial], float)
    # (One that a bound has stopped is nearer. Made again from there, it would not be
    # known to be on the bound.)
    return Known(float(found.at[i, trial]), tau, slope, offset)


def _user_sign(value: Any, place: int, sign: int, profiler: Profiler) -> int:
    table = profiler.covariance.table
    start = table.value[np.flatnonzero(table.place == place)[0]]
    return sign if value == start else int(np.sign(value - start))


def profile_table(
    profiler: Profiler, position: int, level: float, n_points: int
) -> pd.DataFrame:
    """
    Return the profile of one entry.

    Parameters
    ----------
    profiler : Profiler
        A fit with its rows.
    position : int
        Of the entry in the table.
    level : float
        How far it goes to each side: as an interval of this probability would from
        standard errors.
    n_points : int
        How many values, the fitted one among them if odd.

    Returns
    -------
    pandas.DataFrame
        For each value a row: ``tau``, ``loss`` (the objective), and the free entries,
        among them the one that is held.

    Raises
    ------
    InvalidParameterError
        If the covariance is robust, and the entry has no standard error, or if it has
        one of 0.
    """
    table = profiler.covariance.table
    j = int(table.place[position])
    stretch = profiler.stretch[position]
    if stretch == 0:
        raise InvalidParameterError(
            f"There is no profile of {table.names[position]!r}: the penalty alone "
            "determines it, so that its standard error is 0, in units of which every "
            "rise of the objective is infinite."
        )
    if not np.isfinite(stretch):
        raise InvalidParameterError(
            f"A profile with cov_type={profiler.record.cov_type!r} is scaled by the "
            f"standard error, and {table.names[position]!r} has none: it is on its "
            "bound, or the data do not determine it. Fit with cov_type='nonrobust'."
        )
    reach = quantile(level, profiler.covariance.dof) * stretch
    sizes, follow, _ = profiler.errors(reach)
    steps = np.linspace(-reach, reach, n_points)
    offsets = steps[:, None] * follow[j]
    offsets[:, j] = steps * sizes[j]
    holds = np.zeros(offsets.shape, bool)
    holds[:, j] = True
    found = fits_on_grid(profiler.fits, offsets, holds, (n_points,))
    values = np.asarray(found.entries, float)[:, table.place[table.estimated]]
    names = [table.names[i] for i in table.estimated]
    own = values[:, names.index(table.names[position])]
    sign = np.sign(own - table.value[position])
    columns = {
        "tau": sign * np.abs(profiler.tau(found.value)) / stretch,
        "loss": np.asarray(found.value, float),
    }
    columns |= dict(zip(names, values.T, strict=True))
    return pd.DataFrame(columns).sort_values(table.names[position], ignore_index=True)


def profile_table_2d(
    profiler: Profiler, a: int, b: int, level: float, n_points: int
) -> pd.DataFrame:
    """
    Return the profile of two entries on a grid.

    Parameters
    ----------
    profiler : Profiler
        A fit with its rows.
    a, b : int
        Of the entries in the table.
    level : float
        How far it goes: as far as the ellipse of this probability.
    n_points : int
        How many values of each.

    Returns
    -------
    pandas.DataFrame
        For each pair of values a row: ``tau``, ``level``, ``loss``, and the free
        entries, among them those that are held.
    """
    table, dof = profiler.covariance.table, profiler.covariance.dof
    law = stats.chi2(2) if math.isinf(dof) else stats.f(2, dof)
    # In units in which the rise of a linear model is that of squared standard errors.
    times = 1 if math.isinf(dof) else 2
    reach = math.sqrt(times * law.ppf(level))
    sizes, _, matrix = profiler.errors(reach)
    held = table.place[[a, b]]
    steps = np.linspace(-reach, reach, n_points)
    pairs = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    moves = pairs * sizes[held]
    follow = np.linalg.pinv(matrix[np.ix_(held, held)]) @ matrix[held]
    offsets = moves @ follow
    offsets[:, held] = moves
    holds = np.zeros(offsets.shape, bool)
    holds[:, held] = True
    found = fits_on_grid(profiler.fits, offsets, holds, (n_points, n_points))
    values = np.asarray(found.entries, float)[:, table.place[table.estimated]]
    names = [table.names[i] for i in table.estimated]
    tau = np.maximum(profiler.tau(found.value), 0)
    columns = {
        "tau": tau,
        "level": law.cdf(tau**2 / times),
        "loss": np.asarray(found.value, float),
    }
    columns |= dict(zip(names, values.T, strict=True))
    both = [table.names[a], table.names[b]]
    # Beyond a bound, what was held is the bound, several times.
    return (
        pd.DataFrame(columns).drop_duplicates(both).sort_values(both, ignore_index=True)
    )
