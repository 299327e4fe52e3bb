"""`OptaxEstimator` against closed forms, other libraries and independent loops."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import scipy.optimize
from sklearn.base import clone
from sklearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skoptax import OptaxEstimator, Parameter
from skoptax.callbacks import Callback, Save, SaveLoss
from skoptax.exceptions import (
    ConvergenceWarning,
    ModelError,
    NonFiniteWarning,
    NotFittedError,
)
from skoptax.losses import Huber, Quantile
from skoptax.penalties import L2
from skoptax.priors import Normal

ROOT = Path(__file__).parents[1]
N = 30
T = np.linspace(0.1, 3.0, N)
X = T[:, None]
Y = 2.5 * np.exp(-1.3 * T) + 0.3 + np.random.default_rng(0).normal(0, 0.05, N)


def decay(t, amplitude, rate, offset=0.0):
    return amplitude * jnp.exp(-rate * t) + offset


def np_decay(t, amplitude, rate, offset=0.0):
    return amplitude * np.exp(-rate * t) + offset


START = {"amplitude": 1.0, "rate": 0.5, "offset": 0.0}


def make(params=START, **settings):
    return OptaxEstimator(decay, params, **settings)


def adam(params=START, **settings):
    """An estimator whose path is short and never ends early."""
    settings = {"optimizer": "adam", "learning_rate": 0.05, "max_steps": 40} | settings
    return OptaxEstimator(decay, params, **settings)


@pytest.fixture(scope="module")
def optimum():
    """The least-squares optimum, by SciPy."""
    best = scipy.optimize.least_squares(
        lambda p: np_decay(T, *p) - Y,
        [1.0, 0.5, 0.0],
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
    ).x
    return dict(zip(START, best, strict=True))


def assert_params(found, expected, rtol=1e-7):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, err_msg=name)


# The path of the optimisation.


def adam_by_hand(start, steps, lr=0.05, b1=0.9, b2=0.999, eps=1e-8):
    """Adam on the mean half squared error of `decay`, in NumPy."""
    x = np.array(list(start.values()))
    m, v = np.zeros(3), np.zeros(3)
    rows = []
    for k in range(steps + 1):
        amplitude, rate, offset = x
        e = np.exp(-rate * T)
        r = amplitude * e + offset - Y
        g = np.array([np.mean(r * e), np.mean(-r * amplitude * T * e), np.mean(r)])
        rows.append([0.5 * np.mean(r**2), np.linalg.norm(g), *x])
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1 ** (k + 1)), v / (1 - b2 ** (k + 1))
        x = x - lr * m_hat / (np.sqrt(v_hat) + eps)
    return np.array(rows)


def test_history_is_the_path_of_the_optimisation():
    steps = 1500  # more than one block of the loop
    estimator = adam(max_steps=steps).fit(X, Y)
    history = estimator.history_
    assert history.index.name == "step"
    assert history.index.tolist() == list(range(steps + 1))
    assert pd.api.types.is_integer_dtype(history.index)
    names = ["loss", "grad_norm", "amplitude", "rate", "offset"]
    assert list(history.columns) == [*names[:2], "learning_rate", *names[2:]]
    expected = adam_by_hand(START, steps)
    np.testing.assert_allclose(history[names], expected, rtol=1e-9, atol=1e-11)
    assert np.isnan(history["learning_rate"][0])  # no update led to the start
    assert (history["learning_rate"][1:] == 0.05).all()
    assert estimator.n_iter_ == estimator.selected_step_ == steps
    assert estimator.status_ == "max_steps"
    assert not estimator.converged_
    last = history.loc[estimator.selected_step_]
    assert estimator.loss_ == last["loss"]
    assert estimator.params_ == last[list(START)].to_dict()
    assert all(type(v) is float for v in estimator.params_.values())


def test_no_steps_are_the_start():
    estimator = adam(max_steps=0).fit(X, Y)
    assert estimator.params_ == START
    assert len(estimator.history_) == 1
    assert estimator.n_iter_ == estimator.selected_step_ == 0
    np.testing.assert_allclose(estimator.loss_, adam_by_hand(START, 0)[0, 0])


def test_history_of_parameters_that_are_no_free_scalars():
    def curve(t, loss, fixed, twice, array):
        return loss * jnp.exp(-fixed * t) + twice + array[0] * t + array[1]

    params = {
        "loss": 1.0,
        "fixed": Parameter(value=0.5, free=False),
        "twice": Parameter(tie=lambda loss: 2.0 * loss),
        "array": np.zeros(2),
    }
    history = (
        OptaxEstimator(curve, params, optimizer="sgd", max_steps=3).fit(X, Y).history_
    )
    columns = ["loss", "grad_norm", "learning_rate", "params__loss", "fixed", "twice"]
    assert list(history.columns) == columns
    assert (history["fixed"] == 0.5).all()
    assert history["params__loss"].nunique() == 4
    np.testing.assert_array_equal(history["twice"], 2.0 * history["params__loss"])
    assert history["loss"].nunique() == 4


def test_the_best_row_is_selected_where_no_step_is_finite():
    def root(t, a):
        return jnp.sqrt(a) * t + jnp.where(a < 0.5, jnp.inf, 0.0)

    estimator = OptaxEstimator(
        root, {"a": 1.0}, optimizer="sgd", learning_rate=0.15, max_steps=900
    )
    with pytest.warns(NonFiniteWarning, match=r"not finite.*learning rate"):
        estimator.fit(X, -Y)
    history = estimator.history_
    assert estimator.status_ == "non_finite"
    assert estimator.n_iter_ == len(history) - 1 < 900
    selected = estimator.selected_step_
    finite = np.isfinite(history["loss"]) & np.isfinite(history["grad_norm"])
    assert selected == history["loss"][finite].idxmin() >= 1
    assert estimator.params_["a"] == history["a"][selected] > 0
    assert estimator.loss_ == history["loss"][selected]
    assert np.all(np.isfinite(estimator.predict(X)))


def test_a_schedule_shows_in_the_history():
    schedule = optax.exponential_decay(0.1, transition_steps=5, decay_rate=0.5)
    history = adam(learning_rate=schedule, max_steps=12).fit(X, Y).history_
    expected = [0.1 * 0.5 ** (k / 5) for k in range(12)]  # row k + 1: the rate of k
    np.testing.assert_allclose(history["learning_rate"][1:], expected, rtol=1e-6)
    fixed = adam(learning_rate=0.1, max_steps=12).fit(X, Y).history_
    # Optax computes an exponential in single precision.
    np.testing.assert_allclose(history["rate"][1], fixed["rate"][1], rtol=1e-7)
    assert abs(history["rate"][12] - fixed["rate"][12]) > 0.01


def test_a_finished_transformation_and_a_factory_do_what_the_name_does():
    settings = {"max_steps": 40}
    named = adam(**settings).fit(X, Y)
    factory = adam(optimizer=optax.adam, **settings).fit(X, Y)
    finished = adam(optimizer=optax.adam(0.05), learning_rate=None, **settings)
    finished.fit(X, Y)
    assert factory.params_ == named.params_
    assert_params(finished.params_, named.params_, rtol=1e-12)
    assert "learning_rate" in factory.history_


def test_lbfgs_converges_to_the_optimum_and_says_so(optimum):
    estimator = make().fit(X, Y)
    assert_params(estimator.params_, optimum)
    assert estimator.status_ == "converged"
    assert estimator.converged_
    assert estimator.message_.startswith(f"Converged after {estimator.n_iter_} steps")
    assert estimator.n_iter_ == len(estimator.history_) - 1 < 100
    np.testing.assert_allclose(
        estimator.predict(X), np_decay(T, **estimator.params_), rtol=1e-13
    )
    residual = np_decay(T, **optimum) - Y
    np.testing.assert_allclose(estimator.loss_, 0.5 * np.mean(residual**2))
    r2 = 1 - np.sum(residual**2) / np.sum((Y - Y.mean()) ** 2)
    np.testing.assert_allclose(estimator.score(X, Y), r2)


def test_too_few_steps_are_a_convergence_warning():
    with pytest.warns(ConvergenceWarning, match="raise max_steps"):
        estimator = make(max_steps=2).fit(X, Y)
    assert estimator.status_ == "max_steps"
    assert estimator.n_iter_ == 2


def test_patience_and_tolerance_end_a_run():
    loose = adam(max_steps=3000, tol=1e-2).fit(X, Y)
    assert loose.status_ == "converged"
    assert 0 < loose.n_iter_ < 3000
    # The loss stops falling where Adam's steps jump over the optimum.
    patient = adam(learning_rate=0.5, max_steps=3000, n_iter_no_change=7).fit(X, Y)
    assert patient.status_ == "no_improvement"
    best = patient.history_["loss"].cummin()
    assert best.iloc[-8] == best.iloc[-1] < best.iloc[-9]


# What is minimised.


@pytest.mark.parametrize("n", [5, 5000])
def test_map_is_the_posterior_mean_of_a_bayesian_linear_model(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 1))
    sigma = rng.uniform(0.5, 2.0, n)
    y = 1.0 - 2.0 * x[:, 0] + sigma * rng.normal(size=n)
    mean, sd = np.array([3.0, 1.0]), np.array([0.2, 0.5])
    params = {
        "intercept": Parameter(value=0.0, prior=Normal(mean[0], sd[0])),
        "slope": Parameter(value=0.0, prior=Normal(mean[1], sd[1])),
    }

    def line(x, intercept, slope):
        return intercept + slope * x

    estimator = OptaxEstimator(line, params)
    estimator.fit(x, y, sample_weight=1 / sigma**2)
    design = np.column_stack([np.ones(n), x]) / sigma[:, None]
    precision = design.T @ design + np.diag(1 / sd**2)
    expected = np.linalg.solve(precision, design.T @ (y / sigma) + mean / sd**2)
    assert_params(
        estimator.params_,
        {"intercept": expected[0], "slope": expected[1]},
        rtol=1e-8,
    )
    # The priors have not been swamped or ignored: least squares is elsewhere.
    plain = np.linalg.lstsq(design, y / sigma, rcond=None)[0]
    assert np.all(np.abs(plain - expected) > 1e-4 * np.abs(expected))


def test_a_weight_of_two_is_the_row_twice():
    weights = np.ones(N)
    weights[3] = 2.0
    weighted = adam().fit(X, Y, sample_weight=weights)
    doubled = adam().fit(np.r_[X, X[3:4]], np.r_[Y, Y[3]])
    assert_params(weighted.params_, doubled.params_, rtol=1e-10)
    np.testing.assert_allclose(weighted.loss_, doubled.loss_, rtol=1e-10)
    assert weighted.params_["rate"] != adam().fit(X, Y).params_["rate"]


def test_a_weight_of_zero_is_no_row():
    weights = np.ones(N)
    weights[[0, 7]] = 0.0
    y = Y.copy()
    y[[0, 7]] = 1e6
    weighted = adam().fit(X, y, sample_weight=weights)
    removed = adam().fit(np.delete(X, [0, 7], 0), np.delete(Y, [0, 7]))
    assert_params(weighted.params_, removed.params_, rtol=1e-10)
    np.testing.assert_allclose(weighted.loss_, removed.loss_, rtol=1e-10)


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(80, 3))
    mean = np.exp(0.5 * features @ [0.5, -0.3, 0.2] + 0.4)
    weights = rng.uniform(0.5, 2.0, 80)
    return features, mean, weights


def test_an_l2_penalty_is_ridge(regression):
    features, mean, _ = regression
    alpha = 0.3
    estimator = OptaxEstimator(penalty=L2(alpha=alpha, params=("coef",)))
    estimator.fit(features, mean)
    ridge = Ridge(alpha=alpha * len(mean), tol=1e-12).fit(features, mean)
    np.testing.assert_allclose(estimator.params_["coef"], ridge.coef_, rtol=1e-7)
    np.testing.assert_allclose(estimator.params_["intercept"], ridge.intercept_)
    # The same as a function, and by its nested name.
    by_hand = clone(estimator).set_params(
        penalty=lambda params: 0.5 * 0.3 * jnp.sum(params["coef"] ** 2)
    )
    np.testing.assert_allclose(
        by_hand.fit(features, mean).params_["coef"], ridge.coef_, rtol=1e-7
    )
    estimator.set_params(penalty__alpha=0.0).fit(features, mean)
    assert np.linalg.norm(estimator.params_["coef"]) > np.linalg.norm(ridge.coef_)


def log_linear(X, coef, intercept):
    return jnp.exp(X @ coef + intercept)


def logistic(X, coef, intercept):
    return jax.nn.sigmoid(X @ coef + intercept)


COEF = {"coef": Parameter(value=0.0, shape="n_features"), "intercept": 0.0}
GLMS = {
    "poisson": (log_linear, PoissonRegressor(alpha=0.0, tol=1e-9, max_iter=10000)),
    "gamma": (log_linear, GammaRegressor(alpha=0.0, tol=1e-9, max_iter=10000)),
    "log_loss": (logistic, LogisticRegression(C=1e12, tol=1e-9, max_iter=10000)),
}


@pytest.mark.parametrize("loss", GLMS)
def test_generalised_linear_models(loss, regression):
    features, mean, weights = regression
    rng = np.random.default_rng(4)
    y = {
        "poisson": rng.poisson(mean),
        "gamma": rng.gamma(2.0, mean / 2.0),
        "log_loss": rng.integers(0, 2, len(mean)),
    }[loss]
    model, oracle = GLMS[loss]
    estimator = OptaxEstimator(model, COEF, loss=loss)
    estimator.fit(features, y, sample_weight=weights)
    oracle = clone(oracle).fit(features, y, sample_weight=weights)
    # The oracles stop at a gradient of 1e-9.
    np.testing.assert_allclose(
        estimator.params_["coef"], np.ravel(oracle.coef_), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        estimator.params_["intercept"], oracle.intercept_, rtol=1e-5, atol=1e-7
    )


def huber(r, delta):
    inner = np.abs(r) <= delta
    return np.where(inner, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta))


OUTLIERS = Y + np.where(np.arange(N) % 7 == 3, 1.0, 0.0)


def fourth_power(y_true, y_pred):
    return (y_true - y_pred) ** 4


@pytest.mark.parametrize(
    ("loss", "oracle"),
    [
        (Huber(delta=0.1), lambda r: huber(r, 0.1)),
        ("huber", lambda r: huber(r, 1.35)),
        (fourth_power, lambda r: r**4),
    ],
    ids=["huber-0.1", "huber", "custom"],
)
def test_smooth_losses_against_scipy(loss, oracle):
    def objective(p):
        return np.mean(oracle(np_decay(T, *p) - OUTLIERS))

    estimator = make(loss=loss).fit(X, OUTLIERS)
    best = scipy.optimize.minimize(
        objective,
        list(estimator.params_.values()),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 10000, "maxfev": 10000},
    )
    np.testing.assert_allclose(estimator.loss_, best.fun, rtol=1e-9)
    np.testing.assert_allclose(
        list(estimator.params_.values()), best.x, rtol=1e-4, atol=1e-6
    )
    assert estimator.loss_ == pytest.approx(objective(list(estimator.params_.values())))


def test_quantile_loss_against_linear_programming(regression):
    features, mean, _ = regression
    oracle = QuantileRegressor(quantile=0.8, alpha=0.0).fit(features, mean)

    def pinball(prediction):
        r = mean - prediction
        return np.mean(np.maximum(0.8 * r, -0.2 * r))

    estimator = OptaxEstimator(
        loss=Quantile(quantile=0.8),
        optimizer="adam",
        learning_rate=optax.cosine_decay_schedule(0.1, 2000),
        max_steps=2000,
    ).fit(features, mean)
    best = pinball(oracle.predict(features))
    assert best * (1 - 1e-9) <= estimator.loss_ <= best * (1 + 1e-3)
    np.testing.assert_allclose(pinball(estimator.predict(features)), estimator.loss_)


def test_responses_of_several_outputs():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(40, 3))
    y = features @ rng.normal(size=(3, 2)) + [1.0, 2.0] + rng.normal(size=(40, 2))
    design = np.column_stack([features, np.ones(40)])
    expected = np.linalg.lstsq(design, y, rcond=None)[0]

    def scaled(X, W, b):
        return X @ W.T + b

    shape = ("n_outputs", "n_features")
    params = {
        "W": Parameter(value=0.0, shape=shape),
        "b": Parameter(value=0.0, shape=("n_outputs",)),
    }
    for estimator, turn in (
        (OptaxEstimator(), lambda p: (p["coef"], p["intercept"])),
        (OptaxEstimator(scaled, params), lambda p: (p["W"].T, p["b"])),
    ):
        estimator.fit(features, y)
        coef, intercept = turn(estimator.params_)
        np.testing.assert_allclose(coef, expected[:3], rtol=1e-7)
        np.testing.assert_allclose(intercept, expected[3], rtol=1e-7)
        np.testing.assert_allclose(estimator.predict(features), design @ expected)
        half_squares = 0.5 * np.sum((design @ expected - y) ** 2, axis=1)
        np.testing.assert_allclose(estimator.loss_, half_squares.mean())


# The spec of the parameters.


SPELLINGS = {
    "numbers": START,
    "integers and arrays": {
        "amplitude": 1,
        "rate": np.array(0.5),
        "offset": np.int64(0),
    },
    "parameters": {k: Parameter(value=v) for k, v in START.items()},
    "list": [Parameter(k, v) for k, v in START.items()],
    "loose bounds": {**START, "rate": Parameter(value=0.5, lower=0.0, upper=100.0)},
    "one bound": {**START, "offset": Parameter(value=0.0, lower=-1.0)},
    "log": {**START, "rate": Parameter(value=0.5, transform="log")},
    "logit": {**START, "offset": Parameter(value=0.1, transform="logit")},
    "pair": {**START, "amplitude": Parameter(value=1.0, transform=(jnp.exp, jnp.log))},
    "falling pair with a bound": {
        **START,
        "rate": Parameter(
            value=0.5, upper=50.0, transform=(jnp.reciprocal, jnp.reciprocal)
        ),
    },
    "scale": {**START, "rate": Parameter(value=0.5, scale=10.0)},
    "scale of the value": {
        **START,
        "rate": Parameter(value=0.5, scale="value", transform="log", upper=9.0),
    },
    "drawn": {
        **START,
        "rate": Parameter(value=lambda X, y, rng: rng.uniform(0.4, 0.6)),
    },
    "data-driven": {
        **START,
        "amplitude": Parameter(value=lambda X, y, rng: np.ptp(y)),
        "offset": Parameter(value=lambda X, y, rng: y.min()),
    },
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_the_spec_has_the_same_optimum(spelling, optimum):
    estimator = make(SPELLINGS[spelling], random_state=0).fit(X, Y)
    assert_params(estimator.params_, optimum, rtol=1e-6)
    assert np.all(np.isfinite(estimator.history_["loss"]))


def test_transforms_and_scales_change_the_path_as_they_say():
    """One step of gradient descent, by hand."""
    rate, lr = 0.5, 0.1

    def one_step(parameter):
        return (
            make({**START, "rate": parameter}, optimizer="sgd", learning_rate=lr)
            .set_params(max_steps=1)
            .fit(X, Y)
            .params_["rate"]
        )

    r = np_decay(T, **START) - Y
    slope = np.mean(-r * T * np.exp(-rate * T))
    for parameter, expected in (
        (Parameter(value=rate), rate - lr * slope),
        (Parameter(value=rate, scale=2.0), rate - lr * 4.0 * slope),
        (Parameter(value=rate, scale="value"), rate - lr * 0.25 * slope),
        (Parameter(value=rate, transform="log"), rate * np.exp(-lr * rate * slope)),
        (
            Parameter(value=rate, transform="logit"),
            1 / (1 + np.exp(lr * slope * 0.25)),  # the logit of 1/2 is 0
        ),
        (
            Parameter(value=rate, transform=(jnp.exp, jnp.log), scale=3.0),
            rate * np.exp(-lr * 9.0 * rate * slope),
        ),
    ):
        np.testing.assert_allclose(one_step(parameter), expected, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    ("bounds", "on"),
    [({"upper": 1.0}, 1.0), ({"lower": 2.0}, 2.0), ({"lower": 2.0, "upper": 9.0}, 2.0)],
    ids=["upper", "lower", "both"],
)
def test_an_optimum_on_a_bound_is_reached_exactly(optimizer, bounds, on):
    params = {
        **START,
        "rate": Parameter(value=bounds.get("lower", 0.2) + 0.5, **bounds),
    }
    estimator = make(params, optimizer=optimizer, max_steps=2000)
    if optimizer == "adam":
        estimator.set_params(learning_rate=0.05)
    estimator.fit(X, Y)
    assert estimator.params_["rate"] == on
    inside = estimator.history_["rate"]
    assert inside.between(
        bounds.get("lower", -np.inf), bounds.get("upper", np.inf)
    ).all()
    assert inside.nunique() > 1  # it did not start there
    # The others are at the optimum given the bound: a linear problem.
    design = np.column_stack([np.exp(-on * T), np.ones(N)])
    expected = np.linalg.lstsq(design, Y, rcond=None)[0]
    found = [estimator.params_["amplitude"], estimator.params_["offset"]]
    np.testing.assert_allclose(
        found, expected, rtol=1e-7 if optimizer == "lbfgs" else 1e-3
    )


def test_fixed_entries_of_an_array_stay():
    rng = np.random.default_rng(6)
    features = rng.normal(size=(40, 3))
    y = features @ [1.0, 2.0, 3.0] + rng.normal(size=40)
    free = np.array([True, False, True])
    params = {
        "coef": Parameter(value=[0.0, 2.5, 0.0], free=free),
        "intercept": Parameter(value=0.5, free=False),
    }
    estimator = OptaxEstimator(params=params).fit(features, y)
    coef = estimator.params_["coef"]
    assert coef[1] == 2.5
    assert estimator.params_["intercept"] == 0.5
    expected = np.linalg.lstsq(features[:, free], y - 0.5 - 2.5 * features[:, 1])[0]
    np.testing.assert_allclose(coef[free], expected, rtol=1e-7)


def test_ties_are_followed():
    # A tie of a tie.
    params = {
        "amplitude": Parameter(tie=lambda offset, square: 4.0 * square + offset),
        "square": Parameter(tie=lambda rate: rate**2),
        "rate": Parameter(value=0.5),
        "offset": 0.1,
    }

    def model(t, amplitude, rate, offset, square):
        return decay(t, amplitude, rate, offset) + 0.0 * square

    estimator = OptaxEstimator(model, params).fit(X, Y)
    found = estimator.params_
    assert found["square"] == found["rate"] ** 2
    assert found["amplitude"] == pytest.approx(
        4.0 * found["square"] + found["offset"], rel=1e-15
    )
    history = estimator.history_
    np.testing.assert_allclose(history["square"], history["rate"] ** 2, rtol=1e-15)
    best = scipy.optimize.least_squares(
        lambda p: np_decay(T, 4.0 * p[0] ** 2 + p[1], *p) - Y,
        [0.5, 0.1],
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
    )
    np.testing.assert_allclose([found["rate"], found["offset"]], best.x, rtol=1e-6)


def test_parameters_that_only_ties_name_are_no_arguments():
    # A gap that keeps two values in order, and a quantity that follows from another.
    params = {
        "amplitude": Parameter(tie=lambda rate, gap: rate + gap),
        "rate": 0.5,
        "gap": Parameter(value=0.5, lower=0.0),
        "half_life": Parameter(tie=lambda rate: jnp.log(2.0) / rate),
    }

    def model(t, amplitude, rate):
        return amplitude * jnp.exp(-rate * t)

    found = OptaxEstimator(model, params).fit(X, Y)
    plain = OptaxEstimator(model, {"amplitude": 1.0, "rate": 0.5}).fit(X, Y)
    values, errors = found.params_, found.stderr_
    for name, rtol in (("amplitude", 1e-6), ("rate", 1e-6)):
        assert values[name] == pytest.approx(plain.params_[name], rel=rtol)
        assert errors[name] == pytest.approx(plain.stderr_[name], rel=rtol)
    assert values["gap"] == pytest.approx(values["amplitude"] - values["rate"])
    # The delta method, by hand.
    by_hand = np.log(2.0) / values["rate"] ** 2 * errors["rate"]
    assert errors["half_life"] == pytest.approx(by_hand, rel=1e-6)
    np.testing.assert_allclose(found.predict(X), plain.predict(X), rtol=1e-6)
    # A name that no tie gives a meaning is still a slip.
    with pytest.raises(ModelError, match="'gapp' is in params but is no argument"):
        OptaxEstimator(model, {**params, "gapp": 1.0}).fit(X, Y)


def test_drawn_starts_follow_random_state():
    params = {**START, "rate": Parameter(value=lambda X, y, rng: rng.uniform(0.1, 2.0))}

    def start(random_state):
        estimator = adam(params, max_steps=1, random_state=random_state).fit(X, Y)
        return estimator.history_["rate"][0]

    assert start(0) == start(0) == start(np.random.RandomState(0))
    assert start(0) != start(1)
    state = np.random.RandomState(0)
    assert start(state) != start(state)
    assert start(None) != start(None)


def test_a_model_of_nested_parameters():
    def network(params, X):
        hidden = jnp.tanh(X @ params["first"]["w"] + params["first"]["b"])
        return hidden @ params["second"]["w"]

    def draw(*shape):
        return lambda X, y, rng: rng.normal(size=shape)

    spec = {
        "first": {"w": draw(1, 4), "b": Parameter(value=0.0, shape=4)},
        "second": {"w": Parameter(value=draw(4))},
    }
    estimator = OptaxEstimator(
        network, spec, optimizer="adam", learning_rate=0.05, random_state=0
    ).fit(X, Y)
    params = estimator.params_
    assert {k: list(v) for k, v in params.items()} == {
        "first": ["w", "b"],
        "second": ["w"],
    }
    assert params["first"]["w"].shape == (1, 4)
    assert params["first"]["b"].shape == (4,)
    hidden = np.tanh(X @ params["first"]["w"] + params["first"]["b"])
    expected = hidden @ params["second"]["w"]
    np.testing.assert_allclose(estimator.predict(X), expected, rtol=1e-12)
    assert estimator.score(X, Y) > 0.95
    # Nested names reach into it, on a copy.
    names = estimator.get_params()
    assert names["params__first__b"] is spec["first"]["b"]
    other = clone(estimator).set_params(params__first__b__value=1.0, max_steps=0)
    assert other.fit(X, Y).params_["first"]["b"].tolist() == [1.0] * 4
    assert spec["first"]["b"].value == 0.0


def test_starts_from_the_signature(optimum):
    def model(t, amplitude=1.0, rate=0.5, offset=0.0):
        return decay(t, amplitude, rate, offset)

    estimator = OptaxEstimator(model).fit(X, Y)
    assert_params(estimator.params_, optimum)
    bounded = OptaxEstimator(model).set_params(params__rate__upper=1.0).fit(X, Y)
    assert bounded.params_["rate"] == 1.0


def test_defaults_that_params_does_not_list_stay_fixed():
    estimator = make({"amplitude": 1.0, "rate": 0.5}).fit(X, Y)
    assert list(estimator.params_) == ["amplitude", "rate"]
    best = scipy.optimize.least_squares(
        lambda p: np_decay(T, *p) - Y, [1.0, 0.5], ftol=1e-15, xtol=1e-15, gtol=1e-15
    ).x
    np.testing.assert_allclose(list(estimator.params_.values()), best, rtol=1e-6)


def test_a_model_of_keyword_parameters(optimum):
    def model(t, **p):
        return p["amplitude"] * jnp.exp(-p["rate"] * t) + p["offset"]

    assert_params(OptaxEstimator(model, START).fit(X, Y).params_, optimum)


def test_forward_mode_has_the_same_path():
    forward, reverse = adam(mode="fwd").fit(X, Y), adam().fit(X, Y)
    assert_params(forward.params_, reverse.params_, rtol=1e-10)
    np.testing.assert_allclose(forward.history_, reverse.history_, rtol=1e-10)


# What callbacks see.


def test_auxiliary_data_reach_the_callbacks_and_not_the_prediction():
    def model(t, amplitude, rate, offset):
        mean = decay(t, amplitude, rate, offset)
        return mean, {"largest": jnp.max(mean)}

    def largest(step, diff, static, data, aux, loss, grads):
        return aux["largest"]

    estimator = OptaxEstimator(
        model,
        START,
        has_aux=True,
        optimizer="adam",
        learning_rate=0.05,
        max_steps=5,
        callbacks=Save("largest", largest),
    ).fit(X, Y)
    plain = adam(max_steps=5).fit(X, Y)
    assert_params(estimator.params_, plain.params_, rtol=1e-12)
    prediction = estimator.predict(X)
    np.testing.assert_allclose(prediction, plain.predict(X), rtol=1e-12)
    column = estimator.fitting_data_["largest"]["largest"]
    assert column.index.tolist() == [0, 1, 2, 3, 4]
    # Step 4 is the state after the fifth update: the end.
    np.testing.assert_allclose(column[4], prediction.max(), rtol=1e-12)


class Count(Callback):
    def __init__(self, *, every=None):
        super().__init__(every=every)

    def on_run_start(self, fitting_data):
        super().on_run_start(fitting_data)
        self._calls = 0

    def on_step(
        self, step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
    ):
        self._calls += 1
        fitting_data["calls"] = self._calls
        fitting_data["names"] = sorted(
            k for k, v in diff_state.items() if v is not None
        )
        return self._calls == 7


def test_callbacks_are_copied():
    saver, counter = SaveLoss(every=2), Count()
    before = [dict(vars(saver)), dict(vars(counter))]
    given = [saver, counter]
    estimator = adam(callbacks=given)
    for _ in range(2):
        estimator.fit(X, Y)
        assert estimator.fitting_data_["calls"] == 7
        assert estimator.fitting_data_["names"] == ["amplitude", "offset", "rate"]
        saved = estimator.fitting_data_["loss"]["loss"]
        assert saved.index.tolist() == [0, 2, 4, 6]
        # The callback's step 0 is the state after the first update.
        assert saved.tolist() == estimator.history_["loss"][1::2].tolist()
        assert estimator.status_ == "callback"
        assert estimator.n_iter_ == 7
    assert [vars(saver), vars(counter)] == before
    assert estimator.callbacks is given
    assert given == [saver, counter]


def test_a_callback_that_does_nothing_changes_nothing():
    def nothing(step, diff, static, data, aux, loss, grads):
        return False, diff, static

    plain = adam().fit(X, Y)
    watched = adam(callbacks=nothing).fit(X, Y)
    chunked = adam(callbacks=[nothing], chunk_size=7).fit(X, Y)
    for other in (watched, chunked):
        assert other.params_ == plain.params_
        pd.testing.assert_frame_equal(other.history_, plain.history_)


# Names, shared specs.


def plain_values(params):
    kinds = (bool, int, float, str, type(None))
    return {k: v for k, v in params.items() if isinstance(v, kinds)}


def test_two_estimators_that_share_a_spec_never_change_each_other():
    rate, loss, kwargs = Parameter(value=0.5, lower=0.0), Huber(delta=1.0), {"b1": 0.8}
    spec = {**START, "rate": rate}
    settings = {"loss": loss, "optimizer_kwargs": kwargs}
    first, second = adam(spec, **settings), adam(spec, **settings)
    third = clone(first)
    before = plain_values(second.get_params())
    for changed in (first, third):
        changed.set_params(
            params__rate__lower=0.25,
            params__amplitude__upper=9.0,
            params__offset=0.125,
            loss__delta=2.0,
            optimizer__b1=0.5,
            optimizer__learning_rate=0.01,
        )
        assert changed.params["rate"].lower == 0.25
        assert changed.params["amplitude"].upper == 9.0
        assert changed.params["amplitude"].value == 1.0
        assert changed.params["offset"] == 0.125
        assert changed.loss.delta == 2.0
        assert changed.optimizer_kwargs == {"b1": 0.5}
        assert changed.learning_rate == 0.01
        assert second.params is spec
        assert second.loss is loss
        assert second.optimizer_kwargs is kwargs
    assert plain_values(second.get_params()) == before
    assert spec == {**START, "rate": rate}
    assert rate.lower == 0.0
    assert loss.delta == 1.0
    assert kwargs == {"b1": 0.8}
    second.fit(X, Y)
    assert rate.value == 0.5
    assert spec["amplitude"] == 1.0


def test_a_field_of_a_bare_number_and_of_a_list():
    bounded = make().set_params(params__rate__upper=1.0).fit(X, Y)
    assert bounded.params_["rate"] == 1.0
    given = [Parameter(k, v) for k, v in START.items()]
    listed = make(given).set_params(params__rate__upper=1.0)
    assert isinstance(listed.params, list)
    assert [p.name for p in listed.params] == list(START)
    assert given[1].upper is None
    assert listed.fit(X, Y).params_ == bounded.params_


def test_a_whole_parameter_and_its_field_in_one_call():
    estimator = make().set_params(
        params__rate__upper=1.0, params__rate=Parameter(value=0.75)
    )
    assert estimator.params["rate"].upper == 1.0
    assert estimator.params["rate"].value == 0.75


@pytest.mark.parametrize(
    "name", ["learning_rte", "params__rat", "params__rate__lowr", "loss__delta"]
)
def test_an_unknown_name_changes_nothing(name):
    estimator = adam()
    before = estimator.get_params()
    with pytest.raises(ValueError, match=name.rpartition("__")[2]):
        estimator.set_params(max_steps=1, params__rate__upper=1.0, **{name: 1.0})
    assert estimator.get_params() == before


def test_all_names_can_be_set_to_what_they_are():
    settings = {
        "loss": Huber(delta=2.0),
        "penalty": L2(alpha=0.1),
        "optimizer_kwargs": {"b1": 0.8},
    }
    spec = {
        **START,
        "rate": Parameter(value=0.5, lower=0.0, prior=Normal(1.0, 2.0)),
    }
    original = adam(spec, **settings)
    names = original.get_params(deep=True)
    for name, value in {
        "params__rate": spec["rate"],
        "params__rate__lower": 0.0,
        "params__rate__prior__sd": 2.0,
        "params__amplitude__upper": None,
        "loss__delta": 2.0,
        "penalty__alpha": 0.1,
        "optimizer__b1": 0.8,
        "optimizer__b2": 0.999,
    }.items():
        assert names[name] is value or names[name] == value
    again = clone(original).set_params(**names)
    # A bare number whose fields were set is a Parameter now.
    bare = {"params__amplitude", "params__offset"}
    assert all(again.get_params()[name].value == names[name] for name in bare)
    expected = {k: v for k, v in plain_values(names).items() if k not in bare}
    assert plain_values(again.get_params()) == expected
    assert again.fit(X, Y).params_ == original.fit(X, Y).params_
    for name, value in plain_values(names).items():
        clone(original).set_params(**{name: value})


# Columns by name.


ARRHENIUS = {"a": 1.0, "b": 0.0}


def arrhenius(conc, temp, a, b):
    return a * conc * jnp.exp(b * temp)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {"temp": rng.normal(20.0, 5.0, 50), "conc": rng.uniform(1.0, 9.0, 50)}
    )
    frame["conc"] = frame["conc"] + 0.1 * frame["temp"]
    y = 0.5 * frame["conc"] * np.exp(0.03 * frame["temp"]) + rng.normal(0, 0.1, 50)
    return frame, y


def test_columns_are_found_by_name(table):
    frame, y = table
    turned = frame[["conc", "temp"]]
    expected = OptaxEstimator(arrhenius, ARRHENIUS).fit(frame, y)
    assert expected.converged_
    oracle = scipy.optimize.curve_fit(
        lambda z, a, b: a * z["conc"] * np.exp(b * z["temp"]),
        frame,
        y,
        [1.0, 0.0],
        ftol=1e-14,
        xtol=1e-14,
    )[0]
    np.testing.assert_allclose(list(expected.params_.values()), oracle, rtol=1e-5)
    prediction = expected.predict(frame)
    for data, inputs in (
        (turned, None),
        (turned, ("temp", "conc")),  # a DataFrame has names of its own
        (frame.to_numpy(), ("temp", "conc")),
        (turned.to_numpy(), ["conc", "temp"]),
        (frame.assign(other=1.0), None),
    ):
        estimator = OptaxEstimator(arrhenius, ARRHENIUS, inputs=inputs).fit(data, y)
        assert_params(estimator.params_, expected.params_, rtol=1e-12)
        np.testing.assert_allclose(estimator.predict(data), prediction, rtol=1e-12)
    wrong = OptaxEstimator(arrhenius, ARRHENIUS, inputs=("conc", "temp"))
    wrong.fit(frame.to_numpy(), y)
    assert abs(wrong.params_["b"] - expected.params_["b"]) > 1e-3
    with pytest.raises(ValueError, match=r"without names.*inputs=.*DataFrame"):
        OptaxEstimator(arrhenius, ARRHENIUS).fit(frame.to_numpy(), y)


def test_a_frame_for_a_model_fitted_to_an_array_is_read_by_name(table):
    frame, y = table
    array = frame.to_numpy()
    estimator = OptaxEstimator(arrhenius, ARRHENIUS, inputs=("temp", "conc"))
    expected = estimator.fit(array, y).predict(array)
    for columns in (["temp", "conc"], ["conc", "temp"]):
        np.testing.assert_array_equal(estimator.predict(frame[columns]), expected)


def test_columns_behind_a_scaler(table):
    frame, y = table
    turned = frame[["conc", "temp"]]

    def pipeline(scaler, **settings):
        return make_pipeline(scaler, OptaxEstimator(arrhenius, ARRHENIUS, **settings))

    named = pipeline(StandardScaler().set_output(transform="pandas"))
    expected = named.fit(frame, y)[-1].params_
    scaled = StandardScaler().fit_transform(frame)
    oracle = scipy.optimize.curve_fit(
        lambda z, a, b: a * z[:, 1] * np.exp(b * z[:, 0]),
        scaled,
        y,
        [1.0, 0.0],
        ftol=1e-14,
        xtol=1e-14,
    )[0]
    np.testing.assert_allclose(list(expected.values()), oracle, rtol=1e-5)
    for fitted in (
        clone(named).fit(turned, y),
        pipeline(StandardScaler(), inputs=("temp", "conc")).fit(frame, y),
        pipeline(StandardScaler(), inputs=("conc", "temp")).fit(turned, y),
    ):
        assert_params(fitted[-1].params_, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"without names.*inputs="):
        pipeline(StandardScaler()).fit(frame, y)


# Elsewhere: other processes, other precisions.


LAMBDA = lambda t, amplitude, rate, offset: (  # noqa: E731
    amplitude * jnp.exp(-rate * t) + offset
)


def run_python(code, *arguments):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    environment["PYTHONPATH"] = str(ROOT)
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_fitted_estimator_predicts_the_same_in_a_new_process(tmp_path):
    new_t = np.linspace(0.0, 4.0, 17)[:, None]
    single = adam(callbacks=SaveLoss()).fit(X.astype(np.float32), Y)
    fitted = {
        "module": (pickle.dumps, make().fit(X, Y), new_t),
        "single": (pickle.dumps, single, new_t.astype(np.float32)),
        "linear": (pickle.dumps, OptaxEstimator().fit(X, Y), new_t),
        "pipeline": (
            pickle.dumps,
            make_pipeline(StandardScaler(), make()).fit(X, Y),
            new_t,
        ),
        "lambda": (
            cloudpickle.dumps,
            OptaxEstimator(
                LAMBDA,
                {**START, "rate": Parameter(value=lambda X, y, rng: 0.5)},
                penalty=lambda p: 0.001 * p["rate"] ** 2,
            ).fit(X, Y),
            new_t,
        ),
    }
    for name, (dumps, estimator, data) in fitted.items():
        (tmp_path / f"{name}.pkl").write_bytes(dumps(estimator))
        np.save(tmp_path / f"{name}.npy", data)
    run_python(
        """
        import pathlib, pickle, sys
        import numpy as np
        for path in pathlib.Path(sys.argv[1]).glob("*.pkl"):
            estimator = pickle.loads(path.read_bytes())
            X = np.load(path.with_suffix(".npy"))
            np.save(path.with_suffix(".out.npy"), estimator.predict(X))
        """,
        str(tmp_path),
    )
    for name, (_, estimator, data) in fitted.items():
        expected = estimator.predict(data)
        found = np.load(tmp_path / f"{name}.out.npy")
        assert found.dtype == expected.dtype == data.dtype
        assert found.tobytes() == expected.tobytes(), name


def test_pickles_hold_everything_and_clones_nothing():
    original = make(callbacks=SaveLoss(), max_steps=50).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(original))
    assert loaded.params_ == original.params_
    assert loaded.message_ == original.message_
    pd.testing.assert_frame_equal(loaded.history_, original.history_)
    pd.testing.assert_frame_equal(
        loaded.fitting_data_["loss"], original.fitting_data_["loss"]
    )
    assert loaded.fit(X, Y).params_ == original.params_
    copy = clone(original)
    with pytest.raises(NotFittedError):
        copy.predict(X)
    assert [k for k in vars(copy) if k.endswith("_")] == []
    assert copy.fit(X, Y).params_ == original.params_


def test_precision_follows_the_data_and_leaves_jax_alone():
    run_python(
        """
        import jax, jax.numpy as jnp, numpy as np
        from skoptax import OptaxEstimator, Parameter

        def model(t, w, rate, offset):
            return w[0] * jnp.exp(-rate * t) + w[1] + offset

        def untouched():
            return not jax.config.jax_enable_x64 and jnp.ones(2).dtype == jnp.float32

        t = np.linspace(0.0, 3.0, 20)[:, None]
        y = 2.5 * np.exp(-1.3 * t[:, 0]) + 0.1
        spec = {
            "w": Parameter(value=[1.0, 0.0], free=[True, False]),
            "rate": Parameter(value=0.5, lower=0.0, transform="log"),
            "offset": Parameter(value=0.0),
        }
        assert untouched()
        cases = [
            (np.float64, None, np.float64),
            (np.float32, None, np.float32),
            (np.int64, None, np.float64),
            (np.float64, "float32", np.float32),
            (np.float32, np.float64, np.float64),
        ]
        for given, dtype, expected in cases:
            X = t.astype(given)
            estimator = OptaxEstimator(
                model, spec, dtype=dtype, optimizer="adam", learning_rate=0.1,
                max_steps=300,
            )
            estimator.fit(X, y)
            assert untouched()
            prediction = estimator.predict(X)
            assert untouched()
            found = [
                estimator.params_["w"].dtype,
                prediction.dtype,
                *estimator.history_.dtypes,
            ]
            assert all(f == expected for f in found), (given, dtype, found)
            assert type(estimator.params_["w"]) is np.ndarray
            assert type(prediction) is np.ndarray
            assert len(estimator.history_.columns) == 5
            # The numbers really have the digits of their type.
            as_single = np.float32(estimator.params_["rate"])
            is_single = float(as_single) == estimator.params_["rate"]
            assert is_single == (expected == np.float32)
        double = OptaxEstimator(model, spec).fit(t, y)
        assert abs(double.params_["rate"] - 1.3) < 1e-9
        assert untouched()
        try:
            OptaxEstimator(model, spec, loss=lambda a, b: undefined).fit(t, y)
        except NameError:
            assert untouched()
        else:
            raise AssertionError
        """
    )


def test_float32_in_the_process_of_a_float64_fit():
    double, single = adam().fit(X, Y), adam().fit(X.astype(np.float32), Y)
    assert double.predict(X).dtype == np.float64
    assert single.predict(X).dtype == np.float32
    assert_params(single.params_, double.params_, rtol=1e-3)
    assert not jax.config.jax_enable_x64


def test_a_second_fit_replaces_the_first():
    estimator = adam().fit(X, Y)
    first = estimator.params_
    estimator.fit(X, 2.0 * Y)
    assert estimator.params_ != first
    assert len(estimator.history_) == 41
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimator.fit(X, Y).params_ == first


def test_the_caller_s_arrays_are_left_alone():
    features, y, weights = X.copy(), Y.copy(), np.ones(N)
    adam().fit(features, y, sample_weight=weights).predict(features)
    assert features.tobytes() == X.tobytes()
    assert y.tobytes() == Y.tobytes()
    assert weights.tobytes() == np.ones(N).tobytes()


# What an independent reader of the library ran into.


def test_a_refit_that_fails_leaves_the_earlier_fit_whole(table):
    frame, y = table
    estimator = OptaxEstimator(arrhenius, ARRHENIUS).fit(frame, y)
    expected = estimator.predict(frame)
    turned = frame[["conc", "temp"]]
    with pytest.raises(ValueError, match="Negative values"):
        estimator.fit(turned, y, sample_weight=np.full(len(y), -1.0))
    np.testing.assert_array_equal(estimator.predict(frame), expected)
    with pytest.raises(ValueError, match="same order"):
        estimator.predict(turned)


def test_a_frame_that_lacks_an_input_is_refused(table):
    frame, y = table
    estimator = OptaxEstimator(arrhenius, ARRHENIUS, inputs=("temp", "conc"))
    estimator.fit(frame.to_numpy(), y)
    expected = estimator.predict(frame.to_numpy())
    wider = frame.assign(other=1.0)[["other", "conc", "temp"]]
    np.testing.assert_array_equal(estimator.predict(wider), expected)
    with pytest.raises(ValueError, match=r"inputs=.*'conc' is missing"):
        estimator.predict(frame.rename(columns={"conc": "zzz"}))


def test_priors_of_nested_names_all_count():
    prior = Normal(0.0, 1e-3)
    params = {"a": {"b": Parameter(value=1.0, prior=prior)}, "a.b": 0.0}

    def model(params, X):
        return (params["a"]["b"] + 0.0 * params["a.b"]) * X[:, 0]

    X = np.linspace(1.0, 2.0, 10)[:, None]
    with pytest.warns(ConvergenceWarning, match=r"do not depend on 'a\.b'"):
        fitted = OptaxEstimator(model, params).fit(X, 2.5 * X[:, 0])
    sxx = np.sum(X**2)
    expected = 2.5 * sxx / (sxx + 1e6)
    assert fitted.params_["a"]["b"] == pytest.approx(expected, rel=1e-6)


def test_losses_with_kinks_end_without_a_warning():
    # The median of the responses; warnings are errors here.
    y = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    estimator = OptaxEstimator(
        lambda X, m: m + 0.0 * X[:, 0], {"m": 3.5}, loss="absolute_error"
    ).fit(np.zeros((5, 1)), y)
    assert estimator.loss_ <= np.abs(y - 3.5).mean()
