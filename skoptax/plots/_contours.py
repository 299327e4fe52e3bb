"""Joint regions of two parameters: levels on a grid, and the ellipse beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .._validation import invalid
from ._style import BLUE


def on_grid(
    table: pd.DataFrame, a: str, b: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the levels of a profile of two parameters on their grid.

    Parameters
    ----------
    table : DataFrame
        As `profile2d` returns it.
    a, b : str
        The parameters.

    Returns
    -------
    first : ndarray of shape (n,)
        The values of the first, ascending.
    second : ndarray of shape (m,)
        The values of the second, ascending.
    levels : ndarray of shape (n, m)
        NaN where there is no number.
    """
    axes, places = [], []
    for name in (a, b):
        values = table[name].to_numpy(dtype=float)
        ordered = np.unique(values)
        # Values that are one but for rounding are one.
        apart = np.diff(ordered) > 1e-6 * (ordered[-1] - ordered[0])
        ordered = ordered[np.concatenate([[True], apart])]
        axes.append(ordered)
        places.append(np.searchsorted(ordered, values, side="right") - 1)
    grid = np.full((len(axes[0]), len(axes[1])), np.nan)
    grid[places[0], places[1]] = table["level"]
    return axes[0], axes[1], grid


def ellipse(
    covariance: np.ndarray, level: float, dof: float, n_points: int = 181
) -> np.ndarray:
    r"""
    Return the region of two parameters that standard errors give, about 0.

    Parameters
    ----------
    covariance : ndarray of shape (2, 2)
        Theirs.
    level : float
        Its probability, in (0, 1).
    dof : float
        Degrees of freedom; infinite for the normal distribution.
    n_points : int, default=181
        How many points.

    Returns
    -------
    ndarray of shape (n_points, 2)
        Where :math:`\delta^T C^{-1} \delta` is the quantile of :math:`2 F_{2,\nu}`, or
        of :math:`\chi^2_2`.
    """
    if np.isinf(dof):
        size = np.sqrt(stats.chi2(2).ppf(level))
    else:
        size = np.sqrt(2 * stats.f(2, dof).ppf(level))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    angles = np.linspace(0, 2 * np.pi, n_points)
    return size * np.column_stack([np.cos(angles), np.sin(angles)]) @ root.T


def check_contours(owner: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return the user's keywords of contours, or raise.

    Parameters
    ----------
    owner : str
        Named in errors.
    given : dict or None
        For `Axes.contour`.

    Returns
    -------
    dict
        The same.

    Raises
    ------
    InvalidParameterError
        If levels are among them: they are an argument of the Display.
    """
    if "levels" in (given or {}):
        raise invalid(
            "contour_kwargs",
            owner,
            "a dict without 'levels'",
            given,
            "Use levels=, which the legend and the profiles follow too.",
        )
    return dict(given or {})


def contour_style(levels: Sequence[float], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the keywords of contours.

    Parameters
    ----------
    levels : sequence of float
        Their probabilities, from the smallest on.
    given : dict
        What the user gave.

    Returns
    -------
    dict
        Line styles, one for each level, among them.
    """
    # The largest is drawn through, smaller ones are broken, unlike the ellipse.
    broken = ["-", "-.", ":"]
    style: dict[str, Any] = {
        "levels": levels,
        "colors": [BLUE] * len(levels),
        "linestyles": [broken[min(i, 2)] for i in range(len(levels))][::-1],
        "linewidths": 1.6,
    }
    if given.get("cmap") is not None:
        del style["colors"]
    style |= given
    lines = style["linestyles"]
    if lines is None or isinstance(lines, str):
        lines = [lines or "-"]
    style["linestyles"] = list(islice(cycle(lines), len(levels)))
    return style
