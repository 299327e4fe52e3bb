"""The cache of programs, and what goes stale inside of JAX."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skoptax
from skoptax import OptaxEstimator, OptaxOptimizer, Parameter, curve_fit
from skoptax._program import Program
from skoptax._programs import PROGRAMS, ProgramCache, abstract, maps_are_scarce
from skoptax.exceptions import InvalidParameterError, UncachedWarning
from skoptax.losses import LOSSES, SquaredError


def get(cache, content, arguments=(1.0,), built=None):
    def about():
        if built is not None:
            built.append(content)

    return cache.get((content,), arguments, lambda *a: a, about)


def test_the_program_not_used_for_longest_goes_first():
    cache, built = ProgramCache(maxsize=3), []
    programs = {k: get(cache, k, built=built) for k in "abc"}
    assert get(cache, "a", built=built) is programs["a"]
    get(cache, "d", built=built)
    assert len(cache) == 3
    for k in "acd":
        get(cache, k, built=built)
    assert built == list("abcd")
    assert get(cache, "b", built=built) is not programs["b"]
    assert built == list("abcdb")
    assert len(cache) == 3
    cache.clear()
    assert len(cache) == 0


def test_half_go_where_memory_maps_are_scarce(monkeypatch):
    cache, built = ProgramCache(maxsize=100), []
    keys = list(range(21))
    for k in keys[:20]:
        get(cache, k, built=built)
    assert len(cache) == 20
    taken = iter([True, False])
    monkeypatch.setattr("skoptax._programs.maps_are_scarce", lambda: next(taken, False))
    get(cache, keys[20], built=built)
    # Half of 21, but never fewer than 16: those used last.
    assert len(cache) == 16
    for k in keys[5:]:
        get(cache, k, built=built)
    assert built == keys
    get(cache, keys[4], built=built)
    assert built == [*keys, keys[4]]


@pytest.mark.parametrize(
    ("lines", "most", "scarce"),
    [(61, "100\n", True), (60, "100\n", False), (61, "", False), (61, None, False)],
)
def test_memory_maps_are_counted(tmp_path, lines, most, scarce):
    maps, limit = tmp_path / "maps", tmp_path / "max_map_count"
    maps.write_text("7f00-7f01 r--p 0 fe:00 1 /lib/a.so\n" * lines)
    if most is not None:
        limit.write_text(most)
    assert maps_are_scarce(maps, limit) is scarce
    assert not maps_are_scarce(tmp_path / "none", limit)


ARGUMENTS = [
    (1.0,),
    (1,),
    (np.float32(1.0),),
    (np.float64(1.0),),
    (np.zeros(1),),
    (np.zeros(2),),
    (np.zeros((1, 2)),),
    (np.zeros(2, np.float32),),
    (np.zeros(2, np.int32),),
    (jnp.asarray(1.0),),  # weakly typed
    (np.zeros(2), None),
    (np.zeros(2), np.zeros(2)),
    ({"a": np.zeros(2)},),
    ({"b": np.zeros(2)},),
]


def test_shapes_and_types_are_part_of_the_key():
    cache, built = ProgramCache(), []
    programs = [get(cache, "f", arguments, built) for arguments in ARGUMENTS]
    assert len(built) == len(cache) == len(ARGUMENTS)
    again = [get(cache, "f", arguments, built) for arguments in ARGUMENTS]
    assert all(a is b for a, b in zip(programs, again, strict=True))
    # Their numbers are not.
    assert get(cache, "f", (2.5,), built) is programs[0]
    assert get(cache, "f", (np.ones(2),), built) is programs[5]
    # A NumPy array goes to the program as a JAX array would.
    assert abstract(np.zeros(2, np.float32)) == abstract(jnp.zeros(2))


def test_content_is_part_of_the_key():
    cache = ProgramCache()
    first = get(cache, (1, 2))
    assert get(cache, (1, 2)) is first
    assert get(cache, (1, 2.0)) is not first


def test_settings_of_jax_are_part_of_the_key():
    cache = ProgramCache()
    single = get(cache, "f")
    with jax.enable_x64(True):
        double = get(cache, "f")
        assert double is not single
        assert get(cache, "f") is double
    with jax.default_matmul_precision("bfloat16"):
        assert get(cache, "f") is not single
    assert get(cache, "f") is single


def test_threads_build_a_program_once():
    cache, built, found = ProgramCache(), [], []
    start = threading.Barrier(8)

    def about():
        built.append(threading.get_ident())
        threading.Event().wait(0.02)

    def work():
        start.wait()
        found.extend(cache.get((k,), (1.0,), lambda x: x, about) for k in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 5
    assert len(found) == 40
    assert len({id(program) for program in found}) == 5


def threaded_loss(state):
    return jnp.sum((state["w"].value - state["t"]) ** 2)


def test_threads_run_one_program():
    results = {}

    def work(k):
        state = {"w": Parameter(value=np.zeros(2)), "t": np.array([k, -k], float)}
        final, _ = OptaxOptimizer(threaded_loss, optax.sgd(0.25)).run(state, 80)
        results[k] = np.asarray(final["w"])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(6):
        assert_allclose(results[k], [k, -k], atol=1e-12)


def test_what_cannot_be_keyed_is_run_with_a_warning():
    lock = threading.Lock()

    def loss(state):
        with lock:
            return (state["w"] - 2.0) ** 2

    def run():
        return OptaxOptimizer(loss, optax.sgd(0.25)).run({"w": Parameter()}, 30)

    for _ in range(2):
        with pytest.warns(UncachedWarning, match="lock"):
            final, _ = run()
        assert float(final["w"]) == pytest.approx(2.0)


def uncached_model():
    lock = threading.Lock()

    def model(t, a, k):
        with lock:
            return a * jnp.exp(-k * t)

    return model


T = np.linspace(0.0, 1.0, 10)
PARAMS = {"a": 1.0, "k": 1.0}


def replace(step, diff_state, static_state, *_):
    renewed = {n: p and p.with_fields(value=p.value) for n, p in diff_state.items()}
    return False, renewed if step < 2 else diff_state, static_state


@pytest.mark.parametrize(
    "arguments",
    [
        # A program for the loop, and one for the derivatives at the end.
        {"optimizer": "adam", "max_steps": 5},
        {"optimizer": "lm", "cov_type": "HC3"},
        {"optimizer": "lm", "n_starts": 3},
        # Each state that is put into a run is bound anew.
        {"optimizer": "adam", "max_steps": 5, "callbacks": replace},
    ],
)
def test_one_warning_for_each_fit(arguments):
    estimator = OptaxEstimator(uncached_model(), PARAMS, **arguments)
    for _ in range(2):
        with pytest.warns(UncachedWarning) as caught:
            estimator.fit(T[:, None], np.exp(-T))
        assert [w.category for w in caught].count(UncachedWarning) == 1


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_one_warning_for_each_curve_fit(optimizer):
    # Without a linearisation, the covariance takes a fit more.
    with pytest.warns(UncachedWarning) as caught:
        curve_fit(uncached_model(), T, np.exp(-T), optimizer=optimizer)
    assert [w.category for w in caught].count(UncachedWarning) == 1


def test_a_failed_build_is_not_kept():
    cache = ProgramCache()

    def fail():
        raise KeyError("no")

    with pytest.raises(KeyError):
        cache.get(("f",), (1.0,), lambda x: x, fail)
    assert len(cache) == 0
    assert isinstance(get(cache, "f"), Program)


# Globals that change between two runs. JAX keeps the traces of inner functions by
# identity, and would use the old one.

FACTOR = 1.0


def helper(x):
    return FACTOR * x


@jax.jit
def jitted(x):
    return helper(x)


@jax.checkpoint
def checkpointed(x):
    return helper(x)


def scan_body(carry, _):
    return helper(carry), None


def loop_body(_, x):
    return helper(x)


def while_body(carry):
    k, x = carry
    return k + 1, helper(x)


def unchanged(x):
    return x


@jax.custom_jvp
def with_rule(x):
    return helper(x)


@with_rule.defjvp
def with_rule_jvp(primals, tangents):
    return with_rule(primals[0]), FACTOR * tangents[0]


IN_A_LOOP = {
    "plain": lambda x: helper(x),
    "scan": lambda x: jax.lax.scan(scan_body, x, None, length=2)[0],
    "cond": lambda x: jax.lax.cond(x > -100.0, helper, unchanged, x),
    "switch": lambda x: jax.lax.switch(1, [unchanged, helper], x),
    "while_loop": lambda x: jax.lax.while_loop(lambda c: c[0] < 2, while_body, (0, x))[
        1
    ],
    "fori_loop": lambda x: jax.lax.fori_loop(0, 2, loop_body, x),
    "map": lambda x: jax.lax.map(helper, x[None])[0],
    "jit": lambda x: jitted(x),
    "checkpoint": lambda x: checkpointed(x),
    "vmap": lambda x: jax.vmap(helper)(x[None])[0],
    "custom_jvp": lambda x: with_rule(x),
    "jit in scan": lambda x: jax.lax.scan(lambda c, _: (jitted(c), None), x, None, 2)[
        0
    ],
}
TWICE = ("scan", "while_loop", "fori_loop", "jit in scan")


@pytest.mark.processes
@pytest.mark.parametrize("name", IN_A_LOOP)
def test_a_changed_global_is_seen(name, monkeypatch):
    function = IN_A_LOOP[name]

    def loss(state):
        return (function(state["w"].value) - 12.0) ** 2

    def run():
        state = {"w": Parameter(value=np.float64(1.0))}
        mode = "fwd" if name == "while_loop" else "rev"
        _, data = OptaxOptimizer(loss, optax.sgd(1e-3)).run(state, 3, mode)
        return data["history"][["loss", "w"]].to_numpy()

    def expected(factor):
        slope, w, rows = factor ** (2 if name in TWICE else 1), 1.0, []
        for _ in range(4):
            rows.append([(slope * w - 12.0) ** 2, w])
            w -= 1e-3 * 2 * (slope * w - 12.0) * slope
        return rows

    for factor in (2.0, 3.0, 2.0, 0.5):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        assert_allclose(run(), expected(factor), rtol=1e-10)


class Bent(SquaredError):
    """A loss of the user's, which inherits from one that is not."""

    bend = staticmethod(lambda x: x)

    def _elementwise(self, y_true, y_pred):
        return self.bend(super()._elementwise(y_true, y_pred))


