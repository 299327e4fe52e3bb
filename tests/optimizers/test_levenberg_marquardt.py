"""Levenberg-Marquardt in a hand-written Optax loop."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import (
    OptaxEstimator,
    OptaxOptimizer,
    Parameter,
    losses,
    penalties,
    priors,
)
from skoptax.exceptions import ConvergenceWarning, InvalidParameterError
from skoptax.optimizers import levenberg_marquardt
from tests.test_nist import MODELS

pytestmark = pytest.mark.optimised

NIST = json.loads(
    (Path(__file__).parents[1] / "reference" / "nist_strd.json").read_text("utf-8")
)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def minimise(predict, loss, params, steps, *, optimizer=None, extra=None, **bounds):
    """Return parameters and state after so many updates, and every objective.

    ``extra`` is what the objective has besides the losses.
    """
    optimizer = levenberg_marquardt() if optimizer is None else optimizer

    def objective(params):
        value = jnp.sum(loss(predict(params)))
        return value if extra is None else value + extra(params)

    def curvature(params):
        if extra is None:
            return None
        flat, unravel = jax.flatten_util.ravel_pytree(params)
        return jax.hessian(lambda x: extra(unravel(x)))(flat)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(objective)(params)
        updates, state = optimizer.update(
            gradient,
            state,
            params,
            value=value,
            value_fn=objective,
            predict_fn=predict,
            sample_loss=loss,
            curvature=curvature(params),
            **bounds,
        )
        return optax.apply_updates(params, updates), state, value

    params = jax.tree.map(lambda x: jnp.asarray(x, float), params)
    state, values = optimizer.init(params), []
    for _ in range(steps):
        params, state, value = step(params, state)
        values.append(float(value))
    return jax.device_get(params), state, [*values, float(objective(params))]


def half_squares(y):
    return lambda predictions: 0.5 * (predictions - y) ** 2


# Certified values.


@pytest.mark.parametrize("start", ["start1", "start2"])
@pytest.mark.parametrize("name", sorted(NIST))
def test_certified_values(name, start):
    data = NIST[name]
    x, y = np.asarray(data["x"]), np.asarray(data["y"])
    columns = (x,) if x.ndim == 1 else tuple(x.T)
    optimizer, loss = levenberg_marquardt(), half_squares(y)

    def predict(params):
        return MODELS[name](*columns, *params)

    def objective(params):
        return jnp.sum(loss(predict(params)))

    @jax.jit
    def run(params):
        def body(carry):
            params, state, k, _ = carry
            updates, state = optimizer.update(
                jax.grad(objective)(params),
                state,
                params,
                predict_fn=predict,
                sample_loss=loss,
            )
            params = optax.apply_updates(params, updates)
            r, J = predict(params) - y, jax.jacfwd(predict)(params)
            cosines = jnp.abs(J.T @ r) / jnp.linalg.norm(J, axis=0)
            return params, state, k + 1, jnp.max(cosines) / jnp.linalg.norm(r)

        def goes_on(carry):
            _, state, k, cosine = carry
            return (k < 1000) & (cosine > 1e-12) & state.accepted

        return jax.lax.while_loop(
            goes_on, body, (params, optimizer.init(params), 0, jnp.asarray(1.0))
        )

    params, state, steps, cosine = run(jnp.asarray(data[start], float))
    assert state.accepted
    assert cosine <= 1e-12
    # Most are quicker; these two go along flat valleys.
    assert steps <= {"MGH17": 700, "MGH09": 150}.get(name, 100)
    certified = np.asarray(data["certified"])
    digits = -np.log10(np.abs(params - certified) / np.abs(certified) + 1e-16)
    assert digits.min() >= 9.0


# Closed forms.


def straight(seed=0, n=30, p=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, p)), rng.normal(size=n)


@pytest.mark.parametrize("n", [30, 2])
def test_a_line_is_fitted_as_by_lstsq(n):
    # With fewer predictions than parameters, the Jacobian comes in reverse mode.
    A, y = straight(n=n)
    x, state, values = minimise(lambda x: A @ x, half_squares(y), np.zeros(3), 25)
    best = np.linalg.lstsq(A, y)[0]
    if n > 3:
        assert_allclose(x, best, rtol=1e-12)
        # Each step but those in rounding error goes down.
        assert all(b <= a + 1e-12 for a, b in itertools.pairwise(values))
    assert_allclose(A @ x, A @ best, atol=1e-7)
    assert state.accepted


def test_a_penalty_is_part_of_the_step():
    A, y = straight()
    penalty = np.array([0.3, 2.0, 40.0])
    x, _, _ = minimise(
        lambda x: A @ x,
        half_squares(y),
        np.ones(3),
        20,
        extra=lambda x: 0.5 * jnp.sum(penalty * x**2),
    )
    assert_allclose(x, np.linalg.solve(A.T @ A + np.diag(penalty), A.T @ y), rtol=1e-12)


def test_a_penalty_that_is_not_convex():
    A, y = straight()
    x, _, values = minimise(
        lambda x: A @ x,
        half_squares(y),
        np.zeros(3),
        60,
        extra=lambda x: 3.0 * jnp.sum(jnp.log1p((x / 0.1) ** 2)),
    )
    gradient = A.T @ (A @ x - y) + 3.0 * 2 * x / (0.01 + x**2)
    assert np.abs(gradient).max() < 1e-9
    assert values[-1] < values[0]


# Other losses, beside a solver that knows nothing of all this.


def decay_data():
    rng = np.random.default_rng(5)
    t = np.linspace(0.0, 3.0, 80)
    mean = 2.5 * np.exp(-1.3 * t) + 0.5
    return t, mean, rng


def responses(name):
    t, mean, rng = decay_data()
    y = mean + 0.05 * rng.normal(size=t.size)
    if name in ("huber", "cauchy"):
        y[::5] += 3.0
    elif name == "poisson":
        y = rng.poisson(mean).astype(float)
    elif name == "gamma":
        y = mean * rng.gamma(5.0, 0.2, size=t.size)
    elif name == "log_loss":
        y = (rng.uniform(size=t.size) < mean / 4).astype(float)
    return t, y


LOSSES = {
    "squared_error": losses.SquaredError(),
    "huber": losses.Huber(delta=0.1),
    "cauchy": losses.Cauchy(scale=0.1),
    "log_cosh": losses.LogCosh(),
    "poisson": losses.Poisson(),
    "gamma": losses.Gamma(),
    "log_loss": losses.LogLoss(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_with_curvature_reaches_its_optimum(name):
    t, y = responses(name)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, t.size)
    factor = 0.25 if name == "log_loss" else 1.0
    loss = LOSSES[name]

    def predict(params):
        a, b, c = params
        return factor * (a * jnp.exp(-b * t) + c)

    def sample_loss(predictions):
        return weights * loss(jnp.asarray(y), predictions)

    def objective(params):
        return jnp.sum(sample_loss(predict(params)))

    found, _, _ = minimise(predict, sample_loss, np.array([2.0, 1.0, 0.6]), 60)
    size = np.sum(np.abs(weights))
    assert np.abs(jax.grad(objective)(jnp.asarray(found))).max() < 1e-10 * size
    with_value = jax.jit(jax.value_and_grad(objective))
    best = scipy.optimize.minimize(
        lambda p: tuple(map(np.asarray, with_value(p))),
        found + 0.01,
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    assert float(objective(found)) <= best.fun * (1 + 1e-12)
    assert_allclose(found, best.x, rtol=1e-5)


# Bounds.


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_bounds_are_met_exactly_and_never_crossed(seed):
    rng = np.random.default_rng(seed)
    A, y = straight(seed, n=12)
    lower = rng.uniform(-0.4, 0.1, 3)
    upper = lower + rng.uniform(0.05, 0.5, 3)
    seen = []

    def predict(x):
        jax.debug.callback(seen.append, x)
        return A @ x

    with jax.enable_x64(True):
        x, _, _ = minimise(
            predict,
            half_squares(y),
            (lower + upper) / 2,
            40,
            lower=jnp.asarray(lower),
            upper=jnp.asarray(upper),
        )
        jax.effects_barrier()
    best = scipy.optimize.lsq_linear(A, y, (lower, upper), method="bvls", tol=1e-14)
    assert_allclose(x, best.x, atol=1e-9)
    gradient = A.T @ (A @ x - y)
    active = np.abs(gradient) > 1e-6
    assert_array_equal(x[active], np.where(gradient > 0, lower, upper)[active])
    # (`x + (new - x)` may round off `new` in a loop that adds the update.)
    room = 4 * np.finfo(float).eps
    points = np.asarray(seen)
    assert (points >= lower - room).all()
    assert (points <= upper + room).all()


# What may go wrong on the way.


def test_trial_points_that_are_not_finite_are_rejected():
    t = np.linspace(1.0, 2.0, 20)
    y = np.log(0.3 * t)

    def predict(params):
        return jnp.log(params["a"] * t)  # NaN for negative a

    # A step by Gauss and Newton, from here: 5 + 5 log(0.06) = -9.
    optimizer = levenberg_marquardt(initial_radius=10.0)
    params, state, values = minimise(
        predict, half_squares(y), {"a": 5.0}, 30, optimizer=optimizer
    )
    assert_allclose(params["a"], 0.3, rtol=1e-12)
    assert int(state.trials) > 30
    assert np.isfinite(values).all()


def test_a_start_without_any_radius_begins_when_there_is_a_gradient():
    # All is 0 there, gradient, parameter and their product; then the data change.
    t, optimizer = np.linspace(0.0, 1.0, 9), levenberg_marquardt()

    def step(x, state, y):
        def losses(predictions):
            return 0.5 * (predictions - y) ** 2

        gradient = jax.grad(lambda x: jnp.sum(losses(x * t)))(x)
        updates, state = optimizer.update(
            gradient, state, x, predict_fn=lambda x: x * t, sample_loss=losses
        )
        return x + updates, state

    x = jnp.asarray(0.0)
    x, state = step(x, optimizer.init(x), 0.0 * t)
    assert float(x) == 0.0
    for _ in range(5):
        x, state = step(x, state, 2.0 * t)
    assert_allclose(x, 2.0, rtol=1e-12)


def test_a_start_that_is_not_finite_does_not_move():
    def predict(x):
        return jnp.log(x)

    x, state, _ = minimise(predict, half_squares(np.ones(2)), np.array([-1.0, 1.0]), 1)
    assert_array_equal(x, [-1.0, 1.0])
    assert not state.accepted
    assert int(state.trials) == 30


def test_parameters_that_cannot_be_told_apart():
    t = np.linspace(0.0, 1.0, 15)
    y = 3.0 * t + 1.0

    def predict(params):
        return (params["a"] + params["b"]) * t + params["c"] + 0.0 * params["unused"]

    start = {"a": 0.0, "b": 5.0, "c": 0.0, "unused": 7.0}
    params, _, _ = minimise(predict, half_squares(y), start, 60)
    assert_allclose(params["a"] + params["b"], 3.0, rtol=1e-9)
    assert_allclose(params["c"], 1.0, rtol=1e-9)
    assert params["unused"] == 7.0


def test_a_fit_without_residuals_keeps_all_digits():
    t = np.linspace(0.0, 3.0, 20)

    def predict(params):
        return params[0] * jnp.exp(-params[1] * t)

    y = np.asarray(predict(np.array([2.5, 1.3])))
    params, _, _ = minimise(predict, half_squares(y), np.array([1.0, 0.5]), 25)
    assert_allclose(params, [2.5, 1.3], rtol=1e-14)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(exponents=st.lists(st.integers(-30, 30), min_size=3, max_size=3))
def test_the_units_of_the_parameters_make_no_difference(exponents):
    units = 2.0 ** np.array(exponents)
    t, y = responses("squared_error")

    def path(units):
        def predict(x):
            a, b, c = x * units
            return a * jnp.exp(-b * t) + c

        start = np.array([1.0, 0.5, 0.0]) / units
        return minimise(predict, half_squares(y), start, 6)[0] * units

    with jax.enable_x64(True):
        assert_allclose(path(units), path(np.ones(3)), rtol=1e-12)


def test_several_starts_in_one_program():
    t, y = responses("squared_error")
    optimizer, loss = levenberg_marquardt(), half_squares(y)

    def predict(params):
        return params["a"] * jnp.exp(-params["b"] * t) + params["c"]

    def objective(params):
        return jnp.sum(loss(predict(params)))

    def run(params):
        def body(_, carry):
            params, state = carry
            updates, state = optimizer.update(
                jax.grad(objective)(params),
                state,
                params,
                predict_fn=predict,
                sample_loss=loss,
            )
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 40, body, (params, optimizer.init(params)))[0]

    starts = {
        "a": jnp.array([1.0, 3.0, 0.1]),
        "b": jnp.array([0.5, 2.0, 1.0]),
        "c": jnp.array([0.0, 0.3, 1.0]),
    }
    together = jax.jit(jax.vmap(run))(starts)
    alone = [run(jax.tree.map(lambda x, i=i: x[i], starts)) for i in range(3)]
    for key, values in together.items():
        assert_allclose(values, [one[key] for one in alone], rtol=1e-9)
        assert_allclose(values, values[0], rtol=1e-9)


def test_single_precision_stays_single():
    with jax.enable_x64(False):
        t = np.linspace(0.0, 3.0, 20, dtype=np.float32)
        y = (2.5 * np.exp(-1.3 * t)).astype(np.float32)
        optimizer = levenberg_marquardt()

        def predict(x):
            return x[0] * jnp.exp(-x[1] * t)

        x = jnp.array([1.0, 0.5])
        state = optimizer.init(x)
        for _ in range(12):
            gradient = jax.grad(lambda x: jnp.sum(half_squares(y)(predict(x))))(x)
            updates, state = optimizer.update(
                gradient, state, x, predict_fn=predict, sample_loss=half_squares(y)
            )
            x = optax.apply_updates(x, updates)
        assert x.dtype == state.damping.dtype == np.float32
        assert_allclose(x, [2.5, 1.3], rtol=2e-6)


# Inside of the library's own loop.


def test_in_the_optimizer():
    data = NIST["Thurber"]
    x, y = np.asarray(data["x"]), np.asarray(data["y"])
    names = [f"b{i}" for i in range(1, 8)]

    def predict(state):
        values = [state[name].value for name in names]
        return state["y"], MODELS["Thurber"](state["x"], *values)

    state = {
        name: Parameter(value=np.float64(start))
        for name, start in zip(names, data["start1"], strict=True)
    }
    optimizer = OptaxOptimizer(
        losses.SampleLoss(predict, "squared_error"), levenberg_marquardt()
    )
    final, fitting = optimizer.run({**state, "x": x, "y": y}, 60)
    assert_allclose([final[n].value for n in names], data["certified"], rtol=1e-9)
    assert (np.diff(fitting["history"]["loss"]) < 1e-9).all()


def test_a_plain_loss_is_refused_by_name():
    optimizer = OptaxOptimizer(lambda state: state["a"] ** 2, levenberg_marquardt())
    with pytest.raises(InvalidParameterError, match=r"skoptax\.losses\.SampleLoss"):
        optimizer.run({"a": Parameter(value=1.0)}, 2)


def growth(t, a, b, c):
    return a * jnp.exp(-b * t) + c[0] + c[1] * t


SPECS = {
    "plain": {"a": 1.0, "b": 0.5, "c": np.zeros(2)},
    "bounds": {
        "a": Parameter(value=1.0, upper=2.2),
        "b": Parameter(value=0.5, lower=0.0),
        "c": Parameter(value=np.zeros(2), lower=-0.1, upper=0.3),
    },
    "mask": {
        "a": 1.0,
        "b": 0.5,
        "c": Parameter(value=np.zeros(2), free=np.array([True, False])),
    },
    "transform": {
        "a": Parameter(value=1.0, transform="log"),
        "b": Parameter(value=0.5, lower=0.1, scale=5.0),
        "c": np.zeros(2),
    },
    "tie": {"a": Parameter(tie=lambda b: 2.0 * b), "b": 0.5, "c": np.zeros(2)},
    "prior": {
        "a": Parameter(value=1.0, prior=priors.Normal(1.0, 0.05)),
        "b": Parameter(value=0.5, prior=lambda b: -0.5 * (b - 1.0) ** 2 / 0.01),
        "c": np.zeros(2),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_in_the_estimator_it_finds_what_lbfgs_finds(name, weighted):
    t, y = responses("squared_error")
    weights = np.random.default_rng(2).uniform(0.0, 2.0, t.size).round(1)

    def fit(**arguments):
        arguments.setdefault("penalty", penalties.L2(1e-3) if weighted else None)
        estimator = OptaxEstimator(growth, SPECS[name], **arguments)
        return estimator.fit(t[:, None], y, weights if weighted else None)

    # Penalised, with weights, each step leaves 0.6 of the error: so large is the
    # curvature that Gauss and Newton leave out.
    found = fit(optimizer=levenberg_marquardt(), max_steps=60)
    best = fit(optimizer="lbfgs", max_steps=3000, tol=1e-12)
    assert found.loss_ <= best.loss_ + 1e-12 * abs(best.loss_)
    for key, value in best.params_.items():
        assert_allclose(found.params_[key], value, rtol=2e-5, atol=1e-6)
    if name == "bounds":
        assert found.params_["a"] == 2.2
    if name == "mask":
        assert found.params_["c"][1] == 0.0


def test_a_saddle_point_on_the_way_is_left():
    # To the right sign of the product leads the way through a = b = 0, where the
    # gradient vanishes.
    t = np.linspace(0.0, 4.0, 30)
    y = 1.4 - 0.5 * t + 0.1 * np.random.default_rng(0).normal(size=30)
    slope, offset = np.polyfit(t, y, 1)
    for b in (1.0, 2.0):
        with pytest.warns(ConvergenceWarning, match="'a', 'b' separately"):
            fitted = OptaxEstimator(
                lambda t, a, b, c: a * b * t + c, {"a": 1.0, "b": b, "c": 0.0}
            ).fit(t[:, None], y)
        assert fitted.status_ == "singular"
        assert_allclose(fitted.params_["a"] * fitted.params_["b"], slope, rtol=1e-9)
        assert_allclose(fitted.params_["c"], offset, rtol=1e-9)


def test_a_loss_without_curvature_at_the_start():
    # All residuals are beyond delta there.
    t = np.linspace(0.0, 3.0, 30)
    y = 100.0 + 20.0 * t + np.random.default_rng(1).normal(size=30)
    fitted = OptaxEstimator(
        lambda t, a, b: a + b * t, {"a": 1.0, "b": 0.0}, loss=losses.Huber(1.5)
    ).fit(t[:, None], y)
    assert fitted.converged_
    r = y - (fitted.params_["a"] + fitted.params_["b"] * t)
    pull = np.clip(r, -1.5, 1.5)
    assert_allclose([pull.sum(), pull @ t], 0.0, atol=1e-9)


def test_a_model_that_only_forward_mode_can_differentiate():
    t, y = responses("squared_error")

    def model(t, a, b):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * jnp.exp(-b * t / 3)), (0, a)
        )[1]

    def model_of_rows(t, a, b):
        return model(t, a + 0.0 * t, b)

    found = OptaxEstimator(
        model_of_rows,
        {"a": 1.0, "b": 0.5},
        optimizer=levenberg_marquardt(),
        mode="fwd",
        max_steps=25,
    ).fit(t[:, None], y)
    best = scipy.optimize.curve_fit(
        lambda t, a, b: a * np.exp(-b * t), t, y, [1.0, 0.5], xtol=1e-14, ftol=1e-14
    )[0]
    assert_allclose([found.params_["a"], found.params_["b"]], best, rtol=1e-7)


@pytest.mark.parametrize("missing", ["params", "predict_fn", "sample_loss"])
def test_what_the_update_cannot_do_without(missing):
    optimizer = levenberg_marquardt()
    x = jnp.ones(2)
    arguments = {
        "params": x,
        "predict_fn": lambda x: x,
        "sample_loss": lambda y: y**2,
    }
    del arguments[missing]
    with pytest.raises(InvalidParameterError, match="predict_fn and sample_loss"):
        optimizer.update(x, optimizer.init(x), **arguments)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"initial_radius": 0.0}, "initial_radius"),
        ({"initial_radius": np.inf}, "initial_radius"),
        ({"max_trials": 0}, "max_trials"),
        ({"max_trials": 2.5}, "max_trials"),
        ({"geodesic": 1}, "geodesic"),
    ],
)
def test_unusable_arguments(arguments, word):
    with pytest.raises(InvalidParameterError, match=word):
        levenberg_marquardt(**arguments)


# Geodesic acceleration.


@pytest.mark.parametrize(
    ("name", "start", "plain", "bent"),
    [("MGH17", "start1", 400, 200), ("Lanczos3", "start1", 80, 50)],
)
def test_acceleration_saves_steps_in_curved_valleys(name, start, plain, bent):
    data = NIST[name]
    values = {f"b{i + 1}": value for i, value in enumerate(data[start])}
    x, y = np.asarray(data["x"]), np.asarray(data["y"])
    model = MODELS[name]

    def fit(**options):
        def predict(state):
            return y, model(x, *(state[k] for k in values))

        run = OptaxOptimizer(
            losses.SampleLoss(predict, losses.SquaredError()),
            levenberg_marquardt(**options),
        )
        state = {k: Parameter(value=np.float64(v)) for k, v in values.items()}
        final, found = run.run(state, max_steps=600)
        return np.array([float(final[k].value) for k in values]), found["history"]

    certified = np.asarray(data["certified"])
    # The three exponentials of Lanczos3 may come in any order.
    rates = [1, 3, 5] if name == "Lanczos3" else []

    def in_order(table):
        table = np.array(table, dtype=float)
        order = np.argsort(table[..., rates], axis=-1)
        for shift in (0, -1) if rates else ():
            columns = np.array(rates) + shift
            table[..., columns] = np.take_along_axis(table[..., columns], order, -1)
        return table

    def steps(history):
        """Count those until the parameters have seven digits."""
        found = in_order(history[list(values)].to_numpy())
        far = np.abs(found / certified - 1).max(axis=1) > 1e-7
        return int(np.flatnonzero(far)[-1]) + 1

    straight_steps = steps(fit()[1])
    found, history = fit(geodesic=True)
    assert_allclose(in_order(found), certified, rtol=1e-8)
    assert straight_steps > plain
    assert steps(history) < bent


def test_the_acceleration_is_that_of_the_definition():
    # One trial from a point where it is small, with everything in closed form:
    # f(t) = exp(-r t), so f'' along p is p^2 t^2 exp(-r t).
    t = np.linspace(0.1, 2.0, 15)
    # The step is as long as the radius, 0.05 of the parameter.
    y, r, radius = 0.9 * np.exp(-1.1 * t), 1.0, 0.05
    f = np.exp(-r * t)
    J, residual = -t * f, f - y
    scale2, p = J @ J, radius * r
    damping = -(J @ residual) / (scale2 * p) - 1
    assert damping > 0
    a = -(J @ (t**2 * f * p**2)) / (scale2 * (1 + damping))
    assert 2 * abs(a) < 0.75 * abs(p)

    def one_step(**options):
        optimizer = levenberg_marquardt(initial_radius=radius, **options)
        x, *_ = minimise(
            lambda x: jnp.exp(-x * t), half_squares(y), r, 1, optimizer=optimizer
        )
        return float(x) - r

    assert_allclose(one_step(), p, rtol=1e-12)
    assert_allclose(one_step(geodesic=True), p + a / 2, rtol=1e-12)


def test_an_acceleration_that_is_no_small_correction_is_left_out():
    # Along exp the second derivative of a step p is p squared; here p is -0.8.
    y = np.array([1.5, 1.5])

    def one_step(**options):
        optimizer = levenberg_marquardt(**options)
        x, *_ = minimise(
            lambda x: jnp.exp(x) * jnp.ones(2),
            half_squares(y),
            2.0,
            1,
            optimizer=optimizer,
        )
        return float(x)

    assert one_step(geodesic=True) == one_step()


def test_accelerated_steps_stay_within_bounds():
    t = np.linspace(0.0, 3.0, 20)
    y = 2.5 * np.exp(-1.3 * t)
    estimator = OptaxEstimator(
        lambda t, a, r: a * jnp.exp(-r * t),
        {"a": 1.0, "r": Parameter(value=0.5, lower=0.0, upper=1.0)},
        optimizer="lm",
        optimizer_kwargs={"geodesic": True},
    ).fit(t[:, None], y)
    best = np.exp(-t) @ y / (np.exp(-t) @ np.exp(-t))
    assert estimator.converged_
    assert estimator.params_["r"] == 1.0
    assert_allclose(estimator.params_["a"], best, rtol=1e-12)
    assert estimator.history_["r"].between(0.0, 1.0).all()
