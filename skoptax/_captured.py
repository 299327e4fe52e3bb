"""NumPy arrays that a function refers to, where two precisions meet.

JAX takes a 64-bit array in 32 bits unless 64 bits are enabled, and keeps what it
made of the array for as long as any trace does; it looks it up by the array's
identity alone. Traced in single precision once, an array is thus taken in single
precision in a double-precision trace as well: digits are lost without a word, or the
types do not fit together. And one that was changed in place is taken as it was: what
was made of it in single precision is a copy. So it is before JAX traces that such
arrays are looked for.
The same holds for an array that is an argument of a program, which is therefore handed
over as a view that nothing else has met.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

# What JAX's precision changes. (It takes none of another byte order, or longer.)
_WIDE = tuple(map(np.dtype, ("int64", "uint64", "float64", "complex128")))
# An entry for each time that JAX was made to forget. (Appending is atomic.)
_times: list[None] = []


def takes_as_now(arrays: Sequence[np.ndarray]) -> bool:
    """
    Tell whether JAX takes arrays as they are now, in its present precision.

    Parameters
    ----------
    arrays : sequence of ndarray
        What functions refer to. Those that no precision changes are not looked at.

    Returns
    -------
    bool
        ``False`` if one would enter a trace as it did in another precision, or before
        it was changed.
    """
    found = _as_taken(arrays)
    return all(
        _has_type(taken, now) and _has_values(taken, now) for taken, now in found
    )


def _as_taken(arrays: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what JAX takes for each array that precision changes, and the array."""
    # JAX takes no masked array; what is taken of one is a new array each time.
    known = [a for a in arrays if not isinstance(a, np.ma.MaskedArray)]
    wide = [a for a in known if _is_wide(a.dtype)]
    if not wide:
        return []
    closed = jax.make_jaxpr(lambda: [jax.lax.neg(a) for a in wide])()
    constants = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    # (Scalars are written into the operation.)
    atoms: list[Any] = [equation.invars[0] for equation in closed.jaxpr.eqns]
    taken = [x.val if hasattr(x, "val") else constants[x] for x in atoms]
    return [(np.asarray(t), a) for t, a in zip(taken, wide, strict=True)]


def _has_type(taken: np.ndarray, array: np.ndarray) -> bool:
    return bool(taken.dtype == jax.dtypes.canonicalize_dtype(array.dtype))


def _has_values(taken: np.ndarray, array: np.ndarray) -> bool:
    with np.errstate(all="ignore"):  # what is too large becomes infinite
        now = np.asarray(array).astype(taken.dtype, copy=False)
    return np.array_equal(taken, now, equal_nan=True)


def _is_wide(dtype: np.dtype[Any]) -> bool:
    return dtype in _WIDE


def forget_other_precision(arrays: Sequence[np.ndarray]) -> None:
    """
    Let JAX forget its traces, if that is what an array needs to be taken anew.

    All that JAX has compiled in this process is compiled again when it is called.

    Parameters
    ----------
    arrays : sequence of ndarray
        What functions refer to that are about to be traced.

    Raises
    ------
    RuntimeError
        If an array is still taken in the other precision, or as it was.
    """
    if takes_as_now(arrays):
        return
    jax.clear_caches()
    gc.collect()  # traces hold each other in cycles
    _times.append(None)
    check_taken_as_now(arrays)


def unmet(leaf: Any) -> Any:
    """
    Return an array of NumPy's as one that JAX has not met in another precision.

    Parameters
    ----------
    leaf : object
        Of the arguments of a program.

    Returns
    -------
    object
        A view, where JAX's precision changes what it makes of the array; else what
        it was.
    """
    if type(leaf) is np.ndarray and _is_wide(leaf.dtype):
        return leaf.view()
    return leaf


def times_forgotten() -> int:
    """Return how often JAX has been made to forget; programs of before are gone."""
    return len(_times)


def check_taken_as_now(arrays: Sequence[np.ndarray]) -> None:
    """
    Refuse arrays that would enter a trace in another precision, or as they were.

    Parameters
    ----------
    arrays : sequence of ndarray
        What functions refer to.

    Raises
    ------
    RuntimeError
        If there is one. It says what to do.
    """
    found = _as_taken(arrays)
    if all(_has_type(taken, now) for taken, now in found):
        if all(_has_values(taken, now) for taken, now in found):
            return
        raise RuntimeError(
            "The model or the loss refers to a NumPy array that was changed in place "
            "since JAX has met it, and JAX still takes it as it was. Hand it over as a "
            "parameter that is not fitted, `Parameter(value=array, free=False)`, or "
            "refer to a copy of it."
        )
    now, before = "double", "single"
    if not getattr(jax.config, "jax_enable_x64"):  # noqa: B009 (untyped)
        now, before = before, now
    raise RuntimeError(
        "The model or the loss refers to a NumPy array that JAX has met in "
        f"{before} precision and still takes in it, in a computation in {now} "
        "precision. Hand it over as a parameter that is not fitted, "
        "`Parameter(value=array, free=False)`, or refer to a copy of it."
    )
