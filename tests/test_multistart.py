"""Many starts: where they are, and that the best run is as it would be on its own."""

from __future__ import annotations

import pickle
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import skoptax
from skoptax import OptaxEstimator, Parameter, priors
from skoptax._entries import Entries
from skoptax._multistart import draw_starts
from skoptax.exceptions import (
    ConvergenceWarning,
    InvalidParameterError,
    NonFiniteError,
)

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

INF = np.inf
T = np.linspace(0.0, 3.0, 20)
X = T[:, None]
Y = 2.5 * np.exp(-1.3 * T) + 0.05 * np.random.default_rng(0).normal(size=20)


def decay(t, a, r):
    # Far from the answer there is none: some starts are not finite.
    return jnp.where(r > 50, jnp.nan, a * jnp.exp(-r * t))


def box(a=1.0, r=0.5):
    return {
        "a": Parameter(value=a, lower=0.1, upper=10.0),
        "r": Parameter(value=r, lower=0.01, upper=100.0),
    }


def fit(n_starts=8, seed=0, params=None, **arguments):
    params = box() if params is None else params
    estimator = OptaxEstimator(
        decay, params, n_starts=n_starts, random_state=seed, **arguments
    )
    return estimator.fit(X, Y)


# Where to start.


def entries(values, lower=-INF, upper=INF, fixed=False, dtype=float):
    values = np.atleast_1d(np.asarray(values, dtype))
    shape = values.shape
    return Entries(
        values,
        values,
        np.broadcast_to(np.asarray(lower, dtype), shape),
        np.broadcast_to(np.asarray(upper, dtype), shape),
        np.broadcast_to(fixed, shape),
    )


def draw(found, count, seed=0):
    return draw_starts(found, count, np.random.default_rng(seed))


NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e-12, -1e-12, 1e30, -1e30])


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.lists(NUMBERS, min_size=3, max_size=3), st.integers(0, 3)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 33),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**31),
)
def test_starts_are_inside(parts, count, dtype, seed):
    bounded = [(*sorted(np.asarray(numbers, dtype)), which) for numbers, which in parts]
    lower = [low if which & 1 else -INF for low, _, _, which in bounded]
    upper = [high if which & 2 else INF for _, _, high, which in bounded]
    values = [value for _, value, _, _ in bounded]
    found = entries(values, lower, upper, dtype=dtype)
    points = draw(found, count, seed)
    assert points.shape == (count, len(values))
    assert points.dtype == dtype
    assert np.all(np.isfinite(points))
    assert np.all((points >= found.lower) & (points <= found.upper))
    assert_array_equal(points[0], found.values)
    assert_array_equal(points, draw(found, count, seed))


@pytest.mark.parametrize("sign", [1, -1])
def test_half_of_them_are_spread_over_the_logarithm(sign):
    low, high = 1e-3, 1e3
    ends = sorted((sign * low, sign * high))
    points = sign * draw(entries(sign * 1.0, *ends), 1024)[1:, 0]
    # The cumulative distribution is the mean of a uniform and a log-uniform one.
    for level in (1e-2, 1.0, 10.0, 100.0, 500.0, 900.0):
        share = (level - low) / (high - low) + np.log(level / low) / np.log(high / low)
        assert_allclose(np.mean(points <= level), share / 2, atol=0.005)


@pytest.mark.parametrize(
    ("found", "low", "high"),
    [
        (entries(0.0), -10, 10),
        (entries(1.0, -2.0, 3.0), -2, 3),
        (entries(1.0, 0.0, 3.0), 0, 3),
        (entries(0.0, upper=2.0), -10, 2),
        (entries(0.0, lower=-4.0), -4, 10),
        (entries(-1.0, -1.0, 0.0), -1, 0),
    ],
    ids=str,
)
def test_evenly_around_zero(found, low, high):
    points = draw(found, 257)[1:, 0]
    assert_allclose(np.sort(points), np.linspace(low, high, 256), atol=0.02 * 20)
    shares = np.histogram(points, 8, (low, high))[0]
    assert_array_equal(shares > 25, True)


