"""`curve_fit` against SciPy's, and against NumPy's linear algebra at our optimum."""

from __future__ import annotations

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import Bounds
from sklearn.base import clone

from skoptax import OptaxEstimator, curve_fit, penalties
from skoptax.exceptions import (
    ConvergenceWarning,
    InvalidParameterError,
    NotFittedError,
)
from skoptax.losses import Cauchy, Huber, LogCosh

T = np.linspace(0.0, 3.0, 20)
RNG = np.random.default_rng(0)
Y = 2.5 * np.exp(-1.3 * T) + 0.05 * RNG.normal(size=20)
SIGMA = 0.02 + 0.03 * RNG.random(20)
INF = np.inf


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


def decay_of(t, *p):
    return p[0] * jnp.exp(-p[1] * t)


def plane(x, a, b):
    return a * x[0] + jnp.exp(b * x[1])


def twice(t, a, b, rate):
    return (a + b) * jnp.exp(-rate * t)


def scipys(f, x, y, **arguments):
    """SciPy's answer, as exact as it gets, from the same function in NumPy."""

    @functools.wraps(f)
    def in_numpy(x, *p):
        with jax.enable_x64(True):
            return np.asarray(f(x, *p))

    return scipy.optimize.curve_fit(
        in_numpy, x, y, xtol=1e-15, ftol=1e-15, gtol=1e-15, **arguments
    )


def covariance(f, x, y, popt, sigma=None, absolute=False):
    """(J^T W J)^-1 s^2 as the docstring has it, where the fit has ended."""
    with jax.enable_x64(True):
        point = jnp.asarray(popt)
        J = np.asarray(jax.jacfwd(lambda p: f(jnp.asarray(x), *p))(point))
        residuals = np.asarray(y) - np.asarray(f(jnp.asarray(x), *point))
    w = np.ones(len(y)) if sigma is None else np.broadcast_to(1 / sigma**2, len(y))
    s2 = 1.0 if absolute else w @ residuals**2 / (len(y) - len(popt))
    return np.linalg.inv(J.T @ (w[:, None] * J)) * s2


# Against SciPy.


@pytest.mark.parametrize("absolute_sigma", [False, True])
@pytest.mark.parametrize("sigma", [None, SIGMA, 0.1], ids=["none", "rows", "number"])
def test_estimate_and_covariance(sigma, absolute_sigma):
    weights = {"sigma": sigma, "absolute_sigma": absolute_sigma}
    popt, pcov = curve_fit(decay, T, Y, p0=[1.0, 1.0], **weights)
    there = weights | {"sigma": None if sigma is None else sigma * np.ones(20)}
    expected = scipys(decay, T, Y, **there)
    # SciPy differences the model, which leaves about 8 digits.
    assert_allclose(popt, expected[0], rtol=1e-7)
    assert_allclose(pcov, expected[1], rtol=1e-6)
    # Without sigma, an absolute one is 1.
    exact = covariance(decay, T, Y, popt, sigma, absolute_sigma)
    if sigma is None and absolute_sigma:
        residuals = Y - np.asarray(decay_in_numpy(popt))
        exact = covariance(decay, T, Y, popt) / (residuals @ residuals / 18)
    assert_allclose(pcov, exact, rtol=1e-10)
    assert_array_equal(pcov, pcov.T)


def decay_in_numpy(popt):
    return popt[0] * np.exp(-popt[1] * T)


