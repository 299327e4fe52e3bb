"""The scikit-learn conventions that all components share, and their numbers."""

from __future__ import annotations

import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skoptax import losses, penalties, priors
from skoptax._component import (
    Component,
    absolute,
    as_floats,
    join_numbers,
    number_like,
    resolve_component,
    split_numbers,
)
from skoptax.exceptions import InvalidParameterError

COMPONENTS = [
    *(cls() for cls in losses.LOSSES.values()),
    losses.Huber(delta=2.5),
    penalties.L1(alpha=0.3),
    penalties.L2(alpha=2, params=("slope", "offset")),
    penalties.ElasticNet(alpha=0.3, l1_ratio=0.2, params=["slope"]),
    priors.Normal(mean=np.array([0.0, 1.0]), sd=2.0),
    priors.HalfNormal(sd=3.0),
    priors.LogNormal(mean=1.0, sd=0.1),
    priors.Laplace(mean=-1.0, scale=0.5),
    priors.Gamma(shape=2.0, rate=np.array([1.0, 4.0])),
    priors.Beta(a=2.0, b=5.0),
]


class Mixed(Component):
    """One hyperparameter of each kind."""

    def __init__(self, number=1.0, array=None, word="a", flag=True, names=("b",)):
        self.number = number
        self.array = array
        self.word = word
        self.flag = flag
        self.names = names


def same(left, right):
    """Tell whether two components have one type and equal hyperparameters."""
    a, b = left.get_params(deep=False), right.get_params(deep=False)
    return (
        type(left) is type(right)
        and a.keys() == b.keys()
        and all(np.array_equal(a[key], b[key]) for key in a)
    )


def describe(component):
    return f"{type(component).__module__.split('.')[-1]}.{type(component).__name__}"


@pytest.mark.parametrize("component", COMPONENTS, ids=describe)
class TestConventions:
    def test_clone(self, component):
        copy = clone(component)
        assert copy is not component
        assert same(copy, component)

    def test_pickle(self, component):
        assert same(pickle.loads(pickle.dumps(component)), component)

    def test_set_params(self, component):
        values = component.get_params()
        assert same(type(component)().set_params(**values), component)
        for name in values:
            changed = clone(component).set_params(**{name: 0.25})
            assert getattr(changed, name) == 0.25

    def test_repr_names_the_class(self, component):
        assert repr(component).startswith(type(component).__name__ + "(")

    def test_valid_as_it_stands(self, component):
        assert component.validate() is None

    def test_arguments_are_stored_untouched(self, component):
        for name in component.get_params():
            value = object()
            assert getattr(type(component)(**{name: value}), name) is value

    def test_hash_is_by_identity(self, component):
        assert len({component, clone(component)}) == 2

    def test_round_trip(self, component):
        before = component.get_params()
        numbers, skeleton = split_numbers(component)
        assert same(join_numbers(skeleton, numbers), component)
        assert all(getattr(skeleton, name) is None for name in numbers)
        assert all(component.get_params()[key] is before[key] for key in before)


@given(
    number=st.one_of(
        st.floats(allow_nan=False), st.integers(-(2**53), 2**53), st.booleans()
    ),
    values=st.lists(st.floats(allow_nan=False, width=32), max_size=4),
    dtype=st.sampled_from([np.float32, np.float64]),
    word=st.text(max_size=3),
)
def test_round_trip_law(number, values, dtype, word):
    component = Mixed(number=number, array=np.array(values, dtype), word=word)
    numbers, skeleton = split_numbers(component)
    joined = join_numbers(skeleton, numbers)
    assert same(joined, component)
    assert joined.array.dtype == dtype
    assert ("number" in numbers) == (not isinstance(number, bool))


def test_split_takes_numbers_only():
    numbers, skeleton = split_numbers(Mixed(number=np.float32(0.5), array=np.ones(2)))
    assert sorted(numbers) == ["array", "number"]
    assert skeleton.get_params() == {
        "number": None,
        "array": None,
        "word": "a",
        "flag": True,
        "names": ("b",),
    }


