"""Content keys: look-alikes must differ, copies must not.

Each case of `DIFFERENT` is two objects that a trace can tell apart; each of `EQUAL` two
that it cannot. A key that is too coarse gives wrong numbers.
"""

import collections
import enum
import functools
import io
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
import types
from dataclasses import dataclass

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from skoptax import Parameter
from skoptax._fingerprint import LastingWalk, NotWalkable, fingerprint
from skoptax._packing import pack


def define(source, module="user_code", **globals_):
    """Execute source in a namespace of its own and return the ``f`` it defines."""
    namespace = {"__name__": module, "jax": jax, "jnp": jnp, "np": np, **globals_}
    exec(textwrap.dedent(source), namespace)
    return namespace["f"]


def closure(value):
    return lambda x: x * value


def keyword(value):
    def f(x, *, k=value):
        return x * k

    return f


def default(value):
    def f(x, k=value):
        return x * k

    return f


HELPED = """
def inner(x):
    return x * {inner}
def outer(x):
    return inner(x) + 1
def f(x):
    return outer(x)
"""


def helper_module(value, name="user_helpers"):
    """Return a module as an import would leave it, that no file stands behind."""
    module = types.ModuleType(name)
    exec(f"K = {value}\nJ = 5\ndef g(x):\n    return x * K\n", vars(module))
    return module


def package(value):
    top = types.ModuleType("user_package")
    top.sub = helper_module(value, "user_package.sub")
    return top


class Model:
    factor = 2.0

    def __init__(self, k):
        self.k = k

    def __call__(self, x):
        return x * self.k

    def method(self, x):
        return x + self.k


class Slotted:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k


@dataclass(frozen=True)
class Frozen:
    k: object


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def make_class(value):
    class Local:
        k = value

        def __call__(self, x):
            return x * self.k

    return Local


def with_jvp(slope):
    @jax.custom_jvp
    def f(x):
        return x**2

    f.defjvp(lambda primals, tangents: (primals[0] ** 2, slope * tangents[0]))
    return f


def with_vjp(slope):
    @jax.custom_vjp
    def f(x):
        return x**2

    f.defvjp(lambda x: (x**2, x), lambda x, g: (slope * g,))
    return f


def wrapped_installed(scale):
    # What functools.wraps copies makes it look like a function of jax.numpy's.
    source = """
        import functools
        @functools.wraps(jnp.mean)
        def f(x):
            return SCALE * jnp.mean(x)
    """
    return define(source, SCALE=scale)


def wrapped_own(scale):
    def plain(x):
        return x + 1

    @functools.wraps(plain)
    def f(x):
        return scale * plain(x)

    return f


def cached_helper(value):
    source = f"""
        import functools
        @functools.lru_cache
        def constant():
            return {value}
        def f(x):
            return x * constant()
    """
    return define(source)


class Calibration:
    """What a class with a property that is computed once has in common with others."""

    def __init__(self, factor):
        self.factor = factor

    @functools.cached_property
    def doubled(self):
        return 2 * self.factor


def table(**columns):
    return pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]} | columns)


def with_attributes(frame, **attributes):
    frame.attrs.update(attributes)
    return frame


def looked_up(frame):
    """Fill what pandas keeps for the next look."""
    assert frame["a"].sum() == 3.0
    assert frame.columns.get_loc("b") == 1
    assert frame.to_numpy().shape == (2, 2)
    return frame


def local_import(monkey, value):
    monkey.setitem(sys.modules, "user_helpers", helper_module(value))
    return define("""
        def f(x):
            import user_helpers
            return user_helpers.g(x)
    """)


def local_from_import(monkey, value):
    monkey.setitem(sys.modules, "user_helpers", helper_module(value))
    return define("""
        def f(x):
            from user_helpers import g
            return g(x)
    """)


def with_attribute(value):
    def f(x):
        return x * f.k

    f.k = value
    return f


def flipped():
    array = np.linspace(0.0, 1.0, 1000)
    array.view(np.uint64)[777] ^= 1
    return array


one, two = (lambda x: x + 1), (lambda x: x + 2)

