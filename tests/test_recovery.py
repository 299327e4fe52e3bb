"""Fits that meet a step that is not finite, beside the same rule in NumPy."""

from __future__ import annotations

import copy
import threading
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skoptax
from skoptax import OptaxEstimator, Parameter
from skoptax._compiled_loop import CompiledLoop
from skoptax._driver import Run
from skoptax._loop import HISTORY_ROWS
from skoptax.callbacks import Callback, Checkpoint, Resume, StopOnNonFinite
from skoptax.exceptions import NonFiniteWarning

MOST = 10
T = np.linspace(0.0, 3.0, 60)
X = T[:, None]
Y = 1.5 - 0.4 * T + 0.05 * np.random.default_rng(0).normal(size=60)
SLOPE, LEVEL = np.polyfit(T, Y, 1)


def fit(model, params, X=X, y=Y, **arguments):
    """Fit, and return the estimator with what it warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = OptaxEstimator(model, params, **arguments).fit(X, y)
    assert all(isinstance(w.message, NonFiniteWarning) for w in told)
    assert len(told) <= 1
    return found, [str(w.message) for w in told]


def line(t, level, slope):
    return level + slope * t


def root(t, a):
    return jnp.sqrt(a) * t  # NaN below 0, of an infinite slope at 0


def above(t, a):
    return jnp.sqrt(a - t)  # NaN for rows above a


# The rule.


class SGD:
    def __init__(self, momentum=0.0):
        self.momentum, self.trace = momentum, 0.0

    def update(self, rate, gradient):
        found = SGD(self.momentum)
        found.trace = gradient + self.momentum * self.trace
        return -rate * found.trace, found


class Adam:
    def __init__(self, mean=0.0, square=0.0, count=0):
        self.mean, self.square, self.count = mean, square, count

    def update(self, rate, gradient):
        mean = 0.9 * self.mean + 0.1 * gradient
        square = 0.999 * self.square + 0.001 * gradient**2
        count = self.count + 1
        step = mean / (1 - 0.9**count)
        step /= np.sqrt(square / (1 - 0.999**count)) + 1e-8
        return -rate * step, Adam(mean, square, count)


class Sign:
    def update(self, rate, gradient):
        return -rate * np.sign(gradient), self


def half_square(predict, slopes, t=T, y=Y):
    """Return the objective and its gradient, of some rows."""

    def at(x, rows=slice(None)):
        residual = predict(t[rows], *x) - y[rows]
        gradient = [np.mean(residual * s) for s in slopes(t[rows], *x)]
        return 0.5 * np.mean(residual**2), np.array(gradient)

    return at


def by_hand(at, start, optimizer, rate, n, batches=None):
    """
    Make the steps of a fit.

    Step k evaluates batch k, and goes from there to step k + 1. Where that is not
    finite, the next step is made from the best state, with a tenth of the rate; from
    the start, if that state is not finite for the rows of this batch.
    """
    per_epoch = 1 if batches is None else len(batches)

    def rows(k):
        return () if batches is None else (batches[k % per_epoch],)

    x, shrinks, hopeless = np.array(start, float), 0, False
    best = epoch = 0
    lowest = lowest_mean = np.inf
    states, taken, path = [], [], []
    finite = True
    for k in range(n + 1):
        if k:
            if not finite:
                if shrinks == MOST:
                    break
                for back in (max(best, epoch), 0):
                    x, optimizer, value, gradient = states[back]
                    if batches is not None:
                        value, gradient = at(x, *rows(k - 1))
                    finite = np.isfinite(value) and np.isfinite(gradient).all()
                    if finite:
                        break
                if not finite:
                    hopeless = True
                    break
                if back == 0:
                    # No state so far is known to be one for all rows.
                    best = epoch = k - 1
                    lowest, lowest_mean = value, np.inf
                    states[-1] = (x, optimizer, value, gradient)
                shrinks += 1
                taken[-1] = value
            step, optimizer = optimizer.update(rate * 10.0**-shrinks, gradient)
            x = x + step
        value, gradient = at(x, *rows(k))
        finite = np.isfinite(value) and np.isfinite(gradient).all()
        if finite and value < lowest:
            best, lowest = k, value
        if batches is not None and k and k % per_epoch == 0:
            mean = np.mean(taken[-per_epoch:])
            if finite and mean < lowest_mean:
                epoch, lowest_mean = k, mean
        states.append((x, optimizer, value, gradient))
        taken.append(value)
        path.append((rate * 10.0**-shrinks if k else np.nan, value, *x))
    return np.array(path), shrinks, hopeless


LINE = half_square(lambda t, a, b: a + b * t, lambda t, a, b: (1, t))
ROOT = half_square(
    lambda t, a: np.sqrt(a) * t,
    lambda t, a: (np.divide(0.5 * t, np.sqrt(a)),),
    y=T,
)
BATCH = 12
ROWS = [np.arange(i, i + BATCH) for i in range(0, 60, BATCH)]
# Only the last batch has rows above 2.4; the start is far above.
SHIFTED_Y = np.sqrt(3.3 - T) + 0.05 * np.random.default_rng(1).normal(size=60)
SHIFTED = half_square(
    lambda t, a: np.sqrt(a - t), lambda t, a: (0.5 / np.sqrt(a - t),), y=SHIFTED_Y
)
CASES = {
    "sgd": (line, {"level": 0.0, "slope": 0.0}, LINE, SGD(), "sgd", 3e5, {}),
    "momentum": (
        line,
        {"level": 0.0, "slope": 0.0},
        LINE,
        SGD(0.5),
        "sgd",
        2e5,
        {"momentum": 0.5},
    ),
    "adam": (root, {"a": 4.0}, ROOT, Adam(), "adam", 5e4, {}),
    # Blocks of steps end at 4,096.
    "late": (root, {"a": 1.00013}, ROOT, Sign(), "sign_sgd", 2e-4, {}),
}


def finite_and_not(history):
    return np.isfinite(history["loss"]) & np.isfinite(history["grad_norm"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_beside_the_rule_in_numpy(name):
    model, start, at, optimizer, factory, rate, more = CASES[name]
    steps = 5012 if name == "late" else 1500
    y = {"adam": T, "late": -T}.get(name, Y)
    if name == "late":  # it crosses 0 after 5,000 steps
        at = half_square(
            lambda t, a: np.sqrt(a) * t,
            lambda t, a: (np.divide(0.5 * t, np.sqrt(a)),),
            y=-T,
        )
    found, told = fit(
        model,
        start,
        y=y,
        optimizer=factory,
        optimizer_kwargs=more,
        learning_rate=rate,
        max_steps=steps,
    )
    path, shrinks, _ = by_hand(at, list(start.values()), optimizer, rate, steps)
    history = found.history_
    assert len(history) == len(path)
    assert found.n_iter_ == len(path) - 1
    columns = ["learning_rate", "loss", *start]
    assert_array_equal(np.isfinite(history["loss"]), np.isfinite(path[:, 1]))
    assert_allclose(history[columns], path, rtol=1e-8, atol=1e-12)
    rates = history["learning_rate"][1:].drop_duplicates().to_numpy()
    assert_allclose(rates, rate * 10.0 ** -np.arange(shrinks + 1), rtol=1e-15)
    assert shrinks > 0
    [text] = told
    bad = np.flatnonzero(~finite_and_not(history))
    assert f"not finite at step {bad[0]}" in text
    if len(bad) > 1:
        assert f"and {len(bad) - 1} more times" in text
    assert f"steps of {10.0**-shrinks:g} of their usual" in text
    assert "smaller learning rate" in text
    assert "clipped" in text
    assert found.message_ in text
    report = " ".join(str(found.report()).split())
    assert found.message_ in report
    if name in ("sgd", "momentum"):
        assert_allclose(list(found.params_.values()), [LEVEL, SLOPE], rtol=1e-9)
    if name == "adam":
        assert_allclose(found.params_["a"], 1.0, rtol=1e-6)
    assert found.status_ == "max_steps"


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(3e5),
        optax.chain(optax.trace(0.0), optax.scale(-3e5)),
        optax.inject_hyperparams(optax.sgd)(learning_rate=3e5),
        lambda learning_rate: optax.sgd(optax.constant_schedule(3e5)),
    ],
    ids=["finished", "chain", "injected", "factory"],
)
def test_any_optimiser_is_shrunk_as_by_its_rate(optimizer):
    start = {"level": 0.0, "slope": 0.0}
    found, told = fit(line, start, optimizer=optimizer, max_steps=1500)
    expected, _ = fit(line, start, optimizer="sgd", learning_rate=3e5, max_steps=1500)
    assert len(told) == 1
    bad = ~np.isfinite(expected.history_["loss"])
    assert bad.sum() == 6
    both = [f.history_[["loss", "level", "slope"]] for f in (found, expected)]
    assert_array_equal(np.isfinite(both[0]["loss"]), ~bad)
    assert_allclose(*both, rtol=1e-8)
    assert_allclose(list(found.params_.values()), [LEVEL, SLOPE], rtol=1e-9)
    if "learning_rate" in found.history_ and not callable(optimizer):
        rates = [f.history_["learning_rate"][1:] for f in (found, expected)]
        assert_allclose(*rates, rtol=1e-12)


def test_an_optimiser_whose_state_has_scaled_steps_recovers():
    # A smaller learning rate would leave the momentum of the longer steps as it is.
    y = np.sqrt(3.05 - T)
    found, told = fit(
        above, {"a": 6.0}, y=y, optimizer="lars", learning_rate=30.0, max_steps=1500
    )
    assert len(told) == 1
    assert found.status_ == "max_steps"
    assert_allclose(found.params_["a"], 3.05, atol=0.02)


def test_a_schedule_goes_on_where_it_was():
    # The rate of a step is that of the steps that count before it, shrunk.
    schedule = optax.exponential_decay(0.2, 1, 0.99)
    arguments = {"y": -T, "optimizer": "sgd", "max_steps": 60}
    found, told = fit(root, {"a": 1.0}, learning_rate=schedule, **arguments)
    history = found.history_
    bad = np.flatnonzero(~finite_and_not(history))
    assert len(bad) >= 2
    assert len(told) == 1
    count, shrinks, expected = 0, 0, [np.nan]
    best, lowest = 0, history["loss"][0]
    counts = [0]
    for k in range(1, len(history)):
        if k - 1 in bad:
            count, shrinks = counts[best], shrinks + 1
        expected.append(0.2 * 0.99**count * 10.0**-shrinks)
        count += 1
        counts.append(count)
        if history["loss"][k] < lowest:
            best, lowest = k, history["loss"][k]
    # (Optax computes a schedule in single precision.)
    assert_allclose(history["learning_rate"], expected, rtol=1e-6)


# Endings.


def trap(t, a):
    # Finite nowhere but at 1.
    return a * t + jnp.expm1(1e40 * (a - 1.0) ** 2)


def test_a_model_that_overflows_everywhere_but_at_the_start():
    found, [text] = fit(trap, {"a": 1.0}, optimizer="adam", learning_rate=0.1)
    assert found.status_ == "non_finite"
    assert found.n_iter_ == MOST + 1
    assert found.params_ == {"a": 1.0}
    assert found.selected_step_ == 0
    assert found.loss_ == found.history_["loss"][0]
    assert not np.isfinite(found.history_["loss"][1:]).any()
    away = np.abs(found.history_["a"][1:] - 1.0)
    assert_allclose(away, 0.1 * 10.0 ** -np.arange(11.0), rtol=1e-4)
    assert "after it went back 10 times and on with shorter steps" in text
    assert "at last of 1e-10 of their usual length" in text
    assert "the result is that of step 0" in text


def test_the_last_step_is_not_finite():
    # No step is left to go on with, and the result is the best state.
    found, [text] = fit(
        line,
        {"level": 0.0, "slope": 0.0},
        optimizer="sgd",
        learning_rate=3e5,
        max_steps=26,
    )
    assert found.status_ == "non_finite"
    assert found.n_iter_ == 26
    assert found.selected_step_ == found.history_["loss"].idxmin() == 0
    assert found.params_ == {"level": 0.0, "slope": 0.0}
    assert "went back" not in text


def stop_at_90(step, diff, static, *rest):
    return step == 89, diff, static


@pytest.mark.parametrize(
    ("status", "more"),
    [
        ("max_steps", {"max_steps": 100}),
        ("max_steps", {"max_steps": 100, "batch_size": 30, "shuffle": False}),
        ("no_improvement", {"n_iter_no_change": 60}),
        ("callback", {"callbacks": stop_at_90}),
    ],
    ids=["max_steps", "batches", "no_improvement", "callback"],
)
def test_the_end_comes_before_the_steps_are_short_enough(status, more):
    # With 30 in place of 300 it still diverges, and has not overflown yet.
    found, [text] = fit(
        line,
        {"level": 0.0, "slope": 0.0},
        optimizer="sgd",
        learning_rate=300.0,
        **more,
    )
    history = found.history_
    assert found.status_ == status
    assert len(history) - 1 == found.n_iter_
    assert history["loss"].iloc[-1] > 1e30
    # Of batches, the end of the first epoch, whose mean loss is the lowest.
    best = 2 if "batch_size" in more else history["loss"].idxmin()
    assert found.selected_step_ == best
    assert found.params_ == history.loc[best, ["level", "slope"]].to_dict()
    if "batch_size" not in more:
        assert found.loss_ == history["loss"].min()
    assert f"the result is that of step {best}." in text
    assert "It ended above its best" in found.message_


@pytest.mark.parametrize("optimizer", ["lbfgs", "lm", optax.lbfgs()])
def test_those_that_try_shorter_steps_themselves(optimizer):
    start = {"level": 0.0, "slope": 0.0}
    found, told = fit(line, start, optimizer=optimizer, max_steps=50)
    assert told == []
    assert_allclose(list(found.params_.values()), [LEVEL, SLOPE], rtol=1e-6)


def test_many_starts_end_where_they_are_not_finite():
    found, _ = fit(
        root,
        {"a": 4.0},
        y=T,
        optimizer="sgd",
        learning_rate=1e3,
        n_starts=3,
        random_state=0,
    )
    assert set(found.starts_["status"]) == {"non_finite"}
    assert "went back" not in found.message_


# Programs.


@pytest.mark.parametrize("rows", [{}, {"batch_size": BATCH, "shuffle": False}])
def test_nothing_is_compiled_again(rows):
    def model(t, a):
        return jnp.sqrt(a - t) + 0.0

    arguments = {"optimizer": "sgd", "max_steps": 30, "y": SHIFTED_Y} | rows
    fit(model, {"a": 6.0}, learning_rate=0.1, **arguments)
    before = skoptax.cache_info().compilations
    for rate in (16.0, 20.0, 40.0, 1e3):
        _, told = fit(model, {"a": 6.0}, learning_rate=rate, **arguments)
        assert len(told) == 1
    assert skoptax.cache_info().compilations == before


FINITE = {
    "adam": {"optimizer": "adam", "learning_rate": 0.05},
    "schedule": {
        "optimizer": "sgd",
        "learning_rate": optax.cosine_decay_schedule(1, 60),
    },
    "finished": {"optimizer": optax.adam(0.05)},
    "accumulated": {"optimizer": optax.MultiSteps(optax.adam(0.05), 3)},
    "batches": {"optimizer": optax.sgd(0.1, 0.9), "batch_size": 16},
    "single": {"optimizer": optax.adam(0.05), "dtype": "float32"},
}


@pytest.mark.parametrize("name", FINITE)
def test_finite_fits_are_those_of_a_loop_without_it(name, monkeypatch):
    def fitted():
        start = {"level": 0.0, "slope": np.zeros(())}
        arguments = {"max_steps": 90, "random_state": 0} | FINITE[name]
        return OptaxEstimator(line, start, **arguments).fit(X, Y)

    found = fitted()
    monkeypatch.setattr(skoptax._fitting, "MOST_SETBACKS", 0)
    expected = fitted()
    assert found.history_.equals(expected.history_)
    assert found.params_ == expected.params_
    assert found.message_ == expected.message_


# Batches and held-out rows.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("rate", [16.0, 20.0, 40.0, 200.0])
def test_batches_beside_the_rule_in_numpy(rate):
    arguments = {"batch_size": BATCH, "shuffle": False, "max_epochs": 12}
    found, told = fit(
        above,
        {"a": 6.0},
        y=SHIFTED_Y,
        optimizer="sgd",
        learning_rate=rate,
        **arguments,
    )
    path, shrinks, hopeless = by_hand(SHIFTED, [6.0], SGD(), rate, 60, ROWS)
    assert shrinks > 0 or hopeless
    history = found.history_[["learning_rate", "loss", "a"]]
    assert_allclose(history, path, rtol=1e-9)
    assert (found.status_ == "non_finite") == hopeless
    assert len(told) == 1
    assert np.isfinite(found.params_["a"])


def test_rows_that_no_parameters_help():
    def model(t, a):
        return a * jnp.sqrt(t + 1.0)

    x = X.copy()
    x[40] = -2.0  # in batch 3
    found, [text] = fit(
        model,
        {"a": 3.0},
        x,
        optimizer="adam",
        learning_rate=0.1,
        batch_size=BATCH,
        shuffle=False,
    )
    history = found.history_
    assert found.status_ == "non_finite"
    assert found.n_iter_ == 3
    assert_array_equal(np.isfinite(history["loss"]), [True, True, True, False])
    assert "finite neither at the best parameters nor at the start" in text
    assert found.selected_step_ == history["loss"].idxmin()
    assert found.params_["a"] == history["a"][found.selected_step_]


def test_held_out_rows_choose_where_to_go_back_to():
    found, told = fit(
        above,
        {"a": 6.0},
        y=SHIFTED_Y,
        optimizer="sgd",
        learning_rate=1.0,
        optimizer_kwargs={"momentum": 0.9},
        early_stopping=True,
        n_iter_no_change=200,
        random_state=0,
        max_steps=150,
    )
    history = found.history_
    bad = np.flatnonzero(~finite_and_not(history))
    assert len(bad) > 0
    assert len(told) == 1
    best = history["val_loss"].idxmin()
    assert found.selected_step_ == best
    assert found.params_["a"] == history["a"][best]
    # The steps after each of them are made from the best before.
    for k in bad:
        before = history["val_loss"][:k].idxmin()
        first = abs(history["a"][k + 1] - history["a"][before])
        assert first <= 0.11 * abs(history["a"][before + 1] - history["a"][before])
        assert first > 0


@pytest.mark.parametrize(
    ("rows", "per_epoch"),
    [
        ({}, 1),
        ({"early_stopping": True, "random_state": 0}, 1),
        ({"batch_size": 30, "shuffle": False}, 2),
    ],
    ids=["all rows", "held-out rows", "batches"],
)
def test_steps_that_are_undone_take_no_patience(rows, per_epoch):
    found, told = fit(
        line,
        {"level": 0.0, "slope": 0.0},
        optimizer="sgd",
        learning_rate=300.0,
        n_iter_no_change=60,
        max_steps=3000,
        **rows,
    )
    assert len(told) == 1
    assert found.status_ == "no_improvement"
    # Shorter steps go wrong, too, and no step after the last setback is a new best.
    bad = np.flatnonzero(~finite_and_not(found.history_))
    column = "val_loss" if "early_stopping" in rows else "loss"
    assert found.history_[column].idxmin() < bad[0]
    assert found.n_iter_ == bad[-1] + 60 * per_epoch


# Blocks of steps, callbacks and checkpoints.

UNSTEADY = {
    "all rows": {"optimizer": "sgd", "learning_rate": 0.2, "max_steps": 60},
    "finished": {"optimizer": optax.adam(0.3), "max_steps": 60},
    "batches": {
        "optimizer": "sgd",
        "learning_rate": 40.0,
        "batch_size": BATCH,
        "max_steps": 60,
    },
    "held-out rows": {
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "optimizer_kwargs": {"momentum": 0.9},
        "early_stopping": True,
        "n_iter_no_change": 100,
        "max_steps": 60,
    },
}


def unsteady(name, **more):
    is_root = name in ("all rows", "finished")
    model, start, y = root, {"a": 1.0}, -T
    if not is_root:
        model, start, y = above, {"a": 6.0}, SHIFTED_Y
    arguments = {"random_state": 1} | UNSTEADY[name] | more
    return fit(model, start, y=y, **arguments)


def assert_same(one, other):
    assert one.history_.equals(other.history_)
    assert one.params_ == other.params_
    assert one.message_ == other.message_
    assert one.selected_step_ == other.selected_step_


@pytest.mark.parametrize("name", UNSTEADY)
def test_a_killed_fit_goes_on_as_if_it_had_not_been(name, tmp_path):
    whole, told = unsteady(name)
    bad = np.flatnonzero(~finite_and_not(whole.history_))
    assert len(bad) > 0
    assert len(told) == 1
    # Before the first one, at it, between it and the next one, and after all.
    for end in {bad[0] - 1, bad[0], bad[0] + 2, bad[-1], 50}:
        folder = tmp_path / str(end)
        callbacks = [Checkpoint(folder, every=3), Resume(folder)]
        unsteady(name, callbacks=callbacks, max_steps=int(end))
        again, _ = unsteady(name, callbacks=callbacks)
        assert_same(again, whole)


@pytest.mark.parametrize("end", [1, 4, 5])
def test_a_killed_fit_that_went_on_from_another_one(end, tmp_path):
    # Adam knows gradients from a fit before, which has made next to no steps.
    first, _ = fit(
        above,
        {"a": 6.0},
        y=SHIFTED_Y,
        optimizer="adam",
        learning_rate=1e-9,
        batch_size=BATCH,
        shuffle=False,
        max_epochs=2,
        warm_start=True,
        random_state=0,
    )
    before = first.history_["a"].iloc[-1]
    first.set_params(learning_rate=1.1, max_epochs=6)
    whole = quietly(copy.deepcopy(first).fit, X, SHIFTED_Y)
    history = whole.history_
    assert np.flatnonzero(~finite_and_not(history)).tolist() == [4]
    assert "went back, to step 0 at last" in whole.message_
    # Its first step from there is as long as the rate: the optimiser is new.
    assert_allclose(history["a"][5], before - 0.11, rtol=1e-6)
    callbacks = [Checkpoint(tmp_path, every=1), Resume(tmp_path)]
    part, again = copy.deepcopy(first), copy.deepcopy(first)
    part.set_params(callbacks=callbacks, max_epochs=None, max_steps=end)
    quietly(part.fit, X, SHIFTED_Y)
    quietly(again.set_params(callbacks=callbacks).fit, X, SHIFTED_Y)
    assert_same(again, whole)


class Steps(Callback):
    """Collect what it is called with."""

    def on_step(self, step, diff_state, static_state, data, aux, loss, grads):
        SEEN.append((step, float(loss), float(diff_state["a"])))


SEEN: list[tuple[int, float, float]] = []


@pytest.mark.parametrize("name", UNSTEADY)
def test_callbacks_and_blocks_change_nothing(name, monkeypatch):
    whole, _ = unsteady(name)
    SEEN.clear()
    found, _ = unsteady(name, callbacks=Steps())
    assert_same(found, whole)
    history = whole.history_
    steps, losses, values = map(np.array, zip(*SEEN, strict=True))
    assert_array_equal(steps, np.arange(whole.n_iter_))
    assert_array_equal(losses, history["loss"][1:])
    assert_array_equal(values, history["a"][1:])
    SEEN.clear()
    assert_same(unsteady(name, callbacks=Steps(), chunk_size=7)[0], whole)
    # Those not finite are seen in any case.
    bad = np.flatnonzero(~finite_and_not(history))
    assert set(bad - 1) <= {step for step, *_ in SEEN}
    monkeypatch.setattr(skoptax._program, "SECONDS_PER_BLOCK", 0.0)
    assert_same(unsteady(name)[0], whole)


def test_a_callback_may_end_or_rescue_a_fit():
    whole, _ = unsteady("all rows")
    bad = np.flatnonzero(~finite_and_not(whole.history_))
    found, [text] = unsteady("all rows", callbacks=StopOnNonFinite())
    assert found.status_ == "non_finite"
    assert found.n_iter_ == bad[0]
    assert "The loss is nan" in text

    def rescue(step, diff, static, data, aux, loss, grads):
        if not np.isfinite(loss):
            diff = {"a": diff["a"].with_fields(value=0.5)}
        return False, diff, static

    found, told = unsteady("all rows", callbacks=rescue, max_steps=int(bad[0]) + 1)
    assert found.history_["a"][bad[0]] == 0.5
    assert told == []


def test_what_a_callback_puts_in_is_where_to_go_back_to():
    def lift(step, diff, static, *rest):
        return (
            False,
            {"a": diff["a"].with_fields(value=4.0)} if step == 2 else diff,
            static,
        )

    # The start is the optimum, which is not what the callback wants.
    found, told = fit(
        root,
        {"a": 1.0},
        y=T,
        optimizer="sgd",
        learning_rate=20.0,
        callbacks=lift,
        max_steps=6,
    )
    slope = 0.25 * np.mean(T**2)
    expected = [1.0, 1.0, 1.0, 4.0, 4.0 - 20.0 * slope, 4.0 - 2.0 * slope]
    assert_allclose(found.history_["a"][:6], expected, rtol=1e-12)
    assert len(told) == 1


def clip(step, diff, static, *rest):
    value = np.minimum(np.asarray(diff["a"].value), 10.0)
    return False, {"a": diff["a"].with_fields(value=value)}, static


def put_below(step, diff, static, data, aux, loss, grads):
    if not np.isfinite(loss):
        diff = {"a": diff["a"].with_fields(value=-5.0)}
    return False, diff, static


@pytest.mark.parametrize("callback", [clip, put_below])
def test_a_callback_that_cannot_rescue_a_fit(callback):
    whole, _ = unsteady("all rows")
    found, told = unsteady("all rows", callbacks=callback)
    assert len(told) == 1
    assert found.n_iter_ == whole.n_iter_
    columns = ["loss", "learning_rate", "grad_norm"]
    assert_array_equal(found.history_[columns], whole.history_[columns])
    assert found.params_ == whole.params_
    last = np.flatnonzero(~finite_and_not(whole.history_))[0]
    found, told = unsteady("all rows", callbacks=callback, max_steps=int(last))
    assert found.status_ == "non_finite"
    assert found.selected_step_ < last

    def loss(state):
        return jnp.mean((root(T, state["a"].value) + T) ** 2)

    state = {"a": skoptax.Parameter(value=1.0)}
    _, data = skoptax.OptaxOptimizer(loss, optax.sgd(0.2), callback).run(state, 60)
    assert data["status"] == "non_finite"
    assert data["n_steps"] < 10


@pytest.mark.parametrize("rebuild", [np.asarray, float, lambda x: np.array(x) + 0.0])
def test_equal_values_that_a_callback_puts_in_change_nothing(rebuild):
    def same(step, diff, static, *rest):
        value = rebuild(diff["a"].value)
        return False, {"a": diff["a"].with_fields(value=value)}, static

    for name in ("finished", "batches"):
        assert_same(unsteady(name, callbacks=same)[0], unsteady(name)[0])


class Interrupting:
    """Raises a Ctrl-C where the host waits for some block of steps."""

    def __init__(self, monkeypatch, at):
        self.at, self.calls, usual = at, 0, Run._count

        def count(run):
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
            usual(run)

        monkeypatch.setattr(Run, "_count", count)


@pytest.mark.parametrize("at", [1, 2, 3, 5, 7])
def test_ctrl_c_while_the_host_waits(at, tmp_path, monkeypatch):
    whole, _ = unsteady("all rows")
    callbacks = [Checkpoint(tmp_path, every=1000), Resume(tmp_path)]
    with monkeypatch.context() as patches:
        Interrupting(patches, at)
        with pytest.raises(KeyboardInterrupt):
            unsteady("all rows", callbacks=callbacks)
    assert_same(unsteady("all rows", callbacks=callbacks)[0], whole)


def lifted_root(t, a, lift):
    return root(t, a) + lift


def put_another(step, diff, static, data, aux, loss, grads):
    """Put another state in the place of one that is not finite."""
    if np.isfinite(loss):
        return False, diff, static
    # What is fixed is not in the loop's carry: only the run's task has it.
    static = static | {"lift": static["lift"].with_fields(value=2.0)}
    return False, diff | {"a": diff["a"].with_fields(value=4.0)}, static


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("chunk_size", [1, 100])
def test_ctrl_c_while_a_state_is_evaluated_that_was_put_in(
    when, chunk_size, monkeypatch
):
    usual = CompiledLoop.enter

    def enter(loop, *arguments):
        is_other = float(loop.task.state["lift"].value) == 2.0
        if is_other and when == "before":
            raise KeyboardInterrupt
        found = usual(loop, *arguments)
        if is_other:
            raise KeyboardInterrupt  # what it has found is lost
        return found

    spec = {"a": 1.0, "lift": Parameter(value=0.25, free=False)}
    arguments = {"callbacks": put_another, "chunk_size": chunk_size}
    found = OptaxEstimator(lifted_root, spec, **UNSTEADY["all rows"] | arguments)
    monkeypatch.setattr(CompiledLoop, "enter", enter)
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, -T)
    history = found.history_
    losses = history["loss"].to_numpy()
    assert found.status_ == "interrupted"
    # The fit has ended at the step that was not finite, the first one.
    assert len(history) == found.n_iter_ + 1 > 2
    assert_array_equal(np.isfinite(losses), np.arange(len(losses)) < found.n_iter_)
    best = int(np.nanargmin(losses))
    assert found.selected_step_ == best
    assert found.params_ == {"a": history["a"][best], "lift": 0.25}

    def at(a):
        return 0.5 * np.mean((np.sqrt(a) * T + 0.25 + T) ** 2)

    assert_allclose(losses[:-1], [at(a) for a in history["a"][:-1]], rtol=1e-12)
    assert_allclose(found.loss_, at(found.params_["a"]), rtol=1e-12)
    assert_allclose(found.predict(X), np.sqrt(history["a"][best]) * T + 0.25)
    assert (history["lift"] == 0.25).all()


def test_ctrl_c_while_a_state_is_evaluated_after_a_full_history(monkeypatch):
    usual, last = CompiledLoop.enter, HISTORY_ROWS - 1

    def put(step, diff, static, *rest):
        value = 9.0 if step == last - 1 else diff["a"].value
        return False, {"a": diff["a"].with_fields(value=value)}, static

    def enter(loop, *arguments):
        if float(loop.task.state["a"].value) == 9.0:
            raise KeyboardInterrupt
        return usual(loop, *arguments)

    arguments = {"optimizer": "sgd", "learning_rate": 1e-3, "max_steps": 2 * last}
    arguments |= {"chunk_size": last, "callbacks": put}
    found = OptaxEstimator(root, {"a": 4.0}, **arguments)
    monkeypatch.setattr(CompiledLoop, "enter", enter)
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, T)
    assert found.status_ == "interrupted"
    assert found.n_iter_ == last
    path = found.history_["a"].to_numpy()
    expected, a = [], 4.0
    for _ in range(last + 1):
        expected.append(a)
        a -= 1e-3 * 0.5 * np.mean(T**2) * (1 - 1 / np.sqrt(a))
    assert_allclose(path, expected, rtol=1e-10)
    assert found.params_ == {"a": path[-1]}


def test_ctrl_c_while_the_best_state_is_made(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    arguments = {"optimizer": "sgd", "learning_rate": 300.0, "max_steps": 100}
    found = OptaxEstimator(line, {"level": 0.0, "slope": 0.0}, **arguments)
    monkeypatch.setattr(skoptax._recovery.Recovery, "_best", interrupted)
    # It raises where the fit goes back, too: no step after that is made.
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, Y)
    assert found.status_ == "interrupted"
    assert found.n_iter_ == 51
    assert np.isfinite(list(found.params_.values())).all()


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_a_run_keeps_to_go_back_to(name, monkeypatch):
    runs, usual = [], Run.settle

    def settle(run):
        carry = run.recovery.anchor.carry
        assert carry.history is run.blank.history
        assert carry.aux is run.blank.aux
        usual(run)
        runs.append(run)

    monkeypatch.setattr(Run, "settle", settle)
    unsteady(name)
    unsteady(name, max_steps=1)
    assert [run.recovery.anchor for run in runs] == [None, None]


# Fits that go on.


def quietly(call, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteWarning)
        return call(*arguments)


def test_partial_fits_hand_on_how_short_steps_are():
    found = OptaxEstimator(
        root, {"a": 4.0}, optimizer="sgd", learning_rate=1e4, random_state=0
    )
    shrinks, told = 0, []
    for _ in range(12):
        before = found.params_["a"] if told else 4.0
        quietly(found.partial_fit, X, T)
        rate = found.history_["learning_rate"].iloc[-1]
        assert_allclose(rate, 1e4 * 10.0**-shrinks, rtol=1e-12)
        # Of one step each: one with too long a step ends where it began.
        is_good = found.status_ == "max_steps"
        assert is_good or found.params_["a"] == before
        told.append("that this one goes on from was not finite" in found.message_)
        assert told[-1] == (is_good and shrinks > 0)
        shrinks += -1 if is_good else 1
    assert sum(told) >= 3
    # Another learning rate is what it says.
    found.set_params(learning_rate=1.0).partial_fit(X, T)
    assert found.history_["learning_rate"].iloc[-1] == 1.0
    assert "goes on from" not in found.message_


@pytest.mark.parametrize("optimizer", ["sgd", optax.sgd(1e4)], ids=["spec", "finished"])
@pytest.mark.filterwarnings("ignore::skoptax.exceptions.UncachedWarning")
def test_partial_fits_of_a_model_without_a_key_hand_it_on_too(optimizer):
    lock = threading.Lock()

    def model(t, a=4.0):
        with lock:
            return root(t, a)

    rate = 1e4 if optimizer == "sgd" else None
    found = OptaxEstimator(
        model, optimizer=optimizer, learning_rate=rate, random_state=0
    )
    for _ in range(4):
        quietly(found.partial_fit, X, T)
        assert found.status_ == "non_finite"
    found.partial_fit(X, T)
    assert found.status_ == "max_steps"
    assert found.params_["a"] < 4.0


def test_many_starts_take_steps_of_their_usual_length():
    found = OptaxEstimator(
        root, {"a": 4.0}, optimizer="sgd", learning_rate=1e4, warm_start=True
    )
    quietly(found.set_params(max_steps=1).fit, X, T)
    assert found.status_ == "non_finite"
    quietly(found.set_params(n_starts=2).fit, X, 2.00001 * T)
    assert found.status_ == "max_steps"
    assert "usual length" not in found.message_
    assert found.history_["learning_rate"].iloc[-1] == 1e4


def test_one_outlier_does_not_slow_a_stream_for_good():
    found = OptaxEstimator(
        above, {"a": 6.0}, optimizer="sgd", learning_rate=0.2, random_state=0
    )
    rng, statuses = np.random.default_rng(0), []
    for i in range(250):
        x = rng.uniform(0, 3, 64)
        y = np.sqrt(3.5 - x)
        if i == 5:
            y[0] = -1e4
        quietly(found.partial_fit, x[:, None], y)
        statuses.append(found.status_)
    assert np.flatnonzero(np.array(statuses) == "non_finite").tolist() == [5]
    assert_allclose(found.params_["a"], 3.5, atol=0.05)


def test_a_warm_start_after_nothing_has_helped_begins_anew():
    found, _ = fit(
        trap, {"a": 1.0}, optimizer="adam", learning_rate=0.1, warm_start=True
    )
    with pytest.warns(NonFiniteWarning, match="went back 10 times"):
        found.fit(X, Y)
    assert found.history_["learning_rate"][1] == 0.1
    assert found.params_ == {"a": 1.0}


def test_a_warm_start_goes_on_with_what_was_known_at_the_best_state():
    arguments = {"optimizer": "adam", "learning_rate": 0.3, "warm_start": True}
    found, _ = fit(root, {"a": 1.0}, y=-T, max_steps=4, **arguments)
    assert found.status_ == "non_finite"
    assert found.selected_step_ == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteWarning)
        found.set_params(max_steps=6).fit(X, -T)
    whole, _ = fit(root, {"a": 1.0}, y=-T, max_steps=10, **arguments)
    columns = ["loss", "learning_rate", "a"]
    assert_array_equal(found.history_[columns][1:], whole.history_[columns][5:])
