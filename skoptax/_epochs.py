"""What a loop sees of the data at each step, and what it is judged by.

A `Feed` is the static part, known when the loop is traced. Step k evaluates batch k of
an endless sequence of epochs, each a random order of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._shuffle import seed_of_epoch, shuffled
from ._tracing import own


class Pace(NamedTuple):
    """The numbers of a feed; all are traced."""

    n_rows: Any  # how many rows count, the first ones
    total: Any  # the sum of their weights
    per_epoch: Any  # steps
    first_epoch: Any  # how many there have been before these rows came
    seed: Any
    first_step: Any  # the step whose batch is the first of these rows


class Fed(NamedTuple):
    """Data of a loop with a feed."""

    training: tuple[Any, ...]  # the objective's arguments after the state
    held_out: tuple[Any, ...] | None  # the same, of rows that are not fitted
    pace: Pace


class Picked(NamedTuple):
    """Rows of some steps that follow each other."""

    first: Any  # step
    rows: tuple[Any, Any, Any]  # of X and y, and their weights, for each step


# Of so many steps the rows are picked at once, where they take no more bytes.
_MOST_AHEAD, _CACHE = 16, 1 << 19


@dataclass(frozen=True)
class Feed:
    """
    How a loop takes its data.

    Parameters
    ----------
    batch_size : int or None
        Rows of a step; ``None`` is all of them.
    shuffle : bool
        Whether each epoch has an order of its own.
    validates : bool
        Whether there are held-out rows.
    """

    batch_size: int | None
    shuffle: bool
    validates: bool

    def content(self) -> tuple[Any, ...]:
        """Return what a content key must hold of it."""
        return ("feed", self.batch_size, self.shuffle, self.validates)

    def at(self, data: Fed, step: Any) -> tuple[Any, ...]:
        """
        Return the objective's arguments at a step.

        Parameters
        ----------
        data : Fed
            All of the data.
        step : int
            Counted from 0, over all rows that the run has seen.

        Returns
        -------
        tuple
            The rows of the batch with weights under which their objective is, over all
            batches, that of all rows.
        """
        if self.batch_size is None:
            return data.training
        return _with_total(self._picked(data, step), data.training, data.pace)

    def ahead(self, data: Fed) -> int:
        """
        Return of how many steps the rows are worth picking at once.

        Each step by itself would wait for memory, and for the random order. More would
        not stay in a processor's cache.
        """
        if self.batch_size is None:
            return 1
        X, y, *_ = data.training
        row = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in (X, y))
        return max(1, min(_MOST_AHEAD, _CACHE // (row * self.batch_size)))

    def picked_ahead(self, data: Fed, first: Any) -> Picked:
        """
        Return the rows of some steps.

        Parameters
        ----------
        data : Fed
            All of the data.
        first : int
            Step.

        Returns
        -------
        Picked
            Of ``ahead`` steps.
        """
        steps = first + jnp.arange(self.ahead(data), dtype=jnp.int32)
        return Picked(first, jax.vmap(lambda step: self._picked(data, step))(steps))

    def of(self, picked: Picked, data: Fed, step: Any) -> tuple[Any, ...]:
        """Return what `at` does, of rows that have been picked."""
        at = step - picked.first
        mine = jax.tree.map(lambda a: a[at], picked.rows)
        return _with_total(mine, data.training, data.pace)

    def _picked(self, data: Fed, step: Any) -> tuple[Any, Any, Any]:
        """Return a batch: rows of X and y, and their weights."""
        assert self.batch_size is not None
        X, y, weights, *_ = data.training
        n, _, per_epoch, first_epoch, seed, first_step = data.pace
        step = step - first_step
        epoch = step // per_epoch
        first = (step - epoch * per_epoch) * self.batch_size
        positions = first + jnp.arange(self.batch_size, dtype=jnp.int32)
        present = positions < n
        rows = jnp.where(present, positions, 0)
        if self.shuffle:
            rows = shuffled(rows, n, seed_of_epoch(seed, first_epoch + epoch))
        # Where a batch has fewer rows, each stands for more.
        count = jnp.minimum(self.batch_size, n - first).astype(X.dtype)
        share = jnp.where(present, n.astype(X.dtype) / count, 0)
        if weights is not None:
            share = share * _taken(weights, rows)
        return _taken(X, rows), _taken(y, rows), share


def some_rows(data: Any, pace: Pace, piece: Any, size: int) -> tuple[Any, Any]:
    """
    Return the objective's arguments at a piece of the rows, in their own order.

    Parameters
    ----------
    data : tuple
        The objective's arguments after the state.
    pace : Pace
        Of the batches.
    piece : int
        Which, counted from 0.
    size : int
        Rows of each, at most as many as there are.

    Returns
    -------
    data : tuple
        With weights as a batch of these rows has them.
    part : scalar
        Of all the rows that count, those in this piece.
    """
    X, y, weights, *_ = data
    n_rows = pace.n_rows
    # The last piece begins among the rows of the one before it.
    first = piece * size
    start = jnp.minimum(first, len(X) - size)
    positions = start + jnp.arange(size, dtype=jnp.int32)
    present = (positions >= first) & (positions < n_rows)
    part = jnp.minimum(size, n_rows - first).astype(X.dtype) / n_rows.astype(X.dtype)
    mine = [jax.lax.dynamic_slice_in_dim(a, start, size) for a in (X, y)]
    share = jnp.where(present, 1 / part, 0)
    if weights is not None:
        share = share * jax.lax.dynamic_slice_in_dim(weights, start, size)
    return _with_total((*mine, share), data, pace), part


def _with_total(rows: Any, data: Any, pace: Pace) -> tuple[Any, ...]:
    """Return the objective's arguments: some rows under the weights of all."""
    return (*rows, pace.total, *data[4:])


