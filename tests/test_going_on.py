"""Fits that go on from earlier ones make the steps of one long fit."""

from __future__ import annotations

import pickle

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import curve_fit
from sklearn.base import clone

from skoptax import OptaxEstimator, Parameter, cache_info
from skoptax.exceptions import InvalidParameterError

N = 103
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=N)

KINDS = {
    "all rows": {},
    "batches": {"batch_size": 16},
    "in order": {"batch_size": 16, "shuffle": False},
    "momentum": {
        "batch_size": 16,
        "optimizer": "sgd",
        "optimizer_kwargs": {"momentum": 0.9},
    },
    "schedule": {
        "batch_size": 16,
        "learning_rate": optax.exponential_decay(0.1, 5, 0.9),
    },
}


def fit(**arguments):
    given = {"optimizer": "adam", "learning_rate": 0.02, "random_state": 3}
    return OptaxEstimator(**given | arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_make_a_whole(kind):
    whole = fit(max_epochs=6, **KINDS[kind]).fit(X, Y)
    parts = fit(**KINDS[kind])
    warm = fit(max_epochs=3, warm_start=True, **KINDS[kind]).fit(X, Y)
    half = warm.n_iter_
    for _ in range(6):
        parts.partial_fit(X, Y)
    warm.fit(X, Y)
    for found in (parts, warm):
        assert_array_equal(found.params_["coef"], whole.params_["coef"])
        assert found.loss_ == whole.loss_
    columns = ["loss", "grad_norm", "learning_rate", "intercept"]
    later = whole.history_[columns].iloc[half + 1 :]
    assert_array_equal(warm.history_[columns].iloc[1:], later)


def test_other_rows_each_time():
    found = fit(batch_size=16, learning_rate=0.05)
    compilations = None
    for k in range(40):
        rows = np.arange(N)[k % 2 :: 2]
        found.partial_fit(X[rows], Y[rows])
        if k == 1:
            compilations = cache_info().compilations
    assert cache_info().compilations == compilations
    exact = OptaxEstimator().fit(X, Y)
    assert_allclose(found.params_["coef"], exact.params_["coef"], atol=0.05)


def test_it_goes_on_after_a_pickle_and_not_in_a_clone():
    first = fit(batch_size=16).partial_fit(X, Y)
    copied = pickle.loads(pickle.dumps(first))  # our own, just made
    anew = clone(first).partial_fit(X, Y)
    assert anew.params_["intercept"] == first.params_["intercept"]
    assert_array_equal(
        copied.partial_fit(X, Y).history_, first.partial_fit(X, Y).history_
    )
    assert anew.params_["intercept"] != first.params_["intercept"]


def test_without_it_a_fit_starts_anew():
    found = fit(max_epochs=3, batch_size=16).fit(X, Y)
    before = found.history_
    assert_array_equal(found.fit(X, Y).history_, before)


def test_another_optimiser_keeps_the_values():
    found = fit(max_epochs=3, warm_start=True).fit(X, Y)
    values = found.params_
    found.set_params(optimizer="sgd", optimizer__momentum=0.9).fit(X, Y)
    assert_allclose(found.history_["intercept"][0], values["intercept"], rtol=1e-15)


def test_other_bounds_are_those_of_now():
    def plane(X, w, b):
        return X @ w + b

    spec = {"w": np.zeros(3), "b": Parameter(value=0.1, lower=0.0)}
    found = OptaxEstimator(plane, spec, warm_start=True, optimizer="lbfgs").fit(X, Y)
    assert found.params_["b"] < 0.5
    found.set_params(params__b__upper=0.2)
    with pytest.raises(InvalidParameterError, match="within its bounds"):
        found.fit(X, Y)
    found.set_params(params__b__upper=2.0).fit(X, Y)
    assert found.n_iter_ <= 2


def test_ties_and_masks_go_on():
    def plane(X, w, b, c):
        return X @ w + b + c

    spec = {
        "w": Parameter(value=np.zeros(3), free=np.array([True, True, False])),
        "b": 0.0,
        "c": Parameter(tie=lambda b: 2 * b),
    }
    arguments = {"optimizer": "adam", "learning_rate": 0.02, "batch_size": 16}
    whole = OptaxEstimator(plane, spec, max_epochs=4, random_state=0, **arguments)
    warm = OptaxEstimator(
        plane, spec, max_epochs=2, random_state=0, warm_start=True, **arguments
    )
    whole.fit(X, Y)
    warm.fit(X, Y).fit(X, Y)
    assert_allclose(warm.params_["w"], whole.params_["w"], rtol=1e-13)
    assert warm.params_["c"] == pytest.approx(2 * warm.params_["b"], rel=1e-14)


def test_other_parameters_are_refused():
    found = OptaxEstimator(lambda X, a, b: a + b * X[:, 0], {"a": 0.0, "b": 0.0})
    found.set_params(warm_start=True).fit(X, Y)
    found.set_params(
        model=lambda X, a, c: a + jnp.exp(c) * X[:, 0], params={"a": 0.0, "c": 0.0}
    )
    with pytest.raises(InvalidParameterError, match="must be those of that fit"):
        found.fit(X, Y)
    assert set(found.params_) == {"a", "b"}
    found.set_params(warm_start=False).fit(X, Y)


def test_other_columns_are_refused():
    found = fit(batch_size=16).partial_fit(X, Y)
    with pytest.raises(ValueError, match="expecting 3 features"):
        found.partial_fit(X[:, :2], Y)
    assert found.n_features_in_ == 3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"early_stopping": True}, "does not go with"), ({"warm_start": "yes"}, "a bool")],
)
def test_wrong_arguments(arguments, match):
    estimator = fit(**arguments)
    call = estimator.partial_fit if "early_stopping" in arguments else estimator.fit
    with pytest.raises(InvalidParameterError, match=match):
        call(X, Y)


