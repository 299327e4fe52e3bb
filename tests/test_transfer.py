import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skoptax._transfer import aligned, aligned_copy, to_device


def placed(array: np.ndarray, offset: int) -> np.ndarray:
    """Return a copy that begins so many bytes behind a multiple of 64."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    copy = memory[first : first + array.nbytes].view(array.dtype)
    copy = copy.reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, bool])
@pytest.mark.parametrize("shape", [(7,), (1, 5), (1001, 3), (4, 3, 2)])
def test_a_copy_begins_where_it_should_and_holds_the_same(dtype, shape):
    array = np.random.default_rng(0).integers(0, 9, size=shape).astype(dtype)
    found = aligned(placed(array, 16))
    assert found.ctypes.data % 64 == 0
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_what_begins_there_is_not_copied():
    array = placed(np.arange(30.0).reshape(10, 3), 0)
    assert aligned(array) is array


def test_what_is_not_contiguous_is_copied():
    array = placed(np.arange(30.0).reshape(10, 3), 0).T
    found = aligned(array)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("offset", [0, 16])
@pytest.mark.parametrize("shape", [(7,), (1001, 3), (1 << 19, 5)])
def test_a_copy_is_one_also_of_what_begins_there(shape, offset):
    array = placed(np.random.default_rng(0).normal(size=shape), offset)
    found = aligned_copy(array)
    assert not np.shares_memory(found, array)
    assert found.ctypes.data % 64 == 0 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, array)


def test_a_copy_of_what_is_not_contiguous():
    array = placed(np.arange(30.0).reshape(10, 3), 0)[:, ::2]
    np.testing.assert_array_equal(aligned_copy(array), array)


def test_an_array_that_was_met_in_single_precision_keeps_its_digits():
    array = np.random.default_rng(0).normal(size=20_000)
    own = jax.jit(lambda s: s * jnp.asarray(array))
    own(1.0)
    with jax.enable_x64(True):
        found = jax.jit(lambda a: 2 * a)(to_device(array))
    np.testing.assert_array_equal(np.asarray(found), 2 * array)
    own(1.0)


def test_a_copy_is_taken_as_it_is():
    array = aligned_copy(np.ones((1 << 19, 5)))
    with jax.enable_x64(True):
        found = to_device(array)
    assert np.shares_memory(np.asarray(found), array)


@pytest.mark.parametrize("offset", [0, 16])
def test_large_arrays_go_to_the_device_as_they_are(offset):
    array = placed(np.random.default_rng(0).normal(size=(1 << 19, 5)), offset)
    with jax.enable_x64(True):
        found = to_device(array)
    assert isinstance(found, jax.Array)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(np.asarray(found), array)


@pytest.mark.parametrize("leaf", [np.ones(10_000), 3.0, np.float64(2), None])
def test_what_is_small_stays_on_the_host(leaf):
    assert to_device(leaf) is leaf
