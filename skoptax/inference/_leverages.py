"""Leverages: by how much predictions follow their own responses.

With them the squared scores of a robust covariance are enlarged, as if a row had had no
part in the fit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np


class Dent(NamedTuple):
    """The negative part of the losses' curvature."""

    root: np.ndarray  # of shape (p, p): its size is root.T @ root
    rows: np.ndarray  # of shape (p, n): the same of each response


def leverages(
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    kept: np.ndarray | None = None,
    dent: Dent | None = None,
) -> np.ndarray:
    """
    Return by how much each prediction follows its own response.

    Where a loss has a negative second derivative that is less than nothing: without
    this response, the objective would be more curved.

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
    dent : Dent, optional
        What the losses' curvature is less by.

    Returns
    -------
    ndarray of shape (n,)
        From 0 to 1, without a dent; NaN if a derivative is not finite.
    """
    sizes = np.sum(_followed(root, rest, rows, eps, kept, dent)[1] ** 2, axis=0)
    n = rows.shape[1]
    return np.asarray(sizes if dent is None else sizes[:n] - sizes[n:])


class Enlarged(NamedTuple):
    """Rows' scores as if their responses were not followed."""

    scores: np.ndarray  # of shape (p, n) or (p, m); 0 of a row of leverage 1
    alone: np.ndarray  # of shape (p,): whether such a row says what the entry is


def enlarged(
    scores: np.ndarray,
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    power: float,
    kept: np.ndarray | None,
    dent: Dent | None,
    *,
    is_by_row: bool,
) -> Enlarged:
    """
    Return scores as if their responses were not followed.

    Where a response is followed wholly, its residual is 0 whatever it is, and 0 / 0
    says nothing of the entries that it determines. The others do not depend on it:
    theirs is the covariance without that row.

    Parameters
    ----------
    scores : ndarray of shape (p, n) or (p, m)
        One for each response, or for each row.
    root, rest, rows, eps, kept, dent : object
        As for `leverages`.
    power : float
        What 1 less the leverage is raised to, and scores are divided by.
    is_by_row : bool
        Whether there is one score for each row.

    Returns
    -------
    Enlarged
        NaN if a derivative is not finite.
    """
    inverse, followed = _followed(root, rest, rows, eps, kept, dent)
    at = slice(None) if kept is None else kept
    alone = np.zeros(len(scores), bool)
    if not np.isfinite(followed).all():
        return Enlarged(np.full(scores.shape, np.nan), alone)
    if not is_by_row:
        n = rows.shape[1]
        sizes = np.sum(followed**2, axis=0)
        sizes = sizes if dent is None else sizes[:n] - sizes[n:]
        left = _left_over(sizes, eps)
        found, axes = scores / left**power, followed[:, :n][:, np.isinf(left)]
    elif dent is None:
        found, axes = _by_row(scores, inverse, followed, rows, eps, power, at)
    else:
        curvature = root.T @ root - dent.root.T @ dent.root
        curvature = curvature if rest is None else curvature + rest
        curvature = curvature[at][:, at]
        found, axes = _by_row_with(scores, inverse, followed, curvature, eps, power, at)
    if axes.size == 0:
        return Enlarged(found, alone)
    # How entries follow these, relative to their errors.
    shares = np.abs(inverse.T @ axes) / np.maximum(np.linalg.norm(axes, axis=0), 1e-300)
    sizes = np.linalg.norm(inverse, axis=0)[:, None]
    alone[at] = (shares > math.sqrt(eps) * sizes).any(axis=1)
    return Enlarged(found, alone)


def _left_over(leverage: np.ndarray, eps: float) -> np.ndarray:
    """
    Return 1 less a leverage; infinite, so that nothing is left of the score, at 1.

    A leverage is known to some eps times a condition number, and a fit has converged
    when it is within some root of eps of the standard errors. Of a residual, which is
    1 less the leverage times what it were without its row, nothing is known where that
    factor is below this root.
    """
    left = 1 - leverage
    return np.where(left > math.sqrt(eps), left, np.inf)


