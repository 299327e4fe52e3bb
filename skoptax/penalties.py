"""Penalties on the parameters of a model.

A penalty is added to the mean loss, so that its ``alpha`` means what it means in
scikit-learn's :class:`~sklearn.linear_model.ElasticNet` and
:class:`~sklearn.linear_model.PoissonRegressor`. It sees the parameters in the
user's own units. A function ``params -> scalar`` in JAX will do as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._component import (
    Component,
    absolute,
    as_floats,
    number_like,
    resolve_component,
)
from ._validation import check_real, did_you_mean, invalid

__all__ = ["L1", "L2", "ElasticNet", "Penalty", "resolve_penalty"]

# Of the parameters; the second of what a penalty may be.
PenaltyFunction: TypeAlias = Callable[[Any], ArrayLike]


class Penalty(Component):
    """
    Base of the penalties: a sum over the entries of the selected parameters.

    A subclass of your own defines ``__call__``.

    Attributes
    ----------
    params : sequence of str or None
        The top-level names that are penalised; ``None`` is all of them.
    is_smooth : bool
        Whether it has two derivatives everywhere.

    See Also
    --------
    skoptax.priors.Prior : The Bayesian's way to say it, per parameter.

    Examples
    --------
    >>> from skoptax.penalties import Penalty
    >>> class Difference(Penalty):
    ...     def __call__(self, params):
    ...         return (params["left"] - params["right"]) ** 2
    >>> Difference()({"left": 4.0, "right": 1.0})
    9.0
    """

    params: Sequence[str] | None = None
    is_smooth: ClassVar[bool] = False

    def __call__(self, params: Any) -> jax.Array:
        """
        Return the penalty of these parameters.

        Parameters
        ----------
        params : dict or pytree of arrays
            The parameters, in the user's own units. It must be a dict if the
            penalty selects parameters by name.

        Returns
        -------
        jax.Array
            A scalar.

        Raises
        ------
        InvalidParameterError
            If a selected name is not in ``params``.
        """
        if self.params is not None:
            self.check_names(params)
            params = [params[name] for name in self.params]
        leaves = [as_floats(leaf)[0] for leaf in jax.tree.leaves(params)]
        # The start is a Python number, so that the result has the leaves' dtype.
        return jnp.asarray(sum(map(self._array_penalty, leaves), start=0.0))

    def _array_penalty(self, value: jax.Array) -> jax.Array:
        """Return the penalty of one parameter, an array of a floating dtype."""
        raise NotImplementedError(f"{type(self).__name__} defines no __call__.")

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``params`` is neither ``None`` nor a non-empty list or tuple of names.
        """
        names = self.params
        if names is None:
            return
        listed = isinstance(names, (list, tuple)) and len(names) > 0
        if not listed or not all(isinstance(name, str) for name in names):
            remedy = f"Write ({names!r},)." if isinstance(names, str) else ""
            must = "None or a non-empty list or tuple of parameter names"
            raise invalid("params", type(self).__name__, must, names, remedy)

    def check_names(self, names: Iterable[str]) -> None:
        """
        Check that the selected parameters exist.

        A misspelt name would else penalise nothing. A penalty of all parameters, whose
        ``params`` is ``None``, has no names to check.

        Parameters
        ----------
        names : iterable of str
            The top-level names of the model's parameters.

        Raises
        ------
        InvalidParameterError
            If a selected name is none of them.

        See Also
        --------
        Penalty.validate : Checks the hyperparameters, without a model.

        Examples
        --------
        >>> from skoptax.penalties import L2
        >>> L2(params=("slope",)).check_names(["slope", "offset"])
        """
        known = list(names)
        for name in self.params or ():
            if name not in known:
                raise invalid(
                    "params",
                    type(self).__name__,
                    f"names among {', '.join(repr(k) for k in known)}",
                    name,
                    did_you_mean(name, known),
                )


