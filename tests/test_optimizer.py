"""`OptaxOptimizer` against its documentation, plain loops and NumPy."""

import doctest
import functools
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skoptax import OptaxEstimator, OptaxOptimizer, Parameter
from skoptax._loop import HISTORY_ROWS
from skoptax.callbacks import Callback
from skoptax.exceptions import (
    DifferentiationError,
    InvalidParameterError,
    ModelError,
    NonFiniteError,
)
from skoptax.optimizers._spec import make_spec

_compilations: list[str] = []


def _listen(event, duration, **about):
    del duration, about
    if event.endswith("backend_compile_duration"):
        _compilations.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextmanager
def compilations():
    """Collect one entry for each XLA compilation inside of the block."""
    found: list[str] = []
    before = len(_compilations)
    yield found
    found += _compilations[before:]


# The problem of most tests: y = a exp(-r x), in double precision.

X = np.linspace(0.0, 2.0, 8)
Y = 2.0 * np.exp(-1.2 * X) + 0.1 * np.sin(7.0 * X)


def decay(state):
    prediction = state["a"] * jnp.exp(-state["r"] * state["x"])
    return jnp.mean((prediction - state["y"]) ** 2)


def decay_with_aux(state):
    prediction = state["a"] * jnp.exp(-state["r"] * state["x"])
    residual = prediction - state["y"]
    return jnp.mean(residual**2), {"residual": residual}


def decay_state(y=Y, a=1.0, r=0.5, x=X):
    start = {"a": Parameter(value=np.float64(a)), "r": Parameter(value=np.float64(r))}
    return start | {"x": x, "y": y}


def by_hand(a, r, y=Y, x=X):
    """Return the loss of `decay` and its derivatives, in NumPy."""
    wave = np.exp(-r * x)
    residual = a * wave - y
    loss = np.mean(residual**2)
    return (
        loss,
        np.mean(2 * residual * wave),
        np.mean(2 * residual * a * wave * -x),
        residual,
    )


def do_nothing(step, diff_state, static_state, *rest):
    return False, diff_state, static_state


def pair(state):
    return np.array([float(state["a"]), float(state["r"])])


# The documentation, as written but for the imports (and for `...`, after which the
# page has lost its indentation).

FIRST_EXAMPLE = """
>>> import jax
>>> import jax.numpy as jnp
>>> import optax
>>> from skoptax import OptaxOptimizer, Parameter
>>>
>>> # Define loss function
>>> def mse_loss(state):
...     prediction = state['weight'] * state['input'] + state['bias']
...     target = 2.5
...     return jnp.mean((prediction - target) ** 2)
>>>
>>> # Define parameter state
>>> state = {
...     'weight': Parameter("weight", 1.0, free=True),
...     'bias': Parameter("bias", 0.0, free=True),
...     'input': 1.5 # Static parameter
... }
>>>
>>> # Create optimizer
>>> opt = OptaxOptimizer(
...     loss=mse_loss,
...     optimizer=optax.adam(learning_rate=0.01)
... )
>>>
>>> # Run optimization
>>> final_state, history = opt.run(state, max_steps=1000)
>>> print(f"Optimized weight: {final_state['weight']}")
"""

SECOND_EXAMPLE = """
>>> # With auxiliary data and callback
>>> def loss_with_aux(state):
...     pred = state['weight'] * state['input'] + state['bias']
...     loss = jnp.mean((pred - 2.5) ** 2)
...     aux = {'prediction': pred, 'error': pred - 2.5}
...     return loss, aux
>>>
>>> def monitor_callback(step, diff_state, static_state, fitting_data,
...                      aux_data, loss_value, grads):
...     if step % 100 == 0:
...         print(f"Step {step}: Loss = {loss_value}")
...     # Early stopping condition
...     stop = loss_value < 1e-6
...     return stop, diff_state, static_state
>>>
>>> opt_aux = OptaxOptimizer(
...     loss=loss_with_aux,
...     optimizer=optax.adam(0.01),
...     callback=monitor_callback,
...     has_aux=True
... )
>>> final_state, history = opt_aux.run(state, max_steps=1000, mode="rev")
"""


def execute(text, namespace):
    for example in doctest.DocTestParser().get_examples(text):
        exec(compile(example.source, "<documentation>", "exec"), namespace)


def test_examples_of_the_documentation(capsys):
    there = {"__name__": "__main__"}
    execute(FIRST_EXAMPLE, there)
    final = there["final_state"]
    assert abs(final["weight"] * 1.5 + final["bias"] - 2.5) < 1e-5
    assert final["input"] is there["state"]["input"]
    label, number = capsys.readouterr().out.split(": ")
    assert label == "Optimized weight"
    assert float(number) == pytest.approx(float(final["weight"]))
    assert there["history"]["n_steps"] == 1000

    execute(SECOND_EXAMPLE, there)
    final, data = there["final_state"], there["history"]
    assert data["status"] == "callback"
    assert data["n_steps"] < 1000
    losses = data["history"]["loss"]
    assert losses.iloc[-1] < 1e-6 < losses.iloc[1:-1].min()
    error = float(final["weight"]) * 1.5 + float(final["bias"]) - 2.5
    assert error**2 == pytest.approx(losses.iloc[-1], rel=1e-2)
    assert final["input"] is there["state"]["input"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"Step {step}" for step in range(0, data["n_steps"], 100)
    ]
    # What was given is as it was.
    assert float(there["state"]["weight"]) == 1.0


# Row 5: results do not depend on how the optimiser is run.

OPTIMIZERS = {
    "adam": lambda: optax.adam(0.05),
    "momentum": lambda: optax.sgd(0.05, momentum=0.8, nesterov=True),
    "lbfgs": lambda: optax.lbfgs(),
    "backtracking": lambda: optax.chain(
        optax.sgd(0.3), optax.scale_by_backtracking_linesearch(15)
    ),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(0.05), every_k_schedule=3),
    "schedule": lambda: optax.sgd(optax.exponential_decay(0.2, 5, 0.5)),
}
# A line search decides by comparing losses. Close to the minimum their difference is
# rounding error, so its runs end before.
N_STEPS = dict.fromkeys(OPTIMIZERS, 20) | {"lbfgs": 5, "backtracking": 6}

finite = functools.partial(st.floats, allow_nan=False, allow_infinity=False, width=32)
problems = st.fixed_dictionaries(
    {
        "y": st.lists(finite(-3, 3), min_size=8, max_size=8).map(np.asarray),
        "a": finite(0.5, 3),
        "r": finite(0.0625, 1.5),
    }
)


