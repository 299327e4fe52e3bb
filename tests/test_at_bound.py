"""`at_bound_`: which free values are exactly on a bound of their own."""

from __future__ import annotations

import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import OptaxEstimator, Parameter, priors

T = np.linspace(0.0, 3.0, 20)
X = T[:, None]
# Least squares: a = 2.525, r = 1.327.
Y = 2.5 * np.exp(-1.3 * T) + 0.05 * np.random.default_rng(0).normal(size=20)


def decay(t, a, r):
    return a * jnp.exp(-r * t)


def fit(a=1.0, r=0.5, **arguments):
    return OptaxEstimator(decay, {"a": a, "r": r}, **arguments).fit(X, Y)


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "lm"},
        {"optimizer": "lbfgs"},
        {"optimizer": "adam", "learning_rate": 0.1},
        {"n_starts": 3, "random_state": 0},
        {"dtype": "float32"},
    ],
    ids=lambda a: "-".join(map(str, a.values())),
)
def test_optimum_cut_off(arguments):
    # 2.1 is no number of single precision.
    estimator = fit(Parameter(value=1.0, upper=2.1), **arguments)
    assert estimator.at_bound_ == {"a": True, "r": False}
    assert type(estimator.at_bound_["a"]) is bool
    assert estimator.params_["a"] == np.dtype(arguments.get("dtype", float)).type(2.1)
    assert pickle.loads(pickle.dumps(estimator)).at_bound_ == estimator.at_bound_


@pytest.mark.parametrize(
    ("a", "r", "expected"),
    [
        (1.0, 0.5, (False, False)),
        (Parameter(value=1.0, lower=0.0, upper=9.0), 0.5, (False, False)),
        (Parameter(value=2.7, lower=2.6), 0.5, (True, False)),
        (Parameter(value=1.0, upper=2.1), Parameter(value=0.5, upper=1.0), (True,) * 2),
        # Equal bounds are bounds.
        (Parameter(value=2.0, lower=2.0, upper=2.0), 0.5, (True, False)),
        # It starts there, and leaves.
        (Parameter(value=0.0, lower=0.0), 0.5, (False, False)),
        # An infinity is none.
        (Parameter(value=1.0, lower=-np.inf, upper=np.inf), 0.5, (False, False)),
        # In units of its own.
        (Parameter(value=1.0, upper=2.1, scale=3.0), 0.5, (True, False)),
    ],
)
def test_which(a, r, expected):
    assert tuple(fit(a, r).at_bound_.values()) == expected


def test_nothing_moves():
    estimator = fit(Parameter(value=2.1, upper=2.1), optimizer="adam", max_steps=0)
    assert estimator.at_bound_ == {"a": True, "r": False}


def test_negative_box():
    a = Parameter(value=-1.0, lower=-2.0, upper=-0.5)
    estimator = OptaxEstimator(decay, {"a": a, "r": 0.5}).fit(X, -Y)
    assert estimator.at_bound_ == {"a": True, "r": False}
    assert estimator.params_["a"] == -2


def test_transform():
    # A value that maps back to a bound is put on it exactly.
    value = Parameter(value=0.5, lower=0.1, upper=0.7, transform="logit")
    estimator = fit(value)
    assert estimator.at_bound_ == {"a": True, "r": False}
    assert estimator.params_["a"] == 0.7


def test_ties_and_fixed_values_are_never_flagged():
    tied = fit(Parameter(value=1.0, upper=2.0), Parameter(tie=lambda a: a / 2))
    assert tied.at_bound_ == {"a": True, "r": False}
    fixed = fit(Parameter(value=2.0, upper=2.0, free=False))
    assert fixed.at_bound_ == {"a": False, "r": False}


def test_arrays():
    Z = np.stack([T, T**2, T**3], axis=1)
    w = Parameter(value=[1.0, 2.0, 0.0], free=[True, True, False], upper=[9.0, 2.5, 0])
    params = {"part": {"w": w, "b": Parameter(value=[0.0], lower=[0.0])}}

    def model(X, part):
        return X @ part["w"] + part["b"][0]

    estimator = OptaxEstimator(model, params).fit(Z, 5 * T**2 - 1)
    part = estimator.at_bound_["part"]
    assert list(part) == ["w", "b"]
    assert part["w"].dtype == bool
    # The third entry is on its bound, too, but fixed there.
    assert_array_equal(part["w"], [False, True, False])
    assert_array_equal(part["b"], [True])
    # What is left is a straight line through the origin.
    rest = 2.5 * T**2 - 1
    assert_allclose(
        estimator.params_["part"]["w"], [T @ rest / (T @ T), 2.5, 0], rtol=1e-9
    )


def test_support_of_a_prior_is_no_bound_of_its_own():
    estimator = fit(Parameter(value=0.5, prior=priors.Beta(1.0, 1.0)))
    assert estimator.params_["a"] == 1
    assert estimator.at_bound_ == {"a": False, "r": False}
