r"""From the matrices that a fit keeps to the covariance of its parameters.

With the curvature :math:`A` of the summed losses, the Hessian :math:`P` of priors and
penalty, the scores' second moment :math:`B` and the dispersion :math:`\hat\varphi`:

=============  ===============================================
nonrobust      :math:`\hat\varphi\, A^{-1}`
with penalty   :math:`\hat\varphi\, (A + P)^{-1} A\, (A + P)^{-1}`
with priors    :math:`(A + P)^{-1}`, the Laplace approximation
HC0 to HC3     :math:`(A + P)^{-1} B\, (A + P)^{-1}`
hessian        :math:`\hat\varphi\, (\nabla^2 F)^{-1}`
=============  ===============================================

``docs/theory/uncertainty.md`` has the derivation.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import UndeterminedWarning
from ..losses import Gamma, LogLoss, Poisson, SquaredError
from ..losses._resolve import is_own
from ._entries import EntryTable, moving, read_table
from ._leverages import lowered
from ._record import FitRecord

# A parameter takes part in a dependence of columns, of norm 1, if its share of it is
# above this.
_PART = 0.1


@dataclass(frozen=True)
class Covariance:
    """
    What a fit knows of its parameters' errors.

    Parameters
    ----------
    table : EntryTable
        The entries of all parameters.
    matrix : ndarray of shape (v, v)
        The covariance of the free and tied entries, in the table's order and the
        user's units; NaN of those that are not determined or held.
    rank : int
        How many entries are determined by the data.
    dispersion : float
        The factor by which errors are larger than the losses' curvature says; for
        least squares the variance of a response of weight 1.
    dof : float
        The degrees of freedom of the t distribution; infinite for the normal one.
    reason : str
        Why there is no covariance; empty if there is one.
    held : ndarray of bool
        In the table's order: free entries on a bound, and tied ones that none of the
        others moves. They have no standard error, and add none to predictions.
    """

    table: EntryTable
    matrix: np.ndarray
    rank: int
    dispersion: float
    dof: float
    reason: str
    held: np.ndarray

    @property
    def stderr(self) -> np.ndarray:
        """The standard errors of all entries, NaN of fixed ones."""
        found = np.full(len(self.table.names), np.nan)
        with np.errstate(invalid="ignore"):
            found[self.table.varying] = np.sqrt(np.diagonal(self.matrix))
        return found

    @property
    def of_free(self) -> np.ndarray:
        """The covariance of the free entries alone."""
        where = np.flatnonzero(self.table.free[self.table.varying])
        if self.reason:
            return np.broadcast_to(np.nan, (len(where), len(where)))
        return self.matrix[np.ix_(where, where)]


def covariance_of(record: FitRecord) -> Covariance:
    """
    Return the covariance of a fit's parameters.

    Parameters
    ----------
    record : FitRecord
        Of the fit.

    Returns
    -------
    Covariance
        In the user's units.

    Warns
    -----
    UndeterminedWarning
        Naming the entries that the data do not determine, or why nothing is known.
    """
    table = read_table(record)
    rows = table.varying
    held = table.free & table.at_bound
    if record.found is None:
        if record.cov_type is not None:
            _warn(f"There are no standard errors: {record.reason}.")
        # Without memory: there may be very many.
        nothing = np.broadcast_to(np.nan, (len(rows), len(rows)))
        return Covariance(table, nothing, 0, math.nan, math.inf, record.reason, held)
    found = record.found
    p = found.root.shape[1]
    kept = moving(table)
    root = _columns(found.root, kept, record.total)
    dent = None if found.dent is None else _columns(found.dent, kept, record.total)
    if found.hessian is not None:
        half, lost = half_of_symmetric(_part(found.hessian, kept, record.total), record)
    elif found.rest is not None and np.linalg.eigvalsh(found.rest)[0] < 0:
        rest = _part(found.rest, kept, record.total)
        curvature = root.T @ root + rest
        curvature = curvature if dent is None else curvature - dent.T @ dent
        half, lost = half_of_symmetric(curvature, record)
    else:
        rest = _part(found.rest, kept, record.total)
        half, lost = inverse_half(root, rest, record, dent)
    # Of two parameters that depend on each other, one combination is determined.
    rank = half.shape[1]
    dispersion = dispersion_of(record, rank)
    inner_matrix = _matrix(record, half, root, dent, kept, dispersion, rank)
    full = np.zeros((p, p))
    full[np.ix_(kept, kept)] = inner_matrix
    reason = ""
    if not np.isfinite(inner_matrix).all():
        reason = _why_not_finite(record, rank)
    # What depends on an entry of which nothing is known is not known either; but an
    # entry at a bound is held there.
    unknown = np.zeros(p, bool)
    unknown[kept[lost]] = True
    delta = found.delta.astype(float)
    outer = delta @ full @ delta.T
    hidden = (delta[:, unknown] != 0).any(axis=1)
    outer[hidden] = outer[:, hidden] = np.nan
    single = np.zeros(len(delta), bool)
    if found.alone is not None:
        single = (delta[:, found.alone] != 0).any(axis=1)
        outer[single] = outer[:, single] = np.nan
    matrix = outer[np.ix_(table.place[rows], table.place[rows])]
    # No more is known of what follows from these alone, or from fixed ones: where the
    # slopes are 0, the delta method says nothing.
    follows = (delta[:, kept] != 0).any(axis=1)
    held = held | (table.tied & ~follows[table.place])
    still = held[rows]
    matrix[still] = matrix[:, still] = np.nan
    names = [table.names[i] for i in rows if hidden[table.place[i]]]
    singles = [table.names[i] for i in rows if (single & ~hidden)[table.place[i]]]
    if reason:
        _warn(f"There are no standard errors: {reason}.")
    elif names:
        _warn(
            f"The data do not determine {_listed(names)}: the standard errors are NaN. "
            "Fix one of them, tie them, give them priors, or use a simpler model."
        )
    if singles and not reason:
        _warn(
            f"{record.cov_type} says nothing of {_listed(singles)}: some response is "
            "followed wholly (its leverage is 1), as that of a row with a parameter of "
            "its own, and by 1 less the leverage scores are divided. The standard "
            "errors are NaN, the others those without such rows. Take cov_type='HC1', "
            "or leave out the row and its parameter."
        )
    dof = _degrees_of_freedom(record, rank)
    return Covariance(table, matrix, rank, dispersion, dof, reason, held)


def standard_directions(
    record: FitRecord, covariance: Covariance, kept: np.ndarray | None = None
) -> np.ndarray:
    """
    Return directions of one standard error each, in the optimiser's space.

    Parameters
    ----------
    record : FitRecord
        Of the fit; it has matrices.
    covariance : Covariance
        Of its parameters.
    kept : ndarray of int, optional
        The entries that vary, in order; the others stay. Default: all free ones, those
        on a bound too, as they may leave it.

    Returns
    -------
    ndarray of shape (p, r)
        Times its transpose, the covariance as the losses' law has it. Without a
        dispersion, as if of 1.
    """
    found, table = record.found, covariance.table
    assert found is not None
    if kept is None:
        kept = np.sort(table.place[table.estimated])
    p = found.root.shape[1]
    root = _columns(found.root, kept, record.total)
    dent = None if found.dent is None else _columns(found.dent, kept, record.total)
    rest = _part(found.rest, kept, record.total)
    half, _ = inverse_half(root, rest, record, dent)
    if not np.isfinite(half).all():
        # Some entry on its bound is no minimum; without the negative part, there are
        # directions to begin with.
        half, _ = inverse_half(root, rest, record)
    full = np.zeros((p, half.shape[1]))
    full[kept] = half * math.sqrt(usable_dispersion(covariance))
    return full


def penalty_stretch(record: FitRecord, covariance: Covariance) -> np.ndarray:
    """
    Return standard errors over those that the objective's curvature says.

    A penalty is part of the curvature, and adds no scatter to the estimates.

    Parameters
    ----------
    record : FitRecord
        Of a fit with a penalty; it has matrices.
    covariance : Covariance
        Of its parameters.

    Returns
    -------
    ndarray
        Of all entries, in the table's order; 1 where it is not known. Of one on its
        bound, as if it might leave it.
    """
    found, table = record.found, covariance.table
    assert found is not None
    delta = found.delta.astype(float)
    sizes = []
    for kept in (moving(table), np.sort(table.place[table.estimated])):
        root = _columns(found.root, kept, record.total)
        dent = None if found.dent is None else _columns(found.dent, kept, record.total)
        if found.hessian is not None:
            hessian = _part(found.hessian, kept, record.total)
            half, _ = half_of_symmetric(hessian, record)
        else:
            rest = _part(found.rest, kept, record.total)
            half, _ = inverse_half(root, rest, record, dent)
        law = half @ half.T
        scatter = _of_penalised(half, root, dent, record)
        of_entries = [
            np.einsum("qi,ij,qj->q", delta[:, kept], matrix, delta[:, kept])
            for matrix in (scatter, law)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            sizes.append(np.sqrt(of_entries[0] / of_entries[1]))
    inner = np.where(np.isnan(sizes[0]), sizes[1], sizes[0])
    return np.where(np.isnan(inner), 1.0, inner)[table.place]


def usable_dispersion(covariance: Covariance) -> float:
    """Return the dispersion, or 1 where there is none to speak of."""
    found = covariance.dispersion
    return found if math.isfinite(found) and found > 0 else 1.0


def inverse_half(
    root: np.ndarray,
    rest: np.ndarray | None,
    record: FitRecord,
    dent: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a root of the inverse curvature, and what is not determined.

    Parameters
    ----------
    root : ndarray of shape (r, p)
        The losses' curvature is ``root.T @ root``.
    rest : ndarray of shape (p, p) or None
        The curvature of what else there is.
    record : FitRecord
        Its size and precision say how far rounding reaches.
    dent : ndarray of shape (q, p), optional
        The losses' curvature is less by ``dent.T @ dent``.

    Returns
    -------
    half : ndarray of shape (p, r)
        The inverse of the curvature is ``half @ half.T``, on what is determined. NaN if
        the curvature is negative somewhere.
    lost : ndarray of int
        The positions of what is not.
    """
    p = root.shape[1]
    if p == 0:
        return np.zeros((0, 0)), np.zeros(0, int)
    if rest is not None:
        values, vectors = np.linalg.eigh(rest)
        more = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        root = np.concatenate([root, more])
    norms = np.linalg.norm(root if dent is None else [*root, *dent], axis=0)
    silent = ~(norms > 0)
    unit = np.where(silent, 1, norms)
    _, sizes, rows = np.linalg.svd(root / unit, full_matrices=False)
    null = sizes <= rounding(p, record) * sizes[0]
    parts = np.max(np.abs(rows[null]), axis=0, initial=0.0)
    half = rows[~null].T / sizes[~null] / unit[:, None]
    if dent is not None:
        edge = rounding(p, record)
        sunken = np.linalg.norm(dent / unit @ rows[null].T, axis=0) > edge
        left, flat = lowered(half, dent, edge)
        if left is None or sunken.any():
            return np.full((p, p), np.nan), np.zeros(0, int)
        flat = flat * unit[:, None]
        flat = np.abs(flat / np.linalg.norm(flat, axis=0))
        half, parts = left, np.maximum(parts, np.max(flat, axis=1, initial=0.0))
    return half, np.flatnonzero(silent | (parts > _PART))


