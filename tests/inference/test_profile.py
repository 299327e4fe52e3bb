"""Profile intervals: closed forms, and the definition by SciPy."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats

from skoptax import OptaxEstimator, Parameter, losses, penalties, priors
from skoptax._information import LossSlopes
from skoptax._refit import rounding_of
from skoptax.exceptions import InvalidParameterError, UndeterminedWarning

T = np.linspace(0.0, 3.0, 25)
X = T[:, None]
Y = 2.5 * np.exp(-1.3 * T) + 0.3 + 0.15 * np.random.default_rng(0).normal(size=25)
START = {"a": 1.0, "k": 1.0, "c": 0.0}


def decay(t, a, k, c):
    return a * jnp.exp(-k * t) + c


def fit(model=decay, params=START, X=X, y=Y, weights=None, **arguments):
    return OptaxEstimator(model, params, **arguments).fit(X, y, weights)


def by_definition(estimator, j, level, weights=None, sigma2=None, stretch=1.0):
    """
    Return an interval from its definition: roots of the F test.

    With a robust covariance, of the test scaled by Chandler and Bate: `stretch` is how
    many times its standard error is the plain one.
    """
    w = np.ones(len(T)) if weights is None else weights
    best = np.array(list(estimator.params_.values()))

    def squares(x):
        r = Y - (x[0] * np.exp(-x[1] * T) + x[2])
        return w @ r**2

    lowest = squares(best)
    dof = len(T) - 3
    if sigma2 is None:
        sigma2, reach = lowest / dof, stats.t.ppf(0.5 * (1 + level), dof)
    else:
        reach = stats.norm.ppf(0.5 * (1 + level))

    def rise(at):
        others = np.delete(np.arange(3), j)

        def residuals(z):
            x = np.empty(3)
            x[j], x[others] = at, z
            return np.sqrt(w) * (Y - (x[0] * np.exp(-x[1] * T) + x[2]))

        found = optimize.least_squares(
            residuals, best[others], method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        return (2 * found.cost - lowest) / sigma2 - (stretch * reach) ** 2

    error = estimator.stderr_["akc"[j]]
    return [
        optimize.brentq(rise, best[j], best[j] + sign * 6 * error, xtol=1e-13)
        for sign in (-1, 1)
    ]


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("level", [0.68, 0.95, 0.99])
def test_the_definition(level, optimizer):
    estimator = fit(optimizer=optimizer)
    found = estimator.confidence_intervals(X, Y, level=level, method="profile")
    expected = [by_definition(estimator, j, level) for j in range(3)]
    assert list(found.index) == ["a", "k", "c"]
    assert_allclose(found, expected, rtol=1e-6)


def test_weights_and_known_variances():
    w = np.random.default_rng(1).uniform(20.0, 80.0, 25)
    estimator = fit(weights=w, absolute_sigma=True)
    found = estimator.confidence_intervals(X, Y, w, method="profile")
    expected = [by_definition(estimator, j, 0.95, w, 1.0) for j in range(3)]
    assert_allclose(found, expected, rtol=1e-6)


def robust_errors(params, weights):
    """Return plain standard errors and HC3's, in NumPy (MacKinnon and White 1985)."""
    a, k, c = params
    root = np.sqrt(weights)
    e = np.exp(-k * T)
    J = root[:, None] * np.stack([e, -a * T * e, np.ones(25)], axis=1)
    r = root * (Y - (a * e + c))
    bread = np.linalg.inv(J.T @ J)
    leverage = np.einsum("ij,jk,ik->i", J, bread, J)
    scores = J * (r / (1 - leverage))[:, None]
    plain = np.sqrt(np.diagonal(bread) * (r @ r) / (25 - 3))
    return plain, np.sqrt(np.diagonal(bread @ scores.T @ scores @ bread))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_robust_covariance_scales_the_statistic(weighted):
    w = np.random.default_rng(1).uniform(0.3, 2.0, 25) if weighted else np.ones(25)
    estimator = fit(weights=w, cov_type="HC3")
    plain, robust = robust_errors(estimator.params_.values(), w)
    assert_allclose([*estimator.stderr_.values()], robust, rtol=1e-6)
    stretch = robust / plain
    assert np.ptp(stretch) > 0.1
    found = estimator.confidence_intervals(X, Y, w, method="profile")
    expected = [
        by_definition(estimator, j, 0.95, w, None, stretch[j]) for j in (0, 1, 2)
    ]
    assert_allclose(found, expected, rtol=1e-6)
    reach = stats.t.ppf(0.975, 22)
    for j, name in enumerate("akc"):
        curve = estimator.profile(X, Y, name, w, level=0.99, n_points=41)
        at_ends = np.interp(found.loc[name], curve[name], curve["tau"])
        assert_allclose(at_ends, [-reach, reach], rtol=2e-2)
        rise = 2 * w.sum() * (curve["loss"] - estimator.loss_)
        size = np.sqrt(np.maximum(rise, 0) / (2 * w.sum() * estimator.loss_ / 22))
        assert_allclose(np.abs(curve["tau"]), size / stretch[j], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3"])
def test_a_linear_model_needs_no_robust_profile(cov_type):
    estimator = OptaxEstimator(cov_type=cov_type).fit(X, Y)
    wald = estimator.confidence_intervals()
    profile = estimator.confidence_intervals(X, Y, method="profile")
    assert_allclose(profile, wald, rtol=1e-6)


def test_a_robust_profile_in_other_units_and_at_a_bound():
    plain = fit(cov_type="HC3").confidence_intervals(X, Y, method="profile")
    k = Parameter(value=1.0, transform="log")
    estimator = fit(params={"a": 1.0, "k": k, "c": 0.0}, cov_type="HC3")
    found = estimator.confidence_intervals(X, Y, method="profile")
    assert_allclose(found, plain, rtol=1e-6)
    # Nothing is known of how far a value on its bound would scatter without it.
    held = fit(params=START | {"c": Parameter(value=0.5, lower=0.4)}, cov_type="HC3")
    found = held.confidence_intervals(X, Y, method="profile")
    assert np.isnan(found.loc["c"]).all()
    assert np.isfinite(found.loc[["a", "k"]]).all(axis=None)
    with pytest.raises(InvalidParameterError, match="'c' has none: it is on its bound"):
        held.profile(X, Y, "c")


@pytest.mark.parametrize("cov_type", ["HC0", "HC3"])
def test_a_robust_profile_beside_a_parameter_on_its_bound(cov_type):
    # Above the fit c stays on its bound, and the model is a line.
    x = np.linspace(0.0, 1.0, 12)
    y = 1 + 2 * x + x**2 * np.random.default_rng(0).normal(size=12)
    spec = {"a": 0.0, "b": 0.0, "c": Parameter(value=6.0, lower=5.0)}

    def parabola(t, a, b, c):
        return a + b * t + c * t**2

    estimator = OptaxEstimator(parabola, spec, cov_type=cov_type).fit(x[:, None], y)
    wald = estimator.confidence_intervals()
    found = estimator.confidence_intervals(x[:, None], y, method="profile")
    assert_allclose(found["ci_upper"]["b"], wald["ci_upper"]["b"], rtol=1e-6)


def test_a_linear_model_needs_no_profile():
    estimator = OptaxEstimator().fit(X, Y)
    wald = estimator.confidence_intervals()
    profile = estimator.confidence_intervals(X, Y, method="profile")
    assert_allclose(profile, wald, rtol=1e-6)


@pytest.mark.parametrize(
    "transform", ["log", (lambda u: 1.0 / u, lambda v: 1.0 / v)], ids=["log", "pair"]
)
def test_units_do_not_matter(transform):
    plain = fit().confidence_intervals(X, Y, method="profile")
    k = Parameter(value=1.0, transform=transform)
    scaled = Parameter(value=1.0, scale=1e3)
    estimator = fit(params={"a": scaled, "k": k, "c": 0.0})
    found = estimator.confidence_intervals(X, Y, method="profile")
    assert_allclose(found, plain, rtol=1e-6)


def test_a_poisson_rate():
    # One mean: the likelihood ratio has a closed form.
    y = np.random.default_rng(2).poisson(1.2, 25).astype(float)

    def constant(t, rate):
        return jnp.full(t.shape, rate)

    spec = {"rate": Parameter(value=1.0, lower=1e-3)}
    estimator = fit(constant, spec, y=y, loss="poisson")
    found = estimator.confidence_intervals(X, y, method="profile").loc["rate"]
    mean = y.mean()

    def rise(rate):
        loglik = stats.poisson(rate).logpmf(y).sum()
        return 2 * (stats.poisson(mean).logpmf(y).sum() - loglik) - 1.959963984540054**2

    low, high = optimize.brentq(rise, 0.1, mean), optimize.brentq(rise, mean, 10.0)
    assert_allclose(found, [low, high], rtol=1e-6)


def test_an_end_at_a_bound():
    spec = START | {"c": Parameter(value=0.3, lower=0.2)}
    estimator = fit(params=spec)
    free = fit().confidence_intervals(X, Y, method="profile")
    assert free.loc["c", "ci_lower"] < 0.2
    found = estimator.confidence_intervals(X, Y, method="profile")
    assert found.loc["c", "ci_lower"] == 0.2
    assert_allclose(found.loc["c", "ci_upper"], free.loc["c", "ci_upper"], rtol=1e-6)


def test_an_optimum_on_a_bound():
    spec = START | {"c": Parameter(value=0.6, lower=0.4)}
    estimator = fit(params=spec)
    assert estimator.params_["c"] == 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimator.confidence_intervals(X, Y, method="profile")
    assert found.loc["c", "ci_lower"] == 0.4
    assert 0.4 < found.loc["c", "ci_upper"] < 1.0
    assert np.isfinite(found.to_numpy()).all()


@pytest.mark.parametrize(
    ("seed", "has_end"), [(0, False), (3, False), (4, False), (7, True)]
)
def test_a_side_without_end(seed, has_end):
    # The rows are too late to say how fast it rises: any larger rate will do.
    t = np.linspace(0.6, 4.0, 20)
    y = 1 - np.exp(-3.0 * t) + 0.08 * np.random.default_rng(seed).normal(size=20)

    def rising(t, top, rate):
        return top * (1 - jnp.exp(-rate * t))

    estimator = fit(rising, {"top": 1.0, "rate": 3.0}, t[:, None], y)
    found = estimator.confidence_intervals(t[:, None], y, method="profile")
    # A rate without end leaves a constant.
    lowest = np.sum((y - estimator.predict(t[:, None])) ** 2)
    rise = (np.sum((y - y.mean()) ** 2) - lowest) / (lowest / 18)
    assert (rise > stats.t.ppf(0.975, 18) ** 2) == has_end
    assert (found.loc["rate", "ci_upper"] < np.inf) == has_end
    assert not found.isna().any(axis=None)
    assert 0 < found.loc["rate", "ci_lower"] < estimator.params_["rate"]
    assert np.isfinite(found.loc["top"]).all()


def test_a_trial_that_gets_lost_is_no_end():
    # A dose-response curve whose lower plateau no dose is on: far along the straight
    # line of the first order the next fit ends in another optimum, or overflows.
    dose = np.array([0, 0, 0, 0, 0, 0, 0.94, 0.94, 0.94, 1.88, 1.88, 1.88, 3.75, 3.75])
    y = np.array([7.58, 8, 8.33, 7.25, 7.38, 7.96, 8.36, 6.91, 7.75, 6.87, 6.45, 5.92])
    y = np.append(y, [2.1, 3.9])

    def curve(dose, upper, lower, ec50, slope):
        return lower + (upper - lower) / (1 + (dose / ec50) ** slope)

    start = {
        "upper": 8.0,
        "lower": 0.5,
        "ec50": Parameter(value=3.0, lower=0.0),
        "slope": Parameter(value=2.0, lower=0.0),
    }
    weights = np.full(14, 4.0)
    estimator = fit(curve, start, dose[:, None], y, weights, absolute_sigma=True)
    found = estimator.confidence_intervals(dose[:, None], y, weights, method="profile")

    def tau(at, name):
        """Return the root of the rise, by SciPy from several places."""
        others = [k for k in start if k != name]
        least = [0.01 if k in ("ec50", "slope") else -np.inf for k in others]

        def residuals(z):
            values = dict(zip(others, z, strict=True)) | {name: at}
            return 2 * (curve(dose, **values) - y)

        costs = []
        for lower, ec50, slope in ((2.4, 2.4, 4.5), (-20.0, 6.0, 2.0), (3.0, 2.0, 9.0)):
            guess = {"upper": 7.8, "lower": lower, "ec50": ec50, "slope": slope}
            begin = [guess[k] for k in others]
            found = optimize.least_squares(residuals, begin, bounds=(least, np.inf))
            costs.append(found.cost)
        return np.sqrt(2 * (min(costs) - estimator.loss_ * weights.sum()))

    reach = stats.norm.ppf(0.975)
    for side in ("ci_lower", "ci_upper"):
        assert abs(tau(found.loc["upper", side], "upper") - reach) < 1e-3
    # The half-way dose and the plateau may lie as far off as one likes.
    assert tau(50.0, "ec50") < reach and tau(-500.0, "lower") < reach
    assert found.loc["ec50", "ci_upper"] == np.inf
    assert found.loc["lower", "ci_lower"] == -np.inf


def test_what_is_not_determined():
    def product(t, a, b, k):
        return a * b * jnp.exp(-k * t)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = fit(product, {"a": 1.0, "b": 1.0, "k": 1.0})
        found = estimator.confidence_intervals(X, Y, method="profile")
    assert found.loc[["a", "b"]].isna().all(axis=None)
    assert np.isfinite(found.loc["k"]).all()


def test_another_optimum_is_told():
    # Two valleys: the lower one is behind a ridge that is no obstacle here.
    def wells(X, x):
        return jnp.where(X[:, 0] == 0, x**2 - 1, 0.5 * (x + 1))

    rows, zeros = np.array([[0.0], [1.0]]), np.zeros(2)
    estimator = fit(wells, {"x": 1.5}, rows, zeros, absolute_sigma=True)
    assert estimator.params_["x"] > 0
    with pytest.warns(UndeterminedWarning, match="lower objective"):
        estimator.confidence_intervals(rows, zeros, method="profile")


def test_priors():
    # Of a linear model: the posterior is normal, and its profile its interval.
    A = np.random.default_rng(5).normal(size=(15, 2))
    y = A @ [1.0, -1.0] + np.random.default_rng(6).normal(size=15)
    w = Parameter(value=np.zeros(2), prior=priors.Normal(0.0, 0.5))
    estimator = fit(lambda X, w: X @ w, {"w": w}, A, y)
    found = estimator.confidence_intervals(A, y, method="profile")
    assert list(found.index) == ["w[0]", "w[1]"]
    assert_allclose(found, estimator.confidence_intervals(), rtol=1e-6)


def test_a_profile():
    estimator = fit()
    table = estimator.profile(X, Y, "k", n_points=7)
    assert list(table.columns) == ["tau", "loss", "a", "k", "c"]
    assert_allclose(table.iloc[3][["a", "k", "c"]], list(estimator.params_.values()))
    assert abs(table["tau"].iloc[3]) < 1e-6
    assert (np.diff(table["tau"]) > 0).all()
    residual = Y - estimator.predict(X)
    for _, row in table.iterrows():
        # The others are fitted: their gradient vanishes.
        e = np.exp(-row["k"] * T)
        A = np.stack([e, np.ones(25)], axis=1)
        best = np.linalg.lstsq(A, Y)[0]
        assert_allclose([row["a"], row["c"]], best, rtol=1e-6)
        squares = np.sum((Y - A @ best) ** 2)
        assert_allclose(row["loss"], 0.5 * squares / 25, rtol=1e-9)
        rise = (squares - residual @ residual) / (residual @ residual / 22)
        assert_allclose(row["tau"] ** 2, rise, rtol=1e-5, atol=1e-9)


def truncated():
    """Return a sigmoid of which the upper plateau was not reached, and its fit."""
    x = np.repeat(np.linspace(-3.0, 0.2, 9), 2)
    noise = np.random.default_rng(3).normal(size=x.size)
    y = 1 + 4 / (1 + np.exp(-1.2 * x)) + 0.1 * noise

    def sigmoid(x, top, mid, slope, bottom):
        return bottom + (top - bottom) / (1 + jnp.exp(-slope * (x - mid)))

    start = {"top": 5.0, "mid": 0.0, "slope": 1.0, "bottom": 1.0}
    return fit(sigmoid, start, x[:, None], y), x, y


def lowest_sigmoid(x, y, held, begins):
    """Return the objective's lowest value by SciPy, some parameters held."""
    free = [k for k in ("top", "mid", "slope", "bottom") if k not in held]

    def residuals(z):
        p = dict(zip(free, z, strict=True)) | held
        exponent = np.clip(-p["slope"] * (x - p["mid"]), -700, 700)
        return p["bottom"] + (p["top"] - p["bottom"]) / (1 + np.exp(exponent)) - y

    costs = [
        optimize.least_squares(residuals, [p[k] for k in free], method="lm").cost
        for p in begins
    ]
    return min(costs) / len(y)


def limit_of_sigmoid(x, y, top):
    """Return what the objective tends to as the lower plateau goes to infinity."""
    # There the curve is an exponential, and linear but for its rate.
    rest = y - top

    def loss(rate):
        e = np.exp(rate * x)
        return 0.5 * np.mean((rest - max(e @ rest / (e @ e), 0.0) * e) ** 2)

    return optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").fun


@pytest.mark.parametrize("name", ["top", "bottom"])
def test_far_out_a_profile_stays_in_the_lowest_optimum(name):
    # Along a straight line, fits end in others: 25 standard errors high.
    estimator, x, y = truncated()
    table = estimator.profile(x[:, None], y, name, n_points=15)
    rows = table.to_dict("records")
    fitted, without_minimum = estimator.loss_, 0
    for i, row in enumerate(rows):
        lowest = lowest_sigmoid(x, y, {name: row[name]}, rows[max(i - 1, 0) : i + 2])
        limit = limit_of_sigmoid(x, y, row["top"]) if name == "top" else np.inf
        if limit >= lowest:
            assert row["loss"] <= lowest * (1 + 1e-6)
            continue
        # No value is the lowest, and where SciPy ends on the way is no bound.
        without_minimum += 1
        tau, least = np.sqrt((18 - 4) * (np.array([row["loss"], limit]) / fitted - 1))
        assert 0 < tau - least < 1e-4
    if name == "bottom":
        assert (np.diff(table["tau"]) > 0).all()
    else:
        assert without_minimum == 6


def test_far_out_a_profile_of_two_stays_in_the_lowest_optimum():
    estimator, x, y = truncated()
    table = estimator.profile2d(x[:, None], y, "bottom", "top", n_points=7)
    rows = table.to_dict("records")
    for i, row in enumerate(rows):
        held = {name: row[name] for name in ("bottom", "top")}
        others = [rows[k] for k in (i - 7, i + 7) if 0 <= k < 49]
        lowest = lowest_sigmoid(x, y, held, others)
        assert row["loss"] <= lowest * (1 + 1e-6)


def test_rows_and_settings_that_do_not_fit():
    estimator = fit()
    with pytest.raises(InvalidParameterError, match="needs the rows"):
        estimator.confidence_intervals(method="profile")
    with pytest.raises(InvalidParameterError, match=r"those of the fit.*ne\[:-1\]\.tr"):
        estimator.confidence_intervals(X, Y + 1.0, method="profile")
    with pytest.raises(InvalidParameterError, match="no parameter 'rate'"):
        estimator.profile(X, Y, "rate")
    with pytest.raises(InvalidParameterError, match="n_points"):
        estimator.profile(X, Y, "k", n_points=1)
    fixed = fit(params=START | {"c": Parameter(value=0.3, free=False)})
    with pytest.raises(InvalidParameterError, match="not free"):
        fixed.profile(X, Y, "c")
    robust = fit(cov_type="HC3")
    with pytest.raises(InvalidParameterError, match="HC3"):
        robust.profile2d(X, Y, "a", "k")


def peak(t, a, m, s, c):
    return a * jnp.exp(-(((t - m) / s) ** 2) / 2) + c


@pytest.mark.parametrize(
    ("loss", "dtype", "noise", "n", "seed"),
    [
        ("squared_error", "float32", 1e-6, 50, 2),
        ("squared_error", "float64", 1e-14, 50, 3),
        ("poisson", "float32", 1e-6, 100, 2),
        ("poisson", "float64", 1e-14, 201, 1),
    ],
)
def test_the_rows_of_a_fit_that_rounding_ends(loss, dtype, noise, n, seed):
    # Two programs round these predictions differently, by a large part of the loss.
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, n)
    y = 2 * np.exp(-(((t - 0.5) / 0.1) ** 2) / 2) + 100
    y = y * (1 + noise * rng.normal(size=n))
    spec = {"a": 1.5, "m": 0.45, "s": 0.12, "c": 99.0}
    estimator = fit(peak, spec, t[:, None], y, loss=loss, dtype=dtype)
    profile = estimator.profile(t[:, None], y, "m", n_points=2)
    assert profile["tau"].notna().all()
    apart = 2e3 * noise
    if loss == "poisson":
        # A mean less its logarithm is rounded by an ulp of the mean.
        apart = 20 * np.sqrt(np.finfo(dtype).eps) * y.mean()
    for others in (y[::-1], y + apart * (np.arange(n) == 3)):
        with pytest.raises(InvalidParameterError, match="those of the fit"):
            estimator.profile(t[:, None], others, "m", n_points=2)


