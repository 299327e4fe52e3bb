"""The errors and warnings that skoptax raises.

Each one subclasses the standard or scikit-learn class that a caller would
already catch, so that ``except ValueError`` or a filter on
:class:`sklearn.exceptions.ConvergenceWarning` keeps working.
"""

from __future__ import annotations

from ._scikit_learn import ConvergenceWarning, NotFittedError

__all__ = [
    "CheckpointError",
    "ConvergenceWarning",
    "DifferentiationError",
    "InconsistentVersionWarning",
    "InvalidParameterError",
    "ModelError",
    "NonFiniteError",
    "NonFiniteWarning",
    "NotFittedError",
    "SkoptaxError",
    "UncachedWarning",
    "UndeterminedWarning",
]


class SkoptaxError(Exception):
    """Base of all errors that skoptax raises by itself."""


class InvalidParameterError(SkoptaxError, ValueError, TypeError):
    """An argument, a hyperparameter or a parameter spec is not usable.

    It is a ``ValueError`` and a ``TypeError`` at once, as scikit-learn's own
    parameter validation has it.
    """


class ModelError(SkoptaxError, ValueError):
    """The model function does not fit the data or the parameter spec."""


class NonFiniteError(SkoptaxError, ValueError):
    """The loss or its gradient is not finite at the start values."""


class DifferentiationError(SkoptaxError, ValueError):
    """The loss cannot be differentiated in the requested mode."""


class CheckpointError(SkoptaxError, ValueError):
    """A checkpoint is damaged, or of another fit than the one that is to go on."""


class NonFiniteWarning(ConvergenceWarning):
    """The optimisation met a non-finite loss or gradient and stopped there."""


class UncachedWarning(UserWarning):
    """A program could not be keyed by content and is compiled for this run only."""


class InconsistentVersionWarning(UserWarning):
    """An estimator was pickled by another version of skoptax than this one.

    It is none of scikit-learn's warnings of this name, which speak of the version of
    scikit-learn.
    """


class UndeterminedWarning(UserWarning):
    """Standard errors are missing: of some parameters, or of all."""
