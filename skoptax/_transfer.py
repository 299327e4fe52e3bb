"""Arrays on their way to the device."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

# Arrays of fewer entries go as arguments of a program: this is faster.
_SMALL = 10_000
# On a CPU, JAX takes an array as it is if it begins at a multiple of this. Others it
# copies, by one thread, into memory that is new to the process where an array is large:
# most of the time goes into having it. NumPy has it in larger pages, and some threads
# share the work.
_ALIGNMENT, _LARGE, _MOST_THREADS = 64, 1 << 24, 4


def to_device(leaf: Any) -> Any:
    """
    Put an array on the device, if it is not small.

    Parameters
    ----------
    leaf : object
        Of a pytree of data.

    Returns
    -------
    object
        What it was, if it is not an array of NumPy's.
    """
    if not isinstance(leaf, np.ndarray) or leaf.size <= _SMALL:
        return leaf
    if leaf.nbytes >= _LARGE and jax.default_backend() == "cpu":
        leaf = aligned(leaf)
    # A view: JAX knows an array again that it has met in another precision.
    return jax.device_put(leaf.view())


def aligned(array: np.ndarray) -> np.ndarray:
    """
    Return an array as JAX takes it without a copy.

    Parameters
    ----------
    array : ndarray
        Of one dimension or more.

    Returns
    -------
    ndarray
        Itself, if it is contiguous and begins where it should, else a copy.
    """
    if array.ctypes.data % _ALIGNMENT == 0 and array.flags.c_contiguous:
        return array
    return aligned_copy(array)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """
    Return a copy of an array that JAX takes without another one.

    Parameters
    ----------
    array : ndarray
        Of one dimension or more.

    Returns
    -------
    ndarray
        Contiguous, and begins where it should.
    """
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    if array.nbytes < _LARGE:
        np.copyto(copy, array)
        return copy
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    parts = (np.array_split(a, threads) for a in (copy, array))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.copyto, *parts))
    return copy
