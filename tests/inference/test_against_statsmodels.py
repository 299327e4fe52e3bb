"""Standard errors and likelihoods beside those of statsmodels."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy import stats

from skoptax import OptaxEstimator, losses
from skoptax.inference._statistics import _of_shape

pytestmark = pytest.mark.optimised

RTOL = 1e-6
N = 120


def linear(X, coef, intercept):
    return X @ coef + intercept


def exponential(X, coef, intercept):
    return jnp.exp(X @ coef + intercept)


def logistic(X, coef, intercept):
    return jax.nn.sigmoid(X @ coef + intercept)


SPEC = {"coef": np.zeros(2), "intercept": 0.5}


def inputs(seed=0):
    return np.random.default_rng(seed).normal(size=(N, 2))


def fitted(model, X, y, weights=None, **arguments):
    return OptaxEstimator(model, SPEC, **arguments).fit(X, y, sample_weight=weights)


def compare(estimator, results, n_params=3, *, use_t=True, criteria=True):
    """Hold all that both report against each other."""
    table = estimator.summary()
    assert list(table.index) == ["coef[0]", "coef[1]", "intercept"]
    # statsmodels has the constant in front.
    order = [1, 2, 0]
    assert_allclose(table["value"], results.params[order], rtol=RTOL)
    assert_allclose(table["stderr"], results.bse[order], rtol=RTOL)
    assert_allclose(table["t"], results.tvalues[order], rtol=RTOL)
    assert_allclose(table["p_value"], results.pvalues[order], rtol=RTOL, atol=1e-300)
    assert_allclose(
        table[["ci_lower", "ci_upper"]], results.conf_int()[order], rtol=RTOL
    )
    assert_allclose(
        estimator.covariance_,
        np.asarray(results.cov_params())[np.ix_(order, order)],
        rtol=RTOL,
        atol=1e-12,
    )
    if criteria:
        numbers = estimator.report().statistics
        assert_allclose(numbers["Log-likelihood"], results.llf, rtol=RTOL)
        assert_allclose(numbers["AIC"], results.aic, rtol=RTOL)
        bic = results.bic_llf if hasattr(results, "bic_llf") else results.bic
        assert_allclose(numbers["BIC"], bic, rtol=RTOL)


def straight_data(seed=0):
    X = inputs(seed)
    rng = np.random.default_rng(seed + 1)
    noise = rng.normal(size=N) * (0.3 + np.abs(X[:, 0]))
    return X, X @ [1.5, -0.7] + 0.3 + noise


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_ols(optimizer):
    X, y = straight_data()
    estimator = fitted(linear, X, y, optimizer=optimizer)
    results = sm.OLS(y, sm.add_constant(X)).fit()
    compare(estimator, results)
    numbers = estimator.report().statistics
    assert_allclose(numbers["R2"], results.rsquared, rtol=RTOL)
    assert_allclose(numbers["Reduced chi-square"], results.scale, rtol=RTOL)


@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3"])
def test_ols_with_robust_errors(cov_type):
    X, y = straight_data()
    estimator = fitted(linear, X, y, cov_type=cov_type)
    results = sm.OLS(y, sm.add_constant(X)).fit(cov_type=cov_type, use_t=True)
    compare(estimator, results)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC1", "HC2", "HC3"])
def test_wls(cov_type):
    X, y = straight_data()
    weights = np.random.default_rng(5).uniform(0.2, 3.0, N)
    estimator = fitted(linear, X, y, weights, cov_type=cov_type)
    results = sm.WLS(y, sm.add_constant(X), weights=weights).fit(
        cov_type=cov_type, use_t=True
    )
    compare(estimator, results)


def test_weights_may_have_any_unit():
    X, y = straight_data()
    weights = np.random.default_rng(5).uniform(0.2, 3.0, N)
    one, other = (fitted(linear, X, y, factor * weights) for factor in (1.0, 1e4))
    assert_allclose(one.covariance_, other.covariance_, rtol=1e-9)


def test_known_variances():
    X, y = straight_data()
    sigma = np.random.default_rng(5).uniform(0.2, 3.0, N)
    estimator = fitted(linear, X, y, 1 / sigma**2, absolute_sigma=True)
    A = np.column_stack([X, np.ones(N)]) / sigma[:, None]
    assert_allclose(estimator.covariance_, np.linalg.inv(A.T @ A), rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("weighted", [False, True])
def test_poisson(optimizer, weighted):
    X = inputs()
    rng = np.random.default_rng(3)
    y = rng.poisson(np.exp(X @ [0.5, -0.4] + 1.0)).astype(float)
    weights = rng.integers(1, 4, N).astype(float) if weighted else None
    estimator = fitted(exponential, X, y, weights, loss="poisson", optimizer=optimizer)
    results = sm.GLM(
        y, sm.add_constant(X), sm.families.Poisson(), freq_weights=weights
    ).fit(tol=1e-14, maxiter=200)
    compare(estimator, results, criteria=not weighted)
    if weighted:
        assert_allclose(
            estimator.report().statistics["Log-likelihood"], results.llf, rtol=RTOL
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "cov_type"),
    [
        # The objective alone would do here, were it not for its rounding.
        ("poisson", "nonrobust"),
        ("poisson", "HC0"),
        ("gamma", "nonrobust"),
        ("log_loss", "HC1"),
    ],
)
def test_likelihoods_in_single_precision(loss, cov_type, weighted):
    rng = np.random.default_rng(8)
    n = 20_000
    X = rng.normal(size=(n, 2)).astype(np.float32) * np.float32(0.3)
    mean = 1e6 * np.exp(X @ [0.5, -0.4])
    if loss == "log_loss":
        mean = 1 / (1 + np.exp(-(X @ [0.5, -0.4]) - 3))
    y = {
        # Of far more than Poisson's variance: sums of losses are large.
        "poisson": lambda: rng.poisson(mean * rng.gamma(4e3, 1 / 4e3, n)),
        "gamma": lambda: mean * rng.gamma(100.0, 0.01, n),
        "log_loss": lambda: rng.uniform(size=n) < mean,
    }[loss]().astype(np.float32)
    weights = rng.integers(1, 4, n).astype(np.float32) if weighted else None
    start = np.log(y.mean()) if loss != "log_loss" else 0.0
    spec = {"coef": np.zeros(2), "intercept": float(start)}
    model = logistic if loss == "log_loss" else exponential
    estimator = OptaxEstimator(model, spec, loss=loss, cov_type=cov_type)
    estimator.fit(X, y, weights)
    mean, y = estimator.predict(X).astype(float), y.astype(float)
    assert estimator.predict(X).dtype == np.float32
    w = np.ones(n) if weights is None else weights.astype(float)
    if loss == "poisson":
        law = stats.poisson(mean).logpmf(y)
    elif loss == "gamma":
        # A weight is part of the shape: each response counts once.
        k = w * (n - 3) / (w @ ((y - mean) / mean) ** 2)
        law, w = stats.gamma(k, scale=mean / k).logpdf(y), np.ones(n)
    else:
        law = stats.bernoulli(mean).logpmf(y)
    numbers = estimator.report().statistics
    # To a thousandth: information criteria are told apart by units.
    assert_allclose(numbers["Log-likelihood"], w @ law, rtol=0, atol=1e-3)
    assert_allclose(numbers["AIC"], 6 - 2 * (w @ law), rtol=0, atol=2e-3)


def test_r2_of_responses_far_from_zero_in_single_precision():
    rng = np.random.default_rng(8)
    x = np.linspace(0, 1, 2000, dtype=np.float32)
    y = (1e5 + 3 * x + rng.normal(size=2000)).astype(np.float32)
    estimator = OptaxEstimator().fit(x[:, None], y)
    Y = y.astype(float)
    residuals = Y - estimator.predict(x[:, None])
    expected = 1 - residuals @ residuals / np.sum((Y - Y.mean()) ** 2)
    assert_allclose(estimator.report().statistics["R2"], expected, rtol=1e-6)


def test_gamma():
    X = inputs()
    rng = np.random.default_rng(4)
    y = rng.gamma(5.0, np.exp(X @ [0.5, -0.4] + 1.0) / 5.0)
    estimator = fitted(exponential, X, y, loss="gamma")
    family = sm.families.Gamma(sm.families.links.Log())
    results = sm.GLM(y, sm.add_constant(X), family).fit(tol=1e-14, maxiter=200)
    compare(estimator, results)


@pytest.mark.parametrize("factor", [1.0, 7.0])
@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0"])
def test_weights_of_gamma_responses_are_relative(factor, cov_type):
    X = inputs()
    rng = np.random.default_rng(4)
    y = rng.gamma(5.0, np.exp(X @ [0.5, -0.4] + 1.0) / 5.0)
    w = factor * rng.uniform(0.3, 3.0, N) * (np.arange(N) > 3)
    estimator = fitted(exponential, X, y, w, loss="gamma", cov_type=cov_type)
    has = w > 0
    family = sm.families.Gamma(sm.families.links.Log())
    # A row of weight 0 has no shape.
    model = sm.GLM(y[has], sm.add_constant(X[has]), family, var_weights=w[has])
    results = model.fit(tol=1e-14, maxiter=200)
    statistics = estimator.report().statistics
    assert_allclose(statistics["Log-likelihood"], results.llf, rtol=1e-9)
    assert_allclose(statistics["AIC"], results.aic, rtol=1e-9)
    assert_allclose(statistics["BIC"], results.bic_llf, rtol=1e-9)
    expected = results.bse
    if cov_type == "HC0":
        # With Fisher's information, which statsmodels takes for canonical links alone.
        D = sm.add_constant(X[has])
        scores = D * (w[has] * (y[has] / results.fittedvalues - 1))[:, None]
        inverse = np.linalg.inv(D.T @ (D * w[has, None]))
        expected = np.sqrt(np.diagonal(inverse @ scores.T @ scores @ inverse))
    assert_allclose(estimator.summary()["stderr"], expected[[1, 2, 0]], rtol=RTOL)


def test_the_likelihood_of_a_large_shape():
    # Of a whole number the gamma function is a product.
    for shape in (99_999, 100_001, 400_000):
        logarithms = math.fsum(map(math.log, range(1, shape)))
        expected = math.fsum([shape * math.log(shape), -shape, -logarithms])
        assert_allclose(_of_shape(float(shape)), expected, rtol=1e-8)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0"])
def test_weights_of_counts(cov_type):
    # They count rows in the likelihood, and in robust covariances are those of
    # estimating equations. The criteria count responses.
    X = inputs()
    rng = np.random.default_rng(4)
    y = rng.poisson(np.exp(X @ [0.5, -0.4] + 1.0)).astype(float)
    w = rng.integers(1, 4, N).astype(float)
    estimator = fitted(exponential, X, y, w, loss="poisson", cov_type=cov_type)
    kinds = {"freq_weights": w} if cov_type == "nonrobust" else {"var_weights": w}
    model = sm.GLM(y, sm.add_constant(X), sm.families.Poisson(), **kinds)
    results = model.fit(tol=1e-14, maxiter=200, cov_type=cov_type)
    assert_allclose(estimator.summary()["stderr"], results.bse[[1, 2, 0]], rtol=RTOL)
    statistics = estimator.report().statistics
    assert_allclose(statistics["AIC"], results.aic, rtol=1e-9)
    assert_allclose(
        statistics["BIC"], 3 * np.log(N) - 2 * statistics["Log-likelihood"], rtol=1e-12
    )
    if cov_type == "nonrobust":
        more = 3 * np.log(w.sum() / N)
        assert_allclose(statistics["BIC"] + more, results.bic_llf, rtol=1e-9)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0"])
def test_logistic(cov_type):
    X = inputs()
    rng = np.random.default_rng(6)
    y = (rng.uniform(size=N) < 1 / (1 + np.exp(-(X @ [1.0, -0.5] + 0.2)))).astype(float)
    estimator = fitted(logistic, X, y, loss="log_loss", cov_type=cov_type)
    results = sm.GLM(y, sm.add_constant(X), sm.families.Binomial()).fit(
        tol=1e-14, maxiter=200, cov_type=cov_type
    )
    compare(estimator, results)


def test_the_hessian_of_a_logistic_model():
    # Of a canonical link the observed information is the expected one.
    X = inputs()
    rng = np.random.default_rng(6)
    y = (rng.uniform(size=N) < 0.4).astype(float)
    one, other = (
        fitted(logistic, X, y, loss="log_loss", cov_type=cov_type)
        for cov_type in ("nonrobust", "hessian")
    )
    assert_allclose(one.covariance_, other.covariance_, rtol=1e-8)


def test_huber_beside_rlm():
    # statsmodels' second form of the covariance, with the scale held at 1.
    X, y = straight_data()
    y[::10] += 8.0
    norm = sm.robust.norms.HuberT(1.345)
    estimator = fitted(linear, X, y, loss=losses.Huber(delta=1.345))
    A = np.column_stack([X, np.ones(N)])
    residuals = y - estimator.predict(X)
    psi, slope = norm.psi(residuals), norm.psi_deriv(residuals)
    scale = np.sum(psi**2) / (N - 3) / np.mean(slope)
    expected = scale * np.linalg.inv(A.T @ (slope[:, None] * A))
    assert_allclose(estimator.covariance_, expected, rtol=1e-8)
    table = estimator.summary()
    assert_allclose(table["p_value"], 2 * stats.norm.sf(np.abs(table["t"])), rtol=1e-8)
