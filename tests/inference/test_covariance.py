"""Covariances: certified ones, the delta method, and what is not determined."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import OptaxEstimator, Parameter, losses, penalties, priors
from skoptax.exceptions import (
    InvalidParameterError,
    NonFiniteWarning,
    UndeterminedWarning,
)
from tests.test_nist import MODELS

pytestmark = pytest.mark.optimised

NIST = json.loads(
    (Path(__file__).parents[1] / "reference" / "nist_strd.json").read_text("utf-8")
)
T = np.linspace(0.0, 3.0, 40)
X = T[:, None]
Y = 2.5 * np.exp(-1.3 * T) + 0.3 + 0.05 * np.random.default_rng(0).normal(size=40)


def decay(t, a, k, c):
    return a * jnp.exp(-k * t) + c


START = {"a": 1.0, "k": 1.0, "c": 0.0}


def fit(model=decay, params=START, X=X, y=Y, weights=None, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OptaxEstimator(model, params, **arguments).fit(X, y, weights)


def jacobian(a, k, c):
    e = np.exp(-k * T)
    return np.stack([e, -a * T * e, np.ones(40)], axis=1)


def expected_covariance(estimator, weights=None):
    """Return that of least squares, from its definition in NumPy."""
    J = jacobian(**estimator.params_)
    w = np.ones(40) if weights is None else weights
    residuals = Y - estimator.predict(X)
    variance = np.sum(w * residuals**2) / (40 - 3)
    return variance * np.linalg.inv(J.T @ (w[:, None] * J))


@pytest.mark.parametrize("start", ["start1", "start2"])
@pytest.mark.parametrize("name", sorted(NIST))
def test_certified_standard_errors(name, start):
    data = NIST[name]
    y, x = np.asarray(data["y"]), np.asarray(data["x"])
    names = [f"b{i + 1}" for i in range(len(data[start]))]
    inputs = ["x"] if x.ndim == 1 else ["x", "z"]
    model = whole_model(MODELS[name], inputs, names)
    estimator = fit(
        model, dict(zip(names, data[start], strict=True)), x.reshape(len(y), -1), y
    )
    errors = np.array(list(estimator.stderr_.values()))
    certified = np.asarray(data["certified_sd"])
    digits = -np.log10(np.max(np.abs(errors / certified - 1)) + 1e-16)
    assert digits >= 9.5


def whole_model(formula, inputs, names):
    """Return a model that takes the matrix and a vector of parameters by name."""

    def model(X, params):
        columns = [X[:, i] for i in range(len(inputs))]
        return formula(*columns, *(params[name] for name in names))

    return model


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_definition(optimizer, weighted):
    w = np.random.default_rng(1).uniform(0.0, 2.0, 40) if weighted else None
    estimator = fit(optimizer=optimizer, weights=w)
    expected = expected_covariance(estimator, w)
    assert_allclose(estimator.covariance_, expected, rtol=1e-7)
    errors = np.sqrt(np.diagonal(expected))
    assert_allclose(list(estimator.stderr_.values()), errors, rtol=1e-7)
    scales = errors * errors[:, None]
    assert_allclose(estimator.correlation_, expected / scales, rtol=1e-7)


@settings(max_examples=15, deadline=None)
@given(unit=st.floats(1e-6, 1e6), scale=st.floats(1e-3, 1e3))
def test_units_of_the_response(unit, scale):
    estimator = fit(
        params={"a": unit, "k": Parameter(value=1.0, scale=scale), "c": 0.0}, y=unit * Y
    )
    plain = fit()
    units = np.array([unit, 1.0, unit])
    expected = plain.covariance_ * units * units[:, None]
    assert_allclose(estimator.covariance_, expected, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize(
    "transform", ["log", (lambda u: u**3, lambda v: v ** (1 / 3))], ids=["log", "pair"]
)
def test_transforms(optimizer, transform):
    # The optimum is the same, and the delta method is exact to first order.
    k = Parameter(value=1.0, transform=transform)
    estimator = fit(params={"a": 1.0, "k": k, "c": 0.0}, optimizer=optimizer)
    assert_allclose(estimator.covariance_, expected_covariance(estimator), rtol=1e-6)


def test_the_order_is_the_users():
    estimator = fit(params={"k": 1.0, "c": 0.0, "a": 1.0})
    expected = expected_covariance(estimator)
    order = [1, 2, 0]
    assert_allclose(estimator.covariance_, expected[np.ix_(order, order)], rtol=1e-8)
    assert list(estimator.summary().index) == ["k", "c", "a"]
    assert list(estimator.correlation_.columns) == ["k", "c", "a"]


def test_fixed_parameters():
    estimator = fit(params={"a": 1.0, "k": 1.0, "c": Parameter(value=0.3, free=False)})
    J = jacobian(**estimator.params_)[:, :2]
    residuals = Y - estimator.predict(X)
    expected = residuals @ residuals / 38 * np.linalg.inv(J.T @ J)
    assert_allclose(estimator.covariance_, expected, rtol=1e-8)
    assert np.isnan(estimator.stderr_["c"])
    row = estimator.summary().loc["c"]
    assert not row["free"]
    assert row["value"] == 0.3
    assert np.isnan(row["ci_lower"])


def test_ties():
    def double(t, a, k, b):
        return a * jnp.exp(-k * t) + b * t

    def half(a, k):
        return a * k / 2

    spec = {"a": 1.0, "k": 1.0, "b": Parameter(tie=half)}
    estimator = fit(double, spec)
    a, k = estimator.params_["a"], estimator.params_["k"]
    e = np.exp(-k * T)
    J = np.stack([e + k / 2 * T, -a * T * e + a / 2 * T], axis=1)
    residuals = Y - estimator.predict(X)
    C = residuals @ residuals / 38 * np.linalg.inv(J.T @ J)
    assert_allclose(estimator.covariance_, C, rtol=1e-7)
    g = np.array([k / 2, a / 2])
    assert_allclose(estimator.stderr_["b"], np.sqrt(g @ C @ g), rtol=1e-7)
    row = estimator.summary().loc["b"]
    assert not row["free"]
    assert_allclose(row["stderr"], estimator.stderr_["b"])


def test_masked_arrays():
    def model(X, w):
        return X @ w

    rng = np.random.default_rng(2)
    A = rng.normal(size=(30, 3))
    y = A @ [1.0, 2.0, -1.0] + 0.1 * rng.normal(size=30)
    w = Parameter(value=np.array([0.0, 2.0, 0.0]), free=np.array([True, False, True]))
    estimator = fit(model, {"w": w}, A, y)
    B = A[:, [0, 2]]
    residuals = y - estimator.predict(A)
    C = residuals @ residuals / 28 * np.linalg.inv(B.T @ B)
    assert_allclose(estimator.covariance_, C, rtol=1e-9)
    errors = estimator.stderr_["w"]
    assert errors.shape == (3,)
    assert_allclose(errors[[0, 2]], np.sqrt(np.diagonal(C)), rtol=1e-9)
    assert np.isnan(errors[1])
    assert list(estimator.summary().index) == ["w[0]", "w[1]", "w[2]"]


def test_several_outputs():
    rng = np.random.default_rng(3)
    A = rng.normal(size=(30, 2))
    y = A @ rng.normal(size=(2, 2)) + rng.normal(size=(30, 2))

    def model(X, w):
        return X @ w

    estimator = fit(model, {"w": np.zeros((2, 2))}, A, y)
    residuals = y - estimator.predict(A)
    variance = np.sum(residuals**2) / (60 - 4)
    C = variance * np.kron(np.linalg.inv(A.T @ A), np.eye(2))
    assert_allclose(estimator.covariance_, C, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_ridge(optimizer):
    rng = np.random.default_rng(4)
    A = rng.normal(size=(30, 3))
    y = A @ [1.0, 2.0, -1.0] + rng.normal(size=30)

    def model(X, w):
        return X @ w

    estimator = fit(
        model, {"w": np.zeros(3)}, A, y, penalty=penalties.L2(0.2), optimizer=optimizer
    )
    # The penalty is alpha / 2 times the squared norm, and the loss half a mean square.
    bread = np.linalg.inv(A.T @ A + 30 * 0.2 * np.eye(3))
    w = bread @ A.T @ y
    assert_allclose(estimator.params_["w"], w, rtol=1e-6)
    variance = np.sum((y - A @ w) ** 2) / 27
    assert_allclose(
        estimator.covariance_, variance * bread @ A.T @ A @ bread, rtol=1e-6
    )


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_priors_give_the_posterior(optimizer):
    # Of a linear model with normal noise the Laplace approximation is exact.
    rng = np.random.default_rng(5)
    A = rng.normal(size=(12, 2))
    sigma = rng.uniform(0.5, 2.0, 12)
    y = A @ [1.0, -1.0] + sigma * rng.normal(size=12)

    def model(X, w):
        return X @ w

    w = Parameter(value=np.zeros(2), prior=priors.Normal(0.5, 0.7))
    estimator = fit(model, {"w": w}, A, y, 1 / sigma**2, optimizer=optimizer)
    precision = A.T @ (A / sigma[:, None] ** 2) + np.eye(2) / 0.7**2
    C = np.linalg.inv(precision)
    assert_allclose(estimator.params_["w"], C @ (A.T @ (y / sigma**2) + 0.5 / 0.7**2))
    assert_allclose(estimator.covariance_, C, rtol=1e-7)
    assert "Laplace" in str(estimator.report())
    assert any("Laplace" in note for note in estimator.summary().attrs["notes"])
    assert "normal distribution" in str(estimator.report())


def test_the_whole_hessian():
    import jax

    estimator = fit(cov_type="hessian")
    x = np.array(list(estimator.params_.values()))
    with jax.enable_x64(True):
        H = jax.hessian(lambda x: 0.5 * jnp.sum((decay(T, *x) - Y) ** 2))(x)
    residuals = Y - estimator.predict(X)
    variance = residuals @ residuals / 37
    assert_allclose(estimator.covariance_, variance * np.linalg.inv(H), rtol=1e-7)


def test_a_copy_of_each_row_halves_the_curvature_of_robust_errors():
    once = fit(cov_type="HC0")
    twice = fit(cov_type="HC0", X=np.repeat(X, 2, axis=0), y=np.repeat(Y, 2))
    assert_allclose(twice.covariance_, once.covariance_ / 2, rtol=1e-7)


# What the data do not determine.


def known(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndeterminedWarning)
        return estimator.stderr_


def product(t, a, b, k):
    return a * b * jnp.exp(-k * t)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC3", "hessian"])
@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_two_parameters_that_appear_as_a_product(optimizer, cov_type):
    y = 2.5 * np.exp(-1.3 * T) + 0.05 * np.random.default_rng(0).normal(size=40)
    estimator = fit(
        product,
        {"a": 1.0, "b": 1.0, "k": 1.0},
        y=y,
        optimizer=optimizer,
        cov_type=cov_type,
    )
    with pytest.warns(UndeterminedWarning, match="'a', 'b'") as seen:
        errors = estimator.stderr_
    # It is shown at the line of the user.
    assert seen[0].filename == __file__
    assert np.isnan(errors["a"])
    assert np.isnan(errors["b"])
    single = fit(
        lambda t, a, k: a * jnp.exp(-k * t),
        {"a": 1.0, "k": 1.0},
        y=y,
        cov_type=cov_type,
    )
    # The degrees of freedom count what is determined.
    assert_allclose(errors["k"], single.stderr_["k"], rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_a_parameter_that_the_data_never_touch(optimizer):
    def model(t, a, k, c, idle):
        return decay(t, a, k, c) + jnp.where(t > 100.0, idle, 0.0)

    estimator = fit(model, START | {"idle": 1.0}, optimizer=optimizer)
    with pytest.warns(UndeterminedWarning, match="'idle'"):
        errors = estimator.stderr_
    assert np.isnan(errors["idle"])
    expected = np.sqrt(np.diagonal(expected_covariance_of_three(estimator)))
    assert_allclose([errors[name] for name in "akc"], expected, rtol=1e-6)


def expected_covariance_of_three(estimator):
    values = {name: estimator.params_[name] for name in "akc"}
    J = jacobian(**values)
    residuals = Y - estimator.predict(X)
    return residuals @ residuals / 37 * np.linalg.inv(J.T @ J)


@pytest.mark.parametrize("n", [2, 3])
def test_no_degrees_of_freedom(n):
    estimator = fit(X=X[:n], y=Y[:n])
    with pytest.warns(UndeterminedWarning):
        errors = estimator.stderr_
    assert np.isnan(list(errors.values())).all()
    assert np.isnan(estimator.covariance_).all()
    assert estimator.report().statistics["Responses"] == n


def test_no_residuals():
    exact = decay(T, 2.5, 1.3, 0.3)
    estimator = fit(y=np.asarray(exact))
    errors = np.array(list(estimator.stderr_.values()))
    assert (errors < 1e-7).all()
    assert (errors >= 0).all()


def test_an_optimum_on_a_bound():
    spec = {"a": 1.0, "k": 1.0, "c": Parameter(value=0.6, lower=0.5)}
    estimator = fit(params=spec)
    assert estimator.params_["c"] == 0.5
    errors = known(estimator)
    assert np.isnan(errors["c"])
    J = jacobian(**estimator.params_)[:, :2]
    residuals = Y - estimator.predict(X)
    C = residuals @ residuals / 38 * np.linalg.inv(J.T @ J)
    assert_allclose([errors["a"], errors["k"]], np.sqrt(np.diagonal(C)), rtol=1e-7)
    assert estimator.summary().loc["c", "at_bound"]
    assert "at bound" in str(estimator.report())


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_ties_to_what_has_no_error(optimizer):
    spec = {
        "a": 1.0,
        "k": 1.0,
        "c": Parameter(value=0.6, lower=0.5),
        "d": Parameter(value=3.0, free=False),
        "of_bound": Parameter(tie=lambda c: 2 * c),
        "of_that": Parameter(tie=lambda of_bound: of_bound + 1),
        "of_fixed": Parameter(tie=lambda d: d**2),
        "of_several": Parameter(tie=lambda a, k, c, d: a * k * c * d),
    }
    estimator = fit(params=spec, optimizer=optimizer)
    a, k, c = (estimator.params_[name] for name in "akc")
    assert c == 0.5
    rows = ["c", "d", "of_bound", "of_that", "of_fixed"]
    shown = ["stderr", "rel_stderr", "t", "p_value", "ci_lower", "ci_upper"]
    assert estimator.summary().loc[rows, shown].isna().all(axis=None)
    # From the entries that are free and on no bound, with the others as they are.
    J = jacobian(a, k, c)[:, :2]
    residuals = Y - estimator.predict(X)
    C = residuals @ residuals / 38 * np.linalg.inv(J.T @ J)
    g = 3.0 * c * np.array([k, a])
    assert_allclose(estimator.stderr_["of_several"], np.sqrt(g @ C @ g), rtol=1e-6)
    wald = estimator.confidence_intervals()
    assert wald.loc[["c", "of_bound", "of_that", "of_fixed"]].isna().all(axis=None)
    # What is held adds nothing to predictions' errors, and takes nothing away.
    _, spread = estimator.predict(X, return_std=True)
    variance = np.einsum("ij,jk,ik->i", J, C, J) + residuals @ residuals / 38
    assert_allclose(spread, np.sqrt(variance), rtol=1e-6)
    assert "add none to that of a parameter tied to them" in str(estimator.report())
    # Resamples do know: they may leave the bound.
    found = estimator.bootstrap(X, Y, n_resamples=8, random_state=0)
    assert found.notna().all(axis=None)


def test_entries_tied_to_masked_ones():
    def line(t, w, v):
        return w[0] + w[1] * t + 0 * v[0]

    def twice(w):
        return 2 * w

    w = Parameter(value=[1.0, 1.0], free=[True, False])
    estimator = fit(line, {"w": w, "v": Parameter(tie=twice)})
    residuals = Y - estimator.predict(X)
    s = np.sqrt(residuals @ residuals / 39 / 40)
    assert_allclose(estimator.stderr_["v"], [2 * s, np.nan], rtol=1e-7)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC1", "HC2", "HC3"])
def test_rows_without_weight_do_not_count(cov_type):
    w = np.zeros(40)
    w[::3] = 1.0
    some = fit(weights=w, cov_type=cov_type)
    alone = fit(X=X[::3], y=Y[::3], cov_type=cov_type)
    assert_allclose(some.covariance_, alone.covariance_, rtol=1e-6)
    one, other = (e.report().statistics for e in (some, alone))
    assert one.keys() == other.keys()
    assert_allclose(list(one.values()), list(other.values()), rtol=1e-7)


def test_losses_without_curvature():
    estimator = fit(loss="absolute_error", optimizer="adam")
    with pytest.warns(UndeterminedWarning, match="no curvature"):
        assert np.isnan(estimator.covariance_).all()
    assert estimator.covariance_.shape == (3, 3)
    assert np.isnan(estimator.summary()["stderr"]).all()


def test_too_many_parameters():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(20, 101))
    estimator = fit(lambda X, w: X @ w, {"w": np.zeros(101)}, A, A[:, 0], max_steps=2)
    with pytest.warns(UndeterminedWarning, match="101 entries are free"):
        assert estimator.covariance_.shape == (101, 101)


def test_none_is_computed_on_demand_only():
    estimator = fit(cov_type=None)
    assert np.isnan(estimator.covariance_).all()
    assert estimator.fit_record().found is None


def test_a_loss_that_couples_rows():
    def loss(y_true, y_pred):
        residuals = y_pred - y_true
        return (residuals - jnp.mean(residuals)) ** 2

    estimator = fit(loss=loss, optimizer="lbfgs")
    with pytest.warns(UndeterminedWarning, match="other rows"):
        assert np.isnan(estimator.covariance_).all()


def test_a_loss_of_ones_own_needs_no_unit():
    plain = fit()
    own = fit(loss=lambda y_true, y_pred: 7.0 * (y_true - y_pred) ** 2)
    assert_allclose(own.covariance_, plain.covariance_, rtol=1e-5)


def test_the_short_way_and_the_long_way_agree():
    # Levenberg-Marquardt's own triangle, and the program that sums up the rows.
    w = np.random.default_rng(1).uniform(0.5, 2.0, 40)
    for loss in ("squared_error", "poisson"):
        short = fit(loss=loss, weights=w)
        start = {k: float(v) for k, v in short.params_.items()}
        long = fit(loss=loss, weights=w, params=start, optimizer="lbfgs", max_steps=0)
        assert_allclose(long.covariance_, short.covariance_, rtol=1e-8)
        one, other = short.report().statistics, long.report().statistics
        assert_allclose(list(one.values()), list(other.values()), rtol=1e-9)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC3", "hessian"])
def test_a_product_in_single_precision(cov_type):
    y = (2.5 * np.exp(-1.3 * T)).astype(np.float32)
    y += 0.05 * np.random.default_rng(0).normal(size=40).astype(np.float32)
    estimator = fit(
        product,
        {"a": 1.0, "b": 1.0, "k": 1.0},
        X.astype(np.float32),
        y,
        cov_type=cov_type,
    )
    with pytest.warns(UndeterminedWarning, match="'a', 'b'") as seen:
        errors = estimator.stderr_
    # It is shown at the line of the user.
    assert seen[0].filename == __file__
    assert np.isnan([errors["a"], errors["b"]]).all()
    assert np.isfinite(errors["k"])


def test_single_precision():
    single = fit(X=X.astype(np.float32), y=Y.astype(np.float32))
    assert_allclose(single.covariance_, fit().covariance_, rtol=1e-3)


def test_forward_mode():
    one, other = fit(mode="fwd", cov_type="HC3"), fit(cov_type="HC3")
    assert_allclose(one.covariance_, other.covariance_, rtol=1e-8)


def test_many_starts():
    estimator = fit(n_starts=4, random_state=0)
    assert_allclose(estimator.covariance_, expected_covariance(estimator), rtol=1e-8)


# Wrong input.


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"cov_type": "HC4"}, "cov_type"),
        ({"cov_type": "HC0", "loss": "absolute_error"}, "admit"),
        ({"absolute_sigma": 1}, "absolute_sigma"),
        ({"absolute_sigma": True, "loss": "poisson"}, "absolute_sigma"),
    ],
)
def test_errors_of_the_constructor(arguments, word):
    with pytest.raises(InvalidParameterError, match=word):
        fit(**arguments)


def test_nothing_is_kept_of_the_data():
    estimator = fit(X=np.repeat(X, 50, axis=0), y=np.repeat(Y, 50))
    record = estimator.fit_record()
    arrays = [np.asarray(x) for x in record.found if x is not None]
    assert max(a.size for a in arrays) <= 9
    assert_array_equal(record.found.root.shape, (3, 3))


def test_losses_keep_their_numbers():
    estimator = fit(loss=losses.Huber(delta=0.03))
    assert repr(estimator.fit_record().loss) == "Huber(delta=0.03)"


# What the program for the derivatives may refuse, and what is an error in the model.


def squares_in_a_loop(y_true, y_pred):
    """Have no derivative in reverse mode, which the losses' curvature is taken in."""

    def halve(state):
        return state[0] + 1, state[1] / 2

    twice = 2 * (y_true - y_pred) ** 2
    return jax.lax.while_loop(lambda state: state[0] < 1, halve, (0, twice))[1]