@pytest.mark.parametrize("value", [1, np.int32(1), np.uint8(1), True, 1.0])
def test_integers_become_floats_and_booleans_stay(value):
    numbers, skeleton = split_numbers(Mixed(number=value))
    if value is True:
        assert numbers == {} and skeleton.number is True
    else:
        assert numbers == {"number": 1.0} and type(numbers["number"]) is float


@pytest.mark.parametrize("make", [np.array, jnp.array])
def test_arrays_split_without_warnings(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integers, _ = split_numbers(Mixed(array=make([1, 2])))
        flags, skeleton = split_numbers(Mixed(array=make([True, False])))
    assert jnp.issubdtype(integers["array"].dtype, jnp.floating)
    np.testing.assert_array_equal(integers["array"], [1.0, 2.0])
    assert list(flags) == ["number"] and skeleton.array is not None


def test_arrays_of_words_and_missing_arrays_stay():
    numbers, skeleton = split_numbers(Mixed(array=np.array(["a"]), number=None))
    assert numbers == {}
    assert skeleton.array.tolist() == ["a"]


def test_numbers_may_be_tracers():
    traces = []
    skeleton = split_numbers(losses.Huber())[1]

    @jax.jit
    def value(numbers):
        traces.append(None)
        return join_numbers(skeleton, numbers)(0.0, 10.0)

    deltas = [1.0, 2, 3.5]
    results = [value(split_numbers(losses.Huber(d))[0]) for d in deltas]
    np.testing.assert_allclose(results, [d * (10 - 0.5 * d) for d in deltas])
    assert len(traces) == 1
    assert skeleton.delta is None


def test_tracers_split_again():
    def value(alpha):
        numbers, skeleton = split_numbers(penalties.L2(alpha=alpha))
        return join_numbers(skeleton, numbers)({"a": 2.0})

    assert float(jax.jit(value)(3)) == 6.0
    assert float(jax.grad(value)(3.0)) == 2.0


def test_as_floats():
    (counts, means) = as_floats(np.array([3], np.uint8), np.array([5], np.uint8))
    assert float((counts - means)[0]) == -2.0
    assert as_floats(True)[0].dtype == jnp.float32
    with jax.enable_x64(True):
        single = np.ones(1, np.float32)
        assert [x.dtype for x in as_floats(single, 2.0, 3)] == [np.float32] * 3
        assert as_floats(single, np.ones(1))[0].dtype == np.float64
        assert as_floats(1)[0].dtype == np.float64


def test_absolute():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.inf])
    assert absolute(x).tolist() == [2.0, 0.0, 0.0, 3.0, np.inf]
    for mode in (jax.grad, jax.jacfwd):
        assert jax.vmap(mode(absolute))(x).tolist() == [-1.0, 0.0, 0.0, 1.0, 1.0]


def test_number_like():
    with jax.enable_x64(True):
        assert number_like(np.float64(0.5), jnp.ones(1, "float32")).dtype == "float32"
        assert number_like(np.ones(2), jnp.ones(1)).dtype == "float64"


class TestResolveComponent:
    arguments = (penalties.Penalty, "penalty", "Owner", "a penalty")

    def test_component_is_validated(self):
        good = penalties.L2()
        assert resolve_component(good, *self.arguments) is good
        with pytest.raises(InvalidParameterError, match="alpha"):
            resolve_component(penalties.L2(-1.0), *self.arguments)

    def test_function_passes(self):
        assert resolve_component(np.sum, *self.arguments) is np.sum

    def test_class_asks_for_an_instance(self):
        with pytest.raises(
            InvalidParameterError, match=r"instance of it, L2\(\.\.\.\)"
        ):
            resolve_component(penalties.L2, *self.arguments)

    @pytest.mark.parametrize("value", [losses.Huber(), priors.Normal, dict, 3.0, "L2"])
    def test_rest_is_refused(self, value):
        message = "The 'penalty' parameter of Owner must be a penalty. Got "
        with pytest.raises(InvalidParameterError, match=message):
            resolve_component(value, *self.arguments)
