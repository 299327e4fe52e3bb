"""From a state to what a program takes, and back inside of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import Parameter, priors
from skoptax._fingerprint import fingerprint
from skoptax._packing import pack, wants_float64
from skoptax._unpacking import (
    active_gradient,
    build_state,
    clip_keeping_edges,
    hold_fixed_entries,
    internal_bounds,
    internal_start,
    project,
    user_values,
)
from skoptax.exceptions import InvalidParameterError

FALLING = (lambda u: -3.0 * u, lambda w: -w / 3.0)
# Transform, and the range of values that it is tried on.
TRANSFORMS = {
    "none": (None, -1e3, 1e3),
    "log": ("log", 1e-3, 1e3),
    "logit": ("logit", 0.01, 0.99),
    "rising pair": ((jnp.sinh, jnp.arcsinh), -1e3, 1e3),
    "falling pair": (FALLING, -1e3, 1e3),
}
SCALES = st.one_of(st.none(), st.just("value"), st.floats(1e-3, 1e3))


@st.composite
def boxes(draw):
    """A parameter of three entries, its start inside a box of random sides."""
    transform, low, high = TRANSFORMS[draw(st.sampled_from(list(TRANSFORMS)))]
    entries = [
        sorted(draw(st.lists(st.floats(low, high), min_size=3, max_size=3)))
        for _ in range(3)
    ]
    lower, value, upper = np.array(entries).T
    scale = draw(SCALES)
    if scale == "value" and (transform != "log" or np.any(value == 1)):
        scale = None
    sides = draw(st.sampled_from(["both", "lower", "upper", "none"]))
    return Parameter(
        "p",
        value,
        lower=lower if sides in ("both", "lower") else None,
        upper=upper if sides in ("both", "upper") else None,
        scale=scale,
        transform=transform,
    )


def key(state):
    return fingerprint(pack(state, "a test")[0].content())


def inside(structure, numbers, internal):
    (values,) = user_values(structure, numbers, internal).values()
    return np.asarray(values)


@given(parameter=boxes(), point=st.lists(st.floats(-50, 50), min_size=3, max_size=3))
def test_boxes(parameter, point):
    lower = -np.inf if parameter.lower is None else parameter.lower
    upper = np.inf if parameter.upper is None else parameter.upper
    with jax.enable_x64(True):
        structure, numbers = pack(parameter, "a test")
        start = internal_start(structure, numbers)
        value = inside(structure, numbers, start)
        assert_allclose(value, parameter.value, rtol=1e-12, atol=1e-12)
        # Any point at all is inside of the box, and so is its projection.
        low, high = internal_bounds(structure, numbers)
        internal = jnp.asarray(point)
        moved = project(internal, low, high)
        for tree in (internal, moved):
            value = inside(structure, numbers, tree)
            assert (lower <= value).all()
            assert (value <= upper).all()
        assert_array_equal(
            inside(structure, numbers, internal), inside(structure, numbers, moved)
        )
        # A point far outside is on the bound to the last bit.
        for far in (-1e6, 1e6):
            outside = project(jnp.full(3, far), low, high)
            value = inside(structure, numbers, outside)
            falls = parameter.transform is FALLING
            bound = lower if (far < 0) != falls else upper
            if np.all(np.isfinite(bound)):
                assert_array_equal(value, bound)


def test_numbers_and_structure():
    state = {
        "a": Parameter(value=np.float32(1.0), lower=0.0, scale=2.0),
        "b": Parameter("own", 2, free=False),
        "c": Parameter(
            value=np.ones(2), free=[True, False], prior=priors.Normal(0.0, 3.0)
        ),
        "d": Parameter(tie=lambda own: own),
        "e": np.arange(3),
        "f": 2.5,
        "g": 3,
        "h": ("text", True, jnp.exp),
    }
    structure, numbers = pack(state, "a test")
    kinds = [(leaf.name, leaf.kind) for leaf in structure.leaves]
    assert kinds == [
        *(("a", "free"), ("own", "fixed"), ("c", "free"), ("d", "tied")),
        *(("e", "array"), ("f", "array"), ("g", "constant")),
        *(("h.0", "constant"), ("h.1", "constant"), ("h.2", "constant")),
    ]
    assert numbers["values"][0].dtype == numbers["lower"][0].dtype == np.float32
    assert numbers["lower"][2] == -np.inf
    assert numbers["scale"][0] == 2.0
    assert_array_equal(numbers["mask"][2], [True, False])
    assert 0 not in numbers["mask"]
    assert numbers["static"][5] == 2.5
    assert numbers["priors"][2] == {"mean": 0.0, "sd": 3.0}

    # Other numbers, the same structure; but not with another int.
    other = state | {
        "a": Parameter(value=np.float32(2.0), upper=9.0),
        "c": state["c"].with_fields(free=[False, True], prior=priors.Normal(1.0, 2.0)),
        "f": 3.5,
    }
    assert key(other) == key(state)
    assert key(state | {"g": 4}) != key(state)
    assert key(state | {"g": 3.0}) != key(state)
    assert key(state | {"b": Parameter("own", 2)}) != key(state)

    values = user_values(structure, numbers, internal_start(structure, numbers))
    built = build_state(structure, numbers, values)
    assert built["a"].value == 1.0
    assert built["a"].lower is None  # a loss that read it would make it a constant
    assert built["d"].value == 2.0
    assert built["c"].prior.sd == 3.0
    assert built["h"] == state["h"]


@pytest.mark.parametrize(
    ("state", "double"),
    [
        ({"p": Parameter(value=1.0), "x": 2.0}, False),
        ({"p": Parameter(value=[1.0]), "x": np.zeros(2, np.float32)}, False),
        ({"p": Parameter(value=1.0), "x": np.arange(3)}, False),
        ({"p": Parameter(value=np.float64(1.0))}, True),
        ({"p": Parameter(value=np.zeros(2))}, True),
        ({"p": Parameter(value=1.0), "x": np.zeros(2)}, True),
        ({"p": Parameter(value=1.0), "x": [np.zeros(2, complex)]}, True),
    ],
)
def test_precision_is_that_of_the_leaves(state, double):
    assert wants_float64(state) is double


def test_a_mask_holds_entries():
    state = Parameter(value=np.array([1.0, 2.0, 3.0]), free=[True, False, True])
    structure, numbers = pack(state, "a test")
    old = internal_start(structure, numbers)
    held = hold_fixed_entries(structure, numbers, old + 10.0, old)
    assert_array_equal(held, [11.0, 2.0, 13.0])


def test_active_bounds_have_no_gradient():
    x = jnp.array([0.0, 0.0, 1.0, 1.0, 0.5, 0.0])
    g = jnp.array([1.0, -1.0, 1.0, -1.0, 1.0, 0.0])
    found = active_gradient(x, g, jnp.zeros(6), jnp.ones(6))
    assert_array_equal(found, [0.0, -1.0, 1.0, 0.0, 1.0, 0.0])


def test_the_slope_of_the_clip_is_one_on_the_bounds():
    slopes = jax.vmap(jax.grad(clip_keeping_edges), (0, None, None))
    x = jnp.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    assert_array_equal(slopes(x, 0.0, 1.0), [0.0, 1.0, 1.0, 1.0, 0.0])


def test_ties_are_computed_in_their_order():
    state = {
        "a": Parameter(tie=lambda b: b + 1),
        "b": Parameter(tie=lambda c, free: c * free),
        "c": Parameter(tie=lambda x: jnp.sum(x)),
        "free": Parameter(value=3.0),
        "x": np.arange(4.0, dtype=np.float32),
        "deep": {"d": Parameter("slope", tie=lambda a: -a)},
    }
    structure, numbers = pack(state, "a test")
    values = user_values(structure, numbers, internal_start(structure, numbers))
    built = build_state(structure, numbers, values)
    assert float(built["c"]) == 6.0
    assert float(built["b"]) == 18.0
    assert float(built["a"]) == 19.0
    assert float(built["deep"]["d"]) == -19.0


def free(**fields):
    return {"p": Parameter(**{"value": 1.0, **fields})}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (free(lower=2.0, upper=0.5), r"'lower'.*'p'.*exceed its 'upper'.*swapped"),
        (free(lower=2.0), r"start value.*'p'.*within its bounds \[2\.0, inf\].*1\.0"),
        (free(upper=0.5), r"start value.*'p'.*within its bounds \[-inf, 0\.5\]"),
        (
            free(value=[1.0, 5.0], upper=[2.0, 2.0]),
            r"within its bounds.*\[1\.0, 5\.0\]",
        ),
        (free(lower=[0.0, 0.0]), r"'lower'.*shape \(\)"),
        (free(value=[1.0, 2.0], lower=[0.0] * 3), r"'lower'.*shape \(2,\)"),
        (free(lower=np.nan), r"'lower'.*not NaN"),
        (free(lower="low"), r"'lower'.*a number or an array"),
        (free(scale=0.0), r"'scale'.*positive.*0\.0"),
        (free(scale=-1.0), r"'scale'.*positive"),
        (free(scale=np.inf), r"'scale'.*positive"),
        (free(scale="auto"), r"'scale'.*positive: 'value'"),
        (free(scale=[1.0, 2.0]), r"'scale'.*shape \(\)"),
        (free(value=0.0, scale="value"), r"'scale'.*not 0"),
        (free(value=[1.0, 0.0], scale="value"), r"'scale'.*not 0"),
        (free(value=np.nan), r"'value'.*finite"),
        (free(value=np.inf), r"'value'.*finite"),
        (free(value=1j), r"'value'.*real"),
        (free(value="one"), r"'value'.*real"),
        (free(value=True), r"'value'.*real"),
        (free(value=[1.0, 2.0], free=[True]), r"'free'.*shape \(2,\)"),
        (free(free=1), r"'free'.*bool"),
        (free(transform="lgo"), r"'transform'.*mean 'log'"),
        (free(value=-1.0, transform="log"), r"start value.*'p'.*between 0\.0 and inf"),
        (free(lower=-1.0, transform="log"), r"bounds.*'p' contradict.*'log'"),
        (
            free(value=-1.0, prior=priors.Gamma(2.0, 1.0)),
            r"start value.*'p'.*support \[0\.0, inf\] of its prior Gamma\(shape=2\.0\)",
        ),
        (free() | {"q": Parameter(tie=3)}, r"'tie'.*'q'.*function"),
        (free() | {"q": Parameter(tie=lambda z: z)}, r"tie.*'q' refers to 'z'"),
        (free() | {"rate": Parameter(tie=lambda rte: rte)}, r"mean 'rate'"),
        (free() | {"q": Parameter(tie=lambda q: q)}, r"'q'.*circular"),
        (
            free() | {"q": Parameter(tie=lambda r: r), "r": Parameter(tie=lambda q: q)},
            r"'q', 'r'.*circular",
        ),
        # Where nothing else is free, too.
        (
            {"q": Parameter(tie=lambda r: r), "r": Parameter(tie=lambda q: q)},
            r"'q', 'r' are circular: .*Make one of them free or fixed",
        ),
        ({"q": Parameter(tie=lambda r: r), "r": Parameter(free=False)}, "nothing to"),
    ],
)
def test_specs_that_contradict_themselves(state, words):
    with pytest.raises(InvalidParameterError, match=words):
        pack(state, "a test")


def test_a_tracer_as_a_start():
    def inside_of_jit(x):
        with pytest.raises(InvalidParameterError, match="outside of jit"):
            pack(free(value=x), "a test")
        return x

    jax.jit(inside_of_jit)(1.0)


def test_a_priors_support_limits_the_bounds():
    state = free(value=0.5, prior=priors.Beta(2.0, 2.0), upper=0.75)
    structure, numbers = pack(state, "a test")
    assert structure.leaves[0].kind == "free"
    assert numbers["lower"][0] == 0.0
    assert numbers["upper"][0] == 0.75
