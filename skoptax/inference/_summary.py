"""Tables of parameters: values, standard errors, intervals, correlations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ._covariance import Covariance
from ._statistics import p_values, quantile


def summary_table(covariance: Covariance, level: float) -> pd.DataFrame:
    """Return all entries of all parameters with what is known of them.

    Parameters
    ----------
    covariance : Covariance
        Of a fit.
    level : float
        The intervals' probability, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        Indexed by ``parameter``.
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
    """Return symmetric intervals from standard errors.

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
    """Return the correlations of the free entries.

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
