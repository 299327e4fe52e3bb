"""Wrong input: what the error says, when it comes, and what is left afterwards."""

from __future__ import annotations

import math
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.base import clone

from skoptax import (
    OptaxEstimator,
    OptaxOptimizer,
    Parameter,
    losses,
    penalties,
    priors,
)
from skoptax.exceptions import (
    DifferentiationError,
    InvalidParameterError,
    ModelError,
    NonFiniteError,
    NotFittedError,
    SkoptaxError,
)
from skoptax.losses import SampleLoss

COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: COMPILED.append(name) if "backend_compile" in name else None
)

N = 12
T = np.linspace(0.1, 3.0, N)
X = T[:, None]
Y = 2.5 * np.exp(-1.3 * T) + np.random.default_rng(0).normal(0, 0.05, N)
ONES = np.ones(N)


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


START = {"amplitude": 1.0, "rate": 0.5}


def make(model=decay, params=START, **settings):
    settings = {"optimizer": "adam", "learning_rate": 0.05, "max_steps": 5} | settings
    return OptaxEstimator(model, params, **settings)


def with_rate(*args, **fields):
    return make(params={"amplitude": 1.0, "rate": Parameter(*args, **fields)})


def using_float(t, amplitude, rate):
    return float(amplitude) * t


def using_if(t, amplitude, rate):
    return t if amplitude > 0 else -t


def using_numpy(t, amplitude, rate):
    return amplitude * np.exp(-rate * t)


def using_math(t, amplitude, rate):
    return amplitude * math.exp(-rate * t)


def using_range(t, amplitude, rate):
    return sum(amplitude * t for _ in range(int(rate)))


def using_a_mask(t, amplitude, rate):
    return (amplitude * t)[t > rate]


def with_while_loop(t, amplitude, rate):
    def halve(state):
        k, x = state
        return k + 1, 0.5 * x

    steps = jax.lax.while_loop(lambda s: s[0] < 3, halve, (0, rate * t))
    return amplitude * jnp.exp(-steps[1])


def two_columns(temp, conc, amplitude, rate):
    return amplitude * conc * jnp.exp(-rate * temp)


FRAME = pd.DataFrame({"temp": T, "conc": ONES})
WIDE = np.column_stack([T, ONES])


def changed(array, value, dtype=float):
    array = np.array(array, dtype=dtype)
    array.flat[3] = value
    return array


# Each case: its name, an estimator, the arguments of fit, the type of the error, and
# what its message must say: what is wrong and, where there is one, the remedy.
DATA = [
    ("NaN in X", (changed(X, np.nan), Y), "Input X contains NaN"),
    ("NaN in y", (X, changed(Y, np.nan)), "Input y contains NaN"),
    ("inf in X", (changed(X, np.inf), Y), "Input X contains infinity"),
    ("inf in y", (X, changed(Y, -np.inf)), "Input y contains infinity"),
    ("complex X", (X + 1j, Y), "Complex data not supported"),
    ("complex y", (X, Y + 1j), "Complex data not supported"),
    ("strings in X", (changed(X, "a", object), Y), "could not convert string.*'a'"),
    ("strings in y", (X, changed(Y, "a", object)), "could not convert string.*'a'"),
    ("digits as strings in X", (X.astype(str), Y), "X must hold numbers. Got strings"),
    ("digits as strings in y", (X, Y.astype(str)), "y must hold numbers. Got strings"),
    ("y too large for X", (X.astype(np.float32), Y * 1e300), "not finite as float32"),
    ("1-D X", (T, Y), r"Expected 2D array, got 1D array.*reshape\(-1, 1\)"),
    ("scalar X", (1.0, Y), "Expected 2D array, got scalar"),
    ("no rows", (X[:0], Y[:0]), r"Found array with 0 sample\(s\)"),
    ("no columns", (X[:, :0], Y), r"Found array with 0 feature\(s\)"),
    ("sparse X", (scipy.sparse.csr_array(X), Y), "dense data is required"),
    ("no y", (X, None), "requires y to be passed"),
    ("y of another length", (X, Y[1:]), r"inconsistent numbers of samples.*12.*11"),
    (
        "y of 3 dimensions",
        (X, Y[:, None, None]),
        "Found array with dim 3",
    ),
    ("negative weights", (X, Y, changed(ONES, -1.0)), "weight.*0 or more.*-1.0"),
    ("all-zero weights", (X, Y, 0 * ONES), "(?i)zero.*weight|weight.*zero"),
    ("NaN weights", (X, Y, changed(ONES, np.nan)), "sample_weight contains NaN"),
    ("too few weights", (X, Y, ONES[1:]), r"sample_weight.*\(12,\).*\(11,\)"),
    (
        "2-D weights",
        (X, Y, np.ones((N, 2))),
        r"shape \(12,\)\. Got an array of shape \(12, 2\)",
    ),
]

