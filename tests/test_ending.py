"""How a run ends: on problems where each status must occur, and where it must not."""

from __future__ import annotations

import pickle
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import OptaxEstimator, Parameter, priors
from skoptax._ending import find_undetermined
from skoptax.exceptions import (
    ConvergenceWarning,
    NonFiniteWarning,
    UndeterminedWarning,
)

T = np.linspace(0.0, 3.0, 20)
X = T[:, None]
RNG = np.random.default_rng(0)
NOISE = 0.05 * RNG.normal(size=20)
Y = 2.5 * np.exp(-1.3 * T) + NOISE


def decay(t, a, r):
    return a * jnp.exp(-r * t)


def line(t, a, b):
    return a + b * t


def total(t, a, b):
    return (a + b) * t


def saturation(t, vmax, k):
    return vmax * t / (k + t)


def linear(X, w):
    return X @ w


def fit(model, params, y=Y, inputs=X, **arguments):
    return OptaxEstimator(model, params, **arguments).fit(inputs, y)


# Each status.


def test_converged():
    estimator = fit(decay, {"a": 1.0, "r": 0.5})
    assert estimator.converged_
    assert "Converged after" in estimator.message_
    assert f"after {estimator.n_iter_} steps" in estimator.message_
    assert "tolerance 1.8e-12" in estimator.message_


@pytest.mark.parametrize("a", [0.0, 1.0])
def test_plateau(a):
    with pytest.warns(ConvergenceWarning, match="on a plateau.*Move the start") as seen:
        estimator = fit(decay, {"a": a, "r": 1000.0})
    assert estimator.status_ == "plateau"
    assert not estimator.converged_
    assert len(seen) == 1
    assert "do not depend on 'r' there" in estimator.message_


def test_plateau_of_all_parameters():
    def peak(t, height, middle, width):
        return height * jnp.exp(-(((t - middle) / width) ** 2))

    with pytest.warns(ConvergenceWarning, match="'height', 'middle', 'width' there"):
        estimator = fit(peak, {"height": 1.0, "middle": 1e3, "width": 1.0})
    assert estimator.status_ == "plateau"
    assert estimator.n_iter_ == 0
    assert estimator.params_ == {"height": 1.0, "middle": 1e3, "width": 1.0}


def test_diverging():
    # On a line, the curve bends ever farther away.
    with pytest.warns(ConvergenceWarning, match="Give bounds or priors") as seen:
        estimator = fit(saturation, {"vmax": 1.0, "k": 1.0}, 2 * T + NOISE)
    assert estimator.status_ == "diverging"
    assert len(seen) == 1
    assert "how large 'vmax', 'k' get, and" in estimator.message_
    assert estimator.params_["k"] > 1e3


def test_diverging_without_residuals():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = fit(saturation, {"vmax": 1.0, "k": 1.0}, 2 * T)
    assert estimator.params_["k"] > 1e6
    assert estimator.status_ == "diverging"


def test_diverging_is_cured_by_bounds_and_priors():
    y = 2 * T + NOISE
    bounded = fit(saturation, {"vmax": 1.0, "k": Parameter(value=1.0, upper=50.0)}, y)
    assert bounded.converged_
    assert bounded.at_bound_ == {"vmax": False, "k": True}
    prior = Parameter(value=1.0, prior=priors.Normal(0.0, 100.0))
    assert fit(saturation, {"vmax": 1.0, "k": prior}, y).converged_


def test_singular():
    with pytest.warns(ConvergenceWarning, match="Fix one of them, tie them") as seen:
        estimator = fit(total, {"a": 1.0, "b": 1.0})
    assert estimator.status_ == "singular"
    assert len(seen) == 1
    assert "do not determine 'a', 'b' separately" in estimator.message_
    # An optimum it is.
    a, b = estimator.params_.values()
    assert_allclose(a + b, T @ Y / (T @ T), rtol=1e-9)


def test_singular_names_entries():
    design = np.stack([T, T, T**2], axis=1)
    with pytest.warns(ConvergenceWarning, match=r"determine 'w\[0\]', 'w\[1\]' sep"):
        estimator = fit(linear, {"w": [0.0, 0.0, 0.0]}, inputs=design)
    assert estimator.status_ == "singular"
    # Where one of them is fixed, the other is determined.
    w = Parameter(value=[0.0, 0.0, 0.0], free=[False, True, True])
    assert fit(linear, {"w": w}, inputs=design).converged_