@pytest.mark.parametrize(
    ("found", "low", "high"),
    [
        (entries(3.0), 0.3, 30),
        (entries(-3.0), -30, -0.3),
        (entries(3.0, lower=1.0), 1, 30),
        (entries(3.0, lower=-5.0), 0.3, 30),
        (entries(3.0, upper=4.0), 0.3, 4),
        (entries(-3.0, upper=-2.0), -30, -2),
        (entries(1e-9, lower=0.0), 1e-10, 1e-8),
    ],
    ids=str,
)
def test_a_tenth_to_ten_times(found, low, high):
    points = draw(found, 257)[1:, 0]
    assert points.min() >= low
    assert points.max() <= high
    middle, geometric = (low + high) / 2, np.sign(low) * np.sqrt(low * high)
    for level in (middle, geometric):
        assert 0.15 < np.mean(points < level) < 0.85


@pytest.mark.parametrize(
    "found",
    [
        entries(1.0, np.finfo(float).tiny, 10.0),
        entries(1.0, 1e-300, 1e300),
        entries(0.0, -1e308, 1e308),
        entries(1e308),
        entries(1e38, dtype=np.float32),
    ],
    ids=["tiny", "quotient", "difference", "double", "single"],
)
def test_extreme_intervals(found):
    points = draw(found, 65)
    assert np.all(np.isfinite(points))
    assert np.unique(points).size > 60


def test_start_at_a_bound_of_zero():
    points = draw(entries(0.0, lower=0.0), 257)[1:, 0]
    assert np.unique(points).size > 250
    assert points.max() > 9


def test_equal_bounds_and_fixed_entries():
    found = entries([2.0, 3.0, 4.0], [2.0, 0.0, 0.0], [2.0, 9.0, 9.0], [0, 1, 0])
    points = draw(found._replace(fixed=found.fixed.astype(bool)), 64)
    assert_array_equal(points[:, :2], np.broadcast_to([2.0, 3.0], (64, 2)))
    assert np.unique(points[:, 2]).size > 60


def test_fills_the_box_in_several_dimensions():
    points = draw(entries(np.zeros(3), -1.0, 1.0), 65)[1:]
    octants = (points > 0) @ [1, 2, 4]
    # Sobol's points: as many in each.
    assert_array_equal(np.bincount(octants, minlength=8) >= 7, True)


def test_more_parameters_than_sobol_has_dimensions():
    points = draw(entries(np.ones(21202), 0.5, 2.0), 2)
    assert points.shape == (2, 21202)
    assert np.all((points >= 0.5) & (points <= 2))


# The runs.


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"optimizer": "lbfgs"},
        # More than two blocks of the history.
        {"optimizer": "adam", "learning_rate": 0.02, "max_steps": 700},
        {"dtype": "float32"},
    ],
    ids=["lm", "lbfgs", "adam", "float32"],
)
def test_best_run_is_as_on_its_own(arguments):
    many = fit(**arguments)
    starts = many.starts_
    assert list(starts.columns) == [
        *("start__a", "start__r", "a", "r", "loss", "status", "n_iter")
    ]
    assert starts.index.name == "start"
    assert len(starts) == 8
    # Which one it was.
    began = many.history_[["a", "r"]].iloc[0]
    (best,) = np.flatnonzero(
        (starts["start__a"] == began["a"]) & (starts["start__r"] == began["r"])
    )
    row = starts.loc[best]
    assert row["loss"] == many.loss_ <= starts["loss"].min() * (1 + 1e-9)
    assert row["n_iter"] == many.n_iter_ == len(many.history_) - 1
    assert row["status"] == many.status_
    assert (row["a"], row["r"]) == (many.params_["a"], many.params_["r"])

    one = fit(1, params=box(float(began["a"]), float(began["r"])), **arguments)
    for name in ("n_iter_", "status_", "selected_step_", "converged_", "at_bound_"):
        assert getattr(one, name) == getattr(many, name), name
    tolerance = {"rtol": 1e-4} if "dtype" in arguments else {"rtol": 1e-9}
    assert_allclose(
        list(one.params_.values()), list(many.params_.values()), **tolerance
    )
    assert_allclose(one.loss_, many.loss_, **tolerance)
    assert list(one.history_.columns) == list(many.history_.columns)
    assert_array_equal(one.history_.index, many.history_.index)
    columns = ["loss", "a", "r"]
    assert_allclose(one.history_[columns], many.history_[columns], **tolerance)
    if arguments.get("optimizer") == "adam":
        assert one.message_ == many.message_
        assert_array_equal(one.history_, many.history_)
    assert_allclose(one.predict(X), many.predict(X), **tolerance)