MODELS = [
    (
        "a column of predictions",
        lambda t, amplitude, rate: (amplitude * t)[:, None],
        r"shape \(12,\)\. Got shape \(12, 1\).*return prediction\[:, 0\]",
    ),
    (
        "one prediction",
        lambda t, amplitude, rate: amplitude,
        r"shape \(12,\)\. Got shape \(\).*jnp\.full",
    ),
    (
        "two predictions a row",
        lambda t, amplitude, rate: jnp.stack([t, rate * t], axis=1),
        r"shape \(12,\)\. Got shape \(12, 2\)",
    ),
    (
        "too few predictions",
        lambda t, amplitude, rate: amplitude * t[1:],
        r"shape \(12,\)\. Got shape \(11,\)",
    ),
    (
        "a tuple",
        lambda t, amplitude, rate: (amplitude * t, rate),
        "Got a tuple of 2 instead.*needs has_aux=True",
    ),
    (
        "an index that is no integer",
        lambda t, amplitude, rate: amplitude * jnp.stack([rate, rate])[0 * t],
        r"integers.*index by batch\.astype\(int\)",
    ),
    ("nothing", lambda t, amplitude, rate: None, "an array of predictions. Got None"),
    (
        "complex predictions",
        lambda t, amplitude, rate: amplitude * t * 1j,
        "must return real predictions. Got complex128",
    ),
    (
        "no use of the parameters",
        lambda t, amplitude, rate: 2.0 * t,
        "no gradient.*'amplitude', 'rate'.*does not use them",
    ),
    (
        "rounding",
        lambda t, amplitude, rate: jnp.round(amplitude * t + rate),
        "no gradient.*'amplitude', 'rate'.*rounding",
    ),
    ("NumPy on a tracer", using_numpy, r"NumPy.*tracer.*jax\.numpy"),
    ("math on a tracer", using_math, r"NumPy, SciPy or math.*jax\.numpy"),
    ("float of a tracer", using_float, r"calls float\(\).*Drop the conversion"),
    ("if of a tracer", using_if, r"'if'.*use jnp\.where or jax\.lax\.cond"),
    ("range of a tracer", using_range, r"int\(\).*fori_loop"),
    ("a mask of a tracer", using_a_mask, r"condition.*jnp\.where\(condition, x, 0\)"),
]

