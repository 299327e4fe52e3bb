"""`Parameter` as a number, as an array, as a pytree and as a scikit-learn object."""

import operator
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skoptax import (
    Parameter,
    combine_state,
    named_parameters,
    partition_state,
    priors,
)
from skoptax.exceptions import InvalidParameterError

BINARY = [
    *(operator.add, operator.sub, operator.mul, operator.truediv),
    *(operator.floordiv, operator.mod, operator.pow),
    *(operator.lt, operator.le, operator.gt, operator.ge),
]
OTHERS = {
    "int": 3,
    "float": 1.5,
    "numpy scalar": np.float64(2.0),
    "numpy array": np.array([1.0, 2.5, 3.0]),
    "jax array": jnp.array([1.0, 2.5, 3.0]),
}


def is_parameter(x):
    return isinstance(x, Parameter)


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("value", [2.5, np.array([2.0, 0.5, 1.0])], ids=["0-d", "1-d"])
def test_arithmetic_on_both_sides(operation, other, value):
    p = Parameter("p", value)
    for mine, plain in (
        (operation(p, other), operation(value, other)),
        (operation(other, p), operation(other, value)),
        (operation(p, Parameter(value=other)), operation(value, other)),
    ):
        assert not isinstance(mine, Parameter)
        assert type(mine) is type(plain)
        assert_array_equal(np.asarray(mine), np.asarray(plain))


def test_unary_operators_and_matmul():
    v, m = np.array([1.0, -2.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    p = Parameter(value=v)
    assert_array_equal(-p, -v)
    assert_array_equal(+p, v)
    assert_array_equal(abs(p), abs(v))
    assert_array_equal(m @ p, m @ v)
    assert_array_equal(p @ m, v @ m)
    assert_array_equal(jnp.asarray(m) @ p, m @ v)
    assert p @ Parameter(value=v) == 5.0


def test_conversions():
    p = Parameter("p", 2.5)
    assert float(p) == 2.5
    assert f"{p:.3f}" == "2.500"
    assert f"{p}" == "2.5"
    assert f"{Parameter(value=np.float32(0.5))}" == "0.5"
    assert f"{Parameter(value=jnp.asarray(0.25)):.1e}" == "2.5e-01"
    assert f"{Parameter(value=[1.0, 2.0])}" == "[1. 2.]"
    array = np.asarray(Parameter(value=[[1.0, 2.0]]))
    assert array.shape == (1, 2)
    assert np.asarray(p, dtype=np.float32).dtype == np.float32
    source = np.zeros(2)
    copy = np.array(Parameter(value=source))
    copy[0] = 1.0
    assert source[0] == 0.0
    assert jnp.asarray(Parameter(value=np.ones(2))).shape == (2,)
    assert_allclose(jnp.exp(p), np.exp(2.5), rtol=1e-6)
    assert_allclose(jnp.sum(Parameter(value=[1.0, 2.0])), 3.0)


def test_as_a_sequence():
    p = Parameter("p", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert p.shape == (2, 2)
    assert p.ndim == 2
    assert p.dtype == np.float64
    assert len(p) == 2
    assert_array_equal(p[1], [3.0, 4.0])
    assert_array_equal(p[:, 0], [1.0, 3.0])
    _, second = p
    assert_array_equal(second, [3.0, 4.0])
    assert list(Parameter(value=[1.0, 2.0, 3.0])) == [1.0, 2.0, 3.0]
    # Iteration over a JAX array ends too, though indexing it is never an error.
    assert len(list(Parameter(value=jnp.arange(3.0)))) == 3
    scalar = Parameter("p", 1.0)
    assert scalar.shape == ()
    with pytest.raises(TypeError, match="'p' is a scalar"):
        len(scalar)
    with pytest.raises(TypeError, match="'p' is a scalar"):
        iter(list(scalar))


def test_equality_and_hash_are_by_identity():
    one, other = Parameter("p", 1.0), Parameter("p", 1.0)
    assert one == one
    assert one != other
    assert one != 1.0
    assert len({one, other}) == 2
    array = Parameter(value=np.zeros(2))
    assert (array == array) is True
    assert array in [one, array]


def test_a_value_that_is_not_known_yet():
    p = Parameter("p", lambda X, y, rng: y.mean())
    for use in (float, np.asarray, lambda p: p + 1, lambda p: p.shape):
        with pytest.raises(InvalidParameterError, match="'p' has no value yet"):
            use(p)
    assert "lambda" in repr(p)


def test_a_value_in_the_place_of_the_name():
    with pytest.raises(InvalidParameterError, match=r"'name'.*Parameter\(value="):
        Parameter(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "Parameter('rate', 0.5, lower=0.0)",
        "Parameter(value=0.5)",
        "Parameter('w', [1.0, 2.0], free=False, scale='value', shape=(2,))",
        "Parameter(value=[[1, 2], [3, 4]], upper=[5.0, inf])",
    ],
)
def test_repr_is_how_to_make_it(text):
    assert repr(eval(text, globals() | {"inf": np.inf})) == text


def test_arrays_are_written_as_lists():
    p = Parameter(value=jnp.ones(2), free=np.array([True, False]), lower=np.zeros(2))
    assert (
        repr(p) == "Parameter(value=[1.0, 1.0], free=[True, False], lower=[0.0, 0.0])"
    )


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, list])
def test_long_arrays_are_cut_as_numpy_cuts_them(make):
    values = make(range(5000))
    assert repr(Parameter("w", values, upper=values)) == (
        "Parameter('w', [0, 1, 2, ..., 4997, 4998, 4999], "
        "upper=[0, 1, 2, ..., 4997, 4998, 4999])"
    )
    assert len(repr(Parameter(value=np.zeros((300, 200))))) < 300
    whole = list(range(1000))  # as long as NumPy writes them whole
    assert repr(Parameter(value=make(whole))) == f"Parameter(value={whole})"
    with np.printoptions(threshold=6000):
        assert repr(Parameter("w", values)) == f"Parameter('w', {list(range(5000))})"


