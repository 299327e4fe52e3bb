"""Parametric models as scikit-learn estimators, on JAX and Optax."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import callbacks, exceptions, losses, optimizers, penalties, priors
from ._curve_fit import curve_fit
from ._estimator import OptaxEstimator
from ._optimizer import OptaxOptimizer
from ._parameter import Parameter
from ._programs import CacheInfo, cache_info, clear_cache
from ._state import combine_state, named_parameters, partition_state
from ._version import __version__

if TYPE_CHECKING:
    from . import plots

__all__ = [
    "CacheInfo",
    "OptaxEstimator",
    "OptaxOptimizer",
    "Parameter",
    "__version__",
    "cache_info",
    "callbacks",
    "clear_cache",
    "combine_state",
    "curve_fit",
    "exceptions",
    "losses",
    "named_parameters",
    "optimizers",
    "partition_state",
    "penalties",
    "plots",
    "priors",
]


def __getattr__(name: str) -> Any:
    # Nobody waits for pictures who draws none: they are imported when asked for.
    if name == "plots":
        return import_module(".plots", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
