"""What a curve over one input needs: its grid, the other inputs' values, its bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .._data_checks import check_weights
from .._validation import check_integer, invalid
from ._source import Source, refuse_without_covariance


def numbers_of(column: pd.Series, name: str, owner: str) -> np.ndarray:
    """Return a column as numbers, or raise: a curve needs an axis."""
    if not pd.api.types.is_numeric_dtype(column) and column.dtype != object:
        raise invalid("feature", owner, "a column of numbers", name)
    try:
        # What is missing may be a value of pandas' own, which is no number.
        return column.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise invalid("feature", owner, "a column of numbers", name) from None


def held_values(
    frame: pd.DataFrame, column: int, held: Mapping[str, Any] | None, owner: str
) -> dict[str, Any]:
    """
    Return the value of each column but one: what the user said, or the median.

    Of whole numbers and flags it is the lower median, which a row has: they may be
    codes. What is missing does not count.
    """
    others = [name for i, name in enumerate(frame.columns) if i != column]
    given = dict(held or {})
    for name in given:
        if name not in others:
            listed = ", ".join(map(repr, others)) or "none"
            raise invalid(
                "held", owner, f"a dict of values for other columns: {listed}", name
            )
    for name in others:
        if name not in given:
            given[name] = _median(frame[name], name, held, owner)
    return {name: given[name] for name in others}


def _median(column: pd.Series, name: str, held: Any, owner: str) -> Any:
    there = column.dropna()
    if isinstance(there.dtype, pd.CategoricalDtype):
        there = there.astype(there.cat.categories.dtype)
    there = there.infer_objects()
    if not len(there):
        why = "of which X has none"
    elif pd.api.types.is_bool_dtype(there) or pd.api.types.is_integer_dtype(there):
        return there.sort_values().iloc[(len(there) - 1) // 2]
    else:
        try:
            return float(np.median(there.to_numpy(dtype=float)))
        except (TypeError, ValueError):
            why = "which is no column of numbers"
    raise invalid("held", owner, f"a dict with a value for {name!r}, {why}", held)


def grid_of(grid: Any, x: np.ndarray, owner: str) -> np.ndarray:
    """Return where the curve is evaluated: what the user gave, or so many points."""
    if np.ndim(grid) == 0:
        count = check_integer("grid", owner, grid, 2)
        there = x[np.isfinite(x)]
        if not len(there):
            raise invalid("feature", owner, "a column with numbers", x)
        return np.linspace(there.min(), there.max(), count)
    points = np.asarray(grid, dtype=float)
    if points.ndim != 1 or len(points) < 2 or not np.isfinite(points).all():
        raise invalid("grid", owner, "a number, or two or more finite points", grid)
    return np.sort(points)


def wanted_bands(source: Source, bands: str) -> tuple[str, ...]:
    """Return the kinds of bands to compute, or raise where there can be none."""
    if bands == "none":
        return ()
    if bands == "auto":
        if source.estimator.fit_record().found is None:
            return ()
        # With known variances a response of weight 1 has the variance 1, which no
        # response of these data may have.
        absolute = source.estimator.absolute_sigma
        return ("confidence",) if absolute else ("confidence", "prediction")
    refuse_without_covariance(source, "bands", "Use bands='none' for the curve alone.")
    return ("confidence", "prediction") if bands == "both" else (bands,)


def known_band(band: np.ndarray, kind: str, bands: str) -> np.ndarray | None:
    """Return a band if it is anywhere known; raise if it was asked for and is not."""
    if np.isfinite(band).any():
        return band
    if bands == "auto":
        return None
    raise invalid(
        "bands",
        "FitDisplay",
        "'none' or 'auto' where the data do not determine the parameters, as "
        "identifiability() shows",
        kind,
    )


def known_sigma(source: Source, x: np.ndarray, sample_weight: Any) -> np.ndarray | None:
    """Return known standard deviations; NaN of rows that do not count."""
    weights = check_weights(sample_weight, x[:, None])
    if weights is None or not source.estimator.absolute_sigma:
        return None
    with np.errstate(divide="ignore"):
        return np.where(weights > 0, 1 / np.sqrt(weights), np.nan)
