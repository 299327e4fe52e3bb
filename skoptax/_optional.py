"""Optional libraries: imported when needed, with a hint if they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def import_optional(name: str, extra: str, owner: str) -> Any:
    """
    Import a library that skoptax can do without.

    Parameters
    ----------
    name : str
        The module, such as ``"matplotlib"``.
    extra : str
        Of skoptax, that which installs it.
    owner : str
        What needs it; named in the error.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # it is there, and something that it needs is not
        raise ImportError(
            f"{owner} needs {error.name}, which is not installed: "
            f"pip install 'skoptax[{extra}]'",
            name=error.name,
        ) from error
