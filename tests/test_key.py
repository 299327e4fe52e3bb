"""The key of a program, against functions made to be mistaken for one another.

Each case of `key_cases` fits a model, then its look-alike, then the model again. The
numbers must be those of a process that fits each once, to the last bit, and those of
gradient descent by hand; the programs made are counted. Then the reverse: what differs
in numbers only, or not at all, must share a program.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
import types
from contextlib import nullcontext
from pathlib import Path

import cloudpickle
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skoptax
from skoptax import OptaxEstimator, Parameter, _fingerprint
from skoptax.exceptions import ConvergenceWarning
from tests import key_cases
from tests.key_cases import CASES, RATE, STEPS, WRAPPERS, X, Y, floats

ROOT = Path(__file__).parents[1]
A, B = 0, 1
COMPILED: list[float] = []


def note_compilation(event: str, seconds: float, **_: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(seconds)


jax.monitoring.register_event_duration_secs_listener(note_compilation)


def on_disk(folder: Path) -> dict[str, object]:
    """Return the settings of JAX's cache of machine code.

    It is found by the whole program that was traced, so a process traces for itself
    in any case; the cache makes this file take half the time.
    """
    return {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    settings = on_disk(folder)
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path, compiled):
    """Start without programs and leave no modules behind."""
    monkeypatch.syspath_prepend(tmp_path)
    skoptax.clear_cache()
    yield
    for names in (sys.modules, vars(sys.modules["__main__"])):
        for name in [n for n in names if n.startswith("key_case_")]:
            del names[name]


class FreshProcess:
    """A process of its own, in which the cases' functions are those of __main__."""

    def __init__(self, folder: Path, compiled: Path) -> None:
        self.errors = (folder / "stderr").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "key_cases.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
            | {name.upper(): str(value) for name, value in on_disk(compiled).items()},
        )

    def ask(self, name: str, *variants: int) -> None:
        print(json.dumps([name, variants]), file=self.process.stdin, flush=True)

    def answer(self) -> list[dict[str, list[str]]]:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(self.errors.read())
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["fits"]

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, compiled):
    """Two processes, of which each sees one variant of each case, once."""
    folders = [tmp_path_factory.mktemp("fresh") for _ in range(2)]
    processes = [FreshProcess(folder, compiled) for folder in folders]
    yield processes
    for process in processes:
        process.close()


def counts() -> tuple[int, int, int]:
    """Return the programs made, those compiled, and what XLA compiled in all."""
    info = skoptax.cache_info()
    return info.misses, info.compilations, len(COMPILED)


def descend(loss_and_slope, a, steps=STEPS, rate=RATE, project=lambda a: a):
    """Gradient descent by hand: the last parameters, and the path's two columns."""
    losses, norms = [], []
    for step in range(steps + 1):
        loss, slope = loss_and_slope(a)
        losses.append(loss)
        norms.append(np.linalg.norm(slope))
        if step < steps:
            a = project(a - rate * slope)
    return a, losses, norms


def by_hand(case, variant):
    """Return what a fit of the case gives, by NumPy."""
    value = case.value(variant)
    factor = np.asarray(case.factor(value), dtype=float)
    slope = factor if case.slope is None else np.asarray(case.slope(value), dtype=float)
    layout, x, rate, weight, shrink = case.layout, X[:, 0], RATE, 1.0, 0.0
    repeats = np.ones(1)
    if layout == ("loss",):
        factor, slope, weight = np.ones(()), np.ones(()), factor
    elif layout == ("penalty",):
        factor, slope, shrink = np.ones(()), np.ones(()), factor
    elif layout == ("schedule",):
        factor, slope, rate = np.ones(()), np.ones(()), factor * RATE
    elif layout != ("itself",):
        repeats = np.array([key_cases.wrap(abs, name)[1] for name in layout])
    rows = x[:, None] * np.broadcast_to(factor, x.shape)[:, None] ** repeats
    tangents = x[:, None] * np.broadcast_to(slope, x.shape)[:, None] ** repeats

    def loss_and_slope(a):
        residual = rows * a - Y[:, None]
        loss = weight * 0.5 * np.mean(np.sum(residual**2, axis=1))
        gradient = weight * np.mean(residual * tangents, axis=0)
        return loss + 0.5 * shrink * np.sum(a**2), gradient + shrink * a

    a, losses, norms = descend(loss_and_slope, np.ones(len(repeats)), rate=rate)
    return {
        "params": a,
        "loss": losses,
        "grad_norm": norms,
        "predictions": (rows * a).ravel(),
    }


def assert_numbers(found, expected):
    """Equal to the last bit."""
    for key in expected:
        assert found[key] == expected[key], key


def assert_by_hand(found, case, variant):
    for key, numbers in by_hand(case, variant).items():
        assert_allclose(floats(found[key]), numbers, rtol=1e-10, err_msg=key)


