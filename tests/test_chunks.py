"""Fits to data in chunks beside `partial_fit`, and loops written by hand."""

from __future__ import annotations

import _thread
import contextvars
import gc
import threading
import time
import weakref
from contextlib import nullcontext
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context, get_config

from skoptax import OptaxEstimator, Parameter, cache_info
from skoptax._chunk_data import Maker
from skoptax._chunks import Ahead, open_chunks, parts_of
from skoptax._driver import Run
from skoptax._problem import draw_seed
from skoptax._route import Judge
from skoptax._shuffle import seed_of_epoch, shuffled
from skoptax._transfer import aligned_copy
from skoptax.callbacks import Callback, Checkpoint
from skoptax.exceptions import (
    ConvergenceWarning,
    InvalidParameterError,
    NonFiniteError,
    NonFiniteWarning,
    UncachedWarning,
)

RNG = np.random.default_rng(0)
SIZES = (40, 40, 25, 37)


def make(n):
    X = RNG.normal(size=(n, 2))
    return X, X @ [1.0, -2.0] + 0.3 + 0.1 * RNG.normal(size=n)


CHUNKS = [make(n) for n in SIZES]
WEIGHTED = [(X, y, RNG.uniform(0.5, 2.0, len(X))) for X, y in CHUNKS]
X_VAL, Y_VAL = make(30)


def plane(X, w, b):
    return X @ w + b


def fit(**arguments):
    given = {
        "params": {"w": np.zeros(2), "b": 0.0},
        "optimizer": "adam",
        "learning_rate": 0.03,
        "batch_size": 16,
        "max_epochs": 3,
        "random_state": 0,
        "cov_type": None,
    }
    return OptaxEstimator(plane, **given | arguments)


def in_parts(estimator, chunks, epochs):
    """Return an estimator fitted chunk by chunk, and all losses but the last of each"""
    losses = []
    for _ in range(epochs):
        for chunk in chunks:
            estimator.partial_fit(*chunk)
            losses += estimator.history_["loss"].to_list()[:-1]
    return estimator, np.append(losses, estimator.history_["loss"].iloc[-1])


KINDS = {
    "batches": {},
    "in order": {"shuffle": False},
    "whole chunks": {"batch_size": None},
    "a chunk is smaller": {"batch_size": 38},
    "momentum": {"optimizer": "sgd", "optimizer_kwargs": {"momentum": 0.9}},
    "schedule": {"learning_rate": optax.exponential_decay(0.1, 5, 0.9)},
    "single precision": {"dtype": "float32"},
    "weights": {"cov_type": "nonrobust"},
}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# What is computed.


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_partial_fit_on_each_chunk(kind):
    chunks = WEIGHTED if kind == "weights" else CHUNKS
    found = fit(**KINDS[kind]).fit_chunks(chunks)
    parts, losses = in_parts(fit(**KINDS[kind]), chunks, 3)
    assert_array_equal(found.params_["w"], parts.params_["w"])
    assert found.params_["b"] == parts.params_["b"]
    assert_array_equal(found.history_["loss"], losses)
    assert found.loss_ == parts.loss_
    assert_array_equal(found._record.spread, parts._record.spread)
    if kind == "weights":
        assert np.isfinite(parts.covariance_).all()
        assert_array_equal(found.covariance_, parts.covariance_)
    assert found.n_iter_ == found.selected_step_ == len(losses) - 1


@pytest.mark.parametrize("cov_type", ["nonrobust", None])
@pytest.mark.filterwarnings("ignore::skoptax.exceptions.UndeterminedWarning")
def test_the_report_says_what_it_is_of(cov_type):
    found = fit(cov_type=cov_type).fit_chunks(CHUNKS)
    note = (
        "After fit_chunks: standard errors, intervals, statistics and the objective "
        f"are those of one chunk alone, of {len(CHUNKS[-1][1])} responses."
    )
    assert found.report().notes[0] == note
    assert found.summary().attrs["notes"][0] == note
    assert note in str(found.report())
    found.fit(*CHUNKS[0])
    assert "fit_chunks" not in str(found.report())


def test_scales_and_bounds_are_as_in_partial_fit():
    spec = {
        "w": Parameter(value=np.ones(2), scale=3.0),
        "b": Parameter(value=0.7, transform="log", upper=0.9),
    }
    found = fit(params=spec).fit_chunks(CHUNKS)
    parts, losses = in_parts(fit(params=spec), CHUNKS, 3)
    assert_allclose(found.history_["loss"], losses, rtol=1e-12)
    assert_allclose(found.params_["w"], parts.params_["w"], rtol=1e-12)
    assert found.at_bound_["b"] == parts.at_bound_["b"]


