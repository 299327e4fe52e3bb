"""Fits and predictions within a function that JAX transforms: refused, with advice."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from skoptax import OptaxEstimator, OptaxOptimizer, Parameter, curve_fit, losses
from skoptax.exceptions import InvalidParameterError, UncachedWarning

x = np.linspace(0.1, 3.0, 10)
X, Y = x[:, None], 2.0 * x + 1.0
WEIGHTS, NUMBER = np.ones(10), np.asarray(1.0)

#: Each makes a function that JAX transforms, and calls it.
TRANSFORMED = {
    "jit": lambda f, v: jax.jit(f)(v),
    "grad": lambda f, v: jax.grad(lambda v: jnp.sum(jnp.asarray(f(v))))(v),
    "vmap": lambda f, v: jax.vmap(f)(jnp.stack([v, v])),
}


def line(x, a, b=0.0):
    return a * x + b


def fitted(start=1.0, model=line, data=(X, Y), held_out=None, **settings):
    estimator = OptaxEstimator(model, {"a": start}, **settings)
    return estimator.fit(*data, **(held_out or {})).params_["a"]


def run(state, loss=lambda s: (s["a"] - s["d"]) ** 2):
    return OptaxOptimizer(loss, optax.sgd(0.1)).run(state, 3)[0]["a"].value


FITS = {
    "y": (lambda v: fitted(data=(X, v)), Y, "'y' parameter of OptaxEstimator"),
    "X": (lambda v: fitted(data=(v, Y)), X, "'X' parameter of OptaxEstimator"),
    "weights": (lambda v: fitted(data=(X, Y, v)), WEIGHTS, "'sample_weight'"),
    "y_val": (
        lambda v: fitted(held_out={"X_val": X, "y_val": v}, optimizer="adam"),
        Y,
        "'y_val'",
    ),
    "X_val": (
        lambda v: fitted(held_out={"X_val": v, "y_val": Y}, optimizer="adam"),
        X,
        "'X_val'",
    ),
    "start": (fitted, NUMBER, "'value' parameter of parameter 'a'"),
    "bound": (lambda v: fitted(Parameter(value=2.0, lower=v)), NUMBER, "'lower'"),
    "rate": (
        lambda v: fitted(optimizer="adam", learning_rate=v),
        NUMBER,
        "'learning_rate'",
    ),
    "delta": (lambda v: fitted(loss=losses.Huber(v)), NUMBER, "'delta'"),
    "curve_fit": (
        lambda v: curve_fit(line, x, v).popt,
        Y,
        "'y' parameter of curve_fit",
    ),
    "p0": (lambda v: curve_fit(line, x, Y, p0=v).popt, np.ones(2), "'p0'"),
    "a state's start": (
        lambda v: run({"a": Parameter(value=v), "d": 2.0}),
        NUMBER,
        "'value' parameter of parameter 'a'",
    ),
    "a state's leaf": (
        lambda v: run({"a": Parameter(value=1.0), "d": v}),
        NUMBER,
        "'state' parameter of OptaxOptimizer.*'d'",
    ),
    "a state's fixed leaf": (
        lambda v: run({"a": Parameter(value=1.0), "d": Parameter("d", v, False)}),
        NUMBER,
        "'value' parameter of parameter 'd'",
    ),
}


@pytest.mark.parametrize("how", TRANSFORMED)
@pytest.mark.parametrize("fit", FITS)
def test_tracers_are_refused(fit, how):
    function, value, words = FITS[fit]
    advice = "Call it outside of jit, grad and vmap; inside, make the steps of an Optax"
    with pytest.raises(InvalidParameterError, match=f"{words}.* {advice}"):
        TRANSFORMED[how](function, jnp.asarray(value))


@pytest.mark.parametrize("how", TRANSFORMED)
def test_a_tracer_that_the_model_or_the_loss_refers_to(how):
    words = "refer to a tracer of such a function.*Call it outside"
    with (
        pytest.warns(UncachedWarning, match="tracer"),
        pytest.raises(InvalidParameterError, match=words),
    ):
        TRANSFORMED[how](lambda v: fitted(model=lambda x, a: a * v * x), 1.0)
    state = {"a": Parameter(value=1.0)}
    with (
        pytest.warns(UncachedWarning, match="tracer"),
        pytest.raises(InvalidParameterError, match=words),
    ):
        TRANSFORMED[how](lambda v: run(state, lambda s: (s["a"] - v) ** 2), 1.0)


def test_a_fit_without_tracers_within_jit():
    # Before its program is kept, and after.
    for _ in range(2):
        with pytest.raises(
            InvalidParameterError, match="must not be within a function"
        ):
            jax.jit(lambda v: v * fitted())(1.0)
        expected = x @ Y / (x @ x)
        assert_allclose(fitted(), expected)


@pytest.mark.parametrize("how", TRANSFORMED)
def test_predictions(how):
    estimator = OptaxEstimator(line, {"a": 1.0, "b": 0.0}).fit(X, Y)
    words = "'X' parameter of OptaxEstimator.* call the model itself, with the values"
    for predict in (
        estimator.predict,
        lambda X: estimator.predict(X, return_std=True)[0],
        lambda X: estimator.predict_interval(X),
    ):
        with pytest.raises(InvalidParameterError, match=words):
            TRANSFORMED[how](predict, jnp.asarray(X))
    # What it advises.
    if how == "jit":
        assert_allclose(
            jax.jit(lambda x: line(x, **estimator.params_))(x),
            estimator.predict(X),
            rtol=1e-6,
        )
