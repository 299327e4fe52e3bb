"""Derivatives that the loop's own program computes where it ends."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skoptax
from skoptax import OptaxEstimator, Parameter
from skoptax._driver import Run
from skoptax.callbacks import Callback
from skoptax.inference import _pieces
from skoptax.penalties import L2
from skoptax.priors import Normal

RNG = np.random.default_rng(0)
X = RNG.uniform(0.0, 3.0, size=(70, 1))
Y = 2 * np.exp(-1.3 * X[:, 0]) + 0.1 + 0.05 * RNG.normal(size=70)
START = {"a": 1.0, "k": 1.0, "c": 0.0}


def decay(X, a, k, c):
    return a * jnp.exp(-k * X[:, 0]) + c


def covariance(estimator):
    """The textbook's, by NumPy, at the fitted values, wherever these are."""
    a, k, c = (estimator.params_[name] for name in "akc")
    x, decayed = X[:, 0], np.exp(-k * X[:, 0])
    J = np.stack([decayed, -a * x * decayed, np.ones_like(x)], axis=1)
    residual = Y - (a * decayed + c)
    return np.linalg.inv(J.T @ J) * (residual @ residual) / (len(x) - 3)


@pytest.fixture
def ends(monkeypatch):
    """For each fit, whether its own program had the derivatives."""
    found = []
    at_end = Run.at_end.fget

    def noted(run):
        result = at_end(run)
        found.append(result is not None)
        return result

    monkeypatch.setattr(Run, "at_end", property(noted))
    return found


def fit(model=decay, params=START, **arguments):
    arguments = {"optimizer": "adam", "max_steps": 60} | arguments
    return OptaxEstimator(model, params, **arguments).fit(X, Y)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_steps": 0},
        {"max_steps": 5000},  # more than a block
        {"learning_rate": 0.05, "max_steps": 20_000, "tol": 1e-6},  # ends by itself
        {"optimizer": "lbfgs"},
        {"mode": "fwd"},
        {"params": {"a": Parameter(value=1.0, scale=3.0), "k": 1.0, "c": 0.0}},
        {"params": START | {"k": Parameter(value=1.0, lower=0.0, transform="log")}},
        {"params": START | {"a": Parameter(value=1.0, lower=0.0, upper=9.0)}},
    ],
    ids=str,
)
def test_covariance_is_that_at_the_fitted_values(arguments, ends):
    found = fit(**arguments)
    assert_allclose(found.covariance_, covariance(found), rtol=1e-9)
    assert ends == [True]


def test_no_program_besides_the_loop():
    def model(X, a, k, c):
        return 1.0000001 * decay(X, a, k, c)

    before = skoptax.cache_info().compilations
    found = fit(model).predict(X)
    assert np.isfinite(found).all()
    assert skoptax.cache_info().compilations - before == 2  # the fit, the prediction
    fit(model, cov_type="HC3", max_steps=50)  # needs no others
    assert skoptax.cache_info().compilations - before == 2


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC3", "hessian"])
def test_as_a_program_of_its_own_has_it(cov_type, monkeypatch):
    arguments = {"cov_type": cov_type, "penalty": L2(0.01)}
    one = fit(**arguments)
    monkeypatch.setattr(Run, "at_end", None)
    other = fit(**arguments)
    assert_allclose(one.covariance_, other.covariance_, rtol=1e-11)
    assert one.params_ == other.params_


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def __call__(self, step, diff_state, static_state, *_):
        return step == self.step, diff_state, static_state


