"""Held-out rows: their loss, the step that is selected, the end of the fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skoptax import OptaxEstimator, Parameter, cache_info, clear_cache
from skoptax.exceptions import InvalidParameterError, NonFiniteError

N = 90
RNG = np.random.default_rng(3)
X = RNG.uniform(-1, 1, size=(N, 1))
Y = np.sin(3 * X[:, 0]) + 0.3 * RNG.normal(size=N)
FIT, HELD = slice(0, 60), slice(60, None)


def polynomial(X, a, b, c, d):
    x = X[:, 0]
    return a + x * (b + x * (c + x * d))


def network(X, w, v):
    return jnp.tanh(X @ w[:1] + w[1]) @ v


def net(**arguments):
    rng = np.random.default_rng(0)
    spec = {"w": rng.normal(size=(2, 40)) * 3, "v": rng.normal(size=40) * 0.1}
    given = {"optimizer": "adam", "learning_rate": 0.03, "max_steps": 2000}
    return OptaxEstimator(network, spec, random_state=0, **given | arguments)


START = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}


def cubic(**arguments):
    given = {"optimizer": "adam", "learning_rate": 0.05, "max_steps": 200}
    return OptaxEstimator(polynomial, START, random_state=0, **given | arguments)


def the_rule(val_loss, per_epoch, patience):
    """Return where a fit ends, and the step that it returns, from its history."""
    best, best_step = np.inf, 0
    for step in range(0, len(val_loss), per_epoch):
        if val_loss[step] < best:
            best, best_step = val_loss[step], step
        elif patience and step - best_step >= patience * per_epoch:
            return step, best_step
    return len(val_loss) - 1, best_step


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("patience", [None, 3, 25])
def test_it_ends_where_the_rule_says(batch_size, patience):
    estimator = net(
        early_stopping=True,
        n_iter_no_change=patience,
        batch_size=batch_size,
        validation_fraction=0.3,
    ).fit(X, Y)
    per_epoch = 1 if batch_size is None else -(-63 // 16)
    val_loss = estimator.history_["val_loss"].to_numpy()
    checks = np.arange(len(val_loss)) % per_epoch == 0
    assert_array_equal(np.isnan(val_loss), ~checks)
    end, selected = the_rule(val_loss, per_epoch, patience or 10)
    assert estimator.status_ == "no_improvement"
    assert f"has not improved for {patience or 10} epochs" in estimator.message_
    assert estimator.n_iter_ == end
    assert estimator.selected_step_ == selected
    assert val_loss[selected] == np.nanmin(val_loss)


@pytest.mark.parametrize("optimizer", ["adam", "lm", "lbfgs"])
def test_the_validation_loss_is_the_mean_over_held_out_rows(optimizer):
    weights = RNG.uniform(0.5, 2, N)
    estimator = cubic(optimizer=optimizer).fit(
        X[FIT],
        Y[FIT],
        X_val=X[HELD],
        y_val=Y[HELD],
        sample_weight_val=weights[HELD],
    )
    history = estimator.history_
    for step in (0, 1, estimator.n_iter_):
        row = history.loc[step]
        away = Y[HELD] - polynomial(X[HELD], *(row[name] for name in "abcd"))
        assert_allclose(
            row["val_loss"],
            0.5 * np.average(away**2, weights=weights[HELD]),
            rtol=1e-9,
        )
    # Nothing stops it; the best are returned.
    assert estimator.status_ in ("max_steps", "converged")
    assert estimator.selected_step_ == history["val_loss"].idxmin()
    best = history.loc[estimator.selected_step_]
    assert_array_equal(list(estimator.params_.values()), best[list("abcd")])
    assert_allclose(estimator.loss_, best["loss"], rtol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_parameters_of_every_kind(batch_size):
    spec = {
        "a": 0.1,
        "b": Parameter(value=2.0, free=False),
        "c": Parameter(tie=lambda a: 2 * a),
        "d": Parameter(value=1.0, transform="log"),
    }
    fit = cubic(max_steps=20, batch_size=batch_size).set_params(params=spec)
    fit.fit(X[FIT], Y[FIT], X_val=X[HELD], y_val=Y[HELD])
    rows = fit.history_[fit.history_["val_loss"].notna()]
    a, b, c, d = (rows[[name]].to_numpy() for name in "abcd")
    x = X[HELD, 0]
    expected = np.mean((a + x * (b + x * (c + x * d)) - Y[HELD]) ** 2, axis=1) / 2
    assert_allclose(rows["val_loss"], expected, rtol=1e-12)


def test_part_of_an_array_is_fixed():
    spec = {"w": Parameter(value=np.array([1.0, 0.5]), free=[True, False]), "v": 0.3}
    fit = OptaxEstimator(
        lambda X, w, v: v + X[:, 0] * w[0] + w[1],
        spec,
        optimizer="adam",
        max_steps=9,
        early_stopping=True,
        random_state=0,
    ).fit(X, Y)
    assert fit.params_["w"][1] == 0.5
    assert np.isfinite(fit.history_["val_loss"]).all()


def test_held_out_rows_change_no_step():
    plain = cubic().fit(X[FIT], Y[FIT])
    seen = cubic().fit(X[FIT], Y[FIT], X_val=X[HELD], y_val=Y[HELD])
    assert_allclose(seen.history_.drop(columns="val_loss"), plain.history_, rtol=1e-12)


def test_penalties_and_priors_are_no_part_of_it():
    estimator = cubic(penalty=lambda params: 5.0 + params["a"] ** 2, max_steps=3)
    estimator.fit(X[FIT], Y[FIT], X_val=X[HELD], y_val=Y[HELD])
    assert_allclose(
        estimator.history_.loc[0, "val_loss"], np.mean(Y[HELD] ** 2) / 2, rtol=1e-12
    )
    assert estimator.history_.loc[0, "loss"] > 5


def test_a_split_leaks_nothing():
    seen = []

    def start(X, y, rng):
        seen.append((X.copy(), y.copy()))
        return float(np.mean(y))

    spec = START | {"a": Parameter(value=start)}
    arguments = {"early_stopping": True, "validation_fraction": 0.25}
    estimator = OptaxEstimator(
        polynomial, spec, random_state=4, optimizer="adam", **arguments
    ).fit(X, Y)
    (inputs, responses), *_ = seen
    assert len(inputs) == N - 23
    # In the order of the data, and the others are those that are held out.
    places = [int(np.flatnonzero(X[:, 0] == x)[0]) for x in inputs[:, 0]]
    assert places == sorted(places)
    assert_array_equal(responses, Y[places])
    others = np.setdiff1d(np.arange(N), places)
    assert_allclose(
        estimator.history_.loc[0, "val_loss"],
        np.mean((Y[others] - responses.mean()) ** 2) / 2,
        rtol=1e-10,
    )
    again = OptaxEstimator(
        polynomial, spec, random_state=4, optimizer="adam", **arguments
    ).fit(X, Y)
    assert_array_equal(again.history_, estimator.history_)


def test_a_search_and_one_program():
    clear_cache()
    search = GridSearchCV(
        cubic(early_stopping=True, cov_type=None), {"learning_rate": [0.03, 0.1]}, cv=4
    )
    search.fit(X, Y)
    # The loop, and predictions.
    assert cache_info().compilations <= 3
    assert search.best_score_ > 0.5


def test_a_pipeline_transforms_held_out_rows():
    scaled = StandardScaler().fit(X[FIT])
    expected = cubic().fit(
        scaled.transform(X[FIT]), Y[FIT], X_val=scaled.transform(X[HELD]), y_val=Y[HELD]
    )
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = cubic().set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("fit", estimator)], transform_input=["X_val"]
        )
        pipeline.fit(X[FIT], Y[FIT], X_val=X[HELD], y_val=Y[HELD])
    assert_array_equal(pipeline[-1].history_, expected.history_)


def test_rows_that_interact_are_not_split():
    def centred(X, a, b):
        return a + b * (X[:, 0] - jnp.mean(X[:, 0]))

    estimator = OptaxEstimator(centred, {"a": 0.0, "b": 0.0}, early_stopping=True)
    with pytest.raises(InvalidParameterError, match="early_stopping draws rows"):
        estimator.fit(X, Y)
    estimator.fit(X[FIT], Y[FIT], X_val=X[HELD], y_val=Y[HELD])


@pytest.mark.parametrize(
    ("arguments", "held_out", "match"),
    [
        ({"early_stopping": "yes"}, {}, "a bool"),
        ({"validation_fraction": 0.0}, {}, "validation_fraction"),
        ({"validation_fraction": 1.0}, {}, "validation_fraction"),
        ({"early_stopping": True, "validation_fraction": 0.999}, {}, "none is left"),
        ({}, {"X_val": X}, "Got no y_val"),
        ({}, {"y_val": Y}, "Got no X_val"),
        ({}, {"X_val": X, "y_val": Y[1:]}, "a row for each"),
        ({}, {"X_val": X, "y_val": Y.astype(str)}, "y_val must hold numbers"),
        ({}, {"X_val": X, "y_val": np.where(Y > 0, Y, np.nan)}, "y_val contains NaN"),
        ({"loss": "gamma"}, {"X_val": X, "y_val": 0 * Y}, "does not admit"),
        ({"batch_size": 2, "max_steps": 20}, {"X_val": X, "y_val": Y}, "max_epochs"),
        ({"n_starts": 2, "optimizer": "lm"}, {"X_val": X, "y_val": Y}, "must be 1"),
    ],
)
def test_wrong_arguments(arguments, held_out, match):
    y = Y - Y.min() + 1 if "loss" in arguments else Y
    with pytest.raises(ValueError, match=match):
        cubic(**arguments).fit(X, y, **held_out)


def test_weights_of_zero_are_no_validation():
    weights = np.ones(N)
    with pytest.raises(ValueError, match="zero"):
        cubic().fit(X, Y, X_val=X, y_val=Y, sample_weight_val=0 * weights)
    few = np.zeros(N)
    few[0] = 1
    with pytest.raises(InvalidParameterError, match="have a weight of 0"):
        cubic(early_stopping=True).fit(X, Y, few)


def root(X, a, b):
    return a + b * jnp.sqrt(X[:, 0])


def test_held_out_rows_on_which_the_model_is_no_number():
    inside = np.abs(X)
    estimator = OptaxEstimator(root, {"a": 0.0, "b": 1.0})
    with pytest.raises(NonFiniteError, match="held-out rows was not finite"):
        estimator.fit(inside, Y, X_val=-inside, y_val=Y)


def test_columns_are_taken_by_name():
    def model(p, q, a, b):
        return a * p + b * q

    frame = pd.DataFrame(RNG.normal(size=(N, 2)), columns=["p", "q"])
    y = frame.to_numpy() @ [1.0, -2.0] + 0.1 * RNG.normal(size=N)
    estimator = OptaxEstimator(model, {"a": 0.0, "b": 0.0}, inputs=("p", "q"))
    losses = [
        estimator.fit(frame.to_numpy(), y, X_val=frame[order], y_val=y)
        .history_["val_loss"]
        .iloc[-1]
        for order in (["p", "q"], ["q", "p"])
    ]
    assert losses[0] == losses[1] < 0.01


def test_a_worse_state_in_place_of_the_best():
    def worse(step, free, static, data, aux, loss, grads):
        if step == 49:
            free = jax.tree.map(lambda x: x + 10, free)
        return False, free, static

    estimator = cubic(max_steps=80, callbacks=worse).fit(
        X[FIT], Y[FIT], X_val=X[HELD], y_val=Y[HELD]
    )
    row = estimator.history_.loc[estimator.selected_step_]
    assert_allclose(list(estimator.params_.values()), row[list("abcd")])
    assert_allclose(estimator.loss_, row["loss"])


def test_intervals_after_a_split():
    estimator = cubic(optimizer="lm", early_stopping=True).fit(X, Y)
    assert estimator.profile(X, Y, "a", n_points=3).shape == (3, 6)
    assert estimator.bootstrap(X, Y, n_resamples=10).shape == (10, 4)
