"""Fits of piecewise linear losses: is what is left that of a linear program?"""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from skoptax import OptaxEstimator, Parameter
from skoptax._kinks import SMALL, remaining_share
from skoptax.exceptions import ConvergenceWarning
from skoptax.losses import Huber, Quantile


def linear(X, c):
    return X @ c


def lowest_mean(A, y, quantile, weights=None, bounds=(None, None)):
    """Return the lowest mean pinball loss, by the program as textbooks have it."""
    n, p = A.shape
    weights = np.ones(n) if weights is None else weights
    costs = np.concatenate(
        [np.zeros(p), quantile * weights, (1 - quantile) * weights]
    ) / np.sum(weights)
    found = linprog(
        costs,
        A_eq=np.hstack([A, np.eye(n), -np.eye(n)]),
        b_eq=y,
        bounds=[bounds] * p + [(0, None)] * (2 * n),
    )
    assert found.status == 0
    return found.fun


def pinball(residuals, quantile, weights=None):
    each = np.maximum(quantile * residuals, (quantile - 1) * residuals)
    return np.average(each, weights=weights)


def polynomial(degree, seed):
    """Return a matrix and heavy-tailed responses that LAD has a hard time with."""
    rng = np.random.default_rng([degree, seed])
    n = 10 * degree + 20
    A = np.vander(np.linspace(-1.0, 1.0, n), degree)
    return A, A @ rng.normal(size=degree) + rng.standard_t(2, size=n)


@pytest.mark.parametrize("quantile", [0.5, 0.1, 0.9])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reach", [100.0, 0.05])
def test_what_is_left_is_that_of_the_textbooks_program(quantile, weighted, reach):
    rng = np.random.default_rng(7)
    J, residuals = rng.normal(size=(60, 4)), rng.standard_t(2, size=60) + 0.3
    J *= [0.1, 1.0, 10.0, 1.0]  # parameters of different size
    weights = rng.uniform(0.0, 1e4, size=60) if weighted else np.ones(60)
    weights[:5] = 0.0
    ends = np.full(4, -reach), np.full(4, reach)
    left = remaining_share(J.T, residuals, weights, quantile, ends)
    lowest = lowest_mean(J, residuals, quantile, weights, (-reach, reach))
    now = pinball(residuals, quantile, weights)
    assert_allclose(left, 1 - lowest / now, rtol=1e-6)
    assert left > 0.001


def test_nothing_is_left_at_a_median():
    y = np.array([3.0, 1.0, 7.0, 2.0, 9.0])
    ends = np.array([-10.0]), np.array([10.0])
    ones = np.ones((1, 5))
    assert remaining_share(ones, y - 3.0, np.ones(5), 0.5, ends) == 0.0
    # From 4 the sum of |y - c| is 14, at 3 it is 13.
    left = remaining_share(ones, y - 4.0, np.ones(5), 0.5, ends)
    assert_allclose(left, 1 / 14)


def test_what_cannot_be_solved_is_not_known():
    ends = np.array([-1.0]), np.array([1.0])
    for residuals in (np.zeros(3), np.array([1.0, np.nan, 2.0])):
        assert (
            remaining_share(np.ones((1, 3)), residuals, np.ones(3), 0.5, ends) is None
        )


