"""What each of JAX's operations does with rows: the rules behind `_coupling`.

A rule sees one operation in several traces that differ in their number of rows. It
returns the row axis of each output, or raises `CoupledError`. Row i of an output may
follow from row i of the inputs, and from what no row is in; and the first rows must
not change when rows are added behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Axis = int | None
Shape = tuple[int, ...]


class CoupledError(Exception):
    """A row has, or may have, an influence on what belongs to another."""


class Operation(NamedTuple):
    """One operation, as it stands in each trace."""

    name: str
    params: Sequence[dict[str, Any]]  # of each trace
    axes: list[Axis]  # of its inputs: where their rows are
    shapes: Sequence[Shape]  # of its inputs, in the first trace
    outs: Sequence[Shape]  # of its outputs, in the first trace
    sizes: Sequence[int]  # the number of rows in each trace

    def require_same(self, *free: str) -> None:
        """Refuse parameters that differ between the traces, but for those named."""
        first, *others = self.params
        for key, value in first.items():
            if key not in free and not all(is_same(value, p[key]) for p in others):
                raise CoupledError(f"{self.name!r}, whose {key} follows the rows")

    def row_axis(self, key: str) -> Axis:
        """Return the row axis of the shape that a parameter gives."""
        return row_axis([p[key] for p in self.params], self.sizes)


def row_axis(shapes: Sequence[Shape], sizes: Sequence[int]) -> Axis:
    """
    Return the axis along which shapes have as many entries as there are rows.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Of one array, in each trace.
    sizes : sequence of int
        The number of rows in each trace, at least three different ones.

    Returns
    -------
    int or None
        ``None`` if all are the same.

    Raises
    ------
    CoupledError
        If they differ in another way.
    """
    if len({len(shape) for shape in shapes}) > 1:
        raise CoupledError("an array whose rank follows the number of rows")
    lengths = list(zip(*shapes, strict=True))
    varying = [k for k, entries in enumerate(lengths) if len(set(entries)) > 1]
    if not varying:
        return None
    if len(varying) > 1 or lengths[varying[0]] != tuple(sizes):
        raise CoupledError(f"an array of shape {tuple(shapes[0])}")
    return varying[0]


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two constants, or two parameters of an operation, are equal."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if hasattr(one, "jaxpr") or hasattr(one, "eqns"):
        consts, others = (list(getattr(x, "consts", ())) for x in (one, other))
        return str(one) == str(other) and is_same(consts, others)
    if isinstance(one, (float, complex)) or hasattr(one, "dtype"):
        a, b = np.asarray(one), np.asarray(other)
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    try:
        return bool(one == other)
    except Exception:  # a comparison of its own that fails; "different" is safe
        return False


def _entrywise(op: Operation) -> list[Axis]:
    op.require_same()
    # An array of another rank is a scalar, one without rows has length 1 along them.
    found = {axis for axis in op.axes if axis is not None}
    if len(found) > 1:
        raise CoupledError("arrays whose rows are along different axes")
    return [found.pop() if found else None] * len(op.outs)


def _barrier(op: Operation) -> list[Axis]:
    return op.axes


def _broadcast(op: Operation) -> list[Axis]:
    op.require_same("shape")
    at = op.axes[0]
    if at is not None:
        return [op.params[0]["broadcast_dimensions"][at]]
    # The same for each row.
    return [op.row_axis("shape")]


def _iota(op: Operation) -> list[Axis]:
    # Rows that are added come behind: the others keep their numbers.
    op.require_same("shape")
    return [op.row_axis("shape")]


def _reshape(op: Operation) -> list[Axis]:
    op.require_same("new_sizes")
    at, before = op.row_axis("new_sizes"), op.axes[0]
    if (at is None) != (before is None):
        raise CoupledError("a reshape of the rows")
    if at is not None and (
        math.prod(op.params[0]["new_sizes"][:at]) != math.prod(op.shapes[0][:before])
    ):
        raise CoupledError("a reshape of the rows")
    return [at]


def _without(key: str) -> Callable[[Operation], list[Axis]]:
    """Return the rule of an operation that drops axes."""

    def rule(op: Operation) -> list[Axis]:
        op.require_same()
        at, dropped = op.axes[0], op.params[0][key]
        if any(axis != at for axis in op.axes) or at in dropped:
            raise CoupledError("a reduction over the rows")
        kept = None if at is None else at - sum(d < at for d in dropped)
        return [kept] * len(op.outs)

    return rule


def _along_another(key: str) -> Callable[[Operation], list[Axis]]:
    """Return the rule of an operation along an axis that must not be the rows'."""

    def rule(op: Operation) -> list[Axis]:
        op.require_same()
        at, along = op.axes[0], op.params[0][key]
        along = along if isinstance(along, (tuple, list)) else (along,)
        if any(axis != at for axis in op.axes) or at in along:
            raise CoupledError("an operation along the rows")
        return [at] * len(op.outs)

    return rule