def _columns(root: np.ndarray, kept: np.ndarray, total: float) -> np.ndarray:
    return np.asarray(root.astype(float)[:, kept] * math.sqrt(total))


def dispersion_of(record: FitRecord, rank: int) -> float:
    r"""
    Return the factor by which errors are larger than the curvature says.

    Parameters
    ----------
    record : FitRecord
        Of the fit.
    rank : int
        How many entries are determined.

    Returns
    -------
    float
        1 for a likelihood, with priors and with known variances; for gamma responses
        Pearson's statistic over the degrees of freedom; else

        .. math:: \frac{\sum_i w_i \ell_i'^2 / (n - p)}
            {\sum_i w_i \ell_i'' / \sum_i w_i},

        the variance of a response for least squares. NaN without degrees of freedom.
    """
    loss, sums = record.loss, record.sums
    if record.absolute_sigma or record.has_priors:
        return 1.0
    if is_own(loss) and type(loss) in (Poisson, LogLoss):
        return 1.0
    left = record.n - rank
    if left <= 0:
        return math.nan
    if is_own(loss) and type(loss) is Gamma:
        return sums.scaled / left
    mean_bend = sums.bends / record.total / record.outputs
    return sums.slopes / left / mean_bend if mean_bend > 0 else math.nan


def _matrix(
    record: FitRecord,
    half: np.ndarray,
    root: np.ndarray,
    dent: np.ndarray | None,
    kept: np.ndarray,
    dispersion: float,
    rank: int,
) -> np.ndarray:
    """Return the covariance in the space of the optimiser's steps."""
    found = record.found
    assert found is not None
    if found.scores is not None:
        scores = found.scores.astype(float)[:, kept] * record.total
        left = scores @ half @ half.T
        factor = 1.0
        if record.cov_type == "HC1":
            factor = record.n / (record.n - rank) if record.n > rank else math.nan
        return factor * left.T @ left
    if record.has_penalty and not record.has_priors:
        return dispersion * _of_penalised(half, root, dent, record)
    return np.asarray(dispersion * half @ half.T)


