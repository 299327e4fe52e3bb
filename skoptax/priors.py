r"""Prior densities of parameters.

A prior belongs to one parameter (``Parameter(value=1.0, prior=Normal(1.0, 0.2))``)
and is a density over its value in the user's own units. The fit minimises the
negative log-likelihood minus the log densities, so that it finds the posterior mode.
An array parameter has independent entries with the same prior, or, where the
hyperparameters are arrays that broadcast with it, each with its own. A function
``value -> log density`` in JAX will do as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, gammaln
from jax.typing import ArrayLike

from ._component import (
    Component,
    absolute,
    as_floats,
    is_numeric_array,
    number_like,
    resolve_component,
)
from ._validation import check_real, invalid

__all__ = [
    "Beta",
    "Gamma",
    "HalfNormal",
    "Laplace",
    "LogNormal",
    "Normal",
    "Prior",
    "resolve_prior",
]

# The second of what a prior may be.
LogDensity: TypeAlias = Callable[[jax.Array], ArrayLike]

_LOG_TWO_PI = float(np.log(2.0 * np.pi))
_LOG_TWO = float(np.log(2.0))
_INF = float("inf")


class Prior(Component):
    """
    Base of the priors: a log density of each entry of a parameter.

    A subclass of your own defines :meth:`log_prob` and, where that is not the whole
    line, :meth:`support`. Calling a prior is calling :meth:`log_prob`.

    Attributes
    ----------
    is_smooth : bool
        Whether the log density has two derivatives everywhere in the support.

    See Also
    --------
    skoptax.Parameter : Takes one as its ``prior``.
    skoptax.penalties.Penalty :
        A term of all parameters together, relative to the mean loss.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skoptax.priors import Prior
    >>> class Logistic(Prior):
    ...     def log_prob(self, value):
    ...         return -value - 2.0 * jnp.log1p(jnp.exp(-value))
    >>> round(float(Logistic().log_prob(0.0)), 4)
    -1.3863
    """

    is_smooth: ClassVar[bool] = False
    _support: ClassVar[tuple[float, float]] = (-_INF, _INF)
    #: Any value inside the support, where every derivative is finite.
    _inside: ClassVar[float] = 0.0

    def __call__(self, value: ArrayLike) -> jax.Array:
        """
        Return :meth:`log_prob` of the value.

        Parameters
        ----------
        value : array
            The parameter, of any shape, in the user's own units.

        Returns
        -------
        jax.Array
            The log density of each entry.
        """
        return self.log_prob(value)

    def log_prob(self, value: ArrayLike) -> jax.Array:
        """
        Return the log density of each entry, with all its constants.

        The density is that of the user's units also where the optimiser steps in
        others: no Jacobian of a transform enters, and the fit is at the mode in these
        units. Outside the support the gradient is 0, not NaN.

        Parameters
        ----------
        value : array
            The parameter, of any shape, in the user's own units.

        Returns
        -------
        jax.Array
            The log densities, in the shape to which the value and the
            hyperparameters broadcast and the value's floating dtype; ``-inf``
            outside the support.

        See Also
        --------
        Prior.support : Where the density is not 0.

        Examples
        --------
        >>> from skoptax.priors import Normal
        >>> round(float(Normal(mean=1.0, sd=2.0).log_prob(1.0)), 4)
        -1.6121
        """
        (value,) = as_floats(value)
        low, high = self.support()
        outside = (value < low) | (value > high)
        # The density sees an inner value in place of an outer one: a NaN in the
        # branch not taken would reach the gradient.
        density = self._log_density(jnp.where(outside, self._inside, value))
        return jnp.where(outside, -jnp.inf, density)

    def _log_density(self, value: jax.Array) -> jax.Array:
        """Return the log densities of values in the closed support, floats."""
        raise NotImplementedError(f"{type(self).__name__} defines no log_prob.")

    def support(self) -> tuple[float, float]:
        """
        Return the ends of the interval outside which the density is 0.

        A fit keeps the parameter within it, as within bounds of its own; a start
        outside is an error. A subclass that does not override it has the whole line.

        Returns
        -------
        tuple of (float, float)
            The lower and the upper end, in the units of the parameter.

        See Also
        --------
        Prior.log_prob : The density inside.
        skoptax.Parameter : Has bounds of its own, which narrow it.

        Examples
        --------
        >>> from skoptax.priors import HalfNormal
        >>> HalfNormal().support()
        (0.0, inf)
        """
        return self._support

    def _check(self, *names: str) -> None:
        """Check that these hyperparameters are finite numbers or arrays of them."""
        self._check_above(-_INF, *names)

    def _check_positive(self, *names: str) -> None:
        """Check that these hyperparameters are positive numbers or arrays of them."""
        self._check_above(0.0, *names)

    def _check_above(self, minimum: float, *names: str) -> None:
        owner = type(self).__name__
        for name in names:
            value = getattr(self, name)
            if not is_numeric_array(value):
                if isinstance(value, (list, tuple)):
                    must = "a number or an array"
                    raise invalid(name, owner, must, value, "Wrap it in np.array.")
                check_real(name, owner, value, minimum, above=True)
            elif not np.all(np.isfinite(value) & (np.asarray(value) > minimum)):
                must = f"an array of finite numbers in ({minimum}, inf)"
                raise invalid(name, owner, must, value)


def _times_log(factor: jax.Array, value: jax.Array) -> jax.Array:
    """
    Return ``factor * log(value)``, which is 0 where both are 0.

    ``xlogy`` has that value but a NaN for its derivative by ``value``.
    """
    void = (factor == 0.0) & (value == 0.0)
    return factor * jnp.log(jnp.where(void, 1.0, value))


class Normal(Prior):
    r"""
    Normal prior.

    .. math::

        \log p(x) = -\tfrac12 \left(\frac{x - \mu}{\sigma}\right)^2
        - \log \sigma - \tfrac12 \log 2\pi

    Parameters
    ----------
    mean : float or array that broadcasts with the parameter, default=0.0
        Mean, finite, in the units of the parameter.
    sd : float or array that broadcasts with the parameter, default=1.0
        Standard deviation, in (0, inf), in the units of the parameter.

    See Also
    --------
    skoptax.penalties.L2 : The same about 0, relative to the mean loss.

    References
    ----------
    .. [1] A. Gelman, J. B. Carlin, H. S. Stern, D. B. Dunson, A. Vehtari and
       D. B. Rubin (2013). Bayesian Data Analysis, third edition. Chapman and
       Hall/CRC.

    Examples
    --------
    >>> from skoptax.priors import Normal
    >>> round(float(Normal(mean=1.0, sd=2.0).log_prob(1.0)), 4)
    -1.6121
    """

    is_smooth = True

    def __init__(self, mean: ArrayLike = 0.0, sd: ArrayLike = 1.0):
        self.mean = mean
        self.sd = sd

    def _log_density(self, value: jax.Array) -> jax.Array:
        mean, sd = number_like(self.mean, value), number_like(self.sd, value)
        return -0.5 * ((value - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * _LOG_TWO_PI

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``mean`` is not finite or ``sd`` is not finite and above 0.
        """
        self._check("mean")
        self._check_positive("sd")


