"""Look-alike models for `test_key`, and a process that fits them afresh.

Each case is a function that returns ``at(value)``, which gives the model's inner
function ``g`` as it is for a value; ``g`` multiplies its argument by a factor that
depends on the value. Where something is changed or assigned anew, ``g`` stays the same
object, and traces that JAX keeps of it go stale; else it is a new one.

The layouts say where in a model ``g`` is used. ``python key_cases.py FOLDER`` fits
what it is asked for and answers on its standard output.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import itertools
import json
import os
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import skoptax
from skoptax import OptaxEstimator

N_ROWS, STEPS, RATE = 20, 5, 0.05
X = np.random.default_rng(0).uniform(0.5, 1.5, (N_ROWS, 1))
Y = 2.0 * X[:, 0] + np.random.default_rng(1).normal(0.0, 0.1, N_ROWS)


# Where in a model g is used.


def unchanged(u: Any) -> Any:
    return u


def wrap(g: Callable[[Any], Any], name: str) -> tuple[Callable[[Any], Any], int]:
    """Return what applies ``g`` to a column, and how often it does.

    What JAX caches by identity (bodies, jitted functions) is made here, once, and
    not in the trace.
    """

    def body(carry: Any, _: Any) -> Any:
        return g(carry), None

    def step(_: Any, carry: Any) -> Any:
        return g(carry)

    def goes_on(carry: Any) -> Any:
        return carry[0] < 2

    def advance(carry: Any) -> Any:
        return carry[0] + 1, g(carry[1])

    if name == "plain":
        return g, 1
    if name == "scan":
        return lambda u: lax.scan(body, u, None, length=2)[0], 2
    if name == "cond":
        return lambda u: lax.cond(u[0] > -100.0, g, unchanged, u), 1
    if name == "while_loop":
        return lambda u: lax.while_loop(goes_on, advance, (0, u))[1], 2
    if name == "fori_loop":
        return lambda u: lax.fori_loop(0, 2, step, u), 2
    if name == "checkpoint":
        return jax.checkpoint(g), 1
    assert name == "jit"
    return jax.jit(g), 1


WRAPPERS = ("plain", "scan", "cond", "while_loop", "fori_loop", "checkpoint", "jit")


def columns(g: Callable[[Any], Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """Return a model with an output and an entry of ``a`` for each wrapper."""
    functions = [wrap(g, name)[0] for name in names]

    def model(X: Any, a: Any) -> Any:
        inputs = X * a
        outputs = [f(inputs[:, j]) for j, f in enumerate(functions)]
        return jnp.stack(outputs, axis=1) if len(outputs) > 1 else outputs[0]

    return model


def product(x: Any, a: Any) -> Any:
    return a * x


# The cases.


def from_index(case: Case, variant: int) -> float:
    """Return a factor of this case and variant only."""
    return (1.25, 0.75)[variant] + case.index / 512


class Case(NamedTuple):
    name: str
    index: int
    make: Callable[..., Callable[[Any], Any]]
    on_disk: bool
    # The columns of the model, or "itself", "loss", "penalty", "schedule".
    layout: tuple[str, ...]
    values: tuple[Any, Any] | None  # None: numbers of this case only
    factor: Callable[[Any], Any]
    slope: Callable[[Any], Any] | None  # where it is not the factor

    @property
    def mode(self) -> str:
        return "fwd" if "while_loop" in self.layout else "rev"

    def value(self, variant: int) -> Any:
        if self.values is None:
            return from_index(self, variant)
        return self.values[variant]


CASES: dict[str, Case] = {}
ROTATION = itertools.cycle(WRAPPERS)


def case(
    name: str,
    *,
    everywhere: bool = False,
    layout: tuple[str, ...] | None = None,
    on_disk: bool = False,
    values: tuple[Any, Any] | None = None,
    factor: Callable[[Any], Any] = float,
    slope: Callable[[Any], Any] | None = None,
) -> Callable[..., Any]:
    """Add a case, for every wrapper or for the next one in turn."""
    if layout is None:
        layout = WRAPPERS if everywhere else (next(ROTATION),)

    def add(make: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in CASES
        CASES[name] = Case(
            name, len(CASES), make, on_disk, layout, values, factor, slope
        )
        return make

    return add


def run_code(source: str, **names: Any) -> dict[str, Any]:
    """Execute source as a module of a user's would be, and return its names."""
    namespace = {"__name__": "key_case_code", "jax": jax, "jnp": jnp, **names}
    exec(textwrap.dedent(source), namespace)
    return namespace