def objective(values, X, y, weights, total):
    each = 0.5 * weights * (y - plane(X, *values)) ** 2
    return jnp.sum(each) / (len(X) * total)


def by_hand(estimator, optimizer, chunks, epochs):
    """Return the path and the losses of a loop over the same batches."""
    seed, size = draw_seed(estimator), estimator.batch_size
    find, update = map(jax.jit, (jax.value_and_grad(objective), optimizer.update))
    arrange = jax.jit(
        lambda k, n, seed, epoch: shuffled(k, n, seed_of_epoch(seed, epoch))
    )
    values = (jnp.zeros(2), jnp.zeros(()))
    state, path, losses, count = optimizer.init(values), [], [], 0
    for _ in range(epochs):
        for X, y, weights in chunks:
            n = len(X)
            order = np.arange(n)
            if estimator.shuffle:
                order = np.asarray(arrange(order, np.int32(n), np.uint32(seed), count))
            count += 1
            for first in range(0, n, size):
                rows = order[first : first + size]
                total = weights.sum() / n
                loss, gradient = find(values, X[rows], y[rows], weights[rows], total)
                path.append(np.append(*values))
                losses.append(float(loss))
                updates, state = update(gradient, state, values)
                values = optax.apply_updates(values, updates)
    return np.array([*path, np.append(*values)]), np.array(losses)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loop_by_hand(shuffle):
    estimator = fit(shuffle=shuffle, max_epochs=2).fit_chunks(WEIGHTED)
    with jax.enable_x64(True):
        path, losses = by_hand(estimator, optax.adam(0.03), WEIGHTED, 2)
    assert_allclose(estimator.history_["loss"][:-1], losses, rtol=1e-10)
    assert_allclose(estimator.history_["b"], path[:, 2], rtol=1e-9, atol=1e-13)
    assert_allclose(estimator.params_["w"], path[-1, :2], rtol=1e-9)


def test_one_chunk_is_a_fit():
    whole = fit(n_iter_no_change=2).fit(*CHUNKS[0])
    found = fit(n_iter_no_change=2).fit_chunks(CHUNKS[:1])
    assert_array_equal(found.history_, whole.history_)
    assert list(found.history_) == list(whole.history_)
    assert found.message_ == whole.message_


def test_epochs_and_steps_are_counted():
    per_epoch = [3, 3, 2, 3]  # of 16 rows
    found = fit().fit_chunks(CHUNKS)
    expected = np.repeat(np.arange(3), sum(per_epoch))
    assert_array_equal(found.history_["epoch"], [*expected, 3])
    assert (found.status_, found.n_iter_) == ("max_steps", 33)
    for steps in (0, 1, 3, 7, 11, 13):
        part = fit(max_epochs=None, max_steps=steps).fit_chunks(CHUNKS)
        assert part.n_iter_ == steps
        assert_array_equal(part.history_["loss"][:-1], found.history_["loss"][:steps])
    assert fit(max_epochs=0).fit_chunks(CHUNKS).n_iter_ == 0


def test_auto_is_adam_also_for_whole_chunks():
    arguments = {"batch_size": None, "max_epochs": 2}
    found = fit(optimizer="auto", **arguments).fit_chunks(CHUNKS)
    assert_array_equal(found.history_, fit(**arguments).fit_chunks(CHUNKS).history_)


def test_two_fits_make_one():
    whole = fit(max_epochs=4).fit_chunks(CHUNKS)
    found = fit(max_epochs=2, warm_start=True).fit_chunks(CHUNKS).fit_chunks(CHUNKS)
    assert_array_equal(found.params_["w"], whole.params_["w"])
    found = fit(max_epochs=3, warm_start=True).fit_chunks(CHUNKS)
    for chunk in CHUNKS:
        found.partial_fit(*chunk)
    assert_array_equal(found.params_["w"], whole.params_["w"])


def test_chunks_of_a_bucket_share_a_program():
    fit(max_epochs=1).fit_chunks(CHUNKS)
    before = cache_info().compilations
    fit(learning_rate=0.1).fit_chunks([*CHUNKS, make(50), make(64)])
    assert cache_info().compilations == before


def test_a_model_without_a_key_is_compiled_once_for_each_length():
    def plane_without_a_key(X, w, b):
        globals()
        return X @ w + b

    counts = []
    estimator = fit(batch_size=None, row_independent=False)
    estimator.set_params(model=plane_without_a_key)
    for epochs in (1, 3):
        before = cache_info().compilations
        with pytest.warns(UncachedWarning):
            estimator.set_params(max_epochs=epochs).fit_chunks(
                [CHUNKS[0], CHUNKS[2]], X_val=X_VAL, y_val=Y_VAL
            )
        counts.append(cache_info().compilations - before)
    # Two lengths, held-out rows, and the objective where the best is another state.
    assert counts[0] == counts[1] <= 4


