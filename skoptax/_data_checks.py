"""Checks of data: inputs, responses and weights.

They are scikit-learn's, and so are their errors. What these leave out, or explain too
little, is checked here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from ._validation import refuse_tracer, shorten
from .exceptions import ModelError

# Larger arrays take longer to check than scikit-learn's overhead.
_SMALL = 10_000
_OF_A_PREDICTION = (
    "Predictions are made on the host. Within jit, grad and vmap call the "
    "model itself, with the values in params_."
)


def check_data(estimator: Any, X: Any, y: Any, dtypes: Any) -> tuple[Any, Any]:
    """
    Check the data of a fit as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_`` and ``feature_names_in_``.
    X, y : array-like
        What the user gave.
    dtypes : dtype or list of dtype
        What X may have.

    Returns
    -------
    X : ndarray of shape (n, d)
        Of one of these types.
    y : ndarray of shape (n,) or (n, k)
        Numeric.
    """
    for name, value in (("X", X), ("y", y)):
        refuse_tracer(name, type(estimator).__name__, value)
    if not (_is_ready(X, 2, dtypes) and _is_ready(y, 1, dtypes) and len(X) == len(y)):
        return validate_data(
            estimator, X, y, dtype=dtypes, multi_output=True, y_numeric=True
        )
    # What scikit-learn would come to, without the tenth of a small fit that it takes.
    estimator.n_features_in_ = X.shape[1]
    vars(estimator).pop("feature_names_in_", None)
    return X, y


def check_inputs(estimator: Any, X: Any, dtype: np.dtype) -> np.ndarray:
    """
    Check the inputs of a prediction as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted.
    X : array-like of shape (n, d)
        What the user gave.
    dtype : numpy.dtype
        That of the fit.

    Returns
    -------
    ndarray of shape (n, d)
        Of this type.
    """
    refuse_tracer("X", type(estimator).__name__, X, _OF_A_PREDICTION)
    fits = _is_ready(X, 2, dtype) and X.shape[1] == estimator.n_features_in_
    if fits and not hasattr(estimator, "feature_names_in_"):
        return X
    return validate_data(estimator, X, reset=False, dtype=dtype)


def check_named_inputs(estimator: Any, X: Any, dtype: np.dtype) -> np.ndarray:
    """
    Check inputs whose columns may be in another order than those of the fit.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its ``inputs`` name the columns, if it has been given an array.
    X : array-like of shape (n, d)
        What the user gave.
    dtype : numpy.dtype
        That of the fit.

    Returns
    -------
    ndarray of shape (n, d)
        Of this type.
    """
    if not hasattr(estimator, "feature_names_in_"):
        X = columns_by_name(X, estimator.inputs)
    return check_inputs(estimator, X, dtype)


def check_new_inputs(estimator: Any, X: Any) -> np.ndarray:
    """Check the inputs of a prediction by a fitted estimator, and that it is fitted."""
    check_is_fitted(estimator)
    return check_named_inputs(estimator, X, estimator._dtype)


def _is_ready(array: Any, ndim: int, dtypes: Any) -> bool:
    """Tell of a small array that scikit-learn would find nothing to do about it."""
    return (
        type(array) is np.ndarray
        and array.ndim == ndim
        and 0 < array.size <= _SMALL
        and array.dtype in (dtypes if isinstance(dtypes, list) else [dtypes])
        and bool(np.isfinite(array).all())
    )


def check_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """
    Return checked sample weights of X's data type, or ``None``.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        What the user gave; absent weights are not materialised.
    X : ndarray of shape (n, d)
        The checked inputs.

    Returns
    -------
    ndarray of shape (n,) or None
        The weights.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are zero, or their number is
        not that of the rows.
    """
    if sample_weight is None:
        return None
    refuse_tracer("sample_weight", "the data", sample_weight)
    _check_shape_of_weights(sample_weight, len(X))
    weights = _check_sample_weight(sample_weight, X, dtype=X.dtype, copy=True)
    if np.any(weights < 0):
        raise ValueError(
            "Negative values in sample_weight: a weight must be 0 or more. Got "
            f"{weights.min()} as the smallest."
        )
    if not np.any(weights > 0):
        raise ValueError(
            "All values of sample_weight are zero: at least one row must have a "
            "positive weight."
        )
    return weights


def _check_shape_of_weights(sample_weight: Any, n: int) -> None:
    try:
        array = np.asarray(sample_weight)
    except ValueError:  # a ragged list
        array = np.empty((), object)
    # Objects may be numbers; the rest of the checks is scikit-learn's.
    counts = array.dtype.kind in "biuf" or (array.dtype.kind == "O" and array.ndim > 0)
    if counts and array.shape in ((), (n,)):
        return
    got = f"an array of shape {array.shape}" if counts else shorten(sample_weight)
    remedy = ""
    if array.shape in ((n, 1), (1, n)):
        remedy = " Flatten it: np.ravel(sample_weight)."
    elif array.ndim == 2 and len(array) == n:
        remedy = (
            " Weights of single outputs are not taken: weigh the rows, or divide each "
            "output, in y and in the model, by the size of its errors."
        )
    raise ValueError(
        f"sample_weight must hold one number for each of the {n} rows of X, an array "
        f"of shape ({n},). Got {got} instead.{remedy}"
    )


def refuse_strings(values: Any, name: str) -> None:
    """
    Refuse strings, which NumPy would parse as numbers, or could not.

    Parameters
    ----------
    values : object
        What the user gave.
    name : str
        Named in the error.

    Raises
    ------
    ValueError
        If it is a list or an array of strings; of responses also if it is an array of
        objects, or a Series, with strings that are no numbers.
    """
    is_response = name.startswith("y")
    array = values
    # Of a DataFrame or a Series scikit-learn checks the inputs itself.
    if isinstance(values, (list, tuple)) or (
        is_response and hasattr(values, "to_numpy")
    ):
        array = np.asarray(values)
    if not isinstance(array, np.ndarray) or not array.size:
        return
    if array.dtype.kind in "US":
        word = array.flat[0]
    elif array.dtype.kind == "O" and is_response:
        # A single string among numbers is no label.
        if not all(isinstance(value, str) for value in array.flat):
            return
        word = array.flat[0]
    else:
        return
    try:
        array.astype(float)
        is_label = False
    except (TypeError, ValueError):
        is_label = is_response
    if is_label:
        raise ValueError(
            f"{name} must hold numbers. Got strings instead, such as {str(word)!r}. Of "
            "two classes make 0 and 1, as sklearn.preprocessing.LabelEncoder does, for "
            "loss='log_loss'; for more of them take a classifier of scikit-learn's."
        )
    if array.dtype.kind != "O":
        raise ValueError(
            f"{name} must hold numbers. Got strings instead. Convert them: "
            f"np.asarray({name}, dtype=float)."
        )


def cast_response(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """
    Return a response in the precision of the fit.

    Parameters
    ----------
    y : ndarray
        The checked response.
    dtype : numpy.dtype
        That of the inputs.

    Returns
    -------
    ndarray
        Finite.

    Raises
    ------
    ValueError
        If a value is missing, or too large for this precision.
    """
    if y.dtype == dtype:
        cast = y
    else:
        with np.errstate(over="ignore"):
            cast = np.asarray(y, dtype=dtype)
    if not np.all(np.isfinite(cast)):
        raise ValueError(
            f"Input y holds values that are missing, or not finite as {dtype}. Drop "
            "these rows, or rescale y; dtype='float64' has a larger range."
        )
    return cast


def columns_by_name(X: Any, names: Any) -> Any:
    """
    Return a DataFrame's columns in the order of ``names``, as an array.

    Parameters
    ----------
    X : object
        Inputs for a model that was fitted to an array.
    names : sequence of str or None
        The names of that array's columns, if they are known.

    Returns
    -------
    object
        ``X`` itself unless it is a DataFrame with names.

    Raises
    ------
    ModelError
        If a name is missing.
    """
    if names is None or not hasattr(X, "columns"):
        return X
    columns = list(X.columns)
    if not all(isinstance(column, str) for column in columns):
        return X
    missing = [str(name) for name in names if name not in columns]
    if missing:
        raise ModelError(
            f"X has the columns {', '.join(map(repr, columns))}, but the model was "
            f"fitted to an array with inputs={tuple(map(str, names))}: {missing[0]!r} "
            "is missing."
        )
    return np.column_stack([np.asarray(X[name]) for name in names])
