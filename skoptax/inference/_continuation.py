"""Fits with entries held on a grid, none higher than from where its neighbours ended.

The first of them begin on the straight line, or plane, that the other entries follow by
their covariances. Far out that may be where another optimum is, or where nothing is
finite. So each is made again from where its neighbours have ended, until none ends
lower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from .._constrained import Held

Fits = Callable[[np.ndarray, np.ndarray], Held]

# Of the objective: so much lower is more than rounding.
_LOWER = 1e-10


def fits_on_grid(
    fits: Fits, offsets: np.ndarray, holds: np.ndarray, shape: tuple[int, ...]
) -> Held:
    """
    Return the lowest fits that are found on a grid.

    Parameters
    ----------
    fits : callable
        Takes offsets from the fit and flags, and returns fits with the flagged entries
        held.
    offsets, holds : ndarray of shape (k, p)
        Where the first fits begin, and which entries are held there.
    shape : tuple of int
        Of the grid, in the order of the rows.

    Returns
    -------
    Held
        For each point of the grid.
    """
    found = fits(offsets, holds)
    directions = list(_neighbours(shape))
    idle = 0
    # A pass carries what is found one point farther in one direction.
    for k in range(len(directions) * max(shape)):
        begin = found.offset[directions[k % len(directions)]]
        again = fits(np.where(holds, offsets, begin), holds)
        lower = _is_lower(again.value, found.value)
        found = _merged(found, again, lower)
        idle = 0 if lower.any() else idle + 1
        if idle == len(directions):
            break
    return found


def _neighbours(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield, for each direction, the row of each point's neighbour; or its own."""
    places = np.arange(np.prod(shape)).reshape(shape)
    for axis, length in enumerate(shape):
        steps = np.arange(length)
        for moved in (steps - 1, steps + 1):
            inside = np.clip(moved, 0, length - 1)
            yield np.take(places, inside, axis=axis).ravel()


def _is_lower(new: Any, old: Any) -> Any:
    """Tell which are lower; a number is lower than none."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(new) & ~(new >= old - _LOWER * np.abs(old))


def _merged(old: Held, new: Held, take: np.ndarray) -> Held:
    merged: Held = jax.tree.map(
        lambda a, b: np.where(take.reshape(-1, *[1] * (a.ndim - 1)), b, a), old, new
    )
    return merged