# (name, estimator, error, message, and more arguments of fit if they are not (X, Y))
SETTINGS = [
    (
        "a parameter that the model has not",
        make(params={**START, "offest": 0.0}),
        ModelError,
        r"'offest' is in params but is no argument of the model decay\(t, ampl",
    ),
    (
        "a misspelt parameter",
        make(params={"amplitude": 1.0, "rat": 1.0}),
        ModelError,
        "'rat' is in params but.*Did you mean 'rate'",
    ),
    (
        "a parameter by another name",
        make(params={"amplitude": 1.0, "k": 1.0}),
        ModelError,
        "'k' is in params but.*neither parameters nor.*: 't', 'rate'. Rename",
    ),
    (
        "an argument that is no parameter",
        make(params={"amplitude": 1.0}),
        ModelError,
        r"2 arguments that are not in params \('t', 'rate'\).*1 column.*start value",
    ),
    (
        "a name with __",
        make(params={**START, "a__b": 1.0}),
        InvalidParameterError,
        "without '__', which separates nested names. Got 'a__b'",
    ),
    (
        "a name that is no str",
        make(params={1: 1.0}),
        InvalidParameterError,
        "non-empty str.*Got 1 instead",
    ),
    (
        "an empty spec",
        make(params={}),
        InvalidParameterError,
        r"'params'.*dict of name to start value, such as .*Got \{\} instead",
    ),
    (
        "a list without names",
        make(params=[Parameter(value=1.0), Parameter(value=0.5)]),
        InvalidParameterError,
        r"list of parameters with names, all different.*Got \[None, None\]",
    ),
    (
        "a list with one name twice",
        make(params=[Parameter("rate"), Parameter("rate")]),
        InvalidParameterError,
        r"all different.*Got \['rate', 'rate'\]",
    ),
    (
        "another name inside",
        make(params={"amplitude": 1.0, "rate": Parameter("speed", 0.5)}),
        InvalidParameterError,
        "under the key 'rate'.*'speed'",
    ),
    (
        "no defaults to read",
        make(params=None),
        ModelError,
        r"decay\(t, amplitude, rate\).*params=\{'rate': 0\.5\}",
    ),
    (
        "reversed bounds",
        with_rate(value=0.5, lower=1.0, upper=0.0),
        InvalidParameterError,
        "'lower'.*'rate' must not exceed its 'upper'.*lower=1.0.*Were they swapped",
    ),
    (
        "a start below its bound",
        with_rate(value=0.5, lower=1.0),
        InvalidParameterError,
        r"start value of parameter 'rate'.*\[1\.0, inf\]. Got 0\.5.*Move the start",
    ),
    (
        "a start above its bound",
        with_rate(value=[0.5, 2.0], upper=[1.0, 1.0]),
        InvalidParameterError,
        r"start value of parameter 'rate'.*Got \[0\.5, 2\.0\].*Move the start",
    ),
    (
        "infinity as a lower bound",
        with_rate(value=0.5, lower=np.inf),
        InvalidParameterError,
        "bounds of parameter 'rate' must leave room.*No bound is None",
    ),
    (
        "a fixed value below its bound",
        with_rate(value=-5.0, free=False, lower=0.0),
        InvalidParameterError,
        r"start value of parameter 'rate'.*Got -5\.0",
    ),
    (
        "a bound on a tied parameter",
        with_rate(tie=lambda amplitude: 2 * amplitude, upper=0.01),
        InvalidParameterError,
        "'upper' parameter of parameter 'rate' must be None.*tied.*depends on",
    ),
    (
        "a name that is input and parameter",
        make(inputs=("rate",)),
        ModelError,
        "'rate' is both in inputs and in params",
    ),
    (
        "a penalty without a value",
        make(penalty=lambda params: None),
        ModelError,
        "penalty must return a scalar. Got None",
    ),
    (
        "NaN as a bound",
        with_rate(value=0.5, lower=np.nan),
        InvalidParameterError,
        "'lower' parameter of parameter 'rate' must be a number, not NaN",
    ),
    (
        "a bound of another shape",
        with_rate(value=0.5, lower=[0.0, 1.0]),
        InvalidParameterError,
        r"'lower' parameter of parameter 'rate'.*shape \(\)",
    ),
    (
        "bounds that the transform contradicts",
        with_rate(value=0.5, lower=-1.0, transform="log"),
        InvalidParameterError,
        "'rate'.*log",
    ),
    (
        "a start outside of the transform",
        with_rate(value=-0.5, transform="log"),
        InvalidParameterError,
        "'rate'.*log",
    ),
    (
        "an unknown transform",
        with_rate(value=0.5, transform="lgo"),
        InvalidParameterError,
        "'transform'.*'rate'.*Got 'lgo'.*Did you mean 'log'",
    ),
    (
        "a scale of 0",
        with_rate(value=0.0, scale="value"),
        InvalidParameterError,
        "'scale'.*'rate'.*the start is not 0",
    ),
    (
        "a negative scale",
        with_rate(value=0.5, scale=-1.0),
        InvalidParameterError,
        "'scale'.*'rate' must be positive.*Got -1.0",
    ),
    (
        "a tie to an unknown name",
        with_rate(tie=lambda amplitud: amplitud),
        InvalidParameterError,
        "tie of parameter 'rate'.*'amplitud'.*Did you mean 'amplitude'",
    ),
    (
        "a tie that is no function",
        with_rate(tie="amplitude"),
        InvalidParameterError,
        "'tie'.*'rate' must be a function of other parameters. Got 'amplitude'",
    ),
    (
        "nothing free",
        make(params={k: Parameter(value=v, free=False) for k, v in START.items()}),
        InvalidParameterError,
        "nothing to optimise.*free=True",
    ),
    (
        "a mask of another shape",
        with_rate(value=0.5, free=[True, False]),
        InvalidParameterError,
        r"'free'.*'rate'.*shape \(\)",
    ),
    (
        "a start that is a str",
        make(params={**START, "rate": "fast"}),
        InvalidParameterError,
        r"'value'.*'rate'.*function \(X, y, rng\). Got 'fast'",
    ),
    (
        "a complex start",
        with_rate(value=1j),
        InvalidParameterError,
        "'value'.*'rate' must be a real number",
    ),
    (
        "a start that is NaN",
        make(params={**START, "rate": np.nan}),
        InvalidParameterError,
        "'value'.*'rate' must be finite. Got",
    ),
    (
        "a start that does not fit its shape",
        with_rate(value=[1.0, 2.0, 3.0], shape=(2,)),
        InvalidParameterError,
        r"'value'.*'rate'.*shape \(2,\)",
    ),
    (
        "an unknown size",
        with_rate(value=0.5, shape="n_feature"),
        InvalidParameterError,
        "'shape'.*'rate'.*Did you mean 'n_features'",
    ),
    (
        "an unknown prior",
        with_rate(value=0.5, prior="normal"),
        InvalidParameterError,
        "'prior'.*'rate'.*Got 'normal'",
    ),
    (
        "a prior's bad hyperparameter",
        with_rate(value=0.5, prior=priors.Normal(0.0, -1.0)),
        InvalidParameterError,
        "'sd'.*Got -1.0",
    ),
    (
        "a model that is no function",
        make(model="decay"),
        InvalidParameterError,
        "'model'.*must be a function.*Got 'decay'",
    ),
    (
        "a model of nameless arguments",
        make(model=lambda *args: args[0]),
        ModelError,
        r"'\*args'.*must have names",
    ),
    (
        "an unknown optimiser",
        make(optimizer="adamm"),
        InvalidParameterError,
        "'optimizer' parameter of OptaxEstimator must be 'auto'.*Got 'adamm'.*Did you "
        "mean 'adam'",
    ),
    (
        "an optimiser of the wrong type",
        make(optimizer=3),
        InvalidParameterError,
        "'optimizer' parameter of OptaxEstimator.*Got 3 instead",
    ),
    (
        "a loss as an optimiser",
        make(optimizer=lambda learning_rate: "no"),
        InvalidParameterError,
        "'optimizer'.*must be a function that returns an optax optimiser",
    ),
    (
        "an unknown hyperparameter",
        make(optimizer_kwargs={"b_1": 0.8}),
        InvalidParameterError,
        "'adam'.*no hyperparameter 'b_1'.*Did you mean 'b1'",
    ),
    (
        "a hyperparameter of another optimiser",
        make(optimizer="lbfgs", optimizer_kwargs={"b1": 0.8}),
        InvalidParameterError,
        "'lbfgs'.*no hyperparameter 'b1'; it has.*memory_size",
    ),
    (
        "hyperparameters that are no dict",
        make(optimizer_kwargs=[("b1", 0.8)]),
        InvalidParameterError,
        r"'optimizer_kwargs' parameter of OptaxEstimator must be .*dict.*Got \[\('b1'",
    ),
    (
        "the learning rate at the wrong place",
        make(optimizer_kwargs={"learning_rate": 0.1}),
        InvalidParameterError,
        "is its 'learning_rate' parameter",
    ),
    (
        "a learning rate beside a finished optimiser",
        make(optimizer=optax.adam(0.1), learning_rate=0.1),
        InvalidParameterError,
        "'learning_rate'.*must be None when.*finished.*Give.*optimizer=optax.adam,",
    ),
    (
        "hyperparameters beside a finished optimiser",
        make(
            optimizer=optax.adam(0.1), learning_rate=None, optimizer_kwargs={"b1": 0.5}
        ),
        InvalidParameterError,
        "'optimizer_kwargs'.*must be None when.*finished",
    ),
    (
        "a learning rate that is NaN",
        make(learning_rate=np.nan),
        InvalidParameterError,
        "'learning_rate'.*positive number, an optax schedule or None. Got nan",
    ),
    (
        "a learning rate that is a str",
        make(learning_rate="fast"),
        InvalidParameterError,
        "'learning_rate'.*Got 'fast'",
    ),
    (
        "a learning rate of 0",
        make(learning_rate=0.0),
        InvalidParameterError,
        "'learning_rate'.*positive.*Got 0.0",
    ),
    (
        "an unknown loss",
        make(loss="squared_eror"),
        InvalidParameterError,
        "'loss' parameter of OptaxEstimator.*Got 'squared_eror'.*mean 'squared_error'",
    ),
    (
        "a class as the loss",
        make(loss=losses.Huber),
        InvalidParameterError,
        r"'loss'.*It is a class: give an instance of it, Huber\(\.\.\.\)",
    ),
    (
        "a penalty as the loss",
        make(loss=penalties.L2()),
        InvalidParameterError,
        r"'loss'.*Got L2\(\)",
    ),
    (
        "a loss's bad hyperparameter",
        make(loss=losses.Huber(delta=-1.0)),
        InvalidParameterError,
        "'delta' parameter of Huber.*Got -1.0",
    ),
    (
        "a class as the penalty",
        make(penalty=penalties.L2),
        InvalidParameterError,
        r"'penalty'.*give an instance of it, L2\(\.\.\.\)",
    ),
    (
        "a penalty on an unknown parameter",
        make(penalty=penalties.L2(params=("rat",))),
        InvalidParameterError,
        "'rat'.*Did you mean 'rate'",
    ),
    (
        "negative y for Poisson",
        make(loss="poisson"),
        ValueError,
        "values of y are negative, which loss='poisson' does not admit.*another loss",
        (X, Y - 2.0),
    ),
    (
        "y of 0 for gamma",
        make(loss="gamma"),
        ValueError,
        "values of y are 0 or negative, which loss='gamma'.*must be above 0",
        (X, 0 * Y),
    ),
    (
        "y of 2 for the log loss",
        make(loss="log_loss"),
        ValueError,
        "below 0 or above 1, which loss='log_loss'.*encoded as 0 and 1",
        (X, 0 * Y + 2.0),
    ),
    (
        "negative max_steps",
        make(max_steps=-1),
        InvalidParameterError,
        "'max_steps' parameter of OptaxEstimator must be an int of at least 0. Got -1",
    ),
    (
        "fractional max_steps",
        make(max_steps=10.0),
        InvalidParameterError,
        r"'max_steps'.*an int of at least 0. Got 10\.0 instead",
    ),
    (
        "True as max_steps",
        make(max_steps=True),
        InvalidParameterError,
        "'max_steps'.*Got True instead",
    ),
    (
        "an unknown mode",
        make(mode="reverse"),
        InvalidParameterError,
        "'mode' parameter of OptaxEstimator must be one of 'rev', 'fwd'. Got 'reverse'",
    ),
    ("has_aux", make(has_aux="yes"), InvalidParameterError, "'has_aux'.*bool.*'yes'"),
    (
        "an unknown dtype",
        make(dtype="float12"),
        InvalidParameterError,
        "'dtype'.*must be 'float32', 'float64' or None. Got 'float12'",
    ),
    (
        "a dtype of half precision",
        make(dtype=np.float16),
        InvalidParameterError,
        "'dtype'.*must be 'float32', 'float64' or None. Got",
    ),
    (
        "an integer dtype",
        make(dtype=int),
        InvalidParameterError,
        "'dtype'.*must be 'float32', 'float64' or None. Got",
    ),
    (
        "a negative tol",
        make(tol=-1e-3),
        InvalidParameterError,
        r"'tol' parameter of OptaxEstimator.*\[0.*Got -0\.001",
    ),
    ("a str as tol", make(tol="1e-3"), InvalidParameterError, "'tol'.*Got '1e-3'"),
    (
        "no patience at all",
        make(n_iter_no_change=0),
        InvalidParameterError,
        "'n_iter_no_change'.*an int of at least 1. Got 0",
    ),
    (
        "chunks of 0",
        make(chunk_size=0),
        InvalidParameterError,
        "'chunk_size'.*an int of at least 1. Got 0",
    ),
    (
        "callbacks that are none",
        make(callbacks=3),
        InvalidParameterError,
        "'callbacks' parameter of OptaxEstimator.*Got 3 instead",
    ),
    (
        "a list with one callback that is none",
        make(callbacks=[lambda *args: (False, *args[1:3]), "print"]),
        InvalidParameterError,
        r"'callbacks\[1\]' parameter of OptaxEstimator.*Got 'print'",
    ),
    (
        "inputs that are a str",
        make(inputs="t"),
        InvalidParameterError,
        "'inputs'.*must be a tuple of str or None. Got 't'",
    ),
    (
        "too few inputs",
        make(two_columns, inputs=("temp",)),
        ModelError,
        r"'inputs'.*Got 1 names \('temp'\) for 2 columns",
        (WIDE, Y),
    ),
    (
        "a misspelt input",
        make(two_columns, inputs=("tmp", "conc")),
        ModelError,
        r"'temp' of the model two_columns\(.*Did you mean 'tmp'",
        (WIDE, Y),
    ),
    (
        "columns without names",
        make(two_columns),
        ModelError,
        r"2 columns without names.*inputs=\('temp', 'conc'\), or pass a DataFrame",
        (WIDE, Y),
    ),
    (
        # Names of all columns are what inputs takes: ('t',) would be the next error.
        "a column that the model leaves out",
        make(decay),
        ModelError,
        r"2 columns without names.*Name all columns.*inputs=\('t', \.\.\.\)",
        (WIDE, Y),
    ),
    (
        "columns of other names",
        make(two_columns),
        ModelError,
        r"'conc' of the model.* column of X \(columns: 'temp', 'cnc'\).*Rename",
        (FRAME.rename(columns={"conc": "cnc"}), Y),
    ),
]


