"""Labels that a model can be certain of have no likelihood with an optimum."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from skoptax import OptaxEstimator, Parameter, _separation
from skoptax.exceptions import ConvergenceWarning
from skoptax.penalties import L2
from skoptax.priors import Normal

X = np.linspace(-2.0, 2.0, 40)[:, None]
APART = (X[:, 0] > 0.3).astype(float)
START = {"slope": 1.0, "shift": 0.0}


def logistic(x, slope, shift):
    return jax.nn.sigmoid(slope * x + shift)


def make(optimizer="lm", model=logistic, params=None, **settings):
    params = START if params is None else params
    return OptaxEstimator(
        model, params, loss="log_loss", optimizer=optimizer, max_steps=2000, **settings
    )


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "hessian"])
def test_separated_labels(optimizer, cov_type):
    with pytest.warns(ConvergenceWarning, match="certainty.*'slope', 'shift'.*penalty"):
        estimator = make(optimizer, cov_type=cov_type).fit(X, APART)
    assert estimator.status_ == "diverging"
    assert not estimator.converged_
    assert "'slope', 'shift' get" in estimator.message_
    # It is as good as it says: no label is in doubt.
    assert_allclose(estimator.predict(X), APART, atol=1e-3)


def test_in_single_precision():
    with pytest.warns(ConvergenceWarning, match="certainty"):
        make(dtype="float32").fit(X, APART)


def test_weights_say_which_labels_count():
    mixed = APART.copy()
    mixed[[3, 35]] = 1.0, 0.0
    weights = np.ones(40)
    assert make().fit(X, mixed, sample_weight=weights).converged_
    weights[[3, 35]] = 0.0
    with pytest.warns(ConvergenceWarning, match="certainty"):
        make().fit(X, mixed, sample_weight=weights)


def test_only_one_parameter_without_end():
    params = START | {"shift": Parameter(value=0.0, free=False)}
    with pytest.warns(ConvergenceWarning, match="however large 'slope' gets"):
        make(params=params).fit(X, (X[:, 0] > 0.0).astype(float))


def test_separated_exactly_where_no_threshold_is_crossed():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        x = rng.normal(size=8)
        y = (x + rng.normal(0.0, 0.5, 8) > 0).astype(float)
        if len(set(y)) < 2:
            continue
        low, high = x[y == 0], x[y == 1]
        is_apart = low.max() < high.min() or high.max() < low.min()
        estimator = make()
        if is_apart:
            # Of a parameter that is much larger than at its start it is seen sooner.
            with pytest.warns(ConvergenceWarning, match="certainty|limit at infinity"):
                estimator.fit(x[:, None], y)
        else:
            estimator.fit(x[:, None], y)
        assert estimator.status_ == ("diverging" if is_apart else "converged")
        seen.add(is_apart)
    assert seen == {True, False}


@pytest.mark.parametrize("seed", [9, 28])
def test_what_certain_labels_do_not_determine(seed):
    # Where the last step has left the Jacobian without digits: the columns are far from
    # dependent.
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, 3))
    y = (X @ [1.0, -1.0, 0.5] + 0.3 > 0).astype(float)
    assert np.linalg.cond(np.c_[X, np.ones(12)]) < 5

    def model(X, w, b):
        return jax.nn.sigmoid(X @ w + b)

    estimator = make(model=model, params={"w": np.zeros(3), "b": 0.0})
    with pytest.warns(ConvergenceWarning, match="certainty"):
        estimator.fit(X, y)
    assert estimator.status_ == "diverging"


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_of_probabilities_that_are_one(optimizer):
    estimator = make(optimizer, params={"slope": 1.0, "shift": 0.0})
    with pytest.warns(ConvergenceWarning, match="loss is 0 however large 'slope' gets"):
        estimator.fit(1e6 * X, (X[:, 0] > 0.0).astype(float))
    assert estimator.loss_ == 0.0


# What has an optimum.


def test_two_equal_columns_with_a_label_in_doubt():
    def model(X, a, b):
        return jax.nn.sigmoid((a + b) * X[:, 0])

    mixed = APART.copy()
    mixed[5] = 1.0
    estimator = make(model=model, params={"a": 0.3, "b": 0.1})
    with pytest.warns(ConvergenceWarning, match="do not determine 'a', 'b'"):
        estimator.fit(X, mixed)
    assert estimator.status_ == "singular"


def test_a_wave_of_many_turns_comes_back():
    def wave(x, f):
        return jnp.cos(np.pi * f) ** 2 + 0.0 * x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make("lbfgs", wave, {"f": 100.05}).fit(X, np.ones(40))
    assert estimator.status_ != "diverging"
    assert_allclose(estimator.params_["f"], 100.0, atol=1e-6)


def test_one_label_in_doubt():
    mixed = APART.copy()
    mixed[5] = 1.0
    assert make().fit(X, mixed).converged_


@pytest.mark.parametrize("settings", [{"penalty": L2(1e-3)}, {"penalty": L2(1e-9)}])
def test_a_penalty_gives_an_optimum(settings):
    assert make(**settings).fit(X, APART).converged_


def test_a_prior_gives_an_optimum():
    params = {
        name: Parameter(value=v, prior=Normal(0.0, 5.0)) for name, v in START.items()
    }
    assert make(params=params).fit(X, APART).converged_


def test_a_bound_is_an_optimum():
    params = {"p": Parameter(value=0.5, lower=0.0, upper=1.0)}
    estimator = make(model=lambda X, p: p + 0.0 * X[:, 0], params=params)
    estimator.fit(X, np.ones(40))
    assert estimator.status_ == "converged"
    assert estimator.params_["p"] == 1.0


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_certainty_at_a_finite_value(optimizer):
    def wave(x, a):
        return jnp.sin(a + 0.0 * x) ** 2

    estimator = make(optimizer, wave, {"a": 1.0}).fit(X, np.ones(40))
    assert estimator.status_ != "diverging"
    assert_allclose(estimator.params_["a"], np.pi / 2, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_a_zero_is_not_without_end(optimizer):
    def wave(x, a, b):
        return jnp.sin(a + b**2 * x) ** 2

    params = {"a": np.pi / 2 - 1e-3, "b": 0.0}  # where b has no slope
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make(optimizer, wave, params).fit(X, np.ones(40))
    assert estimator.params_["b"] == 0.0
    assert estimator.status_ != "diverging"


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize(("start", "end"), [(2.0, 1), (2.9, 1), (6.0, 2)])
def test_a_wave_comes_back(optimizer, start, end):
    def wave(x, a):
        return jnp.cos(a) ** 2 + 0.0 * x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make(optimizer, wave, {"a": start}).fit(X, np.ones(40))
    assert estimator.status_ != "diverging"
    assert_allclose(estimator.params_["a"], end * np.pi, atol=1e-4)


def test_a_bound_on_the_way():
    params = START | {"slope": Parameter(value=1.0, lower=0.0, upper=1e5)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make(params=params).fit(X, APART)
    assert "'slope'" not in estimator.message_


@pytest.mark.parametrize(("size", "is_seen"), [(33, True), (34, False)])
def test_of_many_parameters_nothing_is_looked_at(size, is_seen, monkeypatch):
    def net(X, a, b, c):
        return jax.nn.sigmoid(jnp.tanh(X @ a[None] + b) @ c)

    looked = []
    values = _separation.make_values
    monkeypatch.setattr(
        _separation, "make_values", lambda s: looked.append(s) or values(s)
    )
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=size) for name in "abc"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        make("lbfgs", net, params, cov_type=None).fit(X, APART)
    assert bool(looked) == is_seen


def test_adam_is_not_asked_for_an_optimum():
    estimator = make("adam", learning_rate=20.0).fit(X, APART)
    assert estimator.status_ == "max_steps"


# What labels hardly depend on has not grown because of them.


def threshold(slope):
    return lambda x, x0: jax.nn.sigmoid(slope * (x - x0))


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("start", [0.3, -0.7])
@pytest.mark.parametrize("slope", [20.0, 300.0])
def test_a_threshold_between_labels(optimizer, start, slope):
    x = np.concatenate([np.linspace(-3.0, -0.9, 20), np.linspace(0.9, 3.0, 20)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make(optimizer, threshold(slope), {"x0": start})
        estimator.fit(x[:, None], (x > 0.0).astype(float))
    assert estimator.status_ != "diverging"
    assert -0.9 < estimator.params_["x0"] < 0.9


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("start", [1.0, 2.2])
def test_a_threshold_in_a_wide_gap(optimizer, start):
    x = np.concatenate([np.linspace(-5.0, 0.0, 20), np.linspace(8.0, 12.0, 20)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make(optimizer, threshold(20.0), {"x0": start})
        estimator.fit(x[:, None], (x > 4.0).astype(float))
    assert estimator.status_ != "diverging"


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_a_shift_beside_a_slope_on_its_bound(optimizer):
    x = np.concatenate([np.linspace(-12.0, -8.0, 20), np.linspace(8.0, 12.0, 20)])
    params = {"slope": Parameter(value=1.0, lower=0.0, upper=5.0), "shift": -0.3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make(optimizer, params=params)
        estimator.fit(x[:, None], (x > 0.0).astype(float))
    assert estimator.status_ != "diverging"


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_the_unit_of_the_weights_does_not_matter(optimizer):
    mixed = (X[:, 0] > 0.0).astype(float)
    mixed[[3, 36]] = 1.0, 0.0
    for weight in (1.0, 1e-6):
        estimator = make(optimizer, params={"slope": 1.0, "shift": 0.2})
        estimator.fit(X, mixed, sample_weight=np.full(40, weight))
        assert estimator.status_ == "converged"
    with pytest.warns(ConvergenceWarning, match="certainty"):
        make(optimizer).fit(X, APART, sample_weight=np.full(40, 1e-6))


def test_a_model_that_refuses_values_far_out_keeps_its_fit():
    def check(a):
        if np.any(np.abs(a) > 100.0):
            raise ValueError("the table ends at 100")
        return np.asarray(a)

    @jax.custom_jvp
    def looked_up(a):
        return jax.pure_callback(check, jax.ShapeDtypeStruct(a.shape, a.dtype), a)

    looked_up.defjvp(lambda primals, tangents: (looked_up(*primals), *tangents))

    def model(x, slope):
        return jax.nn.sigmoid(looked_up(slope) * x)

    settings = {"optimizer": "adam", "tol": 1e-3, "dtype": "float32", "cov_type": None}
    estimator = OptaxEstimator(
        model, {"slope": 50.0}, loss="log_loss", max_steps=20, **settings
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(4.0 * X, (X[:, 0] > 0.0).astype(float))
    assert 40.0 < estimator.params_["slope"] < 100.0