def test_parameters_are_named_in_the_users_order():
    # JAX sorts the keys of a dict: 'a', 'b', and the entries of 'w' before 'z'.
    def model(t, b, a, nested):
        return (b + a + nested["z"] + nested["w"] @ np.array([1.0, 2.0])) * t

    start = {"b": 1.0, "a": 2.0, "nested": {"z": 0.0, "w": [0.5, 0.5]}}
    names = "'b', 'a', 'nested.z', 'nested.w[0]', 'nested.w[1]'"
    with pytest.warns(ConvergenceWarning, match="singular") as seen:
        estimator = fit(model, start)
    assert estimator.status_ == "singular"
    assert f"determine {names} separately" in estimator.message_
    assert f"determine {names} separately" in str(seen[0].message)
    # The tables, and the warning of the standard errors, have the same order.
    with pytest.warns(UndeterminedWarning, match=re.escape(names)):
        assert ", ".join(map(repr, estimator.summary().index)) == names
    start["a"] = Parameter(value=2.0, free=False)
    start["nested"]["w"] = Parameter(value=[0.5, 0.5], free=[False, True])
    with pytest.warns(ConvergenceWarning):
        estimator = fit(model, start)
    assert "determine 'b', 'nested.z', 'nested.w[1]' separ" in estimator.message_


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Parameter(value=1.0, free=False), 1.0),
        (Parameter(value=1.0, prior=priors.Normal(0.0, 1.0)), 1.0),
        # The data want 10.
        (Parameter(value=1.0, upper=2.0), Parameter(value=1.0, upper=3.0)),
    ],
    ids=["fixed", "prior", "bounds"],
)
def test_singular_is_cured(a, b):
    assert fit(total, {"a": a, "b": b}, 10 * T + NOISE).converged_


def test_stalled():
    # A model whose rounding noise is not that of its predictions.
    def rough(t, a):
        return a * t + 1e-3 * jnp.sin(1e9 * a)

    with pytest.warns(ConvergenceWarning, match="no step of any length lowers"):
        estimator = fit(rough, {"a": 1.0})
    assert estimator.status_ == "stalled"


def test_stalled_without_curvature():
    with pytest.warns(ConvergenceWarning, match="no curvature there for any row.*lbfg"):
        estimator = fit(
            decay,
            {"a": 1.0, "r": 0.5},
            loss=lambda y, p: jnp.abs(y - p),
            optimizer="lm",
        )
    assert estimator.status_ == "stalled"


@pytest.mark.parametrize("max_steps", [0, 1, 3])
def test_max_steps(max_steps):
    with pytest.warns(ConvergenceWarning, match="raise max_steps"):
        estimator = fit(decay, {"a": 1.0, "r": 0.5}, max_steps=max_steps)
    assert estimator.status_ == "max_steps"
    assert estimator.n_iter_ == max_steps
    assert estimator.message_.startswith(f"Stopped after {max_steps} steps, the larg")


def test_max_steps_without_a_tolerance():
    # First-order optimisers have none by default, and nobody is warned.
    arguments = {"optimizer": "adam", "max_steps": 3}
    assert fit(decay, {"a": 1.0, "r": 0.5}, **arguments).status_ == "max_steps"
    assert fit(decay, {"a": 1.0, "r": 0.5}, tol=0.0, max_steps=3).status_ == "max_steps"


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_max_steps_with_a_tolerance_that_was_asked_for(optimizer):
    arguments = {"optimizer": optimizer, "learning_rate": 0.1, "tol": 1e-4}
    words = (
        r"not met: the scaled gradient is [0-9.]+, and tol is 0\.0001\. Raise "
        "max_steps or the learning rate"
    )
    with pytest.warns(ConvergenceWarning, match=words):
        fitted = fit(decay, {"a": 1.0, "r": 0.5}, max_steps=3, **arguments)
    assert fitted.status_ == "max_steps"
    # With enough of them, or an epoch at a time, there is nothing to warn of.
    fitted = fit(decay, {"a": 1.0, "r": 0.5}, max_steps=20_000, **arguments)
    assert fitted.status_ == "converged"
    fitted.partial_fit(X, Y)
    arguments["tol"] = 0
    fit(decay, {"a": 1.0, "r": 0.5}, max_steps=3, **arguments)


