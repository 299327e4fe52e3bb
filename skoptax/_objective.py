r"""Data, model, loss, priors and penalty as one function.

What is minimised is

.. math::

    \frac{\sum_i w_i\, \ell(y_i, f(x_i; \theta)) - \log p(\theta)}{\sum_i w_i}
    + R(\theta),

with the per-sample loss :math:`\ell` (a negative log-likelihood up to
constants), the model :math:`f`, the prior density :math:`p` and the penalty
:math:`R`. Its minimiser is the posterior mode, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ._component import join_numbers
from ._model import ModelCall, describe
from ._packing import pack
from ._parameter import is_parameter
from ._shares import counted
from ._tracing import own
from ._unpacking import build_state, internal_start, user_values
from .exceptions import ModelError
from .losses import Loss, SquaredError, per_sample
from .losses._likelihood import HALF_DEVIANCES
from .losses._regression import squares
from .losses._resolve import information_of, is_own
from .penalties import Penalty


# (Equal ones would be one to JAX, which keeps traces by a method of theirs.)
@dataclass(frozen=True, eq=False)
class Objective:
    """
    The scalar loss of an estimator; everything it holds is part of its key.

    Parameters
    ----------
    call : ModelCall
        The bound model.
    loss : Loss or callable
        The per-sample loss, without its numbers.
    penalty : Penalty, callable or None
        The penalty, without its numbers.
    is_by_row : bool, default=False
        Whether the loss of a row is known to follow from that row alone, wherever it
        stands.
    """

    call: ModelCall
    loss: Any
    penalty: Any
    is_by_row: bool = False

    #: What comes after the state.
    data_names = (
        "X",
        "y",
        "sample_weight",
        "number of rows",
        "numbers of the loss",
        "numbers of the penalty",
    )

    @property
    def has_curvature(self) -> bool:
        """Whether the loss' second derivative says something about it."""
        return bool(getattr(self.loss, "has_curvature", True))

    @property
    def couples_outputs(self) -> bool:
        """Whether the loss of a row may be more than the sum over its outputs."""
        return not is_own(self.loss)

    def content(self) -> tuple[Any, ...]:
        """Return what a content key must hold of it."""
        return (self.call.content(), self.loss, self.penalty, self.is_by_row)

    def __call__(
        self,
        state: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_rows: Any,
        loss_numbers: dict[str, Any],
        penalty_numbers: dict[str, Any],
    ) -> Any:
        """
        Evaluate the objective.

        Parameters
        ----------
        state : pytree
            The parameter spec, with values.
        X : array of shape (n, d)
            Inputs.
        y : array of shape (n,) or (n, k)
            Responses.
        sample_weight : array of shape (n,) or None
            Weights; ``None`` is 1 each.
        n_rows : int or None
            Without weights, how many of the rows count, the first ones; ``None`` is
            all: a compiled program compares faster than it reads and multiplies. With
            weights, what stands for their sum, where these are a part of the rows.
        loss_numbers, penalty_numbers : dict
            Their hyperparameters.

        Returns
        -------
        scalar or (scalar, aux)
            The objective.
        """
        values = parameter_values(state)
        unit, loss = self._in_units(loss_numbers)
        losses, aux = self._row_losses(loss, values, X, y, sample_weight)
        losses, total = counted(losses, sample_weight, n_rows)
        value = _mean(unit, losses, _log_prior(state), total)
        penalty = self._penalty(values, penalty_numbers)
        if penalty is not None:
            value = value + penalty
        return (value, aux) if self.call.has_aux else value

    def held_out_loss(
        self,
        state: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_rows: Any,
        loss_numbers: dict[str, Any],
        _: Any,
    ) -> Any:
        """Return the weighted mean of the losses, without priors and penalty."""
        unit, loss = self._in_units(loss_numbers)
        values = parameter_values(state)
        losses, _ = self._row_losses(loss, values, X, y, sample_weight)
        losses, total = counted(losses, sample_weight, n_rows)
        return _mean(unit, losses, 0, total)

    def predict(self, state: Any, X: Any, y: Any, *_: Any) -> Any:
        """Return the predictions, with the arguments of a call."""
        return predictions(self.call, parameter_values(state), X, y.shape)[0]

    def losses_at(
        self,
        state: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_rows: Any,
        loss_numbers: dict[str, Any],
        _: Any,
    ) -> Callable[[Any], Any]:
        """Return each row's share of the objective as a function of its prediction."""
        unit, loss = self._in_units(loss_numbers)

        def shares(prediction: Any) -> Any:
            prediction = self._admitted(y, prediction, sample_weight)
            losses = _one_for_each(loss(y, prediction), y.shape)
            losses, total = counted(losses, sample_weight, n_rows)
            return unit * losses / total

        return shares

    def information_at(
        self,
        state: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_rows: Any,
        loss_numbers: dict[str, Any],
        _: Any,
    ) -> Callable[[Any], Any]:
        """Return each share's expected second derivative at a prediction, or None."""
        loss = self.loss
        if isinstance(loss, Loss):
            loss = join_numbers(loss, loss_numbers)

        def information(prediction: Any) -> Any:
            found = information_of(loss, prediction)
            if found is None:
                return None
            each, total = counted(jnp.ones(y.shape[:1], X.dtype), sample_weight, n_rows)
            return found * (each / total).reshape(-1, *[1] * (y.ndim - 1))

        return information

    def others(
        self,
        state: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_rows: Any,
        _: Any,
        penalty_numbers: dict[str, Any],
    ) -> Any:
        """Return what the objective has besides losses, or ``None`` if nothing."""
        leaves = jax.tree.leaves(state, is_leaf=is_parameter)
        if self.penalty is None and all(p.prior is None for p in leaves):
            return None
        _, total = counted(jnp.zeros(y.shape[:1], X.dtype), sample_weight, n_rows)
        penalty = self._penalty(parameter_values(state), penalty_numbers)
        return (0.0 if penalty is None else penalty) - _log_prior(state) / total

    def _penalty(self, values: Any, numbers: dict[str, Any]) -> Any:
        penalty = self.penalty
        if penalty is None:
            return None
        if isinstance(penalty, Penalty):
            penalty = join_numbers(penalty, numbers)
        return _scalar(penalty(values))

    def row_losses(self, shared: tuple[Any, Any], rows: tuple[Any, Any]) -> Any:
        """
        Evaluate the loss of each row.

        Parameters
        ----------
        shared : tuple
            The parameters' values, and the loss' hyperparameters.
        rows : tuple
            Inputs of shape (n, d) and responses of shape (n,) or (n, k).

        Returns
        -------
        losses : array of shape (n,)
            One for each row.
        aux : pytree
            ``()`` without ``has_aux``.
        """
        (values, loss_numbers), (X, y) = shared, rows
        return self._row_losses(self._whole_loss(loss_numbers), values, X, y)

    def losses_of(self, loss_numbers: dict[str, Any], y: Any, predictions: Any) -> Any:
        """Return the loss of each row, given its prediction."""
        losses = self._whole_loss(loss_numbers)(y, predictions)
        return _one_for_each(losses, y.shape)

    def _whole_loss(self, numbers: dict[str, Any]) -> Any:
        if not isinstance(self.loss, Loss):
            return self.loss
        loss = join_numbers(self.loss, numbers)
        return own(loss) if is_own(self.loss) else loss

    def _in_units(self, numbers: dict[str, Any]) -> tuple[float, Any]:
        """
        Return a factor that the rows have in common, and the loss without it.

        A compiled sum does not move a factor out of itself: with 100,000 rows the half
        of the squared error took a tenth of a fit.
        """
        if is_own(self.loss) and type(self.loss) is SquaredError:
            return 0.5, own(squares)
        return 1.0, self._whole_loss(numbers)

    def _row_losses(
        self, loss: Any, values: Any, X: Any, y: Any, sample_weight: Any = None
    ) -> tuple[Any, Any]:
        prediction, aux = predictions(self.call, values, X, y.shape)
        prediction = self._admitted(y, prediction, sample_weight)
        return _one_for_each(loss(y, prediction), y.shape), aux

    def _admitted(self, y: Any, prediction: Any, sample_weight: Any) -> Any:
        """
        Return predictions, with others that the loss admits where the weight is 0.

        There the mean of counts may be 0 although the count is not: the loss is
        infinite then, and no number times 0. Half a deviance is finite where the
        prediction is the response.
        """
        has_edge = is_own(self.loss) and type(self.loss) in HALF_DEVIANCES
        if sample_weight is None or not has_edge:
            return prediction
        return _where_counted(prediction, y, sample_weight)


