"""Residuals that have one variance where the model is right: plain ones, or Pearson's.

Responses of a count, of a constant relative error or of two classes vary more where
their mean is larger. Pearson's residuals are over the root of the variance function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._data_checks import check_weights
from ..losses import Gamma, LogLoss, Poisson
from ..losses._resolve import is_own

_VARIANCES: dict[type, Callable[[np.ndarray], np.ndarray]] = {
    Poisson: lambda mean: mean,
    Gamma: lambda mean: mean**2,
    LogLoss: lambda mean: mean * (1 - mean),
}


def residuals_of(
    loss: Any, observed: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, str]:
    r"""
    Return the residuals that belong to a loss, and what they are called.

    Parameters
    ----------
    loss : Loss or callable
        Of the fit.
    observed, predicted : ndarray of shape (n,)
        Responses and their predicted means.

    Returns
    -------
    residuals : ndarray of shape (n,)
        :math:`(y - \hat y) / \sqrt{V(\hat y)}` for the package's own Poisson, gamma
        and log loss, with :math:`V(\hat y)` of :math:`\hat y`, :math:`\hat y^2` and
        :math:`\hat y (1 - \hat y)`; else :math:`y - \hat y`. Not finite where the
        prediction is outside of what the loss allows.
    name : str
        Theirs.
    """
    plain = observed - predicted
    variance = _VARIANCES.get(type(loss))
    if variance is None or not is_own(loss):
        return plain, "residual"
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = plain / np.sqrt(variance(predicted))
    # A certain prediction that has come true.
    return np.where(plain == 0, 0.0, scaled), "Pearson residual"


def weighed(
    residuals: np.ndarray, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray, bool]:
    """
    Return residuals times the root of their weights, without those of weight 0.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Of all rows.
    sample_weight : float, array-like of shape (n,) or None
        The weights.

    Returns
    -------
    residuals : ndarray of shape (m,)
        Of the rows that count.
    rows : ndarray of shape (m,)
        Which these are.
    is_weighted : bool
        Whether there are weights.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are 0.
    """
    weights = check_weights(sample_weight, residuals[:, None])
    if weights is None:
        return residuals, np.arange(len(residuals)), False
    rows = np.flatnonzero(weights > 0)
    return (residuals * np.sqrt(weights))[rows], rows, True