def test_what_is_no_array_is_written_as_it_is():
    assert repr(Parameter(value=[[1, 2], [3]])) == "Parameter(value=[[1, 2], [3]])"
    pair = Parameter(value=1.0, transform=(jnp.square, jnp.sqrt))
    assert f"transform=({jnp.square!r}, {jnp.sqrt!r})" in repr(pair)


# A pytree.


def spec(value=1.0, bound=0.0):
    return Parameter(
        "p",
        value,
        lower=np.array([bound, 0.0]),
        upper=[9.0, 9.0],
        scale=2.0,
        transform=(jnp.exp, jnp.log),
        prior=priors.Normal(0.0, 1.0),
    )


def test_one_leaf_and_equal_specs_are_equal_structures():
    leaves, tree = jax.tree.flatten(spec(1.0))
    assert leaves == [1.0]
    assert tree == jax.tree.structure(spec(2.0))
    assert hash(tree) == hash(jax.tree.structure(spec(2.0)))
    assert tree != jax.tree.structure(spec(1.0, bound=-1.0))
    for field, value in {
        "name": "q",
        "free": False,
        "upper": [9.0, 8.0],
        "scale": 3.0,
        "transform": "log",
        "prior": priors.Normal(0.0, 2.0),
        "tie": abs,
        "shape": (2,),
    }.items():
        assert tree != jax.tree.structure(spec().with_fields(**{field: value})), field
    rebuilt = jax.tree.unflatten(tree, [5.0])
    assert rebuilt.value == 5.0
    assert rebuilt.scale == 2.0
    ((path, _),) = jax.tree_util.tree_flatten_with_path({"k": spec()})[0]
    assert jax.tree_util.keystr(path) == "['k'].value"


def test_tree_map_and_transformations():
    one, other = spec(1.0), spec(2.0)
    total = jax.tree.map(lambda a, b: a + b, one, other)
    assert total.value == 3.0
    assert total.name == "p"
    assert jax.tree.map(lambda x: x, Parameter(value=[1.0, 2.0])).shape == (2,)

    traces = []

    @jax.jit
    def double(p):
        traces.append(p)
        return p * 2

    assert double(spec(3.0)) == 6.0
    assert double(spec(4.0)) == 8.0
    assert len(traces) == 1
    gradient = jax.grad(lambda p: p**2)(spec(3.0))
    assert gradient.value == 6.0
    assert_array_equal(
        jax.vmap(lambda p: p * 2)(Parameter(value=jnp.arange(3.0))), [0, 2, 4]
    )