@pytest.mark.optimised
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_a_fit_above_the_optimum_warns_and_the_advice_helps(quantile):
    A, y = polynomial(11, 2)
    lowest = lowest_mean(A, y, quantile)
    start = np.zeros(11)
    loss = Quantile(quantile) if quantile != 0.5 else "absolute_error"
    with pytest.warns(ConvergenceWarning, match="could still fall by") as told:
        fit = OptaxEstimator(linear, {"c": start}, loss=loss).fit(A, y)
    message = str(told[0].message)
    residuals = y - A @ fit.params_["c"]
    left = 1 - lowest / pinball(residuals, quantile)
    assert left > SMALL
    said = float(message.partition("fall by ")[2].split()[0])
    # What is in reach, which need not be all.
    assert SMALL < said <= left * 1.05
    assert "QuantileRegressor" in message
    d = 0.01 * np.median(np.abs(residuals))
    if quantile == 0.5:
        assert "Fit Huber(delta)" in message
        smooth = OptaxEstimator(linear, {"c": start}, loss=Huber(d))
    else:
        assert "optimizer='lm'" in message

        def without_kinks(y, prediction):
            r = y - prediction
            return (quantile - 0.5) * r + 0.5 * jnp.sqrt(r**2 + d**2)

        smooth = OptaxEstimator(
            linear, {"c": start}, loss=without_kinks, optimizer="lm"
        )
    start = smooth.fit(A, y).params_["c"]
    again = OptaxEstimator(linear, {"c": start}, loss=loss).fit(A, y)  # silent
    assert 1 - lowest / pinball(y - A @ again.params_["c"], quantile) < SMALL


@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_at_the_optimum_is_silent(weighted):
    A, y = polynomial(3, 0)
    weights = np.arange(len(y)) % 3.0 if weighted else None
    fit = OptaxEstimator(linear, {"c": np.zeros(3)}, loss="absolute_error")
    fit.fit(A, y, weights)
    assert fit.status_ == "stalled"
    found = 2 * pinball(y - A @ fit.params_["c"], 0.5, weights)
    assert_allclose(found, 2 * lowest_mean(A, y, 0.5, weights), rtol=1e-6)


def test_an_optimum_on_a_bound_is_silent():
    A, y = polynomial(3, 0)
    spec = {"c": Parameter(value=np.full(3, 0.5), lower=0.4, upper=2.0)}
    fit = OptaxEstimator(linear, spec, loss="absolute_error").fit(A, y)
    assert fit.at_bound_["c"].any()
    found = 2 * pinball(y - A @ fit.params_["c"], 0.5)
    assert_allclose(found, 2 * lowest_mean(A, y, 0.5, None, (0.4, 2.0)), rtol=1e-6)


def test_an_optimum_with_fixed_entries_is_silent():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = X @ [0.7, -1.0, 2.0] + rng.standard_cauchy(40)
    free = np.array([True, False, True])
    held = Parameter(value=np.where(free, 0.0, 1.5), free=free)  # far from the optimum
    fit = OptaxEstimator(linear, {"c": held}, loss="absolute_error").fit(X, y)
    assert fit.status_ == "stalled"
    found = 2 * pinball(y - X @ fit.params_["c"], 0.5)
    lowest = lowest_mean(X[:, free], y - 1.5 * X[:, 1], 0.5)
    assert_allclose(found, 2 * lowest, rtol=SMALL)


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_curve_with_a_transform_and_exact_data_are_silent(mode):
    def decay(t, amplitude, rate):
        return amplitude * jnp.exp(-rate * t)

    t = np.linspace(0.0, 3.0, 40)
    noise = 0.05 * np.random.default_rng(1).standard_t(2, size=40)
    spec = {"amplitude": 2.0, "rate": Parameter(value=1.0, transform="log")}
    for errors in (noise, 0.0):
        y = 2.5 * np.exp(-1.3 * t) + errors
        fit = OptaxEstimator(decay, spec, loss="absolute_error", mode=mode)
        fit.fit(t[:, None], y)
        assert_allclose(fit.params_["rate"], 1.3, atol=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "max_steps": 20},  # it has no tolerance
        {"penalty": lambda params: 1e-9 * jnp.sum(params["c"] ** 2)},
        {"early_stopping": True, "random_state": 0},
    ],
)
def test_where_it_is_not_looked_at(settings):
    A, y = polynomial(11, 2)
    fit = OptaxEstimator(linear, {"c": np.zeros(11)}, loss="absolute_error", **settings)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit.fit(A, y)
    assert not any("kinks" in str(w.message) for w in told)
