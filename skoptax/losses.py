"""Losses: what a fit minimises, sample by sample.

Each is a negative log-likelihood up to constants, as in scikit-learn's half losses,
of the response ``y_true`` given a prediction ``y_pred`` on the response's own scale
(a mean, a median, a probability: not a link's linear predictor). A function
``(y_true, y_pred) -> per-sample loss`` in JAX will do as well.

A prediction outside a loss's domain (a negative mean of counts) has an infinite
loss, never a clipped one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._component import (
    Component,
    absolute,
    as_floats,
    number_like,
    resolve_component,
)
from ._validation import check_choice, check_real, invalid, shorten
from .exceptions import ModelError

__all__ = [
    "LOSSES",
    "AbsoluteError",
    "Cauchy",
    "Gamma",
    "Huber",
    "LogCosh",
    "LogLoss",
    "Loss",
    "Poisson",
    "Quantile",
    "SampleLoss",
    "SquaredError",
    "per_sample",
    "resolve_loss",
]

LossFunction = Callable[[Any, Any], Any]


class Loss(Component):
    """Base of the losses: an elementwise function of truth and prediction.

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

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
        """Return the loss of each element.

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

    def check_y(self, y: ArrayLike) -> None:
        """Check that the response is in the domain of the loss.

        Parameters
        ----------
        y : array
            The observed response, finite and of any shape. All of it is admitted
            here; some subclasses are stricter.

        Raises
        ------
        ValueError
            If some values are outside the domain.
        """
        del y


def _outside(loss: Loss, which: str, domain: str) -> ValueError:
    """Build the error for a response that is outside a loss's domain."""
    return ValueError(
        f"Some values of y are {which}, which loss={loss.name!r} does not admit: y "
        f"must be {domain}. Correct or remove those samples, or choose another loss, "
        "such as 'squared_error'."
    )


def _log_ratio(y_pred: jax.Array, y_true: jax.Array) -> jax.Array:
    """Return log(y_pred / y_true), accurate where the two nearly agree.

    There log1p of the relative difference keeps the digits that rounding a quotient
    or two logarithms loses, which for large counts in float32 are those of the whole
    loss. Elsewhere the quotient itself might overflow.
    """
    relative = (y_pred - y_true) / y_true
    near = jnp.abs(relative) < 0.5
    # Both branches get arguments that they admit: a NaN in the branch not taken
    # would reach the gradient.
    close = jnp.log1p(jnp.where(near, relative, 0.0))
    apart = jnp.log(jnp.where(near, 1.0, y_pred)) - jnp.log(y_true)
    return jnp.where(near, close, apart)


class SquaredError(Loss):
    r"""Half the squared error: normal errors, the mean.

    .. math:: \tfrac12 (\hat y - y)^2

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder (1989). Generalized Linear Models, second
       edition. Chapman and Hall.

    Examples
    --------
    >>> from skoptax.losses import SquaredError
    >>> float(SquaredError()(1.0, 4.0))
    4.5
    """

    name = "squared_error"

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return 0.5 * (y_pred - y_true) ** 2


class AbsoluteError(Loss):
    r"""Absolute error: Laplace errors, the median.

    .. math:: |\hat y - y|

    Its derivative at 0 is taken as 0.

    See Also
    --------
    Quantile : Half of it at ``quantile=0.5``.

    References
    ----------
    .. [1] P. Bloomfield and W. L. Steiger (1983). Least Absolute Deviations: Theory,
       Applications, and Algorithms. Birkhäuser.

    Examples
    --------
    >>> from skoptax.losses import AbsoluteError
    >>> float(AbsoluteError()(1.0, 4.0))
    3.0
    """

    name = "absolute_error"
    has_curvature = False

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return absolute(y_pred - y_true)