@pytest.mark.parametrize(
    "bounds",
    [
        (-INF, INF),
        (0, 5),
        (0.0, [5.0, INF]),
        ([0.0, -INF], [5.0, 4.0]),
        (np.array([0.0, 0.5]), 10),
        Bounds([0.0, -INF], [5.0, 4.0]),
        (0, [2.0, 5.0]),  # cuts the optimum off
        (-1, 100.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("p0", [None, [1.0, 1.0]], ids=["default", "p0"])
def test_bounds(bounds, p0):
    fitted = curve_fit(decay, T, Y, p0=p0, bounds=bounds)
    # SciPy stops short of a bound by a little.
    expected = scipys(decay, T, Y, p0=p0, bounds=bounds)
    assert_allclose(fitted.popt, expected[0], rtol=1e-6)
    # It takes no notice of which bounds are active.
    assert_allclose(fitted.pcov, expected[1], rtol=1e-5)
    assert_allclose(fitted.pcov, covariance(decay, T, Y, fitted.popt), rtol=1e-10)
    assert fitted.converged_


def test_bounds_for_all():
    # SciPy refuses this one.
    found = curve_fit(decay, T, Y, bounds=Bounds(0, 2))
    assert_array_equal(found.popt, curve_fit(decay, T, Y, bounds=(0, 2)).popt)
    assert found.popt[0] == 2


def test_estimate_on_a_bound():
    fitted = curve_fit(decay, T, Y, bounds=(0, [2.0, 5.0]))
    assert fitted.popt[0] == 2.0
    assert fitted.at_bound_ == {"amplitude": True, "rate": False}


@pytest.mark.parametrize(
    ("bounds", "start"),
    [
        ((-INF, INF), [1.0, 1.0]),
        ((0.5, 4.5), [2.5, 2.5]),
        ((0.25, INF), [1.25, 1.25]),
        ((-INF, 3.5), [2.5, 2.5]),
        (([0.5, -INF], [1.5, 0.75]), [1.0, -0.25]),
    ],
)
def test_default_start(bounds, start):
    with pytest.warns(ConvergenceWarning, match="after 0 steps"):
        popt, _ = curve_fit(decay, T, Y, bounds=bounds, max_steps=0)
    assert_array_equal(popt, start)
    # As SciPy has it, whose first call of the function is at the start.
    calls = []

    def spy(t, a, b):
        calls.append((a, b))
        return a * np.exp(-b * t)

    scipy.optimize.curve_fit(spy, T, Y, bounds=bounds)
    assert_array_equal(calls[0], start)


def test_the_result_is_indexed_as_scipy_s_pair():
    fitted = curve_fit(decay, T, Y)
    assert_array_equal(fitted[0], fitted.popt)
    assert_array_equal(fitted[1], fitted.pcov)
    assert_array_equal(fitted[-1], fitted.pcov)
    with pytest.raises(IndexError):
        fitted[2]


def test_any_number_of_parameters():
    fitted = curve_fit(decay_of, T, Y, [1.0, 1.0])
    named = curve_fit(decay, T, Y, [1.0, 1.0])
    assert_allclose(fitted.popt, named.popt, rtol=1e-12)
    assert_allclose(fitted.pcov, named.pcov, rtol=1e-10)
    assert list(fitted.params_) == ["p0", "p1"]


def test_some_named_and_any_number_more():
    def f(t, amplitude, *rest):
        return amplitude * jnp.exp(-rest[0] * t) + rest[1]

    fitted = curve_fit(f, T, Y, [1.0, 1.0, 0.0])
    expected = scipys(f, T, Y, p0=[1.0, 1.0, 0.0])
    assert list(fitted.params_) == ["amplitude", "p1", "p2"]
    assert_allclose(fitted.popt, expected[0], rtol=1e-6)
    assert_allclose(fitted.pcov, expected[1], rtol=1e-5)


def test_several_inputs():
    x = np.stack([T, np.sin(T)])
    y = 2.0 * x[0] + np.exp(0.7 * x[1]) + 0.1 * RNG.normal(size=20)
    fitted = curve_fit(plane, x, y)
    expected = scipys(plane, x, y)
    assert_allclose(fitted.popt, expected[0], rtol=1e-7)
    assert_allclose(fitted.pcov, expected[1], rtol=1e-6)
    # An estimator's rows are samples.
    prediction = np.asarray(fitted.popt[0] * x[0] + np.exp(fitted.popt[1] * x[1]))
    assert_allclose(fitted.predict(x.T), prediction, rtol=1e-12)


def test_defaults_in_the_signature():
    def f(t, amplitude, rate=1.0):
        return amplitude * jnp.exp(-rate * t)

    # Without p0 every argument is a parameter; with a shorter one, the first are.
    assert_allclose(curve_fit(f, T, Y).popt, curve_fit(decay, T, Y).popt, rtol=1e-12)
    popt, pcov = curve_fit(f, T, Y, p0=[1.0])
    basis = np.exp(-T)
    amplitude = basis @ Y / (basis @ basis)
    s2 = np.sum((Y - amplitude * basis) ** 2) / 19
    assert_allclose(popt, [amplitude], rtol=1e-12)
    assert_allclose(pcov, [[s2 / (basis @ basis)]], rtol=1e-10)


def test_other_kinds_of_functions():
    # Names that the inside of curve_fit might have for something else, and an argument
    # that is no parameter.
    class Decay:
        def __call__(self, function, params, loss, *, sign=1.0):
            return sign * decay(function, params, loss)

    expected = curve_fit(decay, T, Y)
    found = curve_fit(Decay(), T, Y)
    assert list(found.params_) == ["params", "loss"]
    assert_allclose(found.popt, expected.popt, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (decay, "decay(t, amplitude, rate)"),
        (decay_of, "decay_of(t, *p)"),
        (jax.jit(decay), "decay(t, amplitude, rate)"),
        (
            functools.partial(twice, b=1.0, rate=1.0),
            "partial(t, a, b=1.0, rate=1.0)",
        ),
    ],
)
def test_report_shows_the_function_as_it_was_written(function, shown):
    p0 = [1.0] if "partial" in shown else [1.0, 1.0]
    report = curve_fit(function, T, Y, p0).report()
    assert report.facts["Model"] == shown


def test_report_of_a_function_without_a_signature():
    class Unreadable:
        __signature__ = "none"

        def __call__(self, t, amplitude, rate):
            return decay(t, amplitude, rate)

    report = curve_fit(Unreadable(), T, Y, [1.0, 1.0]).report()
    assert report.facts["Model"] == "Unreadable(...)"


def test_parameter_called_X():
    fitted = curve_fit(lambda t, X, rate: X * jnp.exp(-rate * t), T, Y)
    assert_allclose(fitted.popt, curve_fit(decay, T, Y).popt, rtol=1e-10)


def test_lists_integers_and_scalars():
    expected = curve_fit(decay, T, Y)
    found = curve_fit(decay, T.tolist(), Y.tolist(), (1, 1), sigma=np.array(0.3))
    assert_allclose(found.popt, expected.popt, rtol=1e-12)
    assert_allclose(found.pcov, expected.pcov, rtol=1e-10)
    steps = np.arange(20)
    found = curve_fit(decay, steps, Y)
    expected = curve_fit(decay, steps.astype(float), Y)
    assert_array_equal(found.popt, expected.popt)


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e3])
def test_units_of_the_response(size):
    popt, pcov = curve_fit(decay, T, size * Y)
    expected = curve_fit(decay, T, Y)
    units = np.array([size, 1.0])
    assert_allclose(popt, expected.popt * units, rtol=1e-9)
    assert_allclose(pcov, expected.pcov * np.outer(units, units), rtol=1e-8)


