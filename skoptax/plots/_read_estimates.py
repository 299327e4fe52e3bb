"""The estimates and intervals of several fits, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .._validation import did_you_mean, invalid
from ._source import Source, entries_of, refuse_without_covariance


def read_estimates(
    owner: str,
    sources: Mapping[str, Source],
    rows: tuple[Any, Any, Any],
    names: Any,
    method: str,
    level: float,
    options: Mapping[str, Any] | None,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """
    Return the estimates and intervals of fits that may have different parameters.

    Parameters
    ----------
    owner : str
        Named in errors.
    sources : dict
        Name to fit.
    rows : tuple
        Inputs, responses and weights of all fits, or None.
    names : str, sequence of str or None
        Which entries or parameters. ``None``: all that are free or tied.
    method : str
        Of `OptaxEstimator.confidence_intervals`, or ``"none"``.
    level : float
        The intervals' probability.
    options : dict or None
        Further arguments of it.

    Returns
    -------
    names : list of str
        The p entries.
    estimates : ndarray of shape (m, p)
        NaN of what a fit does not have.
    ends : ndarray of shape (m, p, 2)
        NaN where there is no interval.

    Raises
    ------
    InvalidParameterError
        If a name is unknown, or a fit has no intervals.
    """
    X, y, sample_weight = rows
    values = [_estimates(source) for source in sources.values()]
    known = list(dict.fromkeys(name for one in values for name in one))
    chosen = _chosen(names, known, owner)
    estimates = np.array([[one.get(n, np.nan) for n in chosen] for one in values])
    ends = np.full((*estimates.shape, 2), np.nan)
    if method == "none":
        return chosen, estimates, ends
    for i, (label, source) in enumerate(sources.items()):
        refuse_without_covariance(
            source,
            f"intervals of {label!r}",
            "Use method='none' for the estimates alone.",
        )
        table = source.estimator.confidence_intervals(
            X if X is None else source.rows(X),
            y,
            sample_weight,
            level=level,
            method=method,
            **options or {},
        )
        ends[i] = _ends(table, chosen)
    return chosen, estimates, ends


def _estimates(source: Source) -> dict[str, float]:
    table = entries_of(source)
    return {table.names[i]: float(table.value[i]) for i in table.varying}


def _ends(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    return table.reindex(names)[["ci_lower", "ci_upper"]].to_numpy(dtype=float)


def _chosen(names: Any, known: list[str], owner: str) -> list[str]:
    """Return the names of the entries to draw."""
    if names is None:
        return known
    chosen = []
    for name in [names] if isinstance(names, str) else names:
        # Of an array, all of its entries.
        entries = [one for one in known if one == name or one.startswith(f"{name}[")]
        chosen += entries
        if not entries:
            listed = ", ".join(map(repr, known[:10]))
            raise invalid(
                "names",
                owner,
                f"parameters that are free or tied: {listed}",
                name,
                did_you_mean(name, known),
            )
    if not chosen:
        raise invalid("names", owner, "one name or more, or None for all", names)
    return list(dict.fromkeys(chosen))
