"""`GridSearchCV`: every axis, alone and in a pipeline, in one process and in two."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skoptax import OptaxEstimator, Parameter

# Multiples of 4 rows: the folds of cv=2 have one shape.
N_ROWS = 24
T = np.linspace(0.0, 3.0, N_ROWS)[:, None]
Y = 2.5 * np.exp(-1.3 * T[:, 0]) + np.random.default_rng(0).normal(0, 0.05, N_ROWS)
Y[::5] += 1.0  # outliers, so that the losses differ
ORDER = np.random.default_rng(1).permutation(N_ROWS)
X, Y = T[ORDER], Y[ORDER]


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


# The same function, as a lambda: joblib sends it by value, and it is a new object in
# every task.
MODELS = {
    "module": decay,
    "lambda": lambda t, amplitude, rate: amplitude * jnp.exp(-rate * t),
}

# The rate's optimum is near 1: a bound at 2 binds.
AXES = {
    "optimizer": ["adam", "adamw", "sgd"],
    "learning_rate": [0.02, 0.1],
    "loss": ["squared_error", "absolute_error"],
    "max_steps": [20, 60],
    "params__rate__value": [2.5, 4.0],
    "params__rate__lower": [0.0, 2.0],
    "optimizer__b1": [0.5, 0.9],
}
# Two grids: together they hold all axes, each beside others. SGD and L-BFGS have no b1.
GRID = [
    {
        "optimizer": ["adam", "adamw"],
        "learning_rate": AXES["learning_rate"],
        "optimizer__b1": AXES["optimizer__b1"],
        "max_steps": AXES["max_steps"],
    },
    {
        "optimizer": ["adam", "sgd"],
        "loss": AXES["loss"],
        "params__rate__value": AXES["params__rate__value"],
        "params__rate__lower": AXES["params__rate__lower"],
        "max_steps": [40],
    },
]


def make_estimator(model):
    return OptaxEstimator(
        model,
        {"amplitude": 1.0, "rate": Parameter(value=3.0, lower=0.0)},
        optimizer="adam",
        learning_rate=0.05,
        max_steps=40,
        cov_type=None,  # no program for derivatives in each worker
    )


def search(model, grid, in_pipeline=False, n_jobs=1):
    estimator = make_estimator(model)
    if in_pipeline:
        estimator = Pipeline([("same", FunctionTransformer()), ("est", estimator)])
        grid = [{f"est__{k}": v for k, v in part.items()} for part in grid]
    return GridSearchCV(
        estimator,
        grid,
        cv=2,
        n_jobs=n_jobs,
        error_score="raise",
        return_train_score=True,
    ).fit(X, Y)


def comparable(results):
    """Return all of `cv_results_` but the times, under the plain names."""
    found = {}
    for key, values in results.items():
        if key.endswith("_time"):
            continue
        if key == "params":
            plain = [{k.removeprefix("est__"): v for k, v in p.items()} for p in values]
            found[key] = plain
        else:  # an axis that a grid lacks is masked, and None in the list
            found[key.replace("param_est__", "param_")] = values.tolist()
    return found


@pytest.fixture(scope="module")
def reference():
    return search(decay, GRID)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("in_pipeline", [False, True], ids=["alone", "pipeline"])
@pytest.mark.parametrize("model", MODELS)
def test_results_do_not_depend_on_how_the_search_runs(
    model, in_pipeline, n_jobs, reference
):
    found = search(MODELS[model], GRID, in_pipeline, n_jobs)
    expected = comparable(reference.cv_results_)
    assert len(expected["params"]) == 32
    # Equal to the last bit, in another process too.
    assert comparable(found.cv_results_) == expected
    assert found.best_index_ == reference.best_index_
    assert found.predict(X).tolist() == reference.predict(X).tolist()


def test_no_score_is_missing(reference):
    results = reference.cv_results_
    for split in ("split0_test_score", "split1_test_score", "mean_train_score"):
        assert np.all(np.isfinite(results[split]))
    assert reference.best_score_ == results["mean_test_score"].max()


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_changes_the_scores(axis):
    results = search(decay, [{axis: AXES[axis]}])
    scores = results.cv_results_["mean_test_score"].tolist()
    assert len(set(scores)) == len(AXES[axis]), scores


@pytest.mark.parametrize("axis", AXES)
def test_a_candidate_is_the_fit_with_that_setting(axis):
    """The search's scores, from a plain loop over estimators."""
    results = search(decay, [{axis: AXES[axis]}])
    half = N_ROWS // 2
    for value, score in zip(
        AXES[axis], results.cv_results_["split0_test_score"], strict=True
    ):
        estimator = clone(make_estimator(decay)).set_params(**{axis: value})
        estimator.fit(X[half:], Y[half:])
        assert estimator.score(X[:half], Y[:half]) == score


def test_an_optimizer_grid_crosses_a_learning_rate_that_one_of_them_ignores():
    grid = [{"optimizer": ["adam", "lbfgs"], "learning_rate": [0.01, 0.1]}]
    results = search(decay, grid).cv_results_
    score = {
        (p["optimizer"], p["learning_rate"]): s
        for p, s in zip(results["params"], results["mean_test_score"], strict=True)
    }
    assert score["lbfgs", 0.01] == score["lbfgs", 0.1]
    assert score["adam", 0.01] != score["adam", 0.1]


def test_a_search_leaves_its_estimator_alone():
    estimator = make_estimator(decay)
    before = estimator.get_params()
    spec, rate = estimator.params, estimator.params["rate"]
    grid = {"params__rate__lower": [0.0, 2.0], "optimizer__b1": [0.5, 0.9]}
    best = GridSearchCV(estimator, grid, cv=2).fit(X, Y).best_estimator_
    assert estimator.params is spec
    assert estimator.params["rate"] is rate
    assert estimator.get_params() == before
    assert estimator.optimizer_kwargs is None
    assert best.optimizer_kwargs["b1"] in (0.5, 0.9)
    assert not hasattr(estimator, "params_")


def test_an_unknown_hyperparameter_in_a_grid_is_an_error():
    grid = [{"optimizer": ["lbfgs"], "optimizer__b1": [0.5]}]
    with pytest.raises(ValueError, match=r"'lbfgs'.*no hyperparameter 'b1'"):
        search(decay, grid)