@pytest.mark.parametrize("kind", ["list", "function", "generator", "dataset"])
def test_what_chunks_may_be(kind):
    class Dataset:
        def __getitem__(self, i):
            return list(CHUNKS[i])

    chunks = {
        "list": CHUNKS,
        "function": lambda: iter(CHUNKS),
        "generator": (chunk for chunk in CHUNKS),
        "dataset": Dataset(),
    }[kind]
    epochs = 1 if kind == "generator" else 3
    expected = fit(max_epochs=epochs).fit_chunks(CHUNKS)
    found = fit(max_epochs=epochs).fit_chunks(chunks)
    assert_array_equal(found.history_, expected.history_)


@pytest.mark.parametrize("epochs", [3, None])
def test_an_iterator_of_one_pass_is_a_fit_of_one_epoch(epochs):
    chunks = iter(CHUNKS) if epochs else (chunk for chunk in CHUNKS)
    match = "Stopped after 11 steps, .* none in epoch 2. Give a list"
    with pytest.warns(ConvergenceWarning, match=match) as caught:
        found = fit(max_epochs=epochs).fit_chunks(chunks, X_val=X_VAL, y_val=Y_VAL)
    assert caught[0].filename == __file__
    expected = fit(max_epochs=1).fit_chunks(CHUNKS, X_val=X_VAL, y_val=Y_VAL)
    assert_array_equal(found.history_, expected.history_)
    assert_array_equal(found.params_["w"], expected.params_["w"])
    assert found.loss_ == expected.loss_
    assert found.message_ in str(caught[0].message)


def test_an_iterator_that_begins_again_is_iterated_again():
    class Again:
        def __iter__(self):
            self.left = list(CHUNKS)
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    found = fit().fit_chunks(Again())
    assert_array_equal(found.history_, fit().fit_chunks(CHUNKS).history_)


def test_who_fills_the_same_array_again_may_do_so():
    X, y = np.empty((9000, 2)), np.empty(9000)  # of no bucket

    def refilled():
        for k in range(4):
            rng = np.random.default_rng(k)
            X[:], y[:] = rng.normal(size=X.shape), rng.normal(size=9000)
            yield X, y

    kept = [(X.copy(), y.copy()) for X, y in refilled()]
    arguments = {"batch_size": 1000, "max_epochs": 2}
    found = fit(**arguments).fit_chunks(refilled)
    assert_array_equal(found.history_, fit(**arguments).fit_chunks(kept).history_)


def test_large_chunks_are_copied_once(monkeypatch):
    copied, copy = [], aligned_copy

    def counting(array):
        copied.append(array.shape)
        return copy(array)

    monkeypatch.setattr("skoptax._chunk_data.aligned_copy", counting)
    monkeypatch.setattr("skoptax._transfer.aligned_copy", counting)
    monkeypatch.setattr("skoptax._transfer._LARGE", 1 << 17)
    X, y = make(9000)
    fit(max_epochs=None, max_steps=1).fit_chunks([(X, y)])
    assert copied == [(9000, 2), (9000,)]


def test_names_of_columns_are_those_of_the_first_chunk():
    frames = [(pd.DataFrame(X, columns=["a", "b"]), y) for X, y in CHUNKS]
    found = fit(max_epochs=1).fit_chunks(frames)
    assert list(found.feature_names_in_) == ["a", "b"]
    assert found.n_features_in_ == 2
    other = [frames[0], (frames[1][0][["b", "a"]], frames[1][1])]
    with pytest.raises(ValueError, match=r"Chunk 2 of epoch 1: .*\['b', 'a'\]"):
        fit(max_epochs=1).fit_chunks(other)


# Held-out rows, and when to stop.


def noisy(n):
    X = RNG.normal(size=(n, 2))
    return X, X @ [1.0, -2.0] + RNG.normal(size=n)


NOISY = [noisy(20) for _ in range(3)]


def val_losses(estimator, chunks, epochs):
    """Return the loss of the held-out rows at the start and after each epoch."""
    found = [0.5 * np.mean(Y_VAL**2)]
    for _ in range(epochs):
        in_parts(estimator, chunks, 1)
        found.append(0.5 * np.mean((Y_VAL - estimator.predict(X_VAL)) ** 2))
    return np.array(found)


