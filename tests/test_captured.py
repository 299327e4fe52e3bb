"""Arrays that JAX meets in single and then in double precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import skoptax
from skoptax import OptaxEstimator, OptaxOptimizer, Parameter
from skoptax._captured import (
    check_taken_as_now,
    forget_other_precision,
    takes_as_now,
    times_forgotten,
)
from skoptax._program import Program

# No entry is a number of single precision: rounded to it, they differ by 3e-8.
THIRDS = np.array([1 / 3, 0.1, 0.7])
# The sum of a row's entries times those of the array, in ways that JAX traces apart.
WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "product": lambda X, c: X @ c,  # where JAX lets the types differ
    "broadcast": lambda X, c: (X * c).sum(axis=1),
    "converted": lambda X, c: X @ jnp.asarray(c),
    "inner function": lambda X, c: (X * jnp.where(c > 0, c, 0.0)).sum(axis=1),
    "entries": lambda X, c: sum(X[:, k] * jnp.take(c, k) for k in range(3)),
    "loop": lambda X, c: jax.lax.fori_loop(
        0, 3, lambda k, found: found + X[:, k] * jnp.asarray(c)[k], 0 * X[:, 0]
    ),
}


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    skoptax.clear_cache()


@pytest.fixture
def single() -> Iterator[np.ndarray]:
    """Yield an array that a trace in single precision holds."""
    c = THIRDS.copy()
    kept = jax.make_jaxpr(lambda x: x @ c)(np.ones(3, np.float32))
    with jax.enable_x64(True):
        if takes_as_now([c]):
            pytest.skip("this JAX takes an array anew for each trace")
    yield c
    del kept


def _rows() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(40, 3))
    return X, 1.0 + 2.0 * (X @ THIRDS)


@pytest.mark.parametrize("way", WAYS)
def test_an_array_has_the_digits_of_each_fit(way):
    X, y = _rows()
    c = THIRDS.copy()

    def model(params, X):
        return params["a"] + params["b"] * WAYS[way](X, c)

    for precision in "dsd":
        dtype, tolerance = {"s": (np.float32, 1e-5), "d": (np.float64, 1e-13)}[
            precision
        ]
        fitted = OptaxEstimator(model, {"a": 0.0, "b": 0.0}, optimizer="lm")
        fitted.fit(X.astype(dtype), y.astype(dtype))
        assert fitted.params_["b"] == pytest.approx(2.0, rel=tolerance)
        found = fitted.predict(X.astype(dtype))
        assert found.dtype == dtype
        assert_allclose(found, y, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("place", ["global", "attribute", "default"])
def test_an_array_is_found_where_a_model_keeps_it(place):
    X, y = _rows()

    class Model:
        weights = THIRDS.copy()

        def __call__(self, params, X):
            return params["a"] + params["b"] * (X @ self.weights)

    def with_default(params, X, c=THIRDS.copy()):  # noqa: B008 (the case)
        return params["a"] + params["b"] * (X @ c)

    models = {"global": _of_global, "attribute": Model(), "default": with_default}
    for dtype in (np.float32, np.float64):
        fitted = OptaxEstimator(models[place], {"a": 0.0, "b": 0.0}, optimizer="lm")
        fitted.fit(X.astype(dtype), y.astype(dtype))
    assert fitted.params_["b"] == pytest.approx(2.0, rel=1e-13)


@pytest.mark.filterwarnings("ignore::skoptax.exceptions.UncachedWarning")
def test_an_array_is_found_behind_what_has_no_content():
    X, y = _rows()

    class Model:
        def __init__(self):
            self.lock = threading.Lock()
            self.weights = THIRDS.copy()

        def __call__(self, params, X):
            return params["a"] + params["b"] * (X @ self.weights)

    model = Model()
    for dtype in (np.float32, np.float64):
        fitted = OptaxEstimator(model, {"a": 0.0, "b": 0.0}, optimizer="lm")
        fitted.fit(X.astype(dtype), y.astype(dtype))
    assert fitted.params_["b"] == pytest.approx(2.0, rel=1e-13)


_GLOBAL = THIRDS.copy()


def _of_global(params: Any, X: Any) -> Any:
    return params["a"] + params["b"] * (X @ _GLOBAL)


def test_an_array_has_its_digits_after_the_user_s_own_trace():
    X, y = _rows()
    c = THIRDS.copy()

    def model(params, X):
        return params["a"] + params["b"] * (X @ c)

    plotted = jax.jit(model)
    plotted({"a": 1.0, "b": 2.0}, X.astype(np.float32))
    fitted = OptaxEstimator(model, {"a": 0.0, "b": 0.0}).fit(X, y)
    assert fitted.params_["b"] == pytest.approx(2.0, rel=1e-13)


def test_an_optimiser_s_loss_has_the_digits_of_its_start_values():
    c = THIRDS.copy()

    def loss(params):
        return jnp.sum((params["w"] - c) ** 2)

    for dtype in (np.float32, np.float64):
        start = {"w": Parameter("w", np.zeros(3, dtype))}
        # Each step halves the distance.
        found, _ = OptaxOptimizer(loss, optax.sgd(0.25)).run(start, max_steps=60)
    assert_allclose(found["w"], THIRDS, rtol=1e-14)


def test_programs_that_do_not_need_it_are_not_compiled_again():
    X, y = _rows()
    c = THIRDS.copy()
    OptaxEstimator(optimizer="lm").fit(X, y)
    OptaxEstimator(optimizer="lm").fit(X.astype(np.float32), y.astype(np.float32))
    times = times_forgotten()
    model = OptaxEstimator(
        lambda params, X: params["a"] + X @ c, {"a": 0.0}, optimizer="lm"
    )
    model.fit(X, y)
    before = skoptax.cache_info()
    model.fit(X, y)
    OptaxEstimator(optimizer="lm").fit(X, y)
    assert skoptax.cache_info().compilations == before.compilations
    assert times_forgotten() == times


@pytest.mark.usefixtures("single")
def test_what_was_forgotten_is_compiled_again_and_counted():
    X, y = _rows()
    rounded = X.astype(np.float32), y.astype(np.float32)
    c = THIRDS.copy()

    def model(params, X):
        return params["a"] + X @ c

    estimator = OptaxEstimator(model, {"a": 0.0}, optimizer="lm")
    expected = estimator.fit(*rounded).params_["a"]
    estimator.fit(X, y)
    assert skoptax.cache_info().programs == 1  # those of before are gone
    before = skoptax.cache_info()
    assert estimator.fit(*rounded).params_["a"] == expected
    assert skoptax.cache_info().compilations == before.compilations + 1


def test_an_array_that_stays_in_the_other_precision_is_refused(single):
    def model(params, X):
        return params["a"] + X @ single

    assert takes_as_now([single])
    with pytest.raises(RuntimeError, match=r"met in single precision.*free=False"):
        OptaxEstimator(model, {"a": 0.0}).fit(*_rows())
    with jax.enable_x64(True):
        with pytest.raises(RuntimeError, match="in a computation in double precision"):
            forget_other_precision([single])
        with pytest.raises(RuntimeError, match="or refer to a copy of it"):
            check_taken_as_now([single])
        check_taken_as_now([single.copy()])


def test_a_program_is_not_traced_with_an_array_in_the_other_precision(single):
    # As where another thread has let JAX forget while a fit is under way.
    program = Program(lambda x: x @ single, None)
    program.captured = [single]
    with jax.enable_x64(True), pytest.raises(RuntimeError, match="a copy of it"):
        program(np.ones(3))


@pytest.mark.parametrize("met", ["X", "y", "weights"])
@pytest.mark.parametrize("n", [64, 9000])  # neither is padded
def test_data_that_the_user_s_own_trace_refers_to_are_fitted_in_double(met, n):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 3)), rng.normal(size=n)
    weights = rng.uniform(0.5, 2.0, n)
    given = {"X": X, "y": y, "weights": weights}
    own = jax.jit(lambda s: jnp.sum(s * jnp.asarray(given[met])))
    own(1.0)  # in single precision, and kept for as long as `own`

    fitted = OptaxEstimator(
        lambda X, w: X @ w, {"w": Parameter(value=np.zeros(3))}, optimizer="lm"
    )
    fitted.fit(X, y, sample_weight=weights)
    root = np.sqrt(weights)
    expected, *_ = np.linalg.lstsq(root[:, None] * X, root * y, rcond=None)
    assert_allclose(fitted.params_["w"], expected, rtol=0, atol=1e-13)
    assert_allclose(fitted.predict(X), X @ expected, rtol=0, atol=1e-12)
    assert_allclose(
        fitted.predict_interval(X).mean(axis=1), X @ expected, rtol=0, atol=1e-12
    )
    own(1.0)


def test_a_state_that_the_user_s_own_trace_refers_to_is_run_in_double():
    target, start = THIRDS.copy(), np.zeros(3)
    own = jax.jit(lambda s: jnp.sum(s * target) + jnp.sum(s * start))
    own(1.0)

    def loss(state):
        return jnp.sum((state["w"] - state["target"]) ** 2)

    state = {"w": Parameter("w", start), "target": target}
    for _ in range(2):
        found, _ = OptaxOptimizer(loss, optax.sgd(0.25)).run(state, max_steps=60)
        assert_allclose(found["w"], THIRDS, rtol=1e-14)
    own(1.0)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3),
        np.arange(3, dtype=np.uint64),
        THIRDS,
        THIRDS * 1j,
        THIRDS.astype(np.float32),
        np.array([True]),
        np.array(["a"]),
        np.array([None]),
        np.array([], np.float64),
        np.array(1 / 3),
        np.ma.masked_invalid([1.0, np.nan]),
    ],
    ids=str,
)
@pytest.mark.parametrize("double", [False, True])
def test_an_array_that_was_never_traced_is_taken_as_it_is(array, double):
    with jax.enable_x64(double):
        check_taken_as_now([array.copy()])


@pytest.mark.parametrize(
    ("way", "dtype"),
    [*((way, np.float64) for way in WAYS), *(("product", t) for t in "lf")],
)
def test_an_array_that_was_changed_in_place_is_taken_as_it_is(way, dtype):
    # In single precision JAX has a copy of what it was.
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    c = np.array([1, 2, 3], dtype)

    def model(X, slope, offset):
        return slope * WAYS[way](X, c) + offset

    start = {"slope": 0.5, "offset": 0.0}
    for entries in ([1, 2, 3], [3, 1, 2]):
        c[:] = entries
        y = 1 + 2 * (X @ np.array(entries, np.float32))
        fit = OptaxEstimator(model, start, optimizer="lm").fit(X, y)
        assert_allclose([*fit.params_.values()], [2, 1], rtol=1e-5)
        assert_allclose(fit.predict(X), y, atol=1e-4)


def test_an_array_that_stays_as_it_was_is_refused():
    c = THIRDS.copy()
    kept = jax.make_jaxpr(lambda x: x @ c)(np.ones(3, np.float32))
    assert takes_as_now([c])
    c += 1.0
    if takes_as_now([c]):
        pytest.skip("this JAX takes an array anew for each trace")
    with pytest.raises(RuntimeError, match="changed in place since JAX has met it"):
        forget_other_precision([c])
    del kept


@pytest.mark.parametrize("dtype", [">f8", ">i4", np.longdouble])
def test_an_array_that_jax_takes_none_of_may_be_read_in_parts(dtype):
    c = np.array([1, 2, 3], dtype)

    def model(X, slope, offset):
        return slope * sum(float(c[k]) * X[:, k] for k in range(3)) + offset

    X, _ = _rows()
    fit = OptaxEstimator(model, {"slope": 0.5, "offset": 0.0}, optimizer="lm")
    fit.fit(X, 1 + 2 * (X @ [1.0, 2.0, 3.0]))
    assert_allclose([*fit.params_.values()], [2, 1], rtol=1e-12)