def _stack(op: Operation) -> list[Axis]:
    op.require_same()
    at, new = op.axes[0], op.params[0]["axis"]
    if any(axis != at for axis in op.axes):
        raise CoupledError("arrays whose rows are along different axes")
    return [None if at is None else at + (new <= at)]


def _tile(op: Operation) -> list[Axis]:
    op.require_same("reps")
    at, repeated = op.axes[0], op.row_axis("reps")
    if at is None and (repeated is None or op.shapes[0][repeated] == 1):
        # The same for each row, if for any.
        return [repeated]
    if at is None or repeated is not None or op.params[0]["reps"][at] != 1:
        raise CoupledError("rows that are repeated")
    return [at]


def _transpose(op: Operation) -> list[Axis]:
    op.require_same()
    at = op.axes[0]
    return [None if at is None else tuple(op.params[0]["permutation"]).index(at)]


def _slice(op: Operation) -> list[Axis]:
    at = op.axes[0]
    if at is None:
        op.require_same()
        return [None]
    op.require_same("limit_indices")
    strides = op.params[0]["strides"]
    if (
        op.params[0]["start_indices"][at] != 0
        or (strides is not None and strides[at] != 1)
        or op.row_axis("limit_indices") != at
    ):
        raise CoupledError("a part of the rows")
    return [at]


def _pad(op: Operation) -> list[Axis]:
    op.require_same()
    at, filler = op.axes
    is_along = at is not None and tuple(op.params[0]["padding_config"][at]) != (0, 0, 0)
    if filler is not None or is_along:
        raise CoupledError("an operation along the rows")
    return [at]


def _dot_general(op: Operation) -> list[Axis]:
    op.require_same()
    (left, right), (left_batch, right_batch) = op.params[0]["dimension_numbers"]
    at, other = op.axes
    if (at is not None and at in left) or (other is not None and other in right):
        raise CoupledError("a matrix product over the rows")
    if at is not None and other is not None:
        # Each row with its own, or else all with all.
        if (at, other) not in list(zip(left_batch, right_batch, strict=True)):
            raise CoupledError("a product of all rows with all rows")
        return [list(left_batch).index(at)]
    if at is not None and at not in left_batch:
        taken = {*left, *left_batch}
        return [len(left_batch) + sum(d not in taken for d in range(at))]
    if other is not None and other not in right_batch:
        taken = {*right, *right_batch}
        rank = len(op.shapes[0]) - len(left)
        return [rank + sum(d not in taken for d in range(other))]
    if at is None and other is None:
        return [None]
    raise CoupledError("a matrix product over the rows")


def _gather(op: Operation) -> list[Axis]:
    numbers = op.params[0]["dimension_numbers"]
    operand, indices = op.axes
    batch = [d for d in range(len(op.outs[0])) if d not in numbers.offset_dims]
    if operand is None:
        op.require_same()
        if indices is None:
            return [None]
        if indices == len(op.shapes[1]) - 1:
            raise CoupledError("an index made of rows")
        return [batch[indices]]
    if indices is None:
        op.require_same("slice_sizes")
        dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        is_indexed = operand in dropped or operand in numbers.start_index_map
        if is_indexed or op.row_axis("slice_sizes") != operand:
            raise CoupledError("a part of the rows")
        kept = [d for d in range(len(op.shapes[0])) if d not in dropped]
        return [numbers.offset_dims[kept.index(operand)]]
    op.require_same()
    pairs = zip(
        numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
    )
    if (operand, indices) not in list(pairs):
        raise CoupledError("a look-up in other rows")
    return [batch[indices]]


