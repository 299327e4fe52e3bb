r"""From derivatives at a solution to matrices of shape (p, p): sums over the rows.

What is kept of a fit has the size of its parameters, not of its data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._information import Derivatives

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

    root: np.ndarray  # of shape (p, p): the losses' curvature is root.T @ root
    delta: np.ndarray  # of shape (q, p): the slopes of free and tied entries
    sums: Sums  # not divided
    rest: np.ndarray | None = None  # the Hessian of penalties and priors
    scores: np.ndarray | None = None  # a root of the sum of the rows' squared scores
    hessian: np.ndarray | None = None  # of the whole objective

    @property
    def is_finite(self) -> bool:
        """Whether all matrices are numbers."""
        matrices = (self.root, self.delta, self.rest, self.scores, self.hessian)
        return all(np.isfinite(m).all() for m in matrices if m is not None)


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
    columns = np.asarray(found.columns, float)[:, :n]
    slope = np.asarray(found.slope, float)[:n]
    bend = np.asarray(found.bend, float)[: n if np.ndim(found.bend) == 1 else m]
    rows = weighted_rows(found, m, n)
    root = triangle(rows)
    rest = None if found.rest is None else np.asarray(found.rest, float)
    scores = None
    power = _LEVERAGE_POWERS.get(cov_type)
    if power is not None:
        each = columns * slope
        is_by_row = bend.ndim > 1
        if is_by_row:
            # Of a loss that is more than a sum over its responses, a row has one score.
            each = each.reshape(len(each), m, -1).sum(axis=2)
        if power:
            eps = float(np.finfo(np.asarray(found.slope).dtype).eps)
            if is_by_row:
                each = _enlarged(each, root, rest, rows, eps, power / 2, kept)
            else:
                left = _left(leverages(root, rest, rows, eps, kept), eps * n)
                left = np.where(slope == 0, 1, left)
                each = each / left ** (power / 2)
        scores = triangle(each)
    predictions = np.asarray(found.predictions, float)[:m]
    return Information(
        root=root,
        delta=delta,
        sums=_sums(loss, y - predictions, slope, bend, weights, total),
        rest=rest,
        scores=scores,
        hessian=None if found.hessian is None else np.asarray(found.hessian, float),
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
    return first._replace(
        root=triangle(np.concatenate([p.root for p in parts]).T),
        sums=Sums(*map(math.fsum, zip(*(p.sums for p in parts), strict=True))),
        scores=scores,
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
        Their products are the losses' curvature.
    """
    columns = np.asarray(found.columns, float)[:, :n]
    bend = np.asarray(found.bend, float)[: n if np.ndim(found.bend) == 1 else m]
    return _times(_bend_root(bend), columns)


def _bend_root(bend: np.ndarray) -> np.ndarray:
    """Return a root of the losses' curvature, without its negative part."""
    if bend.ndim == 1:
        return np.sqrt(np.maximum(bend, 0))
    size = np.sqrt(np.abs(np.diagonal(bend, axis1=1, axis2=2)))
    size = np.where(size > 0, size, 1)
    values, vectors = np.linalg.eigh(bend / size[:, None] / size[:, :, None])
    sizes = np.sqrt(np.maximum(values, 0))[:, :, None]
    return np.asarray(sizes * np.swapaxes(vectors, 1, 2) * size[:, None])


def _times(root: np.ndarray, columns: np.ndarray) -> np.ndarray:
    if root.ndim == 1:
        return root * columns
    by_row = columns.reshape(len(columns), *root.shape[:2])
    return np.einsum("mab,pmb->pma", root, by_row).reshape(columns.shape)