@pytest.mark.parametrize("noise", [1e-2, 1e-6, 0.0])
@pytest.mark.parametrize("law", ["squares", "poisson", "coupled"])
def test_what_rounded_predictions_do_to_an_objective(law, noise):
    rng = np.random.default_rng(0)
    shape = (200, 2) if law == "coupled" else 200
    mean = rng.uniform(1, 100, shape)
    y = mean * (1 + noise * rng.normal(size=shape))
    mix = np.array([[2.0, 0.5], [0.5, 1.0]])
    n = len(y)

    def objective(p):
        r = y - p
        if law == "squares":
            return r @ r / n / 2
        if law == "poisson":
            each = y * np.log1p(-r / y) + r
            return -each.sum() / n
        return np.einsum("mi,ij,mj->", r, mix, r) / n / 2

    slope, bend = {
        "squares": lambda: ((mean - y) / n, np.full(n, 1 / n)),
        "poisson": lambda: ((1 - y / mean) / n, 1 / mean / n),
        "coupled": lambda: (
            ((mean - y) @ mix).ravel() / n,
            np.tile(mix / n, (n, 1, 1)),
        ),
    }[law]()
    eps = 1e-7
    found = rounding_of(LossSlopes(mean, slope, bend), eps)
    changes = [
        abs(objective(mean * (1 + eps * rng.uniform(-1, 1, shape))) - objective(mean))
        for _ in range(300)
    ]
    assert max(changes) < found < 30 * np.mean(changes)


