"""The bootstrap beside fits of others to the same resamples, and closed forms."""

from __future__ import annotations

import threading
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.optimize import curve_fit, lsq_linear
from scipy.special import ndtr, ndtri

from skoptax import OptaxEstimator, Parameter, cache_info, clear_cache, priors
from skoptax.exceptions import InvalidParameterError, UndeterminedWarning
from skoptax.inference._bootstrap import Cases

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

N = 120


def decay(X, a, k, c):
    return a * jnp.exp(-k * X[:, 0]) + c


def straight(X, a, b):
    return a + b * X[:, 0]


def level(X, mu):
    return jnp.full(X.shape[0], mu)


@pytest.fixture(scope="module")
def decaying():
    rng = np.random.default_rng(0)
    X = np.linspace(0, 5, N)[:, None]
    y = 3 * np.exp(-1.2 * X[:, 0]) + 0.5 + 0.1 * rng.normal(size=N)
    return X, y, rng.uniform(0.5, 2, N)


def drawn(weights, count, seed=0):
    """Return the weights of the resamples that a bootstrap with this seed draws."""
    state = np.random.RandomState(seed).randint(2**31 - 1)
    rng = np.random.default_rng(state)
    return Cases(weights, len(weights)).draw(rng, count)


@pytest.mark.parametrize("weighted", [False, True])
def test_estimates_are_those_of_curve_fit_on_the_same_resamples(decaying, weighted):
    X, y, weights = decaying
    given = weights if weighted else None
    fit = OptaxEstimator(decay, {"a": 1.0, "k": 1.0, "c": 1.0})
    fit.fit(X, y, sample_weight=given)
    found = fit.bootstrap(X, y, given, n_resamples=100, random_state=0)
    start = list(fit.params_.values())
    samples = drawn(weights if weighted else np.ones(N), 100)
    for row, sample in zip(found.to_numpy(), samples, strict=True):
        kept = sample > 0
        expected, _ = curve_fit(
            lambda x, a, k, c: a * np.exp(-k * x) + c,
            X[kept, 0],
            y[kept],
            p0=start,
            sigma=sample[kept] ** -0.5,
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
        )
        np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_estimates_are_those_of_a_poisson_regression_on_the_same_resamples():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(80, 2))
    y = rng.poisson(np.exp(0.4 + X @ [0.5, -0.3])).astype(float)

    def rate(X, w, b):
        return jnp.exp(X @ w + b)

    fit = OptaxEstimator(rate, {"w": np.zeros(2), "b": 0.0}, loss="poisson").fit(X, y)
    found = fit.bootstrap(X, y, n_resamples=20, random_state=0)
    assert list(found.columns) == ["w[0]", "w[1]", "b"]
    design = np.column_stack([X, np.ones(80)])
    for row, sample in zip(found.to_numpy(), drawn(np.ones(80), 20), strict=True):
        model = sm.GLM(y, design, sm.families.Poisson(), freq_weights=sample)
        expected = model.fit(tol=1e-12).params
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-8)


def test_bounds_hold_in_each_resample():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 2))
    y = X @ [1.0, 0.05] + rng.normal(size=60)

    def plane(X, w):
        return X @ w

    spec = {"w": Parameter(value=np.full(2, 0.5), lower=0.0, upper=5.0)}
    fit = OptaxEstimator(plane, spec).fit(X, y)
    found = fit.bootstrap(X, y, n_resamples=60, random_state=0).to_numpy()
    assert (found >= 0).all()
    assert (found[:, 1] == 0).any()
    assert (found[:, 1] > 0).any()
    for row, sample in zip(found, drawn(np.ones(60), 60), strict=True):
        root = np.sqrt(sample)
        expected = lsq_linear(
            X * root[:, None], y * root, (0, 5), method="bvls", tol=1e-14
        )
        np.testing.assert_allclose(row, expected.x, rtol=1e-7, atol=1e-9)