class HalfNormal(Prior):
    r"""
    Half-normal prior: the absolute value of a normal one about 0.

    .. math::

        \log p(x) = -\tfrac12 \left(\frac{x}{\sigma}\right)^2
        - \log \sigma + \log 2 - \tfrac12 \log 2\pi, \qquad x \ge 0

    Parameters
    ----------
    sd : float or array that broadcasts with the parameter, default=1.0
        Standard deviation of the normal distribution that is folded, in (0, inf), in
        the units of the parameter.

    See Also
    --------
    Normal : The same of both signs.
    LogNormal : For positive parameters that stay away from 0.

    References
    ----------
    .. [1] A. Gelman (2006). Prior distributions for variance parameters in
       hierarchical models. Bayesian Analysis, 1(3), 515-534.

    Examples
    --------
    >>> from skoptax.priors import HalfNormal
    >>> round(float(HalfNormal(sd=1.0).log_prob(0.0)), 4)
    -0.2258
    >>> float(HalfNormal(sd=1.0).log_prob(-1.0))
    -inf
    """

    is_smooth = True
    _support = (0.0, _INF)
    _inside = 1.0

    def __init__(self, sd: ArrayLike = 1.0):
        self.sd = sd

    def _log_density(self, value: jax.Array) -> jax.Array:
        sd = number_like(self.sd, value)
        return -0.5 * (value / sd) ** 2 - jnp.log(sd) + _LOG_TWO - 0.5 * _LOG_TWO_PI

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``sd`` is not finite and above 0.
        """
        self._check_positive("sd")


class LogNormal(Prior):
    r"""
    Log-normal prior: the logarithm of the parameter is normal.

    .. math::

        \log p(x) = -\tfrac12 \left(\frac{\log x - \mu}{\sigma}\right)^2
        - \log x - \log \sigma - \tfrac12 \log 2\pi, \qquad x > 0

    Its mode is at :math:`\exp(\mu - \sigma^2)`.

    Parameters
    ----------
    mean : float or array that broadcasts with the parameter, default=0.0
        Mean of the natural logarithm of the parameter, finite.
    sd : float or array that broadcasts with the parameter, default=1.0
        Standard deviation of that logarithm, in (0, inf): 0.1 is about 10 % of the
        parameter.

    See Also
    --------
    Normal : For parameters of both signs.
    Gamma : For positive parameters too, with a lighter tail.

    References
    ----------
    .. [1] J. Aitchison and J. A. C. Brown (1957). The Lognormal Distribution.
       Cambridge University Press.

    Examples
    --------
    >>> from skoptax.priors import LogNormal
    >>> round(float(LogNormal(mean=0.0, sd=1.0).log_prob(1.0)), 4)
    -0.9189
    """

    is_smooth = True
    _support = (0.0, _INF)
    _inside = 1.0

    def __init__(self, mean: ArrayLike = 0.0, sd: ArrayLike = 1.0):
        self.mean = mean
        self.sd = sd

    def _log_density(self, value: jax.Array) -> jax.Array:
        mean, sd = number_like(self.mean, value), number_like(self.sd, value)
        # At 0 the terms are inf - inf; the density there is 0.
        zero = value == 0.0
        log = jnp.log(jnp.where(zero, 1.0, value))
        density = -0.5 * ((log - mean) / sd) ** 2 - log - jnp.log(sd)
        return jnp.where(zero, -jnp.inf, density - 0.5 * _LOG_TWO_PI)

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``mean`` is not finite or ``sd`` is not finite and above 0.
        """
        self._check("mean")
        self._check_positive("sd")


