"""Fits side by side, what can be told apart, and the page about a fit."""

from __future__ import annotations

import math
import pickle
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal
from scipy import stats
from sklearn.base import clone

from skoptax import OptaxEstimator, Parameter, priors
from skoptax.exceptions import ConvergenceWarning, InvalidParameterError
from skoptax.inference import compare

N = 50
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, 0.4, 0.0] + 0.2 + 0.5 * RNG.normal(size=N)


def small(X, a=0.0, c=0.0):
    return X[:, 0] * a + c


def middle(X, a=0.0, b=0.0, c=0.0):
    return X[:, 0] * a + X[:, 1] * b + c


def large(X, a=0.0, b=0.0, d=0.0, c=0.0):
    return X[:, 0] * a + X[:, 1] * b + X[:, 2] * d + c


def fits(y=Y, **arguments):
    return [OptaxEstimator(m, **arguments).fit(X, y) for m in (small, middle, large)]


def test_the_f_test_and_the_criteria():
    table = compare(*fits())
    assert list(table.index) == ["small", "middle", "large"]
    columns = [X[:, :1], X[:, :2], X]
    results = [sm.OLS(Y, sm.add_constant(c)).fit() for c in columns]
    assert_allclose(table["aic"], [r.aic for r in results], rtol=1e-9)
    assert_allclose(table["bic"], [r.bic for r in results], rtol=1e-9)
    assert_allclose(table["log_likelihood"], [r.llf for r in results], rtol=1e-9)
    for i in range(2):
        value, p, _ = results[i + 1].compare_f_test(results[i])
        assert_allclose(table["f_value"].iloc[i], value, rtol=1e-7)
        assert_allclose(table["f_p_value"].iloc[i], p, rtol=1e-7)
    assert math.isnan(table["f_value"].iloc[2])
    k = np.array([2, 3, 4])
    aicc = table["aic"] + 2 * k * (k + 1) / (N - k - 1)
    assert_allclose(table["aicc"], aicc, rtol=1e-12)
    weights = np.exp(-(aicc - aicc.min()) / 2)
    assert_allclose(table["weight"], weights / weights.sum(), rtol=1e-12)


def test_names_that_repeat():
    table = compare(*fits()[:2], fits()[1])
    assert list(table.index) == ["small", "middle (1)", "middle (2)"]


def test_names_of_ones_own():
    table = compare(*fits()[:2], names=["a slope", "two"])
    assert list(table.index) == ["a slope", "two"]
    for names in (["one"], "ab", [1, 2], ["a", "b", "c"]):
        with pytest.raises(InvalidParameterError, match="2 strings, one for each fit"):
            compare(*fits()[:2], names=names)


def test_a_dict_of_fits():
    found = fits()[:2]
    table = compare({"a slope": found[0], "two": found[1]})
    assert_frame_equal(table, compare(*found, names=["a slope", "two"]))
    named = compare(dict(enumerate(found)), names=["a", "b"])
    assert list(named.index) == ["a", "b"]
    assert list(compare(dict(enumerate(found))).index) == ["0", "1"]
    with pytest.raises(InvalidParameterError, match=r"two fits or more\. Got 1"):
        compare({"a": found[0]})
    with pytest.raises(InvalidParameterError, match=r"the list: compare\(\*fits\)"):
        compare(found)


def test_counts_have_no_f_test():
    y = np.random.default_rng(1).poisson(3.0, N).astype(float)

    def constant(X, c=1.0):
        return jnp.full(X.shape[0], jnp.exp(c))

    def sloped(X, a=0.0, c=1.0):
        return jnp.exp(a * X[:, 0] + c)

    table = compare(
        *[OptaxEstimator(m, loss="poisson").fit(X, y) for m in (constant, sloped)]
    )
    assert table["f_value"].isna().all()
    assert_allclose(table["weight"].sum(), 1.0)


def test_refusals():
    first, second, _ = fits()
    with pytest.raises(InvalidParameterError, match="two fits"):
        compare(first)
    with pytest.raises(InvalidParameterError, match="same data"):
        compare(first, fits(y=Y + X[:, 2])[1])
    with pytest.raises(InvalidParameterError, match="same loss"):
        compare(first, fits(loss="huber")[1])
    with pytest.raises(InvalidParameterError, match="fitted"):
        compare(first, "middle")
    assert compare(first, second).shape[0] == 2


VAGUE = {"a": Parameter(value=0.0, prior=priors.Normal(0.0, 1e6)), "c": 0.0}


