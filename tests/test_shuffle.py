"""The random order of rows: a bijection, and as good as one that NumPy draws."""

from __future__ import annotations

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skoptax._shuffle import seed_of_epoch, shuffled

MANY = jnp.arange(20_000, dtype=jnp.uint32)


@jax.jit
def first_thousand(n, seed):
    return shuffled(jnp.where(jnp.arange(1000) < n, jnp.arange(1000), 0), n, seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1000), st.integers(0, 2**32 - 1))
def test_each_row_occurs_once(n, seed):
    found = np.asarray(first_thousand(np.int32(n), np.uint32(seed)))[:n]
    np.testing.assert_array_equal(np.sort(found), np.arange(n))


def test_large_numbers():
    n = 2**31 - 1
    positions = np.random.default_rng(0).integers(0, n, 10_000).astype(np.int32)
    found = np.asarray(jax.jit(shuffled)(positions, np.int32(n), np.uint32(1)))
    assert len(set(found)) == len(set(positions))
    assert found.min() >= 0
    assert stats.kstest(found / n, "uniform").pvalue > 1e-3


def orders(n, seeds=MANY):
    return np.asarray(
        jax.vmap(lambda seed: shuffled(jnp.arange(n), np.int32(n), seed))(seeds)
    )


def test_all_orders_of_few_rows_are_equally_likely():
    found = orders(4, jnp.arange(48_000, dtype=jnp.uint32))
    counts = dict.fromkeys(permutations(range(4)), 0)
    for order in map(tuple, found.tolist()):
        counts[order] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("n", [10, 97])
def test_positions_and_neighbours_are_uniform(n):
    found = orders(n)
    for position in (0, 1, n // 2, n - 1):
        counts = np.bincount(found[:, position], minlength=n)
        assert stats.chisquare(counts).pvalue > 1e-3
    for a, b in ((found[:, 1], found[:, 0]), (found[:, -1], found[:, 3])):
        counts = np.bincount((a - b) % n, minlength=n)
        assert counts[0] == 0
        assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_epochs_have_nothing_in_common():
    seeds = np.asarray(jax.vmap(lambda e: seed_of_epoch(7, e))(jnp.arange(20_000)))
    assert len(set(seeds.tolist())) == 20_000
    found = orders(10, jnp.asarray(seeds))
    counts = np.bincount((found[1:, 0] - found[:-1, 0]) % 10, minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3
