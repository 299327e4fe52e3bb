"""The columns of the inputs that a Display is given: their names, and one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .._validation import did_you_mean, invalid
from ._source import Source


def input_names(source: Source, X: Any, owner: str) -> list[str]:
    """
    Return the names of the columns of `X`.

    Parameters
    ----------
    source : Source
        Fitted.
    X : array-like of shape (n, d)
        What the user gave.
    owner : str
        Named in errors.

    Returns
    -------
    list of str
        Those of a DataFrame; else what the estimator knows them by, or its model's
        arguments; else ``x0``, ``x1``, ...

    Raises
    ------
    InvalidParameterError
        If two columns of a DataFrame have one name.
    """
    if hasattr(X, "columns"):
        names = [str(column) for column in X.columns]
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise invalid(
                "X",
                owner,
                "a table whose columns have different names",
                f"{twice[0]!r} twice",
                "Rename them, and fit again with these names.",
            )
        return names
    count = np.shape(X)[1]
    known = getattr(source.given, "feature_names_in_", None)
    if known is not None and len(known) == count:
        return [str(name) for name in known]
    names = [f"x{i}" for i in range(count)]
    if source.transforms:
        return names
    if source.estimator.inputs is not None and len(source.estimator.inputs) == count:
        return [str(name) for name in source.estimator.inputs]
    plain = list(names)
    for argument in source.estimator._call.arguments:
        # Of too few columns, `predict` says so.
        if argument.kind == "column" and argument.column < count:
            names[argument.column] = argument.name.strip("_")
    return names if len(set(names)) == count else plain


def input_frame(X: Any, names: list[str]) -> pd.DataFrame:
    """Return inputs as a DataFrame, the same for all that the user may give."""
    if isinstance(X, pd.DataFrame):
        return X.set_axis(names, axis="columns")
    return pd.DataFrame(np.asarray(X), columns=names)


def as_given(frame: pd.DataFrame, X: Any) -> Any:
    """Return a DataFrame of inputs as an array, unless the user gave a DataFrame."""
    if isinstance(X, pd.DataFrame):
        return frame.set_axis(X.columns, axis="columns")
    return frame.to_numpy()


def find_column(feature: Any, names: list[str], owner: str) -> int:
    """
    Return the position of the column that a curve is drawn over.

    Parameters
    ----------
    feature : str, int or None
        What the user asked for. ``None`` will do where there is one column.
    names : list of str
        Of the columns.
    owner : str
        Named in errors.

    Returns
    -------
    int
        From 0 on.

    Raises
    ------
    InvalidParameterError
        If there is no such column, or none was chosen of several.
    """
    listed = ", ".join(map(repr, names))
    if feature is None:
        if len(names) == 1:
            return 0
        raise invalid(
            "feature",
            owner,
            "the column that the curve is over, as X has several",
            None,
            f"They are {listed}; the others are held at a value.",
        )
    if isinstance(feature, str) and feature in names:
        return names.index(feature)
    is_position = isinstance(feature, (int, np.integer)) and not isinstance(
        feature, bool
    )
    if is_position and 0 <= feature < len(names):
        return int(feature)
    remedy = did_you_mean(feature, names) if isinstance(feature, str) else ""
    raise invalid("feature", owner, f"a column of X: {listed}", feature, remedy)


def check_table(X: Any, owner: str) -> None:
    """Raise unless `X` has rows and columns."""
    if len(np.shape(X)) != 2:
        raise invalid(
            "X",
            owner,
            "of two dimensions, rows and columns",
            f"an array of shape {np.shape(X)}",
            "One column of numbers is x[:, None].",
        )