class Huber(Loss):
    r"""Huber's loss: quadratic for small residuals, linear for large ones.

    .. math::

        \begin{cases}
        \tfrac12 r^2 & |r| \le \delta \\
        \delta (|r| - \tfrac12 \delta) & |r| > \delta
        \end{cases}
        \qquad r = \hat y - y

    Its second derivative is 1 up to ``delta`` and 0 beyond.

    Parameters
    ----------
    delta : float, default=1.35
        Where the loss turns linear, in (0, inf), **in units of y**. The default has
        95 % of the efficiency of least squares on normal errors of standard
        deviation 1; for errors of another size, multiply it by theirs. Unlike
        :class:`sklearn.linear_model.HuberRegressor`, no scale is estimated.

    References
    ----------
    .. [1] P. J. Huber (1964). Robust estimation of a location parameter. Annals of
       Mathematical Statistics, 35(1), 73-101.

    Examples
    --------
    >>> from skoptax.losses import Huber
    >>> loss = Huber(delta=1.0)
    >>> float(loss(0.0, 0.5)), float(loss(0.0, 10.0))
    (0.125, 9.5)
    """

    name = "huber"

    def __init__(self, delta: float = 1.35):
        self.delta = delta

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        residual = y_pred - y_true
        delta = number_like(self.delta, residual)
        # One smooth expression of the clipped residual: no branch to overflow, and
        # both derivatives are exact at 0, where those of |r| would be lost.
        clipped = jnp.clip(residual, -delta, delta)
        return clipped * (residual - 0.5 * clipped)

    def validate(self) -> None:
        """Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``delta`` is not a finite number above 0.
        """
        check_real("delta", type(self).__name__, self.delta, 0.0, above=True)


class LogCosh(Loss):
    r"""Logarithm of the hyperbolic cosine: a smooth relative of Huber's loss.

    .. math:: \log \cosh (\hat y - y)

    It is half the square for residuals well below 1 **in units of y** and the
    absolute value less log 2 well above.

    References
    ----------
    .. [1] P. J. Green (1990). Bayesian reconstructions from emission tomography data
       using a modified EM algorithm. IEEE Transactions on Medical Imaging, 9(1),
       84-93.

    Examples
    --------
    >>> from skoptax.losses import LogCosh
    >>> round(float(LogCosh()(0.0, 1.0)), 4)
    0.4338
    """

    name = "log_cosh"

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        residual = y_pred - y_true
        small = jnp.abs(residual) < 1.0
        # cosh(r) - 1 = 2 sinh(r/2)^2 has no cancellation at 0, and exp(-2|r|) no
        # overflow far out; each branch sees only arguments that it suits.
        half = 0.5 * jnp.where(small, residual, 0.0)
        size = jnp.abs(jnp.where(small, 1.0, residual))
        inner = jnp.log1p(2.0 * jnp.sinh(half) ** 2)
        outer = size + jnp.log1p(jnp.exp(-2.0 * size)) - np.log(2.0).item()
        return jnp.where(small, inner, outer)


class Cauchy(Loss):
    r"""Cauchy's loss: outliers lose their influence altogether.

    .. math:: \tfrac12 s^2 \log\!\left(1 + (r / s)^2\right) \qquad r = \hat y - y

    It is :math:`s^2 / 2` times the negative log-likelihood of Cauchy errors of scale
    :math:`s`, so that its second derivative at 0 is 1, as that of
    :class:`SquaredError`. It is not convex: the second derivative is negative beyond
    ``scale``, and the start values matter.

    Parameters
    ----------
    scale : float, default=1.0
        The size of residual, in (0, inf) and **in units of y**, from which on the
        influence falls.

    References
    ----------
    .. [1] P. W. Holland and R. E. Welsch (1977). Robust regression using iteratively
       reweighted least-squares. Communications in Statistics - Theory and Methods,
       6(9), 813-827.

    Examples
    --------
    >>> from skoptax.losses import Cauchy
    >>> round(float(Cauchy(scale=2.0)(0.0, 2.0)), 4)
    1.3863
    """

    name = "cauchy"

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        residual = y_pred - y_true
        scale = number_like(self.scale, residual)
        z = residual / scale
        small = jnp.abs(z) < 1.0
        inner = jnp.log1p(jnp.where(small, z, 0.0) ** 2)
        # The same with z^2 taken out of the logarithm, where it could overflow.
        size = jnp.abs(jnp.where(small, 1.0, z))
        outer = 2.0 * jnp.log(size) + jnp.log1p((1.0 / size) ** 2)
        return 0.5 * scale**2 * jnp.where(small, inner, outer)

    def validate(self) -> None:
        """Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``scale`` is not a finite number above 0.
        """
        check_real("scale", type(self).__name__, self.scale, 0.0, above=True)


