"""Which rows count in an objective, and how much: of all of them, or of a part."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ._tracing import own


@own
def counted(losses: Any, sample_weight: Any, n_rows: Any) -> tuple[Any, Any]:
    """
    Return the rows' losses with their weights, and what these add up to.

    Parameters
    ----------
    losses : array of shape (n,)
        One for each row.
    sample_weight : array of shape (n,) or None
        The weights; ``None`` is 1 each.
    n_rows : scalar or None
        As for `Objective`.

    Returns
    -------
    losses : array of shape (n,)
        0 where a row does not count.
    total : scalar
        The sum of the weights, or the number of rows.
    """
    total: Any = losses.shape[0]
    if sample_weight is not None:
        weight = jnp.sum(sample_weight) if n_rows is None else n_rows
        return sample_weight * losses, weight
    if n_rows is not None:
        counts = jax.lax.iota(n_rows.dtype, total) < n_rows
        return jax.lax.select(counts, losses, jnp.zeros_like(losses)), n_rows
    return losses, total


@own
def some_rows(
    data: tuple[Any, ...], start: Any, size: int, first: Any, total: Any
) -> tuple[Any, ...]:
    """
    Return an objective's arguments for some of its rows, each with its share.

    Parameters
    ----------
    data : tuple
        Its arguments after the state.
    start : int
        The number of the first row.
    size : int
        How many rows.
    first : int
        The number of the first one that counts.
    total : scalar
        The sum of the weights of all rows.

    Returns
    -------
    tuple
        With weights in any case.
    """
    X, y, sample_weight, n_rows, *others = data
    rows = [jax.lax.dynamic_slice_in_dim(a, start, size) for a in (X, y)]
    numbers = start + jnp.arange(size, dtype=jnp.int32)
    counts = numbers >= first
    if sample_weight is not None:
        share = jax.lax.dynamic_slice_in_dim(sample_weight, start, size)
        share = jnp.where(counts, share, 0)
    else:
        if n_rows is not None:
            counts &= numbers < n_rows
        share = counts.astype(X.dtype)
    return (*rows, share, total, *others)


@own
def part_of_rows(data: tuple[Any, ...], number: Any, size: int) -> tuple[Any, ...]:
    """
    Return an objective's arguments for one of the parts into which its rows fall.

    Parameters
    ----------
    data : tuple
        Its arguments after the state.
    number : int
        Of the part.
    size : int
        How many rows a part has. The last one begins with rows of the one before it,
        of weight 0, if there are no more.

    Returns
    -------
    tuple
        As of `some_rows`.
    """
    X, _, sample_weight, n_rows, *_ = data
    n = len(X)
    _, total = counted(jnp.zeros(n, X.dtype), sample_weight, n_rows)
    first = number * size
    total = jnp.asarray(total, X.dtype)
    return some_rows(data, jnp.minimum(first, n - size), size, first, total)