def test_early_stopping():
    arguments = {"optimizer": "sgd", "learning_rate": 0.3, "batch_size": 8}
    losses = val_losses(fit(**arguments), NOISY, 60)
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= 3:
            break
    arguments |= {"max_epochs": 60, "early_stopping": True, "n_iter_no_change": 3}
    found = fit(**arguments).fit_chunks(NOISY, X_val=X_VAL, y_val=Y_VAL)
    assert (found.status_, found.n_iter_) == ("no_improvement", 9 * epoch)
    said = f"not improved for 3 epochs; the result is that of step {9 * best}."
    assert f"validation loss has {said}" in found.message_
    assert found.selected_step_ == 9 * best < found.n_iter_
    column = found.history_["val_loss"]
    assert_allclose(column[::9], losses[: epoch + 1], rtol=1e-12)
    assert column.notna().sum() == epoch + 1
    at_best = 0.5 * np.mean((Y_VAL - found.predict(X_VAL)) ** 2)
    assert_allclose(at_best, losses[best], rtol=1e-12)


def test_held_out_rows_are_looked_at_where_max_steps_ends_the_fit():
    found = fit(max_epochs=None, max_steps=5).fit_chunks(
        CHUNKS, X_val=X_VAL, y_val=Y_VAL, sample_weight_val=np.ones(30)
    )
    assert_array_equal(found.history_["val_loss"].notna(), [1, 0, 0, 0, 0, 1])
    assert found.selected_step_ == 5


@pytest.mark.parametrize("ends_by", ["callback", "interrupted"])
def test_held_out_rows_are_looked_at_where_a_fit_is_ended(ends_by):
    def end(step, free, static, data, aux, loss, grads):
        if step == 5 and ends_by == "interrupted":
            raise KeyboardInterrupt
        return step == 5, free, static

    found = fit(callbacks=end)
    context = pytest.raises(KeyboardInterrupt)
    with context if ends_by == "interrupted" else nullcontext():
        found.fit_chunks(CHUNKS, X_val=X_VAL, y_val=Y_VAL)
    assert (found.status_, found.n_iter_) == (ends_by, 6)
    column = found.history_["val_loss"]
    assert_array_equal(column.notna(), [1, 0, 0, 0, 0, 0, 1])
    assert column[6] < column[0]
    assert found.selected_step_ == 6
    there = 0.5 * np.mean((Y_VAL - found.predict(X_VAL)) ** 2)
    assert_allclose(column[6], there, rtol=1e-12)


def test_ctrl_c_at_the_last_look_keeps_what_is_there(monkeypatch):
    def end(step, free, static, data, aux, loss, grads):
        return step == 5, free, static

    look = Judge.look

    def interrupted(self, run, epoch):
        if run.step == 6:
            raise KeyboardInterrupt
        return look(self, run, epoch)

    monkeypatch.setattr(Judge, "look", interrupted)
    found = fit(callbacks=end)
    with pytest.raises(KeyboardInterrupt):
        found.fit_chunks(CHUNKS, X_val=X_VAL, y_val=Y_VAL)
    assert (found.status_, found.n_iter_) == ("interrupted", 6)
    assert found.selected_step_ == 0


def test_ctrl_c_before_the_first_look(monkeypatch):
    def interrupted(run, held_out):
        raise KeyboardInterrupt

    monkeypatch.setattr("skoptax._route.score_by", interrupted)
    found = fit()
    with pytest.raises(KeyboardInterrupt):
        found.fit_chunks(CHUNKS, X_val=X_VAL, y_val=Y_VAL)
    assert (found.status_, found.n_iter_) == ("interrupted", 0)
    assert np.isfinite(found.predict(X_VAL)).all()


def test_ctrl_c_where_no_held_out_loss_was_finite():
    def near(X, w, b):
        return jnp.where(jnp.abs(X[:, 0]) > 1e3, jnp.nan, plane(X, w, b))

    def interrupt(step, free, static, data, aux, loss, grads):
        raise KeyboardInterrupt

    found = fit(callbacks=interrupt).set_params(model=near)
    with pytest.raises(KeyboardInterrupt):
        found.fit_chunks(CHUNKS, X_val=1e9 * X_VAL, y_val=Y_VAL)
    assert (found.status_, found.n_iter_) == ("interrupted", 1)
    with pytest.raises(NonFiniteError, match="held-out rows was not finite"):
        fit().set_params(model=near).fit_chunks(CHUNKS, X_val=1e9 * X_VAL, y_val=Y_VAL)


def test_patience_goes_by_the_mean_of_an_epoch():
    arguments = {"optimizer": "sgd", "learning_rate": 0.3, "batch_size": 8}
    losses = fit(**arguments, max_epochs=60).fit_chunks(NOISY).history_["loss"]
    means = losses.to_numpy()[:-1].reshape(60, 9).mean(axis=1)
    best = 0
    for epoch, mean in enumerate(means):
        if mean < means[best]:
            best = epoch
        if epoch - best >= 4:
            break
    arguments |= {"max_epochs": 60, "n_iter_no_change": 4}
    found = fit(**arguments).fit_chunks(NOISY)
    assert (found.status_, found.n_iter_) == ("no_improvement", 9 * (epoch + 1))