class L1(Penalty):
    r"""
    Absolute values of the parameters (the lasso penalty).

    .. math:: \alpha \sum_j |p_j|

    Its derivative at 0 is taken as 0. It has a kink there, so that a gradient method
    brings parameters close to 0 but seldom exactly to it.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength, in [0, inf), in units of the loss per unit of the parameters.
    params : sequence of str or None, default=None
        The top-level names that are penalised; ``None`` is all of them.

    See Also
    --------
    skoptax.priors.Laplace : The prior with this negative log density.

    References
    ----------
    .. [1] R. Tibshirani (1996). Regression shrinkage and selection via the lasso.
       Journal of the Royal Statistical Society B, 58(1), 267-288.

    Examples
    --------
    >>> from skoptax.penalties import L1
    >>> float(L1(alpha=0.5)({"slope": -3.0, "offset": 1.0}))
    2.0
    >>> float(L1(alpha=0.5, params=("slope",))({"slope": -3.0, "offset": 1.0}))
    1.5
    """

    def __init__(self, alpha: float = 1.0, params: Sequence[str] | None = None):
        self.alpha = alpha
        self.params = params

    def _array_penalty(self, value: jax.Array) -> jax.Array:
        return number_like(self.alpha, value) * jnp.sum(absolute(value))

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``alpha`` is negative or ``params`` is not a sequence of names.
        """
        super().validate()
        check_real("alpha", type(self).__name__, self.alpha, 0.0)


class L2(Penalty):
    r"""
    Half the squares of the parameters (the ridge penalty).

    .. math:: \frac{\alpha}{2} \sum_j p_j^2

    Parameters
    ----------
    alpha : float, default=1.0
        Strength, in [0, inf), in units of the loss per squared unit of the
        parameters.
    params : sequence of str or None, default=None
        The top-level names that are penalised; ``None`` is all of them.

    See Also
    --------
    skoptax.priors.Normal : The prior with this negative log density.

    Notes
    -----
    As the loss is a mean over the samples, ``alpha`` is that of scikit-learn's
    generalised linear models; :class:`sklearn.linear_model.Ridge`, which sums over
    the ``n`` samples, calls ``n * alpha`` by that name.

    References
    ----------
    .. [1] A. E. Hoerl and R. W. Kennard (1970). Ridge regression: biased estimation
       for nonorthogonal problems. Technometrics, 12(1), 55-67.

    Examples
    --------
    >>> from skoptax.penalties import L2
    >>> float(L2(alpha=0.5)({"slope": -3.0, "offset": 1.0}))
    2.5
    """

    is_smooth = True

    def __init__(self, alpha: float = 1.0, params: Sequence[str] | None = None):
        self.alpha = alpha
        self.params = params

    def _array_penalty(self, value: jax.Array) -> jax.Array:
        return 0.5 * number_like(self.alpha, value) * jnp.sum(value**2)

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``alpha`` is negative or ``params`` is not a sequence of names.
        """
        super().validate()
        check_real("alpha", type(self).__name__, self.alpha, 0.0)


class ElasticNet(Penalty):
    r"""
    A mixture of :class:`L1` and :class:`L2`, as scikit-learn writes it.

    .. math:: \alpha \rho \sum_j |p_j| + \frac{\alpha (1 - \rho)}{2} \sum_j p_j^2

    where :math:`\rho` is ``l1_ratio``.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength, in [0, inf), in units of the loss.
    l1_ratio : float, default=0.5
        Weight of the absolute values, in [0, 1]: 0 is :class:`L2`, 1 is :class:`L1`.
    params : sequence of str or None, default=None
        The top-level names that are penalised; ``None`` is all of them.

    See Also
    --------
    sklearn.linear_model.ElasticNet : The linear model with this penalty.

    References
    ----------
    .. [1] H. Zou and T. Hastie (2005). Regularization and variable selection via the
       elastic net. Journal of the Royal Statistical Society B, 67(2), 301-320.

    Examples
    --------
    >>> from skoptax.penalties import ElasticNet
    >>> float(ElasticNet(alpha=1.0, l1_ratio=0.5)({"slope": -2.0}))
    2.0
    """

    def __init__(
        self,
        alpha: float = 1.0,
        l1_ratio: float = 0.5,
        params: Sequence[str] | None = None,
    ):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.params = params

    def _array_penalty(self, value: jax.Array) -> jax.Array:
        alpha = number_like(self.alpha, value)
        ratio = number_like(self.l1_ratio, value)
        absolutes, squares = jnp.sum(absolute(value)), jnp.sum(value**2)
        return alpha * (ratio * absolutes + 0.5 * (1.0 - ratio) * squares)

    def validate(self) -> None:
        """
        Check the hyperparameters.

        Raises
        ------
        InvalidParameterError
            If ``alpha`` is negative, ``l1_ratio`` is not in [0, 1] or ``params`` is
            not a sequence of names.
        """
        super().validate()
        check_real("alpha", type(self).__name__, self.alpha, 0.0)
        check_real("l1_ratio", type(self).__name__, self.l1_ratio, 0.0, maximum=1.0)


def resolve_penalty(
    penalty: Penalty | PenaltyFunction | None, owner: str = "OptaxEstimator"
) -> Penalty | PenaltyFunction | None:
    """
    Return the penalty that an argument stands for.

    For classes that take a ``penalty`` as estimators do. A function is taken on trust:
    that it returns a scalar is checked when it is traced.

    Parameters
    ----------
    penalty : Penalty, callable or None
        A penalty, a function ``params -> scalar`` in JAX, or nothing.
    owner : str, default="OptaxEstimator"
        The class that takes the argument, for the error.

    Returns
    -------
    Penalty, callable or None
        ``penalty`` itself; a :class:`Penalty` has been validated.

    Raises
    ------
    InvalidParameterError
        If it is a class or something else, or if a hyperparameter is not valid.

    See Also
    --------
    skoptax.losses.resolve_loss : The same for losses.
    skoptax.priors.resolve_prior : The same for priors.

    Examples
    --------
    >>> from skoptax.penalties import L2, resolve_penalty
    >>> resolve_penalty(L2(alpha=0.1))
    L2(alpha=0.1)
    """
    if penalty is None:
        return None
    must = (
        "None, an object of skoptax.penalties such as L2(alpha=1.0), or a function of "
        "the parameters"
    )
    return resolve_component(penalty, Penalty, "penalty", owner, must)