def _of_penalised(
    half: np.ndarray, root: np.ndarray, dent: np.ndarray | None, record: FitRecord
) -> np.ndarray:
    """Return the covariance for a dispersion of 1, where the penalty is no law."""
    if dent is None or not np.isfinite(half).all():
        left = root @ half @ half.T
        return np.asarray(left.T @ left)
    above, below = root @ half, dent @ half
    of_losses = above.T @ above - below.T @ below
    if not np.isfinite(half_of_symmetric(of_losses, record)[0]).all():
        return np.full((len(half), len(half)), np.nan)
    return np.asarray(half @ of_losses @ half.T)


def _part(matrix: Any, kept: np.ndarray, total: float) -> Any:
    if matrix is None:
        return None
    return matrix.astype(float)[np.ix_(kept, kept)] * total


def rounding(p: int, record: FitRecord) -> float:
    """
    Return how far the rounding of the rows reaches in what is made of them.

    Parameters
    ----------
    p : int
        How many entries there are.
    record : FitRecord
        Has the number of responses and the precision.

    Returns
    -------
    float
        Relative to the largest.
    """
    return 10 * max(p, math.sqrt(record.n)) * record.eps


def half_of_symmetric(
    curvature: np.ndarray, record: FitRecord
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the same as `inverse_half`, of a matrix that has no root.

    Parameters
    ----------
    curvature : ndarray of shape (p, p)
        Symmetric.
    record : FitRecord
        As for `inverse_half`.

    Returns
    -------
    half : ndarray of shape (p, r)
        NaN if the curvature is negative somewhere, as it is not at a minimum.
    lost : ndarray of int
        The positions of what is not determined.
    """
    p = len(curvature)
    size = np.sqrt(np.abs(np.diagonal(curvature)))
    silent = ~(size > 0)
    size = np.where(silent, 1, size)
    values, vectors = np.linalg.eigh(curvature / size / size[:, None])
    edge = rounding(p, record) * np.max(np.abs(values), initial=0.0)
    null = values <= edge
    if (values < -edge).any():
        return np.full((p, p), np.nan), np.zeros(0, int)
    parts = np.max(np.abs(vectors[:, null]), axis=1, initial=0.0)
    half = vectors[:, ~null] / np.sqrt(values[~null]) / size[:, None]
    return half, np.flatnonzero(silent | (parts > _PART))


def _why_not_finite(record: FitRecord, rank: int) -> str:
    if record.n <= rank:
        return f"{record.n} responses leave no degrees of freedom for {rank} parameters"
    if record.cov_type == "hessian" or record.has_priors:
        return "the Hessian of the objective is not positive definite there"
    if record.found is not None and record.found.dent is not None:
        return (
            "the losses' curvature is not positive definite there, as too many "
            "responses lie where the loss has a negative second derivative (give it a "
            "wider scale, or better start values)"
        )
    return "the matrices are not finite there"


def _degrees_of_freedom(record: FitRecord, rank: int) -> float:
    """Return those of the t distribution: where a variance has been estimated."""
    is_squares = is_own(record.loss) and type(record.loss) is SquaredError
    known = record.absolute_sigma or record.has_priors
    if not is_squares or known:
        return math.inf
    return float(max(record.n - rank, 0))


def _warn(message: str) -> None:
    # At the line that reads what the fit knows: this function, `covariance_of`, the
    # estimator's `_covariance` and its public attribute or method lie between.
    warnings.warn(message, UndeterminedWarning, stacklevel=5)


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
