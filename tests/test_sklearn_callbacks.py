"""scikit-learn's callbacks follow a fit, may stop it, and change nothing else."""

from __future__ import annotations

import pickle
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skoptax import OptaxEstimator
from skoptax._sklearn_callbacks import CallbackSupport, _find_support
from skoptax.callbacks import Checkpoint, Resume
from skoptax.exceptions import NonFiniteError

try:
    import sklearn.callback as sklearn_callback
except ImportError:
    sklearn_callback = None

with_callbacks = pytest.mark.skipif(
    sklearn_callback is None, reason="scikit-learn has no callbacks before 1.9"
)

rng = np.random.default_rng(0)
X = pd.DataFrame(rng.uniform(0.1, 3.0, size=(60, 1)), columns=["t"])
Y = 2.5 * np.exp(-1.3 * X["t"].to_numpy()) + 0.05 * rng.normal(size=60)


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


def adam(**arguments):
    """An estimator that makes just as many steps as it may."""
    arguments = {"learning_rate": 0.05, "max_steps": 250, "random_state": 0} | arguments
    return OptaxEstimator(
        decay, {"amplitude": 1.0, "rate": 0.5}, optimizer="adam", **arguments
    )


class Recorder:
    """Notes what it is told, and stops the fit at the end of a subtask."""

    def __init__(self, stop_after=None, fail_at=None):
        self.events = []
        self.seen = []
        self.stop_after = stop_after
        self.fail_at = fail_at

    def note(self, name, context):
        depth = 0
        while context.parent is not None:
            depth, context = depth + 1, context.parent
        self.events.append((name, depth))
        if (name, depth) == self.fail_at:
            raise RuntimeError("on purpose")

    def count(self, *event):
        return self.events.count(event)

    def setup(self, estimator, context):
        self.max_subtasks = context.max_subtasks
        self.note("setup", context)

    def teardown(self, estimator, context):
        self.note("teardown", context)

    def on_fit_task_begin(self, estimator, context):
        self.note("begin", context)

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.note("end", context)
        self.seen.append((X, y, metadata, fitted_estimator))
        return self.stop_after is not None and self.count("end", 1) >= self.stop_after


def assert_same_fit(one, other):
    assert_array_equal(one.history_, other.history_)
    assert one.params_ == other.params_
    assert (one.loss_, one.status_, one.message_) == (
        other.loss_,
        other.status_,
        other.message_,
    )
    assert_array_equal(one.covariance_, other.covariance_)


