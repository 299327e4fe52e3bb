"""Which functions treat each row by itself, by an analysis of what JAX traces.

Rows that do not count may be added to a fit, so that folds of nearly equal size
share a compiled program, only if no row has an influence on what is computed for
another. No numerical experiment can show that: a coupling may vanish at the values
that were tried. So the function is traced with several numbers of rows, and the
traces are walked side by side. An axis is the *row axis* of an array if its length
is the number of rows in each trace. Every operation must lead from row i of its
inputs to row i of its outputs; it must be the same operation in all traces, with
the same constants, so that nothing follows from the number of rows.

An operation that is not known counts as one that couples rows: the price is a
compilation, where the opposite error would be a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._row_rules import (
    Axis,
    CoupledError,
    Operation,
    abstract,
    apply_rule,
    is_same,
    row_axis,
)

# Calls of an inner function, and the parameter that holds it.
_CALLS = {
    "pjit": "jaxpr",
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
}


class RowAxes(NamedTuple):
    """Where the rows are in what a function returns."""

    axes: list[Axis]  # of each leaf; None where no row is in it
    numbers_rows: bool  # whether it may depend on a row's place among all


def row_axes(
    function: Callable[..., Any], shared: Any, rows: Any, sizes: Sequence[int]
) -> RowAxes:
    """
    Return where the rows are in what a function returns that couples none of them.

    Parameters
    ----------
    function : callable
        ``function(shared, rows)``, in JAX.
    shared : pytree of arrays
        What belongs to all rows.
    rows : pytree of arrays of shape (n, ...)
        What belongs to each.
    sizes : sequence of int
        The numbers of rows to trace it with, at least three different ones.

    Returns
    -------
    RowAxes
        With an axis for each leaf of the result.

    Raises
    ------
    CoupledError
        If it couples rows, or may do so, in its value or in its derivative with
        respect to `shared`; or if it cannot be traced with one of the sizes.
    """
    common = jax.tree.map(abstract, shared)
    axes: list[Axis] = [None] * len(jax.tree.leaves(shared))
    axes += [0] * len(jax.tree.leaves(rows))

    def traces(function: Callable[..., Any]) -> list[Any]:
        try:
            found = [
                # (Anew: by a method, JAX would find what it kept for an equal one.)
                jax.make_jaxpr(lambda *given: function(*given), return_shape=True)(
                    common, jax.tree.map(lambda x, n=n: abstract(x, n), rows)
                )
                for n in sizes
            ]
        except Exception as error:
            # Whatever it is: the fit itself will meet it, if it is an error there.
            raise CoupledError(f"a trace that fails: {error}") from error
        jaxprs, results = zip(*found, strict=True)
        trees: list[Any] = [jax.tree.structure(result) for result in results]
        if any(tree != trees[0] for tree in trees):
            raise CoupledError("a result whose structure follows the rows")
        return list(jaxprs)

    walk = _Walk(sizes)
    found = walk.run(traces(function), axes)
    if walk.has_own_derivative:

        def tangent(shared: Any, rows: Any) -> Any:
            ones = jax.tree.map(jnp.ones_like, shared)
            return jax.jvp(lambda s: function(s, rows), (shared,), (ones,))[1]

        of_tangent = _Walk(sizes)
        of_tangent.run(traces(tangent), axes)
        walk.numbers_rows |= of_tangent.numbers_rows
    return RowAxes(found, walk.numbers_rows)


class _Walk:
    """
    The traces of one function with several numbers of rows, side by side.

    Parameters
    ----------
    sizes : sequence of int
        The number of rows of each trace.

    Attributes
    ----------
    has_own_derivative : bool
        Whether a function with a derivative of its own was met. Its rule may couple
        rows although the function does not.
    numbers_rows : bool
        Whether rows were given their numbers, by which a row may be told from others.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.has_own_derivative = False
        self.numbers_rows = False

    def run(self, jaxprs: Sequence[Any], axes: Sequence[Axis]) -> list[Axis]:
        """Return the row axes of a function's outputs, given those of its inputs."""
        constants = [list(getattr(j, "consts", ())) for j in jaxprs]
        jaxprs = [getattr(j, "jaxpr", j) for j in jaxprs]
        if not all(
            len(j.eqns) == len(jaxprs[0].eqns)
            and len(j.constvars) == len(jaxprs[0].constvars)
            for j in jaxprs
        ):
            raise CoupledError("code that follows the number of rows")
        if not all(is_same(constants[0], other) for other in constants):
            raise CoupledError("a constant that follows the number of rows")
        known: list[dict[Any, Axis]] = [{} for _ in jaxprs]
        for variables in _side_by_side(j.constvars for j in jaxprs):
            self._define(known, variables, None)
        inputs = _side_by_side(j.invars for j in jaxprs)
        for variables, axis in zip(inputs, axes, strict=True):
            self._define(known, variables, axis)
        for equations in _side_by_side(j.eqns for j in jaxprs):
            self._equation(known, equations)
        return [
            _read(known, atoms) for atoms in _side_by_side(j.outvars for j in jaxprs)
        ]

    def _define(
        self, known: list[dict[Any, Axis]], variables: Sequence[Any], axis: Axis
    ) -> None:
        """Note where the rows of a variable are, which its shape must confirm."""
        if row_axis([v.aval.shape for v in variables], self.sizes) != axis:
            raise CoupledError("an array whose rows are not where they should be")
        if len({v.aval.dtype for v in variables}) > 1:
            raise CoupledError("a data type that follows the number of rows")
        for names, variable in zip(known, variables, strict=True):
            names[variable] = axis

    def _equation(self, known: list[dict[Any, Axis]], equations: Sequence[Any]) -> None:
        first = equations[0]
        name = first.primitive.name
        if not all(
            e.primitive.name == name
            and len(e.invars) == len(first.invars)
            and len(e.outvars) == len(first.outvars)
            for e in equations
        ):
            raise CoupledError("code that follows the number of rows")
        if any(e.effects for e in equations):
            raise CoupledError("a side effect")
        operation = Operation(
            name,
            [e.params for e in equations],
            [
                _read(known, atoms)
                for atoms in _side_by_side(e.invars for e in equations)
            ],
            [v.aval.shape for v in first.invars],
            [v.aval.shape for v in first.outvars],
            self.sizes,
        )
        outputs = _side_by_side(e.outvars for e in equations)
        for variables, axis in zip(outputs, self._outputs(operation), strict=True):
            self._define(known, variables, axis)

    def _outputs(self, op: Operation) -> list[Axis]:
        """Return the row axes of an operation's outputs."""
        if op.name in _CALLS:
            self.has_own_derivative |= op.name == "custom_jvp_call"
            return self.run([p[_CALLS[op.name]] for p in op.params], op.axes)
        if op.name == "cond":
            return self._cond(op)
        if op.name == "while":
            return self._while(op)
        if op.name == "scan":
            return self._scan(op)
        if op.name == "iota":
            axis = op.row_axis("shape")
            self.numbers_rows |= axis is not None and axis == op.params[0]["dimension"]
        return apply_rule(op)

    def _cond(self, op: Operation) -> list[Axis]:
        if op.axes[0] is not None:
            raise CoupledError("a condition on rows")
        first, *others = (
            self.run(branches, op.axes[1:])
            for branches in _side_by_side(p["branches"] for p in op.params)
        )
        if any(other != first for other in others):
            raise CoupledError("branches that differ in their rows")
        return first

    def _while(self, op: Operation) -> list[Axis]:
        op.require_same("cond_jaxpr", "body_jaxpr")
        in_cond, in_body = (
            op.params[0][key] for key in ("cond_nconsts", "body_nconsts")
        )
        conditions, rest = op.axes[:in_cond], op.axes[in_cond:]
        carry = rest[in_body:]
        goes_on = self.run([p["cond_jaxpr"] for p in op.params], conditions + carry)
        if goes_on != [None]:
            raise CoupledError("a loop whose end follows the rows")
        if self.run([p["body_jaxpr"] for p in op.params], rest) != carry:
            raise CoupledError("a loop that moves rows")
        return carry

    def _scan(self, op: Operation) -> list[Axis]:
        op.require_same("jaxpr")
        params = op.params[0]
        if "ft_in" in params:  # since JAX 0.11
            n_consts, n_carry = (len(part) for part in params["ft_in"].unpack()[:2])
        else:
            n_consts, n_carry = params["num_consts"], params["num_carry"]
        start = n_consts + n_carry
        if 0 in op.axes[start:]:
            raise CoupledError("a scan over the rows")
        inner = [None if axis is None else axis - 1 for axis in op.axes[start:]]
        found = self.run([p["jaxpr"] for p in op.params], op.axes[:start] + inner)
        if found[:n_carry] != op.axes[n_consts:start]:
            raise CoupledError("a loop that moves rows")
        outer = [None if axis is None else axis + 1 for axis in found[n_carry:]]
        return found[:n_carry] + outer


def _side_by_side(sequences: Any) -> list[tuple[Any, ...]]:
    return list(zip(*sequences, strict=True))


def _read(known: list[dict[Any, Axis]], atoms: Sequence[Any]) -> Axis:
    """Return the row axis of what the traces have in one place."""
    if any(hasattr(atom, "val") for atom in atoms):
        values = [getattr(atom, "val", None) for atom in atoms]
        if not all(is_same(values[0], value) for value in values):
            raise CoupledError("a number that follows the number of rows")
        return None
    axes = {names[atom] for names, atom in zip(known, atoms, strict=True)}
    if len(axes) > 1:
        raise CoupledError("code that follows the number of rows")
    return axes.pop()
