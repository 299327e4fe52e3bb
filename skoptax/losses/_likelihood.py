"""Losses of counts, positive amounts and probabilities: half deviances."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._base import Loss, outside_domain


def _log_ratio(y_pred: jax.Array, y_true: jax.Array) -> jax.Array:
    """
    Return log(y_pred / y_true), accurate where the two nearly agree.

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


OF_A_MEAN = (
    "the prediction is the mean, which must be positive and finite: for some row it is "
    "not. Choose a start where it is, or let the model end in jnp.exp."
)


class Poisson(Loss):
    r"""
    Half the Poisson deviance: counts and rates, the mean.

    .. math:: y \log(y / \hat y) - y + \hat y

    The first term is 0 where y is 0. ``y_pred`` is the mean itself, in (0, inf), not
    its logarithm: let the model end in ``jnp.exp``, or bound its parameters. A
    negative mean has an infinite loss.

    See Also
    --------
    Gamma : For positive amounts, of variance proportional to the squared mean.
    sklearn.linear_model.PoissonRegressor :
        The linear model with it and a logarithmic link.

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
    _domain = OF_A_MEAN

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        # An overflown mean counts as outside: inf - inf would follow.
        outside = (y_pred < 0.0) | jnp.isposinf(y_pred)
        mean = jnp.where(outside, 1.0, y_pred)
        counted = y_true > 0.0
        log_ratio = _log_ratio(
            jnp.where(counted, mean, 1.0), jnp.where(counted, y_true, 1.0)
        )
        return jnp.where(outside, jnp.inf, (mean - y_true) - y_true * log_ratio)

    def information(self, y_pred: jax.Array) -> jax.Array:
        """
        Return Fisher's information, one over the mean.

        Parameters
        ----------
        y_pred : array
            The predictions.

        Returns
        -------
        array
            Of the shape of ``y_pred``; 0 outside the domain.
        """
        variance = jnp.asarray(y_pred)
        inside = variance > 0.0
        return jnp.where(inside, 1.0 / jnp.where(inside, variance, 1.0), 0.0)

    def check_y(self, y: ArrayLike) -> None:
        """
        Check that the response is not negative.

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
            raise outside_domain(self, "negative", "counts or rates of at least 0")


class Gamma(Loss):
    r"""
    Half the gamma deviance: positive responses of constant relative error.

    .. math:: \log(\hat y / y) + y / \hat y - 1

    ``y_pred`` is the mean itself, in (0, inf), not its logarithm: let the model end
    in ``jnp.exp``, or bound its parameters. A mean of 0 or below has an infinite
    loss. The loss is not convex beyond ``y_pred = 2 * y``.

    See Also
    --------
    Poisson : Of variance equal to the mean, for counts.
    sklearn.linear_model.GammaRegressor :
        The linear model with it and a logarithmic link.

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
    _domain = OF_A_MEAN

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        # An overflown mean counts as outside: inf / inf would follow.
        outside = (y_pred <= 0.0) | jnp.isposinf(y_pred)
        mean = jnp.where(outside, 1.0, y_pred)
        loss = _log_ratio(mean, y_true) + (y_true - mean) / mean
        return jnp.where(outside, jnp.inf, loss)

    def information(self, y_pred: jax.Array) -> jax.Array:
        """
        Return Fisher's information, one over the squared mean.

        Parameters
        ----------
        y_pred : array
            The predictions.

        Returns
        -------
        array
            Of the shape of ``y_pred``; 0 outside the domain.
        """
        variance = jnp.where(y_pred > 0.0, y_pred, 0.0) ** 2
        inside = variance > 0.0
        return jnp.where(inside, 1.0 / jnp.where(inside, variance, 1.0), 0.0)

    def check_y(self, y: ArrayLike) -> None:
        """
        Check that the response is positive.

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
            raise outside_domain(self, "0 or negative", "above 0")


class LogLoss(Loss):
    r"""
    Log loss (binary cross-entropy): two classes, or proportions.

    .. math:: -y \log \hat y - (1 - y) \log(1 - \hat y)

    ``y`` is 0 or 1, or a proportion between them. ``y_pred`` is a probability, in
    [0, 1], not a logit: let the model end in ``jax.nn.sigmoid``. A term whose factor
    ``y`` or ``1 - y`` is 0 counts nothing. A probability outside [0, 1], or one that
    has saturated on the wrong side (in float32 the sigmoid of 17 is 1), has an
    infinite loss.

    See Also
    --------
    Poisson : For counts without an upper end.
    sklearn.linear_model.LogisticRegression :
        The linear model of it, with a logistic link.

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
    _domain = (
        "the prediction is a probability, which must be in (0, 1): for some row it is "
        "not. Let the model end in jax.nn.sigmoid, or choose a start where it is."
    )

    def _elementwise(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        outside = (y_pred < 0.0) | (y_pred > 1.0)
        p = jnp.where(outside, 0.5, y_pred)
        # log(0) must not meet a factor of 0, in the value or in the derivatives.
        positive = y_true * jnp.log(jnp.where(y_true > 0.0, p, 1.0))
        negative = (1.0 - y_true) * jnp.log1p(-jnp.where(y_true < 1.0, p, 0.0))
        return jnp.where(outside, jnp.inf, -positive - negative)

    def information(self, y_pred: jax.Array) -> jax.Array:
        """
        Return Fisher's information, one over p (1 - p).

        Parameters
        ----------
        y_pred : array
            The predictions.

        Returns
        -------
        array
            Of the shape of ``y_pred``; 0 outside the domain.
        """
        variance = y_pred * (1.0 - y_pred)
        inside = variance > 0.0
        return jnp.where(inside, 1.0 / jnp.where(inside, variance, 1.0), 0.0)

    def check_y(self, y: ArrayLike) -> None:
        """
        Check that the response is in [0, 1].

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
            raise outside_domain(self, "below 0 or above 1", domain)


# Each is infinite beyond an edge, and a difference of logarithms, which are rounded.
HALF_DEVIANCES = (Poisson, Gamma, LogLoss)
