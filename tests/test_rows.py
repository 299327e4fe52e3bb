"""Buckets and padding: what they are, and that no fit can tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import skoptax
from skoptax import OptaxEstimator, Parameter
from skoptax._rows import MAX_PADDED, bucket, pad_rows
from skoptax.exceptions import InvalidParameterError

pytestmark = pytest.mark.optimised


@given(n=st.integers(1, 50_000))
def test_a_bucket_holds_its_rows_and_little_more(n):
    length = bucket(n)
    limit = 1.0 if n > MAX_PADDED else 1.126
    assert n <= length <= max(64, 2 * n if n <= 1024 else limit * n)
    # It is its own bucket, and the order of lengths is kept.
    assert bucket(length) == length or n > MAX_PADDED
    assert bucket(n + 1) >= length or n == MAX_PADDED


def test_folds_and_refit_of_a_small_search_share_a_bucket():
    assert {bucket(n) for n in (402, 403, 503)} == {512}
    assert [bucket(n) for n in (1, 64, 65, 1024, 1025, 8192)] == [
        64,
        64,
        128,
        1024,
        1152,
        8192,
    ]
    assert bucket(MAX_PADDED + 1) == MAX_PADDED + 1


@given(n=st.integers(1, 20), extra=st.integers(0, 20), wide=st.booleans())
def test_padding_repeats_a_row_behind_the_others(n, extra, wide):
    array = np.arange(2.0 * n).reshape(n, 2) + 1 if wide else np.arange(n) + 1.0
    padded = pad_rows(array, n + extra)
    assert_array_equal(padded[:n], array)
    assert_array_equal(padded[n:], np.broadcast_to(array[0], padded[n:].shape))
    assert (padded is array) == (extra == 0)


# Each against plain JAX on the rows as they are.

N = 45


def data():
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0.1, 3.0, N))
    return t[:, None], 2.0 * np.exp(-t) + 0.1 * rng.normal(size=N)


def ode_over_rows(X, a):
    """Return u' = -a u at the rows' times, each step from the row before."""
    t = X[:, 0]

    def step(u, dt):
        u = u * jnp.exp(-a * dt)
        return u, u

    return jax.lax.scan(step, 1.0 + 0 * a, jnp.diff(t, prepend=0.0))[1]


COUPLED = {
    "centring": lambda X, a: a * (X[:, 0] - X[:, 0].mean()),
    "cumsum": lambda X, a: a * jnp.cumsum(X[:, 0]) / 30.0,
    "convolution": lambda X, a: a * jnp.convolve(X[:, 0], jnp.ones(3) / 3, "same"),
    "max-scaling": lambda X, a: a * X[:, 0] / jnp.max(X[:, 0]),
    "sorting": lambda X, a: a * jnp.sort(-X[:, 0]),
    "ODE over rows": ode_over_rows,
    "vanishes at the start": lambda X, a: a * X[:, 0] + (a - 0.7) * jnp.sum(X) / 30.0,
    "number of rows": lambda X, a: a * X[:, 0] * X.shape[0] / 50.0,
}
INDEPENDENT = {
    "decay": lambda X, a: a * jnp.exp(-X[:, 0]),
    "inner loop": lambda X, a: jax.vmap(
        lambda x: jax.lax.fori_loop(0, 3, lambda _, u: u * a * x[0] ** 0.1, 1.0)
    )(X),
}
STEPS, RATE = 6, 0.05


def squares(y, prediction):
    return 0.5 * (y - prediction) ** 2


def centred(y, prediction):
    # A loss may couple rows as well.
    residual = y - prediction
    return 0.5 * (residual - jnp.mean(residual)) ** 2


def plainly(model, X, y, weights=None, loss=squares, penalty=0.0):
    """Descend by hand, on exactly these rows."""
    w = jnp.ones(len(y)) if weights is None else jnp.asarray(weights)

    def objective(a):
        return jnp.sum(w * loss(y, model(X, a))) / jnp.sum(w) + penalty * a**2

    evaluate = jax.jit(jax.value_and_grad(objective))
    a, seen = np.asarray(0.7), []
    for _ in range(STEPS + 1):
        value, slope = evaluate(a)
        seen.append([float(value), a])
        a = a - RATE * np.asarray(slope)
    return np.array(seen)


def estimator(model, cov_type=None, **arguments):
    # Most tests here do not look at the derivatives at the end.
    return OptaxEstimator(
        model,
        {"a": 0.7},
        optimizer="sgd",
        learning_rate=RATE,
        max_steps=STEPS,
        cov_type=cov_type,
        **arguments,
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", [squares, centred], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", [*COUPLED, *INDEPENDENT])
def test_padding_makes_no_difference(name, loss):
    model = (COUPLED | INDEPENDENT)[name]
    X, y = data()
    weights = np.random.default_rng(0).uniform(0.5, 2.0, N)
    auto = estimator(model, loss=loss).fit(X, y, weights)
    with jax.enable_x64(True):
        expected = plainly(model, X, y, weights, loss)
        prediction = model(jnp.asarray(X), auto.params_["a"])
    assert_allclose(auto.history_[["loss", "a"]], expected, rtol=1e-12, atol=1e-15)
    assert_allclose(auto.predict(X), prediction, rtol=1e-13)
    exact = estimator(model, loss=loss, row_independent=False).fit(X, y, weights)
    if name in COUPLED or loss is centred:
        # It is the very same program.
        assert_array_equal(auto.history_, exact.history_)
    else:
        assert_allclose(auto.history_, exact.history_, rtol=1e-12)


def compilations(action):
    before = skoptax.cache_info().compilations
    action()
    return skoptax.cache_info().compilations - before


@pytest.mark.slow
def test_lengths_share_a_program_where_rows_do_not_interact():
    X, y = data()

    def fits(model, **arguments):
        def run():
            for n in (N, N - 1, N - 7, 30):
                fitted = estimator(model, "nonrobust", **arguments).fit(X[:n], y[:n])
                fitted.predict(X[: n - 3])

        return run

    skoptax.clear_cache()
    # To fit, with the derivatives at its end, and to predict.
    assert compilations(fits(lambda X, a: a * X[:, 0])) == 2
    assert compilations(fits(lambda X, a: a * X[:, 0], row_independent=False)) == 8
    assert compilations(fits(lambda X, a: a * (X[:, 0] - X[:, 0].mean()))) == 8
    # Weights are a program of their own, the same for all lengths.
    model = INDEPENDENT["decay"]
    estimator(model, "nonrobust").fit(X, y)
    for n, compiled in ((N, 1), (N - 7, 0)):
        fitted = estimator(model, "nonrobust")
        assert compilations(lambda: fitted.fit(X[:n], y[:n], np.ones(n))) == compiled  # noqa: B023
        plain = estimator(model, "nonrobust").fit(X[:n], y[:n])
        assert_allclose(fitted.history_, plain.history_, rtol=1e-12)


@pytest.mark.parametrize("n", [N, MAX_PADDED + 7])
def test_rows_keep_their_numbers(n):
    X = np.linspace(0.1, 3.0, n)[:, None]
    y = 2.0 * np.exp(-X[:, 0])
    weights = np.ones(n)
    weights[:5] = weights[20:25] = 0.0

    def model(X, a):
        return a * X[:, 0] + jnp.arange(X.shape[0]) / (10.0 * n)

    with jax.enable_x64(True):
        expected = plainly(model, X, y, weights)
    found = estimator(model).fit(X, y, weights)
    assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-11)


def test_a_model_is_asked_for_no_row_number_that_the_data_lack():
    # At a number beyond 39 it is not defined, and a program's length would be 64.
    n = 37
    X, numbers = np.linspace(0.0, 1.0, n)[:, None], np.arange(n)
    y = 2.0 * X[:, 0] + 3.0 * np.log(40.0 - numbers)

    def model(t, a, b):
        return a * t + b * jnp.log(40.0 - jnp.arange(len(t)))

    start = {"a": 1.0, "b": 1.0}
    for weights in (None, np.where(numbers < 4, 0.0, 1.0)):
        for optimizer in ("lm", "lbfgs"):
            fitted = OptaxEstimator(model, start, optimizer=optimizer)
            fitted.fit(X, y, weights)
            assert_allclose([*fitted.params_.values()], [2.0, 3.0], rtol=1e-8)
            assert np.isfinite(fitted.covariance_).all()
            assert_allclose(fitted.predict(X), y, rtol=1e-8)


def test_rows_that_do_not_count_are_filled():
    # Even where the model is not finite.
    X, y = data()
    X = np.concatenate([[[0.0], [-1.0]], X])
    y = np.concatenate([[5.0, 5.0], y])
    weights = np.r_[0.0, 0.0, np.ones(N)]

    def model(X, a):
        return a * jnp.exp(-X[:, 0]) * jnp.log(X[:, 0])

    found = estimator(model).fit(X, y, weights)
    expected = estimator(model).fit(X[2:], y[2:])
    assert_allclose(found.history_, expected.history_, rtol=1e-12)
    assert found.status_ == "max_steps"


def test_rows_that_do_not_count_stay_where_others_may_see_them():
    X, y = data()
    weights = np.r_[np.zeros(5), np.ones(N - 5)]
    model = COUPLED["centring"]
    with jax.enable_x64(True):
        expected = plainly(model, X, y, weights)
    found = estimator(model).fit(X, y, weights)
    assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-12)


def test_more_rows_than_are_padded():
    X = np.linspace(0.0, 1.0, MAX_PADDED + 5)[:, None]
    y = 0.3 * X[:, 0]
    model = INDEPENDENT["decay"]
    weights = np.ones(len(y))
    weights[::3] = 0.0
    with jax.enable_x64(True):
        expected = plainly(model, X, y, weights)
    found = estimator(model).fit(X, y, weights)
    assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-11)
    with jax.enable_x64(True):
        expected = plainly(model, X, y)
    found = estimator(model).fit(X, y)
    assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-11)
    assert len(found.predict(X)) == len(X)


def test_several_outputs_are_padded_too():
    X, y = data()
    Y = np.column_stack([y, -y, 2 * y])
    found = OptaxEstimator(max_steps=200).fit(X, Y)
    A = np.column_stack([X, np.ones(N)])
    coef, intercept = np.split(np.linalg.lstsq(A, Y, rcond=None)[0], [1])
    assert_allclose(found.params_["coef"], coef, rtol=1e-6)
    assert_allclose(found.predict(X), X @ coef + intercept, rtol=1e-6)


def test_penalty_and_prior_do_not_feel_the_rows_that_are_added():
    X, y = data()
    model = INDEPENDENT["decay"]
    with jax.enable_x64(True):
        expected = plainly(model, X, y, penalty=0.3)
    found = estimator(model, penalty=skoptax.penalties.L2(0.6)).fit(X, y)
    assert_allclose(found.history_["a"], expected[:, 1], rtol=1e-12)
    sd = 0.2
    prior = Parameter(value=0.7, prior=skoptax.priors.Normal(0.0, sd))
    found = estimator(model).set_params(params={"a": prior}).fit(X, y)
    with jax.enable_x64(True):
        expected = plainly(model, X, y, penalty=0.5 / sd**2 / N)
    assert_allclose(found.history_["a"], expected[:, 1], rtol=1e-12)


def test_auxiliary_data_have_as_many_rows_as_the_data():
    X, y = data()
    seen = []

    def watch(step, diff, static, fitting, aux, loss, grads):
        seen.append(aux.shape)
        return False, diff, static

    def model(X, a):
        return a * X[:, 0], X[:, 0] ** 2

    estimator(model, has_aux=True, callbacks=watch).fit(X, y)
    assert set(seen) == {(N,)}


@pytest.mark.parametrize("value", ["yes", None, 1, 0.0, "True"])
def test_row_independent_is_checked(value):
    X, y = data()
    model = INDEPENDENT["decay"]
    with pytest.raises(InvalidParameterError, match="'auto', True or False"):
        estimator(model, row_independent=value).fit(X, y)


def test_a_changed_function_is_analysed_anew(monkeypatch):
    # JAX would hand out the trace of the inner jit from before.
    X, y = data()

    def model(X, a):
        return a * inner(X[:, 0])

    for change in (plain, centring, plain):
        monkeypatch.setitem(globals(), "CHANGE", change)
        with jax.enable_x64(True):
            expected = plainly(lambda X, a, f=change: a * f(X[:, 0]), X, y)
        found = estimator(model).fit(X, y)
        assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-12)


def plain(x):
    return x + 0.5


def centring(x):
    return x - jnp.mean(x)


CHANGE = plain


@jax.jit
def inner(x):
    return CHANGE(x)


class Shaped(skoptax.losses.Loss):
    """A loss that couples rows if its hyperparameter is an array."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, y_true, y_pred):
        weight = jnp.asarray(self.weight)
        squared = (y_true - y_pred) ** 2
        if weight.ndim == 0:
            return weight * squared
        return weight[0] * squared + weight[1] * (y_pred - jnp.mean(y_pred)) ** 2