@jax.custom_jvp
def slope_of_square(r):
    return 2 * r


@slope_of_square.defjvp
def _(primals, tangents):
    raise TypeError("a mistake of the user's")


@jax.custom_jvp
def square(r):
    return r**2


@square.defjvp
def _(primals, tangents):
    return square(*primals), slope_of_square(*primals) * tangents[0]


def squares_with_a_mistake(y_true, y_pred):
    """Have a first derivative, which is all that Adam takes, but no second one."""
    return square(y_true - y_pred)


def test_a_loss_without_reverse_mode_has_no_standard_errors():
    arguments = {"loss": squares_in_a_loop, "optimizer": "adam", "max_steps": 10}
    estimator = fit(mode="fwd", **arguments)
    reason = estimator.fit_record().reason
    assert reason.startswith("the model or the loss holds a loop of unknown length")
    # The mode of the fit is no way out.
    assert "Use mode" not in reason
    with pytest.warns(UndeterminedWarning, match="loop of unknown length"):
        assert np.isnan(estimator.stderr_["a"])


def test_a_mistake_in_a_derivative_is_an_error():
    with pytest.raises(TypeError, match="a mistake of the user's"):
        fit(loss=squares_with_a_mistake, optimizer="adam", max_steps=10)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "hessian"])
def test_rows_where_the_model_is_not_finite(cov_type):
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(64, 1)))
    x[5] = -50.0

    def logarithm(x, a=3.0, b=1.0):
        return b * jnp.log(x + a)

    estimator = OptaxEstimator(
        logarithm,
        optimizer="adam",
        batch_size=16,
        max_epochs=3,
        shuffle=False,
        cov_type=cov_type,
        random_state=0,
    )
    # It is in the last batch, where the fit ends.
    with pytest.warns(NonFiniteWarning):
        estimator.fit(x[::-1], rng.normal(size=64))
    with pytest.warns(UndeterminedWarning, match="not finite"):
        table = estimator.summary()
    assert table["stderr"].isna().all()
    assert table["value"].notna().all()
    with pytest.raises(InvalidParameterError, match="not finite"):
        estimator.identifiability()