class Lazy:
    """An array that is not made before it is needed."""

    def __init__(self, value, function):
        self.value, self.function = value, function

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)

    def __jax_array__(self):
        return self.function(self.value)


def in_place(place, function):
    """Return an estimator that has a user's function in one place."""
    # Only the path is looked at. A program for derivatives at its end, too, would
    # double the compilations.
    settings = {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "max_steps": 6,
        "cov_type": None,
    }
    spec = {"a": Parameter(value=1.2), "b": Parameter(value=0.7)}

    def model(t, a, b):
        return a * jnp.exp(-b * t)

    if place == "model":
        settings["model"] = lambda t, a, b: function(model(t, a, b))
    elif place == "tie":
        spec["b"] = Parameter(tie=lambda a: function(a) / 2)
    elif place == "transform":
        spec["b"] = Parameter(
            value=0.7, transform=(lambda u: function(u) + u**3, lambda x: x)
        )
    elif place == "prior":
        spec["b"] = Parameter(value=0.7, prior=lambda b: -function(b**2))
    elif place == "penalty":
        settings["penalty"] = lambda params: function(params["a"] ** 2)
    elif place == "loss":
        settings["loss"] = lambda y, p: function((y - p) ** 2)
    elif place == "loss's subclass":
        settings["loss"] = type("Bent", (Bent,), {"bend": staticmethod(function)})()
    elif place == "registered loss":
        kind = type("Mine", (Bent,), {"bend": staticmethod(function)})
        settings["loss"] = kind()
    elif place == "function put onto a loss":
        settings["loss"] = SquaredError()
        settings["loss"]._elementwise = lambda y, p: function((y - p) ** 2)
    elif place == "what a loss returns":
        settings["loss"] = lambda y, p: Lazy((y - p) ** 2, function)
    elif place == "schedule":
        settings["learning_rate"] = lambda count: 0.01 / (1 + function(count + 1.0))
    else:

        def update(updates, state, params=None):
            return jax.tree.map(lambda g: -0.01 * function(g), updates), state

        settings["optimizer"] = optax.GradientTransformation(lambda params: (), update)
        del settings["learning_rate"]
    return OptaxEstimator(**{"model": model, "params": spec, **settings})


