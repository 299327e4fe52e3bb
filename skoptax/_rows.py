"""How many rows a program has, and what the rows that are added hold.

A program is compiled for one number of rows. Folds of a cross-validation differ by
a row, and the refit has more: padded to a common length, its *bucket*, they share
one. The rows that are added repeat a real one and do not count.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from itertools import count
from typing import Any, NamedTuple

import jax
import numpy as np

from ._captured import forget_other_precision
from ._coupling import row_axes
from ._tracing import labelled

# Above, added rows and their exclusion cost a fit more than the compilations they
# save.
MAX_PADDED = 8_192
# Up to `end` rows, the distance of two buckets is `step`th of the power of two
# between which they lie: from 64 to 1,024 the powers of two themselves.
_STEPS = ((1024, 1), (MAX_PADDED, 8))
_SMALLEST = 64


class RowUse(NamedTuple):
    """What a function makes of a row's neighbours, and of its place."""

    is_independent: bool  # no row's result depends on others
    numbers_rows: bool = False  # then none are added or drawn: they need their places


_MEMO_SIZE = 4096
_memo: OrderedDict[Hashable, RowUse] = OrderedDict()
_lock = threading.Lock()
_labels = count()


def bucket(n: int) -> int:
    """
    Return the padded length for ``n`` rows.

    Parameters
    ----------
    n : int
        Number of rows, 1 or more.

    Returns
    -------
    int
        The next power of two up to 1,024 rows (at least 64), then the next eighth of
        one, at most 1.125 times the rows; above 8,192 rows ``n`` itself.
    """
    if n <= _SMALLEST:
        return _SMALLEST
    for end, parts in _STEPS:
        if n <= end:
            below = 1 << ((n - 1).bit_length() - 1)
            step = max(below // parts, 1)
            return -(-n // step) * step
    return n


def pad_rows(array: np.ndarray, length: int) -> np.ndarray:
    """
    Return an array with its first row repeated behind it.

    Parameters
    ----------
    array : ndarray of shape (n, ...)
        At least one row.
    length : int
        The number of rows to have, ``n`` or more.

    Returns
    -------
    ndarray of shape (length, ...)
        The array itself if it has them already.
    """
    n = len(array)
    if n == length:
        return array
    padded = np.empty((length, *array.shape[1:]), array.dtype)
    padded[:n] = array
    padded[n:] = array[0]
    return padded


def row_use(
    function: Callable[..., Any],
    key: bytes | None,
    shared: Callable[[], Any],
    rows: Any,
    row_independent: Any,
    captured: Callable[[], Sequence[np.ndarray]] = tuple,
    label: Callable[[], str | None] = lambda: None,
) -> RowUse:
    """
    Find out what a function makes of a row's neighbours, and of its place.

    Parameters
    ----------
    function : callable
        ``function(shared, rows)``, in JAX. The first leaf of what it returns has a row
        for each row, the others have none.
    key : bytes or None
        The content of the function and of what `shared` returns; ``None`` if it
        cannot be known.
    shared : callable
        Returns a pytree of arrays: the parameters and their like.
    rows : pytree of arrays of shape (n, ...)
        The data.
    row_independent : {"auto", True, False}
        Whether rows do not interact; "auto" finds out.
    captured : callable, optional
        Returns the arrays that the function refers to.
    label : callable, optional
        Returns the label under which to trace it, if there is one for several.

    Returns
    -------
    RowUse
        What is said by ``row_independent`` goes before what is found out.
    """
    n = len(jax.tree.leaves(rows)[0])
    length = bucket(n)
    if row_independent != "auto":
        return RowUse(bool(row_independent))
    shapes = [(np.shape(x)[1:], np.dtype(x.dtype)) for x in jax.tree.leaves(rows)]
    memo = (key, tuple(shapes), n, length)
    with _lock:
        known = _memo.get(memo) if key is not None else None
    if known is None:
        # JAX keeps the traces of inner functions by their identity, and would reuse
        # one that has gone stale; the metadata is part of the key it uses.
        own = f"rows-{key.hex() if key is not None else next(_labels)}"
        common = label() if key is not None else None
        forget_other_precision(captured())
        with labelled(common or own):
            known = _row_use(function, shared(), rows, (n, length))
        if key is not None:
            with _lock:
                _memo[memo] = known
                while len(_memo) > _MEMO_SIZE:
                    _memo.popitem(last=False)
    return known


def forget() -> None:
    """Forget what was found out about functions."""
    with _lock:
        _memo.clear()


def _row_use(
    function: Callable[..., Any], shared: Any, rows: Any, sizes: tuple[int, int]
) -> RowUse:
    """Ask for a first output with a row for each row, and others with none."""
    lengths = {d for x in jax.tree.leaves((shared, rows)) for d in np.shape(x)}
    # Lengths that mean nothing else, for a function that asks for the number of rows.
    unrelated = (k for k in count(7, 4) if k not in lengths)
    try:
        found = row_axes(
            function, shared, rows, (*sizes, next(unrelated), next(unrelated))
        )
        first, *others = found.axes
    except Exception:
        # Coupled, or a construct of JAX's that the analysis does not know: the rows
        # are fitted as they are, which is right whatever the function does.
        return RowUse(False)
    is_independent = first == 0 and all(axis is None for axis in others)
    return RowUse(is_independent, found.numbers_rows)