def make_module(name: str, source: str = "", **names: Any) -> types.ModuleType:
    """Return a module as an import leaves it; the test removes it again."""
    module = types.ModuleType(f"key_case_{name}")
    sys.modules[module.__name__] = module
    vars(module).update(names)
    exec(textwrap.dedent(source), vars(module))
    return module


def set_in(
    namespace: dict[str, Any], name: str = "K", function: str = "g"
) -> Callable[[Any], Any]:
    """Return an ``at`` that assigns a global."""

    def at(k: Any) -> Any:
        namespace[name] = k
        return namespace[function]

    return at


# Closures, defaults, constants.


@case("value in a closure")
def _():
    return lambda k: lambda u: k * u


@case("value in a closure, assigned anew", everywhere=True)
def _():
    k = 0.0

    def g(u):
        return k * u

    def at(value):
        nonlocal k
        k = value
        return g

    return at


@case("closure of a nested function")
def _():
    def outer(k):
        def middle():
            def inner(u):
                return k * u

            return lambda u: inner(u)

        return middle()

    return outer


@case("default argument")
def _():
    def at(k):
        def g(u, factor=k):
            return factor * u

        return g

    return at


@case("default argument, assigned anew")
def _():
    def g(u, factor=0.0):
        return factor * u

    def at(k):
        g.__defaults__ = (k,)
        return g

    return at


@case("keyword-only default")
def _():
    def at(k):
        def g(u, *, factor=k):
            return factor * u

        return g

    return at


@case("keyword-only default, assigned anew")
def _():
    def g(u, *, factor=0.0):
        return factor * u

    def at(k):
        g.__kwdefaults__["factor"] = k
        return g

    return at


LAMBDAS = (lambda u: 1.375 * u), (lambda u: 0.625 * u)


@case("two lambdas on one line", values=(0, 1), factor=lambda i: (1.375, 0.625)[i])
def _():
    assert LAMBDAS[0].__code__.co_firstlineno == LAMBDAS[1].__code__.co_firstlineno
    return lambda i: LAMBDAS[i]


@case("bytecode, assigned anew", values=(1.375, 0.625))
def _():
    def g(u):
        return u

    def at(k):
        g.__code__ = run_code(f"def g(u):\n    return {k} * u")["g"].__code__
        return g

    return at


@case("attribute of a function")
def _():
    def g(u):
        return g.k * u

    def at(k):
        g.k = k
        return g

    return at


# What a key by `==`, by hash, by repr or by pickled bytes confuses.


@case("int and float", values=(1, 1.0), factor=lambda k: 1.25 - isinstance(k, float))
def _():
    return lambda k: lambda u: (1.25 - isinstance(k, float)) * u


@case("signed zeros", values=(0.0, -0.0), factor=lambda k: 1.25 + np.copysign(0.5, k))
def _():
    return lambda k: lambda u: (1.25 + np.copysign(0.5, k)) * u


@case("equal hashes", values=(-1, -2), factor=lambda k: -k / 2)
def _():
    assert hash(-1) == hash(-2)
    return lambda k: lambda u: -k / 2 * u


@case("single and double precision", values=(np.float32(1.1), np.float64(1.1)))
def _():
    return lambda k: lambda u: k * u