# Those who watch.


class Recorder(Callback):
    def on_run_start(self, fitting_data):
        super().on_run_start(fitting_data)
        fitting_data["steps"], fitting_data["losses"] = [], []

    def on_step(self, step, diff, static, fitting_data, aux, loss, grads):
        fitting_data["steps"].append(step)
        fitting_data["losses"].append(float(loss))

    def on_run_end(self, fitting_data):
        fitting_data["ended"] = fitting_data.get("ended", 0) + 1


def test_callbacks_see_one_fit():
    plain = fit().fit_chunks(CHUNKS)
    found = fit(callbacks=Recorder()).fit_chunks(CHUNKS)
    data = found.fitting_data_
    assert_array_equal(found.history_, plain.history_)
    assert data["steps"] == list(range(33))
    assert_array_equal(data["losses"], plain.history_["loss"][1:])
    assert data["ended"] == 1
    found = fit(callbacks=Recorder(every=10)).fit_chunks(CHUNKS)
    assert found.fitting_data_["steps"] == [0, 10, 20, 30]
    found = fit(callbacks=Recorder(), chunk_size=7).fit_chunks(CHUNKS)
    assert found.fitting_data_["steps"] == [6, 13, 20, 27, 32]


def test_a_callback_may_stop_and_replace():
    plain = fit().fit_chunks(CHUNKS)

    def stop(step, free, static, data, aux, loss, grads):
        return step == 12, free, static

    found = fit(callbacks=stop).fit_chunks(CHUNKS)
    assert (found.status_, found.n_iter_) == ("callback", 13)
    assert_array_equal(found.history_, plain.history_[:14])

    def again(step, free, static, data, aux, loss, grads):
        # At the last step on a chunk, the first on the next one, and at the end.
        here = step in (1, 2, 5, 32)
        return False, jax.tree.map(jnp.array, free) if here else free, static

    found = fit(callbacks=again).fit_chunks(CHUNKS)
    assert_allclose(found.history_["loss"], plain.history_["loss"], rtol=1e-12)


def test_a_bar(capsys):
    fit(verbose=1).fit_chunks(CHUNKS)
    assert "12 of 12 chunks" in capsys.readouterr().err

    class Loader(list):
        def __len__(self):
            raise TypeError("of a stream")

    fit(verbose=1).fit_chunks(Loader(CHUNKS))
    assert "3 of 3 epochs" in capsys.readouterr().err
    fit(verbose=1).fit_chunks(lambda: CHUNKS, X_val=X_VAL, y_val=Y_VAL)
    shown = capsys.readouterr().err
    assert "3 of 3 epochs" in shown and "best val_loss" in shown
    fit(verbose=1, max_epochs=None, max_steps=5).fit_chunks(CHUNKS)
    assert "5 of 5 steps" in capsys.readouterr().err


@pytest.mark.skipif(
    not hasattr(OptaxEstimator, "set_callbacks"),
    reason="callbacks came with scikit-learn 1.9",
)
def test_callbacks_of_scikit_learn_hear_of_epochs():
    class Epochs:
        ended = ()

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            if context.parent is not None:
                self.ended = (*self.ended, context.task_id)
            return self.ended == (0, 1)

        def teardown(self, estimator, context):
            pass

    watch = Epochs()
    found = fit(max_epochs=5).set_callbacks(watch).fit_chunks(CHUNKS)
    assert (found.status_, found.n_iter_) == ("callback", 22)
    watch = Epochs()
    found = fit(max_epochs=1).set_callbacks(watch).fit_chunks(CHUNKS)
    assert watch.ended == (0,)
    assert found.status_ == "max_steps"


# What ends it.


def test_ctrl_c_keeps_what_there_is():
    def interrupt(step, free, static, data, aux, loss, grads):
        if step == 4:
            raise KeyboardInterrupt
        return False, free, static

    found = fit(callbacks=interrupt)
    with pytest.raises(KeyboardInterrupt):
        found.fit_chunks(CHUNKS)
    assert (found.status_, found.n_iter_) == ("interrupted", 5)


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("is_seen", [True, False])
def test_ctrl_c_while_chunks_change(monkeypatch, batch_size, is_seen):
    see, calls = Run.see, []

    def interrupted(self, *chunk):
        calls.append(chunk)
        if len(calls) == 2 and not is_seen:
            raise KeyboardInterrupt
        see(self, *chunk)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "see", interrupted)
    found = fit(batch_size=batch_size, cov_type="nonrobust")
    with pytest.raises(KeyboardInterrupt):
        found.fit_chunks(CHUNKS)
    assert found.n_iter_ == (1 if batch_size is None else 5)
    # That of the chunk that the next step would take, the third.
    X, y = CHUNKS[2]
    residuals = y - found.predict(X)
    assert_allclose(found.loss_, 0.5 * np.mean(residuals**2), rtol=1e-12)
    design = np.column_stack([X, np.ones(len(X))])
    sigma2 = residuals @ residuals / (len(X) - 3)
    covariance = sigma2 * np.linalg.inv(design.T @ design)
    assert_allclose(found.covariance_, covariance, rtol=1e-9)