@pytest.mark.parametrize("size", [1e4, 1e5, 1e6, 1e8])
def test_large_responses(size):
    popt, _ = curve_fit(decay, T, size * Y)
    assert_allclose(popt, scipys(decay, T, size * Y)[0], rtol=1e-6)


# What cannot be estimated.


def test_as_many_rows_as_parameters():
    popt, pcov = curve_fit(decay, T[:2], Y[:2])
    assert_allclose(decay_in_numpy(popt)[:2], Y[:2], rtol=1e-12)
    assert_array_equal(pcov, np.full((2, 2), INF))
    # With known errors there is a covariance.
    sigma = {"sigma": 0.1, "absolute_sigma": True}
    popt, pcov = curve_fit(decay, T[:2], Y[:2], **sigma)
    exact = covariance(decay, T[:2], Y[:2], popt, 0.1, absolute=True)
    assert_allclose(pcov, exact, rtol=1e-10)


@pytest.mark.parametrize("optimizer", ["auto", "lbfgs"])
def test_singular(optimizer):
    def fit():
        return curve_fit(twice, T, Y, optimizer=optimizer)

    if optimizer == "auto":
        with pytest.warns(ConvergenceWarning, match="'a', 'b'"):
            fitted = fit()
        assert fitted.status_ == "singular"
    else:
        fitted = fit()
    assert_array_equal(fitted.pcov, np.full((3, 3), INF))
    assert_allclose(fitted.popt[0] + fitted.popt[1], curve_fit(decay, T, Y).popt[0])


def test_no_residuals():
    y = 2.5 * np.exp(-1.3 * T)
    popt, pcov = curve_fit(decay, T, y)
    assert_allclose(popt, [2.5, 1.3], rtol=1e-12)
    assert np.all(np.abs(pcov) < 1e-25)


# Other optimisers and losses.


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lm"},
        {"optimizer": "lbfgs"},
        {"optimizer": "adam", "learning_rate": 0.05, "max_steps": 3000},
        {"n_starts": 3, "random_state": 0},
    ],
    ids=lambda s: "-".join(str(v) for v in s.values() if not callable(v)),
)
def test_other_settings(settings):
    sigma = {"sigma": SIGMA, "absolute_sigma": True}
    expected = curve_fit(decay, T, Y, **sigma)
    found = curve_fit(decay, T, Y, **sigma, **settings)
    assert_allclose(found.popt, expected.popt, rtol=1e-7)
    assert_allclose(found.pcov, expected.pcov, rtol=1e-6)


