"""A scalar loss that keeps its predictions in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._component import number_like
from .._validation import invalid, shorten
from ..exceptions import ModelError
from ._base import Loss, LossFunction
from ._resolve import information_of, is_own, per_sample, resolve_loss


class SampleLoss:
    r"""
    A scalar loss that keeps its predictions visible to the optimiser.

    It is a function of the state, as :class:`~skoptax.OptaxOptimizer` takes it:

    .. math:: \frac{\sum_i w_i\, \ell(y_i, \hat y_i)}{\sum_i w_i}

    An optimiser that needs more than a scalar, such as Levenberg-Marquardt, reads the
    two attributes; to all others it is a function like any other. It is compared and
    hashed by identity.

    Parameters
    ----------
    predict_fn : callable
        ``predict_fn(state) -> (y_true, y_pred)``, or with ``sample_weight`` as a
        third item, in JAX. ``y_true`` and ``y_pred`` have the same shape,
        ``(n,)`` or ``(n, ...)``; ``sample_weight`` has shape ``(n,)`` or is ``None``.
    sample_loss : str, Loss or callable
        A name out of ``LOSSES``, a loss, or a function
        ``(y_true, y_pred) -> per-sample loss`` in JAX. The losses of several outputs
        are summed per sample.

    Attributes
    ----------
    predict_fn : callable
        As given.
    sample_loss : Loss or callable
        As given, a name having been replaced by its loss.

    Raises
    ------
    InvalidParameterError
        If ``predict_fn`` is not callable or ``sample_loss`` is no loss.

    See Also
    --------
    skoptax.optimizers.levenberg_marquardt : What it is for.
    per_sample : How the losses of several outputs become that of a sample.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skoptax.losses import SampleLoss
    >>> def predict(state):
    ...     return state["y"], state["slope"] * state["x"]
    >>> loss = SampleLoss(predict, "squared_error")
    >>> state = {"slope": 2.0, "x": jnp.array([0.0, 2.0]), "y": jnp.zeros(2)}
    >>> float(loss(state))
    4.0

    What Levenberg-Marquardt asks of it:

    >>> predictions = loss.predict(state)
    >>> loss.losses_at(state)(predictions).tolist()
    [0.0, 4.0]
    >>> loss.information_at(state)(predictions) is None, loss.others(state) is None
    (True, True)
    >>> loss.has_curvature, loss.couples_outputs
    (True, False)
    """

    sample_loss: Loss | LossFunction

    def __init__(
        self,
        predict_fn: Callable[[Any], tuple[Any, ...]],
        sample_loss: str | Loss | LossFunction,
    ) -> None:
        if not callable(predict_fn):
            must = "a function state -> (y_true, y_pred)"
            raise invalid("predict_fn", "SampleLoss", must, predict_fn)
        self.predict_fn = predict_fn
        self.sample_loss = resolve_loss(sample_loss, "SampleLoss", "sample_loss")

    @property
    def has_curvature(self) -> bool:
        """
        Whether the second derivative of the sample loss says something about it.

        Where it is false, as for the absolute error, Levenberg-Marquardt has nothing
        but the gradient to go by; choose another optimiser.

        See Also
        --------
        Loss : Has the attribute that it reads; a function is taken to have curvature.

        Examples
        --------
        >>> from skoptax.losses import SampleLoss
        >>> def predict(state):
        ...     return state["y"], state["slope"] * state["x"]
        >>> SampleLoss(predict, "squared_error").has_curvature
        True
        >>> SampleLoss(predict, "absolute_error").has_curvature
        False
        """
        return bool(getattr(self.sample_loss, "has_curvature", True))

    @property
    def couples_outputs(self) -> bool:
        """
        Whether the loss of a sample may be more than the sum over its outputs.

        True of any function or class of one's own, since what it does is not known. Its
        second derivative is then a matrix for each sample.

        See Also
        --------
        Loss : The losses that treat each output by itself.

        Examples
        --------
        >>> from skoptax.losses import SampleLoss
        >>> def predict(state):
        ...     return state["y"], state["slope"] * state["x"]
        >>> def distance(y_true, y_pred):
        ...     return ((y_pred - y_true) ** 2).sum(axis=-1) ** 0.5
        >>> SampleLoss(predict, "huber").couples_outputs
        False
        >>> SampleLoss(predict, distance).couples_outputs
        True
        """
        return not is_own(self.sample_loss)

    def __repr__(self) -> str:
        """Return the constructor call."""
        return f"SampleLoss({shorten(self.predict_fn)}, {shorten(self.sample_loss)})"

    def __call__(self, state: Any) -> jax.Array:
        """
        Return the weighted mean of the losses.

        Parameters
        ----------
        state : pytree
            What ``predict_fn`` takes.

        Returns
        -------
        jax.Array
            A scalar.

        Raises
        ------
        ModelError
            If ``predict_fn`` returns something else than two or three items, or if
            their shapes disagree.
        """
        y_true, y_pred, weight = self._items(state)
        return jnp.sum(self._shares(y_true, y_pred, weight))

    def predict(self, state: Any) -> jax.Array:
        """
        Return the predictions.

        It calls ``predict_fn``, and checks the shapes of what that returns. Responses
        and weights, if there are any, are left out.

        Parameters
        ----------
        state : pytree
            What ``predict_fn`` takes.

        Returns
        -------
        jax.Array of shape (n, ...)
            The second item of what ``predict_fn`` returns.

        See Also
        --------
        SampleLoss.losses_at : The losses as a function of what this returns.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax.losses import SampleLoss
        >>> def predict(state):
        ...     return np.zeros(2), state["slope"] * np.array([0.0, 2.0])
        >>> SampleLoss(predict, "squared_error").predict({"slope": 2.0}).tolist()
        [0.0, 4.0]
        """
        return self._items(state)[1]

    def losses_at(self, state: Any) -> Callable[[Any], jax.Array]:
        """
        Return the losses as a function of the predictions alone.

        They add up to what a call of the loss returns: weights, and the division by
        their sum, are in each. Responses and weights are taken from the state once.

        Parameters
        ----------
        state : pytree
            Where to take responses and weights from.

        Returns
        -------
        callable
            From predictions to each sample's share of the whole, of shape (n,).

        See Also
        --------
        SampleLoss.predict : The predictions at a state.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax.losses import SampleLoss
        >>> def predict(state):
        ...     y, weight = np.array([1.0, 3.0]), np.array([3.0, 1.0])
        ...     return y, state["mean"] * np.ones(2), weight
        >>> shares = SampleLoss(predict, "squared_error").losses_at({"mean": 2.0})
        >>> shares(np.array([2.0, 2.0])).tolist()
        [0.375, 0.125]
        """
        y_true, _, weight = self._items(state)
        return lambda y_pred: self._shares(y_true, y_pred, weight)

    def information_at(self, state: Any) -> Callable[[Any], Any]:
        """
        Return each share's expected second derivative as a function of predictions.

        It has the place of the second derivative of what `losses_at` returns. Weights
        are taken from the state once; predictions may then vary.

        Parameters
        ----------
        state : pytree
            Where to take the weights from.

        Returns
        -------
        callable
            It returns an array of the predictions' shape, or ``None`` where the loss
            does not know its expectation.

        See Also
        --------
        Loss.information : The same of one element, without weights.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax.losses import SampleLoss
        >>> def predict(state):
        ...     return np.array([1.0, 3.0]), state["rate"] * np.ones(2)
        >>> information = SampleLoss(predict, "poisson").information_at({"rate": 2.0})
        >>> information(np.array([2.0, 4.0])).tolist()
        [0.25, 0.125]
        """
        y_true, _, weight = self._items(state)
        share = jnp.ones(y_true.shape[:1]) if weight is None else jnp.asarray(weight)

        def information(y_pred: Any) -> Any:
            found = information_of(self.sample_loss, y_pred)
            if found is None:
                return None
            shares = number_like(share / jnp.sum(share), found)
            return found * shares.reshape(-1, *[1] * (y_true.ndim - 1))

        return information

    def others(self, state: Any) -> None:
        """
        Return what there is besides the losses: nothing.

        Levenberg-Marquardt asks each objective for what does not depend on predictions.
        A `SampleLoss` has neither penalties nor priors.

        Parameters
        ----------
        state : pytree
            Not looked at.

        Returns
        -------
        None
            Always.

        See Also
        --------
        skoptax.OptaxEstimator : Has an objective with penalties and priors.

        Examples
        --------
        >>> from skoptax.losses import SampleLoss
        >>> def predict(state):
        ...     return state["y"], state["slope"] * state["x"]
        >>> SampleLoss(predict, "squared_error").others({}) is None
        True
        """
        del state

    def _items(self, state: Any) -> tuple[jax.Array, jax.Array, Any]:
        items = self.predict_fn(state)
        if not isinstance(items, (tuple, list)) or len(items) not in (2, 3):
            raise ModelError(
                "The predict_fn of SampleLoss must return (y_true, y_pred) or "
                f"(y_true, y_pred, sample_weight). It returned {shorten(items)}."
            )
        y_true, y_pred = jnp.asarray(items[0]), jnp.asarray(items[1])
        # Broadcasting (n,) with (n, 1) would silently compare every pair of samples.
        if y_true.shape != y_pred.shape:
            raise ModelError(
                "The predict_fn of SampleLoss must return y_true and y_pred of the "
                f"same shape. It returned {y_true.shape} and {y_pred.shape}."
            )
        return y_true, y_pred, items[2] if len(items) == 3 else None

    def _shares(self, y_true: Any, y_pred: Any, weight: Any) -> jax.Array:
        losses = per_sample(self.sample_loss(y_true, y_pred))
        if losses.shape != y_true.shape[:1]:
            raise ModelError(
                f"The sample_loss of SampleLoss must return {y_true.shape[0]} losses, "
                f"one per sample. It returned {losses.shape[0]}."
            )
        if weight is None:
            return losses / losses.shape[0]
        weight = jnp.asarray(weight)
        if weight.shape != losses.shape:
            raise ModelError(
                "The sample_weight that predict_fn returns must have the shape "
                f"{losses.shape}. It has {weight.shape}."
            )
        weight = number_like(weight, losses)
        return weight * losses / jnp.sum(weight)
