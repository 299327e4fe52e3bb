"""`curve_fit`: SciPy's call, with an estimator as its result."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import Bounds
from sklearn.utils.validation import check_is_fitted

from ._data_checks import refuse_strings
from ._estimator import OptaxEstimator
from ._optimizer import precision
from ._parameter import Parameter
from ._scipy_call import (
    INSTEAD,
    OWNER,
    as_array,
    finite_or_none,
    one_of,
    parameter_names,
    read_bounds,
    start_values,
    weights_of,
)
from ._typing import ArrayLike
from ._validation import invalid
from .exceptions import ConvergenceWarning, InvalidParameterError, UncachedWarning
from .losses import Cauchy, Huber, LogCosh, SquaredError, resolve_loss

# Close to 0 they are half of the squared residual: no log-likelihoods but for a scale.
_OF_RESIDUALS = (SquaredError, Huber, LogCosh, Cauchy)


class CurveFit(OptaxEstimator):
    """
    What `curve_fit` returns: a fitted estimator that unpacks as ``popt, pcov``.

    Attributes
    ----------
    pcov : ndarray of shape (p, p)
        The covariance of `popt`; infinite where the data do not determine it.

    See Also
    --------
    skoptax.curve_fit : Makes it.
    skoptax.OptaxEstimator : What else it can do.

    Examples
    --------
    >>> import numpy as np
    >>> from skoptax import curve_fit
    >>> x = np.array([0.0, 1.0, 2.0, 3.0])
    >>> fitted = curve_fit(lambda x, slope: slope * x, x, 2.0 * x)
    >>> fitted.params_
    {'slope': 2.0}
    """

    _pcov: np.ndarray

    @property
    def pcov(self) -> np.ndarray:
        """The covariance of `popt`: what `curve_fit` has found."""
        check_is_fitted(self)
        if "_pcov" not in self.__dict__:
            raise AttributeError(
                "pcov is there after a call of curve_fit only, not after fit, which "
                "knows nothing of sigma. Take covariance_, or call curve_fit again."
            )
        return self._pcov

    @property
    def popt(self) -> np.ndarray:
        """The fitted parameters in the order of the function's arguments."""
        check_is_fitted(self)
        return np.array([self.params_[name] for name in self.params_], float)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """
        Fit anew, to other data: then there is no `pcov`.

        Parameters
        ----------
        X : array-like of shape (n, k)
            As for :class:`skoptax.OptaxEstimator`.
        y : array-like of shape (n,)
            Responses.
        sample_weight : array-like of shape (n,), default=None
            Weights.
        X_val, y_val, sample_weight_val : array-like, default=None
            Held-out rows.

        Returns
        -------
        CurveFit
            This estimator.
        """
        super().fit(
            X,
            y,
            sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
        )
        self.__dict__.pop("_pcov", None)
        return self

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield `popt` and `pcov`."""
        return iter((self.popt, self.pcov))

    def __getitem__(self, index: int) -> np.ndarray:
        """Return `popt` for 0 and `pcov` for 1, as of SciPy's pair."""
        return (self.popt, self.pcov)[index]


@dataclass(frozen=True)
class _Curve:
    """A function of x and positional parameters as a model of the matrix."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    is_flat: bool  # x is one-dimensional

    @property
    def __signature__(self) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature(
            [inspect.Parameter(name, kind) for name in (self._first, *self.names)]
        )

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """What to show of it: the function as the user wrote it."""
        return self.function

    @property
    def _first(self) -> str:
        """What the first argument is called: the only column, or the matrix."""
        return "_x" if self.is_flat else "X"

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Call the function as SciPy does."""
        names = (self._first, *self.names)
        x, *others = values + tuple(named[name] for name in names[len(values) :])
        return self.function(x if self.is_flat else x.T, *others)


