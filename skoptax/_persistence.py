"""Pickles say which version of skoptax has written them."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.base import BaseEstimator

from ._version import __version__
from .exceptions import InconsistentVersionWarning

# In the state only, never on an estimator.
_STAMP = "_skoptax_version"


class StampedEstimator(BaseEstimator):
    """
    An estimator whose pickled state has the version that wrote it.

    scikit-learn stamps only its own estimators.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), _STAMP: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A subclass with a state of its own may have no stamp: nothing is known then,
        # and a copy is not to warn.
        written = state.get(_STAMP, __version__)
        if written != __version__:
            name = type(self).__name__
            warnings.warn(
                f"This {name} was pickled by skoptax {written} and is loaded by "
                f"{__version__}: it may fail, or give other numbers. Load it with "
                f"skoptax {written}, or fit it anew with {__version__} and pickle "
                "that.",
                InconsistentVersionWarning,
                stacklevel=2,
            )
        super().__setstate__({k: v for k, v in state.items() if k != _STAMP})
