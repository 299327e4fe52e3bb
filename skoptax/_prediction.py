"""Predictions: one compiled program for each structure of the model and bucket."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._diagnose import explained
from ._fingerprint import NotWalkable, Walk
from ._model import ModelCall
from ._objective import predictions
from ._programs import PROGRAMS, described_shapes
from ._rows import pad_rows, padded_length
from ._typing import PyTree


def predict_rows(
    call: ModelCall, values: PyTree, X: np.ndarray, row_independent: Any
) -> np.ndarray:
    """Call a model on checked inputs.

    Parameters
    ----------
    call : ModelCall
        The bound model.
    values : pytree of ndarray
        Parameters in the user's units.
    X : ndarray of shape (n, d)
        Inputs.
    row_independent : {"auto", True, False}
        Whether the model treats each row by itself.

    Returns
    -------
    ndarray of shape (n,) or (n, n_outputs)
        Predictions.

    Raises
    ------
    ModelError
        If the model does not return one prediction for each row.
    """

    def predict(values: Any, X: Any) -> Any:
        return predictions(call, values, X, None)[0]

    walk, content = Walk(), call.content()
    try:
        key = walk.fingerprint("predict", content, described_shapes(values))
    except NotWalkable:
        key = None

    def of_rows(values: Any, rows: Any) -> Any:
        return predict(values, *rows)

    length = padded_length(of_rows, key, lambda: values, (X,), row_independent)
    padded = X if length is None else pad_rows(X, length)
    # The content again, if it has no key: that raises, and is dealt with there.
    known = content if key is None else key
    program = PROGRAMS.get(("predict", known), (values, padded), predict, walk=walk)
    with explained("The model"):
        result = np.asarray(program(values, padded))
    if len(padded) == len(X):
        return result
    # A copy: a view would keep the rows that were added alive.
    return result[: len(X)].copy()