def assert_raises(call, error, message, compiles=False):
    """Check an error, and that nothing was compiled on the way to it."""
    before = len(COMPILED)
    with warnings.catch_warnings(), pytest.raises(error) as info:
        warnings.simplefilter("error")
        call()
    text = " ".join(str(info.value).split())
    assert re.search(message, text), text
    if not compiles:
        assert COMPILED[before:] == [], text
    return info.value


@pytest.fixture(scope="module", autouse=True)
def program_that_works():
    """Compile what the tests of what is left need, and see the listener work."""
    before = len(COMPILED)
    jax.jit(lambda x: 1.25 * x)(ONES)
    assert len(COMPILED) > before
    make().fit(X, Y).predict(X)
    # A second fit shares the program: nothing else may compile.
    before = len(COMPILED)
    make().fit(X, 2.0 * Y)
    assert len(COMPILED) == before


def assert_usable(estimator):
    """After an error, the same object fits as a new one does."""
    assert not hasattr(estimator, "params_")
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    estimator.set_params(**make().get_params(deep=False))
    assert estimator.fit(X, Y).params_ == make().fit(X, Y).params_


@pytest.mark.parametrize(
    ("data", "message"), [case[1:] for case in DATA], ids=[case[0] for case in DATA]
)
def test_data(data, message):
    estimator = make()
    assert_raises(lambda: estimator.fit(*data), (ValueError, TypeError), message)
    assert_usable(estimator)