class Alike:
    """Equal to all others, printed alike and pickled alike."""

    def __init__(self, k):
        self.k = k

    def __call__(self, u):
        return self.k * u

    def __eq__(self, other):
        return isinstance(other, Alike)

    def __hash__(self):
        return 1

    def __repr__(self):
        return "Alike()"

    def __reduce__(self):
        return Alike, (1.0,)


@case("objects that say they are equal")
def _():
    return Alike


@case("object that says it is equal, changed")
def _():
    g = Alike(0.0)

    def at(k):
        g.k = k
        return g

    return at


@case("middle of a long array")
def _():
    array = np.ones(2000)  # longer than repr shows

    def g(u):
        return jnp.prod(array) * u

    def at(k):
        array[1000] = k
        return g

    return at


# Globals.


@case("global", everywhere=True)
def _():
    return set_in(run_code("def g(u):\n    return K * u"))


@case("global of a helper's helper", everywhere=True)
def _():
    return set_in(
        run_code("""
        def inner(u):
            return K * u
        def helper(u):
            return inner(u)
        def g(u):
            return helper(u)
        """)
    )


@case("helper function in globals")
def _():
    names = run_code("def g(u):\n    return helper(u)")

    def at(k):
        exec(f"def helper(u):\n    return {k} * u", names)
        return names["g"]

    return at


@case("entry of a global dict")
def _():
    names = run_code("TABLE = {'k': [0.0]}\ndef g(u):\n    return TABLE['k'][0] * u")

    def at(k):
        names["TABLE"]["k"][0] = k
        return names["g"]

    return at


@case(
    "global that shadows a builtin",
    layout=("jit",),
    values=(abs, jnp.negative),
    factor=lambda f: f(1),
)
def _():
    return set_in(run_code("def g(u):\n    return abs(u)"), "abs")


# Objects.


class Factor:
    def __init__(self, k):
        self.k = k

    def __call__(self, u):
        return self.k * u

    def method(self, u):
        return self.k * u


@case("object of a bound method")
def _():
    return lambda k: Factor(k).method


@case("object of a bound method, changed")
def _():
    factor = Factor(0.0)

    def at(k):
        factor.k = k
        return factor.method

    return at


@case("callable instance")
def _():
    return Factor


@case("callable instance, changed", everywhere=True)
def _():
    g = Factor(0.0)

    def at(k):
        g.k = k
        return g

    return at


@case("frozen dataclass")
def _():
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        k: float

        def __call__(self, u):
            return self.k * u

    return Frozen


@case("class attribute")
def _():
    def at(value):
        class Local:
            k = value

            def __call__(self, u):
                return self.k * u

        return Local()

    return at


@case("attribute of a base class, changed", everywhere=True)
def _():
    class Base:
        k = 0.0

    class Child(Base):
        def __call__(self, u):
            return self.k * u

    g = Child()

    def at(k):
        Base.k = k
        return g

    return at


@case("method of a class, replaced")
def _():
    class Local:
        def scale(self):
            return 0.0

        def __call__(self, u):
            return self.scale() * u

    g = Local()

    def at(k):
        Local.scale = lambda self: k
        return g

    return at


@case("property of a class, replaced")
def _():
    class Local:
        def __call__(self, u):
            return self.k * u

    g = Local()

    def at(k):
        Local.k = property(lambda self: k)
        return g

    return at


@case("static method")
def _():
    def at(k):
        class Local:
            @staticmethod
            def g(u):
                return k * u

        return Local.g

    return at


@case("static method, replaced")
def _():
    class Local:
        pass

    def g(u):
        return Local.scale(u)

    def at(k):
        Local.scale = staticmethod(lambda u: k * u)
        return g

    return at


@case("class of a class method, changed")
def _():
    class Local:
        k = 0.0

        @classmethod
        def g(cls, u):
            return cls.k * u

    def at(k):
        Local.k = k
        return Local.g

    return at