MIX = np.array([[2.0, 0.8], [0.8, 1.0]])


def mixed(y_true, y_pred):
    """Be one loss for each row, of both responses together."""
    r = y_true - y_pred
    return jnp.einsum("mi,ij,mj->m", r, jnp.asarray(MIX, r.dtype), r) / 2


def heavy(y_true, y_pred):
    """Be of heavy tails, both responses together: far out it bends down."""
    return jnp.log1p(mixed(y_true, y_pred))


def of_classes(y_true, y_pred):
    """Take logits; it is flat where all of them rise."""
    return jax.nn.logsumexp(y_pred, axis=1) - (y_true * y_pred).sum(axis=1)


def coupled_rows(which, n=60):
    """Return a fit's arguments, and its rows' Jacobians, scores and Hessians."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    ones, nothing = np.ones(n), np.zeros(n)

    if which == "mixed":
        # The slope is that of both outputs.
        def model(t, a, b, c):
            return jnp.stack([a + c * t, b + c * t], axis=1)

        spread = 0.3 + 0.3 * np.abs(x)[:, None]
        noise = rng.normal(size=(n, 2)) + rng.normal(size=(n, 1))
        y = np.stack([1 + x, x], axis=1) + spread * noise
        J = np.array([[ones, nothing, x], [nothing, ones, x]]).transpose(2, 0, 1)
        return model, mixed, x, y, J, lambda f: ((f - y) @ MIX, np.tile(MIX, (n, 1, 1)))

    if which == "heavy":
        # A ridge of the likelihood is not convex where a row is far out.
        def trend(t, a, b, c):
            return jnp.stack([a + c * t, b + c * t], axis=1)

        noise = 0.5 * rng.standard_t(2, size=(n, 2))
        y = np.stack([1 + x, x], axis=1) + noise
        J = np.array([[ones, nothing, x], [nothing, ones, x]]).transpose(2, 0, 1)

        def of_heavy(f):
            pull = (f - y) @ MIX
            q = 1 + np.einsum("mi,mi->m", pull, f - y)[:, None] / 2
            outer = pull[:, :, None] * pull[:, None]
            return pull / q, MIX / q[:, :, None] - outer / q[:, :, None] ** 2

        return trend, heavy, x, y, J, of_heavy

    def classes(t, a, b, c):
        return jnp.stack([a + c * t, b - c * t, jnp.zeros_like(t)], axis=1)

    logits = np.stack([0.5 + x, -x, 0 * x], axis=1)
    y = np.eye(3)[np.argmax(logits + rng.gumbel(size=(n, 3)), axis=1)]
    J = np.array(
        [[ones, nothing, x], [nothing, ones, -x], [nothing, nothing, nothing]]
    ).transpose(2, 0, 1)

    def derivatives(f):
        p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        return p - y, np.einsum("mi,ij->mij", p, np.eye(3)) - p[:, :, None] * p[:, None]

    return classes, of_classes, x, y, J, derivatives


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3"])
@pytest.mark.parametrize("which", ["mixed", "classes", "heavy"])
def test_a_row_of_a_loss_of_several_outputs_has_one_score(which, cov_type, weighted):
    model, loss, x, y, J, derivatives = coupled_rows(which)
    w = np.random.default_rng(4).uniform(0.5, 2, len(x)) if weighted else np.ones(60)
    estimator = fit(
        model,
        {"a": 0.0, "b": 0.0, "c": 0.0},
        x[:, None],
        y,
        w if weighted else None,
        loss=loss,
        cov_type=cov_type,
    )
    slopes, bends = derivatives(estimator.predict(x[:, None]))
    g = w[:, None] * np.einsum("mip,mi->mp", J, slopes)
    assert_allclose(g.sum(axis=0), 0, atol=1e-6)
    parts = w[:, None, None] * np.einsum("mip,mij,mjq->mpq", J, bends, J)
    A = parts.sum(axis=0)
    if cov_type == "HC3":
        # Without the row itself.
        changes = np.array(
            [np.linalg.solve(A - h, s) for h, s in zip(parts, g, strict=True)]
        )
    elif cov_type == "HC2":
        # Half of the way there, in units in which A is 1.
        values, vectors = np.linalg.eigh(A)
        half = vectors / np.sqrt(values) @ vectors.T
        changes = []
        for h, s in zip(parts, g, strict=True):
            sizes, axes = np.linalg.eigh(half @ h @ half)
            root = axes / np.sqrt(1 - sizes) @ axes.T
            changes.append(half @ root @ half @ s)
        changes = np.array(changes)
    else:
        n = y.size
        factor = n / (n - 3) if cov_type == "HC1" else 1.0
        changes = np.linalg.solve(A, g.T).T * np.sqrt(factor)
    assert_allclose(estimator.covariance_, changes.T @ changes, rtol=1e-6)


@pytest.mark.parametrize("cov_type", ["HC0", "HC3"])
def test_scores_by_row_in_a_fit_with_an_entry_on_its_bound(cov_type):
    model, loss, x, y, _, _ = coupled_rows("mixed")
    bound = {"a": 0.0, "b": Parameter(value=1.5, lower=1.0), "c": 0.0}
    fixed = bound | {"b": Parameter(value=1.0, free=False)}
    held, still = (
        fit(model, spec, x[:, None], y, loss=loss, cov_type=cov_type)
        for spec in (bound, fixed)
    )
    assert held.at_bound_["b"]
    for name in "ac":
        assert_allclose(held.stderr_[name], still.stderr_[name], rtol=1e-6)


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
@pytest.mark.parametrize("held", ["mask", "bound"])
def test_what_is_held_takes_part_in_no_leverage(cov_type, held):
    # Few rows: the leverages of a polynomial of six terms are far from a line's.
    x = np.linspace(0.0, 1.0, 12)
    y = 1 + 2 * x + x**2 * np.random.default_rng(0).normal(size=12)
    if held == "mask":
        spec = {"c": Parameter(value=np.zeros(6), free=np.arange(6) < 2)}
        offset = 0.0
    else:
        square = np.arange(6) == 2
        spec = {
            "c": Parameter(
                value=np.where(square, 6.0, 0.0),
                free=np.arange(6) < 3,
                lower=np.where(square, 5.0, -np.inf),
            )
        }
        offset = 5.0 * x**2

    def polynomial(t, c):
        return sum(c[i] * t**i for i in range(6))

    found = OptaxEstimator(polynomial, spec, cov_type=cov_type).fit(x[:, None], y)
    expected = sm.OLS(y - offset, sm.add_constant(x)).fit(cov_type=cov_type).bse
    assert_allclose(found.stderr_["c"][:2], expected, rtol=1e-6)


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
def test_where_everything_is_on_its_bound_nothing_follows(cov_type):
    found = fit(
        lambda t, a: a + 0 * t,
        {"a": Parameter(value=5.0, lower=4.0)},
        cov_type=cov_type,
    )
    assert found.params_["a"] == 4.0
    assert np.isnan(found.stderr_["a"])


def of_cauchy(r, scale):
    """Return the derivatives of the Cauchy loss by the prediction."""
    z = r / scale
    return r / (1 + z**2), (1 - z**2) / (1 + z**2) ** 2


def heavy_tails(weighted, n=60):
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, n)
    y = 1 + 2 * x + 0.5 * rng.standard_t(2, size=n)
    return x, y, rng.uniform(0.5, 2, n) if weighted else None


def straight(t, a, b):
    return a + b * t


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("penalty", [0.0, 0.02])
@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3", "nonrobust"])
def test_where_a_loss_bends_down_it_counts_against(
    cov_type, penalty, optimizer, weighted
):
    x, y, weights = heavy_tails(weighted)
    found = fit(
        straight,
        {"a": 0.0, "b": 0.0},
        x[:, None],
        y,
        weights,
        loss=losses.Cauchy(0.4),
        penalty=penalties.L2(penalty) if penalty else None,
        optimizer=optimizer,
        tol=1e-8,
        cov_type=cov_type,
    )
    w = np.ones(60) if weights is None else weights
    slope, bend = of_cauchy(found.predict(x[:, None]) - y, 0.4)
    assert (bend < 0).sum() > 10
    J = np.stack([np.ones(60), x], axis=1)
    A = J.T @ (J * (w * bend)[:, None])
    both = A + np.eye(2) * w.sum() * penalty
    inverse = np.linalg.inv(both)
    if cov_type == "nonrobust":
        dispersion = np.sum(w * slope**2) / 58 / np.average(bend, weights=w)
        expected = dispersion * inverse @ A @ inverse
    else:
        leverage = w * bend * np.einsum("ni,ij,nj->n", J, inverse, J)
        power = {"HC2": 0.5, "HC3": 1.0}.get(cov_type, 0.0)
        scores = J * (w * slope / (1 - leverage) ** power)[:, None]
        expected = inverse @ scores.T @ scores @ inverse
        expected *= 60 / 58 if cov_type == "HC1" else 1.0
    assert_allclose(found.covariance_, expected, rtol=1e-5)


def test_rows_in_pieces_and_single_precision_where_a_loss_bends_down(monkeypatch):
    x, y, _ = heavy_tails(False, 2000)
    start = {"a": 0.0, "b": 0.0}
    settings = {"loss": losses.Cauchy(0.4), "cov_type": "HC0", "optimizer": "lbfgs"}
    found = fit(straight, start, x[:, None], y, **settings)
    monkeypatch.setattr("skoptax.inference._pieces._LARGE", 64)
    monkeypatch.setattr("skoptax.inference._pieces._PIECE", 600)
    again = fit(straight, start, x[:, None], y, **settings)
    assert_allclose(again.covariance_, found.covariance_, rtol=1e-9)
    single = fit(straight, start, x[:, None].astype("f4"), y.astype("f4"), **settings)
    assert_allclose(single.covariance_, found.covariance_, rtol=1e-3)


@pytest.mark.parametrize("cov_type", ["HC0", "nonrobust"])
def test_a_likelihood_of_ones_own_has_the_observed_information(cov_type):
    rng = np.random.default_rng(6)
    x = rng.uniform(0, 2, 80)
    y = (1 + 2 * x) * rng.gamma(1.5, 1 / 1.5, 80)
    found = fit(
        straight,
        {"a": 1.0, "b": 1.0},
        x[:, None],
        y,
        loss=lambda y_true, y_pred: jnp.log(y_pred) + y_true / y_pred,
        cov_type=cov_type,
        tol=1e-9,
    )
    exog = sm.add_constant(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        law = sm.GLM(y, exog, sm.families.Gamma(sm.families.links.Identity()))
        b = law.fit(tol=1e-13).params
    assert_allclose([found.params_["a"], found.params_["b"]], b, rtol=1e-5)
    information = -law.hessian(b, scale=1.0, observed=True)
    if cov_type == "HC0":
        scores = exog * law.score_factor(b, scale=1.0)[:, None]
        half = np.linalg.solve(information, scores.T)
        expected = half @ half.T
    else:
        f = exog @ b
        slope, bend = 1 / f - y / f**2, 2 * y / f**3 - 1 / f**2
        assert (bend < 0).any()
        expected = slope @ slope / 78 / bend.mean() * np.linalg.inv(information)
    assert_allclose(found.covariance_, expected, rtol=1e-4)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC3"])
def test_where_the_losses_bend_down_altogether_there_are_no_errors(cov_type):
    # Between two heaps of responses is a maximum, where a fit may begin and end.
    y = np.repeat([-10.0, 10.0], 20)
    found = fit(
        lambda t, a: a + 0 * t,
        {"a": 0.0},
        np.zeros((40, 1)),
        y,
        loss=losses.Cauchy(0.3),
        cov_type=cov_type,
    )
    assert abs(found.params_["a"]) < 1e-6
    with pytest.warns(UndeterminedWarning, match="not positive definite"):
        assert np.isnan(found.stderr_["a"])


def test_losses_that_bend_up_everywhere_have_no_negative_part():
    for loss in ("squared_error", "poisson", losses.Cauchy(1e3), "log_cosh"):
        found = fit(y=np.abs(Y), loss=loss, cov_type="HC0")
        assert found.fit_record().found.dent is None


def with_dummy(X, a, b, c):
    return a + b * X[:, 0] + c * X[:, 1]


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_with_a_parameter_of_its_own(cov_type, dtype, weighted):
    # By rounding, its leverage is 1 or not, and its residual 0 or not.
    others = np.arange(20) != 4
    start = {"a": 0.0, "b": 0.0, "c": 0.0}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=20)
        y = 1 + 2 * x + rng.normal(size=20)
        w = rng.uniform(0.5, 2, 20) if weighted else None
        X = np.stack([x, ~others], axis=1)
        found = fit(
            with_dummy, start, X.astype(dtype), y.astype(dtype), w, cov_type=cov_type
        )
        with pytest.warns(UndeterminedWarning, match="nothing of 'c': some response"):
            errors = found.stderr_
        exog = sm.add_constant(x)[others]
        of_others = np.ones(19) if w is None else w[others]
        law = sm.WLS(y[others], exog, of_others).fit(cov_type=cov_type)
        rtol = 1e-6 if dtype == "f8" else 1e-3
        assert_allclose([errors["a"], errors["b"]], law.bse, rtol=rtol)
        assert np.isnan(errors["c"])


def test_what_a_row_of_leverage_1_determines_need_not_be_one_parameter():
    # Two lines, of which the second has two rows that lie at different places.
    x = np.linspace(0, 1, 12)
    second = np.arange(12) >= 10
    y = np.random.default_rng(0).normal(size=12)

    def lines(X, a, b, c, d):
        return jnp.where(X[:, 1] > 0, c + d * X[:, 0], a + b * X[:, 0])

    spec = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": Parameter(tie=lambda b, d: b)}
    spec["f"] = Parameter(tie=lambda b, d: b + d)
    found = fit(lines, spec, np.stack([x, second], axis=1), y, cov_type="HC3")
    with pytest.warns(UndeterminedWarning, match="nothing of 'c', 'd', 'f'"):
        errors = found.stderr_
    law = sm.OLS(y[:10], sm.add_constant(x[:10])).fit(cov_type="HC3")
    assert_allclose([errors[k] for k in "abe"], [*law.bse, law.bse[1]], rtol=1e-6)
    assert np.isnan([errors[k] for k in "cdf"]).all()


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
def test_a_leverage_near_1_is_none_of_1(cov_type):
    x = np.append(np.linspace(-1, 1, 15), 3e3)
    y = 1 + x + np.random.default_rng(1).normal(size=16)
    found = fit(straight, {"a": 0.0, "b": 0.0}, x[:, None], y, cov_type=cov_type)
    law = sm.OLS(y, sm.add_constant(x)).fit(cov_type=cov_type)
    assert 1 - law.get_influence().hat_matrix_diag[-1] < 1e-5
    assert_allclose([found.stderr_["a"], found.stderr_["b"]], law.bse, rtol=1e-4)


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
@pytest.mark.parametrize("which", ["mixed", "heavy"])
def test_a_row_of_several_outputs_with_a_parameter_of_its_own(which, cov_type):
    model, loss, x, y, _, _ = coupled_rows(which)
    alone = np.arange(60) == 7
    start = {"a": 0.0, "b": 0.0, "c": 0.0}

    def extended(X, a, b, c, d):
        shift = jnp.stack([d[0] * X[:, 1], d[1] * X[:, 1]], axis=1)
        return model(X[:, 0], a, b, c) + shift

    settings = {"loss": loss, "cov_type": cov_type, "tol": 1e-9}
    found = fit(
        extended,
        start | {"d": np.zeros(2)},
        np.stack([x, alone], axis=1),
        y,
        **settings,
    )
    few = fit(model, start, x[~alone, None], y[~alone], **settings)
    with pytest.warns(UndeterminedWarning, match=r"nothing of 'd\[0\]', 'd\[1\]'"):
        errors = found.stderr_
    assert np.isnan(errors["d"]).all()
    for name in "abc":
        assert_allclose(errors[name], few.stderr_[name], rtol=1e-5)
