"""By how much predictions follow their own responses, and what that does to scores.

A fit goes near its responses: their residuals are smaller than the noise. Robust
covariances and resampled residuals have them as if they had not been followed.
"""

from __future__ import annotations

import math

import numpy as np

from .._information import Derivatives


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


def what_is_left(leverage: np.ndarray, edge: float) -> np.ndarray:
    """
    Return 1 less a leverage.

    Parameters
    ----------
    leverage : ndarray
        From 0 to 1.
    edge : float
        Where less is left than this, nothing is.

    Returns
    -------
    ndarray
        NaN for a row that a parameter is made for, which has no residual.
    """
    left = 1 - leverage
    return np.where(left > edge, left, np.nan)


def enlarged_scores(
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
    silent = np.asarray(~scores.any(axis=0))
    left = np.where(silent[:, None], 1, what_is_left(sizes, eps * rows.shape[1]))
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
