"""Digests of pandas' tables: what they hold, not how, as they keep much for later."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ._digests import Visitor, hash_parts

_INDEXES = (pd.Index, pd.RangeIndex, pd.MultiIndex, pd.DatetimeIndex, pd.TimedeltaIndex)


def is_table(obj: Any) -> bool:
    """
    Tell whether an object is one of pandas' own tables, columns or indexes.

    Parameters
    ----------
    obj : object
        Any. One of a subclass, which may hold more, is none.

    Returns
    -------
    bool
        Whether `table_digest` knows its content.
    """
    return type(obj) in (pd.DataFrame, pd.Series, *_INDEXES)


def table_digest(walk: Visitor, obj: Any) -> bytes:
    """
    Return the digest of a table's values, types and labels.

    Parameters
    ----------
    walk : Visitor
        Visits the parts.
    obj : pandas.DataFrame, pandas.Series or pandas.Index
        As `is_table` has it.

    Returns
    -------
    bytes
        Equal for equal contents, however they came about.
    """
    if isinstance(obj, pd.DataFrame):
        columns = [_column(walk, obj.iloc[:, i]) for i in range(obj.shape[1])]
        labels = walk.all("labels", obj.columns, obj.index, obj.attrs)
        return hash_parts("frame", labels, *columns)
    if isinstance(obj, pd.Series):
        labels = walk.all("labels", obj.index, obj.name, obj.attrs)
        return hash_parts("series", labels, _column(walk, obj))
    frequency = getattr(obj, "freqstr", None)
    labels = walk.all("labels", type(obj), list(obj.names), frequency)
    if isinstance(obj, pd.MultiIndex):
        levels = [walk.digest(level) for level in obj.levels]
        codes = [walk.digest(code) for code in obj.codes]
        return hash_parts("levels", labels, *levels, *codes)
    return hash_parts("index", labels, _column(walk, obj))


def _column(walk: Visitor, column: Any) -> bytes:
    """Return the digest of values of one type, missing ones and categories too."""
    dtype = column.dtype
    about: list[Any] = [str(dtype)]
    if isinstance(dtype, pd.CategoricalDtype):
        about += [dtype.categories, dtype.ordered]
    missing = column.isna()
    if isinstance(missing, pd.Series):
        missing = missing.to_numpy()
    values = column.to_numpy()
    if values.dtype.hasobject:
        # Values that say that they are missing have no content of their own.
        kinds = [type(value) for value in values[missing]]
        about += [missing, kinds]
        values = values[~missing]
    return walk.all("column", *about, values)
