"""Losses by name, and their sum over the outputs of a sample."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._component import resolve_component
from .._misreadings import did_they_mean_loss
from .._validation import check_choice
from ..exceptions import ModelError
from ._base import Loss, LossFunction
from ._likelihood import Gamma, LogLoss, Poisson
from ._regression import AbsoluteError, Cauchy, Huber, LogCosh, Quantile, SquaredError

#: The losses by the names that ``loss=`` takes.
LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
    "log_cosh": LogCosh,
    "cauchy": Cauchy,
    "poisson": Poisson,
    "gamma": Gamma,
    "quantile": Quantile,
    "log_loss": LogLoss,
}


# As they are now: the registry is open to users.
_OWN = frozenset(LOSSES.values())


def is_own(loss: Any) -> bool:
    """
    Tell whether all that a loss calls is this package's own, element by element.

    Parameters
    ----------
    loss : Loss or callable
        Any.

    Returns
    -------
    bool
        False of subclasses, and where a function was put onto an instance.
    """
    return type(loss) in _OWN and not any(map(callable, vars(loss).values()))


def information_of(loss: Any, y_pred: Any) -> Any:
    """
    Return Fisher's information of a loss, if it has one of its own.

    Parameters
    ----------
    loss : Loss or callable
        Any.
    y_pred : array
        The predictions.

    Returns
    -------
    array or None
        ``None`` also of a subclass that computes another loss and has inherited the
        information.
    """
    # Where each is defined: on the instance, its class, or a base of that.
    places = [getattr(loss, "__dict__", {}), *map(vars, type(loss).__mro__)]

    def depth(name: str) -> int:
        return next((i for i, p in enumerate(places) if name in p), len(places))

    computes = min(depth("__call__"), depth("_elementwise"))
    if not hasattr(loss, "information") or depth("information") > computes:
        return None
    return loss.information(y_pred)


def resolve_loss(
    loss: str | Loss | LossFunction, owner: str = "OptaxEstimator", name: str = "loss"
) -> Loss | LossFunction:
    """
    Return the loss that an argument stands for.

    For classes that take a ``loss`` as estimators do. A function is taken on trust: it
    is traced, and its shape checked, when the optimisation begins.

    Parameters
    ----------
    loss : str, Loss or callable
        A name out of ``LOSSES``, a loss, or a function
        ``(y_true, y_pred) -> per-sample loss`` in JAX.
    owner : str, default="OptaxEstimator"
        The class that takes the argument, for the error.
    name : str, default="loss"
        What that class calls it, for the error.

    Returns
    -------
    Loss or callable
        For a name, a loss with its default hyperparameters; else ``loss`` itself, a
        :class:`Loss` having been validated.

    Raises
    ------
    InvalidParameterError
        If it is an unknown name, a class or something else, or if a hyperparameter
        is not valid.

    See Also
    --------
    skoptax.penalties.resolve_penalty : The same for penalties.
    skoptax.priors.resolve_prior : The same for priors.

    Examples
    --------
    >>> from skoptax.losses import resolve_loss
    >>> resolve_loss("huber")
    Huber()
    """
    if isinstance(loss, str):
        return LOSSES[check_choice(name, owner, loss, LOSSES, did_they_mean_loss)]()
    must = (
        f"one of {', '.join(map(repr, LOSSES))}, an object of skoptax.losses such as "
        "Huber(delta=1.35), or a function (y_true, y_pred) -> per-sample loss"
    )
    return resolve_component(loss, Loss, name, owner, must)


def per_sample(values: ArrayLike) -> jax.Array:
    """
    Sum elementwise losses over all axes but the first.

    What makes one loss per row where a response has several outputs, before weights
    apply. Losses of one axis come back as they are.

    Parameters
    ----------
    values : array of shape (n, ...)
        One loss per element of the response.

    Returns
    -------
    jax.Array of shape (n,)
        One loss per sample.

    Raises
    ------
    ModelError
        If ``values`` is a scalar: a loss that has averaged over the samples itself
        could not be weighted.

    See Also
    --------
    SampleLoss : Weighs these and takes their mean.

    Examples
    --------
    >>> from skoptax.losses import per_sample
    >>> per_sample([[1.0, 2.0], [3.0, 4.0]]).tolist()
    [3.0, 7.0]
    """
    array = jnp.asarray(values)
    if array.ndim == 0:
        raise ModelError(
            "The loss returned a scalar. It must return one value per sample: leave "
            "out the mean or sum over the samples, which is taken afterwards."
        )
    return jnp.sum(array, axis=tuple(range(1, array.ndim)))
