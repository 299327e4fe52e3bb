"""Leverages: by how much predictions follow their own responses.

With them the squared scores of a robust covariance are enlarged, as if a row had had no
part in the fit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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


def left_over(leverage: np.ndarray, edge: float) -> np.ndarray:
    """
    Return what a row's response leaves to the others.

    Parameters
    ----------
    leverage : ndarray
        By how much predictions follow their own responses.
    edge : float
        What is less than that is nothing.

    Returns
    -------
    ndarray
        1 less the leverage; NaN for a row that a parameter is made for.
    """
    left = 1 - leverage
    return np.where(left > edge, left, np.nan)


def enlarged(
    scores: np.ndarray,
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    power: float,
    kept: np.ndarray | None,
    dent: Dent | None,
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
    root, rest, rows, eps, kept, dent : object
        As for `leverages`.
    power : float
        The exponent :math:`q`.

    Returns
    -------
    ndarray of shape (p, m)
        NaN of a row that parameters are made for.
    """
    if dent is not None:
        return _enlarged_with(dent, scores, root, rest, rows, eps, power, kept)
    m = scores.shape[1]
    inverse, followed = _followed(root, rest, rows, eps, kept)
    by_row = followed.reshape(len(followed), m, -1)
    matrices = np.einsum("rma,rmb->mab", by_row, by_row)
    if not np.isfinite(matrices).all():
        return np.full(scores.shape, np.nan)
    sizes, vectors = np.linalg.eigh(matrices)
    at = slice(None) if kept is None else kept
    silent = ~np.asarray(scores.any(axis=0))
    left = np.where(silent[:, None], 1, left_over(sizes, eps * rows.shape[1]))
    # (left**-q - 1) / size, where it is small, too.
    size = np.where(sizes > eps, sizes, 1)
    more = np.where(sizes > eps, np.expm1(-power * np.log(left)) / size, power)
    along = np.einsum("rm,rma->ma", inverse @ scores[at], by_row)
    along = np.einsum("mab,mb,mcb,mc->ma", vectors, more, vectors, along)
    found = scores.copy()
    own_rows = rows[at].reshape(-1, m, matrices.shape[-1])
    found[at] += np.einsum("pma,ma->pm", own_rows, along)
    return found


def _enlarged_with(
    dent: Dent,
    scores: np.ndarray,
    root: np.ndarray,
    rest: np.ndarray | None,
    rows: np.ndarray,
    eps: float,
    power: float,
    kept: np.ndarray | None,
) -> np.ndarray:
    r"""
    Return the same where the losses' curvature has a negative part.

    A row's curvature has no root then: with :math:`A = C C^T` and its share
    :math:`G = C^{-1} A_i C^{-T}` of it, this is :math:`C\,(1 - G)^{-q}\,C^{-1} g`.
    """
    m = scores.shape[1]
    inverse, followed = _followed(root, rest, rows, eps, kept, dent)
    at = slice(None) if kept is None else kept
    # Of each row, the positive part beside the negative one.
    parts = np.stack(np.split(followed, 2, axis=1))
    by_row = parts.reshape(2, len(followed), m, -1).transpose(2, 1, 0, 3)
    signs = np.repeat([1.0, -1.0], by_row.shape[3])
    by_row = by_row.reshape(m, len(followed), -1)
    if not np.isfinite(by_row).all():
        return np.full(scores.shape, np.nan)
    axes, sides = np.linalg.qr(by_row)
    sizes, vectors = np.linalg.eigh((sides * signs) @ np.swapaxes(sides, 1, 2))
    axes = axes @ vectors
    silent = ~np.asarray(scores.any(axis=0))
    left = np.where(silent[:, None], 1, left_over(sizes, eps * rows.shape[1]))
    along = np.einsum("mrk,rm->mk", axes, inverse @ scores[at])
    more = np.einsum("mrk,mk->rm", axes, np.expm1(-power * np.log(left)) * along)
    # C is A times its inverse's transpose.
    curvature = root.T @ root - dent.root.T @ dent.root
    curvature = curvature if rest is None else curvature + rest
    found = scores.copy()
    found[at] += curvature[at][:, at] @ inverse.T @ more
    return found


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
