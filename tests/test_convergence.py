"""The rule of convergence, against NumPy and on fits that could deceive it."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import Lasso

from skoptax import OptaxEstimator, Parameter
from skoptax._assessment import (
    CONVERGED,
    OFF,
    RUNNING,
    Best,
    Control,
    Counts,
    Look,
    assess,
)
from skoptax._convergence import Progress, has_converged, measure
from skoptax.exceptions import ConvergenceWarning
from skoptax.penalties import L1


class Past(NamedTuple):
    """What of the loop's state a step is compared with."""

    counts: Any
    best: Any
    now: Any
    start: Any


vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(np.array)


@given(
    x=vectors,
    g=vectors,
    step=vectors,
    value=st.floats(1e-3, 100) | st.floats(-100, -1e-3),
    unit=st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_measures_in_numpy(x, g, step, value, unit):
    def tree(values):
        return {"a": jnp.asarray(values[:2]), "b": jnp.asarray(values[2])}

    with jax.enable_x64(True):
        found = measure(
            tree(x),
            tree(g * unit),
            tree(x - step),
            jnp.asarray(value * unit),
            jnp.asarray(True),
        )
    assert_allclose(found.norm, unit * np.linalg.norm(g), rtol=1e-12, atol=1e-300)
    with jax.enable_x64(True):
        optimality, sensitivity = found.optimality, found.sensitivity
    # The units of the loss make no difference.
    size = np.maximum(np.abs(x), 1.0)
    expected = np.max(np.abs(g) * size) / abs(value)
    assert_allclose(optimality, expected, rtol=1e-12, atol=1e-270)
    assert_allclose(
        sensitivity, np.max(np.abs(g * x)) / abs(value), rtol=1e-12, atol=1e-270
    )
    moved = np.max(np.abs(x - (x - step)) / size)
    assert_allclose(found.moved, moved, rtol=1e-12, atol=1e-270)


def test_before_any_step_nothing_rests():
    one = jnp.ones(())
    now = measure(one, one, one, one, jnp.asarray(False))
    assert np.isinf(now.moved)


def progress(value, norm, optimality, sensitivity, moved):
    size = abs(value)
    return Progress(value, norm, optimality * size, sensitivity * size, moved)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        # The gradient is too large, or the state still moves.
        ({"optimality": 2e-10}, False),
        ({"moved": 2e-5}, False),
        ({"moved": np.inf}, False),
        # Exactly zero is zero, whatever else.
        ({"norm": 0.0, "moved": np.inf, "optimality": 9.0}, True),
        # A loss that vanishes has a large relative gradient.
        ({"value": 1e-21, "optimality": 1e12, "sensitivity": 1e11}, True),
        # Each of its conditions counts.
        ({"value": 1e-19, "optimality": 1e12, "sensitivity": 1e11}, False),
        ({"value": -1e-21, "optimality": 1e12, "sensitivity": 1e11}, False),
        ({"value": 1e-21, "optimality": 1e12, "sensitivity": 1e9}, False),
        (
            {"value": 1e-21, "optimality": 1e12, "sensitivity": 1e11, "norm": 1e-4},
            False,
        ),
    ],
)
def test_rule(changes, expected):
    given = {"value": 0.5, "norm": 1e-9, "optimality": 1e-11, "sensitivity": 0.0}
    now = progress(**given | {"moved": 1e-6} | changes)
    start = progress(value=1.0, norm=1.0, optimality=1.0, sensitivity=1.0, moved=np.inf)
    assert bool(has_converged(now, start, 1e-10)) is expected
    # A gradient that was as small at the start says nothing.
    now = progress(**given, moved=1e-6)
    start = progress(0.5, 1.0, 1e-11, 1.0, np.inf)
    assert bool(has_converged(now, start, 1e-10)) is False


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


