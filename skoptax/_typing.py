"""Names for the types that several modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike", "Mode", "NDArray", "PyTree", "StepCallback"]

Array: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any
Mode: TypeAlias = Literal["rev", "fwd"]

# (step, diff_state, static_state, fitting_data, aux_data, loss_value, grads)
# -> (stop, diff_state, static_state)
StepCallback: TypeAlias = Callable[
    [int, PyTree, PyTree, dict[str, Any], PyTree, Any, PyTree],
    tuple[Any, PyTree, PyTree],
]