@case("argument of a partial")
def _():
    return lambda k: functools.partial(product, k)


@case("keyword of a partial")
def _():
    return lambda k: functools.partial(product, a=k)


@case("keyword of a partial, changed")
def _():
    g = functools.partial(product, a=0.0)

    def at(k):
        g.keywords["a"] = k
        return g

    return at


# Arrays.


def spread(k: Any) -> Any:
    return np.linspace(k, 1.0, N_ROWS)


@case("NumPy array", factor=spread)
def _():
    def at(k):
        array = spread(k)
        return lambda u: array * u

    return at


@case("NumPy array, changed", everywhere=True, factor=spread)
def _():
    array = np.zeros(N_ROWS)

    def g(u):
        return array * u

    def at(k):
        array[:] = spread(k)
        return g

    return at


@case("NumPy array, changed through its base", factor=spread)
def _():
    base = np.zeros((N_ROWS, 2))
    names = run_code("def g(u):\n    return VIEW * u", VIEW=base[:, 1])

    def at(k):
        base[:, 1] = spread(k)
        return names["g"]

    return at


@case("JAX array", factor=spread)
def _():
    def at(k):
        with jax.enable_x64(True):
            array = jnp.asarray(spread(k))
        return lambda u: array * u

    return at


@case("JAX array, assigned anew", everywhere=True, factor=spread)
def _():
    names = run_code("def g(u):\n    return ARRAY * u")

    def at(k):
        with jax.enable_x64(True):
            names["ARRAY"] = jnp.asarray(spread(k))
        return names["g"]

    return at


# Definitions anew.


def define_in_main(name: str, k: float) -> None:
    exec(f"def {name}(u):\n    return {k} * u", vars(sys.modules["__main__"]))


@case("function redefined in __main__")
def _():
    def at(k):
        define_in_main("key_case_function", k)
        found = sys.modules["__main__"].key_case_function
        assert found.__module__ == "__main__"
        return found

    return at


@case("helper redefined in __main__", everywhere=True)
def _():
    main = vars(sys.modules["__main__"])
    exec("def key_case_outer(u):\n    return key_case_helper(u)", main)

    def at(k):
        define_in_main("key_case_helper", k)
        return main["key_case_outer"]

    return at


def write_module(folder: Path, name: str, source: str) -> types.ModuleType:
    """Write a module's file and import or reload it, as a user does between fits."""
    path = folder / f"{name}.py"
    age = path.stat().st_mtime + 10 if path.exists() else 1e9
    path.write_text(source)
    os.utime(path, (age, age))  # else an equally long file passes for the same
    importlib.invalidate_caches()
    if name in sys.modules:
        return importlib.reload(sys.modules[name])
    return importlib.import_module(name)


@case("function of a reloaded module", on_disk=True)
def _(folder):
    def at(k):
        source = f"def f(u):\n    return {k} * u\n"
        return write_module(folder, "key_case_reloaded", source).f

    return at


@case("reloaded module", everywhere=True, on_disk=True)
def _(folder):
    names = run_code("def g(u):\n    return module.f(u)")

    def at(k):
        source = f"def f(u):\n    return {k} * u\n"
        names["module"] = write_module(folder, "key_case_used", source)
        return names["g"]

    return at


@case("function from before a reload", on_disk=True)
def _(folder):
    # Its globals are the module's, which the reload changes.
    first = None

    def at(k):
        nonlocal first
        source = f"K = {k}\ndef f(u):\n    return K * u\n"
        module = write_module(folder, "key_case_before", source)
        first = first or module.f
        return first

    return at


@case("constant of a reloaded module that a function imports", on_disk=True)
def _(folder):
    names = run_code("""
        def g(u):
            from key_case_inside import K
            return K * u
    """)

    def at(k):
        write_module(folder, "key_case_inside", f"K = {k}\n")
        return names["g"]

    return at


# Wrapped functions.


