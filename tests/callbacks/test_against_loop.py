"""Every public callback in a run, against a plain loop that does what it says.

The loop is gradient descent in NumPy with derivatives worked out by hand; an
expectation is computed from its steps in the fewest words. A callback that is new in
``skoptax.callbacks`` fails here until it has an entry in ``CASES``.
"""

import inspect
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import skoptax.callbacks as sc
from skoptax import OptaxEstimator, OptaxOptimizer, Parameter
from skoptax.exceptions import NonFiniteWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
Y = X @ [1.5, -0.5] + 0.1 * RNG.normal(size=12)
STARTS = [(0.5, [0.1, -0.2]), (1.5, [-0.5, 0.8])]
N_STEPS = 23
# Learning rates: a path that goes up and down for long, and one that overflows in a few
# steps (and all at once: the gradient's norm not a step before the loss).
WAVY, DIVERGING = 0.9, 5.0


@dataclass
class Step:
    """The state after a step, and what belongs to it."""

    step: int
    scale: float
    weights: np.ndarray
    loss: float
    grad_scale: float
    grad_weights: np.ndarray


def descend(rate, scale, weights):
    """Return the steps of gradient descent on half the mean squared error."""

    def evaluate(step):
        prediction = X @ weights
        residual = scale * prediction - Y
        return Step(
            step,
            scale,
            weights,
            np.mean(residual**2) / 2,
            np.mean(residual * prediction),
            scale * (X.T @ residual) / len(Y),
        )

    weights = np.array(weights)
    now, steps = evaluate(-1), []
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(N_STEPS):
            scale = scale - rate * now.grad_scale
            weights = weights - rate * now.grad_weights
            now = evaluate(step)
            steps.append(now)
            if not (np.isfinite(now.loss) and np.isfinite(now.grad_weights).all()):
                break  # as OptaxOptimizer does
    return steps


def model(X, scale, weights):
    prediction = scale * (X @ weights)
    return prediction, {"largest": jnp.max(jnp.abs(prediction))}


def loss(state):
    prediction, aux = model(state["x"], state["scale"], state["weights"].value)
    return jnp.mean((prediction - state["y"]) ** 2) / 2, aux


def largest(step):
    return np.max(np.abs(step.scale * (X @ step.weights)))


@dataclass
class Expected:
    """What a callback is to do, given the steps at which it acts."""

    data: dict[str, Any] = field(default_factory=dict)
    stop: int | None = None
    lines: list[str] = field(default_factory=list)


def table(acts, **columns):
    """Return what a DataFrame is to hold: column to (step to value)."""
    return {name: {s.step: value(s) for s in acts} for name, value in columns.items()}


def until(acts, reason):
    """Return the first step with a reason to stop, or None."""
    return next((s.step for s in acts if reason(s)), None)


# Each case: every -> (callback, acts -> Expected).


def callback(every):
    return sc.Callback(every=every), lambda acts: Expected()


def callback_list(every):
    members = [sc.SaveLoss("a", every=every), sc.SaveLoss("b", every=3)]

    def halve(step, diff_state, static_state, *rest):
        # The state is replaced by itself: the members after it get this one.
        return False, dict(diff_state), dict(static_state)

    def last(acts):
        return until([s for s in acts if s.step % 2 == 0], lambda s: s.step >= 10)

    def stop(step, diff_state, static_state, *rest):
        return step >= 10 and step % 2 == 0, diff_state, static_state

    def expect(acts):
        end = last(acts)
        seen = [s for s in acts if end is None or s.step <= end]
        a = [s for s in seen if every is None or s.step % every == 0]
        b = [s for s in seen if s.step % 3 == 0]
        return Expected(
            {"a": table(a, a=lambda s: s.loss), "b": table(b, b=lambda s: s.loss)}, end
        )

    return sc.CallbackList([members[0], halve, members[1], stop]), expect


def save(every):
    def function(step, diff_state, static_state, fitting_data, aux, value, grads):
        assert fitting_data["mine"] is not None
        assert set(static_state) == set(diff_state) == set(grads)
        return step + aux["largest"] + grads["scale"] * value

    return sc.Save("mine", function, every=every), lambda acts: Expected(
        {
            "mine": table(
                acts, mine=lambda s: s.step + largest(s) + s.grad_scale * s.loss
            )
        }
    )