@pytest.mark.parametrize(
    ("model", "message"),
    [case[1:] for case in MODELS],
    ids=[case[0] for case in MODELS],
)
def test_models(model, message):
    estimator = make(model)
    # A gradient that is 0 is seen once it has been computed.
    compiles = message.startswith("no gradient")
    assert_raises(lambda: estimator.fit(X, Y), ModelError, message, compiles)
    assert_usable(estimator)


@pytest.mark.parametrize(
    ("estimator", "error", "message", "data"),
    [(*case[1:4], (case[4:] or [(X, Y)])[0]) for case in SETTINGS],
    ids=[case[0] for case in SETTINGS],
)
def test_settings(estimator, error, message, data):
    found = assert_raises(lambda: estimator.fit(*data), error, message)
    if error is InvalidParameterError:
        # As scikit-learn's own: both of a ValueError and a TypeError.
        assert isinstance(found, ValueError)
        assert isinstance(found, TypeError)
    if error is not ValueError:
        assert isinstance(found, SkoptaxError)
    assert_usable(estimator)


def test_a_circle_of_ties_beside_a_free_parameter():
    params = {
        "amplitude": Parameter(tie=lambda rate: rate),
        "rate": Parameter(tie=lambda amplitude: amplitude),
        "offset": 0.0,
    }

    def model(t, amplitude, rate, offset):
        return decay(t, amplitude, rate) + offset

    assert_raises(
        lambda: make(model, params).fit(X, Y),
        InvalidParameterError,
        "ties of the parameters 'amplitude', 'rate' are circular.*free or fixed",
    )


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
@pytest.mark.parametrize("optimizer", ["auto", "adam"])
@pytest.mark.parametrize("start", [-1.0, 0.0])
def test_a_mean_that_is_not_positive_at_the_start(loss, optimizer, start):
    estimator = OptaxEstimator(
        lambda t, a: a * (1.0 + t), {"a": start}, loss=loss, optimizer=optimizer
    )
    assert_raises(
        lambda: estimator.fit(X, 1.0 + X[:, 0]),
        NonFiniteError,
        rf"The loss is inf at the start values a={start}\. With the '{loss}' loss the "
        "prediction is the mean, which must be positive.*Choose a start.*jnp.exp",
        compiles=True,
    )
    # As it advises.
    positive = estimator.set_params(params={"a": 0.5}, optimizer="auto")
    assert_allclose(positive.fit(X, 1.0 + X[:, 0]).params_["a"], 1.0, rtol=1e-4)