@case("jitted function")
def _():
    return lambda k: jax.jit(lambda u: k * u)


@case("global of a jitted function")
def _():
    return set_in(run_code("@jax.jit\ndef g(u):\n    return K * u"))


@case("global of a jitted helper", everywhere=True)
def _():
    return set_in(
        run_code("""
        @jax.jit
        def helper(u):
            return K * u
        def g(u):
            return helper(u)
        """)
    )


def scaled(k: float) -> Callable[..., Any]:
    def decorate(function):
        @functools.wraps(function)
        def wrapper(u):
            return k * function(u)

        return wrapper

    return decorate


@case("decorator's argument")
def _():
    return lambda k: scaled(k)(unchanged)


@case("decorated function")
def _():
    return lambda k: scaled(1.0)(lambda u: k * u)


@case("decorated function whose global changes", everywhere=True)
def _():
    names = run_code("@scaled(1.0)\ndef g(u):\n    return K * u", scaled=scaled)
    return set_in(names)


def with_rule(slope: Any) -> Callable[..., Any]:
    @jax.custom_jvp
    def g(u):
        return 1.25 * u

    g.defjvp(lambda primals, tangents: (g(primals[0]), slope * tangents[0]))
    return g


@case("rule of custom_jvp", factor=lambda k: 1.25, slope=float)
def _():
    return with_rule


@case(
    "global of a rule of custom_jvp",
    everywhere=True,
    factor=lambda k: 1.25,
    slope=float,
)
def _():
    return set_in(
        run_code("""
        @jax.custom_jvp
        def g(u):
            return 1.25 * u
        @g.defjvp
        def rule(primals, tangents):
            return g(primals[0]), K * tangents[0]
        """)
    )


@case("rule of custom_vjp", layout=("plain", "jit"), factor=lambda k: 1.25, slope=float)
def _():
    def at(k):
        @jax.custom_vjp
        def g(u):
            return 1.25 * u

        g.defvjp(lambda u: (g(u), None), lambda _, t: (k * t,))
        return g

    return at


# Equinox.


@functools.cache
def equinox_classes() -> tuple[Any, type, type]:
    import equinox

    class Scale(equinox.Module):
        k: Any

        def __call__(self, u):
            return self.k * u

        def model(self, x, a):
            return self.k * a * x

    class Static(equinox.Module):
        k: float = equinox.field(static=True)

        def __call__(self, u):
            return self.k * u

    return equinox, Scale, Static


@case("Equinox module")
def _():
    def at(k):
        with jax.enable_x64(True):
            module = equinox_classes()[1](jnp.asarray(k))
        return lambda u: module(u)

    return at


@case("Equinox module, a leaf replaced")
def _():
    equinox, scale, _ = equinox_classes()
    first = scale(np.asarray(1.0))

    def at(k):
        module = equinox.tree_at(lambda m: m.k, first, np.asarray(k))
        return lambda u: module(u)

    return at


@case("static field of an Equinox module")
def _():
    return lambda k: equinox_classes()[2](k)


@case("activation of an Equinox layer", values=(1.25, 0.75))
def _():
    equinox = equinox_classes()[0]
    layer = equinox.nn.Lambda(lambda u: 0.0 * u)

    def at(k):
        new = equinox.tree_at(lambda m: m.fn, layer, lambda u: k * u)
        return lambda u: new(u)

    return at


# The function is the model itself, without one of ours around it.


@case("a partial as the model", layout=("itself",))
def _():
    def f(k, x, a):
        return k * a * x

    return lambda k: functools.partial(f, k)


@case("a callable instance as the model", layout=("itself",))
def _():
    class Model:
        def __init__(self, k):
            self.k = k

        def __call__(self, x, a):
            return self.k * a * x

    return Model


@case("a bound method as the model, its object changed", layout=("itself",))
def _():
    class Model:
        k = 0.0

        def f(self, x, a):
            return self.k * a * x

    model = Model()

    def at(k):
        model.k = k
        return model.f

    return at