@pytest.mark.parametrize("max_steps", [0, 1, 255, 256, 257, 511, 512])
def test_blocks_of_the_history(max_steps):
    adam = {"optimizer": "adam", "learning_rate": 0.02}
    many = fit(max_steps=max_steps, **adam)
    began = many.history_[["a", "r"]].iloc[0]
    one = fit(1, params=box(*map(float, began)), max_steps=max_steps, **adam)
    assert many.history_.equals(one.history_)
    assert len(many.history_) == max_steps + 1
    assert set(many.starts_["status"]) == {"max_steps", "non_finite"}


def test_first_start_is_the_users():
    starts = fit(params=box(1.25, 0.75)).starts_
    assert tuple(starts.loc[0, ["start__a", "start__r"]]) == (1.25, 0.75)


def test_columns_in_the_users_order():
    # JAX sorts the keys of a dict.
    def model(t, z, nested):
        return z * jnp.exp(-nested["b"] * t) + nested["a"] @ jnp.stack([t**2, t])

    start = {"z": 1.0, "nested": {"b": 0.5, "a": np.array([0.0, 0.1])}}
    starts = OptaxEstimator(model, start, n_starts=4).fit(X, Y).starts_
    names = ["z", "nested.b", "nested.a[0]", "nested.a[1]"]
    assert list(starts.columns[:8]) == [*(f"start__{name}" for name in names), *names]
    assert starts.loc[0, starts.columns[:4]].tolist() == [1.0, 0.5, 0.0, 0.1]


def test_random_state():
    first = fit().starts_
    assert first.equals(fit().starts_)
    assert first.equals(fit(seed=np.random.RandomState(0)).starts_)
    other = fit(seed=1).starts_
    assert not np.any(first["start__a"][1:] == other["start__a"][1:])


def test_starts_within_bounds():
    starts = fit().starts_
    assert starts["start__a"].between(0.1, 10).all()
    assert starts["start__r"].between(0.01, 100).all()


def test_some_starts_are_not_finite():
    many = fit()
    starts = many.starts_
    bad = starts["start__r"] > 50
    assert bad.sum() == 2
    assert set(starts.loc[bad, "status"]) == {"non_finite"}
    assert starts.loc[bad, "loss"].isna().all()
    assert_array_equal(starts.loc[bad, "n_iter"], 0)
    assert set(starts.loc[~bad, "status"]) == {"converged"}
    assert_allclose(starts.loc[~bad, "a"], many.params_["a"], rtol=1e-8)
    assert many.converged_


def test_values_of_a_start_that_is_not_finite():
    starts = fit().starts_
    bad = starts["start__r"] > 50
    for name in ("a", "r"):
        ended = starts.loc[bad, name]
        assert (ended.isna() | (ended == starts.loc[bad, f"start__{name}"])).all()