def test_no_rounding_is_without_end():
    found = LossSlopes(np.ones(2), np.array([np.inf, 0.0]), np.ones(2))
    assert np.isnan(rounding_of(found, 1e-7))


def test_a_frame_and_single_precision():
    frame = pd.DataFrame({"t": T})
    by_name = OptaxEstimator(decay, START).fit(frame, Y)
    plain = fit().confidence_intervals(X, Y, method="profile")
    found = by_name.confidence_intervals(frame, Y, method="profile")
    assert_allclose(found, plain, rtol=1e-12)
    assert list(by_name.feature_names_in_) == ["t"]
    X32, Y32 = X.astype(np.float32), Y.astype(np.float32)
    single = OptaxEstimator(decay, START).fit(X32, Y32)
    found = single.confidence_intervals(X32, Y32, method="profile")
    assert_allclose(found, plain, rtol=2e-2)


def test_one_program_serves_all_levels():
    from skoptax import cache_info

    estimator = fit()
    estimator.confidence_intervals(X, Y, method="profile")
    before = cache_info().compilations
    estimator.confidence_intervals(X, Y, level=0.5, method="profile")
    assert cache_info().compilations == before
    assert not jax.config.jax_enable_x64


def test_two_parameters_of_a_linear_model_have_ellipses():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(30, 3))
    y = rows @ [1.0, 2.0, 3.0] + rng.normal(size=30)
    estimator = fit(lambda X, w: X @ w, {"w": np.zeros(3)}, rows, y, inputs=None)
    found = estimator.profile2d(rows, y, "w[2]", "w[0]", n_points=5)
    assert len(found) == 25
    assert list(found.columns) == ["tau", "level", "loss", "w[0]", "w[1]", "w[2]"]
    away = found[["w[2]", "w[0]"]].to_numpy() - estimator.params_["w"][[2, 0]]
    part = estimator.covariance_[np.ix_([2, 0], [2, 0])]
    squares = np.einsum("ni,ij,nj->n", away, np.linalg.inv(part), away)
    assert_allclose(found["tau"] ** 2, squares, rtol=1e-7, atol=1e-12)
    assert_allclose(
        found["level"], stats.f.cdf(squares / 2, 2, 27), rtol=1e-6, atol=1e-12
    )
    # The axes go as far as the ellipse.
    reach = np.sqrt(2 * stats.f.ppf(0.99, 2, 27) * np.diagonal(part))
    assert_allclose(np.abs(away).max(axis=0), reach, rtol=1e-9)


