"""Checkpoints: a fit that goes on is the fit that was never interrupted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal
from safetensors.numpy import save

import skoptax
from skoptax import OptaxEstimator, OptaxOptimizer, Parameter
from skoptax._archive import Snapshot, Writer, latest_snapshot, read_snapshot
from skoptax._files import read_head
from skoptax._recorded import Recorded
from skoptax.callbacks import Callback, Checkpoint, Resume
from skoptax.exceptions import (
    CheckpointError,
    InvalidParameterError,
    UncachedWarning,
)

RNG = np.random.default_rng(7)
T = np.linspace(0.0, 3.0, 120)[:, None]
Y = 2.5 * np.exp(-1.3 * T[:, 0]) + 0.05 * RNG.normal(size=120)


HEAD = ("fit", "legacy", "seed", "rules")


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


def line(t, amplitude, rate):
    return amplitude - rate * t


def noisy(learning_rate):
    return optax.chain(optax.add_noise(0.01, 0.55, 5), optax.sgd(learning_rate))


START = {"amplitude": 1.0, "rate": Parameter(value=0.5, lower=0.0)}


def estimator(folder=None, **arguments):
    if folder is not None:
        found = [Checkpoint(folder, every=7), Resume(folder)]
        arguments.setdefault("callbacks", found)
    given = {"optimizer": "adam", "learning_rate": 0.01, "random_state": 3}
    return OptaxEstimator(decay, START, **(given | arguments))


def steps_in(folder):
    """Return the steps of the checkpoints in a folder."""
    return sorted(int(path.stem[len("step-") :]) for path in folder.glob("step-*"))


def assert_same(one, other):
    assert one.history_.equals(other.history_)
    assert one.params_ == other.params_
    assert one.loss_ == other.loss_
    assert one.n_iter_ == other.n_iter_
    assert one.status_ == other.status_


FITS = {
    "all rows": {"max_steps": 30},
    "batches": {"batch_size": 32, "max_epochs": 8},
    "held-out rows": {"batch_size": 32, "max_epochs": 9, "early_stopping": True},
    "line search": {"optimizer": "lbfgs", "max_steps": 17},
    "linearised": {"optimizer": "lm", "learning_rate": None, "max_steps": 17},
    "single precision": {"dtype": "float32", "max_steps": 30},
    "half a precision": {"optimizer_kwargs": {"mu_dtype": "bfloat16"}, "max_steps": 30},
    "noise": {"optimizer": noisy, "max_steps": 30},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_goes_on_is_the_one_that_was_not_interrupted(name, tmp_path):
    whole = estimator(**FITS[name]).fit(T, Y)
    part = {k: v for k, v in FITS[name].items() if k != "max_epochs"} | {"max_steps": 9}
    first = estimator(tmp_path, **part).fit(T, Y)
    assert latest_snapshot(tmp_path).name == f"step-{first.n_iter_:012d}.safetensors"
    second = estimator(tmp_path, **FITS[name]).fit(T, Y)
    assert_same(second, whole)
    # What has ended is there again, without a step.
    assert_same(estimator(tmp_path, **FITS[name]).fit(T, Y), whole)


def nudged(step, diff, static, *rest):
    """Put another state in place of that of step 2600."""
    if step == 2600:
        old = diff["amplitude"]
        diff = diff | {"amplitude": old.with_fields(value=old.value + 0.125)}
    return False, diff, static


LONG = {"batch_size": 32, "learning_rate": 1e-3}


def go_to(steps, *callbacks):
    found = estimator(callbacks=[*callbacks], max_steps=steps, **LONG)
    return found.fit(T, Y)


def test_over_several_interruptions_and_folders(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    go_to(1500, Checkpoint(one, every=400))
    go_to(2600, Resume(one), Checkpoint(one, every=400))
    go_to(3400, Resume(one), Checkpoint(one, every=300), Checkpoint(other, every=700))
    assert_same(go_to(4500, Resume(other), Checkpoint(one, every=400)), go_to(4500))
    assert_same(go_to(5000, Resume(one)), go_to(5000))
    # Up to the step 2801, all of which it begins with, and from there to the end.
    assert len(list(other.glob("rows-*"))) == 2


def test_from_an_earlier_step_than_the_newest(tmp_path):
    """What was written of the way that is not gone is not mixed with the other."""
    way = Checkpoint(tmp_path, every=400, keep=9)
    go_to(4000, nudged, way)
    for path in tmp_path.glob("step-*"):
        if path.name > "step-000000002500":
            path.unlink()
    left = {path.name for path in tmp_path.glob("rows-*")}
    found = go_to(4000, Resume(tmp_path), way)
    assert_same(found, go_to(4000))
    assert not found.history_.equals(go_to(4000, nudged).history_)
    assert_same(go_to(4000, Resume(tmp_path)), found)
    # Those of the steps from 2,601 on are gone, and those before are still used.
    now = {path.name for path in tmp_path.glob("rows-*")}
    assert {name[:17] for name in left - now} == {
        f"rows-{first:012d}" for first in range(2401, 4000, 400)
    }
    assert len(left & now) == 6


def test_a_damaged_part_of_the_history_is_named(tmp_path):
    go_to(3000, Checkpoint(tmp_path, every=1000, keep=2))
    newest = max(tmp_path.glob("rows-*"))
    newest.write_bytes(newest.read_bytes()[:-1])
    step = latest_snapshot(tmp_path)
    with pytest.raises(CheckpointError, match=f"{newest.name} is damaged.*{step.name}"):
        go_to(4000, Resume(tmp_path))
    # What the message says to do.
    step.unlink()
    assert_same(go_to(4000, Resume(tmp_path)), go_to(4000))


def quadratic(state):
    return (state["x"] - 3.0) ** 2 + 0.1 * jnp.sum(state["w"].value * state["shift"])


def test_of_any_state_and_over_many_blocks(tmp_path):
    start = {
        "x": Parameter(value=1.0, upper=2.5),
        "w": Parameter(value=np.ones(3), free=[True, False, True], lower=-1.0),
        "shift": np.arange(3.0),
        "what": "a string",
    }
    optimizer = optax.adam(1e-3)
    state, data = OptaxOptimizer(quadratic, optimizer).run(start, 9000)
    steps = []

    def count(step, diff, static, *rest):
        steps.append(step)
        return False, diff, static

    for end in (1, 5000, 9000):
        callback = [Checkpoint(tmp_path, every=2000), Resume(tmp_path), count]
        found, again = OptaxOptimizer(quadratic, optimizer, callback=callback).run(
            start, end, chunk_size=500
        )
    assert again["history"].equals(data["history"])
    for name in ("x", "w"):
        assert_array_equal(found[name].value, state[name].value)
    # Those of the steps up to 2001, 4001, 5000, 6001, 8001 and 9000.
    assert len(list(tmp_path.glob("rows-*"))) == 6
    # Each step is made once.
    assert sorted(set(steps)) == steps
    assert steps[-1] == 8999


class Shake(Callback):
    """Put another state in place of that of step 10."""

    def on_step(self, step, diff_state, static_state, *rest):
        if step != 10:
            return None
        x = diff_state["x"]
        static_state = static_state | {"shift": np.array([5.0, 1.0, -2.0])}
        diff_state = diff_state | {"x": x.with_fields(value=x.value + 0.5)}
        return False, diff_state, static_state


def test_what_a_callback_has_replaced_stays(tmp_path):
    start = {
        "x": Parameter(value=1.0),
        "w": Parameter(value=np.ones(3)),
        "shift": np.arange(3.0),
    }
    optimizer = optax.adam(1e-2)
    state, data = OptaxOptimizer(quadratic, optimizer, callback=Shake()).run(start, 40)
    for end in (11, 40):
        callback = [Shake(), Checkpoint(tmp_path, every=5), Resume(tmp_path)]
        found, again = OptaxOptimizer(quadratic, optimizer, callback=callback).run(
            start, end
        )
    assert again["history"].equals(data["history"])
    assert_array_equal(found["w"].value, state["w"].value)
    assert_array_equal(found["shift"], state["shift"])


def test_no_other_step_needs_a_call(tmp_path, monkeypatch):
    calls = []
    on_step = Checkpoint.on_step

    def counted(self, step, *rest):
        calls.append(step)
        return on_step(self, step, *rest)

    monkeypatch.setattr(Checkpoint, "__call__", counted)
    with pytest.raises(Exception, match="must return"):
        # (It returns nothing, which is what on_step may and a function may not.)
        estimator(tmp_path, max_steps=30).fit(T, Y)
    assert calls == [0]


def test_without_a_seed_it_goes_on_with_that_of_the_checkpoint(tmp_path):
    free = {"batch_size": 32, "max_epochs": 8, "random_state": None}
    first = estimator(tmp_path, **free).set_params(max_epochs=4).fit(T, Y)
    second = estimator(tmp_path, **free).fit(T, Y)
    n = first.n_iter_
    assert second.history_.iloc[: n + 1].equals(first.history_)
    assert second.n_iter_ == 2 * n


def test_a_fit_that_is_interrupted_leaves_a_checkpoint(tmp_path):
    def interrupt(step, diff, static, *rest):
        if step == 9:
            raise KeyboardInterrupt
        return False, diff, static

    callbacks = [Checkpoint(tmp_path, every=100), interrupt]
    with pytest.raises(KeyboardInterrupt):
        estimator(callbacks=callbacks, max_steps=30).fit(T, Y)
    assert latest_snapshot(tmp_path).name == "step-000000000010.safetensors"
    again = estimator(tmp_path, max_steps=30).fit(T, Y)
    assert_same(again, estimator(max_steps=30).fit(T, Y))


def test_a_fit_that_goes_on_from_another_one(tmp_path):
    def twice(folder, steps):
        found = estimator(warm_start=True, max_steps=20).fit(T, Y)
        if folder is not None:
            callbacks = [Checkpoint(folder, every=7), Resume(folder)]
            found.set_params(callbacks=callbacks)
        return found.set_params(max_steps=steps).fit(T, Y)

    whole = twice(None, 30)
    twice(tmp_path, 11)
    again = twice(tmp_path, 30)
    assert_same(again, whole)
    more = [found.set_params(callbacks=None).fit(T, Y) for found in (again, whole)]
    assert_same(*more)


DIFFERENCES = {
    "optimizer": {"optimizer": "sgd"},
    "optimizer: adam.*learning_rate=0.02": {"learning_rate": 0.02},
    "model and loss": {"loss": "absolute_error"},
    "model and loss: ": {"model": line},
    "parameters: amplitude, rate in": {"params": {"amplitude": 1.0, "r": 0.5}},
    "'rate': .*lower 0.0.* in the.*lower -1.0": {"params__rate__lower": -1.0},
    "'amplitude': free, 1.0.* in the.* free, 2.0": {"params__amplitude": 2.0},
    "batches": {"batch_size": 40},
    "order of the rows: seed": {"batch_size": 32, "random_state": 4},
    "differentiation": {"mode": "fwd"},
}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Return the folder of a fit."""
    folder = tmp_path_factory.mktemp("there")
    estimator(folder, batch_size=32, max_steps=8).fit(T, Y)
    return folder