def test_users_start_is_not_finite():
    # Alone it raises; with others it is one of many.
    with pytest.raises(NonFiniteError, match=r"r=60.0"):
        fit(1, params=box(1.0, 60.0))
    many = fit(params=box(1.0, 60.0))
    assert_allclose(many.params_["r"], fit(1).params_["r"], rtol=1e-9)
    assert many.starts_["status"][0] == "non_finite"


def test_no_start_is_finite():
    params = {"a": 1.0, "r": Parameter(value=60.0, lower=51.0, upper=100.0)}
    with pytest.raises(NonFiniteError, match=r"nan at the start values a=1.0, r=60.0"):
        fit(params=params)


def test_failed_fit_leaves_the_earlier_one():
    estimator = fit()
    before = estimator.starts_
    estimator.set_params(params__r__value=60.0, params__r__lower=51.0)
    with pytest.raises(NonFiniteError):
        estimator.fit(X, Y)
    assert estimator.starts_ is before


def test_local_minima():
    # Three of them in the box; the user's start leads to a poor one.
    def wave(t, w):
        return jnp.sin(w * t)

    y = np.sin(7.0 * T)
    params = {"w": Parameter(value=1.0, lower=0.5, upper=12.0)}
    alone = OptaxEstimator(wave, params).fit(X, y)
    assert abs(alone.params_["w"] - 7) > 1
    many = clone(alone).set_params(n_starts=32, random_state=0).fit(X, y)
    assert_allclose(many.params_["w"], 7.0, rtol=1e-9)
    assert many.starts_["loss"].nunique() > 2
    assert many.starts_["loss"][0] == alone.loss_


def test_arrays_ties_masks_and_nested_parameters():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(20, 3))
    y = Z @ [1.0, 2.0, 3.0] + 5.0 + 0.1 * rng.normal(size=20)

    def model(X, w, part, twice):
        return X @ w + part["shift"] + 0 * twice

    params = {
        "w": Parameter(value=[1.0, 2.5, 1.0], free=[True, False, True], lower=0.1),
        "part": {"shift": Parameter(value=1.0, transform="log", scale=2.0)},
        "twice": Parameter(tie=lambda w: 2 * w[0]),
    }
    many = OptaxEstimator(model, params, n_starts=6, random_state=0).fit(Z, y)
    starts = many.starts_
    names = ["w[0]", "w[1]", "w[2]", "part.shift"]
    assert [c for c in starts if c.startswith("start__")] == [
        f"start__{name}" for name in names
    ]
    assert_array_equal(starts["start__w[1]"], 2.5)
    assert_array_equal(starts["w[1]"], 2.5)
    assert (starts["start__part.shift"] > 0).all()
    assert starts["start__w[0]"].between(0.1, 10).all()
    # Linear but for the transform: least squares with the fixed column taken out.
    design = np.stack([np.ones(20), Z[:, 0], Z[:, 2]], axis=1)
    solution = np.linalg.lstsq(design, y - 2.5 * Z[:, 1], rcond=None)[0]
    for _, row in starts.iterrows():
        ended = [row[name] for name in ("part.shift", "w[0]", "w[2]")]
        assert_allclose(ended, solution, rtol=1e-7)
    assert_allclose(many.params_["w"], [solution[1], 2.5, solution[2]], rtol=1e-9)
    assert_allclose(many.params_["twice"], 2 * solution[1], rtol=1e-9)


def test_starts_within_a_priors_support():
    params = {
        "a": Parameter(value=1.0, prior=priors.HalfNormal(2.0)),
        "r": Parameter(value=0.5, prior=priors.Beta(2.0, 2.0)),
    }
    starts = fit(16, params=params).starts_
    assert (starts["start__a"] >= 0).all()
    assert starts["start__r"].between(0, 1).all()


def test_starts_within_a_transforms_range():
    share = Parameter(value=0.5, transform="logit")
    adam = {"optimizer": "adam", "learning_rate": 0.02, "max_steps": 10}
    starts = fit(16, params={"a": share, "r": 0.5}, **adam).starts_
    assert starts["start__a"].between(0, 1).all()
    assert not (starts["status"] == "non_finite").any()