def test_two_parameters_by_definition():
    estimator = fit()
    found = estimator.profile2d(X, Y, "a", "k", n_points=4)
    sigma2 = 2 * estimator.loss_ * 25 / 22
    for row in found.itertuples():
        shape = np.exp(-row.k * T)
        c = np.mean(Y - row.a * shape)
        squares = np.sum((Y - row.a * shape - c) ** 2)
        assert_allclose(row.c, c, rtol=1e-6)
        assert_allclose(row.loss, squares / 50, rtol=1e-10)
        rise = (squares - 2 * estimator.loss_ * 25) / sigma2
        assert_allclose(row.tau, np.sqrt(rise), rtol=1e-6)


def test_two_parameters_stay_within_bounds():
    spec = START | {"c": Parameter(value=0.3, lower=0.28)}
    estimator = fit(params=spec)
    found = estimator.profile2d(X, Y, "a", "c", n_points=7)
    assert found["c"].min() == 0.28
    assert not found.duplicated(["a", "c"]).any()


@pytest.mark.parametrize(
    ("names", "match"),
    [(("a", "a"), "two different"), (("a", "z"), "no parameter 'z'")],
)
def test_two_parameters_have_to_be_there(names, match):
    with pytest.raises(InvalidParameterError, match=match):
        fit().profile2d(X, Y, *names)


