"""Which combinations of parameters the data determine, and how well."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ._covariance import Covariance, rounding
from ._record import FitRecord

# Entries with a smaller share of a direction are left out of the sentence about it.
_SHOWN = 0.2


@dataclass(frozen=True)
class Identifiability:
    """
    The eigenvalues and directions of the scaled Fisher information.

    Each column of the Jacobian has norm 1, so that units do not count.

    Parameters
    ----------
    eigenvalues : ndarray of shape (p,)
        The smallest first. Their sum is p: all are 1 where the parameters do not
        depend on each other.
    directions : pandas.DataFrame
        For each eigenvalue a column, with a row for each free entry: the direction
        in units of what each entry alone is determined to.
    condition_number : float
        The largest over the smallest eigenvalue; infinite where some combination is
        not determined.
    worst : str
        The worst-determined combination, in words.

    See Also
    --------
    skoptax.OptaxEstimator.identifiability : Makes it.
    skoptax.OptaxEstimator.profile :
        How far one parameter is determined, beyond first order.

    Examples
    --------
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> X = np.arange(10.0)[:, None]
    >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
    >>> found = OptaxEstimator().fit(X, y).identifiability()
    >>> print(round(found.eigenvalues.sum(), 6))
    2.0
    >>> found.condition_number > 1
    True
    """

    eigenvalues: np.ndarray
    directions: pd.DataFrame
    condition_number: float
    worst: str


def identifiability_of(record: FitRecord, covariance: Covariance) -> Identifiability:
    """
    Return what the data can tell apart.

    Parameters
    ----------
    record : FitRecord
        Of a fit, with matrices.
    covariance : Covariance
        Of its parameters.

    Returns
    -------
    Identifiability
        Over the free entries that no bound holds, in the space of the optimiser's
        steps.
    """
    found, table = record.found, covariance.table
    assert found is not None
    rows = table.estimated[~table.at_bound[table.estimated]]
    names = [table.names[i] for i in rows]
    root = found.root.astype(float)[:, table.place[rows]]
    norms = np.linalg.norm(root, axis=0)
    scaled = root / np.where(norms > 0, norms, 1)
    _, sizes, vectors = np.linalg.svd(scaled)
    values, vectors = sizes[::-1] ** 2, vectors[::-1]
    # The largest entry of each is positive, of equal ones the first.
    largest = np.argmax(_sizes(vectors), axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    vectors = vectors * np.where(signs == 0, 1, signs)[:, None]
    edge = rounding(len(values), record) ** 2
    is_lost = len(values) > 0 and values[0] <= edge * values[-1]
    condition = math.inf if is_lost else float(values[-1] / values[0])
    return Identifiability(
        values,
        pd.DataFrame(vectors.T, index=pd.Index(names, name="parameter")),
        condition,
        _in_words(names, vectors[0], condition) if names else "nothing is free",
    )


def _sizes(entries: np.ndarray) -> np.ndarray:
    """Return sizes in which entries that differ by rounding errors are equal."""
    return np.round(np.abs(entries), 2)


def _in_words(names: list[str], direction: np.ndarray, condition: float) -> str:
    order = np.argsort(-_sizes(direction), kind="stable")
    parts = [i for i in order if abs(direction[i]) >= _SHOWN]
    if len(parts) == 1:
        what = f"{names[parts[0]]!r} alone"
    else:
        ups = [repr(names[i]) for i in parts if direction[i] > 0]
        downs = [repr(names[i]) for i in parts if direction[i] < 0]
        what = f"a change of {' and '.join(ups)}"
        if downs:
            what += f" against {' and '.join(downs)}" if len(ups) else ""
        if len(ups) > 1 or len(downs) > 1 or not downs:
            what += " together"
    if condition == math.inf:
        return f"The data do not determine {what}."
    return (
        f"The data determine {what} worst: its information is {1 / condition:.2g} of "
        "that of the best combination."
    )