class Poisson(Loss):
    r"""Half the Poisson deviance: counts and rates, the mean.

    .. math:: y \log(y / \hat y) - y + \hat y

    The first term is 0 where y is 0. ``y_pred`` is the mean itself, in (0, inf), not
    its logarithm: let the model end in ``jnp.exp``, or bound its parameters. A
    negative mean has an infinite loss.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder (1989). Generalized Linear Models, second
       edition. Chapman and Hall.

    Examples
    --------
    >>> from skoptax.losses import Poisson
    >>> loss = Poisson()
    >>> float(loss(0.0, 3.0)), float(loss(3.0, 3.0))
    (3.0, 0.0)
    """

    name = "poisson"

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        # An overflown mean counts as outside: inf - inf would follow.
        outside = (y_pred < 0.0) | jnp.isposinf(y_pred)
        mean = jnp.where(outside, 1.0, y_pred)
        counted = y_true > 0.0
        log_ratio = _log_ratio(
            jnp.where(counted, mean, 1.0), jnp.where(counted, y_true, 1.0)
        )
        return jnp.where(outside, jnp.inf, (mean - y_true) - y_true * log_ratio)

    def check_y(self, y: ArrayLike) -> None:
        """Check that the response is not negative.

        Parameters
        ----------
        y : array
            The observed response, finite and of any shape.

        Raises
        ------
        ValueError
            If some values are negative.
        """
        if np.any(np.asarray(y) < 0):
            raise _outside(self, "negative", "counts or rates of at least 0")


class Gamma(Loss):
    r"""Half the gamma deviance: positive responses of constant relative error.

    .. math:: \log(\hat y / y) + y / \hat y - 1

    ``y_pred`` is the mean itself, in (0, inf), not its logarithm: let the model end
    in ``jnp.exp``, or bound its parameters. A mean of 0 or below has an infinite
    loss. The loss is not convex beyond ``y_pred = 2 * y``.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder (1989). Generalized Linear Models, second
       edition. Chapman and Hall.

    Examples
    --------
    >>> from skoptax.losses import Gamma
    >>> round(float(Gamma()(2.0, 1.0)), 4)
    0.3069
    """

    name = "gamma"

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        # An overflown mean counts as outside: inf / inf would follow.
        outside = (y_pred <= 0.0) | jnp.isposinf(y_pred)
        mean = jnp.where(outside, 1.0, y_pred)
        loss = _log_ratio(mean, y_true) + (y_true - mean) / mean
        return jnp.where(outside, jnp.inf, loss)

    def check_y(self, y: ArrayLike) -> None:
        """Check that the response is positive.

        Parameters
        ----------
        y : array
            The observed response, finite and of any shape.

        Raises
        ------
        ValueError
            If some values are 0 or negative.
        """
        if np.any(np.asarray(y) <= 0):
            raise _outside(self, "0 or negative", "above 0")


class Quantile(Loss):
    r"""Pinball loss: a quantile of the response.

    .. math:: \max\bigl(q (y - \hat y),\; (q - 1) (y - \hat y)\bigr)

    Its derivative at 0 is taken as the mean of those on both sides.

    Parameters
    ----------
    quantile : float, default=0.5
        The quantile that is predicted, in (0, 1). 0.5 is the median.

    References
    ----------
    .. [1] R. Koenker and G. Bassett (1978). Regression quantiles. Econometrica,
       46(1), 33-50.

    Examples
    --------
    >>> from skoptax.losses import Quantile
    >>> loss = Quantile(quantile=0.75)
    >>> float(loss(4.0, 0.0)), float(loss(0.0, 4.0))
    (3.0, 1.0)
    """

    name = "quantile"
    has_curvature = False

    def __init__(self, quantile: float = 0.5):
        self.quantile = quantile

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        below = y_true - y_pred
        quantile = number_like(self.quantile, below)
        return jnp.maximum(quantile * below, (quantile - 1.0) * below)

    def validate(self) -> None:
        """Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``quantile`` is not in (0, 1).
        """
        name, owner = "quantile", type(self).__name__
        check_real(name, owner, self.quantile, 0.0, above=True, maximum=1.0, below=True)


