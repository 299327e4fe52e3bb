"""The bijections as laws: round trips, slopes, ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skoptax._transforms import (
    Identity,
    Log,
    Logit,
    Pair,
    check_range,
    resolve_transform,
)
from skoptax.exceptions import InvalidParameterError

CUBE = Pair(lambda u: u**3, jnp.cbrt)

# Each with its formula in NumPy, its slope, and the values it is tried on.
CASES = {
    "identity": (Identity(), lambda u: u, lambda u: 1.0, st.floats(-1e300, 1e300)),
    "log": (Log(), np.exp, np.exp, st.floats(1e-300, 1e300)),
    "logit": (
        Logit(),
        lambda u: 1 / (1 + np.exp(-u)),
        lambda u: np.exp(-u) / (1 + np.exp(-u)) ** 2,
        st.floats(1e-12, 1 - 1e-12),
    ),
    "pair": (CUBE, lambda u: u**3, lambda u: 3 * u**2, st.floats(-1e90, 1e90)),
}


def double(function, *arguments):
    with jax.enable_x64(True):
        return np.asarray(function(*(jnp.asarray(a, float) for a in arguments)))


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
def test_there_and_back(name, data):
    transform, _, _, values = CASES[name]
    value = data.draw(values)
    inner = double(transform.from_user, value)
    back = double(transform.to_user, inner)
    # A logarithm's rounding error is relative to itself, the value's to 1; and XLA
    # takes numbers below 2.2e-308 for 0.
    digits = max(10.0, abs(np.log(abs(value) + 1e-300)))
    assert_allclose(back, value, rtol=1e-15 * digits, atol=1e-300)


@pytest.mark.parametrize("name", CASES)
@given(inner=st.floats(-12.0, 12.0))
def test_formula_and_slope(name, inner):
    transform, formula, slope, _ = CASES[name]
    assert_allclose(double(transform.to_user, inner), formula(inner), rtol=1e-13)
    assert_allclose(
        double(jax.grad(transform.to_user), inner),
        slope(inner),
        rtol=1e-11,
        atol=1e-300,
    )
    step = 1e-5
    numeric = (formula(inner + step) - formula(inner - step)) / (2 * step)
    assert_allclose(slope(inner), numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("transform", [Log(), Logit()])
@given(inner=st.floats(-1e5, 1e5))
def test_values_stay_in_the_range(transform, inner):
    low, high = transform.range
    value = double(transform.to_user, inner)
    assert low <= value <= high
    assert np.isfinite(double(jax.grad(transform.to_user), min(inner, 700.0)))


def test_the_ends_of_the_ranges():
    assert double(Log().from_user, 0.0) == -np.inf
    assert double(Logit().from_user, 0.0) == -np.inf
    assert double(Logit().from_user, 1.0) == np.inf
    # Close to 0 nothing is lost.
    assert_allclose(double(Logit().from_user, 1e-200), np.log(1e-200), rtol=1e-14)


def test_names_and_pairs():
    assert resolve_transform(None, "p") == Identity()
    assert resolve_transform("log", "p") == Log()
    assert resolve_transform("logit", "p") == Logit()
    assert resolve_transform((jnp.exp, jnp.log), "p") == Pair(jnp.exp, jnp.log)
    assert resolve_transform([jnp.exp, jnp.log], "p") == Pair(jnp.exp, jnp.log)
    assert resolve_transform(CUBE, "p") is CUBE


def test_equal_transforms_are_equal():
    for one, other in ((Log(), Log()), (Pair(abs, abs), Pair(abs, abs))):
        assert one == other
        assert hash(one) == hash(other)
    assert Log() != Logit()
    assert Pair(jnp.exp, jnp.log) != Pair(jnp.log, jnp.exp)


@pytest.mark.parametrize(
    "junk", ["lgo", 3, (jnp.exp,), (jnp.exp, jnp.log, jnp.sin), ("log", "exp"), jnp.exp]
)
def test_what_is_no_transform(junk):
    with pytest.raises(
        InvalidParameterError, match=r"'transform'.*'log', 'logit'"
    ) as e:
        resolve_transform(junk, "parameter 'p'")
    assert ("Did you mean 'log'?" in str(e.value)) == (junk == "lgo")


@pytest.mark.parametrize(
    ("transform", "lower", "upper", "value", "word"),
    [
        (Log(), -1.0, np.inf, 1.0, "bounds"),
        (Log(), -np.inf, -1.0, 1.0, "bounds"),
        (Log(), -np.inf, 0.0, 1.0, "bounds"),
        (Logit(), -0.1, np.inf, 0.5, "bounds"),
        (Logit(), 0.1, 1.5, 0.5, "bounds"),
        (Logit(), 1.0, np.inf, 0.5, "bounds"),
        (Log(), 0.0, np.inf, 0.0, "start"),
        (Log(), 0.0, np.inf, np.array([1.0, -1.0]), "start"),
        (Logit(), 0.0, 1.0, 1.0, "start"),
        (Logit(), -np.inf, np.inf, 1.5, "start"),
    ],
)
def test_bounds_and_starts_that_contradict(transform, lower, upper, value, word):
    with pytest.raises(InvalidParameterError, match=f"The {word}.*parameter 'p'"):
        check_range(
            transform,
            np.array(lower),
            np.array(upper),
            np.array(value),
            "parameter 'p'",
        )


@pytest.mark.parametrize(
    ("transform", "lower", "upper", "value"),
    [
        (Log(), 0.0, np.inf, 1e-300),
        (Log(), 0.1, 2.0, 0.1),
        (Logit(), 0.0, 1.0, 0.5),
        (Logit(), 0.2, 0.3, 0.3),
        (Identity(), -1.0, 1.0, 0.0),
    ],
)
def test_bounds_and_starts_that_agree(transform, lower, upper, value):
    check_range(transform, np.array(lower), np.array(upper), np.array(value), "p")
