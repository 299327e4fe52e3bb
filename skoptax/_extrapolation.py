"""Where to look next, from what was found so far; on the host, or in a program."""

from __future__ import annotations

from typing import Any, NamedTuple


class Known(NamedTuple):
    """A point of a curve in the space of the parameters, and of a statistic on it."""

    at: Any  # how far along
    tau: Any  # the statistic
    slope: Any  # of the statistic; NaN if it is not known
    offset: Any  # where the curve is there, of shape (p,); at 0 it is 0


def inverse_cubic(aim: Any, new: Known, old: Known) -> Any:
    """
    Return where a statistic has a value, by two points.

    Parameters
    ----------
    aim : scalar
        The value.
    new, old : Known
        Of different statistics, with slopes.

    Returns
    -------
    scalar
        By the cubic of the inverse function that has both points' values and slopes.
    """
    width = old.tau - new.tau
    t = (aim - new.tau) / width
    s = 1 - t
    values = new.at * (1 + 2 * t) * s * s + old.at * t * t * (3 - 2 * t)
    return values + width * t * s * (s / new.slope - t / old.slope)


def bent(at: Any, tangent: Any, new: Known, change: Any) -> Any:
    """
    Return where a curve is that leaves 0 along a tangent and passes through a point.

    Parameters
    ----------
    at : scalar
        How far along.
    tangent : array of shape (p,)
        The curve's, at 0.
    new : Known
        The point.
    change : array of shape (p,)
        How the curve's `bend` changes per unit of `at`; 0 for a parabola.

    Returns
    -------
    array of shape (p,)
        The offset there.
    """
    return at * tangent + at * at * (bend(tangent, new) + change * (at - new.at))


def bend(tangent: Any, point: Known) -> Any:
    """Return how far a point is from a tangent, by the square of how far along."""
    return (point.offset - point.at * tangent) / (point.at * point.at)