class Replace(Callback):
    """Put other values in place of those of the last step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step, diff_state, static_state, *_):
        if step == self.step:
            leaf = diff_state["a"]
            diff_state = diff_state | {"a": leaf.with_fields(value=leaf.value + 0.5)}
        return False, diff_state, static_state


def test_with_callbacks_to_the_last_bit(ends):
    plain = fit()
    watched = fit(callbacks=StopAt(1000))
    assert_array_equal(plain.covariance_, watched.covariance_)
    assert ends == [True, True]


def test_a_callback_that_ends_it_earlier(ends):
    found = fit(callbacks=StopAt(30))
    assert found.n_iter_ == 31
    assert_allclose(found.covariance_, covariance(found), rtol=1e-9)
    assert ends == [False]


@pytest.mark.parametrize("step", [20, 59])
def test_a_callback_that_replaces_a_state(step):
    found = fit(callbacks=Replace(step))
    assert_allclose(found.covariance_, covariance(found), rtol=1e-9)


def test_a_run_that_returns_an_earlier_state(ends):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(optimizer="sgd", learning_rate=1e3, max_steps=40)
    assert found.selected_step_ < found.n_iter_
    assert_allclose(found.covariance_, covariance(found), rtol=1e-9)
    assert ends == [False]


@pytest.mark.parametrize(
    "arguments",
    [{"n_starts": 3}, {"batch_size": 16}, {"early_stopping": True}],
    ids=str,
)
def test_other_loops_leave_it_to_a_program(arguments, ends):
    params = {name: Parameter(value=1.0, lower=0.0, upper=4.0) for name in START}
    fit(params=params, random_state=0, **arguments)
    assert ends == [False]


def test_large_jacobians_are_left_to_a_program(ends, monkeypatch):
    monkeypatch.setattr(_pieces, "_AT_END", 3 * 70 - 1)
    found = fit()
    assert_allclose(found.covariance_, covariance(found), rtol=1e-9)
    assert ends == [False]


def test_a_model_that_refuses_forward_mode(ends):
    @jax.custom_vjp
    def decaying(x):
        return jnp.exp(-x)

    def forward(x):
        return decaying(x), decaying(x)

    def backward(found, cotangent):
        return (-found * cotangent,)

    decaying.defvjp(forward, backward)

    def model(X, a, k, c):
        return a * decaying(k * X[:, 0]) + c

    found = fit(model)
    assert_allclose(found.params_["k"], fit().params_["k"], rtol=1e-12)
    # By rows, in reverse mode, and as well in the loop's program.
    assert_allclose(found.covariance_, covariance(found), rtol=1e-9)
    assert ends == [True, True]


def test_what_cannot_be_traced_is_no_reason_for_a_fit_to_fail(ends, monkeypatch):
    def refuse(*_, **__):
        raise TypeError("no derivative")

    # Where the loop's program asks for it, as a model may that has no second one.
    monkeypatch.setattr("skoptax._information.losses_curvature", refuse)

    def model(X, a, k, c):
        return 1.0000002 * decay(X, a, k, c)

    with pytest.raises(TypeError, match="no derivative"):
        fit(model)
    # It is the program of its own that says so, and the fit had gone on until then.
    assert ends == [False]
    found = fit(model, cov_type=None)
    assert found.n_iter_ == 60


@pytest.mark.parametrize("unit", [1e-19, 1e19])
@pytest.mark.parametrize(
    "arguments", [{"cov_type": "hessian"}, {"prior": True}], ids=str
)
@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_second_derivatives_in_units_far_from_one(unit, arguments, optimizer):
    # In single precision, where the square of the unit is no number.
    x, y = X.astype(np.float32), Y.astype(np.float32)

    def errors(unit):
        prior = Normal(1.2 * unit, 0.5 * unit) if "prior" in arguments else None
        k = Parameter(value=1.2 * unit, scale=unit, prior=prior)

        def model(X, a, k, c):
            return decay(X, a, k / unit, c)

        found = OptaxEstimator(
            model,
            START | {"k": k},
            optimizer=optimizer,
            max_steps=200,
            cov_type=arguments.get("cov_type", "nonrobust"),
        ).fit(x, y)
        return np.array(list(found.stderr_.values())) / [1, unit, 1]

    assert_allclose(errors(unit), errors(1.0), rtol=1e-4)


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
@pytest.mark.parametrize("prior", [None, Normal(0.5, 1.0)])
def test_leverages_of_derivatives_that_are_not_finite(cov_type, prior):
    # At 1.0, the end of the transform, its slope is no number. The line is steeper.
    k = Parameter(value=0.9, transform="logit", prior=prior)
    x = np.linspace(0.0, 1.0, 30)[:, None]
    found = OptaxEstimator(
        lambda X, k: k * X[:, 0], {"k": k}, optimizer="lbfgs", cov_type=cov_type
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.fit(x, 500 * x[:, 0])
        assert found.params_["k"] == 1.0
        assert np.isnan(found.covariance_).all()