def _dynamic_slice(op: Operation) -> list[Axis]:
    op.require_same("slice_sizes")
    if any(axis is not None for axis in op.axes[1:]):
        raise CoupledError("an index made of rows")
    # All of an axis, wherever it is to start, is all of it.
    if op.row_axis("slice_sizes") != op.axes[0]:
        raise CoupledError("a part of the rows")
    return [op.axes[0]]


def _dynamic_update_slice(op: Operation) -> list[Axis]:
    op.require_same()
    if any(axis is not None for axis in op.axes[2:]) or op.axes[0] != op.axes[1]:
        raise CoupledError("an update of a part of the rows")
    return [op.axes[0]]


def _high_level(op: Operation) -> list[Axis]:
    """Look values up in a sorted array, the one high-level operation that is known."""
    inner = [p["_prim"] for p in op.params]
    described = [getattr(p, "params", {}) for p in inner]
    if type(inner[0]).__name__ != "SearchSorted" or not all(
        type(p) is type(inner[0]) and is_same(sorted(d.items()), sorted(e.items()))
        for p, d, e in zip(inner, described, described[:1] * len(inner), strict=True)
    ):
        raise CoupledError(f"the operation {inner[0]}")
    if op.axes[0] is not None or described[0].get("batch_dims") != 0:
        raise CoupledError("a look-up in other rows")
    return [op.axes[1]]


_ENTRYWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e "
    "cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh "
    "digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma "
    "igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p "
    "logistic lt lt_to max min mul ne neg nextafter not or polygamma polynomial "
    "population_count pow real reduce_precision regularized_incomplete_beta rem round "
    "rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign sin "
    "sinh sqrt square stop_gradient sub tan tanh xor zeta"
)
_REDUCTIONS = (
    "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum "
    "reduce_xor"
)
_CUMULATIONS = "cumlogsumexp cummax cummin cumprod cumsum"

RULES: dict[str, Callable[[Operation], list[Axis]]] = {
    **dict.fromkeys(_ENTRYWISE.split(), _entrywise),
    **dict.fromkeys(_REDUCTIONS.split(), _without("axes")),
    **dict.fromkeys(_CUMULATIONS.split(), _along_another("axis")),
    "broadcast_in_dim": _broadcast,
    "call_hi_primitive": _high_level,
    "concatenate": _along_another("dimension"),
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "iota": _iota,
    "optimization_barrier": _barrier,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _along_another("dimensions"),
    "slice": _slice,
    "sort": _along_another("dimension"),
    "split": _along_another("axis"),
    "squeeze": _without("dimensions"),
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}


def apply_rule(op: Operation) -> list[Axis]:
    """
    Return the row axes of an operation's outputs.

    Parameters
    ----------
    op : Operation
        Not a call or control flow.

    Returns
    -------
    list of int or None
        For each output.

    Raises
    ------
    CoupledError
        If it couples rows, or is not known and there are rows in its inputs.
    """
    rule = RULES.get(op.name)
    if rule is not None:
        return rule(op)
    if any(axis is not None for axis in op.axes):
        raise CoupledError(f"the operation {op.name!r}")
    # No row is in it: its outputs are the same whatever the number of rows.
    op.require_same()
    return [None] * len(op.outs)


def abstract(leaf: Any, n: int | None = None) -> jax.ShapeDtypeStruct:
    """Return the shape and type of an array, with another number of rows."""
    shape = np.shape(leaf) if n is None else (n, *np.shape(leaf)[1:])
    return jax.ShapeDtypeStruct(shape, jax.numpy.result_type(leaf))