def save_loss(every):
    return sc.SaveLoss(every=every), lambda acts: Expected(
        {"loss": table(acts, loss=lambda s: s.loss)}
    )


def save_parameters(every):
    return sc.SaveParameters(every=every), lambda acts: Expected(
        {
            "parameters": table(
                acts, scale=lambda s: s.scale, weights=lambda s: s.weights
            )
        }
    )


def timing(every):
    # The clock of the test says 0 at the start and goes on by 1 at each look.
    def expect(acts):
        ticks = {s.step: i + 1.0 for i, s in enumerate(acts)}
        return Expected({"time": {"seconds": ticks}})

    return sc.Timing(every=every), expect


def best_seen(every):
    def expect(acts):
        best = min(acts, key=lambda s: s.loss)
        state = {"scale": best.scale, "weights": best.weights}
        data = {"best_state": state, "best_loss": best.loss, "best_step": best.step}
        return Expected(data)

    return sc.BestSeen(every=every), expect


def stop_after_time(every):
    def expect(acts):
        return Expected(stop=acts[3].step if len(acts) > 3 else None)

    return sc.StopAfterTime(3.5, every=every), expect


def stop_at_loss(every):
    limit = 0.1
    return sc.StopAtLoss(limit, every=every), lambda acts: Expected(
        stop=until(acts, lambda s: s.loss <= limit)
    )


def stop_on_no_improvement(every):
    n, tol = 4, 0.2

    def expect(acts):
        best, at = math.inf, -1
        for s in acts:
            if s.loss < best - tol:
                best, at = s.loss, s.step
            elif s.step - at >= n:
                return Expected(stop=s.step)
        return Expected()

    return sc.StopOnNoImprovement(n, tol, every=every), expect


def stop_on_non_finite(every):
    return sc.StopOnNonFinite(every=every), lambda acts: Expected(
        stop=until(acts, lambda s: not np.isfinite(s.loss))
    )


def print_loss(every):
    return sc.PrintLoss(every=every), lambda acts: Expected(
        lines=[f"step {s.step}: loss {s.loss:.6g}" for s in acts]
    )


def entries(array):
    return " ".join(f"{entry:.6g}" for entry in array)


def print_parameters(every):
    return sc.PrintParameters(every=every), lambda acts: Expected(
        lines=[
            f"step {s.step}: scale={s.scale:.6g}, weights=[{entries(s.weights)}]"
            for s in acts
        ]
    )


def print_gradients(every):
    return sc.PrintGradients(every=every), lambda acts: Expected(
        lines=[
            f"step {s.step}: gradient scale={s.grad_scale:.6g}, "
            f"weights=[{entries(s.grad_weights)}]"
            for s in acts
        ]
    )


def print_gradient_norms(every):
    def line(s):
        total = math.sqrt(s.grad_scale**2 + sum(s.grad_weights**2))
        weights = math.sqrt(sum(s.grad_weights**2))
        return (
            f"step {s.step}: gradient norm {total:.6g} "
            f"(scale {abs(s.grad_scale):.6g}, weights {weights:.6g})"
        )

    return sc.PrintGradientNorms(every=every), lambda acts: Expected(
        lines=[line(s) for s in acts]
    )


CASES = {
    "BestSeen": best_seen,
    "Callback": callback,
    "CallbackList": callback_list,
    "PrintGradientNorms": print_gradient_norms,
    "PrintGradients": print_gradients,
    "PrintLoss": print_loss,
    "PrintParameters": print_parameters,
    "Save": save,
    "SaveLoss": save_loss,
    "SaveParameters": save_parameters,
    "StopAfterTime": stop_after_time,
    "StopAtLoss": stop_at_loss,
    "StopOnNoImprovement": stop_on_no_improvement,
    "StopOnNonFinite": stop_on_non_finite,
    "Timing": timing,
}
# Those that let a run outlive its process have tests of that.
ELSEWHERE = {"Checkpoint", "Resume"}
PUBLIC = [
    n for n in sc.__all__ if inspect.isclass(getattr(sc, n)) and n not in ELSEWHERE
]
GRID = list(itertools.product((None, 1, 7), (None, 5)))


def rate_of(name):
    return DIVERGING if name == "StopOnNonFinite" else WAVY