@own
def _where_counted(prediction: Any, y: Any, sample_weight: Any) -> Any:
    counts = (sample_weight > 0).reshape(-1, *[1] * (y.ndim - 1))
    counts = jnp.broadcast_to(counts, y.shape)
    return jax.lax.select(counts, prediction, y.astype(prediction.dtype))


@own
def _mean(unit: float, losses: Any, log_prior: Any, total: Any) -> Any:
    # JAX takes its time for each operation that it differentiates: none for nothing.
    whole = jnp.sum(losses) if unit == 1 else unit * jnp.sum(losses)
    return (whole - log_prior if isinstance(log_prior, jax.Array) else whole) / total


def _log_prior(state: Any) -> Any:
    return sum(
        (
            jnp.sum(_log_density(p.prior, p.value))
            for p in jax.tree.leaves(state, is_leaf=is_parameter)
            if p.prior is not None
        ),
        start=0.0,
    )


def parameter_values(state: Any) -> Any:
    """Return a spec's values in its structure: arrays in place of parameters."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf.value) if is_parameter(leaf) else leaf,
        state,
        is_leaf=is_parameter,
    )


def abstract_values(spec: Any, owner: str) -> Any:
    """
    Return shapes and types of a spec's values, as the model gets them.

    Parameters
    ----------
    spec : pytree
        With `Parameter` leaves that have arrays as values, of floating-point numbers.
    owner : str
        Named in errors.

    Returns
    -------
    pytree of jax.ShapeDtypeStruct
        In the spec's structure.
    """
    leaves = jax.tree.leaves(spec, is_leaf=is_parameter)
    if all(p.tie is None and p.transform is None for p in leaves):
        # They are what they were given as: a trace of its own would take 9 ms.
        return jax.tree.map(
            lambda p: jax.ShapeDtypeStruct(p.value.shape, p.value.dtype),
            spec,
            is_leaf=is_parameter,
        )
    structure, numbers = pack(spec, owner)

    def values(numbers: Any) -> Any:
        start = internal_start(structure, numbers)
        found = user_values(structure, numbers, start)
        return parameter_values(build_state(structure, numbers, found))

    return jax.eval_shape(values, numbers)


def predictions(
    call: ModelCall, values: Any, X: Any, shape: tuple[int, ...] | None
) -> tuple[Any, Any]:
    """
    Call the model and check what it returns.

    Parameters
    ----------
    call : ModelCall
        The bound model.
    values : pytree
        Parameters in the user's units.
    X : array of shape (n, d)
        Inputs.
    shape : tuple or None
        The response's shape; ``None`` for any with n rows.

    Returns
    -------
    prediction : array
        Of that shape.
    aux : pytree
        ``()`` without ``has_aux``.

    Raises
    ------
    ModelError
        If the model returns something else.
    """
    result = call(values, X)
    shown = describe(call.model)
    aux: Any = ()
    if call.has_aux:
        if not isinstance(result, tuple) or len(result) != 2:
            raise ModelError(
                f"With has_aux=True the model {shown} must return (prediction, aux). "
                f"Got {type(result).__name__} instead."
            )
        result, aux = result
    elif isinstance(result, tuple):
        outputs = ""
        if shape is not None and shape[1:] == (len(result),):
            outputs = " Outputs are columns: jnp.stack(outputs, axis=1)."
        raise ModelError(
            f"The model {shown} must return an array of predictions. Got a tuple of "
            f"{len(result)} instead.{outputs} A model that returns (prediction, aux) "
            "needs has_aux=True."
        )
    try:
        prediction = jnp.asarray(result)
    except (TypeError, ValueError) as error:
        if isinstance(error, (jax.errors.JAXTypeError, jax.errors.JAXIndexError)):
            raise
        raise ModelError(
            f"The model {shown} must return an array of predictions. Got "
            f"{type(result).__name__} instead."
        ) from error
    wanted = shape if shape is not None else (X.shape[0], *prediction.shape[1:])
    if prediction.shape != wanted or prediction.ndim == 0:
        hint = ""
        if prediction.shape == ():
            hint = " A model that is constant returns jnp.full(X.shape[0], value)."
        elif prediction.shape == (*wanted, 1):
            hint = " Drop the last axis: return prediction[:, 0]."
        elif len(wanted) == 2 and prediction.shape == wanted[::-1]:
            hint = " Outputs are columns: return prediction.T."
        raise ModelError(
            f"The model {shown} must return one prediction for each row, an array of "
            f"shape {wanted}. Got shape {prediction.shape} instead.{hint}"
        )
    if jnp.issubdtype(prediction.dtype, jnp.complexfloating):
        raise ModelError(
            f"The model {shown} must return real predictions. Got {prediction.dtype} "
            "instead."
        )
    # A model may make arrays of JAX's own default type on its way.
    if jnp.issubdtype(prediction.dtype, jnp.floating):
        prediction = prediction.astype(X.dtype)
    return prediction, aux


def _scalar(penalty: Any) -> Any:
    if penalty is None or jnp.shape(penalty) != ():
        got = "None" if penalty is None else f"an array of shape {jnp.shape(penalty)}"
        raise ModelError(
            f"The penalty must return a scalar. Got {got} instead. Reduce it with "
            "jnp.sum, and return it."
        )
    return penalty


def _one_for_each(losses: Any, shape: tuple[int, ...]) -> Any:
    """Return one loss for each row, the sum over its outputs."""
    if jnp.shape(losses) not in (shape, shape[:1]):
        raise ModelError(
            "The loss must return one value for each sample, an array of shape "
            f"{shape}. Got shape {jnp.shape(losses)} instead. Leave out the mean over "
            "samples: it is taken for you, with the weights."
        )
    return own(per_sample)(jnp.asarray(losses))


def _log_density(prior: Any, value: Any) -> Any:
    return prior.log_prob(value) if hasattr(prior, "log_prob") else prior(value)