def recorded(estimator, *args, stop_after=None, **kwargs):
    """Return the recorder of a fit."""
    recorder = Recorder(stop_after)
    estimator.set_callbacks(recorder).fit(*args, **kwargs)
    assert recorder.events[:2] == [("setup", 0), ("begin", 0)]
    assert recorder.events[-2:] == [("end", 0), ("teardown", 0)]
    # Begun and ended in turns, one at a time.
    inner = recorder.events[2:-2]
    assert inner == [("begin", 1), ("end", 1)] * (len(inner) // 2)
    return recorder


# Without callbacks, or without scikit-learn's.


def test_an_older_scikit_learn_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    mixin, decorator = _find_support()
    assert [name for name in dir(mixin) if not name.startswith("_")] == []
    assert decorator(decay) is decay


@with_callbacks
@pytest.mark.slow
def test_fits_are_the_same_without_the_mixin():
    script = """
import sys
sys.modules["sklearn.callback"] = None  # as in scikit-learn before 1.9
import numpy as np
from skoptax import OptaxEstimator
X = np.arange(12.0).reshape(6, 2)
estimator = OptaxEstimator(optimizer="adam", max_steps=3).fit(X, X[:, 0])
assert not hasattr(estimator, "set_callbacks")
print(sorted(estimator.get_params()), estimator.loss_)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    here = np.arange(12.0).reshape(6, 2)
    estimator = OptaxEstimator(optimizer="adam", max_steps=3).fit(here, here[:, 0])
    assert run.stdout.strip() == f"{sorted(estimator.get_params())} {estimator.loss_}"


def test_the_mixin_follows_scikit_learn():
    assert hasattr(OptaxEstimator, "set_callbacks") == (sklearn_callback is not None)
    assert issubclass(OptaxEstimator, CallbackSupport)


# What they are told.


@pytest.fixture(scope="module")
def plain():
    return adam().fit(X, Y)


@with_callbacks
def test_a_fit_is_a_task_of_blocks_of_steps(plain):
    estimator = adam()
    recorder = recorded(estimator, X, Y)
    # 100 subtasks at most: of 3 steps each, and the last of 1.
    assert recorder.max_subtasks == recorder.count("end", 1) == 84
    steps = [seen[3].n_iter_ for seen in recorder.seen]
    assert steps == [*range(3, 250, 3), 250, 250]
    assert_same_fit(estimator, plain)
    assert not hasattr(estimator, "_callback_fit_ctx")


@with_callbacks
def test_they_get_the_estimator_as_it_is_there(plain):
    recorder = recorded(adam(), X, Y)
    for given, y, metadata, there in recorder.seen:
        assert given is X and y is Y and metadata is None
        row = plain.history_.loc[there.n_iter_]
        assert there.params_ == {"amplitude": row["amplitude"], "rate": row["rate"]}
        assert there.selected_step_ == there.n_iter_
    there = recorder.seen[10][3]
    t = X["t"].to_numpy()
    expected = there.params_["amplitude"] * np.exp(-there.params_["rate"] * t)
    np.testing.assert_allclose(there.predict(X), expected, rtol=1e-12)


@with_callbacks
@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_each_step_of_an_optimiser_that_takes_few(optimizer):
    estimator = adam(max_steps=1000, learning_rate=None).set_params(optimizer=optimizer)
    plain = clone(estimator).fit(X, Y)
    recorder = recorded(estimator, X, Y)
    assert plain.converged_
    assert recorder.count("end", 1) == plain.n_iter_ == estimator.n_iter_
    assert recorder.max_subtasks == 1000
    assert_same_fit(estimator, plain)


@with_callbacks
def test_an_epoch_with_batches():
    held_out = {"X_val": X[:20], "y_val": Y[:20]}
    arguments = {"batch_size": 25, "max_epochs": 12, "max_steps": 1000}
    plain = adam(**arguments).fit(X, Y, Y**2, **held_out)
    estimator = adam(**arguments)
    recorder = recorded(estimator, X, Y, Y**2, **held_out)
    assert recorder.max_subtasks == recorder.count("end", 1) == 12
    for epoch, (_, _, metadata, there) in enumerate(recorder.seen[:-1], 1):
        assert_array_equal(metadata["sample_weight"], Y**2)
        assert there.n_iter_ == 3 * epoch
        # The best by held-out rows, as the fit would return it.
        scores = plain.history_["val_loss"][: 3 * epoch + 1]
        assert there.selected_step_ == scores.idxmin()
    assert_same_fit(estimator, plain)


@with_callbacks
def test_early_stopping_ends_within_a_subtask():
    arguments = {"early_stopping": True, "n_iter_no_change": 4, "learning_rate": 0.5}
    plain = adam(**arguments).fit(X, Y)
    estimator = adam(**arguments)
    recorder = recorded(estimator, X, Y)
    assert plain.status_ == "no_improvement"
    assert recorder.count("end", 1) == -(-plain.n_iter_ // 3)
    assert recorder.seen[-2][3].params_ == plain.params_
    assert_same_fit(estimator, plain)


@with_callbacks
def test_start_and_end_of_several_starts():
    estimator = adam(n_starts=3, max_steps=20)
    recorder = recorded(estimator, X, Y)
    assert recorder.max_subtasks == recorder.count("end", 1) == 0
    assert_same_fit(estimator, adam(n_starts=3, max_steps=20).fit(X, Y))


@with_callbacks
def test_no_steps():
    assert recorded(adam(max_steps=0), X, Y).max_subtasks == 0


@with_callbacks
def test_going_on(plain):
    estimator = adam(max_steps=125, warm_start=True)
    for _ in range(2):
        recorder = recorded(estimator, X, Y)
        assert recorder.max_subtasks == recorder.count("end", 1) == 63
    assert estimator.params_ == plain.params_
    recorder = Recorder()
    estimator.set_callbacks(recorder).partial_fit(X, Y)
    assert recorder.max_subtasks == recorder.count("end", 1) == 1


# Stopping.


@with_callbacks
def test_a_callback_may_stop_the_fit(plain):
    estimator = adam()
    recorder = recorded(estimator, X, Y, stop_after=7)
    assert recorder.count("end", 1) == 7
    assert (estimator.status_, estimator.n_iter_) == ("callback", 21)
    assert estimator.message_ == (
        "A callback of scikit-learn stopped the fit after 21 steps."
    )
    assert not estimator.converged_
    assert_array_equal(estimator.history_, plain.history_[:22])
    assert np.isfinite(estimator.covariance_).all()


@with_callbacks
def test_what_has_ended_is_not_stopped():
    estimator = adam(max_steps=3)
    recorded(estimator, X, Y, stop_after=3)
    assert estimator.status_ == "max_steps"


@with_callbacks
@pytest.mark.parametrize("replaces", [False, True])
def test_our_own_callbacks_beside_them(replaces):
    called = []

    def own(step, free, static, data, *rest):
        called.append(step)
        if replaces and step in (9, 39):
            rate = free["rate"]
            free = free | {"rate": rate.with_fields(value=jnp.asarray(1.0))}
        data["steps"] = list(called)
        return False, free, static

    arguments = {"callbacks": own, "chunk_size": 10, "max_steps": 40}
    plain = adam(**arguments).fit(X, Y)
    estimator = adam(**arguments)
    called.clear()
    recorder = recorded(estimator, X, Y)
    assert called == [9, 19, 29, 39]
    assert recorder.count("end", 1) == 40
    assert_same_fit(estimator, plain)
    called.clear()
    recorded(estimator, X, Y, stop_after=14)
    assert (estimator.status_, estimator.n_iter_) == ("callback", 14)
    # Ours see the end of a fit, too.
    assert called == [9, 13]


# Errors.


@with_callbacks
@pytest.mark.parametrize("where", [("begin", 0), ("end", 1), ("end", 0)])
def test_a_callback_that_fails(where, plain):
    recorder = Recorder(fail_at=where)
    estimator = adam(max_steps=5).fit(X, Y)
    before = estimator.params_
    estimator.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="on purpose"):
        estimator.fit(X, Y[::-1])
    assert recorder.count("teardown", 0) == 1
    assert not hasattr(estimator, "_callback_fit_ctx")
    # As after any fit that fails.
    assert estimator.params_ is before
    recorder.fail_at = None
    assert estimator.fit(X, Y).params_ == before


@with_callbacks
def test_a_fit_that_fails():
    recorder = Recorder()
    estimator = adam().set_params(params__amplitude=np.inf).set_callbacks(recorder)
    with pytest.raises((NonFiniteError, ValueError)):
        estimator.fit(X, Y)
    assert recorder.count("setup", 0) == recorder.count("teardown", 0)
    assert not hasattr(estimator, "_callback_fit_ctx")


@with_callbacks
def test_ctrl_c_in_a_callback(plain):
    class Interrupter(Recorder):
        def on_fit_task_end(self, estimator, context):
            self.note("end", context)
            if context.parent is not None and self.count("end", 1) == 4:
                raise KeyboardInterrupt

    recorder = Interrupter()
    estimator = adam().set_callbacks(recorder)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert estimator.status_ == "interrupted"
    assert_array_equal(estimator.history_, plain.history_[:13])
    assert recorder.events[-2:] == [("end", 0), ("teardown", 0)]


# scikit-learn's own.


@with_callbacks
def test_a_bar(capsys, plain):
    pytest.importorskip("rich")
    estimator = adam().set_callbacks(sklearn_callback.ProgressBar()).fit(X, Y)
    assert "OptaxEstimator - fit" in (shown := capsys.readouterr().out)
    assert "100%" in shown
    assert_same_fit(estimator, plain)


GRID = {"params__rate": [0.2, 0.5], "learning_rate": [0.02, 0.05]}


@pytest.fixture(scope="module")
def plain_search():
    return GridSearchCV(adam(), GRID, cv=2, return_train_score=True).fit(X, Y)


@with_callbacks
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.processes)])
def test_a_bar_of_a_search(n_jobs, capsys, plain_search):
    pytest.importorskip("rich")
    search = GridSearchCV(
        adam(), GRID, cv=2, return_train_score=True, n_jobs=n_jobs, error_score="raise"
    )
    search.set_callbacks(sklearn_callback.ProgressBar(max_propagation_depth=None))
    search.fit(X, Y)
    shown = capsys.readouterr().out
    assert "GridSearchCV - fit" in shown
    assert shown.count("OptaxEstimator - fit") >= 9  # eight fits and the best one
    for name, found in search.cv_results_.items():
        if name.endswith("score") or name.startswith("split"):
            assert_array_equal(found, plain_search.cv_results_[name], err_msg=name)
    assert_same_fit(search.best_estimator_, plain_search.best_estimator_)


@with_callbacks
def test_scores_of_each_block(plain):
    monitor = sklearn_callback.ScoringMonitor(scoring=["r2", "neg_mean_squared_error"])
    adam().set_callbacks(monitor).fit(X, Y)
    log = monitor.get_logs().data
    scores = [row["r2"] for row in log if row["task_name"] == "steps"]
    t = X["t"].to_numpy()
    rows = plain.history_.loc[[*range(3, 250, 3), 250]]
    expected = [
        r2_score(Y, row["amplitude"] * np.exp(-row["rate"] * t))
        for _, row in rows.iterrows()
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-12)
    assert scores[0] < scores[5] < scores[-1]
    (whole,) = (row for row in log if row["task_name"] == "fit")
    assert whole["r2"] == scores[-1] == plain.score(X, Y)


@with_callbacks
def test_scores_with_weights_inside_a_pipeline():
    monitor = sklearn_callback.ScoringMonitor(scoring="r2")
    inner = OptaxEstimator(optimizer="lm").set_callbacks(monitor)
    model = make_pipeline(StandardScaler(), inner)
    model.fit(X, Y, optaxestimator__sample_weight=Y**2)
    *_, last = monitor.get_logs().data
    expected = model.score(X, Y, sample_weight=Y**2)
    np.testing.assert_allclose(last["r2"], expected, rtol=1e-12)


@with_callbacks
def test_clones_and_pickles(plain):
    monitor = sklearn_callback.ScoringMonitor(scoring="r2")
    estimator = adam().set_callbacks(monitor)
    assert estimator.get_params() == adam().get_params()
    assert clone(estimator)._skl_callbacks == [monitor]
    estimator.fit(X, Y)
    there = pickle.loads(pickle.dumps(estimator))
    assert_same_fit(there, plain)
    there.set_callbacks()
    assert vars(there).keys() == vars(plain).keys()


@with_callbacks
def test_a_fit_that_goes_on_from_a_checkpoint(tmp_path):
    callbacks = [Checkpoint(tmp_path), Resume(tmp_path)]
    adam(max_steps=120, callbacks=callbacks).fit(X, Y)
    recorder = Recorder()
    fit = adam(callbacks=callbacks).set_callbacks(recorder).fit(X, Y)
    assert fit.history_.equals(adam().fit(X, Y).history_)
    # 250 steps are 84 subtasks of 3; at step 120, 40 of them are over.
    ends = [event for event in recorder.events if event[0] == "end"]
    assert len(ends) == 84 - 40 + 1