def expectation(name, every, chunk_size, start):
    """Return the expected run: what the callback does, and the run's last step."""
    steps = descend(rate_of(name), *start)
    final = steps[-1].step
    # A list's own every is None here: its members name their steps.
    named = [every, 3] if name == "CallbackList" else [every]
    calls = [
        s
        for s in steps
        if s.step == final
        or (s.step + 1) % (chunk_size or 1) == 0
        or any(k is not None and s.step % k == 0 for k in named)
    ]
    alone = name != "CallbackList" and every is not None
    acts = [s for s in calls if s.step % every == 0] if alone else calls
    expected = CASES[name](every)[1](acts)
    return expected, steps[: (final if expected.stop is None else expected.stop) + 1]


def compare(got, expected):
    """Compare nested dicts of numbers and arrays."""
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, value in expected.items():
            compare(got[key], value)
    else:
        np.testing.assert_allclose(
            np.asarray(got, dtype=float),
            np.asarray(expected, dtype=float),
            rtol=1e-9,
            atol=1e-12,
            strict=True,
        )


def check_collected(data, expected):
    """Compare what was collected: nothing else, and in the form that is promised."""
    assert set(data) == set(expected.data)
    for key, value in expected.data.items():
        if key == "best_state":
            compare({k: v for k, v in data[key].items() if v is not None}, value)
        elif isinstance(value, dict):
            assert data[key].index.name == "step"
            compare(data[key].to_dict(), value)
        else:
            compare(data[key], value)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Make each run's clock say 0, 1, 2, ... ."""

    def start():
        ticks = itertools.count(0.0)
        for module in ("_save", "_stop"):
            monkeypatch.setattr(
                f"skoptax.callbacks.{module}.perf_counter", lambda: next(ticks)
            )

    return start


def test_every_public_callback_has_a_case():
    assert sorted(CASES) == sorted(PUBLIC)


@pytest.mark.parametrize(("every", "chunk_size"), GRID)
@pytest.mark.parametrize("name", PUBLIC)
def test_run(name, every, chunk_size, clock, capsys):
    callback, _ = CASES[name](every)
    optimizer = OptaxOptimizer(
        loss, optax.sgd(rate_of(name)), callback=callback, has_aux=True
    )
    for start in STARTS:  # the same callback again: nothing may be left over
        expected, steps = expectation(name, every, chunk_size, start)
        clock()
        state = {
            "scale": Parameter(value=np.float64(start[0])),
            "weights": Parameter(value=np.array(start[1])),
            "x": X,
            "y": Y,
        }
        final, data = optimizer.run(state, max_steps=N_STEPS, chunk_size=chunk_size)

        assert data["n_steps"] == len(steps)
        assert capsys.readouterr() == ("".join(f"{x}\n" for x in expected.lines), "")
        own = {"history", "n_steps", "status", "message", "aux"}
        check_collected({k: data[k] for k in data.keys() - own}, expected)
        if name == "StopOnNonFinite":
            # The optimiser stops there too, and goes back to the last finite state.
            assert data["status"] == "non_finite"
            assert (callback.message is None) is (expected.stop is None)
            compare(float(final["scale"]), steps[-2].scale)
        else:
            stopped = expected.stop is not None
            assert data["status"] == ("callback" if stopped else "max_steps")
            if stopped:
                assert data["message"] == callback.message
                assert f"after step {expected.stop}" in data["message"]
            else:
                assert callback.message is None
            compare(float(final["scale"]), steps[-1].scale)
            compare(np.asarray(final["weights"]), steps[-1].weights)
    assert not jax.config.jax_enable_x64


def attributes(callback):
    """Return what a callback and its members hold."""
    members = getattr(callback, "callbacks", [])
    return [dict(vars(c)) for c in [callback, *members]]


