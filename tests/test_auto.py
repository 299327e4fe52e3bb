"""Which optimiser `"auto"` is, and that it is nothing but that one."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

import skoptax
from skoptax import OptaxEstimator, Parameter, losses, penalties, priors
from skoptax._auto import MANY_PARAMETERS, choose_optimizer
from skoptax._fingerprint import Walk
from skoptax._problem import make_problem
from skoptax.exceptions import ConvergenceWarning, InvalidParameterError

T = np.linspace(0.0, 3.0, 20)
X = T[:, None]
Y = 2.5 * np.exp(-1.3 * T) + 0.05 * np.random.default_rng(0).normal(size=20)


def decay(t, a, r):
    return a * jnp.exp(-r * t)


def made(params=None, model=decay, X=X, y=Y, **arguments):
    params = {"a": 1.0, "r": 0.5} if params is None else params
    return OptaxEstimator(model, params, **arguments), X, y


def chosen(*arguments, **named):
    """Return the choice for an estimator, without a fit."""
    estimator, X, y = made(*arguments, **named)
    problem = make_problem(estimator, X, y, None, Walk())
    return choose_optimizer(problem.objective, problem.spec, y.size)


def name_of(value):
    """Name a test case: the address of a function would differ between workers."""
    return "function" if callable(value) and hasattr(value, "__code__") else str(value)


class OwnLoss(losses.Loss):
    """A subclass is trusted to be as smooth as it says."""

    def __call__(self, y_true, y_pred):
        return (y_true - y_pred) ** 4


class KinkedLoss(OwnLoss):
    has_curvature = False


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("squared_error", "lm"),
        ("huber", "lm"),
        ("log_cosh", "lm"),
        ("cauchy", "lm"),
        ("absolute_error", "lbfgs"),
        ("quantile", "lbfgs"),
        (losses.Huber(delta=0.5), "lm"),
        (losses.Quantile(quantile=0.2), "lbfgs"),
        (OwnLoss(), "lm"),
        (KinkedLoss(), "lbfgs"),
        # Of a function nothing is known.
        (lambda y, p: (y - p) ** 2, "lbfgs"),
    ],
    ids=name_of,
)
def test_loss(loss, expected):
    assert chosen(loss=loss) == expected


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_likelihoods(loss):
    assert chosen(y=np.abs(Y) + 1, loss=loss) == "lm"


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (None, "lm"),
        (penalties.L2(0.1), "lm"),
        (penalties.L1(0.1), "lbfgs"),
        (lambda params: params["a"] ** 2, "lbfgs"),
    ],
    ids=name_of,
)
def test_penalty(penalty, expected):
    assert chosen(penalty=penalty) == expected


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (priors.Normal(), "lm"),
        (priors.HalfNormal(), "lm"),
        (priors.LogNormal(), "lm"),
        (priors.Gamma(), "lm"),
        (priors.Beta(), "lm"),
        (priors.Laplace(), "lbfgs"),
        (lambda value: -(value**2), "lbfgs"),
    ],
    ids=name_of,
)
def test_prior(prior, expected):
    assert chosen({"a": 1.0, "r": Parameter(value=0.5, prior=prior)}) == expected


def weights(X, w):
    return X @ w


@pytest.mark.parametrize(
    ("count", "expected"),
    [(MANY_PARAMETERS - 1, "lm"), (MANY_PARAMETERS, "lbfgs")],
)
def test_number_of_parameters(count, expected):
    found = chosen({"w": np.zeros(count)}, weights, np.ones((20, count)))
    assert found == expected


def test_only_free_parameters_count():
    def shifted(X, w, b):
        return X @ w + b

    X = np.ones((20, 600))
    w = Parameter(value=np.zeros(600), free=False)
    assert chosen({"w": w, "b": 1.0}, shifted, X) == "lm"
    w = Parameter(tie=lambda b: b * jnp.ones(600))
    assert chosen({"w": w, "b": 1.0}, shifted, X) == "lm"


def test_only_free_entries_count():
    w = Parameter(value=np.zeros(600), free=np.arange(600) < 3)
    assert chosen({"w": w}, weights, np.ones((20, 600))) == "lm"


def test_prior_of_a_fixed_parameter():
    r = Parameter(value=0.5, free=False, prior=priors.Laplace())
    assert chosen({"a": 1.0, "r": r}) == "lm"


@pytest.mark.parametrize(
    ("loss", "name"), [("squared_error", "lm"), ("absolute_error", "lbfgs")]
)
def test_equal_to_the_one_with_that_name(loss, name):
    estimator, *data = made(loss=loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        auto = clone(estimator).set_params(optimizer="auto").fit(*data)
        before = skoptax.cache_info()
        named = clone(estimator).set_params(optimizer=name).fit(*data)
    after = skoptax.cache_info()
    assert after.compilations == before.compilations
    assert after.programs == before.programs
    assert auto.params_ == named.params_
    assert_array_equal(auto.history_, named.history_)
    for attribute in ("status_", "message_", "loss_", "n_iter_", "selected_step_"):
        assert getattr(auto, attribute) == getattr(named, attribute)
    # What was asked for stays what was asked for.
    assert auto.optimizer == "auto"


def test_is_the_default():
    estimator, *data = made()
    assert estimator.optimizer == "auto"
    assert estimator.fit(*data).converged_


def test_hyperparameters_are_those_of_the_choice():
    estimator, *data = made(optimizer_kwargs={"initial_radius": 1e-3})
    assert estimator.fit(*data).converged_
    estimator, *data = made(optimizer_kwargs={"memory_size": 5})
    with pytest.raises(
        InvalidParameterError, match=r"'lm'.*no hyperparameter 'memory_"
    ):
        estimator.fit(*data)


@pytest.mark.parametrize("name", ["Auto", "AUTO", "auto "])
def test_name_is_exact(name):
    estimator, *data = made(optimizer=name)
    with pytest.raises(InvalidParameterError, match=r"'optimizer'.*must be 'auto'"):
        estimator.fit(*data)


def test_a_jacobian_that_would_fill_the_memory_is_not_made():
    estimator, X, y = made()
    problem = make_problem(estimator, X, y, None, Walk())

    def choice(n):
        return choose_optimizer(problem.objective, problem.spec, n)

    assert choice(2**27 - 1) == "lm"
    assert choice(2**27) == "lbfgs"