def test_auxiliary_data():
    def with_aux(t, amplitude, rate):
        return decay(t, amplitude, rate), {"half": jnp.log(2.0) / rate}

    expected = curve_fit(decay, T, Y)
    found = curve_fit(with_aux, T, Y, has_aux=True, optimizer="lbfgs")
    assert_allclose(found.popt, expected.popt, rtol=1e-8)
    assert_allclose(found.pcov, expected.pcov, rtol=1e-7)


def test_covariance_of_a_likelihood():
    # The inverse of the Fisher information of a Poisson model with its canonical link.
    counts = RNG.poisson(np.exp(1.0 + 0.5 * T)).astype(float)
    popt, pcov = curve_fit(
        lambda t, a, b: jnp.exp(a + b * t), T, counts, loss="poisson"
    )
    design = np.stack([np.ones(20), T], axis=1)
    mean = np.exp(design @ popt)
    assert_allclose(design.T @ (counts - mean), 0, atol=1e-8 * counts.sum())
    information = design.T @ (mean[:, None] * design)
    assert_allclose(pcov, np.linalg.inv(information), rtol=1e-8)


@pytest.mark.parametrize("name, loss", [("huber", Huber(0.1)), ("cauchy", Cauchy(0.1))])
@pytest.mark.parametrize("known", [False, True])
def test_covariance_of_a_robust_loss(name, loss, known):
    """It is SciPy's, which has the losses of standardised residuals, of one scale."""
    y = Y.copy()
    y[[5, 11]] += 1.5, -0.8
    settings = {"sigma": np.ones(20), "absolute_sigma": known}
    tight = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
    expected = scipy.optimize.curve_fit(
        lambda t, a, k: a * np.exp(-k * t),
        T,
        y,
        [2.0, 1.0],
        method="trf",
        loss=name,
        f_scale=0.1,
        **settings,
        **tight,
    )
    popt, pcov = curve_fit(decay, T, y, [2.0, 1.0], loss=loss, **settings)
    assert_allclose(popt, expected[0], rtol=1e-6)
    assert_allclose(pcov, expected[1], rtol=1e-6)


def test_covariance_of_a_robust_loss_with_a_penalty():
    y = 20 * Y
    popt, pcov = curve_fit(
        decay, T, y, [40.0, 1.0], loss=LogCosh(), penalty=penalties.L2(1e-4)
    )
    away = y - decay_in_numpy(popt)
    assert np.abs(away).max() > 1.5
    columns = np.stack([np.exp(-popt[1] * T), -T * decay_in_numpy(popt)], axis=1)
    curvature = columns.T @ (columns / np.cosh(away)[:, None] ** 2)
    expected = np.linalg.inv(curvature + 20 * 1e-4 * np.eye(2))
    s2 = 2 * np.log(np.cosh(away)).sum() / 18
    assert_allclose(pcov, expected * s2, rtol=1e-8)


@pytest.mark.parametrize(
    "name, instead",
    [("method", "optimizer"), ("maxfev", "max_steps"), ("ftols", "OptaxEstimator")],
)
def test_arguments_that_have_another_name(name, instead):
    with pytest.raises(TypeError, match=rf"curve_fit\(\) .*'{name}': .*{instead}"):
        curve_fit(decay, T, Y, **{name: 1})


def test_scipys_names_of_the_data():
    expected = curve_fit(decay, T, Y)
    for arguments in (
        {"xdata": T, "ydata": Y},
        {"x": T, "ydata": Y},
        {"xdata": T, "y": Y, "p0": [1.0, 1.0]},
    ):
        popt, pcov = curve_fit(decay, **arguments)
        assert_array_equal(popt, expected.popt)
        assert_array_equal(pcov, expected.pcov)
    assert_array_equal(curve_fit(decay, T, ydata=Y).popt, expected.popt)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": T, "xdata": T, "ydata": Y}, "both 'x' and 'xdata'.*Leave one of them"),
        ({"x": T, "y": Y, "ydata": Y}, "both 'y' and 'ydata'.*Leave one of them out"),
        ({"x": T}, r"lacks 'y': write curve_fit\(f, x, y\)"),
        ({"ydata": Y}, r"lacks 'x': .*curve_fit\(f, xdata=\.\.\., ydata=\.\.\.\)"),
    ],
)
def test_data_that_are_there_twice_or_not_at_all(arguments, message):
    with pytest.raises(TypeError, match=message):
        curve_fit(decay, **arguments)


