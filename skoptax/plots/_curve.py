"""The curve of a fit over one input, with bands, data and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ._inputs import as_given, find_column, input_frame, input_names
from ._section import (
    grid_of,
    held_values,
    known_band,
    known_sigma,
    numbers_of,
    wanted_bands,
)
from ._source import Source, one_output, response_name


def read_curve(
    owner: str,
    source: Source,
    rows: tuple[Any, Any, Any],
    *,
    feature: Any,
    held: Any,
    grid: Any,
    output: Any,
    bands: str,
    level: float,
) -> dict[str, Any]:
    """
    Return the arguments of a `FitDisplay`.

    Parameters
    ----------
    owner : str
        Named in errors.
    source : Source
        Fitted.
    rows : tuple
        Inputs, responses and weights; the last may be None.
    feature, held, grid, output, bands, level : object
        As for `FitDisplay.from_estimator`.

    Returns
    -------
    dict
        Name to argument.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable.
    """
    X, y, sample_weight = rows
    names = input_names(source, X, owner)
    column = find_column(feature, names, owner)
    frame = input_frame(X, names)
    fixed = held_values(frame, column, held, owner)
    x = numbers_of(frame.iloc[:, column], names[column], owner)
    points = grid_of(grid, x, owner)
    wanted = wanted_bands(source, bands)

    def inputs(at: np.ndarray) -> Any:
        values = {name: fixed.get(name) for name in names}
        values[names[column]] = at
        table = pd.DataFrame(values, index=range(len(at)), columns=names)
        return as_given(table, X)

    def predicted(at: Any) -> np.ndarray:
        return one_output(source.predict(at), output, owner, "The prediction")

    observed = one_output(y, output, owner)
    residuals = observed - predicted(X)
    shown = residuals + predicted(inputs(x)) if fixed else observed
    on_grid = source.rows(inputs(points)) if wanted else None
    found = {}
    for kind in wanted:
        ends = source.estimator.predict_interval(on_grid, level=level, kind=kind)
        pair = [one_output(ends[..., side], output, owner) for side in (0, 1)]
        found[kind] = known_band(np.stack(pair, axis=-1), kind, bands)
    is_weighted = sample_weight is not None or source.estimator.absolute_sigma
    return {
        "x": x,
        "y": shown,
        "residuals": residuals,
        "grid": points,
        "curve": predicted(inputs(points)),
        "confidence": found.get("confidence"),
        "prediction": found.get("prediction"),
        "sigma": known_sigma(source, x, sample_weight),
        "level": level,
        "x_name": names[column],
        "y_name": response_name(y, output),
        "held": fixed,
        "new_responses": "new responses" + (" of weight 1" if is_weighted else ""),
    }
