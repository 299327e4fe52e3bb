"""The lowest point of a quadratic model within a distance, beside SciPy's roots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skoptax.optimizers._trust_region import damped, factorised, lowest_within


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def problem(p, seed, spread):
    """Return a triangle whose singular values are spread over so many decades."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(p, p)))[0] for _ in range(2))
    values = np.logspace(0, -spread, p)
    root = np.linalg.qr(left * values @ right, mode="r")
    return root, root.T @ rng.normal(size=p)


def length(root, gradient, damping):
    p = len(gradient)
    return np.linalg.norm(
        np.linalg.solve(root.T @ root + damping * np.eye(p), gradient)
    )


@pytest.mark.parametrize("p", [1, 3, 16, 17, 40])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(1e-6, 0.8))
def test_a_step_cut_short_is_as_long_as_the_radius(p, seed, share):
    root, gradient = problem(p, seed, 2)
    radius = share * length(root, gradient, 0.0)
    found = lowest_within(factorised(jnp.asarray(root), 1.0, 0.0), gradient, radius)
    assert not found.is_whole
    assert radius * (1 - 1e-6) <= found.length <= 1.1 * radius
    assert_allclose(found.length, np.linalg.norm(found.step), rtol=1e-12)
    # It is the lowest point within its own length: the damping is that of a root.
    most = np.linalg.norm(gradient) / found.length
    damping = scipy.optimize.brentq(
        lambda x: 1 / length(root, gradient, x) - 1 / found.length,
        0.0,
        most,
        xtol=1e-14 * most,
    )
    assert_allclose(found.damping, damping, rtol=1e-6)
    step = -np.linalg.solve(root.T @ root + damping * np.eye(p), gradient)
    assert_allclose(found.step, step, rtol=1e-5, atol=1e-8 * radius)


@pytest.mark.parametrize("p", [1, 3, 16, 17, 40])
def test_a_step_that_is_short_enough_is_whole(p):
    root, gradient = problem(p, 0, 2)
    best = -np.linalg.solve(root, np.linalg.solve(root.T, gradient))
    found = lowest_within(
        factorised(jnp.asarray(root), 1.0, 0.0), gradient, np.linalg.norm(best) * 1.01
    )
    assert found.is_whole
    # For many columns 4 p eps is the least damping.
    assert_allclose(found.step, best, rtol=1e-9 if p <= 16 else 1e-6)


def test_directions_that_are_rounding_error_are_left_out():
    rng = np.random.default_rng(1)
    columns = rng.normal(size=(8, 2))
    root = np.linalg.qr(np.c_[columns, columns.sum(axis=1)], mode="r")
    gradient = root.T @ rng.normal(size=3)
    found = lowest_within(factorised(jnp.asarray(root), 1.0, 0.0), gradient, 1e9)
    # Of all lowest points, the nearest.
    best = -np.linalg.pinv(root.T @ root, rcond=1e-12) @ gradient
    assert found.is_whole
    assert_allclose(found.step, best, rtol=1e-9)


@pytest.mark.parametrize("p", [3, 20])
def test_nothing_to_gain_is_a_step_of_nothing(p):
    root, _ = problem(p, 2, 1)
    found = lowest_within(factorised(jnp.asarray(root), 1.0, 0.0), np.zeros(p), 1.0)
    assert found.is_whole
    assert not np.any(found.step)


@pytest.mark.parametrize("p", [3, 20])
def test_single_precision_does_not_overflow(p):
    with jax.enable_x64(False):
        root, gradient = problem(p, 3, 6)
        root, gradient = (jnp.asarray(x, jnp.float32) for x in (root, 1e6 * gradient))
        found = lowest_within(factorised(root, 1.0, 0.0), gradient, jnp.float32(1e-3))
        assert found.step.dtype == jnp.float32
        assert 0.99e-3 <= found.length <= 1.11e-3


def test_damped_solves_the_damped_equations():
    root, gradient = problem(5, 4, 4)
    for p in (root, np.kron(np.eye(4), root)):
        right = np.tile(gradient, len(p) // 5)
        found = damped(factorised(jnp.asarray(p), 1.0, 0.0), 0.3, right)
        best = -np.linalg.solve(p.T @ p + 0.3 * np.eye(len(p)), right)
        assert_allclose(found, best, rtol=1e-10)