@pytest.mark.parametrize("match", DIFFERENCES)
def test_another_fit_is_refused_by_what_differs(match, there):
    other = estimator(there, batch_size=32)
    if "parameters" in match:
        other.set_params(model=lambda t, amplitude, r: amplitude * jnp.exp(-r * t))
    with pytest.raises(CheckpointError, match=match):
        other.set_params(**DIFFERENCES[match]).fit(T, Y)


def test_other_data_are_refused(there):
    other = estimator(there, batch_size=32)
    with pytest.raises(CheckpointError, match=r"\n  y: .*\nMake"):
        other.fit(T, Y + 1.0)
    with pytest.raises(CheckpointError, match=r"\n  sample_weight: "):
        other.fit(T, Y, np.ones(120))
    with pytest.raises(CheckpointError, match="held-out rows: none in"):
        other.fit(T, Y, X_val=T[:9], y_val=Y[:9])


def test_another_version_is_refused(there, monkeypatch):
    monkeypatch.setattr(skoptax._snapshot, "__version__", "9.9")
    with pytest.raises(CheckpointError, match=r"skoptax: .* in the checkpoint, 9\.9"):
        estimator(there, batch_size=32).fit(T, Y)


@pytest.mark.parametrize("cls", [Checkpoint, Resume])
def test_a_file_of_another_format_is_refused(cls, there, tmp_path):
    """As those of before were: without digests, and with all of the history."""
    whole = read_snapshot(latest_snapshot(there))
    fit = whole.about["fit"] | {"format of checkpoints": "3"}
    about = {"step": 8, "about": whole.about | {"fit": fit}, "types": {}}
    rows = {f"history/{k}": rows for k, rows in whole.history.rows().items()}
    data = save(whole.arrays | rows, metadata={"skoptax": json.dumps(about)})
    (tmp_path / "step-000000000008.safetensors").write_bytes(data)
    match = r"What differs:\n  format of checkpoints: 3 in the checkpoint, 4 here\n"
    with pytest.raises(CheckpointError, match=match):
        estimator(callbacks=cls(tmp_path), batch_size=32, max_steps=9).fit(T, Y)


