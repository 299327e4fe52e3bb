"""Seconds, and what is made of them: medians, ratios, differences, their spread.

A ratio of medians comes with the quartiles of the ratios of the single rounds: the
sides of a round follow one another, so that a slow minute of the machine hits both.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A figure and the quartiles around it.

    Parameters
    ----------
    value : float
        The figure.
    low, high : float
        The lower and the upper quartile of the rounds.
    count : int
        The number of rounds.
    """

    value: float
    low: float
    high: float
    count: int

    def times(self, factor: float) -> Spread:
        """Return the figure in another unit.

        Parameters
        ----------
        factor : float
            Positive.

        Returns
        -------
        Spread
            The product.
        """
        return Spread(
            self.value * factor, self.low * factor, self.high * factor, self.count
        )


def seconds(function: Callable[[], Any]) -> float:
    """Return how long a call takes.

    Parameters
    ----------
    function : callable
        Without arguments; it returns when its work is done.

    Returns
    -------
    float
        Seconds.
    """
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def interleave(
    sides: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Time several functions in turns.

    Parameters
    ----------
    sides : mapping of str to callable
        What to time.
    rounds : int
        How often each is called.
    warm : bool, default=True
        Whether to call each once before, untimed.

    Returns
    -------
    dict
        For each side its seconds, one for each round.
    """
    names = list(sides)
    if warm:
        for name in names:
            sides[name]()
    found: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    for number in range(rounds):
        # Another one begins each time: none always runs in the wake of the same.
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(seconds(sides[name]))
    return found


def summary(samples: Sequence[float]) -> Spread:
    """Return the median with its quartiles.

    Parameters
    ----------
    samples : sequence of float
        One for each round.

    Returns
    -------
    Spread
        In the unit of the samples.
    """
    low, median, high = np.percentile(samples, [25, 50, 75])
    return Spread(float(median), float(low), float(high), len(samples))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the ratio of two medians.

    Parameters
    ----------
    above, below : sequence of float
        One for each round. If there are as many of both, the quartiles are those
        of the rounds' ratios; otherwise of all ratios.

    Returns
    -------
    Spread
        Without a unit.
    """
    return _compare(np.divide, above, below)


def geometric_ratio(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> Spread:
    """Return the geometric mean of several ratios of medians.

    Parameters
    ----------
    pairs : sequence of (sequence of float, sequence of float)
        What is above and what is below in each ratio: one for each round, in all
        pairs as many. The quartiles are those of the rounds' geometric means.

    Returns
    -------
    Spread
        Without a unit.
    """
    samples = np.log(np.asarray(pairs))
    above, below = np.median(samples, axis=2).T
    value = float(np.exp(np.mean(above - below)))
    rounds = np.exp(np.mean(samples[:, 0] - samples[:, 1], axis=0))
    low, high = np.percentile(rounds, [25, 75])
    return Spread(value, min(float(low), value), max(float(high), value), len(rounds))


def difference(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the difference of two medians; see `ratio`.

    Parameters
    ----------
    above, below : sequence of float
        One for each round.

    Returns
    -------
    Spread
        In the unit of the samples.
    """
    return _compare(np.subtract, above, below)


def _compare(operation: Any, above: Sequence[float], below: Sequence[float]) -> Spread:
    if len(above) == len(below):
        rounds = operation(np.asarray(above), np.asarray(below))
    else:
        rounds = operation.outer(np.asarray(above), np.asarray(below)).ravel()
    low, high = np.percentile(rounds, [25, 75])
    value = float(operation(np.median(above), np.median(below)))
    # The ratio of the medians is none of the rounds' and may lie beside them.
    return Spread(
        value,
        min(float(low), value),
        max(float(high), value),
        min(len(above), len(below)),
    )