def test_non_finite():
    # (What it does before it gives up is in test_recovery.)
    arguments = {"optimizer": "sgd", "learning_rate": 1e3, "max_steps": 91}
    with pytest.warns(NonFiniteWarning, match="smaller learning rate") as seen:
        estimator = fit(decay, {"a": 1.0, "r": 0.5}, **arguments)
    assert estimator.status_ == "non_finite"
    assert len(seen) == 1
    assert np.isfinite(estimator.loss_)
    assert f"that of step {estimator.selected_step_}" in estimator.message_


def test_no_improvement_on_the_start():
    # From the optimum of all rows each step of SGD leads away: the rate is too large.
    y = np.array([-1.0, 1.0] * 10)
    estimator = OptaxEstimator(
        lambda X, a=0.0: a + 0 * X[:, 0],
        optimizer="sgd",
        learning_rate=1.0,
        early_stopping=True,
        validation_fraction=0.5,
        random_state=0,
    )
    estimator.fit(np.zeros((20, 1)), y)
    assert estimator.status_ == "no_improvement"
    assert estimator.selected_step_ == np.argmin(estimator.history_["val_loss"])
    assert estimator.selected_step_ == 0
    assert estimator.params_ == {"a": 0.0}
    assert "the result is the start itself" in estimator.message_


def test_no_improvement_and_callback():
    arguments = {"optimizer": "adam", "learning_rate": 0.5, "n_iter_no_change": 5}
    estimator = fit(decay, {"a": 1.0, "r": 0.5}, **arguments)
    assert estimator.status_ == "no_improvement"
    said = f"for 5 of them; the result is that of step {estimator.selected_step_}."
    assert said in estimator.message_

    def stop(step, diff_state, static_state, *_):
        return True, diff_state, static_state

    estimator = fit(decay, {"a": 1.0, "r": 0.5}, callbacks=stop)
    assert estimator.status_ == "callback"


def test_status_survives_a_pickle():
    with pytest.warns(ConvergenceWarning):
        estimator = fit(total, {"a": 1.0, "b": 1.0})
    back = pickle.loads(pickle.dumps(estimator))
    assert (back.status_, back.message_) == (estimator.status_, estimator.message_)


# Where none of them must occur: pytest turns each warning into an error.


@pytest.mark.parametrize("size", [1e-12, 1e4, 1e9, 1e14])
def test_large_but_well_determined(size):
    y = size * (1.0 + T) + NOISE * size
    estimator = fit(line, {"a": 1.0, "b": 1.0}, y)
    assert estimator.converged_
    expected = np.polyfit(T, y, 1)[::-1]
    assert_allclose(list(estimator.params_.values()), expected, rtol=1e-9)


def test_large_and_small_parameters_together():
    def model(t, a, b, c):
        return 1e-8 * a + 1e8 * b * t + c * t**2

    y = 1 + T + T**2 + NOISE
    estimator = fit(model, {"a": 1.0, "b": 1.0, "c": 1.0}, y)
    assert estimator.converged_
    expected = np.polyfit(T, y, 2)[::-1] / [1e-8, 1e8, 1]
    assert_allclose(list(estimator.params_.values()), expected, rtol=1e-7)


def test_ill_conditioned_but_determined():
    design = T[:, None] ** np.arange(9)
    estimator = fit(linear, {"w": np.zeros(9)}, inputs=design)
    expected = np.linalg.lstsq(design, Y, rcond=None)[0]
    # With a condition of 1e6, eps times its square is what rounding may do.
    assert_allclose(estimator.params_["w"], expected, rtol=1e-5)
    assert estimator.converged_


def test_nearly_collinear_columns():
    # Dependent to 1e-5: far from working precision.
    design = np.stack([T, T + 1e-5 * RNG.normal(size=20)], axis=1)
    estimator = fit(linear, {"w": [0.0, 0.0]}, inputs=design)
    assert estimator.status_ == "converged"
    expected = np.linalg.lstsq(design, Y, rcond=None)[0]
    assert_allclose(estimator.params_["w"], expected, rtol=1e-4)