def leverages(
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """
    Return by how much each prediction follows its own response.

    Parameters
    ----------
    root, rest : ndarray of shape (p, p)
        As `Information` has them.
    rows : ndarray of shape (p, n)
        As of `weighted_rows`.
    eps : float
        The relative rounding error of the derivatives.
    kept : ndarray of int, optional
        As for `summed_up`.

    Returns
    -------
    ndarray of shape (n,)
        From 0 to 1; NaN if a derivative is not finite.
    """
    return np.asarray(np.sum(_followed(root, rest, rows, eps, kept)[1] ** 2, axis=0))


def _left(leverage: np.ndarray, edge: float) -> np.ndarray:
    """Return 1 less a leverage; NaN for a row that a parameter is made for."""
    left = 1 - leverage
    return np.where(left > edge, left, np.nan)


def _enlarged(
    scores: np.ndarray,
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    power: float,
    kept: np.ndarray | None,
) -> np.ndarray:
    r"""
    Return rows' scores as if their responses were not followed.

    A row's leverage is a matrix :math:`H`, by its responses: of
    :math:`g = R^T e` this is :math:`R^T (1 - H)^{-q} e`, written so that :math:`e`,
    which a loss that is flat in some direction does not have, need not be known.

    Parameters
    ----------
    scores : ndarray of shape (p, m)
        One for each row.
    root, rest, rows, eps, kept : object
        As for `leverages`.
    power : float
        The exponent :math:`q`.

    Returns
    -------
    ndarray of shape (p, m)
        NaN of a row that parameters are made for.
    """
    m = scores.shape[1]
    inverse, followed = _followed(root, rest, rows, eps, kept)
    by_row = followed.reshape(len(followed), m, -1)
    matrices = np.einsum("rma,rmb->mab", by_row, by_row)
    if not np.isfinite(matrices).all():
        return np.full(scores.shape, np.nan)
    sizes, vectors = np.linalg.eigh(matrices)
    at = slice(None) if kept is None else kept
    silent = ~scores.any(axis=0)
    left = np.where(silent[:, None], 1, _left(sizes, eps * rows.shape[1]))
    # (left**-q - 1) / size, where it is small, too.
    size = np.where(sizes > eps, sizes, 1)
    more = np.where(sizes > eps, np.expm1(-power * np.log(left)) / size, power)
    along = np.einsum("rm,rma->ma", inverse @ scores[at], by_row)
    along = np.einsum("mab,mb,mcb,mc->ma", vectors, more, vectors, along)
    found = scores.copy()
    own_rows = rows[at].reshape(-1, m, matrices.shape[-1])
    found[at] += np.einsum("pma,ma->pm", own_rows, along)
    return found


def _followed(
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    kept: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a root of the inverse curvature, and that times the rows.

    Parameters
    ----------
    root, rest, rows, eps, kept : object
        As for `leverages`.

    Returns
    -------
    inverse : ndarray of shape (r, p)
        The inverse of the kept entries' curvature is ``inverse.T @ inverse``.
    followed : ndarray of shape (r, n)
        The products of its columns are leverages; NaN if a derivative is not finite.
    """
    if kept is not None:
        root, rows = root[:, kept], rows[kept]
        rest = None if rest is None else rest[np.ix_(kept, kept)]
    p, n = rows.shape
    if p == 0:
        # Nothing follows any response.
        return np.zeros((1, p)), np.zeros((1, n))
    known = (root, rows) if rest is None else (root, rows, rest)
    if not all(np.isfinite(part).all() for part in known):
        return np.full((1, p), np.nan), np.full((1, n), np.nan)
    if rest is not None:
        values, vectors = np.linalg.eigh(rest)
        more = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        root = np.concatenate([root, more])
    norms = np.linalg.norm(root, axis=0)
    norms = np.where(norms > 0, norms, 1)
    _, sizes, vectors = np.linalg.svd(root / norms, full_matrices=False)
    reach = 10 * max(len(sizes), math.sqrt(rows.shape[1])) * eps
    is_known = sizes > reach * sizes[0]
    inverse = vectors[is_known] / sizes[is_known, None] / norms
    return inverse, inverse @ rows


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
    return Sums(
        loss=loss,
        slopes=float(total * np.sum(slopes)),
        scaled=float(np.sum(squares[bent] / bend[bent])),
        bends=float(bend.sum() * total),
        squares=float(np.sum(errors)),
    )