def test_non_finite_values_end_it():
    def near(X, w, b):
        return jnp.where(jnp.abs(X[:, 0]) > 1e3, jnp.nan, plane(X, w, b))

    bad = [*CHUNKS[:2], (1e9 * CHUNKS[2][0], CHUNKS[2][1]), CHUNKS[3]]
    with pytest.warns(NonFiniteWarning, match="not finite"):
        found = fit().set_params(model=near).fit_chunks(bad)
    assert found.status_ == "non_finite"
    assert "is not finite, at chunk 3 of epoch 1; the result is" in found.message_
    assert found.selected_step_ == 5
    assert np.isfinite(found.params_["w"]).all()


def test_an_endless_stream_ends_and_is_closed():
    closed = []

    def endless():
        try:
            while True:
                yield CHUNKS[len(closed)]
        finally:
            closed.append(threading.current_thread().name)

    assert fit(max_epochs=None, max_steps=20).fit_chunks(endless).n_iter_ == 20
    assert closed == ["skoptax-chunks"]


def test_an_error_of_the_iterator_is_its_own():
    error = OSError("the disk is gone")

    def failing():
        yield from CHUNKS[:2]
        raise error

    found = fit().fit_chunks(CHUNKS)
    before = found.params_["b"]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        found.fit_chunks(failing)
    assert caught.value is error
    assert error.__notes__ == ["Raised by chunks, at chunk 3 of epoch 1."]
    assert caught.traceback[-1].name == "failing"
    assert found.params_["b"] == before


def test_an_error_in_the_clean_up_is_told_and_the_fit_kept():
    def failing():
        try:
            while True:
                yield CHUNKS[0]
        finally:
            raise OSError("the disk is gone")

    arguments = {"max_epochs": None, "max_steps": 5}
    with pytest.warns(RuntimeWarning, match=r"raised OSError\('the disk") as caught:
        found = fit(**arguments).fit_chunks(failing)
    assert isinstance(caught[0].message.__cause__, OSError)
    expected = fit(**arguments).fit_chunks([CHUNKS[0]] * 2)
    assert_array_equal(found.history_["loss"], expected.history_["loss"])


def test_an_error_in_the_clean_up_does_not_hide_another():
    def failing():
        try:
            yield CHUNKS[0]
            yield CHUNKS[1]
        finally:
            raise OSError("the disk is gone")

    def fail(step, free, static, data, aux, loss, grads):
        raise LookupError

    with pytest.raises(LookupError) as caught:
        fit(callbacks=fail, max_epochs=None).fit_chunks(failing)
    assert caught.value.__notes__[-1].startswith("Then closing chunks raised OSError")


# The settings of who calls.


def test_the_function_runs_with_the_settings_of_the_caller():
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def read():
        device = getattr(jax.config, "jax_default_device")  # noqa: B009
        for X, y in CHUNKS[:2]:
            seen.append((device, get_config()["assume_finite"], variable.get()))
            yield jnp.asarray(X), jnp.asarray(y)

    device = jax.devices()[0]
    variable.set(1)
    for double in (True, False):
        with (
            jax.enable_x64(double),
            jax.default_device(device),
            config_context(assume_finite=True),
        ):
            found = fit().fit_chunks(read)
            expected = fit().fit_chunks(list(read()))
        dtype = np.float64 if double else np.float32
        assert found.history_["loss"].dtype == dtype
        assert_array_equal(found.history_, expected.history_)
    assert set(seen) == {(device, True, 1)}