def test_a_bound_in_single_precision():
    spec = START | {"c": Parameter(value=0.2, upper=0.31)}
    single = fit(params=spec, X=X.astype("float32"), y=Y.astype("float32"))
    found = single.confidence_intervals(
        X.astype("float32"), Y.astype("float32"), method="profile"
    )
    expected = fit(params=spec).confidence_intervals(X, Y, method="profile")
    assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0"])
def test_a_profile_where_the_loss_bends_down(cov_type):
    y = 0.5 * np.random.default_rng(7).standard_t(2, size=60)
    rows = np.zeros((60, 1)), y
    found = fit(
        lambda t, b: b + 0 * t,
        {"b": 0.0},
        *rows,
        loss=losses.Cauchy(0.4),
        cov_type=cov_type,
        tol=1e-9,
    )
    best = found.params_["b"]

    def sums(b):
        z = (b - y) / 0.4
        return (0.08 * np.log1p(z**2)).sum()

    z = (best - y) / 0.4
    slope, bend = (best - y) / (1 + z**2), (1 - z**2) / (1 + z**2) ** 2
    assert (bend < 0).any()
    dispersion = slope @ slope / 59 / bend.mean()
    stretch = 1.0 if cov_type == "nonrobust" else np.sqrt(59 / 60)
    reach = stats.norm.ppf(0.975) * stretch

    def rise(b):
        return 2 * (sums(b) - sums(best)) / dispersion - reach**2

    ends = [optimize.brentq(rise, best, best + step) for step in (-1, 1)]
    intervals = found.confidence_intervals(*rows, method="profile")
    assert_allclose(intervals.loc["b"], ends, rtol=1e-5)