def test_a_known_variance_is_not_compared_with_an_estimated_one():
    estimated, larger, _ = fits()
    vague = OptaxEstimator(small, VAGUE).fit(X, Y)
    known = OptaxEstimator(small, absolute_sigma=True).fit(X, Y)
    for other, cause in ((vague, "a prior"), (known, "absolute_sigma=True")):
        for pair in ((other, larger), (larger, other)):
            with pytest.raises(InvalidParameterError, match=f"Got one with {cause}"):
                compare(*pair)
    # Both take the variance to be 1, and the prior is too vague to move the optimum.
    residuals = Y - sm.OLS(Y, sm.add_constant(X[:, :1])).fit().fittedvalues
    table = compare(vague, known)
    expected = stats.norm.logpdf(residuals).sum()
    assert_allclose(table["log_likelihood"], expected, rtol=1e-9)
    assert_allclose(table["weight"], 0.5, rtol=1e-6)
    assert_allclose(estimated.params_["a"], vague.params_["a"], rtol=1e-6)


def exponential(X, a=0.0, c=0.0):
    return jnp.exp(a * X[:, 0] + c)


def test_priors_and_likelihoods_with_a_scale_or_without():
    rng = np.random.default_rng(3)
    mean = np.exp(0.3 * X[:, 0] + 1)
    amounts, counts = rng.gamma(3.0, mean / 3), rng.poisson(mean).astype(float)

    def both(y, loss):
        return [
            OptaxEstimator(exponential, spec, loss=loss).fit(X, y)
            for spec in (VAGUE, None)
        ]

    with pytest.raises(InvalidParameterError, match="their squared mean over"):
        compare(*both(amounts, "gamma"))
    # A Poisson likelihood has no scale that a prior could make known.
    table = compare(*both(counts, "poisson"))
    assert_allclose(table["weight"], 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("squared_error", "responses of variance one over their weight"),
        ("gamma", "variance is their squared mean over their weight"),
        ("poisson", "in which a weight counts rows"),
        ("huber", "the weighted loss as the responses' negative log-likelihood"),
    ],
)
def test_the_note_on_priors_says_which_likelihood(loss, words):
    y = np.random.default_rng(3).poisson(np.exp(0.3 * X[:, 0] + 1)) + 1.0
    fit = OptaxEstimator(exponential, VAGUE, loss=loss).fit(X, y)
    found = [note for note in fit.summary().attrs["notes"] if "With priors" in note]
    assert len(found) == 1
    assert words in found[0]


def test_a_fit_that_has_not_converged_says_so_beside_its_standard_errors():
    adam = OptaxEstimator(small, optimizer="adam", max_steps=20).fit(X, Y)
    for notes in (adam.summary().attrs["notes"], adam.report().notes):
        assert any("not converged (status_ is 'max_steps')" in note for note in notes)
    assert "has not converged" in str(adam.report())
    done = OptaxEstimator(small).fit(X, Y)
    assert not any("converged" in note for note in done.summary().attrs["notes"])


def test_eigenvalues_of_the_scaled_information():
    found = OptaxEstimator(middle).fit(X, Y).identifiability()
    A = np.column_stack([X[:, 0], X[:, 1], np.ones(N)])
    A /= np.linalg.norm(A, axis=0)
    values, vectors = np.linalg.eigh(A.T @ A)
    assert_allclose(found.eigenvalues, values, rtol=1e-9)
    assert_allclose(found.condition_number, values[-1] / values[0], rtol=1e-9)
    assert_allclose(np.abs(found.directions), np.abs(vectors), rtol=1e-6, atol=1e-9)
    assert list(found.directions.index) == ["a", "b", "c"]


def test_the_worst_combination_in_words():
    t = np.linspace(0.0, 1.0, 30)

    def exponentials(t, a=1.0, b=1.5, k=1.0):
        return a * jnp.exp(-k * t) + b * jnp.exp(-1.001 * k * t) + 0.0 * k

    y = np.exp(-t) * 2.5 + 0.01 * np.random.default_rng(2).normal(size=30)
    estimator = OptaxEstimator(exponentials).fit(t[:, None], y)
    found = estimator.identifiability()
    assert "'a' against 'b'" in found.worst
    assert found.condition_number > 1e5


def test_what_is_not_determined_at_all():
    def product(t, a=1.0, b=1.0):
        return a * b * t

    t = np.linspace(0.0, 1.0, 30)
    with pytest.warns(Warning):
        estimator = OptaxEstimator(product).fit(t[:, None], 2 * t)
    found = estimator.identifiability()
    assert found.condition_number == math.inf
    assert "do not determine" in found.worst
    assert "'a' against 'b'" in found.worst


