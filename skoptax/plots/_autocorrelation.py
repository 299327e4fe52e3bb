"""The autocorrelation of residuals, some of whose rows may be left out."""

from __future__ import annotations

import numpy as np


def autocorrelation(
    residuals: np.ndarray, lags: int, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""
    Return the correlation of residuals with those before.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        In their order.
    lags : int
        How far, at most n - 1.
    rows : ndarray of shape (n,), default=None
        The row of each, ascending. ``None``: one after the other.

    Returns
    -------
    correlation : ndarray of shape (lags,)
        At the lags 1, 2, ... rows; NaN where all residuals are the same, or no two are
        so many rows apart.
    counts : ndarray of shape (lags,)
        From how many residuals it is known: n where none is left out.

    Notes
    -----
    Of N rows, those left out have a residual of 0 after centring, so that they add
    nothing to a sum. With :math:`m_k` pairs k rows apart, and
    :math:`n_k = m_k N / (N - k)`,

    .. math:: r_k = \frac{n}{n_k} \frac{\sum_{i > k} e_i e_{i-k}}{\sum_i e_i^2},

    which is the usual form where no row is left out.
    """
    values = np.asarray(residuals, dtype=float)
    n = len(values)
    rows = np.arange(n) if rows is None else np.asarray(rows) - rows[0]
    size = int(rows[-1]) + 1
    centred, counted = np.zeros(size), np.zeros(size)
    centred[rows] = values - values.mean()
    counted[rows] = 1.0
    total = float(centred @ centred)
    steps = np.arange(1, lags + 1)
    products = np.array([centred[k:] @ centred[:-k] for k in steps])
    pairs = np.array([counted[k:] @ counted[:-k] for k in steps])
    counts = pairs * size / (size - steps)
    if not total > 0:
        return np.full(lags, np.nan), counts
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, n / counts * products / total, np.nan), counts
