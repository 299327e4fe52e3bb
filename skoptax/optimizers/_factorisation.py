"""Roots of curvatures: products of many rows, and their factorisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# Up to so many columns, a library's QR factorisation is fast; of many rows, fewer.
FEW_COLUMNS, VERY_FEW_COLUMNS = 16, 4
MANY_ROWS = 4096
# So many rows of a few columns stay in a processor's cache.
_BLOCK = 1024
# Up to so many columns, XLA's products of a matrix and a vector are faster than its
# product of two matrices: three times with 3 columns.
_BY_VECTORS = 8
# A smaller pivot says that the columns, of norm 1, are close to dependent: of the
# digits of their products its square is lost. In single precision, sums over many rows
# leave five.
_SAFE, _SAFE_IN_SINGLE = 1e-3, 0.25


def curvature_root(bend: Array) -> Array:
    """
    Return a root of the losses' curvature, without its negative part.

    Parameters
    ----------
    bend : array of shape (n,) or (m, k, k)
        As `losses_curvature` returns it.

    Returns
    -------
    array
        Of the same shape, as for `times`.
    """
    if bend.ndim == 1:
        return jnp.sqrt(jnp.maximum(bend, 0))
    return jax.vmap(positive_root)(bend)


def times(root: Array, values: Array) -> Array:
    """
    Return a root of the losses' curvature times one value for each prediction.

    Parameters
    ----------
    root : array of shape (n,) or (m, k, k)
        For each prediction, or for the k predictions of each of m rows.
    values : array of shape (..., n)
        One for each prediction.

    Returns
    -------
    array of shape (..., n)
        Their products.
    """
    if root.ndim == 1:
        return root * values
    by_row = values.reshape(*values.shape[:-1], *root.shape[:2])
    return jnp.einsum("mab,...mb->...ma", root, by_row).reshape(values.shape)


def triangle(columns: Array, root: Array, others: Array | None = None) -> Array:
    """
    Return a root of the curvature of an objective: a triangle.

    Parameters
    ----------
    columns : array of shape (p, n)
        For each parameter, the predictions' derivatives.
    root : array of shape (n,) or (m, k, k)
        A root of the losses' curvature, as for `times`.
    others : array of shape (p, p), optional
        The Hessian of what else the objective has. Its negative part is left out.

    Returns
    -------
    array of shape (p, p)
        As of a QR factorisation.
    """
    p, n = columns.shape
    extra = [] if others is None else [positive_root(others)]

    def factorised() -> Array:
        rows = jnp.concatenate([times(root, columns), *(x.T for x in extra)], axis=1)
        triangle = jnp.linalg.qr(rows.T, mode="r")
        return jnp.pad(triangle, ((0, max(p - len(triangle), 0)), (0, 0)))

    few = p <= (FEW_COLUMNS if n < MANY_ROWS else VERY_FEW_COLUMNS)
    if few or n < p:
        return factorised()
    products = _products(root, columns)
    for more in extra:
        products = products + more.T @ more
    found, is_safe = cholesky(products)
    return jax.lax.cond(is_safe, lambda: found, factorised)


def refactorised(root: Array, columns: Array) -> Array:
    """
    Return the triangle of a factorisation to which rows are added.

    Parameters
    ----------
    root : array of shape (p, p)
        The triangle so far; zeros, if there is none.
    columns : array of shape (p, n)
        The rows to be added, as columns.

    Returns
    -------
    array of shape (p, p)
        Of all rows.
    """
    return jnp.linalg.qr(jnp.concatenate([root, columns.T]), mode="r")


def pairs(columns: Array) -> Array:
    """
    Return the products of all pairs of columns.

    Parameters
    ----------
    columns : array of shape (p, n)
        Few enough to stay in a cache.

    Returns
    -------
    array of shape (p, p)
        Symmetric.
    """
    if len(columns) > _BY_VECTORS:
        return columns @ columns.T
    return jnp.stack([columns @ column for column in columns])


def cholesky(products: Array) -> tuple[Array, Array]:
    """
    Return a root of products of columns, and whether it has enough digits.

    Parameters
    ----------
    products : array of shape (p, p)
        Of all pairs of columns.

    Returns
    -------
    root : array of shape (p, p)
        A triangle.
    is_safe : bool
        Whether the columns, at norm 1, are far from dependent. Then it has ten digits
        at least (four in single precision), and is faster than an orthogonal
        factorisation of the columns.
    """
    norms = jnp.sqrt(jnp.diagonal(products))
    norms = jnp.where(norms > 0, norms, 1)
    factor = jnp.linalg.cholesky(products / norms / norms[:, None])
    return factor.T * norms, _are_safe(jnp.diagonal(factor))


def are_independent(root: Array) -> Array:
    """
    Tell whether the columns of a triangle are far from dependent.

    Parameters
    ----------
    root : array of shape (p, p)
        A triangle, of any factorisation.

    Returns
    -------
    bool
        As `cholesky` has it.
    """
    norms = jnp.linalg.norm(root, axis=0)
    return _are_safe(jnp.abs(jnp.diagonal(root)) / jnp.where(norms > 0, norms, 1))


def _are_safe(pivots: Array) -> Array:
    is_double = pivots.dtype == jnp.float64
    # What is not finite compares as false.
    return jnp.min(pivots) > (_SAFE if is_double else _SAFE_IN_SINGLE)


def _products(bend: Array, columns: Array) -> Array:
    """Return the products of all pairs of weighted columns, of shape (p, p)."""
    n = columns.shape[1]
    if n < 2 * _BLOCK or bend.ndim > 1:
        weighted = times(bend, columns)
        return weighted @ weighted.T

    # By blocks that fit into a cache, twice as fast as one product.
    def of(start: Any, size: int) -> Array:
        part = jax.lax.dynamic_slice_in_dim(columns, start, size, axis=1)
        part = part * jax.lax.dynamic_slice_in_dim(bend, start, size)
        return part @ part.T

    whole = n // _BLOCK
    rest = of(whole * _BLOCK, n - whole * _BLOCK)
    return jax.lax.fori_loop(
        0, whole, lambda i, total: total + of(i * _BLOCK, _BLOCK), rest
    )


def positive_root(curvature: Array) -> Array:
    """
    Return a root of the nearest matrix without negative curvature.

    Parameters
    ----------
    curvature : array of shape (k, k)
        Symmetric.

    Returns
    -------
    array of shape (k, k)
        Its products with itself are that matrix.
    """
    # Parameters may be of very different size.
    size = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    size = jnp.where(size > 0, size, 1)
    values, vectors = jnp.linalg.eigh(curvature / size / size[:, None])
    return jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T * size