@pytest.mark.processes
@pytest.mark.parametrize("wrapper", ["jit", "scan", "checkpoint"])
@pytest.mark.parametrize(
    "place",
    [
        "model",
        "tie",
        "transform",
        "prior",
        "penalty",
        "loss",
        "loss's subclass",
        "registered loss",
        "function put onto a loss",
        "what a loss returns",
        "schedule",
        "optimizer",
    ],
)
def test_a_changed_global_is_seen_wherever_it_stands(place, wrapper, monkeypatch):
    t = np.linspace(0.1, 2.0, 9)
    y = 2.0 * np.exp(-t)

    def path(function):
        estimator = in_place(place, function)
        if place == "registered loss":
            monkeypatch.setitem(LOSSES, "mine", type(estimator.loss))
        fitted = estimator.fit(t[:, None], y)
        return fitted.history_[["loss", "a"]].to_numpy()

    paths = []
    for factor in (2.0, 3.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        paths.append(path(IN_A_LOOP[wrapper]))
        # A function that JAX has not seen, and that refers to nothing which changes.
        power = factor**2 if wrapper in TWICE else factor
        assert_allclose(paths[-1], path(lambda x, p=power: p * x), rtol=1e-12)
    assert np.abs(paths[0] - paths[1]).max() > 1e-6
    assert_array_equal(paths[0], paths[2])


@jax.tree_util.register_pytree_node_class
class Box:
    """A pytree of the user's that computes when it is put together."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def tree_flatten(self):
        return (self.a, self.b), None

    @classmethod
    def tree_unflatten(cls, _, children):
        a, b = children
        return cls(jitted(a) if isinstance(a, jax.Array) else a, b)


def test_a_changed_global_is_seen_in_a_pytree_class(monkeypatch):
    # Of parameters that are not joined to one vector.
    optimizer = optax.chain(optax.adaptive_grad_clip(100.0), optax.sgd(0.1))

    def run():
        start = Box(Parameter(value=1.0), Parameter(value=0.5))
        loss = OptaxOptimizer(lambda s: (s.a - 3.0) ** 2 + (s.b - 1.0) ** 2, optimizer)
        return loss.run(start, 3)[1]["history"].to_numpy()

    paths = []
    for factor in (1.0, 0.5):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        paths.append(run())
        jax.clear_caches()
        skoptax.clear_cache()
        assert_array_equal(paths[-1], run())
    assert np.abs(paths[0] - paths[1]).max() > 1e-3


def test_a_reloaded_module_is_seen():
    def load(power):
        module = types.ModuleType("user_model")
        exec(f"def f(x):\n    return x ** {power}\n", vars(module))
        return module

    def run(module):
        def loss(state):
            return jax.lax.cond(True, module.f, lambda x: x, state["w"].value)

        _, data = OptaxOptimizer(loss, optax.sgd(0.1)).run(
            {"w": Parameter(value=np.float64(3.0))}, 1
        )
        return data["history"]["loss"][0]

    assert [run(load(k)) for k in (1, 2, 3, 2)] == [3.0, 9.0, 27.0, 9.0]


def test_a_program_holds_no_data():
    # The cache lives as long as the process; what was fitted must not.
    def run():
        y = np.arange(50_000.0)
        state = {"w": Parameter(value=np.zeros(2)), "t": y}
        OptaxOptimizer(held_loss, optax.sgd(0.25)).run(state, 2)
        return weakref.ref(y), weakref.ref(state["w"])

    references = run()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def held_loss(state):
    return jnp.sum((state["w"].value - jnp.mean(state["t"])) ** 2)


class Factor:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, state):
        return (self.factor * state["x"] - state["t"]) ** 2


def test_another_trace_sees_the_caller_that_asks_for_it():
    def start_loss(loss):
        state = {"x": Parameter(value=1.0), "t": 5.0}
        run = OptaxOptimizer(loss, optax.sgd(0.1)).run(state, max_steps=0)
        return float(run[1]["history"]["loss"][0])

    first = Factor(2.0)
    assert start_loss(first) == 9.0
    first.factor = 3.0
    # JAX traces anew in another context; the program is that of factor 2.
    with jax.default_device(jax.devices()[0]):
        assert start_loss(Factor(2.0)) == 9.0
    assert start_loss(first) == 4.0


def fit(model, rate=0.1, **arguments):
    X = np.linspace(0.0, 1.0, 20)[:, None]
    estimator = OptaxEstimator(
        model, {"a": 1.0}, optimizer="sgd", learning_rate=rate, max_steps=3, **arguments
    )
    return estimator.fit(X, 2.0 * X[:, 0])


def slope(k):
    return lambda X, a: a * X[:, 0] * k


def test_a_table_that_a_model_refers_to():
    table = pd.DataFrame({"k": [1.0, 2.0], "unit": ["mm", "m"]})

    def model(X, a):
        return a * X[:, 0] * table["k"].to_numpy()[0]

    first = fit(model)
    before = skoptax.cache_info()
    again = fit(model)  # a warning, that it is compiled anew, would be an error
    assert skoptax.cache_info().compilations == before.compilations
    assert again.params_ == first.params_
    table.loc[0, "k"] = 4.0
    assert fit(model).params_ == fit(slope(4.0)).params_ != first.params_


def test_what_the_cache_says_it_has_done():
    skoptax.clear_cache()
    assert skoptax.cache_info() == (0, 0, 0, 0, 0.0)
    fit(slope(1.0))
    first = skoptax.cache_info()
    # One to fit, which has the derivatives at its end.
    assert first[:4] == (0, 1, 1, 1)
    assert first.seconds > 0
    fitted = fit(slope(1.0), rate=0.2)
    assert skoptax.cache_info() == (1, 1, 1, 1, first.seconds)
    fitted.predict(np.ones((5, 1)))
    fitted.predict(np.ones((7, 1)))
    assert skoptax.cache_info()[:4] == (2, 2, 2, 2)
    fit(slope(2.0))
    assert skoptax.cache_info()[:4] == (2, 3, 3, 3)
    skoptax.clear_cache()
    assert skoptax.cache_info() == (0, 0, 0, 0, 0.0)
    fit(slope(1.0))
    assert skoptax.cache_info()[:4] == (0, 1, 1, 1)


@pytest.mark.processes
def test_the_count_of_compilations_is_that_of_jax():
    # And there is no stray eager operation that compiles a program of its own.
    script = """
        import jax, jax.numpy as jnp, numpy as np
        count = []

        def listen(event, duration, **_):
            if event == "/jax/core/compile/backend_compile_duration":
                count.append(event)

        jax.monitoring.register_event_duration_secs_listener(listen)
        import skoptax
        from skoptax import OptaxEstimator, Parameter

        def model(t, amplitude, rate):
            return amplitude * jnp.exp(-rate * t)

        t = np.linspace(0.0, 3.0, 101)
        y = 2.0 * np.exp(-t)
        for optimizer in ("adam", "lbfgs"):
            before = len(count)
            estimator = OptaxEstimator(
                model,
                {"amplitude": 1.0, "rate": Parameter(value=0.5, lower=0.0)},
                optimizer=optimizer,
                max_steps=1500,
                tol=0.0,
            )
            estimator.fit(t[:, None], y).predict(t[:, None])
            estimator.history_
            assert len(count) - before <= 2, count
        # The prediction's is the same.
        assert len(count) == skoptax.cache_info().compilations == 3, count
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_second_process_finds_programs_on_disk(tmp_path):
    script = """
        import jax, numpy as np
        events = []
        jax.monitoring.register_event_listener(lambda e, **_: events.append(e))
        from skoptax import OptaxEstimator

        X = np.linspace(0.0, 1.0, 30)[:, None]
        OptaxEstimator(lambda X, a: a * X[:, 0], {"a": 1.0}).fit(X, X[:, 0]).predict(X)
        print(sum(e.endswith("cache_hits") for e in events),
              sum(e.endswith("cache_misses") for e in events))
    """
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    found = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.split()
        for _ in range(2)
    ]
    assert found == [["0", "2"], ["2", "0"]]


