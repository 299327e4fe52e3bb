"""Parametric models as scikit-learn estimators, on JAX and Optax."""

from . import callbacks, exceptions, losses, optimizers, penalties, priors
from ._estimator import OptaxEstimator
from ._optimizer import OptaxOptimizer
from ._parameter import Parameter
from ._state import combine_state, named_parameters, partition_state

__all__ = [
    "OptaxEstimator",
    "OptaxOptimizer",
    "Parameter",
    "__version__",
    "callbacks",
    "combine_state",
    "exceptions",
    "losses",
    "named_parameters",
    "optimizers",
    "partition_state",
    "penalties",
    "priors",
]

__version__ = "0.1.0"
