"""Programs that trace under one label, and those that must not."""

import functools
import math
import operator
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from numpy.testing import assert_allclose
from scipy.stats import norm

from skoptax import (
    OptaxEstimator,
    OptaxOptimizer,
    Parameter,
    _problem,
    _programs,
    _shared_traces,
    clear_cache,
    losses,
)
from skoptax._fingerprint import Walk
from skoptax._shared_traces import common_label
from skoptax._tracing import OWN
from skoptax.priors import Normal

X = np.linspace(0.5, 1.5, 20)[:, None]
Y = 2.0 * X[:, 0] + 0.1 * np.sin(9.0 * X[:, 0])

FACTOR = 3
HALF = 0.5
HELD = []


def type_and_name(value):
    return f"{type(value).__name__} {getattr(value, '__name__', '')}"


def define(source, **names):
    """Return the function of this source, with globals of its own."""
    there = {"__name__": "__main__", "jnp": jnp, "jax": jax, "lax": lax} | names
    exec(source, there)
    return there["model"]


def label_of(function, *others):
    walk = Walk()
    walk.fingerprint(function, *others)
    return common_label(walk.visited(), function)


def line(x, a):
    return a * x


def scaled(x, a):
    return FACTOR * a * jnp.exp(x) * HALF


def with_default(x, a, k=4):
    return k * a * x


def made(k):
    def model(x, a):
        return k * a * x

    return model


def helped(x, a):
    return line(x, a)


def looped(x, a):
    return lax.fori_loop(0, 2, lambda i, c: c + a * x, 0 * x)


def recursive(x, a):
    return lax.cond(a > 9.0, recursive, line, x, a)


HELD.append(recursive)


def holding(x, a):
    return HELD[0](x, a)


def importing(x, a):
    import jax.numpy as inner

    return inner.exp(a * x)


def attributed(x, a):
    return a * x


attributed.more = 1


class Callable:
    def __call__(self, x, a):
        return a * x


CONSTANT = Callable()


def with_instance(x, a):
    return CONSTANT(x, a)


# Python says of a class made like this that it is one of its own.
exec("class NAMELESS: pass", {}, THERE := {})
NAMELESS = THERE["NAMELESS"]

PART = functools.partial(jnp.power, 2.0)


def with_partial(x, a):
    return a * PART(x)


MODULE = types.ModuleType("of_the_user")
MODULE.K = 2


def with_module(x, a):
    return MODULE.K * a * x


@pytest.mark.parametrize(
    "function",
    [line, scaled, with_default, made(2), made((2, (1.5, None))), made("text")],
    ids=type_and_name,
)
def test_what_hands_nothing_on_has_the_common_label(function):
    assert (
        label_of(function, "content", losses.SquaredError(), optax.adam).split()[0]
        == OWN
    )


@pytest.mark.parametrize(
    "function",
    [
        helped,
        looped,
        recursive,
        holding,
        importing,
        attributed,
        with_instance,
        with_partial,
        with_module,
        Callable(),
        Callable().__call__,
        functools.partial(line),
        jax.jit(line),
        made(line),
        made([line]),
        made([1.5]),
        made((2, [1.5])),
        made({"a": 1.5}),
        made(np.ones(20)),
        made(0.0),
        made((1, -0.0)),
        made(np.float32(0.0)),
        made(losses.Huber()),
        made(OptaxEstimator(line)),
        made(np.array([line], object)),
        made(np.dtype("f4", metadata={"f": line})),
        made(types.ModuleType("math")),
        made(NAMELESS),
        made(Callable),
    ],
    ids=type_and_name,
)
def test_what_may_hand_something_on_has_its_own(function):
    assert label_of(function) is None


@pytest.mark.parametrize(
    "other",
    [
        helped,
        lambda count: 0.1,
        optax.adam(0.1),
        optax.constant_schedule(0.1),
        Callable(),
        Callable,
        functools.partial(line),
        losses.SampleLoss(scaled, losses.SquaredError()),
    ],
    ids=type_and_name,
)
def test_there_must_be_nothing_else_of_the_users(other):
    assert label_of(line) == OWN
    assert label_of(line, other) is None
    assert label_of(line, ("in", ["a", {"container": other}])) is None


def test_a_loss_with_a_function_of_the_users_on_it():
    loss = losses.SquaredError()
    loss.__dict__["of_rows"] = helped
    assert label_of(line, loss) is None


def test_a_subclass_of_a_loss():
    class Own(losses.SquaredError):
        pass

    assert label_of(line, Own()) is None


def test_numbers_that_are_equal_but_of_another_type():
    values = [1, 1.0, True, np.float64(1.0), np.int64(1), 1 + 0j]
    labels = [label_of(made(value)) for value in values]
    assert len(set(labels)) == len(values)
    # In a tuple they are static arguments as well.
    plain = [value for value in values if type(value) in (int, float, bool)]
    labels = [label_of(made((value, "x"))) for value in plain]
    assert len(set(labels)) == len(plain)
    # No two others are equal.
    others = [2, 0.5, 7, "2", None, math.nan, math.inf]
    assert {label_of(made(value)) for value in others} == {OWN}


# What the label is for: no trace goes stale.


def fitted(model):
    """Return the only parameter, and what the slope of the model must be."""
    estimator = OptaxEstimator(model, {"a": 1.0}).fit(X, Y)
    return estimator.params_["a"], estimator.predict(X)


def assert_factor(model, factor):
    a, predicted = fitted(model)
    x = X[:, 0]
    best = (x @ Y) / (x @ x)
    assert_allclose(a, best / factor, rtol=1e-12)
    assert_allclose(predicted, best * x, rtol=1e-12)