def test_what_goes_is_freed():
    cache = ProgramCache(maxsize=1)
    first = get(cache, "a")
    first(np.ones(3))
    assert first._run._cache_size() == 1
    reference = weakref.ref(first)
    get(cache, "b")
    assert first._run._cache_size() == 0
    # Somebody who still has it can run it.
    assert_allclose(first(np.ones(3))[0], 1.0)
    del first
    gc.collect()
    assert reference() is None
    second = get(cache, "c")
    second(np.ones(3))
    cache.clear()
    assert second._run._cache_size() == 0


def test_shrinking_frees_what_was_not_used_for_longest():
    cache = ProgramCache()
    programs = {k: get(cache, k) for k in "abcd"}
    for program in programs.values():
        program(np.ones(3))
    get(cache, "a")
    counts = cache.info()
    cache.shrink(5)
    assert len(cache) == 4
    cache.shrink(2)
    sizes = {k: program._run._cache_size() for k, program in programs.items()}
    assert sizes == {"a": 1, "b": 0, "c": 0, "d": 1}
    assert cache.info() == counts._replace(programs=2)
    assert get(cache, "d") is programs["d"]
    assert get(cache, "b") is not programs["b"]


def test_a_fit_after_clearing_a_part_finds_what_is_left():
    skoptax.clear_cache()
    fit(slope(1.0))
    fit(slope(2.0))
    before = skoptax.cache_info()
    assert before.programs == 2
    skoptax.clear_cache(keep=1)
    assert skoptax.cache_info() == before._replace(programs=1)
    fit(slope(2.0))
    assert skoptax.cache_info().compilations == before.compilations
    fit(slope(1.0))
    assert skoptax.cache_info().compilations == before.compilations + 1


@pytest.mark.parametrize("keep", [-1, 1.5, "all", None, True])
def test_how_many_to_keep_is_a_count(keep):
    with pytest.raises(InvalidParameterError, match="'keep' parameter of clear_cache"):
        skoptax.clear_cache(keep=keep)


def test_the_bound_is_what_the_documentation_says():
    assert f"at most {PROGRAMS.maxsize}." in skoptax.CacheInfo.__doc__
    assert f"At most {PROGRAMS.maxsize} programs" in skoptax.clear_cache.__doc__


def test_clearing_while_fits_run():
    results = {}

    def work(k):
        for _ in range(3):
            results[k] = fit(slope(float(k + 1))).params_["a"]
            skoptax.clear_cache()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert results[k] == fit(slope(float(k + 1))).params_["a"]
