r"""From derivatives at a solution to matrices of shape (p, p): sums over the rows.

What is kept of a fit has the size of its parameters, not of its data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._information import Derivatives
from ._leverages import Dent, enlarged

# To the power of so much of 1 less a row's leverage, its squared score is divided.
_LEVERAGE_POWERS = {"HC0": 0, "HC1": 0, "HC2": 1, "HC3": 2}
# Of columns of norm 1 with smaller pivots, products have lost too many digits.
_SAFE = 1e-3
# From so many rows on, products are so much faster than a factorisation.
_MANY_ROWS = 4096


class Sums(NamedTuple):
    """Sums over the responses, with the losses' derivatives by the prediction."""

    loss: float  # of weight times loss
    slopes: float  # of weight times the squared first derivative
    scaled: float  # the same, over the second derivative
    bends: float  # of weight times the second derivative
    squares: float  # of weight times squared residual


class Information(NamedTuple):
    """
    An objective's curvature at a point, and what else a covariance is made of.

    The objective is a mean: all matrices are those of sums over the rows, divided by
    the sum of the weights.
    """

    root: np.ndarray  # of shape (p, p): the losses' curvature is root.T @ root, less
    delta: np.ndarray  # of shape (q, p): the slopes of free and tied entries
    sums: Sums  # not divided
    rest: np.ndarray | None = None  # the Hessian of penalties and priors
    scores: np.ndarray | None = None  # a root of the sum of the rows' squared scores
    hessian: np.ndarray | None = None  # of the whole objective
    # dent.T @ dent, of the responses where a loss has a negative second derivative.
    dent: np.ndarray | None = None
    # Of shape (p,): which entries a row of leverage 1 determines, of HC2 and HC3.
    alone: np.ndarray | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all matrices are numbers."""
        matrices = (self.root, self.delta, self.rest, self.scores, self.hessian)
        matrices += (self.dent,)
        return all(np.isfinite(m).all() for m in matrices if m is not None)


def has_leverages(cov_type: str) -> bool:
    """
    Tell whether a covariance takes leverages.

    Parameters
    ----------
    cov_type : str
        Which covariance.

    Returns
    -------
    bool
        Whether it does.
    """
    return _LEVERAGE_POWERS.get(cov_type, 0) > 0


def summed_up(
    found: Derivatives,
    delta: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray | None,
    loss: float,
    cov_type: str,
    total: float,
    kept: np.ndarray | None = None,
) -> Information:
    """
    Sum up rows.

    Parameters
    ----------
    found : Derivatives
        As NumPy arrays. Rows that were added are behind the others.
    delta : ndarray of shape (q, p)
        The slopes of free and tied entries in the user's units.
    y : ndarray of shape (m,) or (m, k)
        The responses.
    weights : ndarray of shape (m,) or None
        Their weights.
    loss : float
        The sum of the weighted losses.
    cov_type : str
        Which covariance is wanted.
    total : float
        The sum of the weights of all rows, of which these may be a part.
    kept : ndarray of int, optional
        Which columns are of entries that follow the responses; default: all. One that
        is fixed, or on its bound, takes part in no leverage.

    Returns
    -------
    Information
        In double precision.
    """
    m, n = len(y), y.size
    columns, bend = _unpadded(found, m, n)
    slope = np.asarray(found.slope, float)[:n]
    rows = _times(_bend_root(bend), columns)
    root = triangle(rows)
    eps = float(np.finfo(np.asarray(found.slope).dtype).eps)
    dent = _dent(columns, bend, eps)
    rest = None if found.rest is None else np.asarray(found.rest, float)
    scores = alone = None
    power = _LEVERAGE_POWERS.get(cov_type)
    if power is not None:
        each = columns * slope
        is_by_row = bend.ndim > 1
        if is_by_row:
            # Of a loss that is more than a sum over its responses, a row has one score.
            each = each.reshape(len(each), m, -1).sum(axis=2)
        if power:
            each, alone = enlarged(
                each,
                root,
                rest,
                rows,
                eps,
                power / 2,
                kept,
                dent,
                is_by_row=is_by_row,
            )
        scores = triangle(each)
    predictions = np.asarray(found.predictions, float)[:m]
    return Information(
        root=root,
        delta=delta,
        sums=_sums(loss, y - predictions, slope, bend, weights, total),
        rest=rest,
        scores=scores,
        hessian=None if found.hessian is None else np.asarray(found.hessian, float),
        dent=None if dent is None else dent.root,
        alone=alone,
    )


def put_together(parts: Sequence[Information]) -> Information:
    """
    Put together what has been summed up of parts of the rows.

    Parameters
    ----------
    parts : sequence of Information
        Of one point. Leverages and the whole Hessian take all rows at once.

    Returns
    -------
    Information
        That of all rows.
    """
    first, *_ = parts
    scores = None
    if first.scores is not None:
        scores = triangle(np.concatenate([p.scores for p in parts]).T)
    dents = [p.dent for p in parts if p.dent is not None]
    return first._replace(
        root=triangle(np.concatenate([p.root for p in parts]).T),
        sums=Sums(*map(math.fsum, zip(*(p.sums for p in parts), strict=True))),
        scores=scores,
        dent=triangle(np.concatenate(dents).T) if dents else None,
    )


def triangle(columns: np.ndarray) -> np.ndarray:
    """
    Return a root of the products of all pairs of columns.

    Parameters
    ----------
    columns : ndarray of shape (p, n)
        In rows.

    Returns
    -------
    ndarray of shape (p, p)
        As of a QR factorisation.
    """
    p, n = columns.shape
    if n >= _MANY_ROWS and np.isfinite(columns).all():
        products = columns @ columns.T
        norms = np.sqrt(np.diagonal(products))
        if (norms > 0).all():
            try:
                factor = np.linalg.cholesky(products / norms / norms[:, None])
            except np.linalg.LinAlgError:
                # Columns that depend on each other.
                factor = np.zeros((p, p))
            if np.diagonal(factor).min() > _SAFE:
                return np.asarray(factor.T * norms)
    found = np.asarray(np.linalg.qr(columns.T, mode="r"))
    # (Nothing to pad takes as long as to factorise a few columns.)
    return found if n >= p else np.pad(found, ((0, p - n), (0, 0)))


def weighted_rows(found: Derivatives, m: int, n: int) -> np.ndarray:
    """
    Return the Jacobian's columns times a root of the losses' curvature.

    Parameters
    ----------
    found : Derivatives
        As NumPy arrays.
    m, n : int
        How many rows and responses there are without those that were added.

    Returns
    -------
    ndarray of shape (p, n)
        Their products are the losses' curvature, without its negative part: it is what
        an optimiser's steps are made of.
    """
    columns, bend = _unpadded(found, m, n)
    return _times(_bend_root(bend), columns)


def _unpadded(found: Derivatives, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Jacobian's columns and the losses' curvature, without added rows."""
    columns, bend = np.asarray(found.columns, float), np.asarray(found.bend, float)
    return columns[:, :n], bend[: n if bend.ndim == 1 else m]