# scikit-learn.


def test_get_params_and_clone():
    p = spec()
    params = p.get_params(deep=False)
    assert list(params) == [
        *("name", "value", "free", "lower", "upper", "scale"),
        *("transform", "tie", "prior", "shape"),
    ]
    assert params["prior"] is p.prior
    assert p.get_params()["prior__sd"] == 1.0
    copy = clone(p)
    assert copy is not p
    assert copy.prior is not p.prior
    assert copy.prior.get_params() == p.prior.get_params()
    for name in ("value", "lower", "scale"):
        assert_array_equal(getattr(copy, name), getattr(p, name))
    assert clone(Parameter("q", shape=("n_features",))).get_params()["shape"] == (
        "n_features",
    )


def test_set_params():
    p = spec()
    assert p.set_params(lower=-1.0, name="q", shape=(2,), prior__sd=3.0) is p
    assert (p.lower, p.name, p.prior.sd) == (-1.0, "q", 3.0)
    assert p.get_params()["shape"] == (2,)
    with pytest.raises(InvalidParameterError, match=r"'lwoer'.*Did you mean 'lower'"):
        p.set_params(lwoer=1.0)
    with pytest.raises(InvalidParameterError, match="'lower__x'"):
        p.set_params(lower__x=1.0)
    with pytest.raises(InvalidParameterError, match="'prior__sd' needs a prior"):
        Parameter().set_params(prior__sd=1.0)


def test_with_fields_copies_on_write():
    p = spec()
    before = p.get_params()
    changed = p.with_fields(value=3.0, prior__sd=5.0, shape=(2,))
    assert (changed.value, changed.prior.sd) == (3.0, 5.0)
    after = p.get_params()
    assert all(after[k] is before[k] for k in before)
    assert p.with_fields(value=3.0).prior is p.prior
    with pytest.raises(InvalidParameterError, match="no field 'valeu'"):
        p.with_fields(valeu=1.0)


def test_pickle():
    p = pickle.loads(pickle.dumps(spec().with_fields(transform="log")))
    same = spec().with_fields(transform="log")
    assert jax.tree.structure(p) == jax.tree.structure(same)
    assert p.value == 1.0


# States.


def test_names():
    state = {
        "a": Parameter(value=1.0),
        "b": [Parameter("slope"), 2.0, Parameter("twice")],
        "c": {"d": Parameter("twice"), "e": Parameter()},
    }
    found = named_parameters(state)
    assert list(found) == ["a", "slope", "b.2", "c.d", "c.e"]
    assert found["slope"] is state["b"][0]
    assert list(named_parameters(Parameter())) == ["value"]
    assert named_parameters({"x": 1.0}) == {}


leaves = st.one_of(
    st.floats(allow_nan=False),
    st.integers(),
    st.text(max_size=3),
    st.builds(lambda v, f: Parameter(value=v, free=f), st.floats(-9, 9), st.booleans()),
    st.builds(
        lambda f: Parameter(value=np.zeros(2), free=f),
        st.sampled_from([[True, False], [False, False]]),
    ),
    st.just(Parameter(tie=lambda a: a)),
    st.none(),
)
states = st.recursive(
    leaves,
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.tuples(children, children),
        st.dictionaries(st.sampled_from("abc"), children, max_size=3),
    ),
    max_leaves=8,
)


@given(state=states)
def test_partition_and_combine(state):
    diff, static = partition_state(state)
    whole = combine_state(diff, static)
    before, structure = jax.tree.flatten(state, is_leaf=is_parameter)
    after, same = jax.tree.flatten(whole, is_leaf=is_parameter)
    assert structure == same
    assert all(a is b for a, b in zip(before, after, strict=True))
    free = jax.tree.leaves(diff, is_leaf=is_parameter)
    held = jax.tree.leaves(static, is_leaf=is_parameter)
    assert len(free) + len(held) == len(before)
    assert all(is_parameter(p) and p.tie is None and np.any(p.free) for p in free)
    assert not any(is_parameter(p) and p.tie is None and np.any(p.free) for p in held)
    # Again, from the parts.
    assert jax.tree.leaves(partition_state(diff)[0], is_leaf=is_parameter) == free