def test_callbacks_see_one_run():
    def watch(step, diff_state, static_state, *_):
        seen.append(step)
        return False, diff_state, static_state

    class Watch:
        __call__ = staticmethod(watch)

        def __deepcopy__(self, memo):
            return self

    seen = []
    # To linearise where another optimiser has ended is no step of the user's run.
    fitted = curve_fit(decay, T, Y, optimizer="lbfgs", callbacks=Watch())
    assert len(seen) in (fitted.n_iter_, fitted.n_iter_ + 1)


def test_loss_without_curvature():
    fitted = curve_fit(decay, T, Y, loss="absolute_error")
    # With two parameters, two residuals vanish.
    residuals = np.abs(Y - decay_in_numpy(fitted.popt))
    assert_allclose(np.sort(residuals)[:2], 0, atol=1e-4)
    assert_array_equal(fitted.pcov, np.full((2, 2), INF))


def test_covariance_with_a_penalty():
    popt, pcov = curve_fit(decay, T, Y, penalty=penalties.L2(0.1))
    with jax.enable_x64(True):
        J = np.asarray(jax.jacfwd(lambda p: decay(T, *p))(jnp.asarray(popt)))
    residuals = Y - decay_in_numpy(popt)
    s2 = residuals @ residuals / 18
    # The objective is a mean of 20 losses; L2 is half the sum of squares.
    curvature = J.T @ J + 20 * 0.1 * np.eye(2)
    assert_allclose(pcov, np.linalg.inv(curvature) * s2, rtol=1e-8)


def test_several_outputs():
    def both(t, amplitude, rate):
        return jnp.stack([decay(t, amplitude, rate), decay(t, amplitude, 2 * rate)], 1)

    y = np.stack([Y, 2.5 * np.exp(-2.6 * T) + 0.05 * RNG.normal(size=20)], axis=1)
    popt, pcov = curve_fit(both, T, y)

    def flat(x, amplitude, rate):
        del x
        return both(T, amplitude, rate).ravel()

    expected = scipys(flat, np.arange(40), y.ravel())
    assert_allclose(popt, expected[0], rtol=1e-7)
    assert_allclose(pcov, expected[1], rtol=1e-5)


# The result.


def test_result_is_an_estimator():
    fitted = curve_fit(decay, T, Y)
    popt, pcov = fitted
    assert_array_equal(popt, fitted.popt)
    assert_array_equal(pcov, fitted.pcov)
    assert isinstance(fitted, OptaxEstimator)
    assert fitted.params_ == {"amplitude": popt[0], "rate": popt[1]}
    assert_allclose(fitted.predict(T[:, None]), decay_in_numpy(popt), rtol=1e-12)
    assert 0.99 < fitted.score(T[:, None], Y) < 1
    assert list(fitted.history_.columns) == ["loss", "grad_norm", "amplitude", "rate"]


def test_pickle():
    fitted = curve_fit(decay, T, Y, sigma=SIGMA)
    back = pickle.loads(pickle.dumps(fitted))
    for ours, theirs in zip(fitted, back, strict=True):
        assert_array_equal(ours, theirs)
    assert_array_equal(back.predict(T[:, None]), fitted.predict(T[:, None]))
    assert back.history_.equals(fitted.history_)


def test_clone():
    fitted = curve_fit(decay, T, Y, bounds=(0, 5))
    again = clone(fitted)
    assert not hasattr(again, "params_")
    assert not hasattr(again, "popt")
    with pytest.raises(NotFittedError):
        np.diag(again.pcov)
    again.fit(T[:, None], Y)
    assert again.params_ == fitted.params_
    # What a fit has instead.
    assert not hasattr(again, "pcov")
    words = r"after a call of curve_fit only.*Take covariance_, or call curve_fit again"
    with pytest.raises(AttributeError, match=words):
        np.diag(again.pcov)
    with pytest.raises(AttributeError, match=words):
        list(again)  # as popt, pcov = again does
    assert_allclose(again.covariance_, fitted.pcov, rtol=1e-6)