def test_a_probability_that_is_none_at_the_start():
    estimator = OptaxEstimator(lambda t, a: a + t, {"a": 5.0}, loss="log_loss")
    y = np.arange(len(X)) % 2
    assert_raises(
        lambda: estimator.fit(X, y),
        NonFiniteError,
        r"a=5\.0\. With the 'log_loss' loss .*in \(0, 1\).*jax\.nn\.sigmoid",
        compiles=True,
    )
    state = {"a": Parameter(value=5.0), "t": X[:, 0], "y": y.astype(float)}
    loss = SampleLoss(lambda s: (s["y"], s["a"] + s["t"]), "log_loss")
    assert_raises(
        lambda: OptaxOptimizer(loss, optax.sgd(0.1)).run(state),
        NonFiniteError,
        r"With the 'log_loss' loss .*jax\.nn\.sigmoid",
        compiles=True,
    )


@pytest.mark.parametrize(
    ("prior", "start", "support"),
    [
        (priors.LogNormal(0.0, 1.0), -1.0, r"\[0\.0, inf\] of its prior LogNormal\("),
        (priors.Beta(2.0, 2.0), 1.5, r"\[0\.0, 1\.0\] of its prior Beta\("),
        (priors.HalfNormal(2.0), -1.0, r"\[0\.0, inf\] of its prior HalfNormal\("),
    ],
)
def test_a_start_that_the_prior_does_not_allow(prior, start, support):
    params = {"amplitude": 1.0, "rate": Parameter(value=start, lower=-2.0, prior=prior)}
    assert_raises(
        lambda: make(params=params).fit(X, Y),
        InvalidParameterError,
        rf"start value of parameter 'rate' must lie in the support {support}.*Got "
        rf"{start} instead\. Move the start, or choose a prior",
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda t, amplitude, rate: (amplitude * t, rate * t),
            r"tuple of 2 instead\. Outputs are columns: jnp\.stack\(outputs, axis=1\)",
        ),
        (
            lambda t, amplitude, rate: jnp.stack([amplitude * t, rate * t]),
            r"shape \(12, 2\)\. Got shape \(2, 12\).*columns: return prediction\.T",
        ),
    ],
    ids=["a tuple", "rows"],
)
def test_outputs_are_columns(model, words):
    with pytest.raises(ModelError, match=words):
        make(model).fit(X, np.stack([Y, Y], axis=1))