def test_the_checkpoints_of_another_fit_are_not_mixed_with_its_own(there):
    before = sorted(p.name for p in there.iterdir())
    alone = Checkpoint(there, every=1)
    with pytest.raises(CheckpointError, match="a folder of its own"):
        estimator(callbacks=alone, max_steps=40).fit(T, Y)
    assert sorted(p.name for p in there.iterdir()) == before


def test_the_newest_are_kept(tmp_path):
    callbacks = Checkpoint(tmp_path, every=5, keep=3)
    estimator(callbacks=callbacks, max_steps=23).fit(T, Y)
    assert steps_in(tmp_path) == [16, 21, 23]


@pytest.mark.parametrize("keep", range(1, 7))
def test_no_more_and_no_fewer_are_kept(keep, tmp_path):
    writer = Writer(tmp_path, keep)
    for step in range(14):
        writer.write(Snapshot(step, {}, {"a": np.zeros(1)}))
        assert len(list(tmp_path.iterdir())) == min(step + 1, keep)


def test_damage_within_a_file_is_named(tmp_path):
    """A file of the right kind that says too little loses nothing silently."""
    estimator(tmp_path, max_steps=9).fit(T, Y)
    path = latest_snapshot(tmp_path)
    whole = read_snapshot(path)
    cut = Recorded([(0, whole.history.rows(0, 3))])
    wide = {k: np.hstack([a, a]) for k, a in whole.history.rows().items()}
    heads = [{k: x for k, x in whole.about.items() if k != left} for left in HEAD]
    for damaged in (
        *(whole._replace(history=h) for h in (cut, Recorded(), Recorded([(0, wide)]))),
        whole._replace(arrays={}),
        *(whole._replace(about=about) for about in heads),
        whole._replace(about=whole.about | {"legacy": "abc"}),
        whole._replace(about=whole.about | {"fit": [1]}),
        whole._replace(about=[1]),
    ):
        Writer(tmp_path, 1).write(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            estimator(tmp_path, max_steps=12).fit(T, Y)


def test_damaged_files_are_named(tmp_path):
    estimator(tmp_path, max_steps=9).fit(T, Y)
    path = latest_snapshot(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=f"{path.name} is not a checkpoint"):
        estimator(tmp_path, max_steps=9).fit(T, Y)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        estimator(tmp_path, max_steps=9).fit(T, Y)


@pytest.mark.parametrize("cls", [Checkpoint, Resume])
def test_bad_arguments(cls, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (3, None, "", file):
        with pytest.raises(InvalidParameterError, match="'path' parameter of"):
            estimator(callbacks=cls(path), max_steps=2).fit(T, Y)


@pytest.mark.parametrize("cls", [Checkpoint, Resume])
def test_without_the_library_no_step_is_made(cls, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.partition(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, name)
    found = PathFinder.find_spec

    def hidden(name, path=None, target=None):
        return None if name == "safetensors" else found(name, path, target)

    monkeypatch.setattr(PathFinder, "find_spec", hidden)
    steps = Count()
    with pytest.raises(ImportError, match=r"skoptax\[checkpoints\]"):
        estimator(callbacks=[cls(tmp_path), steps], max_steps=2).fit(T, Y)
    assert steps.count == 0


class Count(Callback):
    """Count the steps."""

    count = 0

    def on_step(self, *_):
        self.count += 1


def test_bad_numbers(tmp_path):
    for arguments in ({"keep": 0}, {"every": 0}, {"keep": 1.5}):
        with pytest.raises(InvalidParameterError, match="parameter of Checkpoint"):
            callbacks = Checkpoint(tmp_path, **arguments)
            estimator(callbacks=callbacks, max_steps=2).fit(T, Y)


@pytest.mark.parametrize("place", range(8))
def test_no_digit_of_a_description_is_lost(place, tmp_path):
    optimizer = OptaxOptimizer(
        lambda state: jnp.sum((state["w"].value - state["t"]) ** 2),
        optax.adam(0.1),
        callback=[Checkpoint(tmp_path), Resume(tmp_path)],
    )
    start = {
        "w": Parameter(value=1 / np.arange(3.0, 11.0), lower=-np.arange(3.0, 11.0)),
        "t": 1 / np.arange(13.0, 21.0),
    }
    optimizer.run(start, 3)
    changed = np.arange(8) == place
    shifted = start["w"].with_fields(value=start["w"].value + 1e-12 * changed)
    bounded = start["w"].with_fields(lower=start["w"].lower + 1e-12 * changed)
    for other in (
        start | {"t": start["t"] + 1e-12 * changed},
        start | {"w": shifted},
        start | {"w": bounded},
    ):
        with pytest.raises(CheckpointError, match="another fit"):
            optimizer.run(other, 3)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Module:
    """A pytree that keeps something beside its leaves."""

    w: Any
    target: float = field(metadata={"static": True})


def test_what_a_class_keeps_beside_its_leaves_is_part_of_it(tmp_path):
    optimizer = OptaxOptimizer(
        lambda module: (module.w - module.target) ** 2,
        optax.adam(0.1),
        callback=[Checkpoint(tmp_path), Resume(tmp_path)],
    )
    optimizer.run(Module(Parameter(value=0.0), 3.0), 30)
    with pytest.raises(CheckpointError, match=r"\n  structure: "):
        optimizer.run(Module(Parameter(value=0.0), -3.0), 31)


def test_what_cannot_be_told_from_another_has_no_checkpoints(tmp_path):
    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

        def __call__(self, state):
            return (state["x"] - 3.0) ** 2

    for callback in (Checkpoint(tmp_path), Resume(tmp_path)):
        optimizer = OptaxOptimizer(Locked(), optax.sgd(0.1), callback=callback)
        with (
            pytest.raises(CheckpointError, match="told from another"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UncachedWarning)
            optimizer.run({"x": Parameter(value=1.0)}, 3)
    assert list(tmp_path.iterdir()) == []


RULES = {
    "tol": ({"optimizer": "lbfgs", "tol": 1e-2}, {"tol": 1e-8}),
    "patience": (
        {"batch_size": 60, "learning_rate": 0.3, "n_iter_no_change": 3},
        {"n_iter_no_change": 12},
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", RULES)
def test_what_has_ended_goes_on_under_another_rule(name, tmp_path):
    given, other = RULES[name]
    first = estimator(tmp_path, max_steps=400, **given).fit(T, Y)
    assert first.status_ in ("converged", "no_improvement")
    whole = estimator(max_steps=400, **(given | other)).fit(T, Y)
    again = estimator(tmp_path, max_steps=400, **(given | other)).fit(T, Y)
    assert again.n_iter_ > first.n_iter_
    assert_same(again, whole)


def test_a_later_step_than_the_fit_is_to_make(tmp_path):
    estimator(tmp_path, max_steps=30).fit(T, Y)
    with pytest.raises(CheckpointError, match=r"step 30, .* 20 steps"):
        estimator(tmp_path, max_steps=20).fit(T, Y)


def test_what_is_given_comes_back(tmp_path):
    start = {
        "x": Parameter(value=1.0),
        "key": jax.random.key(0),
        "array": np.arange(3.0),
        "fixed": Parameter(value=2.0, free=False),
    }

    def loss(state):
        noise = jax.random.normal(state["key"])
        return (state["x"] - noise * state["fixed"] - state["array"][1]) ** 2

    plain, _ = OptaxOptimizer(loss, optax.adam(0.1)).run(start, 20)
    callback = [Checkpoint(tmp_path), Resume(tmp_path)]
    for end in (8, 20):
        optimizer = OptaxOptimizer(loss, optax.adam(0.1), callback=callback)
        state, _ = optimizer.run(start, end)
    assert float(state["x"]) == float(plain["x"])
    assert all(state[name] is start[name] for name in ("key", "array", "fixed"))


def test_an_earlier_run_that_got_further(tmp_path):
    callbacks = Checkpoint(tmp_path, every=100)
    for steps in (30, 20):
        estimator(callbacks=callbacks, max_steps=steps).fit(T, Y)
    # The one that was just written is there, and one of the others.
    assert steps_in(tmp_path) == [20, 30]


def test_other_files_are_not_touched(tmp_path):
    for name in ("step-0.safetensors", "step-x.safetensors", "notes.txt"):
        (tmp_path / name).write_text("mine")
    estimator(tmp_path, max_steps=30).fit(T, Y)
    assert (tmp_path / "step-0.safetensors").read_text() == "mine"
    assert (tmp_path / "step-x.safetensors").read_text() == "mine"
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("step-" + "[0-9]" * 12 + ".safetensors"))) == 2


def test_a_full_disk_loses_no_fit(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:  # (a file and its folder)
            raise OSError("No space left on device")
        return fsync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    callbacks = Checkpoint(tmp_path, every=100)
    with pytest.warns(RuntimeWarning, match="step 30 could not be written: No space"):
        fit = estimator(callbacks=callbacks, max_steps=30).fit(T, Y)
    assert_same(fit, estimator(max_steps=30).fit(T, Y))
    calls.clear()
    calls.extend([0, 0, 0])
    with pytest.raises(OSError, match="No space"):
        estimator(callbacks=Checkpoint(tmp_path / "new"), max_steps=30).fit(T, Y)


class TestArchive:
    KINDS = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "u8", "c16", "?"])

    @settings(max_examples=40, deadline=None)
    @given(
        array=KINDS.flatmap(
            lambda kind: arrays(kind, array_shapes(min_dims=0, min_side=0, max_dims=3))
        ),
        number=st.floats(allow_nan=False),
        step=st.integers(0, 10**9),
    )
    def test_round_trip(self, array, number, step, tmp_path_factory):
        folder = tmp_path_factory.mktemp("round")
        given = {"a": array, "b['x'].0": array.T, "half": jnp.ones(3, "bfloat16")}
        given = {name: np.asarray(value) for name, value in given.items()}
        path = Writer(folder, 1).write(Snapshot(step, {"n": number}, given))
        found = read_snapshot(path)
        assert (found.step, found.about) == (step, {"n": number})
        assert set(found.arrays) == set(given)
        for name, value in given.items():
            assert found.arrays[name].dtype == value.dtype
            assert_array_equal(found.arrays[name], value)

    def test_what_fails_leaves_the_last_one(self, tmp_path, monkeypatch):
        writer = Writer(tmp_path, 1)
        path = writer.write(Snapshot(1, {}, {"a": np.ones(3)}))

        def full(descriptor):
            raise OSError("No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            writer.write(Snapshot(2, {}, {"a": np.ones(3)}))
        assert list(tmp_path.iterdir()) == [path]
        assert_array_equal(read_snapshot(path).arrays["a"], np.ones(3))


CHILD = """
import hashlib, json, sys
import jax.numpy as jnp
import numpy as np
from skoptax import OptaxEstimator
from skoptax.callbacks import Checkpoint, Resume

def model(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)

def tell(step, diff, static, *rest):
    print(step, flush=True)
    return False, diff, static

folder = sys.argv[1]
t = np.linspace(0.0, 3.0, 64)
y = 2.5 * np.exp(-1.3 * t) + 0.1 * np.sin(40 * t)
callbacks = []
if folder != "none":
    callbacks = [tell, Checkpoint(folder, every=500), Resume(folder)]
fit = OptaxEstimator(
    model, {"amplitude": 1.0, "rate": 0.5}, optimizer="adam", learning_rate=1e-4,
    batch_size=16, max_steps=40_000, callbacks=callbacks, chunk_size=50,
    random_state=0,
).fit(t[:, None], y)
history = fit.history_.to_numpy()
print(json.dumps([fit.params_, fit.n_iter_,
                  hashlib.sha256(history.tobytes()).hexdigest()]))
"""


def run_child(folder, kill_after=None):
    """Return what a fit prints; with a number, until it is killed in the middle."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    lines = [child.stdout.readline()]
    if kill_after is not None:
        time.sleep(kill_after)
        child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    return [text.strip() for text in lines if text.endswith("\n")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="There is no SIGKILL.")
def test_killed_at_any_moment(tmp_path):
    whole = json.loads(run_child("none")[-1])
    rng = np.random.default_rng(5)
    began, kills = [], 0
    for _ in range(20):
        path = latest_snapshot(tmp_path)
        saved = int(Path(path).stem.removeprefix("step-")) if path else 0
        lines = run_child(tmp_path, rng.uniform(0.0, 0.12))
        # Its first step follows the last checkpoint: less than a chunk is missing.
        assert saved <= int(lines[0]) <= saved + 50
        began.append(saved)
        for path in tmp_path.glob("step-*.safetensors"):
            read_snapshot(path)
        if lines[-1].startswith("["):
            break
        kills += 1
    assert kills == 20
    assert began[-1] > began[1] > 0
    assert json.loads(run_child(tmp_path)[-1]) == whole
    # Nothing is left of what the killed ones had begun.
    needed = {
        f"rows-{first:012d}-{stop:012d}-{digest}.safetensors"
        for path in tmp_path.glob("step-*")
        for first, stop, _, digest in read_head(path)["segments"]
    }
    assert needed == {path.name for path in tmp_path.iterdir()} - {
        path.name for path in tmp_path.glob("step-*")
    }
    assert len(needed) > 1
