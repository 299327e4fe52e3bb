"""The derivatives where a run has ended, of all rows at once or of some at a time.

A Jacobian of many rows is larger than they are. What is made of it are sums, for which
some rows at a time do, if a row's prediction follows from that row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from .._at_end import AtEnd
from .._curvature import at_selected
from .._driver import Run
from .._entries import count_entries
from .._information import Derivatives, make_derivatives, make_piece
from .._problem import Problem
from .._task import Task

# A Jacobian of more entries is made piece by piece, each of about so many: they stay in
# a processor's cache.
_LARGE, _PIECE = 2**22, 2**18
# With so many, the loop of a fit may have to keep memory free for it.
_AT_END = 2**20
# A row alone would be without its axis in a model that squeezes.
_FEWEST_ROWS = 8
# Whose matrices are sums over rows that need nothing of other rows.
_IN_PIECES = ("nonrobust", "HC0", "HC1")


class Piece(NamedTuple):
    """Some rows of a fit."""

    found: Derivatives  # as NumPy arrays
    y: np.ndarray
    weights: np.ndarray | None


def piece_size(
    task: Task, problem: Problem, y: np.ndarray, cov_type: str | None
) -> int:
    """
    Return how many rows are differentiated at a time.

    Parameters
    ----------
    task : Task
        Of the fit.
    problem : Problem
        What was minimised.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    cov_type : str or None
        Which covariance is wanted.

    Returns
    -------
    int
        All of them, unless they are many, and pieces are known to do.
    """
    each = _derivatives_of_row(task, y)
    # Of a model that is only said to treat each row by itself, nobody has found out
    # whether it numbers them.
    is_analysed = problem.row_independent == "auto"
    does = is_analysed and not (problem.couples_rows or problem.numbers_rows)
    if not does or cov_type not in _IN_PIECES or each * len(y) < _LARGE:
        return len(y)
    return min(max(_PIECE // each, _FEWEST_ROWS), len(y))


def _derivatives_of_row(task: Task, y: np.ndarray) -> int:
    return max(count_entries(task.structure, task.numbers) * y[0].size, 1)


def derivatives_at_end(task: Task, y: np.ndarray, cov_type: str) -> AtEnd | None:
    """
    Return what the loop's program is to compute where it ends.

    Parameters
    ----------
    task : Task
        Of the fit.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    cov_type : str
        Which covariance is wanted.

    Returns
    -------
    AtEnd or None
        ``None`` of a large Jacobian, of which the loop would have to keep memory free.
    """
    if _derivatives_of_row(task, y) * len(y) > _AT_END:
        return None
    with_hessian = cov_type == "hessian"
    make = partial(make_derivatives, with_hessian=with_hessian)
    return AtEnd(make, ("derivatives", with_hessian))


def in_pieces(
    run: Run,
    y: np.ndarray,
    weights: np.ndarray | None,
    total: float,
    size: int,
    *,
    with_hessian: bool,
) -> Iterator[Piece]:
    """
    Differentiate at the selected state.

    Parameters
    ----------
    run : Run
        At its end.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    weights : ndarray of shape (n,) or None
        Their weights.
    total : float
        The sum of the weights.
    size : int
        As of `piece_size`.
    with_hessian : bool
        Whether the whole Hessian is wanted, for which all rows are one piece.

    Yields
    ------
    Piece
        Every row is in one of them.
    """
    n = len(y)
    if size == n:
        make: Any = partial(make_derivatives, with_hessian=with_hessian)
        found = run.at_end
        if found is None:
            found = at_selected(run, make, "derivatives", with_hessian)
        yield Piece(jax.tree.map(np.asarray, found), y, weights)
        return
    make = partial(make_piece, size=size)
    ahead: list[tuple[int, int, Any]] = []
    for first in range(0, n, size):
        # The last piece begins among the rows of the one before it.
        start = min(first, n - size)
        more = np.int32(start), np.int32(first), y.dtype.type(total)
        ahead.append((first, start, at_selected(run, make, "piece", size, more=more)))
        # While one is summed up, the next one is computed.
        if len(ahead) > 1:
            yield _cut(*ahead.pop(0), size, y, weights)
    for piece in ahead:
        yield _cut(*piece, size, y, weights)


def _cut(
    first: int,
    start: int,
    found: Derivatives,
    size: int,
    y: np.ndarray,
    weights: np.ndarray | None,
) -> Piece:
    """Leave out the rows that the piece before has, too."""
    skipped, rows = first - start, slice(first, start + size)
    outputs = y[0].size
    arrays = jax.tree.map(np.asarray, found)
    by_row = skipped if arrays.bend.ndim > 1 else skipped * outputs
    cut = arrays._replace(
        predictions=arrays.predictions[skipped:],
        columns=arrays.columns[:, skipped * outputs :],
        slope=arrays.slope[skipped * outputs :],
        bend=arrays.bend[by_row:],
    )
    return Piece(cut, y[rows], None if weights is None else weights[rows])