def groups(X, mu):
    return X @ mu


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_a_mean_of_counts_that_are_all_0(dtype):
    # The objective rises by n mu, but its information is 0 at mu = 0.
    X = np.repeat(np.eye(3), 4, axis=0).astype(dtype)
    y = np.array([3, 4, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0], dtype)
    spec = {"mu": Parameter(value=np.ones(3), lower=0.0)}
    found = fit(groups, spec, X, y, loss="poisson")
    rtol = 1e-6 if dtype == "f8" else 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = found.confidence_intervals(X, y, method="profile")
        for name in "mu[1]", "mu[2]":
            assert_allclose(
                table.loc[name], [0, stats.chi2.ppf(0.95, 1) / 8], rtol=rtol
            )
        curve = found.profile(X, y, "mu[1]", n_points=9)
    assert_allclose(curve["tau"], np.sqrt(8 * curve["mu[1]"]), rtol=rtol)
    farthest = curve["tau"].max()
    assert stats.norm.ppf(0.995) * 0.99 < farthest < stats.norm.ppf(0.995) * 1.2
    assert curve["mu[1]"].nunique() == 5
    both = found.profile2d(X, y, "mu[1]", "mu[2]", n_points=5)
    assert_allclose(both["tau"] ** 2, 8 * (both["mu[1]"] + both["mu[2]"]), rtol=rtol)
    assert len(both) == 9

    def count(n, mu):
        return 2 * (n * mu - 14 * np.log(mu)) - stats.chi2.ppf(0.95, 1)

    low = 2 * (14 - 14 * np.log(3.5))
    ends = [
        optimize.brentq(lambda mu: count(4, mu) - low, *side)
        for side in ((1e-3, 3.5), (3.5, 20))
    ]
    assert_allclose(table.loc["mu[0]"], ends, rtol=rtol)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_mean_of_0_in_other_units(scale):
    spec = {"mu": Parameter(value=1.0 / scale, lower=0.0, scale=1.0)}
    X, y = np.zeros((5, 1)), np.zeros(5)
    found = fit(lambda t, mu: scale * mu + 0 * t, spec, X, y, loss="poisson")
    ends = found.confidence_intervals(X, y, method="profile").loc["mu"]
    assert_allclose(ends, [0, stats.chi2.ppf(0.95, 1) / 10 / scale], rtol=1e-6)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_probability_of_classes_that_are_all_one(outcome):
    X, y = np.zeros((10, 1)), np.full(10, outcome)
    spec = {"p": Parameter(value=0.5, lower=0.0, upper=1.0)}
    found = fit(lambda t, p: p + 0 * t, spec, X, y, loss="log_loss")
    ends = found.confidence_intervals(X, y, method="profile").loc["p"]
    least = np.exp(-stats.chi2.ppf(0.95, 1) / 20)
    expected = [least, 1.0] if outcome else [0.0, 1 - least]
    assert_allclose(ends, expected, rtol=1e-6)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0"])
