"""What a Display reads off a fitted estimator: names, columns, predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .._history import RESERVED_COLUMNS
from .._validation import invalid
from ..exceptions import InvalidParameterError
from ..inference._entries import EntryTable, read_table


@dataclass(frozen=True)
class Source:
    """
    A fitted `OptaxEstimator`, and what its inputs go through before.

    Parameters
    ----------
    given : estimator
        What the user gave: the estimator itself, or what it is part of.
    estimator : OptaxEstimator
        Fitted.
    transforms : tuple of transformers
        The steps before it in a pipeline.
    """

    given: Any
    estimator: Any
    transforms: tuple[Any, ...]

    def rows(self, X: Any) -> Any:
        """Return inputs as the estimator gets them."""
        for transform in self.transforms:
            X = transform.transform(X)
        return X

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted means of inputs as the user has them."""
        return np.asarray(self.estimator.predict(self.rows(X)))


def read_source(given: Any, owner: str) -> Source:
    """
    Find the fitted estimator in what the user gave.

    Parameters
    ----------
    given : estimator
        An `OptaxEstimator`, a pipeline that ends in one, or a search over either.
    owner : str
        Named in errors.

    Returns
    -------
    Source
        With a fitted estimator.

    Raises
    ------
    InvalidParameterError
        If there is no `OptaxEstimator` in it.
    NotFittedError
        If it is not fitted.
    """
    # Not above: it imports rich, which skoptax leaves to those who want it.
    from sklearn.pipeline import Pipeline

    found, transforms = given, []
    while True:
        if hasattr(found, "best_estimator_"):
            found = found.best_estimator_
        elif isinstance(found, Pipeline):
            if len(found.steps) > 1:
                transforms.append(found[:-1])
            found = found.steps[-1][1]
        else:
            break
    if hasattr(found, "best_params_"):
        raise InvalidParameterError(
            f"The search given to {owner} has no best_estimator_: it was made with "
            "refit=False. Set refit=True and fit again."
        )
    is_search = hasattr(found, "get_params") and hasattr(found, "estimator")
    if isinstance(found, type) or not (hasattr(found, "fit_record") or is_search):
        raise invalid(
            "estimator",
            owner,
            "a fitted OptaxEstimator, a Pipeline that ends in one, or a search over "
            "either",
            given,
        )
    check_is_fitted(found)
    if not hasattr(found, "fit_record"):
        raise invalid("estimator", owner, "a fitted OptaxEstimator", given)
    return Source(given, found, tuple(transforms))


def entries_of(source: Source) -> EntryTable:
    """Return the entries of all parameters, without a word about their errors."""
    return read_table(source.estimator.fit_record())


def refuse_without_covariance(source: Source, what: str, remedy: str) -> None:
    """
    Raise if the fit knows nothing of its parameters' errors.

    Parameters
    ----------
    source : Source
        Fitted.
    what : str
        What cannot be drawn: "There are no ..." it goes.
    remedy : str
        What to do instead, a sentence.

    Raises
    ------
    InvalidParameterError
        With the reason.
    """
    record = source.estimator.fit_record()
    if record.found is None:
        raise InvalidParameterError(f"There are no {what}: {record.reason}. {remedy}")


def column_of_history(name: str) -> str:
    """Return what a scalar parameter is called in `history_`."""
    return f"params__{name}" if name in RESERVED_COLUMNS else name


def one_output(
    values: Any,
    output: int | None,
    owner: str,
    name: str = "y",
    *,
    is_chosen: bool = True,
) -> np.ndarray:
    """
    Return one response of a model, which may have several.

    Parameters
    ----------
    values : array-like of shape (n,) or (n, k)
        Responses or predictions.
    output : int or None
        Which of several.
    owner : str
        Named in errors.
    name : str, default="y"
        What they are.
    is_chosen : bool, default=True
        Whether the user can choose one of several, by `output`.

    Returns
    -------
    ndarray of shape (n,)
        In double precision.

    Raises
    ------
    InvalidParameterError
        If there are several and none was chosen, or it does not exist.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim == 2 and array.shape[1] == 1 and output is None:
        output = 0
    if array.ndim == 1 and output in (None, 0):
        return array
    if array.ndim not in (1, 2) or (output is None and not is_chosen):
        raise invalid(
            name,
            owner,
            "of one or two dimensions" if is_chosen else "of one dimension",
            f"an array of shape {array.shape}",
        )
    count = array.shape[1] if array.ndim == 2 else 1
    is_position = isinstance(output, (int, np.integer)) and not isinstance(output, bool)
    if not (is_position and 0 <= int(output) < count):  # type: ignore[arg-type]
        several = f"{name} has {count} outputs, and a picture shows one of them."
        raise invalid(
            "output",
            owner,
            f"an int from 0 to {count - 1}" if count > 1 else "None or 0",
            output,
            several if count > 1 else f"{name} has one output.",
        )
    return array[:, output]


def response_name(y: Any, output: int | None) -> str:
    """Return the name of a Series or of a DataFrame's column, else ``"y"``."""
    if isinstance(y, pd.Series) and y.name is not None:
        return str(y.name)
    if isinstance(y, pd.DataFrame):
        return str(y.columns[output or 0])
    several = len(np.shape(y)) == 2 and np.shape(y)[1] > 1
    return f"y[{output}]" if several else "y"


def check_rows(
    owner: str,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    names: tuple[str, str] = ("X", "y"),
) -> None:
    """
    Raise unless there are rows, as many of each.

    Parameters
    ----------
    owner : str
        Named in errors.
    X, y : array-like
        What the user gave.
    sample_weight : float or array-like of shape (n,), default=None
        A number is that of all rows, as it is in a fit.
    names : (str, str), default=("X", "y")
        What the first two are called.

    Raises
    ------
    InvalidParameterError
        If there are none.
    ValueError
        If their numbers differ.
    """
    for name, rows in zip(names, (X, y), strict=True):
        if rows is None:
            raise invalid(
                name, owner, "the rows to draw, which a fit does not keep", None
            )
    each = None if np.ndim(sample_weight) == 0 else sample_weight
    check_consistent_length(X, y, each)
    if not np.shape(y)[0]:
        raise invalid(
            names[0], owner, "of one row or more", f"an array of shape {np.shape(X)}"
        )
