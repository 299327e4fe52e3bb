"""One compiled function: compiled once, as XLA can, and run in blocks of a length."""

import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import skoptax
from skoptax import OptaxEstimator, OptaxOptimizer, Parameter
from skoptax._program import (
    FIRST_STEPS,
    Code,
    Program,
    calls_back,
    sums_are_short,
)
from skoptax._programs import ProgramCache


def test_blocks_take_longer_where_each_allocates_much():
    program = Program(lambda x: x, None)
    assert program.steps_per_block(10**9) == FIRST_STEPS  # its speed is not known
    program.record_speed(0.1, 100)  # a millisecond each
    assert program.steps_per_block() == 400
    assert program.steps_per_block(2**24) == 800
    assert program.steps_per_block(10 * 2**24) == 4400
    program.record_speed(100.0, 1)
    assert program.steps_per_block() == 1


def test_threads_compile_a_program_once():
    cache = ProgramCache()
    start = threading.Barrier(6)

    def work():
        program = cache.get(("f",), (np.ones(4),), lambda x: jnp.sin(x) * 2)
        start.wait()
        assert_allclose(program(np.ones(4)), 2 * np.sin(1.0), rtol=1e-6)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.info()[:4] == (5, 1, 1, 1)


def test_an_option_that_the_compiler_does_not_know_is_dropped(monkeypatch):
    options = {"xla_no_such_option": True}
    monkeypatch.setattr("skoptax._program._cpu_options", options)
    program = ProgramCache().get(("a",), (1.0,), lambda *a: a)
    assert_allclose(program(np.ones(2))[0], 1.0)
    assert options == {}


def factor_on_the_host(config):
    """Return a model that asks Python for a factor while its program runs."""

    def on_the_host(t):
        return (config["k"] * np.asarray(t)).astype(np.float32)

    def model(t, a):
        like = jax.ShapeDtypeStruct(t.shape, jnp.float32)
        return a * jax.pure_callback(on_the_host, like, t.astype(jnp.float32))

    return model


def fitted_slope(model):
    t = np.linspace(1.0, 2.0, 20)[:, None]
    arguments = {"optimizer": "adam", "learning_rate": 0.1, "cov_type": None}
    estimator = OptaxEstimator(model, {"a": 1.0}, **arguments, max_steps=500)
    return estimator.fit(t, 6.0 * t[:, 0])


def test_what_is_called_back_is_the_callers():
    config = {"k": 1.0}
    first = factor_on_the_host(config)
    assert_allclose(fitted_slope(first).params_["a"], 6.0, rtol=1e-5)
    compiled = skoptax.cache_info().compilations
    assert_allclose(fitted_slope(first).params_["a"], 6.0, rtol=1e-5)
    assert skoptax.cache_info().compilations == compiled
    config["k"] = 5.0
    # Its content is what that of the first was, whose dict says 5 now.
    second = factor_on_the_host({"k": 1.0})
    assert_allclose(fitted_slope(second).params_["a"], 6.0, rtol=1e-5)
    fitted = fitted_slope(first)
    assert_allclose(fitted.params_["a"], 1.2, rtol=1e-5)
    assert_allclose(fitted.predict([[2.0]]), 12.0, rtol=1e-5)


def test_what_is_told_is_told_to_the_caller():
    def loss_that_tells(heard):
        def loss(state):
            jax.debug.callback(lambda x: heard.append(float(x)), state["x"])
            return (state["x"] - 3.0) ** 2

        return loss

    for _ in range(2):
        heard = []
        run = OptaxOptimizer(loss_that_tells(heard), optax.sgd(0.25))
        run.run({"x": Parameter(value=1.0)}, 3)
        jax.effects_barrier()
        assert {1.0, 2.0, 2.5} <= set(heard)


def asked(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def told(x):
    jax.debug.callback(print, x)
    return x


@pytest.mark.parametrize("function", [asked, jax.jit(asked), jax.checkpoint(asked)])
def test_calls_back_are_found_wherever_they_are(function):
    def in_a_loop(inner):
        return lambda x: jax.lax.fori_loop(
            0, 3, lambda _, x: jax.lax.cond(x[0] > 0, inner, lambda x: x, x), x
        )

    x = np.ones(3)
    assert calls_back(jax.make_jaxpr(in_a_loop(function))(x))
    assert calls_back(jax.make_jaxpr(in_a_loop(jax.vmap(told)))(x))
    assert not calls_back(jax.make_jaxpr(in_a_loop(jax.jit(jnp.sin)))(x))


@pytest.mark.optimised
@pytest.mark.parametrize("n", [7, 500, 4096])
def test_short_sums_are_exact(n):
    numbers = np.random.default_rng(n).random((3, n)) + 0.5

    def summed(x):
        return jnp.sum(jnp.sqrt(x) * x, axis=1)

    program = Program(summed, None, code=Code(short_sums=True, wide=True))
    with jax.enable_x64(True):
        found = np.asarray(program(numbers))
    exact = [math.fsum(row) for row in np.sqrt(numbers) * numbers]
    np.testing.assert_allclose(found, exact, rtol=8 * np.finfo(float).eps)


def test_which_sums_are_short():
    few, many = np.ones(4096), np.ones((4097, 1))
    assert sums_are_short((np.ones((4096, 2)), few, None, np.int32(4000)))
    assert not sums_are_short((many, few))
    assert not sums_are_short((few.astype(np.float32),))
    # It says nothing of what a loss sums that has its data in itself.
    assert not sums_are_short((None, np.float64(1.0)))