def test_the_start_is_not_finite():
    def model(t, amplitude, rate):
        return amplitude * jnp.log(rate * t)

    estimator = make(model, {"amplitude": 1.0, "rate": -1.0})
    assert_raises(
        lambda: estimator.fit(X, Y),
        NonFiniteError,
        "loss is nan at the start values.*amplitude=1.0, rate=-1.0.*Choose a start",
        compiles=True,
    )
    estimator.set_params(params__rate=1.0).fit(X, Y)
    assert np.isfinite(estimator.loss_)
    # In the order of the user, not that of the alphabet.
    estimator = make(model, {"rate": -1.0, "amplitude": 1.0})
    with pytest.raises(NonFiniteError, match=r"values rate=-1.0, amplitude=1.0\."):
        estimator.fit(X, Y)


def test_the_gradient_is_not_finite_at_the_start():
    def model(t, amplitude, rate):
        return amplitude * t + jnp.sqrt(rate)

    assert_raises(
        lambda: make(model, {"amplitude": 1.0, "rate": 0.0}).fit(X, Y),
        NonFiniteError,
        "gradient of the loss is (inf|nan) at the start values.*rate=0.0",
        compiles=True,
    )


def test_a_loop_of_unknown_length_needs_forward_mode():
    estimator = make(with_while_loop)
    assert_raises(
        lambda: estimator.fit(X, Y), DifferentiationError, 'while_loop.*Use mode="fwd"'
    )
    estimator.set_params(mode="fwd").fit(X, Y)
    plain = make(lambda t, amplitude, rate: amplitude * jnp.exp(-rate * t / 8.0))
    for name, value in plain.fit(X, Y).params_.items():
        np.testing.assert_allclose(estimator.params_[name], value, rtol=1e-10)