def _taken(array: Any, rows: Any) -> Any:
    # What is out of bounds need not be found out.
    return array.at[rows].get(mode="promise_in_bounds")


class Judged(NamedTuple):
    """What a state is judged by, where that is not its own loss."""

    score: Any  # infinite where there is none at this step
    running: Any  # of shape (2,): the epoch's losses before this one, and this one
    val_loss: Any  # NaN where it was not computed


@own
def judge(
    feed: Feed,
    pace: Pace,
    step: Any,
    value: Any,
    running: Any,
    is_new: Any,
    validate: Callable[[], Any],
) -> Judged:
    """
    Judge a state at the end of an epoch.

    Parameters
    ----------
    feed : Feed
        How data are taken.
    pace : Pace
        Its numbers.
    step : int
        Of the state.
    value : scalar
        The loss of its batch.
    running : array of shape (2,)
        Of the state before: the sum of the epoch's losses before it, and its own.
    is_new : bool
        Whether the state has not been judged yet.
    validate : callable
        Returns the loss of the held-out rows.

    Returns
    -------
    Judged
        With held-out rows the score is their loss, else the mean over the batches of
        the epoch that ends here.
    """
    at_end = (step - pace.first_step) % pace.per_epoch == 0
    nothing = jnp.full_like(value, jnp.inf)
    if feed.validates:
        val_loss = jax.lax.cond(
            at_end,
            lambda: validate().astype(value.dtype),
            lambda: jnp.full_like(value, jnp.nan),
        )
        score = jnp.where(jnp.isfinite(val_loss), val_loss, nothing)
        return Judged(score, running, val_loss)
    # A state that a callback has put in place of another is no further step.
    total = jnp.where(is_new, running[0] + running[1], running[0])
    mean = total / pace.per_epoch.astype(value.dtype)
    score = jnp.where(at_end & is_new & (step > 0), mean, nothing)
    before = jnp.where(at_end, 0, total)
    return Judged(score, jnp.stack([before, value]), jnp.full_like(value, jnp.nan))
