"""Long fits in all their ways compile the programs of one of them, counted."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skoptax import OptaxEstimator, cache_info, callbacks, clear_cache

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=400)


def line(X, a=0.0, b=0.0, c=0.0, d=0.0):
    return a * X[:, 0] + b * X[:, 1] + c * X[:, 2] + d


def in_batches(**arguments):
    return OptaxEstimator(
        line,
        optimizer="adam",
        learning_rate=0.05,
        batch_size=32,
        max_epochs=6,
        random_state=0,
        early_stopping=True,
        n_iter_no_change=4,
        **arguments,
    )


@pytest.fixture
def compiled():
    """Fit once, and return a function that counts what is compiled from then on."""
    clear_cache()
    first = in_batches().fit(X, Y)
    first.predict(X)
    before = cache_info().compilations
    assert before <= 4
    return lambda: cache_info().compilations - before


def test_epochs_rates_and_seeds(compiled):
    for arguments in (
        {"max_epochs": 9},
        {"max_epochs": None, "max_steps": 77},
        {"learning_rate": 0.01},
        {"random_state": 5},
        {"n_iter_no_change": 1},
    ):
        in_batches().set_params(**arguments).fit(X, Y)
    assert compiled() == 0


def test_a_bar_and_going_on(compiled):
    with contextlib.redirect_stderr(io.StringIO()):
        in_batches(verbose=1).fit(X, Y)
    estimator = in_batches(warm_start=True).fit(X, Y)
    steps = estimator.n_iter_
    estimator.set_params(max_epochs=2).fit(X, Y)
    assert steps > 0
    assert compiled() == 0


def test_a_callback_that_stops(compiled):

    def stop(step, diff_state, static_state, *_):
        return step >= 20, diff_state, static_state

    stopped = in_batches(callbacks=stop).fit(X, Y)
    assert stopped.status_ == "callback"
    assert compiled() == 0


def test_checkpoints_and_a_fit_that_goes_on_from_them(compiled, tmp_path):
    whole = in_batches(callbacks=callbacks.Checkpoint(tmp_path, every=10)).fit(X, Y)
    again = in_batches(callbacks=callbacks.Resume(tmp_path)).fit(X, Y)
    assert again.params_ == whole.params_
    assert compiled() == 0


def test_a_step_that_is_not_finite(compiled):
    with pytest.warns(Warning, match="not finite"):
        in_batches().set_params(learning_rate=1e200).fit(X, Y)
    assert compiled() == 0


def test_a_search_with_a_bar():
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9")
    grid = {"learning_rate": [0.01, 0.03, 0.1], "max_epochs": [3, 5]}
    clear_cache()
    search = GridSearchCV(in_batches(), grid, cv=4)
    without = clone(search).fit(X, Y)
    before = cache_info().compilations
    assert before <= 4
    with contextlib.redirect_stdout(io.StringIO()):
        found = search.set_callbacks(callback.ProgressBar()).fit(X, Y)
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"], without.cv_results_["mean_test_score"]
    )
    assert cache_info().compilations == before