DIFFERENT = {
    "int and float": (1, 1.0),
    "int and bool": (1, True),
    "signed zeros": (0.0, -0.0),
    "str and bytes": ("a", b"a"),
    "tuple and list": ((1, 2), [1, 2]),
    "nesting": ([[1], 2], [[1, 2]]),
    "order of a dict": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "keys of a dict": ({"a": 1}, {"b": 1}),
    "set and frozenset": ({1}, frozenset({1})),
    "joined strings": (("ab", "c"), ("a", "bc")),
    "None and its name": (None, "None"),
    "NaN and inf": (float("nan"), float("inf")),
    "keys 1 and True of a dict": ({1: 2}, {True: 2}),
    "values of a dict": ({"a": {"b": 1}}, {"a": {"b": 1.0}}),
    "dict and its text": ({"a": 1}, "{'a': 1}"),
    "empty containers": (({},), ([],)),
    "empty dict and its subclass": ({}, collections.OrderedDict()),
    "none and the text of it": ([None], ["None"]),
    "array in a dict": ({"a": np.zeros(1)}, {"a": np.ones(1)}),
    "function in a dict in a list": ([{"a": closure(2.0)}], [{"a": closure(3.0)}]),
    "range and its list": (range(3), [0, 1, 2]),
    "default of a defaultdict": (
        collections.defaultdict(lambda: 1.0),
        collections.defaultdict(lambda: 2.0),
    ),
    "defaultdict and dict": (collections.defaultdict(int), {}),
    "ordered dicts": (
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
    ),
    "closure": (closure(2.0), closure(3.0)),
    "types in a closure": (closure(1), closure(True)),
    "closed over zeros": (closure(0.0), closure(-0.0)),
    "closed over functions": (closure(np.sin), closure(np.cos)),
    "default": (default(1.0), default(2.0)),
    "keyword-only default": (keyword(1.0), keyword(2.0)),
    "two lambdas on a line": (one, two),
    "constants": (lambda x: x + 1, lambda x: x + 1.0),
    "names of keywords": (lambda a, b: a - b, lambda b, a: b - a),
    "order of arguments": (lambda a, b: a - b, lambda a, b: b - a),
    "keyword-only": (lambda a, b: a, lambda a, *, b: a),
    "positional-only": (lambda a: a, lambda a, /: a),
    "attribute of jnp": (lambda x: jnp.sin(x), lambda x: jnp.cos(x)),
    "redefinition under one name": (
        define("def f(x):\n    return x * 2"),
        define("def f(x):\n    return x * 3"),
    ),
    "global": (
        define("def f(x):\n    return x * K", K=2.0),
        define("def f(x):\n    return x * K", K=3.0),
    ),
    "global of no module": (
        define("def f(x):\n    return x * K", module=None, K=2.0),
        define("def f(x):\n    return x * K", module=None, K=3.0),
    ),
    "global in a copy of an installed module's names": (  # as SymPy's lambdify does
        define("def f(x):\n    return exp(x) * K", **{**vars(jnp), "K": 2.0}),
        define("def f(x):\n    return exp(x) * K", **{**vars(jnp), "K": 3.0}),
    ),
    "changed name of an installed module": (
        define("def f(x):\n    return exp(x)", **vars(jnp)),
        define("def f(x):\n    return exp(x)", **{**vars(jnp), "exp": jnp.sin}),
    ),
    "global of a nested function": (
        define("def f(x):\n    return (lambda y: y * K)(x)", K=2.0),
        define("def f(x):\n    return (lambda y: y * K)(x)", K=3.0),
    ),
    "global in a comprehension": (
        define("def f(x):\n    return sum([x * K for _ in range(2)])", K=2.0),
        define("def f(x):\n    return sum([x * K for _ in range(2)])", K=3.0),
    ),
    "global shadowing a builtin": (
        define("def f(x):\n    return abs(x)"),
        define("def f(x):\n    return abs(x)", abs=jnp.cos),
    ),
    "helper of a helper": (
        define(HELPED.format(inner=2)),
        define(HELPED.format(inner=3)),
    ),
    "global of a user's module": (
        define("def f(x):\n    return helpers.g(x)", helpers=helper_module(2.0)),
        define("def f(x):\n    return helpers.g(x)", helpers=helper_module(3.0)),
    ),
    "attribute of a user's module": (
        define("def f(x):\n    return helpers.K * x", helpers=helper_module(2.0)),
        define("def f(x):\n    return helpers.K * x", helpers=helper_module(3.0)),
    ),
    "module in a user's package": (
        define("def f(x):\n    return top.sub.g(x)", top=package(2.0)),
        define("def f(x):\n    return top.sub.g(x)", top=package(3.0)),
    ),
    "module in a list": ([helper_module(2.0)], [helper_module(3.0)]),
    "module in a closure": (closure(helper_module(2.0)), closure(helper_module(3.0))),
    "array": (closure(np.linspace(0.0, 1.0, 1000)), closure(flipped())),
    "jax array": (
        closure(jnp.arange(3.0)),
        closure(jnp.arange(3.0).at[1].set(1.0000001)),
    ),
    "shape": (np.zeros(4), np.zeros((2, 2))),
    "dtype": (np.zeros(2, np.float32), np.zeros(2, np.int32)),
    "byte order": (np.array([1, 256], "<i2"), np.array([256, 1], ">i2")),
    "NumPy and JAX": (np.zeros(2, np.float32), jnp.zeros(2)),
    "NumPy scalar and float": (np.float64(1.0), 1.0),
    "NumPy scalar and array": (np.float64(1.0), np.array(1.0)),
    "weak type": (jnp.asarray(1.0), jnp.asarray(np.float32(1.0))),
    "dtypes": (np.dtype("f4"), np.dtype("f8")),
    "array of objects": (np.array([1, None]), np.array([2, None])),
    "random keys": (jax.random.key(0), jax.random.key(1)),
    "implementation of a key": (
        jax.random.key(0, impl="rbg"),
        jax.random.key(0, impl="unsafe_rbg"),
    ),
    "partial": (
        functools.partial(jnp.power, 2.0),
        functools.partial(jnp.power, 3.0),
    ),
    "keyword of a partial": (
        functools.partial(keyword(1.0), k=2.0),
        functools.partial(keyword(1.0), k=3.0),
    ),
    "function of a partial": (
        functools.partial(jnp.sin, 2.0),
        functools.partial(jnp.cos, 2.0),
    ),
    "bound object": (Model(2.0).method, Model(3.0).method),
    "bound method": (Model(2.0).method, Model(2.0).__call__),
    "bound builtin": ([1].count, [2].count),
    "instance": (Model(2.0), Model(3.0)),
    "array of an instance": (Model(np.zeros(3)), Model(np.ones(3))),
    "slots": (Slotted(2.0), Slotted(3.0)),
    "dataclass": (Frozen(2.0), Frozen(3.0)),
    "classes of equal instances": (make_class(2.0)(), make_class(3.0)()),
    "classes": (make_class(2.0), make_class(3.0)),
    "subclass of float": (
        type("F", (float,), {"k": 1})(2.0),
        type("F", (float,), {"k": 1})(3.0),
    ),
    "state in C": (random.Random(1), random.Random(2)),
    "buffer": (io.BytesIO(b"a"), io.BytesIO(b"b")),
    "random states": (np.random.RandomState(1), np.random.RandomState(2)),
    "regular expressions": (re.compile("a"), re.compile("b")),
    "error": (ValueError("a"), ValueError("b")),
    "queue": (collections.deque([1]), collections.deque([2])),
    "enum": (Colour.RED, Colour.BLUE),
    "jit": (jax.jit(closure(2.0)), jax.jit(closure(3.0))),
    "jit and not": (jax.jit(one), one),
    "jit of a wrapper": (jax.jit(wrapped_own(2.0)), jax.jit(wrapped_own(3.0))),
    "vmap": (jax.vmap(closure(2.0)), jax.vmap(closure(3.0))),
    "axis of vmap": (jax.vmap(one, in_axes=0), jax.vmap(one, in_axes=1)),
    "grad": (jax.grad(closure(2.0)), jax.grad(closure(3.0))),
    "checkpoint": (jax.checkpoint(closure(2.0)), jax.checkpoint(closure(3.0))),
    "rule of custom_jvp": (with_jvp(2.0), with_jvp(3.0)),
    "rule of custom_vjp": (with_vjp(2.0), with_vjp(3.0)),
    "wrapper of an installed function": (
        wrapped_installed(2.0),
        wrapped_installed(3.0),
    ),
    "wrapper of an own function": (wrapped_own(2.0), wrapped_own(3.0)),
    "cached helper": (cached_helper(2.0), cached_helper(3.0)),
    "cached property": (Calibration(2.0), Calibration(3.0)),
    "functions of Cython": (pd.api.types.infer_dtype, pd.api.types.is_scalar),
    "table": (table(), table(a=[1.0, 5.0])),
    "labels of a table": (table(), table().rename(columns={"a": "z"})),
    "rows' labels of a table": (table(), table().set_axis([1, 0])),
    "type in a table": (table(), table().astype({"a": "float32"})),
    "attributes of a table": (table(), with_attributes(table(), unit="mm")),
    "missing values of a table": (table(), table(b=["x", None])),
    "categories": (
        table().astype({"b": pd.CategoricalDtype(["x", "y"])})["b"],
        table().astype({"b": pd.CategoricalDtype(["x", "y", "z"])})["b"],
    ),
    "name of a column": (table()["a"], table()["a"].rename("z")),
    "index": (pd.Index([1, 2]), pd.Index([1, 3])),
    "levels": (
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]]),
        pd.MultiIndex.from_product([[1, 2], ["b", "a"]]),
    ),
    "attribute of a function": (with_attribute(2.0), with_attribute(3.0)),
    "ufunc": (np.sin, np.cos),
    "learning rate of an optimiser": (optax.adam(0.1), optax.adam(0.2)),
    "momentum of an optimiser": (
        optax.sgd(0.1, momentum=0.9),
        optax.sgd(0.1, momentum=0.8),
    ),
    "schedules": (
        optax.adam(optax.exponential_decay(0.1, 5, 0.5)),
        optax.adam(optax.exponential_decay(0.1, 6, 0.5)),
    ),
    "order of a chain": (
        optax.chain(optax.scale(2.0), optax.clip(1.0)),
        optax.chain(optax.clip(1.0), optax.scale(2.0)),
    ),
    "MultiSteps": (
        optax.MultiSteps(optax.sgd(0.1), 2),
        optax.MultiSteps(optax.sgd(0.1), 3),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_look_alikes_differ(name):
    first, second = DIFFERENT[name]
    assert fingerprint(first) != fingerprint(second)
    # Not by chance, such as an address in what is hashed.
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(second) == fingerprint(second)


@pytest.mark.parametrize("local", [local_import, local_from_import])
def test_what_a_function_imports_itself(monkeypatch, local):
    digests = []
    for value in (2.0, 3.0, 2.0):
        digests.append(fingerprint(local(monkeypatch, value)))
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


def test_arguments_are_not_run_together():
    assert fingerprint(1, 2) != fingerprint((1, 2))
    assert fingerprint([1], 2) != fingerprint([1, 2])


def same(make):
    return make(), make()


def recursive():
    return define("""
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and even(n - 1)
        f = even
    """)


def looped():
    loop = [1, 2]
    loop.append(loop)
    return loop


def looped_dict():
    loop = {"a": 1}
    loop["self"] = loop
    return loop


def commented(comment):
    return define(f"def f(x):\n    # {comment}\n    return x * 2")


EQUAL = {
    "lambda": same(lambda: lambda x: x * 2.0),
    "closure": same(lambda: closure(2.0)),
    "closed over arrays": same(lambda: closure(np.arange(3.0))),
    "closed over jax arrays": same(lambda: closure(jnp.arange(3.0))),
    "definition": same(lambda: define(HELPED.format(inner=2))),
    "comments": (commented("one"), commented("another")),
    "unused globals": (
        define("def f(x):\n    return x * K", K=2.0, OTHER=1),
        define("def f(x):\n    return x * K", K=2.0, OTHER=2),
    ),
    "unused names of a module": (
        define("def f(x):\n    return m.K * x", m=helper_module("2\nL = 1")),
        define("def f(x):\n    return m.K * x", m=helper_module("2\nL = 2")),
    ),
    "partial": same(lambda: functools.partial(closure(2.0), 1.0)),
    "bound method": same(lambda: Model(2.0).method),
    "instance": same(lambda: Model(np.arange(3.0))),
    "dataclass": same(lambda: Frozen((1.0, "a"))),
    "class": same(lambda: make_class(2.0)),
    "jit": same(lambda: jax.jit(closure(2.0))),
    "vmap of grad": same(lambda: jax.vmap(jax.grad(closure(2.0)))),
    "checkpoint": same(lambda: jax.checkpoint(closure(2.0))),
    "custom_jvp": same(lambda: with_jvp(2.0)),
    "custom_vjp": same(lambda: with_vjp(2.0)),
    "cached helper": same(lambda: cached_helper(2.0)),
    "cached property": same(lambda: Calibration(2.0)),
    "table": (table(), looked_up(table())),
    "table in blocks": (table(c=[3.0, 4.0]), table().assign(c=[3.0, 4.0])),
    "column": (table()["b"], pd.Series(["x", "y"], name="b")),
    "index": (table().index, pd.RangeIndex(2)),
    "recursion": same(recursive),
    "a list in itself": same(looped),
    "a dict in itself": same(looped_dict),
    "sets in another order": ({"a", "b", "c", "d"}, {"d", "c", "b", "a"}),
    "strings made anew": ("".join(["a", "b"]), "ab"),
    "NaN": same(lambda: float("nan")),
    "copies of an array": (np.arange(6.0)[::2], np.array([0.0, 2.0, 4.0])),
    "adam": same(lambda: optax.adam(0.1)),
    "lbfgs": same(optax.lbfgs),
    "chain": same(
        lambda: optax.chain(optax.sgd(0.3), optax.scale_by_backtracking_linesearch(15))
    ),
    "MultiSteps": same(lambda: optax.MultiSteps(optax.adam(0.1), 3)),
    "schedule": same(lambda: optax.sgd(optax.exponential_decay(0.1, 5, 0.5))),
    "inject_hyperparams": same(
        lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    ),
    "masked": same(lambda: optax.masked(optax.adam(0.1), lambda tree: True)),
    "structure": same(
        lambda: pack({"a": Parameter(value=1.0, transform="log"), "f": one}, "a test")[
            0
        ].content()
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_copies_are_equal(name):
    first, second = EQUAL[name]
    assert fingerprint(first) == fingerprint(second)


def test_a_key_does_not_depend_on_what_was_called():
    # A jitted function holds what it has seen so far.
    jitted = jax.jit(closure(2.0))
    before = fingerprint(jitted)
    jitted(1.0)
    assert fingerprint(jitted) == before


@pytest.mark.parametrize("maxsize", [None, 0, 1, 8])
def test_results_that_a_cache_keeps_are_content_of_the_moment(maxsize):
    @functools.lru_cache(maxsize)
    def table(name, *others, default=0.0):
        return {"name": name, "values": [1.0, *others, default]}

    def lasting():
        return LastingWalk().fingerprint(table)

    empty, before = fingerprint(table), lasting()
    kept = table("a"), table("b", 2.0), table("c", default=3.0)
    full = fingerprint(table)
    if maxsize == 0:  # keeps none
        assert full == empty
        return
    assert full != empty
    if maxsize != 1:
        table("a")  # is the one used last now
    assert fingerprint(table) == full
    kept[-1]["values"][0] = 5.0
    assert fingerprint(table) not in (empty, full)
    kept[-1]["values"][0] = 1.0
    assert fingerprint(table) == full
    # What it has only been called with counts, too: so it does not call again.
    table("d")
    assert fingerprint(table) != full
    assert lasting() == before
    table.cache_clear()
    assert fingerprint(table) == empty


@pytest.mark.parametrize("wrap", [jax.jit, jax.vmap, jax.grad])
def test_what_was_unpickled_has_the_key_of_its_content(wrap):
    functions = [wrap(closure(k)) for k in (2.0, 3.0)]
    keys = [fingerprint(f) for f in functions]
    copies = cloudpickle.loads(cloudpickle.dumps(functions))
    assert [fingerprint(f) for f in copies] == keys
    assert keys[0] != keys[1]


def test_a_changed_array_has_another_key():
    array = np.zeros(3)
    f = closure(array)
    before = fingerprint(f)
    array[1] = 1.0
    assert fingerprint(f) != before
    array[1] = 0.0
    assert fingerprint(f) == before


def unwalkable_lock():
    return threading.Lock()


def unwalkable_file():
    return open(os.devnull)


def unwalkable_generator():
    return (x for x in [1])


def unwalkable_ufunc():
    return np.frompyfunc(lambda x: 2 * x, 1, 1)


def unwalkable_eval():
    return lambda x: eval("FACTOR") * x


@pytest.mark.parametrize(
    "make",
    [
        unwalkable_lock,
        unwalkable_file,
        unwalkable_generator,
        unwalkable_ufunc,
        unwalkable_eval,
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda x: x, closure, Model, Slotted, lambda x: {1: x}]
)
def test_what_cannot_be_read(make, wrap):
    obj = make()
    try:
        with pytest.raises(NotWalkable):
            fingerprint(wrap(obj))
    finally:
        if hasattr(obj, "close"):
            obj.close()


def test_a_tracer_has_no_key():
    def f(x):
        with pytest.raises(NotWalkable, match="tracer"):
            fingerprint(closure(x))
        return x

    jax.jit(f)(1.0)


def test_too_deep_a_nesting_is_refused():
    nested = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(NotWalkable, match="deep"):
        fingerprint(nested)


# In other processes. What is defined in __main__ is pickled by value.

MODELS = """
    import functools, sys, json
    import jax, jax.numpy as jnp, numpy as np, optax
    from dataclasses import dataclass

    RATE = 2.0
    TABLE = {"a": 1, "b": np.arange(3.0)}
    NAMES = {"alpha", "beta", "gamma", "delta", "epsilon"}

    def helper(x):
        return jnp.exp(-RATE * x) * len(NAMES)

    def model(t, a=1.0, *, b=2.0):
        def inner(x):
            return helper(x) + TABLE["b"].sum()
        return a * inner(t) + b

    class Network:
        scale = 3.0
        def __init__(self, n):
            self.n = n
            self.w = np.ones((n, n))
        def __call__(self, x):
            return helper(self.w @ x) * self.scale
        @property
        def size(self):
            return self.n
        @staticmethod
        def act(x):
            return jnp.tanh(x)

    @dataclass(frozen=True)
    class Config:
        a: float = 1.0
        names: frozenset = frozenset(NAMES)

    @jax.custom_jvp
    def soft(x):
        return jnp.log1p(jnp.exp(x))

    @soft.defjvp
    def soft_jvp(primals, tangents):
        return soft(primals[0]), tangents[0] * jax.nn.sigmoid(primals[0])

    @functools.wraps(jnp.mean)
    def average(x):
        return RATE * jnp.mean(x)

    OBJECTS = {
        "model": model,
        "lambda": lambda x: helper(x) + RATE,
        "jit": jax.jit(model),
        "network": Network(2),
        "method": Network(3).__call__,
        "class": Network,
        "config": Config(),
        "custom_jvp": lambda x: soft(x),
        "partial": functools.partial(model, a=3.0),
        "names": NAMES,
        "wraps": average,
        "optimiser": optax.adam(0.1),
    }
"""
DUMP = """
    import cloudpickle
    from skoptax._fingerprint import fingerprint
    with open(sys.argv[1], "wb") as file:
        cloudpickle.dump(OBJECTS, file)
    print(json.dumps({k: fingerprint(v).hex() for k, v in OBJECTS.items()}))
"""
LOAD = """
    import cloudpickle, json, sys
    from skoptax._fingerprint import fingerprint
    with open(sys.argv[1], "rb") as file:
        objects = cloudpickle.load(file)
    again = cloudpickle.loads(cloudpickle.dumps(objects))
    keys = [{k: fingerprint(v).hex() for k, v in o.items()} for o in (objects, again)]
    assert keys[0] == keys[1], [k for k in keys[0] if keys[0][k] != keys[1][k]]
    print(json.dumps(keys[0]))
"""


def test_a_key_is_the_same_in_another_process(tmp_path):
    keys = []
    for seed, script in (("1", MODELS + DUMP), ("2", LOAD), ("3", MODELS + DUMP)):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "objects")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        keys.append(json.loads(done.stdout))
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0].values())) == len(keys[0])


