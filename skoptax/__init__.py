"""Parametric models as scikit-learn estimators, on JAX and Optax."""

from . import callbacks, exceptions, losses, optimizers, penalties, plots, priors
from ._curve_fit import curve_fit
from ._estimator import OptaxEstimator
from ._optimizer import OptaxOptimizer
from ._parameter import Parameter
from ._programs import CacheInfo, cache_info, clear_cache
from ._state import combine_state, named_parameters, partition_state
from ._version import __version__

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