@pytest.mark.parametrize(("every", "chunk_size"), GRID)
@pytest.mark.parametrize("name", PUBLIC)
def test_fit(name, every, chunk_size, clock, capsys):
    callback, _ = CASES[name](every)
    before = attributes(callback)
    estimator = OptaxEstimator(
        model,
        optimizer=optax.sgd(rate_of(name)),
        max_steps=N_STEPS,
        tol=0.0,
        has_aux=True,
        callbacks=[callback],
        chunk_size=chunk_size,
    )
    for start in STARTS:
        expected, steps = expectation(name, every, chunk_size, start)
        estimator.set_params(params={"scale": start[0], "weights": np.array(start[1])})
        clock()
        if name == "StopOnNonFinite":
            with pytest.warns(NonFiniteWarning):
                estimator.fit(X, Y)
            if expected.stop is None:  # it was not to look, and the fit has gone on
                assert estimator.status_ == "max_steps"
                continue
            assert estimator.status_ == "non_finite"
        else:
            estimator.fit(X, Y)
            stopped = expected.stop is not None
            assert estimator.status_ == ("callback" if stopped else "max_steps")
            if stopped:
                assert f"after step {expected.stop}" in estimator.message_
            last = {"scale": steps[-1].scale, "weights": steps[-1].weights}
            compare(estimator.params_, last)
        assert estimator.n_iter_ == len(steps)
        assert capsys.readouterr() == ("".join(f"{x}\n" for x in expected.lines), "")
        check_collected(estimator.fitting_data_, expected)
        # The fit worked on a copy.
        assert attributes(callback) == before


def test_the_cases_are_telling():
    """The paths go up and down, and each stopping callback stops within the run."""
    for start in STARTS:
        losses = [s.loss for s in descend(WAVY, *start)]
        assert len(losses) == N_STEPS
        assert 5 < sum(a < b for a, b in itertools.pairwise(losses)) < 18
        assert len(descend(DIVERGING, *start)) < 10
    for name in PUBLIC:
        if name.startswith("Stop"):
            stops = {
                expectation(name, every, chunk_size, start)[0].stop
                for every, chunk_size in GRID
                for start in STARTS
            }
            assert len(stops - {None, N_STEPS - 1}) > 1, name


def test_hand_made_gradient():
    """The loop's derivatives are those of its loss, by central differences."""
    start = np.array([0.7, 0.3, -0.4])
    half = descend(0.0, start[0], start[1:])[0]
    for i, expected in enumerate([half.grad_scale, *half.grad_weights]):
        shift = np.eye(3)[i] * 1e-6
        up, down = (
            descend(0.0, p[0], p[1:])[0].loss for p in (start + shift, start - shift)
        )
        assert (up - down) / 2e-6 == pytest.approx(expected, rel=1e-7)


def test_the_users_units():
    """With a transform and a scale, all but the gradient is in the user's units."""
    rate, scale, value = 0.02, 5.0, 0.5
    values, gradients = [], []
    inner = math.log(value) / scale
    for _ in range(N_STEPS):
        inner -= rate * 2 * (value - 3.0) * value * scale
        value = math.exp(inner * scale)
        values.append(value)
        gradients.append(2 * (value - 3.0) * value * scale)

    optimizer = OptaxOptimizer(
        lambda state: (state["rate"] - 3.0) ** 2,
        optax.sgd(rate),
        callback=sc.CallbackList(
            [
                sc.SaveParameters(),
                sc.Save("gradient", lambda step, *rest: rest[5]["rate"]),
                sc.BestSeen(),
            ]
        ),
    )
    start = Parameter(value=np.float64(0.5), transform="log", scale=scale)
    _, data = optimizer.run({"rate": start}, max_steps=N_STEPS)
    np.testing.assert_allclose(data["parameters"]["rate"], values, rtol=1e-9)
    np.testing.assert_allclose(data["gradient"]["gradient"], gradients, rtol=1e-7)
    best = data["best_state"]["rate"]
    assert best.transform == "log"
    assert float(best) == data["parameters"]["rate"][data["best_step"]]
    assert data["best_loss"] == pytest.approx((float(best) - 3.0) ** 2, rel=1e-9)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_what_was_collected_survives_an_exception(error):
    kept = {}

    def fail(step, diff_state, static_state, fitting_data, *rest):
        kept["data"] = fitting_data
        if step == 4:
            raise error("enough")
        return False, diff_state, static_state

    optimizer = OptaxOptimizer(
        lambda state: (state["x"] - 3.0) ** 2,
        optax.sgd(0.25),
        callback=sc.CallbackList([sc.SaveLoss(every=2), fail]),
    )
    with pytest.raises(error, match="enough"):
        optimizer.run({"x": Parameter(value=1.0)}, max_steps=N_STEPS)
    assert kept["data"]["loss"]["loss"].to_dict() == {0: 1.0, 2: 0.0625, 4: 2.0**-8}
