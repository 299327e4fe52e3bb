"""The probabilities of intervals, bands and regions that a Display is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validation import check_real, invalid


def check_level(owner: str, level: Any, name: str = "level") -> float:
    """
    Return a probability if it is in (0, 1).

    Parameters
    ----------
    owner : str
        Named in errors.
    level : float
        What the user gave.
    name : str, default="level"
        The argument, for errors.

    Returns
    -------
    float
        The probability.

    Raises
    ------
    InvalidParameterError
        If it is none.
    """
    return check_real(name, owner, level, 0.0, above=True, maximum=1.0, below=True)


def check_levels(owner: str, levels: Any) -> list[float]:
    """
    Return probabilities, each once, from the smallest on.

    Parameters
    ----------
    owner : str
        Named in errors.
    levels : float or sequence of float
        What the user gave.

    Returns
    -------
    list of float
        At least one.

    Raises
    ------
    InvalidParameterError
        If there is none, or one is not in (0, 1).
    """
    found = [check_level(owner, one, "levels") for one in np.ravel(levels).tolist()]
    if not found:
        raise invalid("levels", owner, "one probability or more", levels)
    return sorted(set(found))
