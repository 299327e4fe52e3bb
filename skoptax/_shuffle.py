"""A random order of many rows, of which any part can be had without the rest.

A sort of random numbers takes longer than an epoch of small steps, and an order that is
kept takes memory. The swap-or-not shuffle (Hoang, Morris and Rogaway 2012) is a
bijection of the numbers below n that is computed for each number by itself: in every
round a random pivot pairs each number with another one, and each pair is swapped or
not.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._tracing import own

# After so many rounds, positions, neighbours and whole orders of few rows pass tests of
# uniformity with 20,000 seeds.
_ROUNDS = 16
# Odd constants that mix bits well (Wellons 2018), and a step that visits all numbers.
_MIX, _MIX_MORE, _STEP = (np.uint32(c) for c in (0x7FEB352D, 0x846CA68B, 0x9E3779B9))
_HALF = np.uint32(1 << 31)


@own
def shuffled(positions: Any, n: Any, seed: Any) -> Any:
    """
    Return which rows are at some positions of a random order.

    Parameters
    ----------
    positions : array of int
        From 0 to n - 1.
    n : int
        The number of rows.
    seed : int
        Of the order; unsigned, of 32 bits.

    Returns
    -------
    array of int32
        As many row numbers, from 0 to n - 1. Over all positions, each occurs once.

    References
    ----------
    V. T. Hoang, B. Morris and P. Rogaway (2012), "An Enciphering Scheme Based on a Card
    Shuffle", *CRYPTO*.
    """
    n = jnp.asarray(n).astype(jnp.uint32)
    found = jnp.asarray(positions).astype(jnp.uint32)
    rounds = jnp.arange(_ROUNDS, dtype=jnp.uint32) * _STEP
    mixed = _mixed(jnp.asarray(seed).astype(jnp.uint32) + rounds)
    rows = mixed % n, _mixed(mixed + _STEP)

    def swap_or_not(found: Any, row: tuple[Any, Any]) -> tuple[Any, None]:
        pivot, key = row
        partner = pivot - found
        partner = jnp.where(partner >= n, partner + n, partner)  # below 0, it wraps
        bits = (jnp.maximum(found, partner) ^ key) * _MIX
        bits = (bits ^ (bits >> 15)) * _MIX_MORE
        return jnp.where(bits >= _HALF, partner, found), None

    # As a loop it is computed once for each position. Else a compiler puts it into what
    # reads the rows, and does it again for each entry of a row; barriers do not hinder
    # it on a CPU.
    # (Four rounds at a time are computed for many positions at once.)
    found, _ = jax.lax.scan(swap_or_not, found, rows, unroll=4)
    return found.astype(jnp.int32)


@own
def seed_of_epoch(seed: Any, epoch: Any) -> Any:
    """
    Return a seed for each epoch of a fit.

    Parameters
    ----------
    seed, epoch : int
        Of the fit, and counted from 0.

    Returns
    -------
    scalar of uint32
        Seeds of different epochs have nothing in common.
    """
    count = jnp.asarray(epoch).astype(jnp.uint32)
    return _mixed(jnp.asarray(seed).astype(jnp.uint32) ^ _mixed(count + _STEP))


def _mixed(bits: Any) -> Any:
    bits = (bits ^ (bits >> 16)) * _MIX
    bits = (bits ^ (bits >> 15)) * _MIX_MORE
    return bits ^ (bits >> 16)