@pytest.mark.processes
@pytest.mark.every_case
@pytest.mark.parametrize("name", CASES)
def test_look_alikes_do_not_share(name, fresh, tmp_path):
    case = CASES[name]
    made, found = [counts()], []
    for numbers in key_cases.fits(case, [A, B, A], tmp_path):
        found.append(numbers)
        made.append(counts())
    for variant in (A, B):
        fresh[variant].ask(name, variant)
    expected = [process.answer()[0] for process in fresh]
    for variant, numbers in zip((A, B, A), found, strict=True):
        assert_numbers(numbers, expected[variant])
        assert_by_hand(numbers, case, variant)
    assert found[A] != found[B]
    # One program to fit, which has the derivatives at its end, but of a loss of the
    # user's own, and one to predict; the third fit makes none. Predictions do not
    # depend on what they were made for.
    first = 3 if case.layout == ("loss",) else 2
    more = first - (case.layout in (("schedule",), ("loss",), ("penalty",)))
    assert [n for n, _, _ in made] == [0, first, first + more, first + more]
    assert [n for n, _, _ in made] == [n for _, n, _ in made]
    assert made[3][2] == made[2][2]


def test_every_wrapper_meets_every_kind_of_change():
    whole = {name for name, case in CASES.items() if case.layout == WRAPPERS}
    assert len(whole) >= 12
    for kind in ("global", "closure", "attribute", "reloaded", "array", "__main__"):
        assert any(kind in name for name in whole)
    alone = {case.layout for case in CASES.values()}
    assert alone.issuperset((wrapper,) for wrapper in WRAPPERS)


IN_MAIN = (
    "helper redefined in __main__",
    "function redefined in __main__",
    "callable instance",
    "two lambdas on one line",
)


@pytest.mark.processes
def test_look_alikes_in_a_script(fresh, tmp_path, compiled):
    # In the process, every function and class of `key_cases` is one of __main__.
    script = FreshProcess(tmp_path, compiled)
    try:
        for name in IN_MAIN:
            script.ask(name, A, B, A)
            for variant in (A, B):
                fresh[variant].ask(name, variant)
        for name in IN_MAIN:
            expected = [process.answer()[0] for process in fresh]
            for variant, numbers in zip((A, B, A), script.answer(), strict=True):
                assert_numbers(numbers, expected[variant])
                assert_by_hand(numbers, CASES[name], variant)
    finally:
        script.close()


# That the test above can fail: keys that are too coarse, put in place of ours.


def by_name(_, function):
    return f"{function.__module__}.{function.__qualname__}".encode()


def by_identity(_, function):
    return str(id(function)).encode()


def by_pickle(_, function):
    return cloudpickle.dumps(function)


TOO_COARSE = [
    (by_name, "value in a closure"),
    (by_name, "default argument"),
    (by_name, "global"),
    (by_identity, "global"),
    (by_identity, "default argument, assigned anew"),
    (by_identity, "NumPy array, changed"),
    (by_pickle, "object that says it is equal, changed"),
    (by_pickle, "constant of a reloaded module that a function imports"),
]


@pytest.mark.parametrize(
    ("wrong", "name"), TOO_COARSE, ids=lambda x: getattr(x, "__name__", x)
)
def test_a_key_that_is_too_coarse_gives_wrong_numbers(
    wrong, name, monkeypatch, tmp_path
):
    monkeypatch.setattr(_fingerprint, "function_digest", wrong)
    case = CASES[name]._replace(layout=("plain",))
    first, second = key_cases.fits(case, [A, B], tmp_path)
    assert_by_hand(first, case, A)
    with pytest.raises(AssertionError):
        assert_by_hand(second, case, B)


# What must share a program.


def make(model, params=None, **settings):
    settings = {
        "optimizer": "sgd",
        "learning_rate": RATE,
        "max_steps": STEPS,
    } | settings
    return OptaxEstimator(model, {"a": 1.0} if params is None else params, **settings)


def line(x, a):
    return 1.5 * a * x


class Slope:
    def __init__(self, k):
        self.k = k

    def __call__(self, x, a):
        return self.k * a * x


def times(k):
    return lambda x, a: k * a * x


def captured():
    array = np.full(len(X), 1.5)
    return lambda x, a: array * a * x


def define(source):
    names = {"__name__": "key_case_code"}
    exec(source, names)
    return names["f"]


def commented(text):
    return define(f"# {text}\n\ndef f(x, a):\n    # {text}\n    return 1.5 * a * x")


def product(k, x, a):
    return k * a * x


def bounded(value, lower, upper):
    return {"a": Parameter(value=value, lower=lower, upper=upper)}


WEIGHTS = np.random.default_rng(2).uniform(0.5, 2.0, (2, len(X)))


def pipeline(estimator):
    return make_pipeline(FunctionTransformer(), estimator)


