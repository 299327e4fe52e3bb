"""How well a model fits: chi-square, R2, likelihood, information criteria."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, ndtri, stdtr, stdtrit

from ..exceptions import UndeterminedWarning
from ..losses import Gamma, LogLoss, Poisson, SquaredError
from ..losses._resolve import is_own
from ._covariance import Covariance, covariance_of
from ._record import FitRecord

# From here on two terms of Stirling's series have all digits.
_LARGE_SHAPE = 1e5


class FitStatistics(NamedTuple):
    """Numbers about a fit; NaN where they have no meaning."""

    n: int  # responses with a weight
    n_params: int  # determined by them
    chi_square: float  # the weighted sum of squared residuals
    reduced_chi_square: float
    r2: float
    log_likelihood: float
    aic: float
    aicc: float
    bic: float


def statistics_of(record: FitRecord, covariance: Covariance) -> FitStatistics:
    """
    Return the statistics of a fit.

    Parameters
    ----------
    record : FitRecord
        Of the fit.
    covariance : Covariance
        Of its parameters.

    Returns
    -------
    FitStatistics
        Chi-square and R2 for least squares only; the criteria where the loss is a
        likelihood.
    """
    n, k = record.n, covariance.rank
    squares = math.nan
    if is_own(record.loss) and type(record.loss) is SquaredError:
        squares = record.sums.squares
    llf = log_likelihood(record, covariance)
    left = n - k - 1
    aic = 2 * k - 2 * llf
    return FitStatistics(
        n=n,
        n_params=k,
        chi_square=squares,
        reduced_chi_square=squares / (n - k) if n > k else math.nan,
        r2=1 - squares / record.spread if record.spread > 0 else math.nan,
        log_likelihood=llf,
        aic=aic,
        aicc=aic + 2 * k * (k + 1) / left if left > 0 else math.nan,
        bic=k * math.log(n) - 2 * llf if n > 0 else math.nan,
    )


def log_likelihood(record: FitRecord, covariance: Covariance) -> float:
    r"""
    Return the log-likelihood at the fitted values.

    Parameters
    ----------
    record : FitRecord
        Of the fit.
    covariance : Covariance
        Has the dispersion of gamma responses.

    Returns
    -------
    float
        For squared errors that of normal responses with variance
        :math:`\sigma^2 / w_i`, :math:`\sigma^2` being 1 with known variances and else
        the residuals' mean square; for gamma that of shapes :math:`w_i / \varphi` with
        the estimated dispersion; for Poisson and log loss a weight counts rows. NaN for
        other losses.
    """
    loss, sums, n = record.loss, record.sums, record.n
    if not is_own(loss):
        return math.nan
    if type(loss) is SquaredError:
        if record.absolute_sigma or record.has_priors:
            spread = sums.squares + n * math.log(2 * math.pi)
            return -0.5 * (spread - record.log_weights)
        if not sums.squares > 0:
            return math.inf if sums.squares == 0 else math.nan
        variance = sums.squares / n
        each = math.log(2 * math.pi * variance) + 1
        return -0.5 * (n * each - record.log_weights)
    if type(loss) in (Poisson, LogLoss):
        return record.saturated - sums.loss
    if type(loss) is Gamma and covariance.dispersion > 0:
        shapes = record.shapes
        if math.isnan(shapes):
            # Without weights all are the same.
            shapes = n * float(_of_shape(1 / covariance.dispersion))
        return shapes - sums.loss / covariance.dispersion + record.saturated
    return math.nan


def with_shapes(record: FitRecord, weights: np.ndarray | None) -> FitRecord:
    r"""
    Add what a gamma likelihood needs of the weights, while these are at hand.

    Parameters
    ----------
    record : FitRecord
        Of the fit.
    weights : ndarray of shape (n,) or None
        Its weights, relative ones: a response has the variance
        :math:`\varphi f_i^2 / w_i`, and so the shape :math:`w_i / \varphi`.

    Returns
    -------
    FitRecord
        The same one of other losses, and without weights.
    """
    loss = record.loss
    if weights is None or not (is_own(loss) and type(loss) is Gamma):
        return record
    with warnings.catch_warnings():
        # It is told where standard errors are asked for.
        warnings.simplefilter("ignore", UndeterminedWarning)
        dispersion = covariance_of(record).dispersion
    if not dispersion > 0:
        return record
    each = _of_shape(weights[weights > 0].astype(float) / dispersion)
    return replace(record, shapes=float(each.sum()) * record.outputs)


def _of_shape(shape: Any) -> Any:
    """Return the part of a gamma log-likelihood that has only the shape in it."""
    # By Stirling's series for large ones: the terms cancel.
    large = shape > _LARGE_SHAPE
    s = np.where(large, 1.0, shape)
    t = np.where(large, shape, 1.0)
    exact = s * np.log(s) - s - gammaln(s)
    return np.where(large, np.log(t / (2 * np.pi)) / 2 - 1 / (12 * t), exact)


def quantile(level: float, dof: float) -> float:
    """
    Return how many standard errors an interval reaches to each side.

    Parameters
    ----------
    level : float
        Its probability, in (0, 1).
    dof : float
        Degrees of freedom; infinite for the normal distribution.

    Returns
    -------
    float
        NaN without degrees of freedom.
    """
    upper = 0.5 * (1 + level)
    if dof == math.inf:
        return float(ndtri(upper))
    return float(stdtrit(dof, upper)) if dof > 0 else math.nan


def p_values(t: np.ndarray, dof: float) -> np.ndarray:
    """
    Return how probable a statistic at least so far from 0 is.

    Parameters
    ----------
    t : ndarray
        Estimates over their standard errors.
    dof : float
        Degrees of freedom; infinite for the normal distribution.

    Returns
    -------
    ndarray
        Two-sided.
    """
    if dof == math.inf:
        dof = 1e300  # where the two distributions are the same
    return np.asarray(2 * stdtr(dof, -np.abs(t)))