def test_an_optimum_on_a_bound_may_be_left():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 2))
    y = X @ [1.0, -0.02] + rng.normal(size=60)
    y -= X[:, 1] * max(0.0, np.linalg.lstsq(X, y, rcond=None)[0][1]) * 1.1

    def plane(X, w):
        return X @ w

    spec = {"w": Parameter(value=np.full(2, 0.5), lower=0.0)}
    fit = OptaxEstimator(plane, spec).fit(X, y)
    assert fit.params_["w"][1] == 0
    found = fit.bootstrap(X, y, n_resamples=40, random_state=0).to_numpy()
    shares = np.mean(found[:, 1] == 0)
    assert 0.1 < shares < 0.9
    for row, sample in zip(found, drawn(np.ones(60), 40), strict=True):
        root = np.sqrt(sample)
        expected = lsq_linear(
            X * root[:, None], y * root, (0, np.inf), method="bvls", tol=1e-14
        )
        np.testing.assert_allclose(row, expected.x, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lower", [None, 0.0])
def test_what_a_resample_does_not_determine_is_nan(dtype, lower):
    # Two of 24 rows are treated: without them there is no effect to be seen. With the
    # bound on the fit's estimate the other method judges, too.
    g = np.zeros(24)
    g[:2] = 1
    y = 1 + 2 * g + 0.3 * np.random.default_rng(0).normal(size=24)
    if lower is not None:
        y[:2] = y[2:].mean() - 0.1

    def treated(X, base, effect):
        return base + effect * X[:, 0]

    spec = {"base": 0.5, "effect": Parameter(value=0.5, lower=lower)}
    fit = OptaxEstimator(treated, spec, dtype=dtype).fit(g[:, None], y)
    samples = drawn(np.ones(24), 500)
    without = samples[:, :2].sum(axis=1) == 0
    assert 0.05 < without.mean() < 0.2
    arguments = {"n_resamples": 500, "random_state": 0}
    with pytest.warns(UndeterminedWarning, match=f"'effect' in {without.sum()}"):
        found = fit.bootstrap(g[:, None], y, **arguments)
    np.testing.assert_array_equal(found["effect"].isna(), without)
    bases = (samples[:, 2:] @ y[2:]) / samples[:, 2:].sum(axis=1)
    effects = np.full(500, np.nan)
    inside = samples[~without, :2]
    effects[~without] = inside @ y[:2] / inside.sum(axis=1) - bases[~without]
    if lower is not None:
        means = samples @ y / 24
        bases = np.where(effects < 0, means, bases)
        effects = np.maximum(effects, lower)
    rtol = 1e-7 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(found["base"], bases, rtol=rtol)
    np.testing.assert_allclose(found["effect"], effects, rtol=rtol, atol=1e-6)
    with pytest.warns(UndeterminedWarning):
        table = fit.confidence_intervals(
            g[:, None], y, method="bootstrap", interval="percentile", **arguments
        )
    expected = np.nanquantile(effects, [0.025, 0.975])
    np.testing.assert_allclose(table.loc["effect"], expected, rtol=rtol, atol=1e-6)


def test_what_a_resample_confounds_is_nan():
    # Two columns differ in two rows alone.
    rng = np.random.default_rng(4)
    a = rng.normal(size=30)
    b = a.copy()
    b[:2] += [3.0, -2.0]
    X = np.column_stack([a, b, rng.normal(size=30)])
    y = X @ [1.0, 0.5, 2.0] + 0.1 * rng.normal(size=30)

    def plane(X, w):
        return X @ w

    fit = OptaxEstimator(plane, {"w": np.zeros(3)}).fit(X, y)
    with pytest.warns(UndeterminedWarning, match="'w\\[0\\]' in"):
        found = fit.bootstrap(X, y, n_resamples=300, random_state=0).to_numpy()
    for row, sample in zip(found, drawn(np.ones(30), 300), strict=True):
        root = np.sqrt(sample)[:, None]
        solution = np.linalg.lstsq(X * root, y * root[:, 0], rcond=None)
        expected = solution[0]
        if solution[2] < 3:
            expected[:2] = np.nan
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "y", "upper"),
    [
        ("poisson", [0.0] * 8 + [1.0, 2.0], None),
        ("log_loss", [0.0] * 8 + [1.0, 1.0], 1.0),
        ("log_loss", [1.0] * 8 + [0.0, 0.0], 1.0),
    ],
)
def test_a_mean_on_the_edge_of_what_the_loss_admits(loss, y, upper, dtype):
    # In every tenth resample all responses are the same: those that are not drawn have
    # an infinite loss at its mean, and do not count.
    X, y = np.zeros((10, 1)), np.array(y)
    spec = {"mu": Parameter(value=0.5, lower=0.0, upper=upper)}
    fit = OptaxEstimator(level, spec, loss=loss, dtype=dtype).fit(X, y)
    found = fit.bootstrap(X, y, n_resamples=400, random_state=0)["mu"].to_numpy()
    means = drawn(np.ones(10), 400) @ y / 10
    assert 0.05 < np.mean(means == y[0]) < 0.2
    rtol, atol = (1e-9, 0) if dtype == "float64" else (2e-5, 1e-6)
    np.testing.assert_allclose(found, means, rtol=rtol, atol=atol)
    assert (found[means == y[0]] == y[0]).all()