class Laplace(Prior):
    r"""
    Laplace prior.

    .. math:: \log p(x) = -\frac{|x - \mu|}{b} - \log 2b

    Its derivative at the mean, where it has a kink, is taken as 0.

    Parameters
    ----------
    mean : float or array that broadcasts with the parameter, default=0.0
        Mean, finite, in the units of the parameter.
    scale : float or array that broadcasts with the parameter, default=1.0
        Mean absolute deviation :math:`b`, in (0, inf), in the units of the parameter.

    See Also
    --------
    skoptax.penalties.L1 : The same about 0, relative to the mean loss.

    References
    ----------
    .. [1] T. Park and G. Casella (2008). The Bayesian lasso. Journal of the American
       Statistical Association, 103(482), 681-686.

    Examples
    --------
    >>> from skoptax.priors import Laplace
    >>> float(Laplace(mean=1.0, scale=0.5).log_prob(2.0))
    -2.0
    """

    def __init__(self, mean: ArrayLike = 0.0, scale: ArrayLike = 1.0):
        self.mean = mean
        self.scale = scale

    def _log_density(self, value: jax.Array) -> jax.Array:
        mean, scale = number_like(self.mean, value), number_like(self.scale, value)
        return -absolute(value - mean) / scale - jnp.log(2.0 * scale)

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``mean`` is not finite or ``scale`` is not finite and above 0.
        """
        self._check("mean")
        self._check_positive("scale")


class Gamma(Prior):
    r"""
    Gamma prior.

    .. math::

        \log p(x) = (a - 1) \log x - b x + a \log b - \log \Gamma(a), \qquad x \ge 0

    with shape :math:`a` and rate :math:`b`: the mean is :math:`a / b`, the mode
    :math:`(a - 1) / b` from :math:`a = 1` on. Below 1 the density is infinite at 0,
    and so has no mode to be found.

    Parameters
    ----------
    shape : float or array that broadcasts with the parameter, default=1.0
        Shape :math:`a`, in (0, inf). 1 is the exponential distribution.
    rate : float or array that broadcasts with the parameter, default=1.0
        Rate :math:`b`, in (0, inf), in units of one over the parameter's.

    See Also
    --------
    LogNormal : For positive parameters too, with a heavier tail.
    HalfNormal : For positive parameters with the mode at 0.
    scipy.stats.gamma : The distribution, with ``scale`` one over the rate.

    References
    ----------
    .. [1] A. Gelman, J. B. Carlin, H. S. Stern, D. B. Dunson, A. Vehtari and
       D. B. Rubin (2013). Bayesian Data Analysis, third edition. Chapman and
       Hall/CRC.

    Examples
    --------
    >>> from skoptax.priors import Gamma
    >>> round(float(Gamma(shape=1.0, rate=1.0).log_prob(3.0)), 4)
    -3.0
    """

    is_smooth = True
    _support = (0.0, _INF)
    _inside = 1.0

    def __init__(self, shape: ArrayLike = 1.0, rate: ArrayLike = 1.0):
        self.shape = shape
        self.rate = rate

    def _log_density(self, value: jax.Array) -> jax.Array:
        shape, rate = number_like(self.shape, value), number_like(self.rate, value)
        constant = shape * jnp.log(rate) - gammaln(shape)
        return _times_log(shape - 1.0, value) - rate * value + constant

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``shape`` or ``rate`` is not finite and above 0.
        """
        self._check_positive("shape", "rate")


