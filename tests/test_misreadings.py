"""What users of other libraries write, and whether the error names ours."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skoptax import OptaxEstimator, Parameter
from skoptax._misreadings import FIELD_WORDS, LOSS_WORDS, OPTIMIZER_WORDS
from skoptax._parameter import FIELDS
from skoptax.exceptions import InvalidParameterError
from skoptax.losses import LOSSES
from skoptax.optimizers import spec
from skoptax.optimizers._factories import factories

X = np.linspace(0.0, 1.0, 3)[:, None]
Y = np.array([1.0, 1.5, 2.0])


def line(x, a, b=0.0):
    return a * x + b


@pytest.mark.parametrize(
    ("entry", "instead"),
    [
        ((1, 0, 5), "value=1, lower=0, upper=5"),
        ((0, 1, 5), "value=1, lower=0, upper=5"),
        ((1, 0, None), "value=1, lower=0, upper=None"),
        ((1.0, -np.inf, 5.0), "value=1.0, lower=-inf, upper=5.0"),
        ((0, 5), "value=..., lower=0, upper=5"),
        (("a", 1.0, True), "value='a', lower=1.0, upper=True"),
        ((jnp.ones(2), jnp.ones(2), jnp.ones(2)), "lower="),
        (("rate", 1.0, True, 0.0, 5.0), "value=..., lower=..., upper=..."),
        ((), "value=..., lower=..., upper=..."),
    ],
)
def test_a_tuple_in_the_place_of_a_start_value(entry, instead):
    # (Three numbers could be broadcast against these three rows.)
    with pytest.raises(InvalidParameterError) as caught:
        OptaxEstimator(line, {"a": entry}).fit(X, Y)
    message = str(caught.value)
    assert message.startswith("The start value of parameter 'a' must be a number")
    assert "Got the tuple (" in message
    assert "skoptax.Parameter(value=" in message and instead in message
    assert "as a list or an array" in message


def test_a_tuple_within_a_nested_dict():
    def model(x, params):
        return params["net"]["w"] * x

    estimator = OptaxEstimator(model, {"net": {"w": (1.0, 0.0, 5.0)}})
    with pytest.raises(InvalidParameterError, match=r"parameter 'net\.w' must be"):
        estimator.fit(X, Y)


@pytest.mark.parametrize("start", [[0.0, 0.0], np.zeros(2), Parameter(value=(0, 0))])
def test_arrays_are_taken_as_such(start):
    def model(x, c):
        return c[0] + c[1] * x

    fitted = OptaxEstimator(model, {"c": start}).fit(X, Y)
    assert_allclose(fitted.params_["c"], np.polyfit(X[:, 0], Y, 1)[::-1], rtol=1e-6)


def test_a_tuple_can_be_mended_by_set_params():
    estimator = OptaxEstimator(line, {"a": (1, 0, 5)})
    estimator.set_params(params__a=Parameter(value=1, lower=0, upper=5))
    x = X[:, 0]
    assert_allclose(estimator.fit(X, Y).params_["a"], x @ Y / (x @ x))


@pytest.mark.parametrize(
    ("field", "ours"),
    [("min", "lower"), ("max", "upper"), ("vary", "free"), ("expr", "tie")],
)
def test_fields_of_lmfit(field, ours):
    words = (
        rf"no field '{field}'; its fields are name, value, .*Did you mean '{ours}'\?"
    )
    with pytest.raises(InvalidParameterError, match=words):
        Parameter("a", 1.0, **{field: 1.0})
    with pytest.raises(TypeError, match=words):
        Parameter("a", 1.0).set_params(**{field: 1.0})
    with pytest.raises(ValueError, match=words):
        OptaxEstimator(line, {"a": 1.0}).set_params(**{f"params__a__{field}": 1.0})


def test_the_signature_of_a_parameter_is_still_to_be_read():
    assert tuple(inspect.signature(Parameter).parameters) == FIELDS


@pytest.mark.parametrize(
    ("loss", "ours"),
    [
        ("mse", "squared_error"),
        ("MSE", "squared_error"),
        ("mae", "absolute_error"),
        ("soft_l1", "huber"),
        ("arctan", "cauchy"),
        ("mean-squared-error", "squared_error"),
        ("Huber", "huber"),
        ("squared_eror", "squared_error"),
    ],
)
def test_losses(loss, ours):
    words = (
        rf"'loss' parameter of OptaxEstimator.*Got '{loss}'.*Did you mean '{ours}'\?"
    )
    with pytest.raises(InvalidParameterError, match=words):
        OptaxEstimator(line, {"a": 1.0}, loss=loss).fit(X, Y)


@pytest.mark.parametrize(
    ("optimizer", "ours"),
    [
        ("leastsq", "lm"),
        ("trf", "lm"),
        ("LM", "lm"),
        ("BFGS", "lbfgs"),
        ("L-BFGS-B", "lbfgs"),
        ("Adam", "adam"),
        ("SGD", "sgd"),
        ("RMSprop", "rmsprop"),
        ("Auto", "auto"),
    ],
)
def test_optimisers(optimizer, ours):
    words = rf"'optimizer' parameter of .*Got '{optimizer}'.*Did you mean '{ours}'\?"
    estimator = OptaxEstimator(line, {"a": 1.0}, optimizer=optimizer)
    with pytest.raises(InvalidParameterError, match=words):
        estimator.fit(X, Y)


def test_what_is_no_optimiser_here_has_no_suggestion():
    with pytest.raises(InvalidParameterError) as caught:
        spec("Nelder-Mead")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (LOSS_WORDS, LOSSES),
        (OPTIMIZER_WORDS, factories()),
        (FIELD_WORDS, FIELDS),
    ],
)
def test_the_words_of_others_lead_to_ours(words, ours):
    assert set(words.values()) <= set(ours)
    assert not set(words) & set(ours)
    assert all(word == word.lower() and "-" not in word for word in words)