# Many starts.


def decay(t, a, r):
    return a * jnp.exp(-r * t)


T = np.linspace(0.0, 3.0, 20)[:, None]
DECAY = 2.5 * np.exp(-1.3 * T[:, 0]) + 0.05 * np.random.default_rng(1).normal(size=20)


def from_many(**arguments):
    params = {
        "a": Parameter(value=1.0, lower=0.1, upper=10.0),
        "r": Parameter(value=0.5, lower=0.01, upper=10.0),
    }
    given = {"n_starts": 6, "random_state": 0, "warm_start": True}
    return OptaxEstimator(decay, params, **given | arguments)


def test_drawn_starts_converge_in_a_second_fit_too():
    found = from_many(optimizer="lbfgs").fit(T, DECAY)
    found.fit(T, DECAY)
    exact, _ = curve_fit(lambda t, a, r: a * np.exp(-r * t), T[:, 0], DECAY, (1, 1))
    table = found.starts_
    assert_allclose(table.loc[0, ["start__a", "start__r"]].tolist(), exact, rtol=1e-4)
    # (The first begins at the optimum, where nothing is left to fall.)
    there = np.isclose(table["a"], exact[0], rtol=1e-3)
    there &= np.isclose(table["r"], exact[1], rtol=1e-3)
    there[0] = False
    assert there.sum() >= 3
    assert (table["status"][there] == "converged").all()
    assert found.converged_
    assert_allclose(list(found.params_.values()), exact, rtol=1e-4)


def test_a_schedule_begins_anew_with_many_starts_and_goes_on_with_one():
    schedule = optax.exponential_decay(0.1, 5, 0.9)
    found = from_many(optimizer="adam", learning_rate=schedule, max_steps=10)
    for _ in range(2):
        found.fit(T, DECAY)
        rates = found.history_["learning_rate"].to_numpy()[1:]
        assert_allclose(rates, [0.1 * 0.9 ** (k / 5) for k in range(10)], rtol=1e-6)
    found.set_params(n_starts=1).fit(T, DECAY)
    rates = found.history_["learning_rate"].to_numpy()[1:]
    assert_allclose(rates, [0.1 * 0.9 ** (k / 5) for k in range(10, 20)], rtol=1e-6)
    # Of the update itself: Adam's steps with the moments of the best start are no
    # longer than the schedule lets them be, up to their bias.
    steps = np.abs(np.diff(found.history_["a"]))
    assert (steps <= 2 * rates).all()


# Epochs.


def orders(losses, count):
    """Return the losses of each epoch's batches, and check that all epochs differ."""
    found = np.concatenate(losses).reshape(count, -1)
    for i in range(count):
        for j in range(i):
            assert not np.allclose(found[i], found[j], rtol=1e-3)
    return found


@pytest.mark.parametrize("way", ["warm_start", "partial_fit"])
def test_another_optimiser_takes_the_epochs_that_follow(way):
    # So short are the steps that a batch's loss says which rows are in it.
    short = {"learning_rate": 1e-9, "batch_size": 16}
    found = fit(**short, warm_start=way == "warm_start", max_epochs=1)
    losses = []
    for optimizer in ("adam", "sgd", "sgd", "adam", "adam"):
        found.set_params(optimizer=optimizer)
        found.fit(X, Y) if way == "warm_start" else found.partial_fit(X, Y)
        losses.append(found.history_["loss"].to_numpy()[:-1])
    whole = fit(**short, optimizer="sgd", max_epochs=5).fit(X, Y)
    expected = whole.history_["loss"].to_numpy()[:-1].reshape(5, -1)
    assert_allclose(orders(losses, 5), expected, rtol=1e-5)
    # Each epoch is a pass over all rows: so its batches' losses say. (The last batch
    # has fewer rows, each of which stands for more.)
    shares = np.array([16] * 6 + [7]) / N
    assert_allclose(expected @ shares, expected[0] @ shares, rtol=1e-5)