class Beta(Prior):
    r"""
    Beta prior: probabilities and fractions.

    .. math::

        \log p(x) = (a - 1) \log x + (b - 1) \log(1 - x) - \log B(a, b),
        \qquad 0 \le x \le 1

    Its mode is at :math:`(a - 1) / (a + b - 2)` where both exceed 1. Below 1 the
    density is infinite at an end.

    Parameters
    ----------
    a : float or array that broadcasts with the parameter, default=1.0
        In (0, inf): the weight of 1, as ``a - 1`` successes have it.
    b : float or array that broadcasts with the parameter, default=1.0
        In (0, inf): the weight of 0, as ``b - 1`` failures have it. With 1 for both
        the prior is uniform.

    See Also
    --------
    Gamma : For positive parameters without an upper end.
    scipy.stats.beta : The distribution, to draw from or to look at.

    References
    ----------
    .. [1] A. Gelman, J. B. Carlin, H. S. Stern, D. B. Dunson, A. Vehtari and
       D. B. Rubin (2013). Bayesian Data Analysis, third edition. Chapman and
       Hall/CRC.

    Examples
    --------
    >>> from skoptax.priors import Beta
    >>> round(float(Beta(a=2.0, b=2.0).log_prob(0.5)), 4)
    0.4055
    """

    is_smooth = True
    _support = (0.0, 1.0)
    _inside = 0.5

    def __init__(self, a: ArrayLike = 1.0, b: ArrayLike = 1.0):
        self.a = a
        self.b = b

    def _log_density(self, value: jax.Array) -> jax.Array:
        a, b = number_like(self.a, value), number_like(self.b, value)
        successes = _times_log(a - 1.0, value)
        failures = _times_log(b - 1.0, 1.0 - value)
        return successes + failures - betaln(a, b)

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``a`` or ``b`` is not finite and above 0.
        """
        self._check_positive("a", "b")


def resolve_prior(
    prior: Prior | LogDensity | None, owner: str = "Parameter"
) -> Prior | LogDensity | None:
    """
    Return the prior that an argument stands for.

    For code that takes a ``prior`` as :class:`skoptax.Parameter` does, which itself
    keeps what it is given until an optimisation begins. A function is taken on trust.

    Parameters
    ----------
    prior : Prior, callable or None
        A prior, a function ``value -> log density`` in JAX, or nothing.
    owner : str, default="Parameter"
        The class that takes the argument, for the error.

    Returns
    -------
    Prior, callable or None
        ``prior`` itself, a :class:`Prior` having been validated. Whatever is not
        ``None`` may be called with a value.

    Raises
    ------
    InvalidParameterError
        If it is a class or something else, or if a hyperparameter is not valid.

    See Also
    --------
    skoptax.penalties.resolve_penalty : The same for penalties.
    skoptax.losses.resolve_loss : The same for losses.

    Examples
    --------
    >>> from skoptax.priors import Normal, resolve_prior
    >>> resolve_prior(Normal(mean=2.0))
    Normal(mean=2.0)
    """
    if prior is None:
        return None
    must = (
        "None, an object of skoptax.priors such as Normal(mean=0.0, sd=1.0), or a "
        "function value -> log density"
    )
    return resolve_component(prior, Prior, "prior", owner, must)