def test_fit_again():
    fitted = curve_fit(decay, T, Y)
    fitted.fit(T[:, None], 2 * Y)
    assert not hasattr(fitted, "popt") or fitted.popt[0] == fitted.params_["amplitude"]


def test_single_precision():
    popt, pcov = curve_fit(decay, T.astype(np.float32), Y.astype(np.float32))
    expected = curve_fit(decay, T, Y)
    assert_allclose(popt, expected.popt, rtol=1e-5)
    assert_allclose(pcov, expected.pcov, rtol=1e-4)


def test_one_precision():
    popt, pcov = curve_fit(decay, T, Y, dtype="float32")
    assert popt.dtype == pcov.dtype


# Errors.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f": 3}, r"'f' parameter of curve_fit must be a function f\(x, a, b, ...\)"),
        ({"f": decay_of}, "cannot tell how many parameters f has.*Give p0"),
        ({"f": lambda t: t}, "cannot tell how many parameters f has.*Give p0"),
        ({"x": T[None, None]}, r"'x' parameter.*shape \(n,\) or \(k, n\)"),
        ({"p0": [1.0]}, "'p0' parameter of curve_fit must be of length 2.*'amplitude'"),
        ({"p0": [1.0, 2.0, 3.0]}, "'p0' parameter of curve_fit must be of length 2"),
        ({"p0": [9.0, 1.0], "bounds": (0, 5)}, "'amplitude' must lie within its bound"),
        ({"p0": [np.nan, 1.0]}, "'amplitude' must be finite"),
        ({"bounds": 3}, "'bounds' parameter of curve_fit must be two numbers"),
        ({"bounds": (1, 2, 3)}, "'bounds' parameter of curve_fit must be two numbers"),
        ({"bounds": ([0, 0, 0], 5)}, "'bounds' parameter.*one number for each param"),
        ({"bounds": ("a", 5)}, "'bounds' parameter of curve_fit must be two numbers"),
        ({"bounds": (5, 0)}, "'lower' .* must not exceed its 'upper'.*swapped"),
        ({"sigma": 0.0}, "'sigma' parameter.*positive, a number or 20 of them"),
        ({"sigma": -SIGMA}, "'sigma' parameter.*positive, a number or 20 of them"),
        ({"sigma": INF}, "'sigma' parameter.*positive, a number or 20 of them"),
        ({"sigma": SIGMA * np.nan}, "'sigma' parameter.*positive"),
        ({"sigma": SIGMA[:7]}, "'sigma' parameter.*positive, a number or 20 of them"),
        ({"sigma": np.diag(SIGMA)}, "one standard deviation.*Cholesky"),
        ({"model": decay}, "makes 'model' of f, x and p0 itself. Use OptaxEstimator"),
        ({"params": {}}, "makes 'params' of f, x and p0 itself. Use OptaxEstimator"),
        ({"inputs": ("t",)}, "makes 'inputs' of f, x and p0 itself"),
        ({"optimizer": "lmm"}, "'optimizer' parameter"),
        ({"n_starts": 0}, "'n_starts' parameter.*at least 1"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_errors(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        curve_fit(**{"f": decay, "x": T, "y": Y} | arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"bounds": (np.nan, 1.0)},
        {"bounds": (INF, INF)},
        {"bounds": (-INF, -INF)},
        {"bounds": (None, None)},
        {"sigma": "a"},
        {"sigma": [[0.1], [0.1, 0.2]]},
        {"x": [[1.0, 2.0], [3.0]]},
        {"absolute_sigma": "no"},
        {"f": lambda t: t, "p0": [1.0]},
        {"p0": ["a", "b"]},
    ],
    ids=lambda a: "-".join(a),
)
def test_errors_that_are_missing(arguments):
    with pytest.raises(InvalidParameterError):
        curve_fit(**{"f": decay, "x": T, "y": Y} | arguments)


@pytest.mark.parametrize("absolute_sigma", [False, True])
def test_the_estimator_agrees_with_its_covariance(absolute_sigma):
    t = np.linspace(0.0, 3.0, 20)
    y = 2.5 * np.exp(-1.3 * t) + 0.05 * np.cos(9.0 * t)
    fitted = curve_fit(
        lambda t, a, k: a * jnp.exp(-k * t),
        t,
        y,
        p0=[1.0, 0.5],
        sigma=0.1 + 0.01 * t,
        absolute_sigma=absolute_sigma,
    )
    assert_allclose(fitted.covariance_, fitted.pcov, rtol=1e-9)
