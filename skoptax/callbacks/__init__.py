"""Callbacks: what happens between the steps of a run.

A callback watches a run of :class:`skoptax.OptaxOptimizer` (or the fit of an
estimator), collects from it, prints, stops it or changes its state. Any function of
the seven arguments of :class:`Callback` will do; the classes here do the usual
things. What they collect is in the ``fitting_data`` that the run returns.
"""

from __future__ import annotations

from ._base import Callback, CallbackList
from ._checkpoint import Checkpoint, Resume
from ._print import PrintGradientNorms, PrintGradients, PrintLoss, PrintParameters
from ._save import BestSeen, Save, SaveLoss, SaveParameters, Timing
from ._stop import StopAfterTime, StopAtLoss, StopOnNoImprovement, StopOnNonFinite

__all__ = [
    "BestSeen",
    "Callback",
    "CallbackList",
    "Checkpoint",
    "PrintGradientNorms",
    "PrintGradients",
    "PrintLoss",
    "PrintParameters",
    "Resume",
    "Save",
    "SaveLoss",
    "SaveParameters",
    "StopAfterTime",
    "StopAtLoss",
    "StopOnNoImprovement",
    "StopOnNonFinite",
    "Timing",
]