X0, Y0 = CHUNKS[0]
USED = iter(CHUNKS)
WRONG = {
    "no iterable": (5, {}, "'chunks' parameter .* Got 5"),
    "a function of none": (lambda: 5, {}, "'chunks' parameter .* Got 5"),
    "no chunk": ([], {}, "chunks has given none"),
    "X and y": ((X0, Y0), {}, "must be a tuple .* at chunk 1 of epoch 1"),
    "four": ([(X0, Y0, Y0, Y0)], {}, "Got a tuple of 4 .* at chunk 1"),
    "a generator": ((c for c in CHUNKS), {}, "max_epochs=3 asks for more"),
    "a map": (map(tuple, CHUNKS), {}, "of type map, .* max_epochs=3 asks for more"),
    "a zip": (zip(*zip(*CHUNKS, strict=True), strict=True), {}, "of type zip"),
    "a filter": (filter(None, CHUNKS), {}, "of type filter"),
    "islice": (islice(CHUNKS, 4), {}, "of type islice"),
    "a used iterator": (lambda: USED, {}, "given 4 in epoch 1, and none"),
    "columns": ([CHUNKS[0], (X0[:, :1], Y0)], {}, "^Chunk 2 .* X has 1 features"),
    "lengths": ([CHUNKS[0], (X0, Y0[1:])], {}, "^Chunk 2 of epoch 1: Found input"),
    "missing": ([(X0, Y0 * np.nan)], {}, "^Chunk 1 of epoch 1: .*NaN"),
    "outputs": ([CHUNKS[0], (X0, X0)], {}, "^Chunk 2 .* as many outputs"),
    "weights": ([CHUNKS[0], (X0, Y0, -(Y0**2))], {}, "^Chunk 2 .*Negative values"),
    "no rows": ([CHUNKS[0], (X0[:0], Y0[:0])], {}, "^Chunk 2 .*0 sample"),
    "strings": ([CHUNKS[0], (X0, ["a"] * 40)], {}, "^Chunk 2 .*must hold numbers"),
    "counts": (
        [(X0, Y0**2), (X0, Y0)],
        {"loss": "poisson", "params": {"w": np.zeros(2), "b": 1.0}},
        "^Chunk 2 of epoch 1: ",
    ),
    "lbfgs": (CHUNKS, {"optimizer": "lbfgs", "batch_size": None}, "noisy gradients"),
    "lm": (CHUNKS, {"optimizer": "lm"}, "noisy gradients"),
    "tol": (CHUNKS, {"tol": 1e-3}, "does not vanish"),
    "batch_size": (CHUNKS, {"batch_size": 0}, "at least 1"),
    "max_epochs": (CHUNKS, {"max_epochs": -1}, "at least 0"),
    "early_stopping": (CHUNKS, {"early_stopping": True}, "needs X_val and y_val"),
    "warm_start": (CHUNKS, {"warm_start": "yes"}, "a bool"),
    "n_starts": (CHUNKS, {"n_starts": 2}, "batches or validation"),
    "checkpoint": (CHUNKS, {"callbacks": Checkpoint("x", every=5)}, "do not go with"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input(kind):
    chunks, arguments, match = WRONG[kind]
    estimator = fit(**arguments)
    with pytest.raises((ValueError, TypeError), match=match):
        estimator.fit_chunks(chunks)
    assert not hasattr(estimator, "n_features_in_")


def test_held_out_rows_are_checked():
    with pytest.raises(InvalidParameterError, match="X_val comes with y_val"):
        fit().fit_chunks(CHUNKS, X_val=X_VAL)
    with pytest.raises(ValueError, match="expecting 2 features"):
        fit().fit_chunks(CHUNKS, X_val=X_VAL[:, :1], y_val=Y_VAL)


def test_columns_are_those_of_the_fit_it_goes_on_from():
    found = fit(warm_start=True).fit(*CHUNKS[0])
    with pytest.raises(ValueError, match="expecting 2 features"):
        found.fit_chunks([(np.ones((5, 3)), np.ones(5))])
    assert found.n_features_in_ == 2


def test_ctrl_c_while_a_chunk_is_waited_for():
    def waited_for():
        yield from CHUNKS[:2]
        _thread.interrupt_main()
        time.sleep(0.1)
        yield CHUNKS[2]

    found = fit()
    with pytest.raises(KeyboardInterrupt):
        found.fit_chunks(waited_for)
    assert found.status_ == "interrupted"
    assert 0 < found.n_iter_ <= 5
    assert np.isfinite(found.predict(X_VAL)).all()


class Blocked:
    """An iterator that waits for ever after two chunks, until it is released."""

    def __init__(self):
        self.is_waiting, self.release = threading.Event(), threading.Event()
        self.is_closed = False

    def __call__(self):
        try:
            yield from CHUNKS[:2]
            self.is_waiting.set()
            self.release.wait(20)
            yield CHUNKS[2]
        finally:
            self.is_closed = True

    def end(self):
        self.release.set()
        wait_for(lambda: not readers())


def readers():
    return [t for t in threading.enumerate() if t.name == "skoptax-chunks"]


def interrupt_after(seconds):
    def interrupt():
        time.sleep(seconds)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_no_chunk_is_read_that_no_step_is_for():
    blocked = Blocked()
    found = fit(max_epochs=None, max_steps=6).fit_chunks(blocked)
    assert found.n_iter_ == 6
    assert blocked.is_closed and not blocked.is_waiting.is_set()


def test_ctrl_c_while_the_end_of_the_thread_is_waited_for():
    blocked, made = Blocked(), []

    class Counting(Maker):
        def __call__(self, part):
            made.append(part.number)
            return super().__call__(part)

    def stop(step, free, static, data, aux, loss, grads):
        if step == 3:
            blocked.is_waiting.wait(20)
            threads_of_test.append(interrupt_after(0.5))
        return step == 3, free, static

    threads_of_test = []
    found = fit(callbacks=stop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skoptax._chunked.Maker", Counting)
        with pytest.raises(KeyboardInterrupt):
            found.fit_chunks(blocked)
    threads_of_test[0].join()
    # The fit had ended before that.
    assert (found.status_, found.n_iter_) == ("callback", 4)
    assert np.isfinite(found.predict(X_VAL)).all()
    assert [thread.daemon for thread in readers()] == [True]
    blocked.end()
    assert blocked.is_closed
    # What came too late is let go of.
    assert made == [0, 1]


def test_no_more_than_two_chunks_are_kept():
    alive = []

    def read():
        for k in range(8):
            gc.collect()
            alive.append(sum(ref() is not None for ref in kept))
            yield CHUNKS[k % 4]

    kept = []

    class Keeping(Maker):
        def arranged(self, checked, data):
            chunk = super().arranged(checked, data)
            kept.append(weakref.ref(chunk))
            return chunk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skoptax._chunked.Maker", Keeping)
        fit(max_epochs=1).fit_chunks(read)
    # While one is read, one is fitted.
    assert len(kept) == 8
    assert max(alive) == 1


# The reader.


def counting(made, n):
    for k in range(n):
        made.append(k)
        yield k


def wait_for(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


def test_no_more_is_made_than_is_allowed():
    made = []
    with Ahead(counting(made, 10), lambda k: 2 * k) as reader:
        assert reader.take() == 0
        time.sleep(0.02)
        assert made == [0]
        reader.allow()
        wait_for(lambda: len(made) == 2)
        time.sleep(0.02)
        assert made == [0, 1]
        assert reader.take() == 2
    assert made == [0, 1]


def test_it_ends():
    with Ahead(counting([], 2), str) as reader:
        reader.allow(5)
        assert [reader.take() for _ in range(3)] == ["0", "1", None]


def test_what_was_taken_is_not_held():
    class Item:
        pass

    def items():
        while True:
            yield Item()

    with Ahead(items(), lambda item: item) as reader:
        found = reader.take()
        alive = weakref.ref(found)
        del found
        gc.collect()
        assert alive() is None


def test_a_context_that_cannot_be_entered_is_told():
    def refused():
        raise OSError("no device")

    with (
        pytest.raises(OSError, match="no device"),
        Ahead(counting([], 2), str, refused) as reader,
    ):
        reader.take()


def test_it_is_one_thread_that_reads_and_closes():
    seen = []

    def items():
        seen.append(threading.get_ident())
        try:
            yield 1
            yield 2
        finally:
            seen.append(threading.get_ident())

    with Ahead(items(), lambda k: seen.append(threading.get_ident()) or k) as reader:
        assert reader.take() == 1
    assert len(set(seen)) == 1 and seen[0] != threading.get_ident()
    assert len(seen) == 3


def test_a_generator_of_the_user_is_not_closed():
    chunks = (chunk for chunk in CHUNKS)
    fit(max_epochs=None, max_steps=2).fit_chunks(chunks)
    assert next(chunks) is not None


def test_places_of_chunks():
    begin = open_chunks(CHUNKS, "owner", None)
    parts = parts_of(CHUNKS, begin, 2)
    assert [str(part) for part in parts][3:5] == [
        "chunk 4 of epoch 1",
        "chunk 1 of epoch 2",
    ]


@pytest.mark.slow
def test_reading_overlaps_with_steps():
    """A chunk takes as long as the longer of both, not as both together."""
    seconds, n = 0.05, 20

    def slow(step, free, static, data, aux, loss, grads):
        time.sleep(seconds)
        return False, free, static

    def read():
        for k in range(n):
            time.sleep(seconds)
            yield CHUNKS[k % 2]

    arguments = {"batch_size": None, "max_epochs": 1, "callbacks": slow}
    fit(**arguments).fit_chunks(CHUNKS[:2])
    began = time.perf_counter()
    fit(**arguments).fit_chunks(read)
    assert time.perf_counter() - began < 1.5 * n * seconds