def test_an_error_of_the_model_itself_is_passed_on():
    def model(t, amplitude, rate):
        raise RuntimeError("the pump is broken")

    assert_raises(lambda: make(model).fit(X, Y), RuntimeError, "the pump is broken")


def test_a_loss_function_must_return_one_value_for_each_sample():
    estimator = make(loss=lambda y_true, y_pred: jnp.mean((y_true - y_pred) ** 2))
    assert_raises(
        lambda: estimator.fit(X, Y),
        ModelError,
        r"one value for each sample.*shape \(12,\). Got shape \(\).*is taken for you",
    )


def test_a_model_that_promises_aux_and_has_none():
    assert_raises(
        lambda: make(has_aux=True).fit(X, Y),
        ModelError,
        r"With has_aux=True.*must return \(prediction, aux\)",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("learning_rte", "Invalid parameter 'learning_rte'.*mean 'learning_rate'"),
        ("params__rat", "'params__rat'.*'amplitude', 'rate'.*Did you mean 'rate'"),
        ("params__rate__lowr", "no field 'lowr'.*Did you mean 'lower'"),
        ("loss__delta", "Invalid parameter 'delta' for estimator SquaredError"),
        ("penalty__alpha", "'penalty__alpha'.*has no parameters of its own"),
    ],
)
def test_names_in_set_params(name, message):
    estimator = make()
    before = estimator.get_params()
    assert_raises(lambda: estimator.set_params(**{name: 1.0}), ValueError, message)
    assert estimator.get_params() == before
    assert_usable(estimator)


def test_a_positional_mistake_in_parameter():
    assert_raises(
        lambda: Parameter(1.0),
        InvalidParameterError,
        r"'name' parameter of Parameter must be a str or None. Got 1\.0 instead. The "
        r"value comes second: write Parameter\(value=",
    )


def test_predict_before_fit():
    assert_raises(lambda: make().predict(X), NotFittedError, "not fitted yet.*'fit'")
    assert_raises(lambda: make().score(X, Y), NotFittedError, "not fitted yet")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FRAME[["conc", "temp"]], "should match.*must be in the same order"),
        (FRAME[["temp"]], "should match.*missing.*conc"),
        (FRAME.assign(more=1.0), "should match.*unseen at fit time.*more"),
        (FRAME.rename(columns={"temp": "tmp"}), "should match.*tmp"),
    ],
    ids=["order", "missing", "more", "other"],
)
def test_predict_with_other_columns(fitted_on_frame, data, message):
    assert_raises(lambda: fitted_on_frame.predict(data), ValueError, message)


@pytest.fixture(scope="module")
def fitted_on_frame():
    return make(two_columns).fit(FRAME, Y)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (T, "Expected 2D array, got 1D"),
        (WIDE, "X has 2 features, but OptaxEstimator is expecting 1"),
        (changed(X, np.nan), "Input X contains NaN"),
        (X[:0], r"Found array with 0 sample\(s\)"),
    ],
    ids=["1-D", "wide", "NaN", "empty"],
)
def test_predict_with_wrong_data(data, message):
    fitted = make().fit(X, Y)
    expected = fitted.predict(X)
    assert_raises(lambda: fitted.predict(data), ValueError, message)
    np.testing.assert_array_equal(fitted.predict(X), expected)


def test_a_failed_fit_leaves_a_fitted_estimator_as_it_was():
    estimator = make().fit(X, Y)
    params, history = estimator.params_, estimator.history_
    estimator.set_params(max_steps=-1)
    with pytest.raises(InvalidParameterError):
        estimator.fit(X, 2.0 * Y)
    assert estimator.params_ is params
    assert estimator.history_ is history
    assert clone(estimator).set_params(max_steps=5).fit(X, Y).params_ == params