def test_responses_that_are_fitted_exactly_have_no_profile(cov_type):
    x = np.linspace(0, 1, 30)[:, None]
    rows = x, np.ones(30)
    start = {"a": 1.0, "b": 0.0}
    found = fit(lambda t, a, b: a + b * t, start, *rows, cov_type=cov_type)
    with pytest.raises(InvalidParameterError, match=r"fitted exactly.*absolute_sigma"):
        found.confidence_intervals(*rows, method="profile")
    with pytest.raises(InvalidParameterError, match="fitted exactly"):
        found.profile(*rows, "a")
    assert_allclose(found.confidence_intervals(), [[1, 1], [0, 0]], atol=1e-12)
    known = fit(lambda t, a, b: a + b * t, start, *rows, absolute_sigma=True)
    half = stats.norm.ppf(0.975) * known.stderr_["a"]
    ends = known.confidence_intervals(*rows, method="profile").loc["a"]
    assert_allclose(ends, [1 - half, 1 + half], rtol=1e-6)


def test_as_many_responses_as_parameters_have_no_profile_with_robust_errors():
    rows = np.array([[0.0], [1.0]]), np.array([1.0, 3.0])
    start = {"a": 1.0, "b": 0.0}
    found = fit(lambda t, a, b: a + b * t, start, *rows, cov_type="HC0")
    with pytest.raises(InvalidParameterError, match="2 responses leave no degrees"):
        found.confidence_intervals(*rows, method="profile")


def ridge(cov_type="nonrobust", bound=np.inf):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
    y = A @ [1.0, 2.0] + rng.normal(size=30)
    spec = {"w": Parameter(value=np.zeros(2), upper=np.array([bound, np.inf]))}
    penalty = penalties.L2(0.3)
    return A, y, fit(groups_of, spec, A, y, penalty=penalty, cov_type=cov_type)


def groups_of(X, w):
    return X @ w


@pytest.mark.parametrize("cov_type", ["nonrobust", "hessian", "HC0"])
def test_a_linear_model_with_a_penalty_needs_no_profile(cov_type):
    A, y, found = ridge(cov_type)
    bread = np.linalg.inv(A.T @ A + 30 * 0.3 * np.eye(2))
    r = y - A @ (bread @ A.T @ y)
    middle = A.T @ A * (r @ r) / 28
    if cov_type == "HC0":
        middle = A.T @ (A * r[:, None] ** 2)
    errors = np.sqrt(np.diagonal(bread @ middle @ bread))
    half = stats.t.ppf(0.975, 28) * errors
    intervals = found.confidence_intervals(A, y, method="profile")
    best = bread @ A.T @ y
    assert_allclose(intervals, np.stack([best - half, best + half], 1), rtol=1e-6)
    curve = found.profile(A, y, "w[1]", n_points=7)
    assert_allclose(curve["tau"], (curve["w[1]"] - best[1]) / errors[1], atol=1e-5)


