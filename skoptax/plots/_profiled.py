"""The profiles that are drawn: of which parameters, and how far they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from .._validation import invalid
from ..exceptions import InvalidParameterError
from ..inference._statistics import quantile
from ._contours import on_grid
from ._source import Source, entries_of

# One parameter, or two.
Name: TypeAlias = str | tuple[str, str]

_MOST_EXTENSIONS = 3
# A grid gets its points anew, a curve only those that it lacks: it grows by less.
_WIDER, _WIDER_GRID = 2.0, 1.5
_HIGHEST = 1 - 2.0**-52


def names_of_profiles(names: Any, source: Source, owner: str) -> list[Name]:
    """
    Return what there is to profile.

    Parameters
    ----------
    names : str, sequence of str and (str, str), or None
        What the user asked for. ``None``: all entries that the data determine.
    source : Source
        Fitted.
    owner : str
        Named in errors.

    Returns
    -------
    list of str and (str, str)
        At least one.

    Raises
    ------
    InvalidParameterError
        If what was given are no names, or the data determine nothing of these.
    """
    table, covariance = entries_of(source), source.estimator._covariance()
    at = table.estimated
    is_known = source.estimator.fit_record().found is not None
    unknown = ~np.isfinite(covariance.stderr[at])
    if names is None:
        names = [table.names[i] for i in at[~unknown]]
        if not names:
            # All of them, for the error that says why there is no profile.
            names = [table.names[i] for i in at]
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        is_pair = isinstance(name, (tuple, list)) and len(name) == 2
        if not (isinstance(name, str) or is_pair):
            raise invalid("names", owner, "names, or pairs of names", name)
    if not chosen:
        raise invalid("names", owner, "one name or more, or None for all", names)
    # At a bound there is no standard error, but the objective does rise.
    lost = {table.names[i] for i in at[unknown & ~table.at_bound[at]]}
    for name in flat(chosen):
        if is_known and name in lost:
            why = (
                "the data do not determine it, as identifiability() shows. Fix it or "
                "what it is confounded with, or leave it out of names."
                if covariance.dof > 0
                else "the rows leave no degrees of freedom. Fit more of them."
            )
            raise InvalidParameterError(
                f"{owner} has no profile of {name!r} to draw: {why}"
            )
    return [name if isinstance(name, str) else (name[0], name[1]) for name in chosen]


def flat(names: Sequence[Any]) -> list[str]:
    """
    Return the parameters of single names and pairs, each once.

    Parameters
    ----------
    names : sequence of str and (str, str)
        What is profiled.

    Returns
    -------
    list of str
        In their order.
    """
    listed = [[name] if isinstance(name, str) else list(name) for name in names]
    return list(dict.fromkeys(one for part in listed for one in part))


def reaching_profile(
    profiled: Callable[[float], pd.DataFrame],
    name: str,
    level: float,
    far: float,
    dof: float,
) -> pd.DataFrame:
    """
    Return a profile that reaches the level of an interval, where it can.

    Parameters
    ----------
    profiled : callable
        Returns the profile that goes as far as an interval from standard errors.
    name : str
        Of the entry.
    level : float
        The probability of the interval that is to be reached.
    far : float
        The probability to begin with.
    dof : float
        Degrees of freedom.

    Returns
    -------
    DataFrame
        As `OptaxEstimator.profile` returns it, with more rows on a side on which the
        objective rises slowly.
    """
    table = profiled(far)
    needed, reach = quantile(level, dof), quantile(far, dof)
    law = stats.norm() if np.isinf(dof) else stats.t(dof)
    for _ in range(_MOST_EXTENSIONS):
        short = [side for side in (0, -1) if abs(table["tau"].iloc[side]) < needed]
        if not short:
            break
        reach *= _WIDER
        wider = profiled(min(2 * float(law.cdf(reach)) - 1, _HIGHEST))
        parts = [table]
        for side in short:
            parts.append(_beyond(wider, table, name, side, needed))
        longer = pd.concat(parts, ignore_index=True)
        if len(longer) == len(table):  # these ends are bounds
            break
        table = longer.sort_values(name, ignore_index=True)
    return table


def _beyond(
    wider: pd.DataFrame, table: pd.DataFrame, name: str, side: int, needed: float
) -> pd.DataFrame:
    """Return the rows beyond one end, up to the first that has risen enough."""
    end = table[name].iloc[side]
    rows = wider[wider[name] < end][::-1] if side == 0 else wider[wider[name] > end]
    risen = np.flatnonzero(np.abs(rows["tau"].to_numpy(float)) >= needed)
    return rows.iloc[: risen[0] + 1] if len(risen) else rows


def reaching_profile_2d(
    profiled: Callable[[float, float], pd.DataFrame],
    pair: tuple[str, str],
    level: float,
    far: float,
    dof: float,
) -> pd.DataFrame:
    """
    Return a profile of two parameters that encloses a region, where it can.

    Parameters
    ----------
    profiled : callable
        Takes a level, and how many times as many values there are of each. Returns
        the profile that goes as far as an ellipse from standard errors.
    pair : (str, str)
        The entries.
    level : float
        The probability of the region that is to be enclosed.
    far : float
        The probability to begin with.
    dof : float
        Degrees of freedom.

    Returns
    -------
    DataFrame
        As `OptaxEstimator.profile2d` returns it.
    """
    table = profiled(far, 1.0)
    law = stats.chi2(2) if np.isinf(dof) else stats.f(2, dof)
    nearest = float(law.ppf(far))
    ends, short = _open_sides(table, pair, level)
    for i in range(1, _MOST_EXTENSIONS + 1):
        if not short.any():
            break
        times = _WIDER_GRID**i
        wider = profiled(min(float(law.cdf(times**2 * nearest)), _HIGHEST), times)
        further, still_short = _open_sides(wider, pair, level)
        moved = ~np.isclose(further, ends, rtol=1e-6, atol=0)
        if not (short & moved).any():  # these sides are bounds
            break
        table, ends, short = wider, further, still_short & moved
    return table


def _open_sides(
    table: pd.DataFrame, pair: tuple[str, str], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a grid ends on its four sides, and whether a region crosses them."""
    first, second, grid = on_grid(table, *pair)
    ends = np.array([first[0], first[-1], second[0], second[-1]])
    sides = (grid[0], grid[-1], grid[:, 0], grid[:, -1])
    return ends, np.array([bool((side < level).any()) for side in sides])