def test_the_shape_of_a_hyperparameter_counts():
    X, y = data()
    model = INDEPENDENT["decay"]
    estimator(model, loss=Shaped(0.5)).fit(X, y)
    found = estimator(model, loss=Shaped(np.array([0.5, 1.0]))).fit(X, y)

    def loss(y, prediction):
        centred = prediction - jnp.mean(prediction)
        return 0.5 * (y - prediction) ** 2 + centred**2

    with jax.enable_x64(True):
        expected = plainly(model, X, y, loss=loss)
    assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-12)


@pytest.mark.parametrize("aux", [lambda X, a: {"a": a}, lambda X, a: {"a": a, "b": a}])
def test_auxiliary_data_whose_structure_follows_the_rows(aux):
    X, y = data()
    seen = []

    def watch(step, diff, static, fitting, aux, loss, grads):
        seen.append(sorted(aux))
        return False, diff, static

    def model(X, a):
        found = aux(X, a) if X.shape[0] == N else {f"n{X.shape[0]}": a}
        return a * X[:, 0], found

    estimator(model, has_aux=True, callbacks=watch).fit(X, y)
    assert all(keys == sorted(aux(X, 1.0)) for keys in seen)


def test_what_the_analysis_cannot_walk_is_fitted_as_it_is():
    X, y = data()

    def model(X, a):
        jax.lax.create_token()
        return a * X[:, 0]

    with jax.enable_x64(True):
        expected = plainly(lambda X, a: a * X[:, 0], X, y)
    found = estimator(model).fit(X, y)
    assert_allclose(found.history_[["loss", "a"]], expected, rtol=1e-12)
