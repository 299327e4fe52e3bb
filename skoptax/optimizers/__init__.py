"""Optimisers: those of Optax as data, and Levenberg-Marquardt."""

from ._find import spec
from ._levenberg_marquardt import LevenbergMarquardtState, levenberg_marquardt
from ._spec import OptimizerSpec

__all__ = [
    "LevenbergMarquardtState",
    "OptimizerSpec",
    "levenberg_marquardt",
    "spec",
]