@functools.cache
def plain_step(name):
    """Return one step of an optimiser as Optax's documentation writes it."""
    optimizer = OPTIMIZERS[name]()
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    update = optax.with_extra_args_support(optimizer).update

    def loss(params, x, y):
        return jnp.mean((params["a"] * jnp.exp(-params["r"] * x) - y) ** 2)

    @jax.jit
    def step(params, state, x, y):
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        updates, state = update(
            gradient,
            state,
            params,
            value=value,
            grad=gradient,
            value_fn=lambda p: loss(p, x, y),
        )
        return optax.apply_updates(params, updates), state, value

    return optimizer.init, step


def plain_loop(name, n_steps, y, a, r):
    """Return parameters and the losses before each step, by a loop in Python."""
    with jax.enable_x64(True):
        init, step = plain_step(name)
        params = {"a": jnp.asarray(a, float), "r": jnp.asarray(r, float)}
        state, losses = init(params), []
        for _ in range(n_steps):
            params, state, value = step(params, state, X, y)
            losses.append(float(value))
        return pair(params), losses


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=20)
@given(problem=problems)
def test_how_it_runs_does_not_matter(name, problem):
    n_steps = N_STEPS[name]

    def run(mode="rev", callback=None, chunk_size=None):
        optimizer = OptaxOptimizer(decay, OPTIMIZERS[name](), callback)
        state = decay_state(**problem)
        return optimizer.run(state, n_steps, mode, chunk_size=chunk_size)

    expected, losses = plain_loop(name, n_steps, **problem)
    for options in (
        {},
        {"mode": "fwd"},
        {"callback": do_nothing},
        {"callback": do_nothing, "chunk_size": 1},
        {"callback": do_nothing, "chunk_size": 3, "mode": "fwd"},
        {"callback": do_nothing, "chunk_size": n_steps},
    ):
        final, data = run(**options)
        assert_allclose(pair(final), expected, rtol=1e-10, atol=1e-10)
        history = data["history"]
        assert_allclose(history["loss"][:-1], losses, rtol=1e-10, atol=1e-10)
        assert_array_equal(history.loc[n_steps, ["a", "r"]], pair(final))
        assert data["n_steps"] == n_steps
        assert data["status"] == "max_steps"


@given(problem=problems, order=st.permutations(range(8)))
def test_the_order_of_rows_does_not_matter(problem, order):
    y = problem["y"]
    optimizer = OptaxOptimizer(decay, OPTIMIZERS["adam"]())
    one, _ = optimizer.run(decay_state(**problem), 20)
    other, _ = optimizer.run(
        decay_state(**problem | {"x": X[order], "y": y[order]}), 20
    )
    assert_allclose(pair(one), pair(other), rtol=1e-10, atol=1e-10)


@given(problem=problems)
def test_adam_in_numpy(problem):
    point = np.array([problem["a"], problem["r"]])
    mean, square = np.zeros(2), np.zeros(2)
    losses, norms = [], []
    for k in range(1, 21):
        loss, *gradient, _ = by_hand(*point, problem["y"])
        losses.append(loss)
        norms.append(np.hypot(*gradient))
        mean = 0.9 * mean + 0.1 * np.array(gradient)
        square = 0.999 * square + 0.001 * np.array(gradient) ** 2
        unbiased = np.sqrt(square / (1 - 0.999**k)) + 1e-8
        point = point - 0.05 * mean / (1 - 0.9**k) / unbiased
    final, data = OptaxOptimizer(decay, OPTIMIZERS["adam"]()).run(
        decay_state(**problem), 20
    )
    assert_allclose(pair(final), point, rtol=1e-10, atol=1e-10)
    history = data["history"]
    assert_allclose(history["loss"][:20], losses, rtol=1e-10, atol=1e-12)
    assert_allclose(history["grad_norm"][:20], norms, rtol=1e-10, atol=1e-12)


# Row 6 and 7: what is compiled, and when.


def test_a_second_run_compiles_nothing():
    def run(state, max_steps, rate=0.05, **options):
        # A new lambda each time, equal to the others.
        loss = lambda state: decay(state) + 1e-3 * state["a"] ** 2  # noqa: E731
        spec = make_spec(optax.adam, {"learning_rate": rate})
        return OptaxOptimizer(loss, spec).run(state, max_steps, **options)

    rng = np.random.default_rng(0)
    bounded = Parameter(value=np.float64(0.5), lower=0.0, upper=2.0, scale=1.0)
    first, _ = run(decay_state() | {"r": bounded}, 10)
    other = Parameter(value=np.float64(0.7), lower=0.1, upper=0.9, scale=3.0)
    with compilations() as compiled:
        second, _ = run(
            decay_state(rng.normal(size=8), a=2.0, x=X + 1.0) | {"r": other},
            2000,
            rate=0.01,
        )
        run(decay_state() | {"r": Parameter(value=np.float64(0.5))}, 0)
    assert not compiled
    assert not np.allclose(pair(first), pair(second))

    # A finished optimiser is the same again when it is built from equal numbers.
    OptaxOptimizer(decay, OPTIMIZERS["adam"]()).run(decay_state(), 3)
    with compilations() as compiled:
        OptaxOptimizer(decay, OPTIMIZERS["adam"]()).run(decay_state(a=3.0), 7)
    assert not compiled


def estimator_model(t, a, r):
    return a * jnp.exp(-r * t)


@pytest.mark.parametrize("model", [estimator_model, "lambda"])
def test_a_second_fit_compiles_nothing(model):
    def make(a=1.0, lower=0.0, b1=0.9, **options):
        function = model
        if model == "lambda":
            function = lambda t, a, r: a * jnp.exp(-r * t) + 0.0  # noqa: E731
        params = {"a": a, "r": Parameter(value=0.5, lower=lower)}
        options |= {"optimizer": "adam", "optimizer_kwargs": {"b1": b1}}
        return OptaxEstimator(function, params, **options)

    first = make(max_steps=5).fit(X[:, None], Y)
    y = np.random.default_rng(1).normal(size=8)
    with compilations() as compiled:
        other = make(
            a=2.0, lower=-1.0, b1=0.5, learning_rate=0.3, tol=1e-3, max_steps=300
        ).fit(X[:, None] + 1.0, y)
        clone(first).set_params(
            params__r__upper=4.0, params__a__value=1.5, optimizer__b1=0.8
        ).fit(X[:, None], y)
        again = clone(first).fit(X[:, None], Y)
    assert not compiled
    assert again.params_ == first.params_
    assert other.n_iter_ > first.n_iter_


