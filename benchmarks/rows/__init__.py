"""The rows of the table: one module each, with one function `measure`."""

from __future__ import annotations

import importlib
from typing import Any

# In the order of the table. Imported when they are run: JAX reads its environment
# when it is first imported.
ROWS = (
    "search",
    "workers",
    "axes",
    "glm",
    "one_fit",
    "long_fit",
    "first_fit",
    "reference",
    "cluster",
    "many_fits",
    "startup",
    "padding",
    "certified",
    "many_rows",
    "auto_rule",
    "coverage",
    "intervals",
    "batches",
)


def find_row(name: str) -> Any:
    """Return the module of a row.

    Parameters
    ----------
    name : str
        One of `ROWS`.

    Returns
    -------
    module
        With ``NUMBER``, ``TITLE``, ``WORK`` and ``measure(row, smoke)``.
    """
    return importlib.import_module(f".{name}", __name__)
