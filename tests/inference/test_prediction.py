"""Uncertain predictions, beside statsmodels, NumPy and simulated responses."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skoptax import OptaxEstimator, Parameter
from skoptax.exceptions import (
    InvalidParameterError,
    NotFittedError,
    UndeterminedWarning,
)

N = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
NEW = RNG.normal(size=(7, 2))
Y = X @ [1.5, -0.7] + 0.3 + 0.4 * RNG.normal(size=N)
SPEC = {"coef": np.zeros(2), "intercept": 0.5}


def linear(X, coef, intercept):
    return X @ coef + intercept


def exponential(X, coef, intercept):
    return jnp.exp(X @ coef + intercept)


def logistic(X, coef, intercept):
    return jax.nn.sigmoid(X @ coef + intercept)


def fit(model=linear, y=Y, weights=None, params=SPEC, **arguments):
    return OptaxEstimator(model, params, **arguments).fit(X, y, weights)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("weighted", [False, True])
def test_both_bands_of_a_line(level, weighted):
    w = np.random.default_rng(1).uniform(0.3, 2.0, N) if weighted else np.ones(N)
    estimator = fit(weights=w)
    results = sm.WLS(Y, sm.add_constant(X), weights=w).fit()
    table = results.get_prediction(sm.add_constant(NEW)).summary_frame(1 - level)
    found = estimator.predict_summary(NEW, level)
    for ours, theirs in [
        ("mean", "mean"),
        ("mean_stderr", "mean_se"),
        ("ci_lower", "mean_ci_lower"),
        ("ci_upper", "mean_ci_upper"),
        ("pi_lower", "obs_ci_lower"),
        ("pi_upper", "obs_ci_upper"),
    ]:
        assert_allclose(found[ours], table[theirs], rtol=1e-7)
    for kind, names in [
        ("confidence", ["ci_lower", "ci_upper"]),
        ("prediction", ["pi_lower", "pi_upper"]),
    ]:
        interval = estimator.predict_interval(NEW, level, kind)
        assert_array_equal(interval, found[names])
    mean, std = estimator.predict(NEW, return_std=True)
    assert_allclose(mean, estimator.predict(NEW), rtol=1e-14)
    expected = np.hypot(table["mean_se"], np.sqrt(results.scale))
    assert_allclose(std, expected, rtol=1e-7)


def test_the_band_of_a_nonlinear_model():
    y = np.exp(X @ [0.3, -0.2] + 0.5) + 0.1 * np.random.default_rng(2).normal(size=N)
    estimator = fit(exponential, y)
    mean = estimator.predict(NEW)
    g = mean[:, None] * np.column_stack([NEW, np.ones(7)])
    expected = np.sqrt(np.einsum("ij,jk,ik->i", g, estimator.covariance_, g))
    assert_allclose(estimator.predict_summary(NEW)["mean_stderr"], expected, rtol=1e-9)


def test_weights_of_new_rows():
    estimator = fit()
    plain = estimator.predict_interval(NEW, kind="prediction")
    w = np.array([1.0, 4.0, 0.25, 1.0, 1.0, 1.0, 1.0])
    weighted = estimator.predict_interval(NEW, kind="prediction", sample_weight=w)
    quantile = stats.t.ppf(0.975, N - 3)
    stderr = estimator.predict_summary(NEW)["mean_stderr"].to_numpy()
    variance = np.sum((Y - estimator.predict(X)) ** 2) / (N - 3)
    half = quantile * np.sqrt(stderr**2 + variance / w)
    assert_allclose(np.diff(weighted)[:, 0], 2 * half, rtol=1e-9)
    assert_allclose(weighted[[0, 3]], plain[[0, 3]], rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "model", "family", "draw"),
    [
        ("poisson", exponential, sm.families.Poisson(), lambda m, r: r.poisson(m)),
        (
            "gamma",
            exponential,
            sm.families.Gamma(sm.families.links.Log()),
            lambda m, r: r.gamma(4.0, m / 4.0),
        ),
        (
            "log_loss",
            logistic,
            sm.families.Binomial(),
            lambda m, r: r.uniform(size=N) < m / (1 + m),
        ),
    ],
)
def test_means_of_generalised_models(loss, model, family, draw):
    # statsmodels transforms the ends of the linear predictor: with these links, so
    # does a symmetric interval on the logarithm and on the logit.
    rng = np.random.default_rng(3)
    y = draw(np.exp(X @ [0.4, -0.3] + 0.5), rng).astype(float)
    estimator = fit(model, y, loss=loss)
    results = sm.GLM(y, sm.add_constant(X), family).fit(tol=1e-14, maxiter=200)
    table = results.get_prediction(sm.add_constant(NEW)).summary_frame(0.1)
    found = estimator.predict_summary(NEW, 0.9)
    for ours, theirs in [
        ("mean", "mean"),
        ("mean_stderr", "mean_se"),
        ("ci_lower", "mean_ci_lower"),
        ("ci_upper", "mean_ci_upper"),
    ]:
        assert_allclose(found[ours], table[theirs], rtol=1e-6)


def test_intervals_of_counts_have_the_counts_law():
    # With many rows the mean is known, and Poisson's quantiles remain.
    rng = np.random.default_rng(4)
    A = rng.normal(size=(20_000, 2))
    y = rng.poisson(np.exp(A @ [0.4, -0.3] + 1.0)).astype(float)
    estimator = OptaxEstimator(exponential, SPEC, loss="poisson").fit(A, y)
    found = estimator.predict_interval(NEW, 0.9, "prediction")
    law = stats.poisson(estimator.predict(NEW))
    assert_allclose(found, np.stack([law.ppf(0.05), law.ppf(0.95)], axis=1), atol=1.0)
    assert_array_equal(found, np.round(found))
    assert (found >= 0).all()


def shortest(law, level):
    """
    Of all intervals between the quantiles that hold the level; the most probable.

    For laws as narrow as here, one end is all that can be left out.
    """
    low, high = law.ppf(0.5 * (1 - level)), law.ppf(0.5 * (1 + level))
    within = [
        (b - a, -(law.cdf(b) - law.cdf(a - 1)), a, b)
        for a in np.arange(low, high + 1)
        for b in np.arange(a, high + 1)
        if law.cdf(b) - law.cdf(a - 1) >= level
    ]
    return min(within)[2:]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
def test_intervals_of_few_counts_have_no_end_to_spare(level):
    rng = np.random.default_rng(4)
    t = np.linspace(-2.0, 4.0, 40)[:, None]
    spec = {"coef": np.zeros(1), "intercept": 0.5}
    y = rng.poisson(np.exp(0.7 * t[:, 0])).astype(float)
    estimator = OptaxEstimator(exponential, spec, loss="poisson").fit(t, y)
    table = estimator.predict_summary(t, level)
    shape = (table["mean"] / table["mean_stderr"]) ** 2
    ends = table[["pi_lower", "pi_upper"]].to_numpy()
    quantiles = 0
    for i, mean in enumerate(table["mean"]):
        law = stats.nbinom(shape[i], shape[i] / (shape[i] + mean))
        assert_array_equal(ends[i], shortest(law, level))
        assert law.cdf(ends[i, 1]) - law.cdf(ends[i, 0] - 1) >= level - 1e-12
        quantiles += ends[i, 1] < law.ppf(0.5 * (1 + level))
    assert quantiles > 10  # as often as not an end is left out


@pytest.mark.parametrize("mean", [0.5, 30.0, 1e8, 1e12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_intervals_of_counts_whose_mean_is_well_known(mean, dtype):
    # In single precision, and of large counts, a shape that is capped shows.
    y = np.random.default_rng(2).poisson(mean, 1_000).astype(dtype)
    X = np.ones((1_000, 1), dtype)
    start = Parameter(value=mean, scale=mean)
    constant = OptaxEstimator(lambda t, a: a + 0 * t, {"a": start}, loss="poisson")
    found = constant.fit(X, y).predict_interval(X[:1], kind="prediction")[0]
    centre = float(constant.predict(X[:1])[0])
    law: object = stats.norm(centre, np.sqrt(1.001 * centre))
    if mean < 1e3:
        law = stats.nbinom(1e3 * centre, 1e3 / (1e3 + 1))
    size = law.ppf(0.975) - law.ppf(0.025)
    rounding = 2 * np.spacing(dtype(mean)) if mean > 1e3 else 0.0
    assert_allclose(found[1] - found[0], size, rtol=1e-3, atol=1.0 + rounding)


def test_a_class_that_is_sure_enough_stands_alone():
    rng = np.random.default_rng(6)
    y = (rng.uniform(size=N) < 1 / (1 + np.exp(-3 * X[:, 0]))).astype(float)
    estimator = fit(logistic, y, loss="log_loss")
    probability = estimator.predict(X)
    ends = estimator.predict_interval(X, 0.9, "prediction")
    assert_array_equal(ends[:, 0], probability >= 0.9)
    assert_array_equal(ends[:, 1], probability > 0.1)
    assert {tuple(x) for x in ends} == {(0, 0), (0, 1), (1, 1)}
    inner = estimator.predict_interval(X, 0.9)
    assert ((inner > 0) & (inner < 1)).all()


def test_intervals_of_amounts_cover():
    rng = np.random.default_rng(5)
    A = rng.normal(size=(4_000, 2))
    y = rng.gamma(2.0, np.exp(A @ [0.4, -0.3]) / 2.0)
    estimator = OptaxEstimator(exponential, SPEC, loss="gamma").fit(A, y)
    ends = estimator.predict_interval(A, 0.9, "prediction")
    inside = (y >= ends[:, 0]) & (y <= ends[:, 1])
    assert 0.88 < inside.mean() < 0.92
    assert (ends > 0).all()
    # Each tail is as likely: a symmetric interval's would not be.
    assert 0.035 < (y < ends[:, 0]).mean() < 0.065


def test_weights_of_new_amounts():
    rng = np.random.default_rng(5)
    y = rng.gamma(4.0, np.exp(X @ [0.4, -0.3]) / 4.0)
    w = rng.uniform(0.5, 2.0, N)
    new = rng.uniform(0.5, 2.0, 7)
    one = OptaxEstimator(exponential, SPEC, loss="gamma").fit(X, y, sample_weight=w)
    ends = one.predict_interval(NEW, 0.9, "prediction", sample_weight=new)
    # Pearson's dispersion, and a gamma law of the mean and of both variances.
    mean, stderr = one.predict(NEW), one.predict_summary(NEW)["mean_stderr"]
    dispersion = np.sum(w * (y / one.predict(X) - 1) ** 2) / (N - 3)
    variance = dispersion * mean**2 / new + stderr.to_numpy() ** 2
    law = stats.gamma(mean**2 / variance, scale=variance / mean)
    assert_allclose(ends, np.stack([law.ppf(0.05), law.ppf(0.95)], 1), rtol=1e-9)
    # The unit of weights is nobody's business.
    other = OptaxEstimator(exponential, SPEC, loss="gamma")
    other.fit(X, y, sample_weight=8 * w)
    again = other.predict_interval(NEW, 0.9, "prediction", sample_weight=8 * new)
    assert_allclose(again, ends, rtol=1e-9)


def test_ties_and_bounds():
    def tied(X, a, b, c):
        return X[:, 0] * a + X[:, 1] * b + c

    spec = {"a": 1.0, "b": Parameter(tie=lambda a: -a), "c": 0.0}
    estimator = fit(tied, params=spec)
    contrast = X[:, 0] - X[:, 1]
    results = sm.OLS(Y, sm.add_constant(contrast)).fit()
    table = results.get_prediction(
        sm.add_constant(NEW[:, 0] - NEW[:, 1])
    ).summary_frame(0.05)
    found = estimator.predict_summary(NEW)
    assert_allclose(found["mean_stderr"], table["mean_se"], rtol=1e-7)
    assert_allclose(found["pi_upper"], table["obs_ci_upper"], rtol=1e-7)

    held = fit(tied, params={"a": 1.0, "b": Parameter(value=0.0, lower=-0.1), "c": 0.0})
    assert held.params_["b"] == -0.1
    results = sm.OLS(Y + 0.1 * X[:, 1], sm.add_constant(X[:, 0])).fit()
    table = results.get_prediction(sm.add_constant(NEW[:, 0])).summary_frame(0.05)
    stderr = held.predict_summary(NEW)["mean_stderr"]
    assert_allclose(stderr, table["mean_se"], rtol=1e-7)


def test_several_outputs():
    rng = np.random.default_rng(7)
    y = X @ rng.normal(size=(2, 3)) + rng.normal(size=(N, 3))
    estimator = OptaxEstimator().fit(X, y)
    ends = estimator.predict_interval(NEW, kind="prediction")
    assert ends.shape == (7, 3, 2)
    mean, std = estimator.predict(NEW, return_std=True)
    assert mean.shape == std.shape == (7, 3)
    assert_allclose(ends.mean(axis=-1), mean, rtol=1e-12)
    with pytest.raises(InvalidParameterError, match="predict_interval"):
        estimator.predict_summary(NEW)


def test_what_is_not_determined_has_no_interval():
    def product(X, a, b):
        return a * b * X[:, 0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = fit(product, params={"a": 1.0, "b": 1.0})
    with pytest.warns(UndeterminedWarning):
        _, std = estimator.predict(NEW, return_std=True)
    assert np.isnan(std).all()


def test_the_index_of_a_frame_stays():
    frame = pd.DataFrame(NEW, columns=["u", "v"], index=list("abcdefg"))
    estimator = OptaxEstimator(linear, SPEC).fit(pd.DataFrame(X, columns=["u", "v"]), Y)
    assert list(estimator.predict_summary(frame).index) == list("abcdefg")
    plain = fit()
    assert list(plain.predict_summary(NEW.tolist()).index) == list(range(7))


@pytest.mark.parametrize("mean", [2.0**24 * 1.5, 1e8, 1e9, 1e10])
def test_ends_that_are_no_numbers_of_single_precision(mean):
    rng = np.random.default_rng(0)
    # With very many rows a mean's own error is below what shows.
    y = rng.poisson(mean, 10).astype(np.float32)
    weights = np.full(10, 1e6, np.float32)
    x = np.zeros((10, 1), np.float32)

    def constant(X, mean):
        return jnp.full(len(X), mean)

    start = {"mean": Parameter(value=float(y.mean()), scale="value")}
    estimator = OptaxEstimator(constant, start, loss="poisson").fit(x, y, weights)
    found = estimator.predict_interval(x[:1], 0.95, "prediction")[0]
    assert found.dtype == np.float32
    low, high = found.astype(float)
    law = stats.poisson(float(estimator.predict(x[:1])[0]))
    assert law.cdf(high) - law.cdf(low - 1) >= 0.95
    # Outward by no more than the next number, and the other way by one count.
    for end, level in ((low, 0.025), (high, 0.975)):
        exact = law.ppf(level)
        assert abs(end - exact) <= np.spacing(np.float32(exact)) + 1 + 1e-3 * np.sqrt(
            mean
        )


def test_single_precision():
    single = OptaxEstimator(linear, SPEC).fit(
        X.astype(np.float32), Y.astype(np.float32)
    )
    mean, std = single.predict(NEW.astype(np.float32), return_std=True)
    assert mean.dtype == std.dtype == np.float32
    assert_allclose(std, fit().predict(NEW, return_std=True)[1], rtol=1e-4)


def test_a_level_in_percent():
    estimator = fit()
    calls = {
        "summary": lambda: estimator.summary(level=95),
        "report": lambda: estimator.report(level=95),
        "predict_interval": lambda: estimator.predict_interval(NEW, level=95),
        "predict_summary": lambda: estimator.predict_summary(NEW, level=95),
        "confidence_intervals": lambda: estimator.confidence_intervals(level=95),
        "profile": lambda: estimator.profile(NEW, NEW, "a", level=95),
        "profile2d": lambda: estimator.profile2d(NEW, NEW, "a", "b", level=95),
    }
    for method, call in calls.items():
        words = (
            rf"'level' parameter of {method} must be a number between 0 and 1, such as "
            r"0\.95\. Got 95 instead\. Did you mean 0\.95\?"
        )
        with pytest.raises(InvalidParameterError, match=words):
            call()
    with pytest.raises(InvalidParameterError, match=r"Did you mean 0\.999\?"):
        estimator.summary(level=99.9)
    with pytest.raises(InvalidParameterError, match=r"'0\.9' instead\.$"):
        estimator.summary(level="0.9")


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, "0.9", np.nan])
def test_levels(level):
    estimator = fit()
    for method in ("summary", "report", "confidence_intervals"):
        with pytest.raises(InvalidParameterError, match="level"):
            getattr(estimator, method)(level=level)
    with pytest.raises(InvalidParameterError, match="level"):
        estimator.predict_interval(NEW, level)


def test_other_wrong_input():
    estimator = fit()
    with pytest.raises(InvalidParameterError, match="kind"):
        estimator.predict_interval(NEW, kind="tolerance")
    with pytest.raises(InvalidParameterError, match="method"):
        estimator.confidence_intervals(method="magic")
    with pytest.raises(ValueError, match="positive"):
        estimator.predict_interval(NEW, sample_weight=np.arange(7.0))
    counts = fit(exponential, np.ones(N), loss="poisson")
    with pytest.raises(InvalidParameterError, match="squared_error"):
        counts.predict_interval(NEW, sample_weight=np.ones(7))


@pytest.mark.parametrize(
    "method", ["summary", "report", "confidence_intervals", "identifiability"]
)
def test_before_fit(method):
    with pytest.raises(NotFittedError):
        getattr(OptaxEstimator(), method)()
    with pytest.raises(NotFittedError):
        OptaxEstimator().predict_interval(NEW)