def test_rows_of_weight_zero_are_not_drawn(decaying):
    X, y, weights = decaying
    spec = {"a": 1.0, "k": 1.0, "c": 1.0}
    some = weights * (np.arange(N) % 3 > 0)
    few = some > 0
    with_all = OptaxEstimator(decay, spec).fit(X, y, sample_weight=some)
    without = OptaxEstimator(decay, spec).fit(X[few], y[few], sample_weight=some[few])
    found = with_all.bootstrap(X, y, some, n_resamples=30, random_state=0)
    expected = without.bootstrap(
        X[few], y[few], some[few], n_resamples=30, random_state=0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_percentiles_are_quantiles_of_the_estimates(decaying):
    X, y, _ = decaying
    fit = OptaxEstimator(decay, {"a": 1.0, "k": 1.0, "c": 1.0}).fit(X, y)
    arguments = {"n_resamples": 300, "random_state": 5}
    estimates = fit.bootstrap(X, y, **arguments)
    found = fit.confidence_intervals(
        X, y, level=0.9, method="bootstrap", interval="percentile", **arguments
    )
    # (1 - 0.9 is not 0.1 to the last bit.)
    shares = [(1 - 0.9) / 2, (1 + 0.9) / 2]
    np.testing.assert_array_equal(found.T, np.quantile(estimates, shares, axis=0))
    assert list(found.index) == ["a", "k", "c"]


def test_bca_intervals_of_a_mean_are_efrons():
    y = np.random.default_rng(4).exponential(size=40)
    X = np.zeros((40, 1))
    fit = OptaxEstimator(level, {"mu": 1.0}).fit(X, y)
    arguments = {"n_resamples": 4000, "random_state": 0}
    estimates = fit.bootstrap(X, y, **arguments)["mu"].to_numpy()
    # The jackknife's acceleration, which is exact for a mean.
    away = y - y.mean()
    acceleration = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5)
    bias = ndtri(np.mean(estimates < y.mean()))
    moved = bias + ndtri([0.05, 0.95])
    shares = ndtr(bias + moved / (1 - acceleration * moved))
    found = fit.confidence_intervals(X, y, level=0.9, method="bootstrap", **arguments)
    np.testing.assert_allclose(
        found.loc["mu"], np.quantile(estimates, shares), rtol=1e-9
    )
    # And with other resamples, scipy's.
    theirs = stats.bootstrap(
        (y,),
        np.mean,
        confidence_level=0.9,
        n_resamples=4000,
        method="BCa",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    np.testing.assert_allclose(found.loc["mu"], theirs, rtol=0.03)


def test_cases_scatter_as_a_robust_covariance_and_residuals_as_the_usual_one():
    rng = np.random.default_rng(6)
    X = np.linspace(0, 1, 200)[:, None]
    y = 1 + X[:, 0] + X[:, 0] ** 2 * rng.normal(size=200)
    usual = OptaxEstimator(straight, {"a": 0.0, "b": 0.0}).fit(X, y)
    robust = OptaxEstimator(straight, {"a": 0.0, "b": 0.0}, cov_type="HC2").fit(X, y)
    arguments = {"n_resamples": 4000, "random_state": 0}
    cases = usual.bootstrap(X, y, **arguments).std()
    residuals = usual.bootstrap(X, y, resample="residuals", **arguments).std()
    # Of 4,000 estimates, a standard deviation is known to 1.1 %.
    np.testing.assert_allclose(cases, list(robust.stderr_.values()), rtol=0.05)
    np.testing.assert_allclose(residuals, list(usual.stderr_.values()), rtol=0.05)
    assert robust.stderr_["a"] < 0.7 * usual.stderr_["a"]


def test_residuals_are_corrected_for_leverage_and_weights():
    rng = np.random.default_rng(7)
    X = np.linspace(0, 1, 9)[:, None] ** 3
    weights = rng.uniform(0.5, 2, 9)
    y = 1 + X[:, 0] + rng.normal(size=9) / np.sqrt(weights)
    fit = OptaxEstimator(straight, {"a": 0.0, "b": 0.0})
    fit.fit(X, y, sample_weight=weights)
    found = fit.bootstrap(
        X, y, weights, n_resamples=5, resample="residuals", random_state=0
    )
    root = np.sqrt(weights)
    design = np.column_stack([np.ones(9), X]) * root[:, None]
    hat = design @ np.linalg.pinv(design)
    pool = (root * y - hat @ (root * y)) / np.sqrt(1 - np.diagonal(hat))
    pool -= pool.mean()
    state = np.random.RandomState(0).randint(2**31 - 1)
    picked = np.random.default_rng(state).integers(0, 9, size=(256, 9))[:5]
    for row, places in zip(found.to_numpy(), picked, strict=True):
        response = hat @ (root * y) + pool[places]
        expected = np.linalg.lstsq(design, response, rcond=None)[0]
        np.testing.assert_allclose(row, expected, rtol=1e-7)


def test_several_outputs_are_drawn_together():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(50, 1))
    y = X @ [[1.0, 2.0]] + rng.normal(size=(50, 2))

    def both(X, w):
        return X * w

    fit = OptaxEstimator(both, {"w": np.zeros(2)}).fit(X, y)
    found = fit.bootstrap(X, y, n_resamples=10, random_state=0)
    for row, sample in zip(found.to_numpy(), drawn(np.ones(50), 10), strict=True):
        expected = (sample * X[:, 0]) @ y / (sample @ X[:, 0] ** 2)
        np.testing.assert_allclose(row, expected, rtol=1e-8)
    residuals = fit.bootstrap(X, y, n_resamples=2000, resample="residuals")
    np.testing.assert_allclose(residuals.std(), fit.stderr_["w"], rtol=0.2)