@case("a jitted function as the model, its global changed", layout=("itself",))
def _():
    return set_in(run_code("@jax.jit\ndef g(x, a):\n    return K * a * x"))


@case("an Equinox module's method as the model", layout=("itself",))
def _():
    return lambda k: equinox_classes()[1](np.asarray(k)).model


# The function is another part of the objective, or of the optimiser.


for place in ("loss", "penalty", "schedule"):

    @case(f"global of the {place}", layout=(place,))
    def _():
        return set_in(run_code("def g(u):\n    return K * u"))

    @case(f"closure of the {place}", layout=(place,))
    def _():
        return lambda k: lambda u: k * u


# Ways round what the walk looks at: found when this file was written.


def module_of(name: str, source: str, dotted: str = "K") -> Callable[[], Any]:
    """Return a case: a function that reaches a user's module, which changes."""

    def make():
        module = make_module(name)
        names = run_code(source, module=module)

        def at(k):
            vars(module)[dotted] = k
            return names["g"]

        return at

    return make


for title, name, source in (
    (
        "module handed to a helper",
        "handed",
        "def use(m, u):\n    return m.K * u\ndef g(u):\n    return use(module, u)",
    ),
    (
        "attribute of a module by getattr",
        "getattr",
        "def g(u):\n    return getattr(module, 'K') * u",
    ),
    (
        "attribute of a module by vars",
        "vars",
        "def g(u):\n    return vars(module)['K'] * u",
    ),
):
    case(title, layout=("plain",))(module_of(name, source))

case("dunder name of a module", layout=("plain",))(
    module_of("dunder", "def g(u):\n    return module.__scale__ * u", "__scale__")
)


@case("module with a __getattr__", layout=("plain",))
def _():
    module = make_module(
        "lazy",
        """
        _found = {}
        def __getattr__(name):
            if name not in _found:
                raise AttributeError(name)
            return _found[name]
        """,
    )
    names = run_code("def g(u):\n    return module.K * u", module=module)

    def at(k):
        module._found["K"] = k
        return names["g"]

    return at


@case("package that its own module imports", layout=("plain",))
def _():
    package = make_module("package")
    package.constants = make_module("package.constants")
    package.models = make_module(
        "package.models",
        "def f(u):\n    return package.constants.K * u",
        package=package,
    )
    names = run_code("def g(u):\n    return package.models.f(u)", package=package)

    def at(k):
        package.constants.K = k
        return names["g"]

    return at


@case("modules that import each other", layout=("plain",))
def _():
    one, two = make_module("one"), make_module("two")
    one.two, two.one = two, one
    exec("def f(u):\n    return two.h(u)", vars(one))
    exec("def h(u):\n    return one.K * u", vars(two))
    names = run_code("def g(u):\n    return one.f(u)", one=one)

    def at(k):
        one.K = k
        return names["g"]

    return at


@case("name that a function imports from its package", layout=("plain",))
def _():
    package = make_module("relative", __path__=[])
    module = make_module("relative.inner", __package__=package.__name__)
    exec("def g(u):\n    from . import K\n    return K * u", vars(module))

    def at(k):
        package.K = k
        return module.g

    return at


@case("package of a module that a function imports", layout=("plain",))
def _():
    package = make_module("outer", __path__=[])
    package.inner = make_module("outer.inner")
    names = run_code("""
        def g(u):
            import key_case_outer.inner
            return key_case_outer.K * u
    """)

    def at(k):
        package.K = k
        return names["g"]

    return at


@case("what a wrapper calls by __wrapped__", layout=("plain",))
def _():
    def decorate(function):
        @functools.wraps(function)
        def wrapper(u):
            return wrapper.__wrapped__(u)

        return wrapper

    return lambda k: decorate(lambda u: k * u)