@pytest.mark.parametrize("columns", [2, 11])
def test_columns_that_differ_by_next_to_nothing(columns):
    # Each entry of the gradient vanishes long before the objective is at its lowest.
    rng = np.random.default_rng(columns)
    design = rng.normal(size=(60, 1)) + 1e-8 * rng.normal(size=(60, columns))
    y = rng.normal(size=60)
    estimator = OptaxEstimator(
        lambda X, w: X @ w, {"w": np.zeros(columns)}, optimizer="lm", max_steps=3000
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(design, y)
    left = design @ np.linalg.lstsq(design, y, rcond=1e-14)[0] - y
    lowest = 0.5 * np.mean(left**2)
    assert not estimator.converged_ or estimator.loss_ / lowest - 1 < 1e-9


def test_narrow_priors():
    params = {
        "a": Parameter(value=1.0, prior=priors.Normal(2.5, 1e-6)),
        "r": Parameter(value=1.0, prior=priors.Normal(1.3, 1e-6)),
    }
    estimator = fit(decay, params)
    assert estimator.converged_
    assert_allclose(list(estimator.params_.values()), [2.5, 1.3], rtol=1e-9)


def test_optimum_at_zero():
    y = 0.5 * T - 0.5 * np.mean(T) * T / np.mean(T)
    estimator = fit(line, {"a": 1.0, "b": 1.0}, y)
    assert estimator.converged_
    assert_allclose(list(estimator.params_.values()), 0.0, atol=1e-10)


def test_exact_fit():
    y = 2.5 * np.exp(-1.3 * T)
    assert fit(decay, {"a": 1.0, "r": 0.5}, y).converged_
    started = fit(decay, {"a": 2.5, "r": 1.3}, y)
    assert started.converged_
    assert started.n_iter_ == 0


def test_sharp_step():
    # A steep curve that is determined by the few rows on its flank.
    def logistic(t, k, m):
        return 1 / (1 + jnp.exp(-k * (t - m)))

    y = 1 / (1 + np.exp(-40 * (T - 1.5))) + 0.1 * NOISE
    estimator = fit(logistic, {"k": 1.0, "m": 1.0}, y)
    assert estimator.converged_


def test_on_bounds():
    estimator = fit(decay, {"a": 1.0, "r": Parameter(value=0.5, upper=0.5)})
    assert estimator.converged_
    assert estimator.at_bound_ == {"a": False, "r": True}
    # Without influence, but held.
    r = Parameter(value=1e3, lower=1e3, upper=1e3)
    assert fit(decay, {"a": 1.0, "r": r}).converged_
    # Held where the other one has no influence.
    with pytest.warns(ConvergenceWarning, match="do not depend on 'r' there"):
        estimator = fit(decay, {"a": Parameter(value=-1.0, upper=0.0), "r": 0.5})
    assert estimator.status_ == "plateau"
    assert estimator.at_bound_ == {"a": True, "r": False}


# The rule itself.


def undetermined(root, *, scale=1.0, value=1.0, internal=None, values=None, **others):
    p = root.shape[1]
    ones = np.ones(p)
    values = ones if values is None else np.asarray(values, float)
    start = np.asarray(others.get("start", ones), float)
    usable = np.asarray(others.get("usable", ones), bool)
    internal = values if internal is None else np.asarray(internal, float)
    found = find_undetermined(root, scale, value, internal, values, start, usable)
    return [list(part) for part in found]


def triangle(columns):
    return np.linalg.qr(columns, mode="r")


COLUMNS = np.random.default_rng(1).normal(size=(30, 5))


def test_full_rank():
    assert undetermined(triangle(COLUMNS)) == [[], [], []]


@given(st.lists(st.integers(-12, 12), min_size=5, max_size=5))
def test_units_do_not_matter(exponents):
    units = 10.0 ** np.array(exponents)
    dependent = COLUMNS.copy()
    dependent[:, 4] = dependent[:, 1] - dependent[:, 2]
    for columns, expected in ((COLUMNS, []), (dependent, [1, 2, 4])):
        found = undetermined(triangle(columns * units), scale=1e-12)
        assert found == [[], [], expected]


def test_duplicates():
    columns = COLUMNS.copy()
    columns[:, 3] = 1e7 * columns[:, 0]
    assert undetermined(triangle(columns)) == [[], [], [0, 3]]
    # As long as one of them may not move, the other is determined.
    for held in (0, 3):
        usable = np.arange(5) != held
        assert undetermined(triangle(columns), usable=usable) == [[], [], []]
    usable = np.arange(5) != 2
    assert undetermined(triangle(columns), usable=usable) == [[], [], [0, 3]]


def test_two_dependences():
    columns = COLUMNS.copy()
    columns[:, 1] = 2 * columns[:, 0]
    columns[:, 4] = -columns[:, 3]
    assert undetermined(triangle(columns)) == [[], [], [0, 1, 3, 4]]


@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9, 1e-11])
def test_nearly_dependent_is_determined(share):
    columns = COLUMNS.copy()
    columns[:, 3] = columns[:, 0] + share * columns[:, 3]
    assert undetermined(triangle(columns)) == [[], [], []]