def test_ties_and_transforms_hold_in_each_resample(decaying):
    X, y, _ = decaying
    spec = {
        "a": Parameter(value=1.0, tie=lambda k: 2 * k),
        "k": Parameter(value=1.0, transform="log"),
        "c": 1.0,
    }
    fit = OptaxEstimator(decay, spec).fit(X, y)
    found = fit.bootstrap(X, y, n_resamples=30, random_state=0)
    np.testing.assert_allclose(found["a"], 2 * found["k"], rtol=1e-12)
    assert (found["k"] > 0).all()
    assert found["k"].nunique() == 30


def test_single_precision(decaying):
    X, y, _ = (x.astype(np.float32) for x in decaying)
    spec = {"a": 1.0, "k": 1.0, "c": 1.0}
    single = OptaxEstimator(decay, spec, dtype="float32").fit(X, y)
    double = OptaxEstimator(decay, spec).fit(X.astype(float), y.astype(float))
    arguments = {"n_resamples": 50, "random_state": 0}
    found = single.bootstrap(X, y, **arguments)
    expected = double.bootstrap(X.astype(float), y.astype(float), **arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_what_the_data_do_not_determine_is_nan(decaying):
    X, y, _ = decaying

    def product(X, a, b, c):
        return a * b * X[:, 0] + c

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = OptaxEstimator(product, {"a": 1.0, "b": 1.0, "c": 0.0}).fit(X, y)
    with pytest.warns(UndeterminedWarning, match="'a' and 'b'|'a', 'b'"):
        found = fit.bootstrap(X, y, n_resamples=20, random_state=0)
    assert found[["a", "b"]].isna().all(axis=None)
    for value, sample in zip(found["c"], drawn(np.ones(N), 20), strict=True):
        expected = np.polyfit(X[:, 0], y, 1, w=np.sqrt(sample))[1]
        np.testing.assert_allclose(value, expected, rtol=1e-7)


def test_another_call_compiles_nothing(decaying):
    X, y, _ = decaying
    clear_cache()
    fit = OptaxEstimator(decay, {"a": 1.0, "k": 1.0, "c": 1.0}).fit(X, y)
    fitted = cache_info().compilations
    first = fit.bootstrap(X, y, n_resamples=300, random_state=0)
    before = cache_info().compilations
    # The derivatives, which say whether the rows are those of the fit, and the fits.
    assert before == fitted + 2
    again = fit.bootstrap(X, y, n_resamples=700, random_state=0)
    assert cache_info().compilations == before
    np.testing.assert_array_equal(first, again[:300])
    clear_cache()
    once_more = fit.bootstrap(X, y, n_resamples=300, random_state=0)
    np.testing.assert_array_equal(first, once_more)


def test_it_says_how_far_it_is(decaying, capsys):
    X, y, _ = decaying
    fit = OptaxEstimator(decay, {"a": 1.0, "k": 1.0, "c": 1.0}).fit(X, y)
    fit.bootstrap(X, y, n_resamples=300)
    assert capsys.readouterr().err == ""
    fit.bootstrap(X, y, n_resamples=300, verbose=1)
    assert "300 of 300 resamples" in capsys.readouterr().err


def centred(X, a, b):
    return a + b * (X[:, 0] - jnp.mean(X[:, 0]))


def test_cases_of_rows_that_interact_are_refused(decaying):
    X, y, _ = decaying
    fit = OptaxEstimator(centred, {"a": 1.0, "b": 1.0}).fit(X, y)
    with pytest.raises(InvalidParameterError, match="may depend on others"):
        fit.bootstrap(X, y)
    assert fit.bootstrap(X, y, resample="residuals", n_resamples=10).shape == (10, 2)
    fit = OptaxEstimator(centred, {"a": 1.0, "b": 1.0}, row_independent=True)
    assert fit.fit(X, y).bootstrap(X, y, n_resamples=10).notna().all(axis=None)


def test_residuals_of_counts_are_refused():
    X = np.arange(10.0)[:, None]
    y = np.arange(10.0)

    def rate(X, a):
        return a * X[:, 0] + 1

    fit = OptaxEstimator(rate, {"a": 1.0}, loss="poisson").fit(X, y)
    with pytest.raises(InvalidParameterError, match="resample='cases'"):
        fit.bootstrap(X, y, resample="residuals")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "bootstraps"}, "did you mean 'bootstrap'|Did you mean 'bootstrap'"),
        ({"interval": "basic"}, "'bca', 'percentile'"),
        ({"resample": "rows"}, "'cases', 'residuals'"),
        ({"n_resamples": 0}, "at least 1"),
        ({"verbose": "yes"}, "verbose"),
        ({"X": None}, "needs the rows"),
        ({"level": 1.0}, "between 0 and 1"),
    ],
)
def test_wrong_arguments(decaying, arguments, match):
    X, y, _ = decaying
    fit = OptaxEstimator(decay, {"a": 1.0, "k": 1.0, "c": 1.0}).fit(X, y)
    given = {"X": X, "y": y, "method": "bootstrap"} | arguments
    with pytest.raises(InvalidParameterError, match=match):
        fit.confidence_intervals(given.pop("X"), given.pop("y"), **given)


@pytest.mark.parametrize("prior", [None, priors.Normal(1.0, 1.0)])
def test_other_rows_than_those_of_the_fit_are_refused(decaying, prior):
    X, y, weights = decaying
    spec = {"a": Parameter(value=1.0, prior=prior), "k": 1.0, "c": 1.0}
    fit = OptaxEstimator(decay, spec).fit(X, y)
    with pytest.raises(InvalidParameterError, match="must be those of the fit"):
        fit.bootstrap(X, y, weights)


def test_a_model_without_a_key_is_compiled_once(decaying):
    X, y, _ = decaying
    lock = threading.Lock()

    def locked(X, a, b):
        with lock:
            return a + b * X[:, 0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = OptaxEstimator(locked, {"a": 0.0, "b": 0.0}).fit(X, y)
        fit.bootstrap(X, y, n_resamples=10)
        before = cache_info().compilations
        fit.bootstrap(X, y, n_resamples=2000)
    # Objective, derivatives, fits: the threads may have begun with one each.
    assert cache_info().compilations - before <= 4
