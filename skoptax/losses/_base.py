"""The base of the losses, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import jax
from jax.typing import ArrayLike

from .._component import (
    Component,
    as_floats,
)

LossFunction: TypeAlias = Callable[[jax.Array, jax.Array], ArrayLike]


class Loss(Component):
    """
    Base of the losses: an elementwise function of truth and prediction.

    A subclass of your own defines ``__call__`` and, if not every response is in its
    domain, :meth:`check_y`.

    Attributes
    ----------
    name : str
        The name under which ``loss=`` takes it, and by which errors call it.
    has_curvature : bool
        Whether the second derivative by ``y_pred`` says something about the loss.
        Where it is 0 almost everywhere (absolute error, pinball), a covariance
        from the Hessian has no meaning.

    See Also
    --------
    SampleLoss : A loss of the whole state, made of one of these.
    resolve_loss : What ``loss=`` may be besides an object of this class.

    Examples
    --------
    >>> from skoptax.losses import Loss
    >>> class Quartic(Loss):
    ...     name = "quartic"
    ...     def __call__(self, y_true, y_pred):
    ...         return (y_pred - y_true) ** 4
    >>> Quartic()(1.0, 3.0)
    16.0
    """

    name: ClassVar[str] = "custom"
    has_curvature: ClassVar[bool] = True
    #: Where predictions must lie, and how a model gets there: for errors about losses
    #: that are infinite, which says that they do not.
    _domain: ClassVar[str] = ""

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
        """
        Return the loss of each element.

        Parameters
        ----------
        y_true : array
            The observed response, of any shape.
        y_pred : array
            The prediction, of a shape that broadcasts with ``y_true``.

        Returns
        -------
        jax.Array
            The losses, in the shape to which both broadcast and their common
            floating dtype.
        """
        return self._elementwise(*as_floats(y_true, y_pred))

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        """Return the losses, given arrays of one floating dtype."""
        raise NotImplementedError(f"{type(self).__name__} defines no __call__.")

    def information(self, y_pred: jax.Array) -> jax.Array | None:
        """
        Return Fisher's information: the second derivative's mean over the response.

        Standard errors and Levenberg-Marquardt take it in place of the second
        derivative, as generalised linear models do: it is never negative, and depends
        on the prediction alone.

        Parameters
        ----------
        y_pred : array
            The predictions, of any shape.

        Returns
        -------
        array or None
            Of the shape of ``y_pred``; ``None`` where the second derivative itself is
            to be used.

        See Also
        --------
        SampleLoss.information_at : The same for a weighted mean.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.losses import Poisson
        >>> Poisson().information(jnp.array([1.0, 2.0])).tolist()
        [1.0, 0.5]
        """
        del y_pred
        return None

    def check_y(self, y: ArrayLike) -> None:
        """
        Check that the response is in the domain of the loss.

        The fit calls it before anything is compiled. A loss that admits every finite
        response has nothing to check.

        Parameters
        ----------
        y : array
            The observed response, finite and of any shape. All of it is admitted
            here; some subclasses are stricter.

        Raises
        ------
        ValueError
            If some values are outside the domain.

        See Also
        --------
        Loss.validate : Checks the hyperparameters.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax.losses import Poisson
        >>> Poisson().check_y(np.array([0.0, 3.0]))
        """
        del y


def outside_domain(loss: Loss, which: str, domain: str) -> ValueError:
    """Build the error for a response that is outside a loss's domain."""
    return ValueError(
        f"Some values of y are {which}, which loss={loss.name!r} does not admit: y "
        f"must be {domain}. Correct or remove those samples, or choose another loss, "
        "such as 'squared_error'."
    )
