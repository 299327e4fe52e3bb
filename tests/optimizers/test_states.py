"""Chains and schedules: the path, and the learning rate that the history shows.

The rates are recovered from the path itself: a step of descent is minus the rate
times the gradient, which is known in closed form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from skoptax import OptaxEstimator

T = np.linspace(0.0, 3.0, 40)
Y = 2.5 * np.exp(-1.3 * T)
SCHEDULE = optax.exponential_decay(0.1, 1, 0.9)


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


def accumulated(learning_rate):
    return optax.MultiSteps(optax.sgd(learning_rate), 4)


def clipped(learning_rate):
    return optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(learning_rate))


def on_plateau(learning_rate):
    reduce = optax.contrib.reduce_on_plateau(factor=0.5, patience=2, atol=0.2)
    return optax.chain(optax.sgd(learning_rate), reduce)


def injected(learning_rate):
    inner = optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)
    reduce = optax.contrib.reduce_on_plateau(factor=0.5, patience=2, atol=0.2)
    return optax.chain(inner, reduce)


def by_name(learning_rate):
    return optax.multi_transform(
        {"fast": optax.sgd(learning_rate), "slow": optax.sgd(0.01)},
        {"amplitude": "fast", "rate": "slow"},
    )


def fit(factory, rate, **arguments):
    spec = {"amplitude": 1.0, "rate": 0.5}
    arguments = {"max_steps": 18, "learning_rate": rate} | arguments
    found = OptaxEstimator(decay, spec, optimizer=factory, **arguments)
    return found.fit(T[:, None], Y).history_


def gradients(history):
    """Return the gradient of half the mean squared error at each row."""
    a, k = (history[[name]].to_numpy() for name in ("amplitude", "rate"))
    shape = np.exp(-k * T)
    residual = a * shape - Y
    return np.stack(
        [np.mean(residual * shape, 1), np.mean(-residual * a * T * shape, 1)], 1
    )


def rates_used(history, directions):
    """Return what each step has multiplied minus its direction by."""
    steps = np.diff(history[["amplitude", "rate"]].to_numpy(), axis=0)
    return -steps[:, 0] / directions[: len(steps), 0]


RATES = {"number": 0.1, "schedule": SCHEDULE}


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
@pytest.mark.parametrize("factory", [on_plateau, injected, by_name])
def test_the_rate_that_is_used(factory, rate):
    history = fit(factory, rate)
    used = rates_used(history, gradients(history))
    assert_allclose(history["learning_rate"][1:], used, rtol=1e-6)
    # (It was reduced at least once.)
    if factory is not by_name and rate == 0.1:
        assert used[-1] <= 0.05 + 1e-9


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_of_a_clipped_gradient(rate):
    history = fit(clipped, rate)
    gradient = gradients(history)
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    used = rates_used(history, gradient * np.minimum(1, 0.1 / norm))
    assert_allclose(history["learning_rate"][1:], used, rtol=1e-6)


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_of_accumulated_gradients(rate):
    history = fit(accumulated, rate, max_steps=17)
    path = history[["amplitude", "rate"]].to_numpy()
    gradient = gradients(history)
    for k in range(1, 18):
        if k % 4:
            assert (path[k] == path[k - 1]).all()
            continue
        used = (path[k - 1] - path[k]) / gradient[k - 4 : k].mean(axis=0)
        assert_allclose(history["learning_rate"][k], used, rtol=1e-6)
    applied = np.maximum(np.arange(1, 18) // 4 - 1, 0)
    expected = [SCHEDULE(n) for n in applied] if callable(rate) else [0.1] * 17
    assert_allclose(history["learning_rate"][1:], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "wrap", [lambda o: o, optax.MultiSteps.gradient_transformation]
)
def test_what_is_accumulated_gets_the_loss(wrap):
    def factory(learning_rate):
        return wrap(optax.MultiSteps(on_plateau(learning_rate), 2))

    history = fit(factory, 0.1)
    rates = history["learning_rate"].to_numpy()
    path, gradient = history[["amplitude", "rate"]].to_numpy(), gradients(history)
    for k in range(2, 19, 2):
        used = (path[k - 1] - path[k]) / gradient[k - 2 : k].mean(axis=0)
        assert_allclose(rates[k], used, rtol=1e-6)
    assert rates[-1] < 0.1


def test_a_schedule_goes_on_where_a_fit_does():
    estimator = OptaxEstimator(
        decay,
        {"amplitude": 1.0, "rate": 0.5},
        optimizer=accumulated,
        learning_rate=SCHEDULE,
        max_steps=10,
        warm_start=True,
    )
    rates = [
        estimator.fit(T[:, None], Y).history_["learning_rate"][1:] for _ in range(2)
    ]
    expected = fit(accumulated, SCHEDULE, max_steps=20)["learning_rate"][1:]
    assert_allclose(np.concatenate(rates), expected, rtol=1e-12)


def test_a_chain_makes_the_steps_of_optax():
    def chain(learning_rate):
        return optax.chain(
            optax.clip_by_global_norm(0.1),
            optax.scale_by_adam(),
            optax.add_decayed_weights(1e-3),
            optax.scale_by_learning_rate(learning_rate),
        )

    def loss(values):
        return 0.5 * jnp.mean((decay(T, **values) - Y) ** 2)

    values = {"amplitude": 1.0, "rate": 0.5}
    optimizer = chain(SCHEDULE)
    state, expected = optimizer.init(values), [values]
    with jax.enable_x64(True):
        values = jax.tree.map(np.float64, values)
        state = optimizer.init(values)
        for _ in range(18):
            updates, state = optimizer.update(jax.grad(loss)(values), state, values)
            values = optax.apply_updates(values, updates)
            expected.append(jax.tree.map(float, values))
    history = fit(chain, SCHEDULE)
    for name in values:
        assert_allclose(history[name], [v[name] for v in expected], rtol=1e-9)
