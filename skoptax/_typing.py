"""Names for the types that several modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Array",
    "ArrayLike",
    "Block",
    "CovType",
    "Mode",
    "NDArray",
    "PyTree",
    "StepCallback",
]

Array: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any
Mode: TypeAlias = Literal["rev", "fwd"]
CovType: TypeAlias = Literal["nonrobust", "HC0", "HC1", "HC2", "HC3", "hessian"]

# (step, diff_state, static_state, fitting_data, aux_data, loss_value, grads)
# -> (stop, diff_state, static_state)
StepCallback: TypeAlias = Callable[
    [int, PyTree, PyTree, dict[str, Any], PyTree, Any, PyTree],
    tuple[Any, PyTree, PyTree],
]

Result = TypeVar("Result")
About = TypeVar("About")


class Block(NamedTuple, Generic[Result, About]):
    """What a program is made from, for one loss and one structure of the state."""

    run: Callable[..., Result]  # to be compiled
    blank: Callable[..., About]  # makes what goes with it, of numbers, data and hyper
    for_loss_alone: bool = False  # whether it evaluates the loss without a gradient
    shuffles: bool = False  # whether it computes in which order the rows are taken
    side_by_side: bool = False  # whether it does the same for many small problems
