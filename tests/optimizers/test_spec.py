"""Optimisers as data: what is traced, what is a constant, what is refused."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import OptaxOptimizer, Parameter, optimizers
from skoptax._validation import is_number
from skoptax.exceptions import InvalidParameterError
from skoptax.optimizers._entrywise import FACTORIES as ENTRYWISE
from skoptax.optimizers._factories import factories
from skoptax.optimizers._find import resolve_optimizer
from skoptax.optimizers._spec import (
    UNTRACEABLE,
    FinishedOptimizer,
    OptimizerSpec,
    _traceable,
    make_spec,
)


def step(spec, x, n=3):
    """Return x after n steps on a quadratic, all of it traced."""

    def value_fn(x):
        return jnp.sum((x - 1.0) ** 2) + 0.5

    @jax.jit
    def run(numbers, x, n):
        transformation = optax.with_extra_args_support(spec.build(numbers))

        def body(_, carry):
            x, state = carry
            value, gradient = jax.value_and_grad(value_fn)(x)
            updates, new = transformation.update(
                gradient, state, x, value=value, grad=gradient, value_fn=value_fn
            )
            new = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), new, state)
            return optax.apply_updates(x, updates), new

        return jax.lax.fori_loop(0, n, body, (x, transformation.init(x)))[0]

    return np.asarray(run(spec.numbers, x, n))


@pytest.mark.parametrize("name", sorted(ENTRYWISE & set(factories())))
def test_what_is_known_to_be_untraceable(name):
    factory = factories()[name]
    arguments = inspect.signature(factory).parameters
    numbers = {k: p.default for k, p in arguments.items() if is_number(p.default)}
    # Those without a default number that take one.
    for key, p in arguments.items():
        if "float" in str(p.annotation) and not key.endswith("mask"):
            numbers.setdefault(key, 0.5)
    if name == "lbfgs":
        del numbers["learning_rate"]  # its line search chooses the step
    constants = {k: numbers.pop(k) for k in UNTRACEABLE & set(numbers)}
    # With the table's constants all others can be traced, and the constants cannot.
    assert _traceable(factory, numbers, constants)
    for key, value in constants.items():
        assert not _traceable(factory, {key: value}, {})


def test_the_table_of_factories():
    found = factories()
    assert found["adam"] is optax.adam
    assert found["lbfgs"] is optax.lbfgs
    assert {"sgd", "adamw", "rmsprop", "adabelief", "lion", "prodigy"} <= set(found)
    assert not any(name.startswith(("_", "scale_by")) for name in found)


@pytest.mark.parametrize("name, decay", [("nadam", 0.0), ("nadamw", 1e-4)])
def test_what_optax_has_as_a_partial_is_found_too(name, decay):
    rate, b1, b2, eps = 0.1, 0.8, 0.999, 1e-8
    spec = resolve_optimizer(name, rate, {"b1": b1}, "a test")
    assert spec.is_entrywise and spec.steps_by_rate and "b1" in spec.numbers
    # Dozat 2016, algorithm 2, of the sum of (x - 1)**2.
    x, m, v = np.array([3.0, -2.0]), np.zeros(2), np.zeros(2)
    with jax.enable_x64(True):
        moved = step(spec, jnp.asarray(x), n=5)
    for t in range(1, 6):
        g = 2 * (x - 1)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        x = x - rate * (ahead / (np.sqrt(v / (1 - b2**t)) + eps) + decay * x)
    assert_allclose(moved, x, rtol=1e-13)


# These have arguments that no default stands for.
NEED_MORE = {"dpsgd", "schedule_free"}
# This one asks its `update` for a function of its own.
NEED_THE_OBJECTIVE = {"sophia"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:optax")
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Specifying a key will be required")
@pytest.mark.parametrize("name", sorted(set(factories()) - NEED_THE_OBJECTIVE))
def test_every_factory_builds_and_steps(name):
    if name in NEED_MORE:
        with pytest.raises(InvalidParameterError, match=rf"{name!r}.*missing"):
            resolve_optimizer(name, None, None, "a test")
        return
    spec = resolve_optimizer(name, None, None, "a test")
    assert isinstance(spec, OptimizerSpec)
    if spec.looks:  # it needs predictions; see test_levenberg_marquardt
        return
    x = np.full((2, 2), 3.0, np.float32)
    moved = step(spec, jnp.asarray(x), n=2)
    assert moved.shape == x.shape
    assert np.isfinite(moved).all()
    assert (moved != x).any()


SAMPLE = {
    "adam": {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6},
    "adamw": {"learning_rate": 0.1, "weight_decay": 0.01},
    "sgd": {"learning_rate": 0.05, "momentum": 0.7},
    "rmsprop": {"learning_rate": 0.05, "decay": 0.8, "eps": 1e-5},
    "adagrad": {"learning_rate": 0.3, "initial_accumulator_value": 0.2},
    "lion": {"learning_rate": 0.01, "b1": 0.8},
    "radam": {"learning_rate": 0.1, "b2": 0.9},
}


@pytest.mark.parametrize("name", SAMPLE)
def test_traced_numbers_equal_constants_to_the_last_bit(name):
    factory, numbers = factories()[name], SAMPLE[name]
    with jax.enable_x64(True):
        x = jnp.asarray([3.0, -2.0])
        traced = make_spec(factory, numbers)
        constant = OptimizerSpec(factory, numbers, {})
        assert set(traced.numbers) == set(numbers), "all of them are traced"
        assert_array_equal(step(traced, x), step(constant, x))
        assert (step(traced, x) != x).all()


def test_what_must_be_a_constant_is_one():
    spec = make_spec(optax.lbfgs, {"memory_size": 4})
    assert spec.constants == {"memory_size": 4}
    assert type(spec.constants["memory_size"]) is int
    assert spec.numbers == {}
    spec = make_spec(
        optax.sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}
    )
    assert spec.constants == {"nesterov": True}
    assert spec.numbers == {"learning_rate": 0.1, "momentum": 0.9}
    schedule = optax.exponential_decay(0.1, 5, 0.5)
    assert make_spec(optax.adam, {"learning_rate": schedule}).numbers == {}
    spec = make_spec(optax.adam, {"learning_rate": 1})
    assert spec.numbers == {"learning_rate": 1.0}
    assert type(spec.numbers["learning_rate"]) is float

    def needs_to_know(learning_rate, depth):
        return optax.chain(*[optax.scale(-learning_rate)] * int(depth))

    spec = make_spec(needs_to_know, {"learning_rate": 0.1, "depth": 1})
    assert spec.constants == {"depth": 1}
    assert spec.numbers == {"learning_rate": 0.1}


def shrinks_with_its_rate(spec):
    """Tell whether each step is a tenth at a tenth of the rate, from the same state."""

    def value_fn(x):
        return jnp.sum((x - 0.3) ** 2) + 0.5

    @jax.jit
    def move(numbers, x, state):
        transformation = optax.with_extra_args_support(spec.build(numbers))
        state = transformation.init(x) if state is None else state
        value, gradient = jax.value_and_grad(value_fn)(x)
        updates, new = transformation.update(
            gradient, state, x, value=value, grad=gradient, value_fn=value_fn
        )
        return updates, new

    norms = []
    with jax.enable_x64(True):
        for rate in (0.05, 3.0):
            x, state = jnp.array([[-1.0, 0.5], [2.0, 0.1]]), None
            for _ in range(2):
                numbers = spec.numbers | {"learning_rate": rate}
                updates, state = move(numbers, x, state)
                x = x + updates
            for share in (1.0, 0.1):
                numbers = spec.numbers | {"learning_rate": share * rate}
                norms.append(np.linalg.norm(move(numbers, x, state)[0]))
    long, short = norms[::2], norms[1::2]
    assert max(long) > 0
    return np.allclose(short, 0.1 * np.array(long), rtol=1e-5, atol=0)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(factories()))
def test_whose_steps_a_learning_rate_scales(name):
    found = optimizers.spec(name, 0.1)
    if "learning_rate" not in found.numbers:
        assert not found.steps_by_rate
    else:
        assert found.steps_by_rate == shrinks_with_its_rate(found)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "other"), [("muon", "adam_learning_rate"), ("optimistic_adam", "optimism")]
)
def test_a_second_rate_is_not_scaled_by_the_first(name, other):
    if name not in factories() or (
        other not in inspect.signature(factories()[name]).parameters
    ):
        pytest.skip(f"this version of optax has no {name} with {other}")
    assert optimizers.spec(name, 0.1).steps_by_rate
    assert not optimizers.spec(name, 0.1, **{other: 0.1}).steps_by_rate


def test_content_has_names_of_numbers_not_numbers():
    def content(**numbers):
        return make_spec(optax.adam, numbers).content()

    assert content(learning_rate=0.1) == content(learning_rate=0.2)
    assert content(learning_rate=0.1) != content(learning_rate=0.1, b1=0.9)
    memory = [make_spec(optax.lbfgs, {"memory_size": k}).content() for k in (4, 5)]
    assert memory[0] != memory[1]


def test_defaults():
    def numbers(optimizer, learning_rate=None, **more):
        return resolve_optimizer(optimizer, learning_rate, more, "a test").numbers

    own = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0}
    assert numbers("adam") == {"learning_rate": 0.01, **own}
    assert numbers(optax.adam, 0.3) == {"learning_rate": 0.3, **own}
    assert numbers("adam", np.float32(0.5)) == {"learning_rate": 0.5, **own}
    assert numbers("adam", 1, b1=0.5) == {**own, "learning_rate": 1.0, "b1": 0.5}
    # A line search chooses for itself, so a grid may cross both.
    assert numbers("lbfgs", 0.3) == {}
    # A factory's own default holds.
    assert numbers("prodigy")["learning_rate"] == 1.0


def test_naming_a_default_makes_no_other_program():
    def content(**more):
        return resolve_optimizer("adam", 0.1, more, "a test").content()

    assert content() == content(b1=0.9) == content(b1=0.8)
    assert content() != content(nesterov=True)


def test_public_spec():
    found = optimizers.spec("adam", 0.1, b1=0.8)
    assert isinstance(found, OptimizerSpec)
    assert found.numbers["learning_rate"] == 0.1
    assert found.numbers["b1"] == 0.8
    with pytest.raises(InvalidParameterError, match="a name or a factory"):
        optimizers.spec(optax.adam(0.1))
    with pytest.raises(InvalidParameterError, match="Did you mean 'b1'"):
        optimizers.spec("adam", b_1=0.8)


def test_finished_ones_are_taken_as_they_are():
    adam = optax.adam(0.1)
    found = resolve_optimizer(adam, None, None, "a test")
    assert isinstance(found, FinishedOptimizer)
    assert found.build({}) is adam
    spec = make_spec(optax.adam, {"learning_rate": 0.1})
    assert resolve_optimizer(spec, None, None, "a test") is spec


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("adm", None, {}), r"'optimizer' parameter of a test.*'adm'.*'adam'"),
        ((3, None, {}), r"'optimizer'.*3"),
        ((None, None, {}), r"'optimizer'.*None"),
        ((optax.adam, "fast", {}), r"'learning_rate'.*number.*'fast'"),
        ((optax.adam, np.nan, {}), r"'learning_rate'.*number.*nan"),
        (
            (optax.adam, None, {"epss": 1}),
            r"hyperparameter 'epss'.*b1, b2.*mean 'eps'",
        ),
        ((optax.adam, None, {"learning_rate": 1.0}), r"is its 'learning_rate'"),
        ((optax.adam(0.1), 0.1, {}), r"'learning_rate'.*None.*finished"),
        ((optax.adam(0.1), None, {"b1": 1}), r"'optimizer_kwargs'.*None.*finished"),
        ((optax.lbfgs, None, {"memory_size": -1}), r"'lbfgs'.*refuses"),
        ((lambda: 3, None, {}), r"returns an optax optimiser"),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(InvalidParameterError, match=words):
        resolve_optimizer(*arguments, "a test")


# The learning rate in the history.


def valley(state):
    return (state["w"] - 1.0) ** 2


def rates(optimizer, n=4):
    state = {"w": Parameter(value=np.float64(3.0))}
    history = OptaxOptimizer(valley, optimizer).run(state, n)[1]["history"]
    return history["learning_rate"].to_numpy() if "learning_rate" in history else None


def test_readout_of_the_learning_rate():
    decay = functools.partial(optax.exponential_decay, 0.1, 1)
    expected = [np.nan, 0.1, 0.05, 0.025, 0.0125]
    assert_allclose(
        rates(make_spec(optax.sgd, {"learning_rate": decay(0.5)})), expected
    )
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=decay(0.5))
    assert_allclose(rates(injected), expected)
    fixed = make_spec(optax.adam, {"learning_rate": 0.25})
    assert_allclose(rates(fixed), [np.nan, 0.25, 0.25, 0.25, 0.25])
    # A finished optimiser keeps it to itself.
    assert rates(optax.sgd(0.1)) is None


def test_readout_of_a_line_search():
    # On a parabola the first step of L-BFGS is a gradient step, scaled.
    state = {"w": Parameter(value=np.float64(3.0))}
    optimizer = OptaxOptimizer(valley, make_spec(optax.lbfgs, {}))
    history = optimizer.run(state, 1)[1]["history"]
    plain = optax.lbfgs()
    with jax.enable_x64(True):
        x = jnp.asarray(3.0)
        value, gradient = (x - 1) ** 2, 2 * (x - 1)
        updates, opt_state = plain.update(
            gradient,
            plain.init(x),
            x,
            value=value,
            grad=gradient,
            value_fn=lambda x: (x - 1) ** 2,
        )
        used = float(opt_state[-1].learning_rate)
    assert np.isnan(history["learning_rate"][0])
    assert history["learning_rate"][1] == pytest.approx(used)
    assert history["w"][1] == pytest.approx(float(x + updates))


def uneven(state):
    """Return a loss that is different in each entry of parameters of several shapes."""
    total = (state["a"] - 1.0) ** 2 + jnp.cos(state["b"]["c"].value) * state["a"] ** 2
    scales = jnp.array([[1.0, 10.0, 0.1], [2.0, 0.5, 3.0]])
    return total + jnp.sum(scales * (state["w"].value - 0.3) ** 2)


def path(optimizer, steps):
    state = {
        "a": Parameter(value=np.float64(0.2)),
        "w": Parameter(value=np.linspace(-1.0, 0.4, 6).reshape(2, 3), upper=0.5),
        "b": {"c": Parameter(value=np.float64(2.0), scale=3.0)},
    }
    final, data = OptaxOptimizer(uneven, optimizer).run(state, steps)
    return np.concatenate(
        [data["history"].to_numpy().ravel(), np.asarray(final["w"]).ravel()]
    )


@pytest.mark.parametrize("name", sorted(ENTRYWISE))
def test_the_arrangement_of_entries_makes_no_difference(name, monkeypatch):
    if name not in factories():
        pytest.skip(f"this version of optax has no {name}")
    optimizer = optimizers.spec(name, 0.05)
    assert optimizer.is_entrywise
    # Closer to the minimum, a line search decides by rounding error.
    steps = 5 if name == "lbfgs" else 25
    joint = path(optimizer, steps)
    finished = optimizer.build(optimizer.numbers)
    assert FinishedOptimizer(finished).is_entrywise
    # (The history of a finished one has no learning rate.)
    joint_finished = path(finished, steps)
    for kind in (OptimizerSpec, FinishedOptimizer):
        monkeypatch.setattr(kind, "is_entrywise", False)
    assert_allclose(path(optimizer, steps), joint, rtol=1e-9, atol=1e-12)
    assert_allclose(path(finished, steps), joint_finished, rtol=1e-9, atol=1e-12)


def halve(updates, state, params=None):
    return jax.tree.map(lambda u: u / 2, updates), state


NOTHING = optax.identity()


class Doubled(optax.GradientTransformation):
    update = property(
        lambda self: lambda g, s, p=None: (jax.tree.map(jnp.add, g, g), s)
    )


class Halved(float):
    def __mul__(self, other):
        return float(self) * other / 2


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        (optax.adam(0.05), True),
        (optax.adam(jnp.asarray(0.05)), True),
        (optax.sgd(optax.exponential_decay(0.1, 5, 0.5), momentum=0.9), True),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05)), True),
        (optax.chain(optax.clip(1.0), optax.trace(0.9), optax.scale(-0.1)), True),
        (optax.with_extra_args_support(optax.adamw(0.05)), True),
        # A mask, labels, a norm for each parameter, a vector of one's own.
        (optax.adamw(0.05, mask=lambda tree: jax.tree.map(jnp.ndim, tree)), False),
        (optax.masked(optax.sgd(0.1), {"a": True, "w": False, "b": False}), False),
        (optax.multi_transform({"x": optax.sgd(0.1)}, "x"), False),
        (optax.lamb(0.05), False),
        (optax.adafactor(0.05), False),
        (optax.chain(optax.adam(0.05), optax.scale_by_trust_ratio()), False),
        (optax.scale(jnp.ones(3)), False),
        (optax.apply_if_finite(optax.sgd(0.1), 3), False),
        (optax.sgd(lambda count: jnp.array([0.1, 0.01])), False),
        (optax.sgd(lambda count: jnp.array([0.1])), False),
        # The user's own code.
        (Doubled(*optax.sgd(0.1)), False),
        (optax.scale(Halved(0.1)), False),
        (optax.GradientTransformation(NOTHING.init, halve), False),
        (optax.chain(optax.GradientTransformation(NOTHING.init, halve)), False),
        (optax.stateless(lambda updates, params: updates), False),
    ],
)
def test_of_which_finished_optimisers_that_is_known(finished, expected):
    assert FinishedOptimizer(finished).is_entrywise is expected


def test_what_tells_parameters_apart_gets_them_apart():
    def mask(params):
        return {"a": True, "w": False, "b": {"c": False}}

    decayed = optimizers.spec("adamw", 0.05, weight_decay=10.0, mask=mask)
    assert not decayed.is_entrywise
    assert not optimizers.spec("lamb", 0.05).is_entrywise
    assert optimizers.spec("sgd", optax.linear_schedule(0.1, 0.0, 9)).is_entrywise
    plain = path(optimizers.spec("adam", 0.05), 4)
    found = path(decayed, 4)
    assert_allclose(found[-6:], plain[-6:], rtol=1e-12)
    assert np.nanmax(np.abs(found - plain)) > 0.01


@pytest.mark.parametrize("name", ["adadelta", "adafactor"])
def test_an_optimiser_whose_default_is_no_learning_rate_descends(name):
    history = OptaxOptimizer(quadratic, optimizers.spec(name)).run(
        {"w": Parameter(value=np.full(3, 4.0))}, 50
    )[1]["history"]
    assert history["loss"].iloc[-1] < history["loss"].iloc[10] < history["loss"].iloc[0]


def quadratic(state):
    return jnp.sum((state["w"].value - 1.0) ** 2)