def test_lbfgs_compiles_one_program_in_under_five_seconds():
    # A loss of its own, so that nothing is compiled yet.
    def loss(state):
        return decay(state) + 1e-6 * state["a"] ** 2

    began = time.perf_counter()
    with compilations() as compiled:
        final, data = OptaxOptimizer(loss, optax.lbfgs()).run(decay_state(), 200)
    seconds = time.perf_counter() - began
    assert len(compiled) == 1
    assert seconds < 5
    # And it does what it is for.
    _, da, dr, _ = by_hand(*pair(final))
    assert data["n_steps"] == 200
    assert abs(da + 2e-6 * float(final["a"])) < 1e-8
    assert abs(dr) < 1e-8


@pytest.mark.parametrize(
    ("first", "second", "programs"),
    [
        ({"k": 1.5}, {"k": 2.5}, 0),
        ({"k": np.array([1.0, 2.0])}, {"k": np.array([3.0, 1.0])}, 0),
        ({"k": np.arange(2)}, {"k": np.arange(2) + 3}, 0),
        ({"k": 1}, {"k": 2}, 1),
        ({"k": True}, {"k": False}, 1),
        ({"k": 1.0, "word": "p"}, {"k": 1.0, "word": "q"}, 1),
        ({"k": 1.0, "f": jnp.sin}, {"k": 1.0, "f": jnp.cos}, 1),
        ({"k": 1.0, "n": None}, {"k": 1.0, "n": 2}, 1),
    ],
    ids=["float", "array", "integers", "int", "bool", "str", "callable", "None"],
)
def test_static_leaves(first, second, programs):
    def loss(state):
        return jnp.sum((state["w"] - state["k"] * 1.0) ** 2)

    def run(static):
        state = {"w": Parameter(value=np.float64(0.3)), **static}
        final, _ = OptaxOptimizer(loss, optax.sgd(0.25)).run(state, 60)
        for name, leaf in static.items():
            assert final[name] is leaf
        return float(final["w"])

    assert run(first) == pytest.approx(np.mean(first["k"]))
    with compilations() as compiled:
        assert run(second) == pytest.approx(np.mean(second["k"]), abs=1e-9)
        assert run(first) == pytest.approx(np.mean(first["k"]))
    assert len(compiled) == programs


def test_an_int_may_be_the_length_of_a_range():
    def loss(state):
        total = 0.0
        for k in range(state["n"]):
            total = total + (state["w"] - k) ** 2
        return state["act"](total) if state["double"] else total

    for n in (2, 5):
        state = {
            "w": Parameter(value=0.5),
            "n": n,
            "double": True,
            "act": lambda x: 2 * x,
            "nothing": None,
            "label": "text",
        }
        final, _ = OptaxOptimizer(loss, optax.sgd(0.04)).run(state, 100)
        assert float(final["w"]) == pytest.approx((n - 1) / 2, abs=1e-5)
        for name in ("n", "double", "act", "nothing", "label"):
            assert final[name] is state[name]


# The callback protocol.


class Record(Callback):
    """Keep all that each call gets."""

    def __init__(self, *, every=None):
        super().__init__(every=every)
        self.calls = []

    def on_step(self, *arguments):
        self.calls.append(arguments)


@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_all_that_one_call_gets_belongs_together(mode):
    record = Record()
    optimizer = OptaxOptimizer(decay_with_aux, optax.adam(0.05), record, has_aux=True)
    state = decay_state() | {"k": 3, "tag": "t"}
    final, data = optimizer.run(state, 7, mode)
    assert [call[0] for call in record.calls] == list(range(7))
    path = []
    for step, diff, static, fitting_data, aux, loss, grads in record.calls:
        assert {k for k, v in diff.items() if v is not None} == {"a", "r"}
        assert all(isinstance(diff[k], Parameter) for k in ("a", "r"))
        assert static["x"] is X
        assert static["a"] is None
        assert static["tag"] == "t"
        expected, da, dr, residual = by_hand(*pair(diff))
        assert_allclose(loss, expected, rtol=1e-12)
        assert_allclose(aux["residual"], residual, rtol=1e-12, atol=1e-14)
        assert_allclose(pair(grads), [da, dr], rtol=1e-10, atol=1e-14)
        assert jax.tree.structure(grads) == jax.tree.structure(diff)
        assert fitting_data is data
        assert_array_equal(data["history"].loc[step + 1, ["a", "r"]], pair(diff))
        path.append(pair(diff))
    assert len(np.unique(path, axis=0)) == 7
    assert_array_equal(path[-1], pair(final))
    assert_allclose(data["aux"]["residual"], by_hand(*pair(final))[3], rtol=1e-12)


def test_the_gradient_is_with_respect_to_what_the_optimiser_steps_in():
    def loss(state):
        return (state["p"] - 3.0) ** 2

    record = Record()
    start = Parameter(value=np.float64(1.0), transform="log", scale=2.0)
    OptaxOptimizer(loss, optax.sgd(0.01), record).run({"p": start}, 2)
    for _, diff, *_, grads in record.calls:
        p = float(diff["p"])  # = exp(2 u)
        assert_allclose(float(grads["p"]), 2 * (p - 3) * 2 * p, rtol=1e-12)


@pytest.mark.parametrize("kind", [float, np.float64, np.asarray, jnp.asarray])
def test_a_replaced_diff_state_is_evaluated_and_stepped_from(kind):
    calls = []

    def callback(step, diff, static, data, aux, loss, grads):
        calls.append((pair(diff), float(loss), pair(grads)))
        if step == 2:
            diff = diff | {"a": diff["a"].with_fields(value=kind(0.25))}
        return False, diff, static

    rate = 0.05
    final, data = OptaxOptimizer(decay, optax.sgd(rate), callback).run(decay_state(), 5)
    replaced = np.array([0.25, calls[2][0][1]])
    _, *gradient, _ = by_hand(*replaced)
    assert_allclose(calls[3][0], replaced - rate * np.array(gradient), rtol=1e-12)
    for point, loss, grads in calls:
        expected, da, dr, _ = by_hand(*point)
        assert_allclose(loss, expected, rtol=1e-12)
        assert_allclose(grads, [da, dr], rtol=1e-12)
    # The row after three updates is of the state the run went on with.
    row = data["history"].loc[3]
    assert_allclose(row[["a", "r"]], replaced)
    assert_allclose(row["loss"], by_hand(*replaced)[0], rtol=1e-12)
    assert len(data["history"]) == 6
    assert_array_equal(pair(final), calls[-1][0])


