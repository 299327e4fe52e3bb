"""Losses: what a fit minimises, sample by sample.

Each is a negative log-likelihood up to constants, as in scikit-learn's half losses,
of the response ``y_true`` given a prediction ``y_pred`` on the response's own scale
(a mean, a median, a probability: not a link's linear predictor). A function
``(y_true, y_pred) -> per-sample loss`` in JAX will do as well.

A prediction outside a loss's domain (a negative mean of counts) has an infinite
loss, never a clipped one.
"""

from ._base import Loss
from ._likelihood import Gamma, LogLoss, Poisson
from ._regression import AbsoluteError, Cauchy, Huber, LogCosh, Quantile, SquaredError
from ._resolve import LOSSES, per_sample, resolve_loss
from ._sample_loss import SampleLoss

__all__ = [
    "LOSSES",
    "AbsoluteError",
    "Cauchy",
    "Gamma",
    "Huber",
    "LogCosh",
    "LogLoss",
    "Loss",
    "Poisson",
    "Quantile",
    "SampleLoss",
    "SquaredError",
    "per_sample",
    "resolve_loss",
]
