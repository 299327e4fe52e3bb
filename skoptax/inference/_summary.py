"""Tables of parameters: values, standard errors, intervals, correlations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ..losses import Gamma, LogLoss, Poisson, SquaredError
from ..losses._resolve import is_own
from ._covariance import Covariance
from ._record import FitRecord
from ._statistics import p_values, quantile

# How a fit ends at an optimum, one that the data determine or one of many.
_AT_OPTIMUM = ("converged", "stalled", "singular", "plateau")


def summary_table(covariance: Covariance, level: float) -> pd.DataFrame:
    """
    Return all entries of all parameters with what is known of them.

    Parameters
    ----------
    covariance : Covariance
        Of a fit.
    level : float
        The intervals' probability, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        With the rows and columns of `OptaxEstimator.summary`.
    """
    table, stderr = covariance.table, covariance.stderr
    with np.errstate(divide="ignore", invalid="ignore"):
        t = table.value / stderr
        relative = stderr / np.abs(table.value)
    reach = quantile(level, covariance.dof) * stderr
    columns = {
        "value": table.value,
        "stderr": stderr,
        "rel_stderr": relative,
        "t": t,
        "p_value": p_values(t, covariance.dof),
        "ci_lower": table.value - reach,
        "ci_upper": table.value + reach,
        "start": table.start,
        "free": table.free,
        "at_bound": table.at_bound,
    }
    return pd.DataFrame(columns, index=pd.Index(table.names, name="parameter"))


def wald_intervals(covariance: Covariance, level: float) -> pd.DataFrame:
    """
    Return symmetric intervals from standard errors.

    Parameters
    ----------
    covariance : Covariance
        Of a fit.
    level : float
        Their probability, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        ``ci_lower`` and ``ci_upper`` of the entries that are free or tied.
    """
    table = summary_table(covariance, level)[["ci_lower", "ci_upper"]]
    return table[covariance.table.free | covariance.table.tied]


def correlation_table(covariance: Covariance) -> pd.DataFrame:
    """
    Return the correlations of the free entries.

    Parameters
    ----------
    covariance : Covariance
        Of a fit.

    Returns
    -------
    pandas.DataFrame
        Both axes have the entries' names; NaN where nothing is known.
    """
    where, matrix = covariance.table.estimated, covariance.of_free
    sizes = np.sqrt(np.where(np.diagonal(matrix) > 0, np.diagonal(matrix), np.nan))
    names = pd.Index([covariance.table.names[i] for i in where], name="parameter")
    found = matrix / sizes / sizes[:, None]
    np.fill_diagonal(found, np.where(np.isnan(sizes), np.nan, 1.0))
    return pd.DataFrame(found, index=names, columns=names.rename(None))


def notes_of(
    record: FitRecord, covariance: Covariance, level: float, status: str
) -> list[str]:
    """
    Return how to read standard errors and intervals, in sentences.

    Parameters
    ----------
    record : FitRecord
        Of a fit.
    covariance : Covariance
        Of its parameters.
    level : float
        The intervals' probability, in (0, 1).
    status : str
        How the fit ended.

    Returns
    -------
    list of str
        One or more sentences; if there are no standard errors, why.
    """
    notes = []
    if record.of_one_chunk:
        notes.append(
            "After fit_chunks: standard errors, intervals, statistics and the "
            f"objective are those of one chunk alone, of {record.n} responses."
        )
    if covariance.reason:
        return [*notes, f"There are no standard errors: {covariance.reason}."]
    law = (
        f"the t distribution with {covariance.dof:.0f} degrees of freedom"
        if math.isfinite(covariance.dof)
        else "the normal distribution"
    )
    notes.append(f"Intervals have a level of {level:g} and are those of {law}.")
    if status not in _AT_OPTIMUM:
        notes.append(
            f"The fit has not converged (status_ is {status!r}), and standard errors "
            "are those of an optimum: away from it, neither they nor the intervals "
            "about the values there mean anything. Fit with more steps or another "
            "optimizer."
        )
    if record.has_priors:
        notes.append(
            "With priors: the Laplace approximation of the posterior, "
            f"{_likelihood_of(record)}."
        )
    elif record.has_penalty:
        notes.append(
            "With a penalty: standard errors are about the mean of the penalised "
            "estimate, which is biased."
        )
    if bool((covariance.table.free & covariance.table.at_bound).any()):
        note = "Parameters at a bound are held there: they have no error"
        if bool(covariance.table.tied.any()):
            note += ", and add none to that of a parameter tied to them"
        notes.append(f"{note}.")
    return notes


def _likelihood_of(record: FitRecord) -> str:
    """Return which likelihood a posterior is made of."""
    kind = type(record.loss) if is_own(record.loss) else None
    if kind is SquaredError:
        return "for responses of variance one over their weight"
    if kind is Gamma:
        return "for responses whose variance is their squared mean over their weight"
    if kind in (Poisson, LogLoss):
        return "in which a weight counts rows"
    return "with the weighted loss as the responses' negative log-likelihood"