class LogLoss(Loss):
    r"""Log loss (binary cross-entropy): two classes, or proportions.

    .. math:: -y \log \hat y - (1 - y) \log(1 - \hat y)

    ``y`` is 0 or 1, or a proportion between them. ``y_pred`` is a probability, in
    [0, 1], not a logit: let the model end in ``jax.nn.sigmoid``. A term whose factor
    ``y`` or ``1 - y`` is 0 counts nothing. A probability outside [0, 1], or one that
    has saturated on the wrong side (in float32 the sigmoid of 17 is 1), has an
    infinite loss.

    References
    ----------
    .. [1] D. R. Cox (1958). The regression analysis of binary sequences. Journal of
       the Royal Statistical Society B, 20(2), 215-242.

    Examples
    --------
    >>> from skoptax.losses import LogLoss
    >>> round(float(LogLoss()(1.0, 0.5)), 4)
    0.6931
    """

    name = "log_loss"

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        outside = (y_pred < 0.0) | (y_pred > 1.0)
        p = jnp.where(outside, 0.5, y_pred)
        # log(0) must not meet a factor of 0, in the value or in the derivatives.
        positive = y_true * jnp.log(jnp.where(y_true > 0.0, p, 1.0))
        negative = (1.0 - y_true) * jnp.log1p(-jnp.where(y_true < 1.0, p, 0.0))
        return jnp.where(outside, jnp.inf, -positive - negative)

    def check_y(self, y: ArrayLike) -> None:
        """Check that the response is in [0, 1].

        Parameters
        ----------
        y : array
            The observed response, finite and of any shape.

        Raises
        ------
        ValueError
            If some values are below 0 or above 1.
        """
        values = np.asarray(y)
        if np.any(values < 0) or np.any(values > 1):
            domain = "in [0, 1], such as two classes encoded as 0 and 1"
            raise _outside(self, "below 0 or above 1", domain)


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


def resolve_loss(
    loss: str | Loss | LossFunction, owner: str = "OptaxEstimator", name: str = "loss"
) -> Loss | LossFunction:
    """Return the loss that an argument stands for.

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

    Examples
    --------
    >>> from skoptax.losses import resolve_loss
    >>> resolve_loss("huber")
    Huber()
    """
    if isinstance(loss, str):
        return LOSSES[check_choice(name, owner, loss, LOSSES)]()
    must = (
        f"one of {', '.join(map(repr, LOSSES))}, an object of skoptax.losses such as "
        "Huber(delta=1.35), or a function (y_true, y_pred) -> per-sample loss"
    )
    return resolve_component(loss, Loss, name, owner, must)


def per_sample(values: ArrayLike) -> jax.Array:
    """Sum elementwise losses over all axes but the first.

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


class SampleLoss:
    r"""A scalar loss that keeps its predictions visible to the optimiser.

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

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skoptax.losses import SampleLoss
    >>> def predict(state):
    ...     return state["y"], state["slope"] * state["x"]
    >>> loss = SampleLoss(predict, "squared_error")
    >>> float(loss({"slope": 2.0, "x": jnp.array([0.0, 2.0]), "y": jnp.zeros(2)}))
    4.0
    """

    def __init__(
        self, predict_fn: Callable[[Any], Any], sample_loss: str | Loss | LossFunction
    ):
        if not callable(predict_fn):
            must = "a function state -> (y_true, y_pred)"
            raise invalid("predict_fn", "SampleLoss", must, predict_fn)
        self.predict_fn = predict_fn
        self.sample_loss = resolve_loss(sample_loss, "SampleLoss", "sample_loss")

    def __repr__(self) -> str:
        """Return the constructor call."""
        return f"SampleLoss({shorten(self.predict_fn)}, {shorten(self.sample_loss)})"

    def __call__(self, state: Any) -> jax.Array:
        """Return the weighted mean of the losses.

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
        losses = per_sample(self.sample_loss(y_true, y_pred))
        if losses.shape != y_true.shape[:1]:
            raise ModelError(
                f"The sample_loss of SampleLoss must return {y_true.shape[0]} losses, "
                f"one per sample. It returned {losses.shape[0]}."
            )
        if len(items) == 2 or items[2] is None:
            return jnp.mean(losses)
        weight = jnp.asarray(items[2])
        if weight.shape != losses.shape:
            raise ModelError(
                "The sample_weight that predict_fn returns must have the shape "
                f"{losses.shape}. It has {weight.shape}."
            )
        weight = number_like(weight, losses)
        return jnp.sum(weight * losses) / jnp.sum(weight)