def test_more_parameters_than_rows():
    columns = np.random.default_rng(2).normal(size=(2, 4))
    root = np.vstack([triangle(columns), np.zeros((2, 4))])
    _, _, confounded = undetermined(root)
    assert len(confounded) >= 3


def test_without_influence():
    columns = COLUMNS.copy()
    columns[:, 2] = 0
    columns[:, 3] *= 1e-18
    assert undetermined(triangle(columns)) == [[2, 3], [], []]
    # A change by its own size counts.
    values = [1, 1, 1, 1e6, 1]
    assert undetermined(triangle(columns), values=values)[0] == [2]
    usable = np.array([1, 1, 0, 0, 1], bool)
    assert undetermined(triangle(columns), usable=usable) == [[], [], []]


def test_run_away():
    columns = COLUMNS.copy()
    columns[:, 1] *= 1e-12
    values = np.array([1, 1e5, 1, 1, 1])
    # A change by its own size changes predictions by 1e5 1e-12 or so.
    assert undetermined(triangle(columns), values=values) == [[], [1], []]
    # By 1e-4 it may only be small beside its error, as in a fit to many rows.
    assert undetermined(triangle(columns * [1, 1e3, 1, 1, 1]), values=values)[1] == []
    # Not if it has been there from the start, or is held, or counts.
    start = {"start": values}
    assert undetermined(triangle(columns), values=values, **start) == [[], [], []]
    usable = np.arange(5) != 1
    assert undetermined(triangle(columns), values=values, usable=usable)[1] == []
    assert undetermined(triangle(COLUMNS), values=values) == [[], [], []]


def test_run_away_together():
    # Two that are large, and follow each other, as in a ratio.
    columns = COLUMNS.copy()
    columns[:, 1] = columns[:, 0] + 1e-9 * columns[:, 1]
    values = np.array([1e5, 1e5, 1, 1, 1])
    assert undetermined(triangle(columns), values=values) == [[], [0, 1], []]


def test_nothing_usable_or_not_finite():
    root = triangle(COLUMNS)
    assert undetermined(root, usable=np.zeros(5, bool)) == [[], [], []]
    for bad in (np.nan, np.inf):
        broken = root.copy()
        broken[0, 4] = bad
        assert undetermined(broken) == [[], [], []]
    assert undetermined(np.zeros((3, 3))) == [[0, 1, 2], [], []]


def test_rule_in_single_precision():
    columns = COLUMNS.astype(np.float32)
    columns[:, 3] = columns[:, 0] + 1e-3 * columns[:, 3]
    assert undetermined(triangle(columns)) == [[], [], []]
    columns[:, 3] = columns[:, 0]
    assert undetermined(triangle(columns)) == [[], [], [0, 3]]


def test_order_of_columns_does_not_matter():
    columns = COLUMNS.copy()
    columns[:, 4] = columns[:, 0]
    order = np.array([4, 2, 0, 1, 3])
    _, _, found = undetermined(triangle(columns[:, order]))
    assert_array_equal(sorted(order[found]), [0, 4])