@case(
    "function's name",
    layout=("plain",),
    values=("double", "half"),
    factor=lambda name: {"double": 2.0, "half": 0.5}[name],
)
def _():
    weights = {"double": 2.0, "half": 0.5}

    def at(name):
        def helper(u):
            return u

        helper.__name__ = name
        return lambda u: weights[helper.__name__] * helper(u)

    return at


@case(
    "order of attributes",
    layout=("plain",),
    values=("ab", "ba"),
    factor=lambda order: 1.0 + 0.5 * {"ab": 0.5, "ba": 0.25}[order],
)
def _():
    def at(order):
        powers = types.SimpleNamespace()
        for name in order:
            setattr(powers, name, {"a": 1.0, "b": 0.5}[name])

        def g(u):
            first, second = vars(powers).values()
            return (1.0 + 0.5 * second * first**2) * u

        return g

    return at


@case("attribute of an enum's member", layout=("plain",))
def _():
    class Unit(enum.Enum):
        METRE = 1

    def at(k):
        Unit.METRE.k = k
        return lambda u: Unit.METRE.k * u

    return at


@case("attribute of a jitted function", layout=("plain",))
def _():
    def at(k):
        helper = jax.jit(unchanged)
        helper.k = k
        return lambda u: helper.k * helper(u)

    return at


@case("fill value of a masked array", layout=("plain",))
def _():
    def at(k):
        array = np.ma.array([1.0, 2.0], mask=[True, False], fill_value=k)
        return lambda u: array.filled()[0] * u

    return at


# Fits.


def make_estimator(layout: tuple[str, ...], function: Any, mode: str) -> Any:
    settings = {"optimizer": "sgd", "learning_rate": RATE, "max_steps": STEPS}
    settings |= {"mode": mode}
    if layout == ("itself",):
        return OptaxEstimator(function, {"a": 1.0}, **settings)
    if layout == ("loss",):
        settings["loss"] = lambda y, p: 0.5 * function((y - p) ** 2)
    elif layout == ("penalty",):
        settings["penalty"] = lambda params: 0.5 * function(params["a"] ** 2)
    elif layout == ("schedule",):
        settings["learning_rate"] = lambda step: function(RATE)
    else:
        params = {"a": np.ones(len(layout))}
        return OptaxEstimator(columns(function, layout), params, **settings)
    return OptaxEstimator(product, {"a": 1.0}, **settings)


def fits(case: Case, variants: list[int], folder: Path) -> Iterator[dict[str, Any]]:
    """Fit variants of a case in turn, and yield all numbers of each, as hex.

    One model serves as long as the function is the same object.
    """
    at = case.make(folder) if case.on_disk else case.make()
    n_columns = len(case.layout)
    y = np.stack([Y] * n_columns, axis=1) if n_columns > 1 else Y
    last, estimator = None, None
    for variant in variants:
        function = at(case.value(variant))
        if estimator is None or function is not last:
            estimator = make_estimator(case.layout, function, case.mode)
        last = function
        estimator.fit(X, y)
        history = estimator.history_
        yield {
            "params": exact(estimator.params_["a"]),
            "loss": exact(history["loss"]),
            "grad_norm": exact(history["grad_norm"]),
            "predictions": exact(estimator.predict(X)),
        }


def exact(numbers: Any) -> list[str]:
    """Return numbers as text that holds every bit."""
    flat = np.asarray(numbers)
    assert flat.dtype == np.float64
    return [float(x).hex() for x in flat.ravel()]


def floats(texts: list[str]) -> np.ndarray:
    return np.array([float.fromhex(text) for text in texts])


def serve(folder: Path) -> None:
    """Answer requests, one JSON document a line: a case's name and its variants."""
    sys.path.insert(0, str(folder))
    for line in sys.stdin:
        name, variants = json.loads(line)
        skoptax.clear_cache()
        try:
            answer = {"fits": list(fits(CASES[name], variants, folder))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