@pytest.mark.parametrize("kind", [float, np.float16, np.float64, jnp.float32])
@pytest.mark.parametrize(
    "start",
    [
        {"a": 1.0, "w": [5.0, 4.0]},  # NumPy makes double precision of a list
        {"a": jnp.float32(1.0), "w": jnp.array([5.0, 4.0])},
        {"a": jnp.float16(1.0), "w": jnp.array([5.0, 4.0])},
    ],
    ids=["plain", "one type", "two types"],
)
def test_a_replaced_value_may_be_of_another_type(start, kind):
    def loss(state):
        return (state["a"] - 3.0) ** 2 + jnp.sum(state["w"] ** 2)

    def callback(step, diff, static, *rest):
        if step == 1:
            diff = diff | {"a": diff["a"].with_fields(value=kind(2.5))}
        return False, diff, static

    state = {name: Parameter(value=value) for name, value in start.items()}
    final, data = OptaxOptimizer(loss, optax.sgd(0.1), callback).run(state, 4)
    a = [1.0, 1.4, 2.5, 2.6, 2.68]  # a -> a + 0.2 (3 - a), from 2.5 on at step 2
    assert_allclose(data["history"]["a"].astype(float), a, rtol=2e-3)
    assert_allclose(final["w"].value, 0.8**4 * np.array([5.0, 4.0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("stops", "status"), [(True, "callback"), (False, "max_steps")]
)
def test_a_state_replaced_after_the_last_step_is_the_result(stops, status):
    def callback(step, diff, static, *rest):
        values = {k: diff[k].with_fields(value=0.5) for k in ("a", "r")}
        return stops and step == 3, diff | values, static

    optimizer = OptaxOptimizer(decay, optax.sgd(0.05), callback)
    final, data = optimizer.run(decay_state(), 4)
    assert_array_equal(pair(final), [0.5, 0.5])
    assert_allclose(data["history"]["loss"].iloc[-1], by_hand(0.5, 0.5)[0])
    assert data["status"] == status
    assert data["n_steps"] == 4


def test_a_replaced_static_state_is_used():
    # Numbers of a new data set and a new length of a loop, at different steps.
    def loss(state):
        total = jnp.mean((state["w"] - state["y"]) ** 2)
        for _ in range(state["n"]):
            total = total + state["strength"] * state["w"] ** 2
        return total

    changes = {1: {"y": np.full(3, -1.0)}, 2: {"strength": 0.5}, 3: {"n": 3}}
    seen = []

    def callback(step, diff, static, data, aux, loss, grads):
        seen.append((float(diff["w"]), float(loss), float(grads["w"])))
        return False, diff, static | changes.get(step, {})

    def gradient(w, y, strength, n):
        return 2 * np.mean(w - y) + 2 * n * strength * w

    def value(w, y, strength, n):
        return np.mean((w - y) ** 2) + n * strength * w**2

    rate, w, now = 0.1, 2.0, {"y": np.full(3, 4.0), "strength": 0.25, "n": 1}
    start = {"w": Parameter(value=np.float64(w)), **now}
    final, _ = OptaxOptimizer(loss, optax.sgd(rate), callback).run(start, 6)
    for step in range(6):
        w = w - rate * gradient(w, **now)
        expected = w, value(w, **now), gradient(w, **now)
        assert_allclose(seen[step], expected, rtol=1e-12)
        now = now | changes.get(step, {})
    assert final["n"] == 3
    assert final["strength"] == 0.5
    assert final["y"] is changes[1]["y"]


def test_replaced_data_may_have_another_length():
    # Mini-batches of a callback's own, the last one shorter, with an aux that follows.
    batches = [np.arange(4.0), np.arange(3.0) + 5.0]

    def loss(state):
        residual = state["w"] - state["y"]
        return jnp.mean(residual**2), residual

    aux_lengths = []

    def callback(step, diff, static, data, aux, loss, grads):
        aux_lengths.append(len(aux))
        return False, diff, static | {"y": batches[(step + 1) % 2]}

    state = {"w": Parameter(value=np.float64(0.0)), "y": batches[0]}
    final, _ = OptaxOptimizer(loss, optax.sgd(0.25), callback, has_aux=True).run(
        state, 4
    )
    w = 0.0
    for step in range(4):
        w -= 0.25 * 2 * np.mean(w - batches[step % 2])
    assert float(final["w"]) == pytest.approx(w, rel=1e-12)
    assert aux_lengths == [4, 3, 4, 3]


@pytest.mark.parametrize("answer", [True, np.True_, "array"])
def test_a_callback_stops_the_run(answer):
    def callback(step, diff, static, data, *rest):
        data["last"] = step
        stop = jnp.asarray(True) if answer == "array" else answer
        return stop if step == 3 else False, diff, static

    final, data = OptaxOptimizer(decay, optax.sgd(0.05), callback).run(
        decay_state(), 100
    )
    assert data["n_steps"] == 4
    assert data["last"] == 3
    assert data["status"] == "callback"
    assert "callback" in data["message"]
    assert len(data["history"]) == 5
    assert_array_equal(data["history"].loc[4, ["a", "r"]], pair(final))


@pytest.mark.parametrize(
    "junk",
    [
        lambda diff, static: None,
        lambda diff, static: True,
        lambda diff, static: (False, diff),
        lambda diff, static: [False, diff, static],
        lambda diff, static: ("no", diff, static),
        lambda diff, static: (False, {"a": diff["a"]}, static),
        lambda diff, static: (False, list(diff.values()), static),
        lambda diff, static: (False, diff, None),
        lambda diff, static: (False, None, static),
        lambda diff, static: (False, diff | {"a": 2.0}, static),
        lambda diff, static: (False, diff | {"a": None}, static),
        lambda diff, static: (
            False,
            diff | {"a": diff["a"].with_fields(free=False)},
            static,
        ),
        lambda diff, static: (
            False,
            diff | {"a": diff["a"].with_fields(value=np.ones(2))},
            static,
        ),
    ],
    ids=[
        "None",
        "bool",
        "two",
        "list",
        "stop is no bool",
        "a part",
        "another tree",
        "no static",
        "no diff",
        "no parameter",
        "missing",
        "fixed",
        "another shape",
    ],
)
def test_a_callback_that_returns_something_else(junk):
    def callback(step, diff, static, *rest):
        return junk(diff, static)

    with pytest.raises(InvalidParameterError, match=r"callback .*must return"):
        OptaxOptimizer(decay, optax.sgd(0.05), callback).run(decay_state(), 3)


def test_a_replaced_value_outside_its_bounds_is_refused():
    def callback(step, diff, static, *rest):
        return False, diff | {"r": diff["r"].with_fields(value=-1.0)}, static

    state = decay_state() | {"r": Parameter(value=np.float64(0.5), lower=0.0)}
    with pytest.raises(InvalidParameterError, match=r"'r'.*within its bounds.*-1"):
        OptaxOptimizer(decay, optax.sgd(0.05), callback).run(state, 3)


@pytest.mark.parametrize(
    ("chunk_size", "every", "max_steps", "expected"),
    [
        (None, None, 4, [0, 1, 2, 3]),
        (1, None, 4, [0, 1, 2, 3]),
        (3, None, 8, [2, 5, 7]),
        (100, None, 8, [7]),
        (100, 3, 8, [0, 3, 6]),
        (4, 3, 10, [0, 3, 6, 9]),
        (None, 5, 11, [0, 5, 10]),
        (10, 10, 21, [0, 10, 20]),
        (7, 1, 4, [0, 1, 2, 3]),
    ],
)
def test_chunks_end_where_every_says(chunk_size, every, max_steps, expected):
    record = Record(every=every)
    optimizer = OptaxOptimizer(decay, optax.sgd(0.05), record)
    whole = optimizer.run(decay_state(), max_steps)[1]["history"]
    record.calls.clear()
    optimizer.run(decay_state(), max_steps, chunk_size=chunk_size)
    assert [call[0] for call in record.calls] == expected
    for step, diff, *_, loss, _ in record.calls:
        assert_allclose(loss, whole.loc[step + 1, "loss"], rtol=1e-12)
        assert_allclose(pair(diff), whole.loc[step + 1, ["a", "r"]], rtol=1e-12)


def test_a_plain_function_is_called_at_the_steps_that_another_names():
    steps = []

    def function(step, diff, static, *rest):
        steps.append(step)
        return False, diff, static

    record = Record(every=4)
    OptaxOptimizer(decay, optax.sgd(0.05), [function, record]).run(
        decay_state(), 12, chunk_size=6
    )
    assert [call[0] for call in record.calls] == [0, 4, 8]
    assert steps == [0, 4, 5, 8, 11]


class Broken(Record):
    def __init__(self, where):
        super().__init__()
        self.where = where
        self.events = []

    def on_run_start(self, data):
        super().on_run_start(data)
        self.events.append("start")

    def on_step(self, step, *rest):
        self.events.append(step)
        if self.where == step:
            raise KeyError("of the user's own")

    def on_run_end(self, data):
        super().on_run_end(data)
        self.events.append("end")


def test_hooks_run_at_both_ends_also_after_an_exception():
    callback = Broken(where=1)
    optimizer = OptaxOptimizer(decay, optax.sgd(0.05), callback)
    with pytest.raises(KeyError, match="user's own"):
        optimizer.run(decay_state(), 4)
    assert callback.events == ["start", 0, 1, "end"]
    callback.events.clear()
    callback.where = None
    for _ in range(2):
        optimizer.run(decay_state(), 2)
    optimizer.run(decay_state(), 0)
    run = ["start", 0, 1, "end"]
    assert callback.events == [*run, *run, "start", "end"]


# Precision.


def test_double_precision_leaves_the_process_wide_setting_alone():
    script = """
        import jax, jax.numpy as jnp, numpy as np, optax
        from skoptax import OptaxOptimizer, Parameter
        assert not jax.config.jax_enable_x64
        before = jax.jit(lambda x: x * 1.5)
        assert before(1.0).dtype == jnp.float32

        seen = []
        def callback(step, diff, static, data, aux, loss, grads):
            seen.append([np.asarray(v).dtype for v in
                         (diff["w"], diff["v"], loss, aux, grads["w"], grads["v"])])
            return False, diff, static

        def loss(state):
            residual = state["w"] * state["x"] + jnp.sum(state["v"].value) - 1.0
            return jnp.mean(residual**2), residual

        state = {"w": Parameter(value=np.float64(1) / 3),
                 "v": Parameter(value=np.ones(2)), "x": np.linspace(0.0, 1.0, 5)}
        run = OptaxOptimizer(loss, optax.adam(0.01), callback, has_aux=True).run
        final, data = run(state, 3)
        assert all(d == np.float64 for call in seen for d in call), seen
        assert data["history"].dtypes.map(str).tolist() == ["float64"] * 3
        for p in (final["w"], final["v"]):
            assert p.dtype == np.float64
            # What one computes with it afterwards is not cut to single precision.
            assert (p * 1.0).dtype == np.float64, (p * 1.0).dtype
            assert float(np.sum(np.asarray(p * 3.0) - 3.0 * np.asarray(p))) == 0.0
        assert np.asarray(data["aux"]).dtype == np.float64
        assert (data["aux"] * 1.0).dtype == np.float64
        assert not jax.config.jax_enable_x64
        assert jnp.ones(2).dtype == jnp.float32
        assert before(2.0).dtype == jnp.float32

        # All of it in single precision.
        single = {"w": Parameter(value=1.0),
                  "v": Parameter(value=np.ones(2, np.float32)),
                  "x": np.linspace(0.0, 1.0, 5, dtype=np.float32)}
        seen.clear()
        final, data = run(single, 3)
        assert all(d == np.float32 for call in seen for d in call), seen
        assert final["w"].dtype == final["v"].dtype == np.float32
        assert data["history"]["loss"].dtype == np.float32
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_single_precision_leaves_keep_their_type_beside_double_ones():
    def loss(state):
        return (state["w"] - 0.1) ** 2 + jnp.sum((state["v"].value - state["x"]) ** 2)

    state = {
        "w": Parameter(value=np.float32(1.0)),
        "v": Parameter(value=np.ones(2)),
        "x": np.full(2, 0.3),
    }
    final, _ = OptaxOptimizer(loss, optax.sgd(0.25)).run(state, 60)
    assert final["w"].dtype == np.float32
    assert final["v"].dtype == np.float64
    assert_allclose(np.asarray(final["v"]), 0.3, rtol=1e-14)
    assert_allclose(float(final["w"]), 0.1, rtol=1e-6)


# Any pytree.


class Layer(NamedTuple):
    w: Any
    label: Any


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["w", "b"], meta_fields=["activation"]
)
@dataclass
class Affine:
    """What an Equinox module is to JAX: data fields and metadata."""

    w: Any
    b: Any
    activation: Any


def total(state):
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Parameter))
    free = [leaf for leaf in leaves if isinstance(leaf, Parameter)]
    return sum(jnp.sum((leaf.value - 2.0) ** 2) for leaf in free)


@pytest.mark.parametrize(
    "state",
    [
        {"net": {"deep": Parameter(value=1.0), "other": 3.0}, "z": Parameter()},
        [Parameter(value=1.0), 3, [Parameter(value=[0.0, 1.0])]],
        (Parameter(value=1.0), (), {"k": Parameter("k", np.zeros((2, 2)))}),
        Layer(Parameter(value=np.zeros(3)), "name"),
        Parameter(value=1.0),
        Affine(Parameter(value=np.zeros(3)), 1.5, jnp.tanh),
        {"f": Affine(Parameter(value=0.5), Parameter(value=1.0), "tanh"), "n": None},
    ],
    ids=["dicts", "list", "tuple", "NamedTuple", "bare", "dataclass", "mixed"],
)
def test_any_pytree(state):
    def is_leaf(x):
        return isinstance(x, Parameter)

    final, data = OptaxOptimizer(total, optax.sgd(0.25)).run(state, 40)
    before, structure = jax.tree.flatten(state, is_leaf=is_leaf)
    after, same = jax.tree.flatten(final, is_leaf=is_leaf)
    assert structure == same
    assert type(final) is type(state)
    for old, new in zip(before, after, strict=True):
        if is_leaf(old):
            assert_allclose(np.asarray(new), 2.0, rtol=1e-5)
            assert new.shape == old.shape
            assert new.name == old.name
        else:
            assert new is old
    assert data["history"]["loss"].iloc[-1] < 1e-9


# Results.


def test_history_and_fitting_data():
    def loss(state):
        values = [state[k] for k in ("w", "loss", "fixed", "half")]
        return sum((v - 1.0) ** 2 for v in values) + jnp.sum(state["v"].value ** 2)

    state = {
        "w": Parameter(value=np.float64(3.0), transform="log", scale=0.5),
        "loss": Parameter(value=0.0),
        "v": Parameter(value=np.ones(2)),
        "fixed": Parameter(value=0.25, free=False),
        "half": Parameter(tie=lambda w: w / 2),
        "data": np.ones(3),
    }
    record = Record()
    spec = make_spec(optax.adam, {"learning_rate": 0.125})
    final, data = OptaxOptimizer(loss, spec, record).run(state, 5)
    history = data["history"]
    assert isinstance(history, pd.DataFrame)
    assert history.index.name == "step"
    assert history.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert set(history.columns) == {
        *("loss", "grad_norm", "learning_rate"),
        *("w", "params__loss", "fixed", "half"),
    }
    assert list(history.columns[:3]) == ["loss", "grad_norm", "learning_rate"]
    assert history["w"][0] == pytest.approx(3.0)
    assert_allclose(history["half"], history["w"] / 2)
    assert np.isnan(history["learning_rate"][0])
    assert (history["learning_rate"][1:] == 0.125).all()
    assert {"history", "n_steps", "status", "message"} <= set(data)
    assert "aux" not in data
    assert "5" in data["message"]
    for step, diff, static, *_, value, grads in record.calls:
        w, other = float(diff["w"]), float(diff["loss"])
        v = np.asarray(diff["v"])
        assert diff["half"] is None
        assert float(static["half"]) == pytest.approx(w / 2)
        expected = (w - 1) ** 2 + (other - 1) ** 2 + 0.75**2 + (w / 2 - 1) ** 2
        assert_allclose(value, expected + v @ v, rtol=1e-12)
        # w = exp(u / 2)
        dw = (2 * (w - 1) + (w / 2 - 1)) * w / 2
        norm = np.sqrt(dw**2 + (2 * (other - 1)) ** 2 + 4 * v @ v)
        assert_allclose(history["grad_norm"][step + 1], norm, rtol=1e-12)
        assert_allclose(history["loss"][step + 1], value, rtol=1e-15)
        del grads
    assert float(final["half"]) == pytest.approx(float(final["w"]) / 2)
    assert final["fixed"] is state["fixed"]


def test_long_runs_keep_their_whole_history():
    last, n = HISTORY_ROWS - 1, 2 * HISTORY_ROWS + 500
    optimizer = OptaxOptimizer(decay, optax.sgd(0.01))
    final, data = optimizer.run(decay_state(), n)
    history = data["history"]
    assert history.index.tolist() == list(range(n + 1))
    assert not history.isna().any().any()
    a, r = 1.0, 0.5
    for k in range(n + 1):
        loss, da, dr, _ = by_hand(a, r)
        if k in (0, 1, n) or abs(k % HISTORY_ROWS) < 2 or k % HISTORY_ROWS == last:
            row = history.loc[k]
            assert_allclose(row["loss"], loss, rtol=1e-9)
            assert_allclose(row[["a", "r"]], [a, r], rtol=1e-9)
        if k < n:
            a, r = a - 0.01 * da, r - 0.01 * dr
    assert_allclose(pair(final), [a, r], rtol=1e-9)
    for n_steps in (1, last, HISTORY_ROWS, n - 1000):
        short = optimizer.run(decay_state(), n_steps)[1]["history"]
        pd.testing.assert_frame_equal(short, history.loc[:n_steps], check_exact=True)


def test_a_state_replaced_where_the_history_block_ends():
    last = HISTORY_ROWS - 1

    def callback(step, diff, static, *rest):
        if step == last - 1:  # row `last`, that of the first block
            diff = diff | {"a": diff["a"].with_fields(value=7.0)}
        return False, diff, static

    optimizer = OptaxOptimizer(decay, optax.sgd(0.01), callback)
    history = optimizer.run(decay_state(), last + 7, chunk_size=last)[1]["history"]
    assert history.index.tolist() == list(range(last + 8))
    assert history["a"][last] == 7.0
    a, r = 7.0, history["r"][last]
    assert_allclose(history["loss"][last], by_hand(a, r)[0], rtol=1e-12)
    _, da, dr, _ = by_hand(a, r)
    next_row = history.loc[last + 1, ["a", "r"]]
    assert_allclose(next_row, [a - 0.01 * da, r - 0.01 * dr], rtol=1e-12)
    assert history["a"][last - 1] < 3


def test_no_steps_at_all():
    record = Record()
    state = decay_state()
    final, data = OptaxOptimizer(decay, optax.sgd(0.05), record).run(state, 0)
    assert record.calls == []
    assert_array_equal(pair(final), [1.0, 0.5])
    assert data["n_steps"] == 0
    assert data["status"] == "max_steps"
    assert data["history"].index.tolist() == [0]
    assert_allclose(data["history"].loc[0, "loss"], by_hand(1.0, 0.5)[0])
    assert_allclose(data["history"].loc[0, ["a", "r"]], [1.0, 0.5])


def test_default_is_one_step():
    final, data = OptaxOptimizer(decay, optax.sgd(0.05)).run(decay_state())
    _, da, dr, _ = by_hand(1.0, 0.5)
    assert data["n_steps"] == 1
    assert_allclose(pair(final), [1.0 - 0.05 * da, 0.5 - 0.05 * dr], rtol=1e-12)


# Numbers that are not finite.


def log_loss(state):
    return state["w"] - jnp.log(state["w"])


@pytest.mark.parametrize("callback", [None, do_nothing])
def test_a_run_stops_where_the_loss_is_not_finite(callback):
    # From 0.5 with rate 1.25: w -> 1.75 -> 1.214..., fine; from 2.0 with rate 4: 0,
    # where the loss is infinite.
    state = {"w": Parameter(value=np.float64(2.0))}
    optimizer = OptaxOptimizer(log_loss, optax.sgd(4.0), callback)
    final, data = optimizer.run(state, 10)
    assert data["status"] == "non_finite"
    assert data["n_steps"] == 1
    assert "step 0" in data["message"]
    assert float(final["w"]) == 2.0
    history = data["history"]
    assert history.index.tolist() == [0, 1]
    assert history["w"].tolist() == [2.0, 0.0]
    assert np.isinf(history["loss"][1])


def test_a_gradient_that_is_not_finite_stops_a_run_too():
    # The loss is 0 at 0, the slope there is infinite.
    def loss(state):
        return jnp.sqrt(jnp.abs(state["w"]))

    state = {"w": Parameter(value=np.float64(1.0))}
    final, data = OptaxOptimizer(loss, optax.sgd(2.0)).run(state, 10)
    assert data["status"] == "non_finite"
    assert data["history"]["loss"].tolist() == [1.0, 0.0]
    assert float(final["w"]) == 1.0


def test_a_callback_may_rescue_a_run():
    def callback(step, diff, static, data, aux, loss, grads):
        if not np.isfinite(loss):
            diff = diff | {"w": diff["w"].with_fields(value=0.5)}
        return False, diff, static

    state = {"w": Parameter(value=np.float64(2.0))}
    final, data = OptaxOptimizer(log_loss, optax.sgd(4.0), callback).run(state, 2)
    assert data["n_steps"] == 2
    assert data["history"]["w"].tolist() == [2.0, 0.5, 4.5]
    assert float(final["w"]) == 4.5
    assert data["status"] == "max_steps"


@pytest.mark.parametrize(
    ("start", "words"),
    [(-1.0, r"loss is nan.*w=-1\.0"), (0.0, r"loss is inf.*w=0\.0")],
)
def test_not_finite_at_the_start(start, words):
    state = {"w": Parameter(value=np.float64(start))}
    with pytest.raises(NonFiniteError, match=words):
        OptaxOptimizer(log_loss, optax.sgd(4.0)).run(state, 3)
    with pytest.raises(NonFiniteError, match=words):
        OptaxOptimizer(log_loss, optax.sgd(4.0)).run(state, 0)


# Errors.


def error_of(error, match, loss, state=None, mode="rev", has_aux=False, **options):
    state = {"w": Parameter(value=1.0)} if state is None else state
    with pytest.raises(error, match=match) as caught:
        OptaxOptimizer(loss, optax.sgd(0.1), has_aux=has_aux).run(
            state, 2, mode, **options
        )
    return caught.value


def square(state):
    return state["w"] ** 2


@pytest.mark.parametrize(
    "state",
    [
        {"w": 1.0},
        {"w": Parameter(value=1.0, free=False)},
        {"w": Parameter(value=np.ones(2), free=[False, False])},
        {},
        {"v": 1.0, "w": Parameter(tie=lambda v: v)},
    ],
)
def test_nothing_to_optimise(state):
    error_of(InvalidParameterError, r"no free Parameter.*free=True", square, state)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda s: np.sin(s["w"].value), r"function of\s+NumPy.*jax\.numpy"),
        (lambda s: np.sin(s["w"]), r"function of\s+NumPy.*jax\.numpy"),
        (lambda s: np.mean(s["w"]), r"NumPy.*jax\.numpy"),
        (lambda s: float(s["w"]) ** 2, r"float\(\).*jnp\.where"),
        (lambda s: s["w"] if s["w"] > 0 else -s["w"], r"'if'.*jnp\.where"),
        (lambda s: jnp.arange(3.0) * s["w"], r"must return a scalar.*shape \(3,\)"),
        (lambda s: (s["w"] ** 2, 1.0), r"has_aux=True"),
        (lambda s: jnp.round(s["w"]).astype(int), r"real floating-point.*int32"),
        (lambda s: s["w"] * 1j, r"real floating-point.*complex"),
        (lambda s: None, r"must return a scalar"),
        (lambda s: {"loss": s["w"]}, r"must return a scalar"),
        (lambda s: "text", r"must return a scalar"),
    ],
    ids=[
        "numpy of a value",
        "numpy of a parameter",
        "numpy mean",
        "float",
        "if",
        "vector",
        "tuple",
        "int",
        "complex",
        "None",
        "dict",
        "str",
    ],
)
def test_losses_that_are_none(loss, words):
    error_of(ModelError, f"(?s)^The loss.*{words}", loss)


@pytest.mark.parametrize("result", [1.0, (1.0, 2.0, 3.0)])
def test_has_aux_without_aux(result):
    def loss(state):
        if isinstance(result, float):
            return state["w"] ** 2
        return (state["w"] ** 2, *result[1:])

    error_of(ModelError, r"\(scalar, aux\).*has_aux=True", loss, has_aux=True)


def collatz_like(state):
    """A loop whose length depends on the parameter."""
    halved = jax.lax.while_loop(lambda w: w > 1.0, lambda w: w / 2, state["w"].value)
    return (4 * halved - 2.8) ** 2


def test_a_loop_of_unknown_length_needs_forward_mode():
    state = {"w": Parameter(value=np.float64(3.5))}
    error_of(DifferentiationError, r'mode="fwd"', collatz_like, state)
    optimizers = ("adam", "lbfgs", "backtracking")
    for name in optimizers:
        optimizer = OptaxOptimizer(collatz_like, OPTIMIZERS[name]())
        final, _ = optimizer.run(state, 300, "fwd")
        assert float(final["w"]) == pytest.approx(2.8, abs=1e-6), name


def test_a_reverse_rule_needs_reverse_mode():
    @jax.custom_vjp
    def f(x):
        return x**2

    f.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))

    def loss(state):
        return f(state["w"].value)

    error_of(
        DifferentiationError, r'mode="rev".*diffrax\.ForwardMode', loss, mode="fwd"
    )
    final, _ = OptaxOptimizer(loss, optax.sgd(0.25)).run({"w": Parameter(value=1.0)}, 3)
    assert float(final["w"]) == 0.125


@pytest.mark.parametrize(
    "loss",
    [lambda s: 3.0, lambda s: jax.lax.stop_gradient(s["w"].value) ** 2],
)
def test_a_loss_without_a_gradient(loss):
    error_of(ModelError, r"no gradient.*'w'", loss)


def test_a_start_at_the_optimum_is_no_error():
    final, data = OptaxOptimizer(square, optax.sgd(0.1)).run({"w": Parameter()}, 3)
    assert float(final["w"]) == 0.0
    assert data["n_steps"] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_steps": -1}, "'max_steps'.*at least 0.*-1"),
        ({"max_steps": 2.5}, "'max_steps'.*2.5"),
        ({"max_steps": True}, "'max_steps'.*True"),
        ({"mode": "reverse"}, "'mode'.*'rev', 'fwd'.*'reverse'.*mean 'rev'"),
        ({"chunk_size": 0}, "'chunk_size'.*at least 1.*0"),
    ],
)
def test_arguments_of_run(options, words):
    with pytest.raises(InvalidParameterError, match=words):
        OptaxOptimizer(square, optax.sgd(0.1)).run({"w": Parameter()}, **options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("square", optax.sgd(0.1)), "'loss'.*'square'"),
        ((square, "adam"), r"'optimizer'.*optax\.adam\(0\.01\).*'adam'"),
        ((square, optax.adam), r"'optimizer'.*optax\.adam\(0\.01\)"),
        ((square, 0.1), r"'optimizer'.*0\.1"),
        ((square, optax.sgd(0.1), "print"), "'callback'.*'print'"),
        ((square, optax.sgd(0.1), Record), r"'callback'.*Record\(\.\.\.\)"),
    ],
)
def test_arguments_of_the_constructor(arguments, words):
    with pytest.raises(InvalidParameterError, match=words):
        OptaxOptimizer(*arguments).run({"w": Parameter()}, 2)


# Bounds, masks, ties and transforms.


def to_target(state):
    return jnp.sum((state["w"].value - state["target"]) ** 2)


@pytest.mark.parametrize("name", ["adam", "momentum", "lbfgs", "backtracking"])
def test_an_optimum_on_a_bound_is_reached(name):
    lower, upper = np.array([-1.0, 0.1, -np.inf, 0.3]), np.array([1.0, 2.0, 0.2, 0.3])
    start = np.array([0.0, 1.0, -3.0, 0.3])
    target = np.array([5.0, -5.0, 0.0, 9.0])
    state = {"w": Parameter(value=start, lower=lower, upper=upper), "target": target}
    record = Record()
    final, _ = OptaxOptimizer(to_target, OPTIMIZERS[name](), record).run(state, 300)
    expected = np.clip(target, lower, upper)
    value = np.asarray(final["w"])
    assert_array_equal(value[[0, 1, 3]], expected[[0, 1, 3]])
    assert value[2] == pytest.approx(0.0, abs=1e-6)
    for _, diff, *_ in record.calls:
        inside = np.asarray(diff["w"])
        assert (lower <= inside).all()
        assert (inside <= upper).all()


@pytest.mark.parametrize("transform", ["log", (jnp.exp, jnp.log)])
def test_bounds_hold_exactly_through_a_transform(transform):
    start = Parameter(
        value=np.array([0.5, 0.5]), lower=0.1, upper=0.7, transform=transform, scale=0.3
    )
    state = {"w": start, "target": np.array([-3.0, 2.0])}
    record = Record()
    final, _ = OptaxOptimizer(to_target, optax.adam(0.1), record).run(state, 100)
    assert_array_equal(np.asarray(final["w"]), [0.1, 0.7])
    for _, diff, *_ in record.calls:
        assert (np.asarray(diff["w"]) >= 0.1).all()
        assert (np.asarray(diff["w"]) <= 0.7).all()


def test_a_transform_that_falls_has_its_bounds_the_other_way_round():
    down = (lambda u: -u, lambda w: -w)
    start = Parameter(value=np.zeros(2), lower=-1.0, upper=0.5, transform=down)
    state = {"w": start, "target": np.array([-3.0, 2.0])}
    final, _ = OptaxOptimizer(to_target, optax.sgd(0.1)).run(state, 100)
    assert_array_equal(np.asarray(final["w"]), [-1.0, 0.5])


@pytest.mark.optimised
def test_masked_entries_stay_to_the_last_bit():
    start = np.array([0.1, 0.2, 0.3])
    state = {
        "w": Parameter(value=start, free=[True, False, True], transform="log"),
        "target": np.array([1.0, 2.0, 3.0]),
    }
    for name in ("lbfgs", "adam"):
        record = Record()
        optimizer = OptaxOptimizer(to_target, OPTIMIZERS[name](), record)
        final, data = optimizer.run(state, 200)
        assert_allclose(np.asarray(final["w"])[[0, 2]], [1.0, 3.0], rtol=1e-3)
        assert all(np.asarray(call[1]["w"])[1] == 0.2 for call in record.calls)
        assert all(np.asarray(call[-1]["w"])[1] == 0.0 for call in record.calls)
        assert data["history"]["grad_norm"].iloc[-1] < 1e-2


def test_weight_decay_leaves_masked_entries_alone():
    state = {
        "w": Parameter(value=np.array([4.0, 4.0]), free=[True, False]),
        "target": np.zeros(2),
    }
    final, _ = OptaxOptimizer(to_target, optax.adamw(0.1, weight_decay=0.5)).run(
        state, 50
    )
    assert np.asarray(final["w"])[1] == 4.0
    assert np.asarray(final["w"])[0] < 2.0


def test_ties_follow_what_they_are_tied_to():
    def loss(state):
        return (state["total"] - 10.0) ** 2 + (state["one"] - 1.0) ** 2

    state = {
        "total": Parameter(tie=lambda double, one: double + one),
        "double": Parameter(tie=lambda one, offset: 2 * one + offset),
        "one": Parameter(value=np.float64(0.0)),
        "offset": Parameter(value=0.5, free=False),
    }
    final, data = OptaxOptimizer(loss, optax.sgd(0.02)).run(state, 500)
    # d/dx (3 x + 0.5 - 10)^2 + (x - 1)^2 = 0
    x = (3 * 9.5 + 1) / 10
    assert float(final["one"]) == pytest.approx(x, rel=1e-9)
    assert float(final["double"]) == pytest.approx(2 * x + 0.5, rel=1e-9)
    assert float(final["total"]) == pytest.approx(3 * x + 0.5, rel=1e-9)
    assert data["history"]["total"].iloc[0] == 0.5
    assert final["total"].tie is state["total"].tie


def test_the_loss_sees_values_in_the_users_units():
    values = []

    def loss(state):
        jax.debug.callback(lambda w: values.append(float(w)), state["w"].value)
        return (state["w"] - 3.0) ** 2

    start = Parameter("w", np.float64(2.0), lower=0.5, scale=10.0, transform="log")
    OptaxOptimizer(loss, optax.sgd(1e-4)).run({"w": start}, 1)
    # w = exp(10 u)
    assert values == pytest.approx([2.0, np.exp(np.log(2.0) + 1e-2 * 2 * 2)])
