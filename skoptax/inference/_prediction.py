r"""How uncertain predictions are: that of the mean, and of a response about it.

A mean's standard error is :math:`\sqrt{g^T C g}` with its gradient :math:`g` by the
parameters, of covariance :math:`C`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from .._prediction import predict_with_spread
from .._typing import PyTree
from ..losses import Gamma, LogLoss, Poisson, SquaredError
from ..losses._resolve import is_own
from ._covariance import Covariance
from ._record import FitRecord
from ._statistics import quantile

# A mean whose error adds no more than this share to the variance of counts is known.
_KNOWN = 1e-6


class Spread(NamedTuple):
    """Predictions with their errors; arrays of one shape."""

    mean: np.ndarray
    stderr: np.ndarray  # of the mean
    noise: np.ndarray  # the standard deviation of a response about its mean


def directions_of(record: FitRecord, covariance: Covariance) -> PyTree:
    """
    Return independent errors of the parameters, of one standard deviation each.

    Parameters
    ----------
    record : FitRecord
        Of a fit.
    covariance : Covariance
        Of its parameters.

    Returns
    -------
    pytree of ndarray
        In the structure of the parameters, with an axis in front that counts the
        errors. 0 for what is fixed or held; a single error of NaN if an
        entry has no finite covariance.
    """
    table = covariance.table
    places = table.varying
    matrix = covariance.matrix
    if covariance.reason:
        # Nothing is known of any, and a matrix of very many would take memory.
        places, matrix = places[:0], np.full((0, 0), np.nan)
    matrix = matrix.copy()
    held = covariance.held[places]
    matrix[held] = matrix[:, held] = 0.0
    size = np.sqrt(np.abs(np.diagonal(matrix)))
    unit = np.where(size > 0, size, 1)
    if np.isfinite(matrix).all() and not covariance.reason:
        values, vectors = np.linalg.eigh(matrix / unit / unit[:, None])
        kept = values > len(values) * np.finfo(float).eps * np.max(values, initial=0.0)
        errors = (vectors[:, kept] * np.sqrt(values[kept]) * unit[:, None]).T
        rows = np.zeros((len(errors), len(table.names)))
        rows[:, places] = errors
    else:
        rows = np.full((1, len(table.names)), np.nan)
    leaves, treedef = jax.tree.flatten(record.params)
    found = []
    for i, value in enumerate(leaves):
        # An entry's position in its leaf is its order in the table.
        part = rows[:, table.leaves == i]
        found.append(part.reshape(len(rows), *np.shape(value)))
    return jax.tree.unflatten(treedef, found)


def spread_of(
    record: FitRecord,
    covariance: Covariance,
    call: Any,
    X: np.ndarray,
    dtype: Any,
    row_independent: Any,
    weights: np.ndarray | None = None,
) -> Spread:
    """
    Return predictions with their errors.

    Parameters
    ----------
    record : FitRecord
        Of a fit.
    covariance : Covariance
        Of its parameters.
    call : ModelCall
        The bound model.
    X : ndarray of shape (n, d)
        Checked inputs.
    dtype : dtype
        Of the fit.
    row_independent : {"auto", True, False}
        Whether the model treats each row by itself.
    weights : ndarray of shape (n,), optional
        Precisions of the new responses, relative as those of the fit were.

    Returns
    -------
    Spread
        Each of the predictions' shape.
    """

    def cast(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: np.asarray(x, dtype), tree)

    mean, squared = predict_with_spread(
        call,
        cast(record.params),
        X,
        row_independent,
        cast(directions_of(record, covariance)),
    )
    noise = np.sqrt(_noise_variance(record, covariance, mean))
    if weights is not None:
        shape = (-1, *[1] * (mean.ndim - 1))
        noise = noise / np.sqrt(weights).reshape(shape)
    return Spread(mean, np.sqrt(squared), noise.astype(mean.dtype))


def _noise_variance(
    record: FitRecord, covariance: Covariance, mean: np.ndarray
) -> np.ndarray:
    loss = record.loss
    if is_own(loss):
        if type(loss) is SquaredError:
            return np.full(mean.shape, covariance.dispersion)
        if type(loss) is Poisson:
            return mean
        if type(loss) is LogLoss:
            return mean * (1 - mean)
        if type(loss) is Gamma:
            return covariance.dispersion * mean**2
    left = record.n - covariance.rank
    return np.full(mean.shape, record.sums.squares / left if left > 0 else math.nan)


def confidence_band(
    record: FitRecord, covariance: Covariance, spread: Spread, level: float
) -> np.ndarray:
    """
    Return intervals for the mean response.

    Parameters
    ----------
    record : FitRecord
        Of a fit.
    covariance : Covariance
        Of its parameters.
    spread : Spread
        Predictions.
    level : float
        Their probability, in (0, 1).

    Returns
    -------
    ndarray of shape (n, 2) or (n, n_outputs, 2)
        Symmetric about the mean; for Poisson and gamma responses about its logarithm,
        for log loss about its logit, so that the ends are means, too.
    """
    mean, stderr = spread.mean, spread.stderr
    reach = quantile(level, covariance.dof) * stderr
    loss = record.loss
    ends = [mean - reach, mean + reach]
    if is_own(loss) and type(loss) in (Poisson, Gamma):
        share = np.exp(reach / np.where(mean > 0, mean, 1))
        ends = [mean / share, mean * share]
    elif is_own(loss) and type(loss) is LogLoss:
        inside = (mean > 0) & (mean < 1)
        share = np.exp(reach / np.where(inside, mean * (1 - mean), 1))
        ends = [mean / (mean + (1 - mean) * share), mean / (mean + (1 - mean) / share)]
    return np.stack(ends, axis=-1)


def prediction_band(
    record: FitRecord, covariance: Covariance, spread: Spread, level: float
) -> np.ndarray:
    """
    Return intervals for single responses.

    Parameters
    ----------
    record : FitRecord
        Of a fit.
    covariance : Covariance
        Of its parameters.
    spread : Spread
        Predictions.
    level : float
        Their probability, in (0, 1).

    Returns
    -------
    ndarray of shape (n, 2) or (n, n_outputs, 2)
        Quantiles of the response's distribution with the mean's error in it: normal
        or t; for counts negative binomial and for gamma responses gamma, of the same
        mean and variance; for classes 0 or 1. Counts and classes leave tails smaller
        than asked for: of these an end is left out that the level does not need.
    """
    mean, stderr, noise = spread
    loss = record.loss
    known = is_own(loss)
    if known and type(loss) is Poisson:
        return _of_counts(mean, stderr, level)
    low, high = 0.5 * (1 - level), 0.5 * (1 + level)
    if known and type(loss) in (Gamma, LogLoss):
        # A large import, which least squares can do without.
        from scipy import stats

        with np.errstate(all="ignore"):
            if type(loss) is Gamma:
                variance = noise**2 + stderr**2
                law = stats.gamma(mean**2 / variance, scale=variance / mean)
                ends = np.stack([law.ppf(low), law.ppf(high)], axis=-1)
            else:
                ends = _without_a_spare_end(stats.bernoulli(mean), level)
        missing = np.isnan(stderr)[..., None]
        return np.where(missing, np.nan, ends).astype(mean.dtype)
    reach = quantile(level, covariance.dof) * np.sqrt(stderr**2 + noise**2)
    return np.stack([mean - reach, mean + reach], axis=-1)


def _of_counts(mean: np.ndarray, stderr: np.ndarray, level: float) -> np.ndarray:
    """Return intervals for counts, in double precision whatever the fit's."""
    from scipy import stats

    kind = mean.dtype
    mean, stderr = mean.astype(float), stderr.astype(float)
    with np.errstate(all="ignore"):
        shape = (mean / stderr) ** 2
        # For a shape far above the mean the other law is rounded away.
        spreads = mean > _KNOWN * shape
        shape = np.where(spreads, shape, 1.0)
        wide = stats.nbinom(shape, shape / (shape + mean))
        ends = np.where(
            spreads[..., None],
            _without_a_spare_end(wide, level),
            _without_a_spare_end(stats.poisson(mean), level),
        )
    ends = np.where(np.isnan(stderr)[..., None], np.nan, ends)
    found = ends.astype(kind)
    # Not every count above 2**24 is a number of single precision: without these the
    # interval would have less than its level.
    lower, upper = found[..., 0], found[..., 1]
    lower = np.where(lower > ends[..., 0], np.nextafter(lower, kind.type(0)), lower)
    beyond = np.nextafter(upper, kind.type(np.inf))
    upper = np.where(upper < ends[..., 1], beyond, upper)
    return np.stack([lower, upper], axis=-1)


def _without_a_spare_end(law: Any, level: float) -> np.ndarray:
    """
    Return an interval of counts, shorter by one if what is left still has the level.

    Between quantiles is at least the level, and for few counts much more. Without both
    ends there is always less. Where either may go, the less probable one does.
    """
    low, high = law.ppf(0.5 * (1 - level)), law.ppf(0.5 * (1 + level))
    spare = (1 - level) - (law.cdf(low - 1) + law.sf(high))
    first, last = law.pmf(low), law.pmf(high)
    several = high > low
    shorter = several & (np.minimum(first, last) <= spare)
    from_below = shorter & (first < last)
    from_above = shorter & ~from_below
    return np.stack([low + from_below, high - from_above], axis=-1)
