"""Predictions: one compiled program for each structure of the model and bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._diagnose import explained
from ._fingerprint import NotWalkable, Walk
from ._model import ModelCall
from ._objective import predictions
from ._programs import PROGRAMS, described_shapes
from ._rows import bucket, pad_rows, row_use
from ._shared_traces import common_label
from ._typing import PyTree


def predict_rows(
    call: ModelCall,
    values: PyTree,
    X: np.ndarray,
    row_independent: Any,
) -> np.ndarray:
    """
    Call a model on checked inputs.

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

    (result,) = _of_padded(call, "predict", predict, (values,), X, row_independent)
    return result


def predict_with_spread(
    call: ModelCall,
    values: PyTree,
    X: np.ndarray,
    row_independent: Any,
    directions: PyTree,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Call a model on checked inputs, with the variance of what it returns.

    Parameters
    ----------
    call, values, X, row_independent : object
        As for `predict_rows`.
    directions : pytree of ndarray
        Independent errors of the values, of one standard deviation each: arrays of
        their shapes, with an axis in front.

    Returns
    -------
    predictions : ndarray of shape (n,) or (n, n_outputs)
        As from `predict_rows`.
    variance : ndarray
        To first order, of the same shape.
    """

    def predict(values: Any, directions: Any, X: Any) -> Any:
        def mean(values: Any) -> Any:
            return predictions(call, values, X, None)[0]

        def along(direction: Any) -> Any:
            return jax.jvp(mean, (values,), (direction,))[1]

        return mean(values), jnp.sum(jax.vmap(along)(directions) ** 2, axis=0)

    mean, variance = _of_padded(
        call, "spread", predict, (values, directions), X, row_independent
    )
    return mean, variance


def _of_padded(
    call: ModelCall,
    what: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    X: np.ndarray,
    row_independent: Any,
) -> list[np.ndarray]:
    """Return what a function of a model's values and rows has for each row."""
    walk, content = Walk(), call.content()
    try:
        key = walk.fingerprint(what, content, described_shapes(arguments))
    except NotWalkable:
        key = None

    def of_rows(values: Any, rows: Any) -> Any:
        return predictions(call, values, rows[0], None)[0]

    use = row_use(
        of_rows,
        key,
        lambda: arguments[0],
        (X,),
        row_independent,
        walk.arrays,
        lambda: common_label(walk.visited(), call.model),
    )
    padded = pad_rows(X, bucket(len(X))) if use.is_independent else X
    # The content again, if it has no key: that raises, and is dealt with there.
    known = content if key is None else key
    inputs = (*arguments, padded)
    program = PROGRAMS.get(
        (what, known), inputs, function, walk=walk, called=call.model
    )
    with explained("The model"):
        results = [np.asarray(x) for x in jax.tree.leaves(program(*inputs))]
    if len(padded) == len(X):
        return results
    # Copies: a view would keep the rows that were added alive.
    return [result[: len(X)].copy() for result in results]
