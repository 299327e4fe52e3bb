"""The rows of a history as they were recorded: in blocks, of which any part is read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Rows = dict[str, np.ndarray]
"""For each data type an array with a row for each step."""


class Recorded:
    """
    The rows of a history up to a step.

    Whoever takes a few of them does not pay for all.

    Parameters
    ----------
    blocks : iterable of (int, dict of str to ndarray)
        The step of a block's first row, and its rows for each data type, in their
        order: none begins or ends at an earlier step than the one before. Belong to
        this object from now on, and are not changed.

    Attributes
    ----------
    stop : int
        The step after that of the last row; 0 if there is none.
    """

    def __init__(self, blocks: Iterable[tuple[int, Rows]] = ()) -> None:
        self._blocks = tuple(blocks)
        self.stop = _end(*self._blocks[-1]) if self._blocks else 0

    def rows(self, first: int = 0, stop: int | None = None) -> Rows:
        """
        Return the rows of some steps.

        Parameters
        ----------
        first : int, default=0
            The first of the steps.
        stop : int or None
            The step after the last of them; with None, all that follow.

        Returns
        -------
        dict of str to ndarray
            For each data type an array with a row for each step. Of a step with
            several rows the last one counts: a state was replaced there. A copy, unless
            it is one whole block.
        """
        stop = self.stop if stop is None else stop
        parts: list[tuple[int, Rows]] = []
        # From the end: those who ask again and again ask for what is new.
        for at, block in reversed(self._blocks):
            if _end(at, block) <= first:
                break
            if at < stop:
                parts.append((at, block))
        parts.reverse()
        if len(parts) == 1 and (parts[0][0], _end(*parts[0])) == (first, stop):
            return parts[0][1]
        like = self._blocks[-1][1] if self._blocks else {}
        found = {
            dtype: np.empty((max(stop - first, 0), array.shape[1]), array.dtype)
            for dtype, array in like.items()
        }
        for at, block in parts:
            begin, end = max(at, first), min(_end(at, block), stop)
            for dtype, array in block.items():
                found[dtype][begin - first : end - first] = array[begin - at : end - at]
        return found


def _end(first: int, block: Rows) -> int:
    return first + len(next(iter(block.values())))