def _by_row(
    scores: np.ndarray,
    inverse: np.ndarray,
    followed: np.ndarray,
    rows: np.ndarray,
    eps: float,
    power: float,
    at: Any,
) -> tuple[np.ndarray, np.ndarray]:
    r"""
    Return rows' scores, and in which directions one is followed wholly.

    A row's leverage is a matrix :math:`H`, by its responses: of
    :math:`g = R^T e` this is :math:`R^T (1 - H)^{-q} e`, written so that :math:`e`,
    which a loss that is flat in some direction does not have, need not be known.
    """
    m = scores.shape[1]
    by_row = followed.reshape(len(followed), m, -1)
    sizes, vectors = np.linalg.eigh(np.einsum("rma,rmb->mab", by_row, by_row))
    left = _left_over(sizes, eps)
    # (left**-q - 1) / size, where it is small, too.
    size = np.where(sizes > eps, sizes, 1)
    more = np.where(sizes > eps, np.expm1(-power * np.log(left)) / size, power)
    along = np.einsum("rm,rma->ma", inverse @ scores[at], by_row)
    along = np.einsum("mab,mb,mcb,mc->ma", vectors, more, vectors, along)
    found = scores.copy()
    own_rows = rows[at].reshape(-1, m, sizes.shape[1])
    found[at] += np.einsum("pma,ma->pm", own_rows, along)
    axes = np.einsum("rma,mab->rmb", by_row, vectors)
    return found, axes[:, np.isinf(left)]


def _by_row_with(
    scores: np.ndarray,
    inverse: np.ndarray,
    followed: np.ndarray,
    curvature: np.ndarray,
    eps: float,
    power: float,
    at: Any,
) -> tuple[np.ndarray, np.ndarray]:
    r"""
    Return the same where the losses' curvature has a negative part.

    A row's curvature has no root then: with :math:`A = C C^T` and its share
    :math:`G = C^{-1} A_i C^{-T}` of it, this is :math:`C\,(1 - G)^{-q}\,C^{-1} g`.
    """
    m = scores.shape[1]
    # Of each row, the positive part beside the negative one.
    parts = np.stack(np.split(followed, 2, axis=1))
    by_row = parts.reshape(2, len(followed), m, -1).transpose(2, 1, 0, 3)
    signs = np.repeat([1.0, -1.0], by_row.shape[3])
    axes, sides = np.linalg.qr(by_row.reshape(m, len(followed), -1))
    sizes, vectors = np.linalg.eigh((sides * signs) @ np.swapaxes(sides, 1, 2))
    axes = axes @ vectors
    left = _left_over(sizes, eps)
    along = np.einsum("mrk,rm->mk", axes, inverse @ scores[at])
    more = np.einsum("mrk,mk->rm", axes, np.expm1(-power * np.log(left)) * along)
    found = scores.copy()
    # C is A times its inverse's transpose.
    found[at] += curvature @ inverse.T @ more
    return found, np.moveaxis(axes, 1, 0)[:, np.isinf(left)]


def _followed(
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    kept: np.ndarray | None,
    dent: Dent | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a root of the inverse curvature, and that times the rows.

    Parameters
    ----------
    root, rest, rows, eps, kept, dent : object
        As for `leverages`.

    Returns
    -------
    inverse : ndarray of shape (r, p)
        The inverse of the kept entries' curvature is ``inverse.T @ inverse``.
    followed : ndarray of shape (r, n)
        The products of its columns are leverages; NaN if a derivative is not finite.
        With a dent of shape (r, 2 n): of its rows behind the others; 0 where the
        curvature is negative somewhere, so that there is no covariance.
    """
    less = None
    if dent is not None:
        less, rows = dent.root, np.concatenate([rows, dent.rows], axis=1)
    if kept is not None:
        less = None if less is None else less[:, kept]
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
    if less is not None:
        half, _ = lowered(inverse.T, less, reach)
        inverse = np.zeros_like(inverse) if half is None else half.T
    return inverse, inverse @ rows


def lowered(
    half: np.ndarray, dent: np.ndarray, edge: float
) -> tuple[np.ndarray | None, np.ndarray]:
    """
    Return a root of the inverse of a curvature that is less than another one.

    It has the digits of the latter's root: where little is taken away, nothing is lost.

    Parameters
    ----------
    half : ndarray of shape (p, r)
        The inverse of the curvature so far is ``half @ half.T``.
    dent : ndarray of shape (q, p)
        ``dent.T @ dent`` is taken away from it.
    edge : float
        The relative rounding error.

    Returns
    -------
    half : ndarray of shape (p, s) or None
        ``None`` if what is left is negative somewhere.
    lost : ndarray of shape (p, r - s)
        The directions in which nothing is left.
    """
    taken = dent @ half
    values, vectors = np.linalg.eigh(np.eye(half.shape[1]) - taken.T @ taken)
    edge = edge * np.max(np.abs(values), initial=1.0)
    if (values < -edge).any():
        return None, half[:, :0]
    is_left = values > edge
    left = half @ vectors[:, is_left] / np.sqrt(values[is_left])
    return left, half @ vectors[:, ~is_left]