def fit(y, **start):
    t = np.linspace(0.0, 3.0, 40)
    estimator = OptaxEstimator(decay, start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(t[:, None], y)


def data():
    noise = 0.05 * np.random.default_rng(0).normal(size=40)
    return 2.5 * np.exp(-1.3 * np.linspace(0.0, 3.0, 40)) + noise


@pytest.mark.parametrize("unit", [1e-12, 1e-8, 1e-4, 1e4, 1e8, 1e12])
def test_converged_is_true_in_any_unit(unit):
    # From a start that knows nothing of the unit, it may fail, but must say so.
    right = fit(data(), amplitude=2.0, rate=1.0).params_
    found = fit(data() * unit, amplitude=1.0, rate=0.5)
    if found.converged_:
        assert_allclose(found.params_["rate"], right["rate"], rtol=1e-6)
        assert_allclose(
            found.params_["amplitude"], right["amplitude"] * unit, rtol=1e-6
        )


@pytest.mark.parametrize("unit", [1e-6, 1e-4, 1e4, 1e12])
def test_a_scale_makes_units_irrelevant(unit):
    right = fit(data(), amplitude=2.0, rate=1.0)
    amplitude = Parameter(value=2.0 * unit, scale="value")
    found = fit(data() * unit, amplitude=amplitude, rate=1.0)
    assert found.converged_
    assert_allclose(found.params_["rate"], right.params_["rate"], rtol=1e-9)
    assert_allclose(
        found.params_["amplitude"], right.params_["amplitude"] * unit, rtol=1e-9
    )


def test_a_fit_without_residuals_converges():
    exact = 2.5 * np.exp(-1.3 * np.linspace(0.0, 3.0, 40))
    found = fit(exact, amplitude=1.0, rate=0.5)
    assert found.converged_, found.message_
    assert_allclose([*found.params_.values()], [2.5, 1.3], rtol=1e-10)


def test_a_start_at_the_exact_answer_gives_no_warning():
    t = np.linspace(0.0, 3.0, 40)
    estimator = OptaxEstimator(decay, {"amplitude": 2.5, "rate": 1.3})
    # Warnings are errors in these tests.
    estimator.fit(t[:, None], 2.5 * np.exp(-1.3 * t))
    assert_allclose([*estimator.params_.values()], [2.5, 1.3], rtol=1e-12)


def test_a_gradient_that_is_small_from_the_start_proves_nothing():
    t = np.linspace(0.0, 3.0, 40)
    y = 3.0 * t + 0.1 * np.random.default_rng(1).normal(size=40)
    estimator = OptaxEstimator(
        lambda t, a: a * 1e-12 * t, {"a": 1.0}, optimizer="lbfgs"
    )
    with pytest.warns(ConvergenceWarning, match="already at the start"):
        estimator.fit(t[:, None], y)
    assert not estimator.converged_


def test_a_result_that_is_fitted_again_is_said_to_be_below_the_tolerance():
    X = np.linspace(0.0, 3.0, 40)[:, None]
    start = {"amplitude": 2.0, "rate": 1.0}
    found = OptaxEstimator(decay, start, optimizer="lbfgs").fit(X, data())
    again = OptaxEstimator(decay, found.params_, optimizer="lbfgs")
    with pytest.warns(ConvergenceWarning, match="a fit's result that is fitted again"):
        again.fit(X, data())
    assert again.status_ == "stalled"
    assert "below the tolerance" in again.message_
    assert "above" not in again.message_
    assert_allclose([*again.params_.values()], [*found.params_.values()], rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-15, 1e-9, 1e9])
def test_a_scale_fits_small_responses(unit):
    right = fit(data(), amplitude=2.0, rate=1.0).params_
    amplitude = Parameter(value=unit, scale="value")
    found = fit(data() * unit, amplitude=amplitude, rate=1.0)
    assert_allclose(found.params_["rate"], right["rate"], rtol=1e-7)


# Some end an ulp of the loss away from the optimum, and say so.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_convex_boxes():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(60, 8)) * 10 ** rng.uniform(-1, 1, 8)
        b = A @ rng.normal(size=8) + 0.1 * rng.normal(size=60)
        w = Parameter(value=np.zeros(8), lower=-0.5, upper=0.5)
        found = OptaxEstimator(lambda X, w: X @ w, {"w": w}).fit(A, b)
        best = scipy.optimize.lsq_linear(A, b, (-0.5, 0.5), tol=1e-14)
        assert_allclose(found.loss_, best.cost / 60, rtol=1e-9)


def test_levenberg_marquardt_where_gauss_and_newton_diverge():
    # At the optimum, b = 1, the second derivative is 3 times as large as theirs.
    def model(x, b):
        return 10.0 + (b - 1.0) - 2.0 * x * (b - 1.0) ** 2

    estimator = OptaxEstimator(model, {"b": 1.5}, optimizer="lm")
    estimator.fit(np.array([[0.0], [1.0]]), np.array([9.0, 11.0]))
    assert estimator.converged_
    assert_allclose(estimator.params_["b"], 1.0, rtol=1e-11)


def test_a_kink_of_the_penalty_is_no_failure():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = X @ [1.0, 0.0, 0.0, 2.0] + 0.1 * rng.normal(size=60)
    # An error, as every warning here, if it were one.
    estimator = OptaxEstimator(penalty=L1(0.2, params=["coef"])).fit(X, y)
    lasso = Lasso(alpha=0.2, tol=1e-12).fit(X, y)
    assert np.count_nonzero(lasso.coef_) == 2
    assert estimator.status_ == "stalled"
    # Line searches end close to a kink, not on it.
    assert_allclose(estimator.params_["coef"], lasso.coef_, atol=1e-4)
    half_squares = 0.5 * np.mean((lasso.predict(X) - y) ** 2)
    least = half_squares + 0.2 * np.abs(lasso.coef_).sum()
    assert_allclose(estimator.loss_, least, rtol=1e-8)


@pytest.mark.parametrize(("noise", "expected"), [(0.01, CONVERGED), (0.001, RUNNING)])
def test_above_the_best_by_no_more_than_rounding_is_as_good(noise, expected):
    # A fit whose residuals are rounding ends 0.5 % above its best, no gradient left.
    with jax.enable_x64(True):
        best = Best(lowest=1e-27, selected=1e-27, value=1e-27, optimality=0.0)
        counts = Counts(20, 0, RUNNING, 15, 15, 15, 0)
        now = Progress(1.005e-27, 0.0, 0.0, 0.0, 0.0)
        carry = Past(
            jnp.array(counts), jnp.array(best), jnp.array(now), jnp.ones(len(now))
        )
        control = Control(False, False, 100, 0, OFF, 25, 0, 0, 0, 1e-12)
        look = Look(0.0, 0.0, noise * now.value, failed=False)
        verdict = assess(
            jnp.asarray(now.value),
            [jnp.zeros(2)],
            now,
            jnp.asarray(21),
            counts,
            carry,
            control,
            True,
            look,
        )
        assert Counts(*verdict.counts).status == expected
