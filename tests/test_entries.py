"""The free parameters' entries as flat arrays, and their names."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skoptax import Parameter, priors
from skoptax._entries import Entries, entry_names, read_entries
from skoptax._packing import pack
from skoptax._structure import joined, separate

INF = np.inf


def read(state, values=None, join=True):
    """Return entries and names, with the leaves as one vector or each by itself."""
    with jax.enable_x64(True):
        structure, numbers = pack(state, "test")
        if join:
            structure, numbers = joined(structure, numbers)
            assert structure.shapes is not None
        start = separate(structure, numbers)["values"]
        values = start if values is None else values
        found = read_entries(structure, numbers, values)
        return found, entry_names(structure, values)


STATE = {
    "b": Parameter("b", np.array([[1.0, 2.0], [3.0, 4.0]]), lower=np.array([0.0, 2.0])),
    "a": Parameter("a", 5.0, upper=5.0),
    "fixed": Parameter("fixed", 6.0, free=False),
    "tied": Parameter("tied", tie=lambda a: 2 * a),
    "inner": [Parameter("c", np.array([7.0, 8.0]), free=np.array([True, False]))],
}


@pytest.mark.parametrize("join", [True, False])
def test_all_fields(join):
    found, names = read(STATE, join=join)
    # In the order of JAX's leaves: the keys of a dict are sorted.
    assert names == ["a", "b[0, 0]", "b[0, 1]", "b[1, 0]", "b[1, 1]", "c[0]", "c[1]"]
    assert_array_equal(found.values, [5, 1, 2, 3, 4, 7, 8])
    assert_array_equal(found.start, found.values)
    assert_array_equal(found.lower, [-INF, 0, 2, 0, 2, -INF, -INF])
    assert_array_equal(found.upper, [5, *[INF] * 6])
    assert_array_equal(found.fixed, [False] * 6 + [True])
    assert_array_equal(found.at_bound, [1, 0, 1, 0, 0, 0, 0])
    assert {part.shape for part in found} == {(7,)}
    assert found.fixed.dtype == bool
    assert found.at_bound.dtype == bool


@pytest.mark.parametrize("join", [True, False])
def test_one_scalar(join):
    found, names = read({"a": Parameter("a", 2.0, lower=1.0)}, join=join)
    assert names == ["a"]
    assert_array_equal(found.values, [2.0])
    assert_array_equal(found.lower, [1.0])
    assert_array_equal(found.fixed, [False])


@pytest.mark.parametrize("join", [True, False])
def test_empty_and_one_entry_arrays(join):
    state = {"a": Parameter("a", np.zeros((1, 1))), "b": Parameter("b", np.zeros(0))}
    found, names = read(state | {"c": Parameter("c", 3.0)}, join=join)
    assert names == ["a[0, 0]", "c"]
    assert_array_equal(found.values, [0.0, 3.0])


@pytest.mark.parametrize("join", [True, False])
def test_masks_without_and_with(join):
    array = np.arange(3.0)
    for free, fixed in (
        (True, [0, 0, 0]),
        (np.array([True, True, True]), [0, 0, 0]),
        (np.array([False, True, False]), [1, 0, 1]),
    ):
        state = {"w": Parameter("w", array, free=free), "z": Parameter("z", 1.0)}
        found, _ = read(state, join=join)
        assert_array_equal(found.fixed, [*fixed, 0])


def test_values_are_the_users():
    # Not those of the space that the optimiser steps in.
    state = {
        "log": Parameter("log", 3.0, lower=1.0, transform="log"),
        "logit": Parameter("logit", 0.25, transform="logit"),
        "scaled": Parameter("scaled", 50.0, upper=100.0, scale=10.0),
        "prior": Parameter("prior", 0.5, prior=priors.Beta(2.0, 2.0)),
    }
    found, names = read(state)
    assert names == sorted(state) == ["log", "logit", "prior", "scaled"]
    assert_array_equal(found.values, [3, 0.25, 0.5, 50])
    # A prior's support is a bound, a transform's range is none.
    assert_array_equal(found.lower, [1, -INF, 0, -INF])
    assert_array_equal(found.upper, [INF, INF, 1, 100])


def test_start_stays():
    state = {"a": Parameter("a", 1.0), "b": Parameter("b", np.array([2.0, 3.0]))}
    found, _ = read(state, np.array([4.0, 5.0, 6.0]))
    assert_array_equal(found.values, [4, 5, 6])
    assert_array_equal(found.start, [1, 2, 3])


def test_single_precision():
    state = {"a": Parameter("a", np.float32(0.1), upper=0.1)}
    found, _ = read(state)
    assert found.values.dtype == np.float32
    # The bound is rounded as the value is.
    assert_array_equal(found.at_bound, [True])


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.booleans()), min_size=1
    )
)
def test_at_bound(parts):
    values, fixed = (np.array(part) for part in zip(*parts, strict=True))
    ends = -np.ones(len(parts)), np.ones(len(parts))
    found = Entries(values, values, *ends, fixed)
    assert_array_equal(found.at_bound, (np.abs(values) == 1) & ~fixed)


def test_arrays_of_jax():
    state = {"a": Parameter("a", 1.0), "b": Parameter("b", np.array([2.0, 3.0]))}
    with jax.enable_x64(True):
        found, _ = read(state, jnp.array([1.0, 2.0, 3.0]))
    assert all(type(part) is np.ndarray for part in found)