def test_a_profile_with_a_penalty_of_an_entry_on_its_bound():
    A, y, found = ridge(bound=0.5)
    assert found.at_bound_["w"].tolist() == [True, False]
    both = A.T @ A + 30 * 0.3 * np.eye(2)
    bread = np.linalg.inv(both)
    ratio = (bread @ A.T @ A @ bread)[0, 0] / bread[0, 0]

    def lowest(w):
        """Return the least of the objective, and its residuals."""
        other = A[:, 1] @ (y - w * A[:, 0]) / both[1, 1]
        r = y - A @ [w, other]
        return r @ r + 9 * (w**2 + other**2), r @ r

    best, squares = lowest(0.5)
    reach = stats.t.ppf(0.975, 29) ** 2 * ratio * squares / 29
    end = optimize.brentq(lambda w: lowest(w)[0] - best - reach, -2, 0.5)
    intervals = found.confidence_intervals(A, y, method="profile")
    assert_allclose(intervals.loc["w[0]"], [end, 0.5], rtol=1e-6)


def test_what_a_penalty_alone_determines_has_an_error_of_0():
    x = np.linspace(0, 1, 20)[:, None]
    rows = x, 1 + np.random.default_rng(0).normal(size=20)
    start, penalty = {"a": 0.0, "b": 1.0}, penalties.L2(0.1)
    found = fit(lambda t, a, b: a + 0 * b * t, start, *rows, penalty=penalty)
    assert found.stderr_["b"] == 0
    intervals = found.confidence_intervals(*rows, method="profile")
    assert_allclose(intervals.loc["b"], [0, 0], atol=1e-8)
    with pytest.raises(InvalidParameterError, match="the penalty alone"):
        found.profile(*rows, "b")


def test_two_decays_that_are_nearly_one():
    # Fits that begin far along the line end at another optimum, which is higher: there
    # the search met a jump, and took it for the end (0.41 instead of 0.474).
    t = np.linspace(0, 3, 25)
    noise = np.random.default_rng(14).normal(size=25)
    y = 2 * np.exp(-t) + np.exp(-1.5 * t) + 0.01 * noise

    def residuals(q, b):
        a, r, s = q
        return a * np.exp(-r * t) + b * np.exp(-s * t) - y

    def lowest(b):
        starts = [(a, 1.0, s) for a in (2.5, 2.8) for s in (1.9, 3.0, 8.0)]
        fits = [
            optimize.least_squares(residuals, q, args=(b,), xtol=1e-14) for q in starts
        ]
        return min(2 * fit.cost for fit in fits)

    fit = OptaxEstimator(
        lambda t, a, b, r, s: a * jnp.exp(-r * t) + b * jnp.exp(-s * t),
        {"a": 1.5, "b": 1.4, "r": 0.9, "s": 1.7},
    ).fit(t[:, None], y)
    found = fit.confidence_intervals(t[:, None], y, method="profile")
    rss = 2 * 25 * fit.loss_
    quantile = stats.t.ppf(0.975, 21)
    for end in found.loc["b"]:
        tau = np.sqrt((lowest(end) - rss) / (rss / 21))
        assert tau == pytest.approx(quantile, rel=1e-4)


def test_an_offset_that_takes_the_digits():
    t = np.linspace(0, 3, 200)
    noise = np.random.default_rng(1).normal(size=200)

    def ends(offset):
        y = offset + 2.5 * np.exp(-1.3 * t) + 0.3 * noise
        fit = OptaxEstimator(
            lambda t, a, r, c: a * jnp.exp(-r * t) + c,
            {"a": 1.0, "r": 0.5, "c": offset},
        ).fit(t[:, None], y)
        return fit.confidence_intervals(t[:, None], y, method="profile").loc["r"]

    # Of 1e9, seven digits are left of the noise.
    assert_allclose(ends(1e9), ends(0.0), rtol=1e-5)


def test_other_rows_are_refused_where_nothing_is_looked_for():
    x = np.linspace(1, 2, 12)
    y = 3 * x + 0.1 * np.random.default_rng(0).normal(size=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = OptaxEstimator(lambda x, a=1.0, b=2.0: a * b * x).fit(x[:, None], y)
        with pytest.raises(InvalidParameterError, match="those of the fit"):
            fit.confidence_intervals(x[:, None], y + 5, method="profile")


@pytest.mark.parametrize("k", [2.0, Parameter(value=1.5, lower=1e-3)])
def test_a_trial_on_another_curve_is_not_taken_for_the_end(k):
    # tau is 2.639 at the bound, and 2.776 is looked for; from where the line leads to,
    # fits end at an optimum that is as high as that at h = 5.25 already. A trial that
    # the bound has stopped may be on that curve, too, and is made again.
    x = np.linspace(0.5, 5, 7)
    y = x**2 / (4 + x**2) + 0.08 * np.random.default_rng(21).normal(size=7)
    fit = OptaxEstimator(
        lambda x, V, K, h: V * x**h / (K**h + x**h),
        {"V": 1.0, "K": k, "h": Parameter(value=2.0, lower=0.05, upper=40.0)},
    ).fit(x[:, None], y)
    found = fit.confidence_intervals(x[:, None], y, method="profile")
    assert found.loc["h", "ci_upper"] == 40.0
