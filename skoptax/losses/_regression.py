"""Losses of a measured response: squares, and what outliers move less."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._component import absolute, as_floats, number_like
from .._validation import check_real
from ._base import Loss


class SquaredError(Loss):
    r"""
    Half the squared error: normal errors, the mean.

    .. math:: \tfrac12 (\hat y - y)^2

    See Also
    --------
    Huber : The same for small residuals, less moved by outliers.

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
        return 0.5 * squares(y_true, y_pred)


def squares(y_true: ArrayLike, y_pred: ArrayLike) -> jax.Array:
    """Return the squared errors, twice the loss."""
    truth, prediction = as_floats(y_true, y_pred)
    return (prediction - truth) ** 2


class AbsoluteError(Loss):
    r"""
    Absolute error: Laplace errors, the median.

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
    r"""
    Huber's loss: quadratic for small residuals, linear for large ones.

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

    See Also
    --------
    LogCosh : Like it, with all derivatives.
    Cauchy : Outliers lose their influence.

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
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``delta`` is not a finite number above 0.
        """
        check_real("delta", type(self).__name__, self.delta, 0.0, above=True)


class LogCosh(Loss):
    r"""
    Logarithm of the hyperbolic cosine: a smooth relative of Huber's loss.

    .. math:: \log \cosh (\hat y - y)

    It is half the square for residuals well below 1 **in units of y** and the
    absolute value less log 2 well above.

    See Also
    --------
    Huber : Like it, with a choice of where the linear part begins.

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
        # Some versions of XLA round sinh(-x) in another way than sinh(x): the product
        # of both, in place of a square, is the same whichever way the residual points.
        inner = jnp.log1p(-2.0 * jnp.sinh(half) * jnp.sinh(-half))
        outer = size + jnp.log1p(jnp.exp(-2.0 * size)) - np.log(2.0).item()
        return jnp.where(small, inner, outer)


class Cauchy(Loss):
    r"""
    Cauchy's loss: outliers lose their influence altogether.

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

    See Also
    --------
    Huber : Convex: outliers keep a constant influence.

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
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``scale`` is not a finite number above 0.
        """
        check_real("scale", type(self).__name__, self.scale, 0.0, above=True)


class Quantile(Loss):
    r"""
    Pinball loss: a quantile of the response.

    .. math:: \max\bigl(q (y - \hat y),\; (q - 1) (y - \hat y)\bigr)

    Its derivative at 0 is taken as the mean of those on both sides.

    Parameters
    ----------
    quantile : float, default=0.5
        The quantile that is predicted, in (0, 1). 0.5 is the median.

    See Also
    --------
    AbsoluteError : Twice it at ``quantile=0.5``: the median.
    sklearn.linear_model.QuantileRegressor : The linear model with this loss.

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
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``quantile`` is not in (0, 1).
        """
        name, owner = "quantile", type(self).__name__
        check_real(name, owner, self.quantile, 0.0, above=True, maximum=1.0, below=True)