def set_global(model, value):
    model.__globals__["K"] = value


def set_default(model, value):
    model.__defaults__ = (value,)


def set_keyword_default(model, value):
    model.__kwdefaults__ = {"k": value}


def set_cell(model, value):
    model.__closure__[0].cell_contents = value


def set_code(model, value):
    source = f"def model(x, a): return {value} * jnp.clip(a, -9.0, 9.0) * x"
    model.__code__ = define(source).__code__


ENCLOSED = """
def outer(k):
    def model(x, a): return k * jnp.clip(a, -9.0, 9.0) * x
    return model
model = outer(1)
"""
CHANGES = {
    "global": ("def model(x, a): return K * jnp.clip(a, -9.0, 9.0) * x", set_global),
    "default": (
        "def model(x, a, k=1): return k * jnp.clip(a, -9.0, 9.0) * x",
        set_default,
    ),
    "keyword": (
        "def model(x, a, *, k=1): return k * jnp.clip(a, -9.0, 9.0) * x",
        set_keyword_default,
    ),
    "closure": (ENCLOSED, set_cell),
    "code": ("def model(x, a): return jnp.clip(a, -9.0, 9.0) * x", set_code),
    # Known to JAX as a static argument of a function that it has traced.
    "static argument": (
        "def model(x, a): return a * jnp.sum(jnp.tile(x, (K, 1)), axis=0)",
        set_global,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name):
    source, change = CHANGES[name]
    model = define(source)
    for factor in (2, 5, 3, 2):
        change(model, factor)
        assert label_of(model).split()[0] == OWN
        assert_factor(model, factor)


def test_an_array_changed_in_place_is_seen():
    held = np.full(20, 2.0, np.float32)  # of no precision that JAX changes
    model = define("def model(x, a): return a * x * K", K=held)
    assert_factor(model, 2)
    held[:] = 5.0
    assert_factor(model, 5)


def test_a_method_of_an_array_is_seen_as_the_array_is_now():
    # As a static argument it stays the same one whatever is in the array.
    source = "def model(x, a): return a * x * jax.jit(call, static_argnums=0)(K.max)"
    held = np.full(1, 2.0, np.float32)
    model = define(source, K=held, call=operator.call)
    for factor in (2, 5, 2):
        held[...] = factor
        assert_factor(model, factor)


def test_zeros_of_either_sign():
    source = "def model(x, a): return a * x * jnp.where(1 / {} > 0, 2.0, 5.0)"
    zero = "jnp.take(x, jnp.array(99), mode='fill', fill_value={}Z)"
    for sign, factor in (("", 2), ("-", 5), ("", 2)):
        assert_factor(define(source.format(zero.format(sign)), Z=0.0), factor)


def test_a_component_is_seen_as_it_is_now():
    # To JAX an object that is called is one, whatever its attributes are.
    source = "def model(x, a): return a * x * lax.cond(a > -99.0, P, P, 3.5)"
    prior = Normal(0.5, 2.5)
    model = define(source, P=prior)
    for prior.sd in (2.5, 0.7, 2.5):
        assert_factor(model, norm.logpdf(3.5, 0.5, prior.sd))


def test_itself_by_way_of_an_object():
    source = """
def model(x, a):
    if jnp.ndim(x) == 0:
        return K * a * x
    return jax.vmap(jax.jit(HELD.model), (0, None))(x, a)
"""
    model = define(source)
    model.__globals__["HELD"] = OptaxEstimator(model)
    for factor in (2, 5, 2):
        set_global(model, factor)
        assert_factor(model, factor)


def test_a_loss_of_ones_own_is_seen_as_it_is_now():
    loss = define("def model(state): return (state['x'] - K) ** 2", K=1)
    assert label_of(loss) == OWN
    for value in (2, 5, 2):
        loss.__globals__["K"] = value
        optimizer = OptaxOptimizer(loss, optax.sgd(0.25))
        state, _ = optimizer.run({"x": Parameter(value=0.0)}, max_steps=60)
        assert_allclose(state["x"].value, value, rtol=1e-6)


SCANNED = """
def inner(carry, _): return K * carry, None
def model(x, a): return lax.scan(inner, a * x, None, length=1)[0]
"""


def test_with_one_label_for_all_traces_would_go_stale(monkeypatch):
    model = define(SCANNED)
    for factor in (2, 5):
        model.__globals__["K"] = factor
        assert label_of(model) is None
        assert_factor(model, factor)
    for module in (_programs, _problem, _shared_traces):
        monkeypatch.setattr(module, "common_label", lambda *_: OWN)
    clear_cache()
    model = define(SCANNED)
    model.__globals__["K"] = 2
    assert_factor(model, 2)
    model.__globals__["K"] = 5
    with pytest.raises(AssertionError):
        assert_factor(model, 5)
    clear_cache()


# And what is gained.


def test_a_new_model_uses_the_traces_of_others():
    code = jax.nn.silu.__wrapped__.__code__  # runs where JAX traces it

    def times_traced(source):
        calls = []
        model = define(source)
        estimator = OptaxEstimator(model, {"a": 1.0}, optimizer="adam", max_steps=3)
        sys.setprofile(lambda frame, *_: calls.append(frame.f_code is code))
        try:
            estimator.fit(X, Y)
        finally:
            sys.setprofile(None)
        return sum(calls)

    source = "def model(x, a): return jax.nn.silu(a * x) + {} * jnp.exp(-a)"
    times_traced(source.format(0.25))
    assert times_traced(source.format(0.75)) == 0
    helper = "def inner(u): return u\n"
    alone = helper + source.format(0.75).replace("a * x", "inner(a * x)")
    assert times_traced(alone) > 0
