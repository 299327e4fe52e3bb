"""The pure parts of the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skoptax._assessment import all_finite
from skoptax._evaluation import differentiable_forward, value_and_grad

vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(np.array)


def objective(tree, y):
    value = jnp.sum(jnp.sin(tree["a"]) * y) + tree["b"] ** 3
    return value, {"seen": tree["b"] * y}


@given(a=vectors, b=st.floats(-3, 3), y=vectors)
def test_forward_is_reverse(a, b, y):
    with jax.enable_x64(True):
        tree = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
        for mode in ("rev", "fwd"):
            (value, aux), gradient = value_and_grad(objective, mode)(tree, y)
            assert_allclose(value, np.sin(a) @ y + b**3, rtol=1e-12, atol=1e-12)
            assert_allclose(aux["seen"], b * y, atol=1e-300)
            assert_allclose(gradient["a"], np.cos(a) * y, rtol=1e-12, atol=1e-15)
            assert_allclose(gradient["b"], 3 * b**2, rtol=1e-12, atol=1e-300)


def test_types_of_a_mixed_tree_are_kept():
    with jax.enable_x64(True):
        tree = {"a": jnp.ones(2, jnp.float32), "b": jnp.asarray(2.0, jnp.float64)}
        for mode in ("rev", "fwd"):
            _, gradient = value_and_grad(objective, mode)(tree, np.ones(2))
            assert gradient["a"].dtype == jnp.float32
            assert gradient["b"].dtype == jnp.float64


def test_a_forward_function_differentiates_in_reverse():
    def looped(x):
        return jax.lax.while_loop(lambda c: c < 10.0, lambda c: 2 * c, jnp.sum(x**2))

    with pytest.raises(ValueError, match="Reverse-mode"):
        jax.grad(looped)(jnp.array([1.0, 1.0]))
    value, gradient = jax.value_and_grad(differentiable_forward(looped))(
        jnp.array([1.0, 1.0])
    )
    assert value == 16.0
    assert_allclose(gradient, [16.0, 16.0])
    scaled = jax.grad(lambda x: 3.0 * differentiable_forward(looped)(x))
    assert_allclose(scaled(jnp.array([1.0, 1.0])), [48.0, 48.0])


@pytest.mark.parametrize("n", [3, 5000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_shows(n, bad):
    x = jnp.ones(n)
    check = jax.jit(all_finite)
    assert check({"a": x, "b": -x})
    for at in (0, n // 2, n - 1):
        assert not check({"a": x, "b": x.at[at].set(bad)})