def test_parameters_called_as_columns():
    def model(t, loss, status):
        return loss * jnp.exp(-status * t)

    params = {"loss": 1.0, "status": 0.5}
    many = OptaxEstimator(model, params, n_starts=2, random_state=0).fit(X, Y)
    assert many.starts_.shape == (2, 7)
    assert (many.starts_["loss"] == many.loss_).any()


def test_weights():
    weights = np.r_[np.ones(15), np.zeros(5)]
    estimator = fit()
    weighted = clone(estimator).fit(X, Y, weights)
    exact = clone(estimator).fit(X[:15], Y[:15])
    assert_allclose(weighted.starts_[["a", "r"]], exact.starts_[["a", "r"]], rtol=1e-7)


def test_status_of_a_start_is_that_of_the_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        many = OptaxEstimator(
            lambda t, a, b: (a + b) * t, {"a": 1.0, "b": 1.0}, n_starts=3
        ).fit(X, Y)
    assert many.status_ == "singular"
    assert set(many.starts_["status"]) == {"singular"}


def test_starts_that_are_given_up():
    # Far starts would take a million steps, near ones take a thousand.
    many = fit(optimizer="sgd", learning_rate=0.3, tol=1e-4, max_steps=100_000)
    starts = many.starts_
    given_up = starts["status"] == "abandoned"
    converged = starts["status"] == "converged"
    assert many.converged_
    # Which they are follows from SciPy's sequence, which versions do not share.
    assert 0 < given_up.sum() < len(starts)
    assert starts.loc[given_up, "loss"].min() > starts.loc[converged, "loss"].max()
    usual = starts.loc[converged, "n_iter"].median()
    assert starts.loc[given_up, "n_iter"].between(10 * usual, 11 * usual).all()


# Life in scikit-learn.


def test_second_fit_compiles_nothing():
    estimator = fit()
    before = skoptax.cache_info()
    clone(estimator).set_params(random_state=5).fit(X, 2 * Y)
    clone(estimator).set_params(params__a__value=3.0, params__r__upper=20).fit(X, Y)
    after = skoptax.cache_info()
    assert after.compilations == before.compilations
    assert after.programs == before.programs


def test_pickle_and_clone():
    many = fit()
    back = pickle.loads(pickle.dumps(many))
    assert back.starts_.equals(many.starts_)
    assert back.history_.equals(many.history_)
    again = clone(many)
    assert again.n_starts == 8
    with pytest.raises(AttributeError):
        _ = again.starts_


def test_grid_search_over_n_starts():
    estimator = OptaxEstimator(decay, box(), random_state=0)
    search = GridSearchCV(estimator, {"n_starts": [1, 8]}, cv=2)
    search.fit(X, Y)
    # There is one optimum only.
    assert_allclose(np.diff(search.cv_results_["mean_test_score"]), 0, atol=1e-9)
    assert_allclose(search.best_estimator_.params_["r"], fit(1).params_["r"])
    best = search.best_estimator_
    assert hasattr(best, "starts_") == (search.best_params_["n_starts"] == 8)


def test_one_start_has_no_table():
    estimator = fit()
    estimator.set_params(n_starts=1).fit(X, Y)
    assert not hasattr(estimator, "starts_")
    with pytest.raises(AttributeError, match="n_starts above 1"):
        _ = estimator.starts_


@pytest.mark.parametrize("n_starts", [0, -1, 2.0, True, None, "3", INF])
def test_n_starts_must_be_an_int(n_starts):
    with pytest.raises(InvalidParameterError, match=r"'n_starts'.*int of at least 1"):
        fit(n_starts)


def test_not_with_callbacks():
    with pytest.raises(InvalidParameterError, match=r"'n_starts'.*1 with callbacks"):
        fit(callbacks=lambda *state: (False, None, None))