def curve_fit(
    f: Callable[..., Any],
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    bounds: tuple[ArrayLike, ArrayLike] | Bounds = (-np.inf, np.inf),
    *,
    xdata: ArrayLike | None = None,
    ydata: ArrayLike | None = None,
    **settings: Any,
) -> CurveFit:
    r"""
    Fit a function to data, called as `scipy.optimize.curve_fit` is.

    For code that calls SciPy's function: what differs is that ``f`` is written in JAX,
    and that derivatives are exact. The result is an estimator too, with its tables,
    intervals and pictures.

    Parameters
    ----------
    f : callable
        ``f(x, a, b, ...) -> array``, in JAX: `jax.numpy` in place of `numpy`.
    x : array-like of shape (n,) or (k, n), default=None
        What ``f`` gets as its first argument, as it is. ``None`` if it comes as
        ``xdata``.
    y : array-like of shape (n,) or (n, m), default=None
        Responses. ``None`` if they come as ``ydata``.
    p0 : array-like of shape (p,), default=None
        Start values. ``None`` is the middle between two finite bounds, 1 away from a
        single one, else 1, for each argument of ``f`` after the first.
    sigma : float or array-like of shape (n,), default=None
        Standard deviations of the responses, positive and in their units; each row
        gets the weight ``1 / sigma**2``.
    absolute_sigma : bool, default=False
        Whether ``sigma`` is known, and not only up to a common factor. If not, the
        covariance is scaled by the reduced chi-square of the residuals.
    bounds : 2-tuple of array-like or scipy.optimize.Bounds, default=(-inf, inf)
        Lower and upper bounds, each a number or of shape (p,).
    xdata, ydata : array-like, default=None
        SciPy's names of ``x`` and ``y``.
    **settings : dict
        Other arguments of :class:`skoptax.OptaxEstimator`, such as ``loss``,
        ``optimizer``, ``n_starts`` or ``random_state``.

    Returns
    -------
    CurveFit
        A fitted :class:`skoptax.OptaxEstimator` that can be unpacked and indexed as
        SciPy's pair: ``popt, pcov = curve_fit(f, x, y)``. It predicts from an array
        of shape (n, k), as estimators do.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable.
    TypeError
        If there is no such argument; what SciPy calls otherwise is named. If data are
        lacking, or there by both names.
    ModelError
        If ``f`` cannot be traced or returns another shape than ``y`` has.
    NonFiniteError
        If the objective is not finite at the start values.

    See Also
    --------
    skoptax.OptaxEstimator : The same fit as an estimator.

    Notes
    -----
    The covariance is that of SciPy:

    .. math:: (J^T W J)^{-1}\, s^2, \qquad
        s^2 = \frac{\sum_i w_i (y_i - f_i)^2}{n - p}

    with :math:`s^2 = 1` for ``absolute_sigma``. For a robust loss
    (:class:`~skoptax.losses.Huber`, :class:`~skoptax.losses.LogCosh`,
    :class:`~skoptax.losses.Cauchy`) the inverse of the curvature of the summed losses
    takes the place of the first factor, and twice their sum that of the squares: SciPy
    does the same. Outliers count in that sum; ``stderr_`` of the result has the
    standard errors of an M-estimator, for which they do not. For any other loss it is
    the inverse of the curvature alone, which is right where losses are negative
    log-likelihoods.

    References
    ----------
    .. [1] G. A. F. Seber and C. J. Wild, *Nonlinear Regression*, 1989, section 2.1.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from skoptax import curve_fit
    >>> def decay(t, amplitude, rate):
    ...     return amplitude * jnp.exp(-rate * t)
    >>> t = np.linspace(0.0, 3.0, 20)
    >>> y = 2.5 * np.exp(-1.3 * t) + 0.01 * np.cos(9.0 * t)
    >>> popt, pcov = curve_fit(decay, t, y, p0=[1.0, 0.5])
    >>> print(popt.round(2), np.sqrt(np.diag(pcov)).round(3))
    [2.5 1.3] [0.006 0.005]
    """
    x, y = one_of("x", x, "xdata", xdata), one_of("y", y, "ydata", ydata)
    inputs = as_array("x", x, "an array of shape (n,) or (k, n)")
    refuse_strings(inputs, "x")
    responses = as_array("y", y, "an array of shape (n,) or (n, m)")
    if not isinstance(absolute_sigma, (bool, np.bool_)):
        raise invalid("absolute_sigma", OWNER, "a bool", absolute_sigma)
    if inputs.ndim not in (1, 2):
        raise invalid("x", OWNER, "an array of shape (n,) or (k, n)", x)
    matrix = inputs[:, None] if inputs.ndim == 1 else inputs.T
    names = parameter_names(f, p0)
    if inputs.ndim == 2 and "X" in names:
        raise InvalidParameterError(
            "With x of shape (k, n), the parameters of f must not be called 'X', which "
            "is what estimators call the inputs. Rename it."
        )
    lower, upper = read_bounds(bounds, len(names))
    start = start_values(p0, lower, upper, len(names))
    for name in settings:
        if name not in CurveFit._get_param_names():
            hint = INSTEAD.get(name, "its arguments are those of OptaxEstimator")
            raise TypeError(f"{OWNER}() has no argument {name!r}: {hint}.")
    taken = sorted({"model", "params", "inputs"} & set(settings))
    if taken:
        raise InvalidParameterError(
            f"{OWNER} makes {taken[0]!r} of f, x and p0 itself. Use OptaxEstimator to "
            "choose it."
        )
    spec = {
        name: Parameter(
            value=value, lower=finite_or_none(low), upper=finite_or_none(high)
        )
        for name, value, low, high in zip(names, start, lower, upper, strict=True)
    }
    if absolute_sigma:
        loss = resolve_loss(settings.get("loss", "squared_error"), OWNER)
        # Of other losses, `pcov` takes no scale anyway.
        settings["absolute_sigma"] = type(loss) is SquaredError
    estimator = CurveFit(_Curve(f, names, inputs.ndim == 1), spec, **settings)
    weights = weights_of(sigma, len(matrix))
    estimator.fit(matrix, responses, weights)
    estimator._pcov = _covariance(
        estimator, spec, matrix, responses, weights, bool(absolute_sigma)
    )
    return estimator