def _bend_root(bend: np.ndarray, least: float = 0.0) -> np.ndarray:
    """
    Return a root of the losses' curvature, without its negative part.

    Of matrices, without what is below `least` of their diagonals either.
    """
    if bend.ndim == 1:
        return np.sqrt(np.maximum(bend, 0))
    size = np.sqrt(np.abs(np.diagonal(bend, axis1=1, axis2=2)))
    size = np.where(size > 0, size, 1)
    values, vectors = np.linalg.eigh(bend / size[:, None] / size[:, :, None])
    sizes = np.sqrt(np.where(values > least, values, 0))[:, :, None]
    return np.asarray(sizes * np.swapaxes(vectors, 1, 2) * size[:, None])


def _dent(columns: np.ndarray, bend: np.ndarray, eps: float) -> Dent | None:
    """
    Return the negative part of the losses' curvature, where they have one.

    A loss that levels off has it far out, and a likelihood where a response is rare.
    There the objective is less curved than the others say: without these responses,
    standard errors would be too small.
    """
    if bend.ndim == 1:
        if not (bend < 0).any():
            return None
        rows = _bend_root(-bend)
    else:
        rows = _bend_root(-bend, 10 * bend.shape[1] * eps)
        if not rows.any():
            return None
    found = _times(rows, columns)
    return Dent(triangle(found), found)


def _times(root: np.ndarray, columns: np.ndarray) -> np.ndarray:
    if root.ndim == 1:
        return root * columns
    by_row = columns.reshape(len(columns), *root.shape[:2])
    return np.einsum("mab,pmb->pma", root, by_row).reshape(columns.shape)


def _sums(
    loss: float,
    residuals: np.ndarray,
    slope: np.ndarray,
    bend: np.ndarray,
    weights: np.ndarray | None,
    total: float,
) -> Sums:
    m, n = len(residuals), residuals.size
    if bend.ndim > 1:
        bend = np.diagonal(bend, axis1=1, axis2=2).ravel()
    squares, errors = slope**2 * total, residuals.ravel() ** 2
    bent, slopes = bend > 0, squares
    if weights is not None:
        each = np.repeat(weights.astype(float), n // m)
        counts = each > 0
        bent &= counts
        slopes, errors = squares / np.where(counts, each, 1), each * errors
    shares = squares / bend if bent.all() else squares[bent] / bend[bent]
    return Sums(
        loss=loss,
        slopes=float(total * slopes.sum()),
        scaled=float(shares.sum()),
        bends=float(bend.sum() * total),
        squares=float(errors.sum()),
    )