class Quantity(np.ndarray):
    pass


def test_what_an_array_carries_beside_its_numbers_counts():
    def quantity(unit):
        array = np.array([1.0]).view(Quantity)
        array.unit = unit
        return array

    assert fingerprint(quantity(1.0)) == fingerprint(quantity(1.0))
    assert fingerprint(quantity(1.0)) != fingerprint(quantity(2.0))
    assert fingerprint(quantity(1.0)) != fingerprint(np.array([1.0]))
    masks = ([True, False], [False, True])
    one, other = (np.ma.array([1.0, 2.0], mask=mask) for mask in masks)
    assert fingerprint(one) != fingerprint(other)


def test_the_sign_of_nan_is_seen():
    def model(x):
        return jnp.copysign(x, holder["s"])

    digests = set()
    for holder in ({"s": np.nan}, {"s": -np.nan}):
        digests.add(fingerprint(model))
        digests.add(fingerprint([holder["s"]]))
    assert len(digests) == 4


def test_code_behind_what_has_no_content_keeps_a_whole_key(monkeypatch):
    # There a walk looks at so many objects alone, and code has its digest kept.
    monkeypatch.setattr("skoptax._fingerprint._MOST_VISITED", 3)
    nested = "def f(x):\n    def g(y):\n        return y * {}\n    return g(x)\n"
    found = [define(nested.format(factor)) for factor in (2, 3)]
    for function in found:
        with pytest.raises(NotWalkable):
            fingerprint(threading.Lock(), function)
    assert fingerprint(found[0]) != fingerprint(found[1])
