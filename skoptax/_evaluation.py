"""An objective at a point of the space that the optimiser steps in.

Its value and gradient, and for an optimiser that looks at each prediction its
linearisation too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ._shares import part_of_rows
from ._structure import Structure
from ._typing import Array, PyTree
from ._unpacking import build_state, hold_fixed_entries, user_values
from .exceptions import InvalidParameterError
from .optimizers._by_rows import Part, linearise_by_rows, rows_at_a_time
from .optimizers._jacobian import jacobian
from .optimizers._linearisation import Linearisation, flat_bound, quadratic_model


class Values(NamedTuple):
    """The parameters' values."""

    free: PyTree  # as `Structure.join` has them
    tied: dict[int, Array]  # by position


class Evaluated(NamedTuple):
    """What is known of a state."""

    value: Any
    aux: PyTree
    gradient: PyTree
    values: Values
    linearisation: Linearisation | None


class Box(NamedTuple):
    """Bounds in the space that the optimiser steps in."""

    lower: PyTree
    upper: PyTree


# (Equal ones would be one to JAX, which keeps traces by a method of theirs.)
@dataclass(frozen=True, eq=False)
class Evaluator:
    """
    The objective of one structure of the state.

    Parameters
    ----------
    loss : callable
        ``loss(state, *data) -> scalar`` or ``(scalar, aux)``.
    structure : Structure
        Of the packed state.
    mode : {"rev", "fwd"}
        The differentiation mode.
    has_aux : bool
        Whether the loss returns auxiliary data.
    parts : SampleLoss, Objective or None
        The loss before it was checked, if an optimiser may look at its predictions:
        ``parts.predict``, ``parts.losses_at``, ``parts.information_at`` and
        ``parts.others`` have the arguments of the loss.
    """

    loss: Callable[..., Any]
    structure: Structure
    mode: str
    has_aux: bool
    parts: Any = None

    def refuse_without_curvature(self) -> None:
        """
        Raise an error if the loss is of no use to an optimiser that looks.

        Raises
        ------
        InvalidParameterError
            With what to use instead.
        """
        if self.parts.has_curvature:
            return
        loss = getattr(self.parts, "sample_loss", None) or self.parts.loss
        raise InvalidParameterError(
            f"Levenberg-Marquardt needs a loss with curvature, and {loss!r} has none: "
            "its second derivative is 0 almost everywhere. Use optimizer='lbfgs' or "
            "'adam', or a loss that is curved where it counts, such as 'huber', "
            "'log_cosh' or 'cauchy'."
        )

    def objective(self, internal: PyTree, numbers: Any, data: Any) -> tuple[Any, Any]:
        """Return the loss, and auxiliary data with the values of all parameters."""
        structure = self.structure
        values = user_values(structure, numbers, internal)
        result = self.loss(build_state(structure, numbers, values), *data)
        value, aux = result if self.has_aux else (result, ())
        return jnp.asarray(value), (aux, self._shown(values))

    def _shown(self, values: dict[int, Any]) -> Values:
        indices = self.structure.indices("tied")
        tied: dict[int, Any] = {i: jnp.asarray(values[i]) for i in indices}
        return Values(self.structure.join(values), tied)

    def at(
        self,
        internal: PyTree,
        numbers: Any,
        data: Any,
        box: Box,
        before: Linearisation | None,
    ) -> Evaluated:
        """
        Evaluate a state.

        Parameters
        ----------
        internal : pytree
            Where.
        numbers : dict
            Of the packed state.
        data : tuple
            Further arguments of the loss.
        box : Box
            The bounds.
        before : Linearisation or None
            That of the state before, of an optimiser that looks at each prediction.

        Returns
        -------
        Evaluated
            The gradient is 0 for fixed entries of free arrays.
        """
        if before is not None:
            return self._linearised(internal, numbers, data, box, before)
        (value, (aux, values)), gradient = value_and_grad(self.objective, self.mode)(
            internal, numbers, data
        )
        if len(numbers["mask"]):
            zeros = jax.tree.map(jnp.zeros_like, gradient)
            gradient = hold_fixed_entries(self.structure, numbers, gradient, zeros)
        return Evaluated(value, aux, gradient, values, None)

    def held_out_loss(self, values: Values, numbers: Any, data: Any) -> Any:
        """Return the loss of rows that are not fitted."""
        found = numbers["static"] | self.structure.split(values.free) | values.tied
        return self.parts.held_out_loss(
            build_state(self.structure, numbers, found), *data
        )

    def value_fn(self, here: PyTree, numbers: Any, data: Any) -> Callable[..., Any]:
        """Return the objective near a point, with fixed entries as they are there."""

        def value(internal: PyTree) -> Any:
            held = hold_fixed_entries(self.structure, numbers, internal, here)
            return self.objective(held, numbers, data)[0]

        return value

    def seen(self, here: PyTree, numbers: Any, data: Any) -> dict[str, Any]:
        """
        Return predictions and losses near a point, as functions.

        Parameters
        ----------
        here : pytree
            The point.
        numbers, data : pytree
            As for `at`.

        Returns
        -------
        dict
            ``predict_fn``, ``sample_loss``.
        """
        return {
            "predict_fn": lambda internal: self.parts.predict(
                self._state(internal, here, numbers), *data
            ),
            "sample_loss": lambda predictions: self.parts.losses_at(
                self._state(here, here, numbers), *data
            )(predictions),
        }

    def _state(self, internal: PyTree, here: PyTree, numbers: Any) -> PyTree:
        held = hold_fixed_entries(self.structure, numbers, internal, here)
        values = user_values(self.structure, numbers, held)
        return build_state(self.structure, numbers, values)

    def _linearised(
        self,
        internal: PyTree,
        numbers: Any,
        data: Any,
        box: Box,
        before: Linearisation,
    ) -> Evaluated:
        parts, forward = self.parts, self.mode == "fwd"
        flat, unravel = ravel_pytree(internal)
        here = self._state(internal, internal, numbers)

        def state(x: Any) -> Any:
            return self._state(unravel(x), internal, numbers)

        def part(rows: tuple[Any, ...]) -> Part:
            return Part(
                lambda x: parts.predict(state(x), *rows),
                parts.losses_at(here, *rows),
                parts.information_at(here, *rows),
            )

        def rest(x: Any) -> Any:
            return parts.others(state(x), *data)

        lower, upper = (flat_bound(bound, internal) for bound in box)
        others, known = None, parts.others(here, *data)
        if known is not None:
            slope = jax.jacfwd(rest) if forward else jax.grad(rest)
            others = (known, slope(flat), jax.jacfwd(slope)(flat))
        size = None if self.has_aux else self._rows_at_a_time(data, flat.size)
        if size is not None:
            value, gradient, found = linearise_by_rows(
                lambda number: part(part_of_rows(data, number, size)),
                -(-len(data[0]) // size),
                flat,
                forward=forward,
                is_coupled=parts.couples_outputs,
                before=before,
                others=others,
                lower=lower,
                upper=upper,
            )
            values = self._shown(user_values(self.structure, numbers, internal))
            return Evaluated(value, (), unravel(gradient), values, found)
        rows = part(data)

        def summed(predictions: Any) -> Any:
            return jnp.sum(rows.losses(predictions))

        predictions, columns = jacobian(rows.predict, flat, forward)
        if self.has_aux:
            value, (aux, values) = self.objective(internal, numbers, data)
        else:
            # The model need not be evaluated once more.
            value, aux = summed(predictions), ()
            value = value if known is None else value + known
            values = self._shown(user_values(self.structure, numbers, internal))
        gradient, found = quadratic_model(
            predictions,
            columns,
            summed,
            flat,
            others=None if others is None else others[1:],
            information=rows.information,
            value=value,
            lower=lower,
            upper=upper,
            is_coupled=parts.couples_outputs,
            # The package's own have derivatives in both modes.
            each=None if parts.couples_outputs else rows.losses,
        )
        return Evaluated(value, aux, unravel(gradient), values, found)

    def _rows_at_a_time(self, data: Any, p: int) -> int | None:
        """Return how many rows are linearised at a time; ``None`` is all of them."""
        if not getattr(self.parts, "is_by_row", False):
            return None
        y = data[1]
        return rows_at_a_time(len(y), y.size // len(y), p)


def value_and_grad(objective: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """
    Return ``f -> ((value, aux), gradient)`` with respect to its first argument.

    Parameters
    ----------
    objective : callable
        Returns ``(scalar, aux)``.
    mode : {"rev", "fwd"}
        Reverse mode costs a small multiple of one evaluation whatever the number
        of parameters; forward mode costs one each, and goes through loops that
        reverse mode cannot.

    Returns
    -------
    callable
        With the objective's arguments.
    """
    if mode == "rev":
        return jax.value_and_grad(objective, has_aux=True)

    def with_value(*arguments: Any) -> tuple[Any, Any]:
        value, aux = objective(*arguments)
        return value, (value, aux)

    def forward(*arguments: Any) -> tuple[Any, Any]:
        gradient, result = jax.jacfwd(with_value, has_aux=True)(*arguments)
        return result, like(gradient, arguments[0])

    return forward


def differentiable_forward(value_fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """
    Return ``value_fn`` with a reverse rule made of forward derivatives.

    Optax's line searches call `jax.value_and_grad` on it.
    """

    @jax.custom_vjp
    def wrapped(x: Any) -> Any:
        return value_fn(x)

    def forward(x: Any) -> tuple[Any, Any]:
        (value, _), gradient = value_and_grad(lambda y: (value_fn(y), ()), "fwd")(x)
        return value, gradient

    def backward(gradient: Any, cotangent: Any) -> tuple[Any]:
        return (jax.tree.map(lambda g: g * cotangent, gradient),)

    wrapped.defvjp(forward, backward)
    return wrapped


def like(new: PyTree, old: PyTree) -> PyTree:
    """Cast leaves to the types of others: those of a loop, say, are fixed."""
    return jax.tree.map(lambda n, o: jnp.asarray(n).astype(o.dtype), new, old)