# The two estimators, what their fits get beside the data, and what the second
# fit is by hand where it is not that of the first.
SHARED = {
    "a clone": lambda: (e := make(times(1.5)), clone(e)),
    "a deep copy": lambda: (e := make(Slope(1.5)), copy.deepcopy(e)),
    "a lambda unpickled anew": lambda: (
        make(f := times(1.5)),
        make(cloudpickle.loads(cloudpickle.dumps(f))),
    ),
    "a lambda unpickled twice": lambda: tuple(
        make(cloudpickle.loads(data)) for data in [cloudpickle.dumps(times(1.5))] * 2
    ),
    "parameters built anew": lambda: (
        make(line, {"a": Parameter(value=1.0)}),
        make(line, {"a": Parameter(value=1.0)}),
    ),
    "equal closures": lambda: (make(times(1.5)), make(times(1.5))),
    "equal partials": lambda: tuple(
        make(functools.partial(product, 1.5)) for _ in range(2)
    ),
    "equal instances": lambda: (make(Slope(1.5)), make(Slope(1.5))),
    "equal bound methods": lambda: tuple(
        make(types.MethodType(product, 1.5)) for _ in range(2)
    ),
    "equal jitted functions": lambda: (
        make(jax.jit(times(1.5))),
        make(jax.jit(times(1.5))),
    ),
    "copies of an array": lambda: (make(captured()), make(captured())),
    "another comment": lambda: (make(commented("1\n# 2")), make(commented("one"))),
    "in a pipeline": lambda: (make(line), pipeline(make(line))),
    "learning rate": lambda: (make(line), make(line, learning_rate=0.01)),
    "start": lambda: (make(line), make(line, {"a": 0.3})),
    "bounds": lambda: (
        make(line, bounded(1.0, 0.9, 1.05)),
        make(line, bounded(1.0, 0.5, 1.02)),
    ),
    "bounds and none": lambda: (make(line), make(line, bounded(1.0, 0.5, 1.02))),
    "weights": lambda: (make(line), make(line)),
    "data": lambda: (make(line), make(line)),
    "tolerance": lambda: (make(line, tol=1e-9), make(line, tol=1e9)),
    "patience": lambda: (
        make(line, n_iter_no_change=3),
        make(line, n_iter_no_change=4),
    ),
    "number of steps": lambda: (make(line), make(line, max_steps=3)),
}
BY_HAND = {
    "learning rate": {"rate": 0.01},
    "start": {"a": 0.3},
    "bounds": {"upper": 1.02},
    "bounds and none": {"upper": 1.02},
    "weights": {"weights": WEIGHTS[1]},
    "data": {"y": 3.0 * Y},
    "number of steps": {"steps": 3},
}


def shared_by_hand(a=1.0, y=Y, weights=None, upper=np.inf, **settings):
    rows = 1.5 * X[:, 0]

    def loss_and_slope(a):
        residual = rows * a - y
        slope = np.average(residual * rows, weights=weights)
        # Out of an active bound the gradient does not count.
        blocked = a >= upper and slope < 0
        return 0.5 * np.average(residual**2, weights=weights), slope * (not blocked)

    a, losses, _ = descend(
        loss_and_slope, a, project=lambda a: min(a, upper), **settings
    )
    return a, losses, rows * a


@pytest.mark.parametrize("name", SHARED)
def test_one_program_for(name):
    estimators, found, made = SHARED[name](), [], [counts()]
    expected = [{}, BY_HAND.get(name, {})]
    if name == "weights":
        expected[0] = {"weights": WEIGHTS[0]}
    if name == "bounds":
        expected[0] = {"upper": 1.05}
    for estimator, settings in zip(estimators, expected, strict=True):
        weights = settings.get("weights")
        given = {} if weights is None else {"sample_weight": weights}
        # The first of these two has not met it.
        is_told = name == "tolerance" and estimator is estimators[0]
        told = pytest.warns(ConvergenceWarning) if is_told else nullcontext()
        with told:
            estimator.fit(X, settings.get("y", Y), **given)
        predicted = estimator.predict(X)
        last = estimator[-1] if hasattr(estimator, "steps") else estimator
        found.append((last.params_["a"], last.history_["loss"].to_numpy(), predicted))
        made.append(counts())
    if name == "tolerance":
        assert estimators[0].status_ == "max_steps"
        assert estimators[1].status_ == "converged"
        expected[1] = {"steps": estimators[1].n_iter_}
        assert estimators[1].n_iter_ < STEPS
    for numbers, settings in zip(found, expected, strict=True):
        for one, other in zip(numbers, shared_by_hand(**settings), strict=True):
            assert_allclose(one, other, rtol=1e-10)
    if name not in BY_HAND and name != "tolerance":
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)
    assert [n for n, _, _ in made] == [n for _, n, _ in made] == [0, 2, 2]
    # Nor an operation of JAX's outside of a program.
    assert made[2][2] == made[1][2] > made[0][2]
