"""The libraries beside skoptax, where they are installed."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from ._records import Unavailable


def peer(name: str) -> Any:
    """Import a peer.

    Parameters
    ----------
    name : str
        The module.

    Returns
    -------
    module
        Imported.

    Raises
    ------
    Unavailable
        If it is not installed, or something it needs is not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        missing = error.name or top
        if missing.partition(".")[0] == top:
            raise Unavailable(f"{top} is not installed") from None
        raise Unavailable(f"{top} needs {missing}, which is not installed") from None