def _covariance(
    estimator: CurveFit,
    spec: dict[str, Parameter],
    X: np.ndarray,
    y: Any,
    weights: np.ndarray | None,
    absolute_sigma: bool,
) -> np.ndarray:
    p = len(spec)
    loss = resolve_loss(estimator.loss, OWNER)
    if not getattr(loss, "has_curvature", True):
        return np.full((p, p), np.inf)
    root = _curvature_root(estimator, spec, X, y, weights)
    with np.errstate(over="ignore", invalid="ignore"):
        return _inverse(estimator, loss, root, X, y, weights, absolute_sigma)


def _inverse(
    estimator: CurveFit,
    loss: Any,
    root: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    absolute_sigma: bool,
) -> np.ndarray:
    n, p, eps = y.size, root.shape[1], np.finfo(root.dtype).eps
    root = root.astype(float)
    total = float(len(y) if weights is None else np.sum(weights))
    norms = np.linalg.norm(root, axis=0)
    if np.any(norms == 0) or not np.all(np.isfinite(root)):
        return np.full((p, p), np.inf)
    _, sizes, rows = np.linalg.svd(root / norms)
    if sizes[-1] <= max(n, p) * eps * sizes[0]:
        return np.full((p, p), np.inf)
    half = rows.T / sizes / norms[:, None]
    covariance = half @ half.T / total
    if type(loss) in _OF_RESIDUALS and not absolute_sigma:
        losses = total * estimator.loss_
        if estimator.penalty is not None:  # which is a part of the objective
            predictions = estimator.predict(X).reshape(y.shape)
            with precision(True):
                each = np.asarray(loss(y.astype(float), predictions.astype(float)))
            of_rows = each.reshape(len(y), -1).sum(axis=1)
            losses = np.sum(of_rows * (1 if weights is None else weights))
        covariance = covariance * (2 * losses / (n - p) if n > p else np.inf)
    return np.asarray(covariance)


def _curvature_root(
    estimator: CurveFit,
    spec: dict[str, Parameter],
    X: np.ndarray,
    y: Any,
    weights: np.ndarray | None,
) -> np.ndarray:
    """Return a root of the mean objective's curvature, in the order of ``popt``."""
    found = estimator._linearised
    if found is None or estimator.selected_step_ != estimator.n_iter_:
        # Another optimiser has none: linearise where it has ended.
        ended = {
            name: parameter.with_fields(value=estimator.params_[name])
            for name, parameter in spec.items()
        }
        there = OptaxEstimator(**estimator.get_params(deep=False)).set_params(
            params=ended,
            optimizer="lm",
            optimizer_kwargs=None,
            learning_rate=None,
            max_steps=0,
            max_epochs=None,
            tol=None,
            batch_size=None,
            early_stopping=False,
            n_iter_no_change=None,
            n_starts=1,
            callbacks=None,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # The fit itself has said so.
            warnings.simplefilter("ignore", UncachedWarning)
            found = there.fit(X, y, weights)._linearised
    assert found is not None
    names, root = found
    return np.stack([root[:, names.index(name)] for name in spec], axis=1)