@pytest.mark.parametrize("names", [("gain", "amplitude"), ("amplitude", "gain")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_equal_shares_the_first_parameter_is_named_first(names, dtype):
    # Whatever sign and rounding errors a singular vector has: those of some versions of
    # JAX differ. For y = p q exp(-k t) the columns of p and q are the same but for
    # their length, so that both have a share of the square root of a half.
    first, second = names
    t = np.linspace(0.0, 3.0, 60)[:, None]

    def model(params, X):
        return params[first] * params[second] * jnp.exp(-params["rate"] * X[:, 0])

    for seed in range(5):
        rng = np.random.default_rng(seed)
        y = 2.5 * np.exp(-1.3 * t[:, 0]) + 0.05 * rng.normal(size=60)
        start = {first: 1.0, second: float(rng.uniform(1, 3)), "rate": 0.5}
        with pytest.warns(Warning):
            fitted = OptaxEstimator(model, start, dtype=dtype).fit(t, y)
            found = fitted.identifiability()
        assert f"a change of {first!r} against {second!r}" in found.worst
        half = np.sqrt(0.5)
        assert_allclose(found.directions[0], [half, -half, 0], atol=2e-3)


def test_no_information():
    estimator = OptaxEstimator(middle, cov_type=None).fit(X, Y)
    with pytest.raises(InvalidParameterError, match="cov_type is None"):
        estimator.identifiability()


def test_the_report():
    spec = {"a": 0.0, "b": Parameter(value=0.0, upper=0.1), "c": 0.0}
    report = OptaxEstimator(middle, spec).fit(X, Y).report(min_correlation=0.0)
    text = str(report)
    for word in ("middle(X, a", "squared_error", "converged", "Reduced chi-square"):
        assert word in text
    assert "at bound" in text
    assert "t distribution with 48 degrees of freedom" in text
    page = report._repr_html_()
    assert page.count("<table") == 4
    assert "at bound" in page
    assert "<script" not in page


def test_the_report_says_which_parameters_did_not_move_by_themselves():
    spec = {
        "a": 0.0,
        "b": Parameter(value=0.0, tie=lambda a: 2 * a),
        "c": Parameter(value=0.0, free=False),
    }
    report = OptaxEstimator(middle, spec).fit(X, Y).report()
    lines = {line.split()[0]: line for line in str(report).splitlines() if line}
    assert lines["b"].endswith("tied")
    assert lines["c"].endswith("fixed")
    assert not lines["a"].endswith(("tied", "fixed"))


@pytest.mark.parametrize(
    ("optimizer", "shown"),
    [
        ("auto", "auto (levenberg_marquardt)"),
        ("lbfgs", "lbfgs"),
        (optax.adam, "adam"),
        (optax.adam(0.1), "a finished transformation"),
    ],
)
def test_the_report_says_which_optimizer_was_taken(optimizer, shown):
    estimator = OptaxEstimator(small, optimizer=optimizer, max_steps=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, Y)
    assert estimator.report().facts["Optimizer"] == shown


def test_html_is_escaped():
    def model(X, a=0.0):
        return a * X[:, 0]

    model.__name__ = "<b>model</b>"
    page = OptaxEstimator(model).fit(X, Y).report()._repr_html_()
    assert "<b>model" not in page
    assert "&lt;b&gt;model" in page


def test_correlations_below_the_threshold_are_left_out():
    estimator = OptaxEstimator(middle).fit(X, Y)
    everything = estimator.report(min_correlation=0.0).correlations
    assert len(everything) == 3
    sizes = [abs(r) for *_, r in everything]
    assert sizes == sorted(sizes, reverse=True)
    assert estimator.report(min_correlation=1.0).correlations == []


def test_a_pickle_and_a_clone():
    estimator = OptaxEstimator(middle, cov_type="HC3", absolute_sigma=False).fit(X, Y)
    again = pickle.loads(pickle.dumps(estimator))
    assert_allclose(again.covariance_, estimator.covariance_)
    assert clone(estimator).cov_type == "HC3"
    assert not hasattr(clone(estimator), "covariance_")


def test_a_second_fit_replaces_what_was_known():
    estimator = OptaxEstimator(middle).fit(X, Y)
    first = estimator.covariance_
    estimator.fit(X[:25], Y[:25])
    expected = OptaxEstimator(middle).fit(X[:25], Y[:25]).covariance_
    assert_allclose(estimator.covariance_, expected, rtol=1e-9)
    assert not np.allclose(first, expected)
